"""What is wrong with results: each false one, and each track that nothing finds, is of exactly one kind.

In the spirit of TIDE (Bolya et al., ECCV 2020), for tracks: IoU is the evaluator's, over space and time, a
result is right where it is matched at an IoU of 0.5, and a kind of its own tells results that change from one
object to another. A kind weighs what AP50 gains where its errors alone are mended (``docs/errors.md``).

A result that is not right (and not ignored because of a crowd) is the first of these that fits:

    duplicate        IoU with a track of its class >= 0.5: a better result has that track
    identity_switch  it follows several tracks of its class (frame by frame an IoU >= 0.5), and its IoU with
                     the track made of what it follows is >= 0.5
    classification   IoU with a track of another class >= 0.5
    localisation     IoU with a track of its class >= 0.1
    both             IoU with a track of another class >= 0.1
    background       neither

A track that nothing is matched with is ``missed``, unless a result could find it once its class, place or
identity is mended.

Shapes:
    U different masks of the results of one video, G its annotated tracks without crowds, L frames.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from harness.benchmark_json import Masks
from harness.evaluation import (
    Floats,
    Key,
    Pairs,
    frame_overlaps,
    interpolated_precision,
    matched_tracks,
    read_pairs,
    track_ious,
)
from harness.metrics import ERROR_KINDS

FOUND_IOU = 0.5
"""From here on a result is right, as in AP50; also a frame's IoU from which on a result is on an object"""
TOUCHED_IOU = 0.1
"""Below, a result has nothing to do with a track"""
MENDED = ("classification", "localisation", "identity_switch")
"""Kinds whose mended results may find a track; results of the others are only taken away"""

Kind = Literal[
    "right", "classification", "localisation", "both", "duplicate", "identity_switch", "background"
]
TrackId = tuple[int, int, int]
"""(video id, category id, place among the tracks of both)"""


@dataclass(frozen=True)
class Judged:
    """One result that counts: right, or an error of one kind."""

    video: int
    category: int
    score: float
    kind: Kind
    tracks: tuple[TrackId, ...] = ()
    """The track that it finds, or those that it could find if it were mended, likeliest first"""


@dataclass(frozen=True)
class TrackErrors:
    """The results of one method, judged."""

    judged: tuple[Judged, ...]
    """By category, video and falling score: the evaluator's order"""
    tracks: tuple[TrackId, ...]
    """Annotated tracks that count"""
    missed: frozenset[TrackId]

    def counts(self) -> dict[str, int]:
        """Errors of each kind: results, and of ``missed`` tracks."""
        found = Counter(str(each.kind) for each in self.judged)
        found["missed"] = len(self.missed)
        return {kind: found[kind] for kind in ERROR_KINDS}

    def ap50(self) -> float | None:
        """AP50 in percent, the evaluator's; None where no track counts."""
        return _ap50(self.judged, self.tracks)

    def mended(self, kind: str) -> float | None:
        """AP50 in percent if errors of this kind alone were mended."""
        if kind == "missed":
            return _ap50(self.judged, self.tracks, self.missed)
        if kind not in MENDED:
            return _ap50([each for each in self.judged if each.kind != kind], self.tracks)
        return _ap50(_set_right(self.judged, kind), self.tracks)

    def gains(self) -> dict[str, float | None]:
        """Kind -> points of AP50 that mending it alone gains; they do not add up to what all would gain."""
        now = self.ap50()
        mended = {kind: self.mended(kind) for kind in ERROR_KINDS}
        return {
            kind: None if now is None or then is None else max(0.0, then - now)
            for kind, then in mended.items()
        }


def error_scores(
    ground_truth: dict[str, Any] | str | Path, results: Sequence[dict[str, Any]] | str | Path
) -> dict[str, float | None]:
    """``dAP_<kind>`` in points of AP50; None where no annotated track counts.

    Takes and raises what :func:`find_errors` does.
    """
    return gain_columns(find_errors(ground_truth, results))


def gain_columns(found: TrackErrors) -> dict[str, float | None]:
    """The gains under the names of metrics: ``dAP_<kind>``."""
    return {f"dAP_{kind}": gain for kind, gain in found.gains().items()}


