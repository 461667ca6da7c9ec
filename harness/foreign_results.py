"""YouTube-VIS result files of any author, as this evaluator takes them: mapped where certain, else refused.

Checks are those of :mod:`harness.benchmark_json`, on the file's own sizes of masks; what is mapped here is
what a person would map without a doubt, and a note says so. ``docs/compare.md`` lists the cases.

Shapes:
    L frames of a video, (H, W) their size in the annotations, (h, w) that of the file's masks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pycocotools import mask as coco

from harness.benchmark_json import (
    VIDEOS,
    Header,
    Masks,
    Result,
    file_bytes,
    parsed_json,
    read_header,
    read_results,
)
from harness.data.rle import Rle
from harness.evaluation import result_entry
from harness.foreign_names import CATEGORY, VIDEO, names_of, renumbered
from model.errors import InputError

RESULT_KEYS = ("results", "predictions", "annotations")
"""Of a file that is an object: one of these holds the results."""
VIDEOS_NAMED = 20
"""Videos without results that a note names."""
MOST_PIXELS = 1 << 28
"""Of a mask that is scaled: beyond any video, and far below what runs can count"""
LEAST_SIDE = 32
"""Of masks that are scaled though rounded: below, many shapes round to the same size"""
ANNOTATIONS = "annotations"
Size = tuple[int, int]


@dataclass(frozen=True)
class ForeignResults:
    """Results with the annotations' ids and sizes, in the file's order; copies of masks are one list."""

    results: list[dict[str, Any]]
    notes: list[str]
    """What was mapped, dropped or is missing: a sentence each, without the file's name."""
    sha256: str
    """Of the bytes that were read"""


class _Opened(NamedTuple):
    name: str
    sha256: str
    entries: list[Any]
    lists: dict[str, Any]
    """The ``videos`` and ``categories`` that the file brings, both there and checked, perhaps empty"""


def read_foreign(path: str | Path, truth: dict[str, Any]) -> ForeignResults:
    """Read a result file for the videos and categories of an annotation json.

    Args:
        path: a json: a list of results, or an object with ``results``, ``predictions`` or ``annotations``
            and perhaps its own ``categories`` and ``videos``.
        truth: a YouTube-VIS json; its annotations may be missing.

    Raises:
        InputError: the entry and field that cannot be mapped with certainty, in one line.
    """
    header = read_header(truth, ANNOTATIONS)
    if header.layout is not VIDEOS:
        raise InputError(f"{ANNOTATIONS}: images; allowed: a YouTube-VIS json, since results are of videos")
    opened = _opened(Path(path))
    entries, notes = opened.entries, []
    for kind in (VIDEO, CATEGORY):
        own = names_of(opened.lists, kind)
        entries, said = renumbered(entries, kind, own, names_of(truth, kind), opened.name)
        notes += said
    sizes = _sizes(entries, header, opened.name)
    as_in_file = {video: (shape[0], sizes.get(video, shape[1])) for video, shape in header.shapes.items()}
    read = read_results(entries, opened.name, header._replace(shapes=as_in_file), VIDEOS)
    results, dropped = _without_copies(read, header)
    notes += [*_size_notes(sizes, header), *_notes(read, header, dropped)]
    return ForeignResults(results, notes, opened.sha256)


def _opened(path: Path) -> _Opened:
    text, name = file_bytes(path), str(path)  # once: a pipe has its bytes no second time
    content = parsed_json(text, name)
    lists: dict[str, Any] = {}
    if isinstance(content, dict):
        there = [key for key in RESULT_KEYS if key in content]
        if len(there) != 1:
            found = " and ".join(there) or f"an object with {', '.join(content) or 'nothing'}"
            allowed = f"a list of results, or an object with one of {', '.join(RESULT_KEYS)}"
            raise InputError(f"{name}: {found}; allowed: {allowed}")
        lists = {kind.plural: content.get(kind.plural) or [] for kind in (VIDEO, CATEGORY)}
        read_header(_with_sizes(lists), f"{name}: its own lists")
        name, content = f"{name}: {there[0]}", content[there[0]]
    if not isinstance(content, list):
        raise InputError(f"{name}: {type(content).__name__}; allowed: a list of results")
    return _Opened(name, hashlib.sha256(text).hexdigest(), content, lists)


def _with_sizes(lists: dict[str, Any]) -> dict[str, Any]:
    """The lists as a header has to be: sizes and lengths, which nobody asks for, made up where missing."""
    videos = lists[VIDEO.plural]
    if not isinstance(videos, list):
        return lists
    made_up = {"height": 1, "width": 1}
    filled = []
    for entry in videos:
        if isinstance(entry, dict):
            there = {key: value for key, value in entry.items() if value is not None}
            entry = made_up | ({} if "file_names" in there else {"length": 0}) | there
        filled.append(entry)
    return lists | {VIDEO.plural: filled}


# Sizes


