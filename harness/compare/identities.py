"""Which tracks of several methods show the same object: one identity for a whole video.

The rule: the tracks of the first row (the annotations, where there are some) are the identities. A method's
tracks are paired with them one to one so that the sum of space-time IoUs is largest (Hungarian algorithm);
pairs below :data:`LEAST_IOU` do not count. Classes play no part. What is left over and has an IoU of
:data:`DUPLICATE_IOU` with a track of the first row is a duplicate: it has that identity, too, and is marked.
Other leftovers are paired in the same way with what earlier methods left over, and become identities of their
own where nothing fits. So a track that
changes from one object to another keeps one identity, and the change is seen as a wrong colour.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco
from scipy.optimize import linear_sum_assignment

from harness.benchmark_json import Masks
from harness.compare.tracks import DrawnTrack
from harness.evaluation import track_ious
from harness.overlay import Look

LEAST_IOU = 0.1
"""Less is no match: the object is another one"""
DUPLICATE_IOU = 0.5
"""From here on an unpaired track is on an object that another one has"""
COLOURS = ("#0072B2", "#E69F00", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#009E73")
"""Okabe and Ito's, neighbours far apart in lightness; numbers tell apart what comes back to a colour"""


class Shown(NamedTuple):
    """A track with its identity."""

    track: DrawnTrack
    identity: int
    """From 0; the same for all tracks of an object"""
    is_paired: bool
    """Whether it is the row's one track of an object of the first row"""
    tag: str
    """Short: a number of the first row's objects, with × of their duplicates; a letter of others"""

    @property
    def look(self) -> Look:
        """Its colour; hatched where it is not paired."""
        return look_of(self.identity, self.is_paired)

    @property
    def words(self) -> str:
        """``2 dog 0.87``; × says that it is not paired."""
        score = "" if self.track.score is None else f" {self.track.score:.2f}"
        return f"{self.tag} {self.track.category}{score}"


def look_of(identity: int, is_paired: bool) -> Look:
    """How tracks of an identity are painted."""
    code = COLOURS[identity % len(COLOURS)]
    red, green, blue = (int(code[at : at + 2], 16) for at in (1, 3, 5))
    return Look((red, green, blue), hatched=not is_paired)


def identified(rows: Sequence[Sequence[DrawnTrack]]) -> list[list[Shown]]:
    """The tracks of each row with their identities; the first row's are 0, 1, ..."""
    reference: list[Masks] = []
    others: list[Masks] = []
    found: list[list[Shown]] = []
    for number, tracks in enumerate(rows):
        masks = [track.masks for track in tracks]
        if number == 0:
            reference = masks
            found.append([Shown(track, place, True, str(place + 1)) for place, track in enumerate(tracks)])
            continue
        pairs = paired(masks, reference)
        copies = _duplicates(masks, reference, pairs)
        left = [place for place in range(len(tracks)) if place not in pairs and place not in copies]
        again = paired([masks[place] for place in left], others)
        row: list[Shown] = []
        for place, track in enumerate(tracks):
            if place in pairs:
                row.append(Shown(track, pairs[place], True, str(pairs[place] + 1)))
            elif place in copies:
                row.append(Shown(track, copies[place], False, f"{copies[place] + 1}×"))
            else:
                at = left.index(place)
                if at not in again:
                    others.append(masks[place])
                    again[at] = len(others) - 1
                row.append(Shown(track, len(reference) + again[at], False, f"{_letters(again[at])}×"))
        found.append(row)
    return found


def _duplicates(
    masks: Sequence[Masks], reference: Sequence[Masks], pairs: Mapping[int, int]
) -> dict[int, int]:
    """Unpaired places in ``masks`` by the place in ``reference`` whose object they are on, too."""
    if not masks or not reference:
        return {}
    ious = track_ious(list(masks), list(reference))
    return {
        place: int(np.argmax(row))
        for place, row in enumerate(ious)
        if place not in pairs and row.max() >= DUPLICATE_IOU
    }


def paired(one: Sequence[Masks], other: Sequence[Masks]) -> dict[int, int]:
    """Places in ``one`` by places in ``other``, one to one, with the largest sum of space-time IoUs."""
    if not one or not other:
        return {}
    ious = track_ious(list(one), list(other))
    pairs = zip(*linear_sum_assignment(np.where(ious >= LEAST_IOU, ious, 0), maximize=True), strict=True)
    return {int(a): int(b) for a, b in pairs if ious[a, b] >= LEAST_IOU}


def identity_map(row: Sequence[Shown], frame: int, size: tuple[int, int], step: int = 1) -> NDArray[np.int16]:
    """Identity + 1 of each ``step``-th pixel of ``size`` (H, W), 0 where nothing is; best score on top."""
    found = np.zeros((-(-size[0] // step), -(-size[1] // step)), np.int16)
    for shown in reversed(row):
        code = shown.track.masks[frame]
        if code is not None:
            found[coco.decode(code)[::step, ::step] > 0] = shown.identity + 1
    return found


def _letters(number: int) -> str:
    """a, b, ..., z, aa, ab, ..."""
    text = ""
    while number >= 0:
        text = chr(ord("a") + number % 26) + text
        number = number // 26 - 1
    return text