def find_errors(
    ground_truth: dict[str, Any] | str | Path, results: Sequence[dict[str, Any]] | str | Path
) -> TrackErrors:
    """Judge every result that the evaluator looks at (the best hundred of each video and category).

    Args:
        ground_truth: a YouTube-VIS json with annotations, or its path.
        results: ``[{video_id, category_id, score, segmentations: [RLE | None]}]``, or such a json's path.

    Raises:
        InputError: input of another kind, naming the entry and the field.
    """
    pairs = read_pairs(ground_truth, results)
    found: dict[Key, list[Judged]] = {}
    for video in pairs.videos:
        found |= _judge_video(pairs, video)
    judged = [each for category in pairs.categories for key in pairs.of(category) for each in found[key]]
    tracks = [track for video in pairs.videos for track in _counted(pairs, video)]
    hit = {track for each in judged if each.kind in ("right", *MENDED) for track in each.tracks}
    return TrackErrors(tuple(judged), tuple(tracks), frozenset(tracks) - hit)


# One video


def _counted(pairs: Pairs, video: int) -> list[TrackId]:
    """The video's annotated tracks that are no crowds."""
    return [
        (video, category, place)
        for category in pairs.categories
        if (video, category) in pairs.annotated
        for place, crowd in enumerate(pairs.annotated[video, category].crowds)
        if not crowd
    ]


def _judge_video(pairs: Pairs, video: int) -> dict[Key, list[Judged]]:
    """The judged results of each (video, category), best first."""
    tracks = _counted(pairs, video)
    overlaps = _Overlaps(pairs, video, tracks)
    found: dict[Key, list[Judged]] = {}
    for category in pairs.categories:
        key = (video, category)
        if key not in pairs.annotated and key not in pairs.predicted:
            continue
        truth, results = pairs.annotated[key], pairs.predicted[key]
        crowds = np.array(truth.crowds, np.bool_)
        taken = matched_tracks(track_ious(results.masks, truth.masks), FOUND_IOU, crowds, crowds)
        found[key] = []
        for masks, score, track in zip(results.masks, results.scores, taken, strict=True):
            if track >= 0 and crowds[track]:
                continue  # ignored
            kind, aims = overlaps.error(masks, category) if track < 0 else ("right", [(*key, int(track))])
            found[key].append(Judged(video, category, score, kind, tuple(aims)))
    return found


class _Overlaps:
    """How the results of one video lie over its tracks, whatever their classes."""

    def __init__(self, pairs: Pairs, video: int, tracks: list[TrackId]) -> None:
        self.tracks = tracks
        self.categories = np.array([category for _, category, _ in tracks], np.int64)
        results = [pairs.predicted[key] for key in list(pairs.predicted) if key[0] == video]
        # Results of several classes often share their masks.
        unique = {_content(masks): masks for each in results for masks in each.masks}
        self.rows = {content: row for row, content in enumerate(unique)}
        truth = [pairs.annotated[v, category].masks[place] for v, category, place in tracks]
        length = len(truth[0]) if truth else 0
        frames = [frame_overlaps(list(unique.values()), truth, frame) for frame in range(length)]
        U, G = len(unique), len(tracks)
        self.shared = np.array([shared for shared, _, _ in frames]).reshape(length, U, G)
        sums = [ours[:, None] + theirs for _, ours, theirs in frames]
        self.union = np.array(sums).reshape(length, U, G) - self.shared
        self.ious = _ratio(self.shared.sum(0), self.union.sum(0))
        self._known: dict[tuple[int, int], tuple[Kind, list[TrackId]]] = {}

    def error(self, masks: Masks, category: int) -> tuple[Kind, list[TrackId]]:
        """The kind of a result that is not right, and the tracks it could find if it were mended."""
        at = self.rows[_content(masks)], category
        if at not in self._known:
            self._known[at] = self._error(*at)
        return self._known[at]

    def _error(self, row: int, category: int) -> tuple[Kind, list[TrackId]]:
        own = self.categories == category
        ious = self.ious[row]
        if (best := _best(ious, own)) is not None and ious[best] >= FOUND_IOU:
            return "duplicate", []
        if followed := self._switched(row, np.flatnonzero(own)):
            return "identity_switch", [self.tracks[place] for place in followed]
        if (other := _best(ious, ~own)) is not None and ious[other] >= FOUND_IOU:
            return "classification", [self.tracks[other]]
        if best is not None and ious[best] >= TOUCHED_IOU:
            return "localisation", [self.tracks[best]]
        if other is not None and ious[other] >= TOUCHED_IOU:
            return "both", []
        return "background", []

    def _switched(self, row: int, own: np.ndarray[Any, np.dtype[np.intp]]) -> list[int]:
        """The tracks that a result follows, that of most frames first; none unless it only switches.

        In a frame it follows the track with the highest IoU, where that is at least 0.5. Where it follows
        none (lost, hidden, too coarse) the track that it last followed is still meant, or the first one that
        it will follow: what it misses there counts against it.
        """
        if len(own) < 2:
            return []
        shared, union = self.shared[:, row, own], self.union[:, row, own]
        ious = _ratio(shared, union)
        best = ious.argmax(1)
        on = np.flatnonzero(ious.max(1) >= FOUND_IOU)
        followed = Counter(best[on].tolist())
        if len(followed) < 2:
            return []
        frames = np.arange(len(best))
        last = np.maximum(np.searchsorted(on, frames, side="right") - 1, 0)
        meant = best[on[last]]
        if shared[frames, meant].sum() < FOUND_IOU * union[frames, meant].sum():
            return []
        return [int(own[place]) for place, _ in followed.most_common()]