def _sizes(entries: list[Any], header: Header, name: str) -> dict[int, Size]:
    """(h, w) of the videos whose masks have another size than the annotations', all of them the same one."""
    found: dict[int, dict[Size, int]] = {}
    for place, entry in enumerate(entries):
        video = entry.get(VIDEOS.id_key) if isinstance(entry, dict) else None
        masks = entry.get(VIDEOS.masks_key) if isinstance(entry, dict) else None
        if isinstance(masks, list) and type(video) is int and video in header.shapes:
            sizes = found.setdefault(video, {})
            for mask in masks:
                size = _size(mask)
                if size is not None:
                    sizes.setdefault(size, place)
    other = {}
    for video, sizes in found.items():
        own = header.shapes[video][1]
        if all(size == own for size in sizes):
            continue
        wrong = next(size for size in sizes if size != own)
        where = f"{name}: [{sizes[wrong]}]: video {video}: size {list(wrong)}"
        if len(sizes) > 1:
            third = next(size for size in sizes if size != wrong)
            raise InputError(f"{where}, elsewhere {list(third)}; allowed: one size for all masks of a video")
        if not same_aspect(wrong, own):
            turned = ", turned by a quarter" if same_aspect(wrong, own[::-1]) else ""
            raise InputError(
                f"{where}{turned}; allowed: the video's {list(own)}, or a size of the same shape to be scaled"
            )
        exact = wrong[0] * own[1] == wrong[1] * own[0]
        if not exact and min(wrong) < LEAST_SIDE:
            raise InputError(
                f"{where}; allowed: the video's {list(own)}, or sides of at least {LEAST_SIDE}: smaller ones "
                "round to too many shapes"
            )
        if wrong[0] * wrong[1] > MOST_PIXELS:
            raise InputError(f"{where}; allowed: masks of at most {MOST_PIXELS} pixels")
        other[video] = wrong
    return other


def _size(mask: Any) -> Size | None:
    """(h, w) that a mask says it has; None where it says nothing that could be one."""
    size = mask.get("size") if isinstance(mask, dict) else None
    if not isinstance(size, list) or len(size) != 2:
        return None
    if not all(type(side) is int and side > 0 for side in size):
        return None
    return size[0], size[1]


def same_aspect(one: Size, other: Size) -> bool:
    """Whether one scale takes ``other`` to ``one``, each side rounded up or down."""
    lowest = max((side - 1) / whole for side, whole in zip(one, other, strict=True))
    return lowest < min((side + 1) / whole for side, whole in zip(one, other, strict=True))


class Scaling:
    """Masks of (h, w) to (H, W): each pixel takes the one below its centre; equal codes are scaled once."""

    def __init__(self, size: Size) -> None:
        """``size``: (H, W)."""
        self._size = size
        self._done: dict[tuple[int, int, str], Rle] = {}

    def __call__(self, mask: Rle) -> Rle:
        """The mask at the new size."""
        h, w = mask["size"]
        key = (h, w, mask["counts"])
        if key not in self._done:
            H, W = self._size
            rows, columns = ((2 * np.arange(new) + 1) * old // (2 * new) for new, old in ((H, h), (W, w)))
            # Columns are whole in memory, as the codes run.
            upright = coco.decode(mask).T.take(columns, 0).take(rows, 1)
            code = coco.encode(upright.T)
            self._done[key] = {"size": [H, W], "counts": code["counts"].decode("ascii")}
        return self._done[key]


# What is kept


def _without_copies(read: Iterable[Result], header: Header) -> tuple[list[dict[str, Any]], int]:
    """The results as entries, and how many were left out: those with all of an earlier one's values."""
    results: list[dict[str, Any]] = []
    shared: dict[tuple[int, tuple[str | None, ...]], list[Rle | None]] = {}
    scalings = {size: Scaling(size) for _, size in header.shapes.values()}
    there: set[tuple[int, int, float, int]] = set()
    dropped = 0
    for result in read:
        key = (result.video, _codes(result.masks))
        if key not in shared:
            size = header.shapes[result.video][1]
            shared[key] = [_of_size(mask, size, scalings[size]) for mask in result.masks]
        copy = (result.video, result.category, result.score, id(shared[key]))
        if copy in there:
            dropped += 1
            continue
        there.add(copy)
        results.append(result_entry(result.video, result.category, result.score, shared[key]))
    return results, dropped


def _of_size(mask: Rle | None, size: Size, scaling: Scaling) -> Rle | None:
    return mask if mask is None or tuple(mask["size"]) == size else scaling(mask)


def _codes(masks: Masks) -> tuple[str | None, ...]:
    return tuple(None if mask is None else mask["counts"] for mask in masks)


# Notes


def _size_notes(sizes: dict[int, Size], header: Header) -> list[str]:
    pairs: dict[tuple[Size, Size], list[int]] = {}
    for video, size in sizes.items():
        pairs.setdefault((size, header.shapes[video][1]), []).append(video)
    return [
        f"masks of {h}x{w} scaled to {H}x{W} by nearest neighbour ({_videos(videos)})"
        for ((h, w), (H, W)), videos in pairs.items()
    ]


def _notes(read: list[Result], header: Header, dropped: int) -> list[str]:
    notes = []
    if dropped:
        notes.append(f"{dropped} exact cop{'ies' if dropped > 1 else 'y'} of other results left out")
    scores = [result.score for result in read]
    if scores and not (min(scores) >= 0 and max(scores) <= 1):
        notes.append(
            f"scores from {min(scores):g} to {max(scores):g}: no probabilities, but AP asks for ranks alone"
        )
    without = sorted(set(header.shapes) - {result.video for result in read})
    if without:
        notes.append(f"no result, scored as none found: {_videos(without)}")
    return notes


def _videos(ids: list[int]) -> str:
    more = f" and {len(ids) - VIDEOS_NAMED} more" if len(ids) > VIDEOS_NAMED else ""
    return f"video{'s' if len(ids) > 1 else ''} {', '.join(map(str, ids[:VIDEOS_NAMED]))}{more}"