def _content(masks: Masks) -> tuple[Any, ...]:
    """The codes of a result's masks: equal ones are of the same masks."""
    return tuple(None if mask is None else mask["counts"] for mask in masks)


def _best(ious: Floats, among: np.ndarray[Any, np.dtype[np.bool_]]) -> int | None:
    """Place of the highest IoU among some tracks."""
    return int(np.where(among, ious, -1.0).argmax()) if among.any() else None


def _ratio(shared: Floats, union: Floats) -> Floats:
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


# What mending gains


def _set_right(judged: Sequence[Judged], kind: str) -> list[Judged]:
    """The results with those of a kind mended: each finds a track, unless a better result has it.

    Mended in the order of their scores. One takes the first of its tracks that no result has; where all are
    taken, the better of the two results stays and the other one, then a duplicate, is taken away.
    """
    holder = {each.tracks[0]: place for place, each in enumerate(judged) if each.kind == "right"}
    out: dict[int, Judged] = {place: each for place, each in enumerate(judged) if each.kind != kind}
    wrong = [place for place, each in enumerate(judged) if each.kind == kind]
    for place in sorted(wrong, key=lambda place: -judged[place].score):
        each = judged[place]
        track = next((track for track in each.tracks if track not in holder), each.tracks[0])
        if track in holder and judged[holder[track]].score >= each.score:
            continue
        out.pop(holder.get(track, -1), None)
        holder[track] = place
        out[place] = Judged(each.video, track[1], each.score, "right", (track,))
    return [out[place] for place in sorted(out)]


def _ap50(
    judged: Sequence[Judged], tracks: Sequence[TrackId], without: frozenset[TrackId] = frozenset()
) -> float | None:
    """AP50 in percent, over the categories that have tracks.

    A category whose tracks are all among ``without`` counts 100: tracks are taken out in place of results
    that would find them before all others.
    """
    results: dict[int, list[Judged]] = defaultdict(list)
    for each in judged:
        results[each.category].append(each)
    counted = Counter(category for _, category, _ in tracks)
    left = counted - Counter(category for _, category, _ in without)
    precision = [_precision(results[category], left[category]) for category in sorted(counted)]
    return 100 * float(np.mean(precision)) if precision else None


def _precision(results: Sequence[Judged], counted: int) -> float:
    if counted == 0:
        return 1.0
    ranked = sorted(results, key=lambda each: (-each.score, each.video))
    right = np.array([each.kind == "right" for each in ranked], np.bool_)
    hits, misses = np.cumsum(right, dtype=np.float64), np.cumsum(~right, dtype=np.float64)
    return float(interpolated_precision(hits, misses, counted).mean())
