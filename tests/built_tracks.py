"""Annotations and results of rectangles, for tests that know what is wrong with them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.evaluation import encode_mask

HEIGHT, WIDTH, LENGTH = 32, 48, 8
Box = tuple[int, int, int, int] | None
"""(top, left, height, width) in one frame; None where there is nothing"""


def mask(box: Box) -> NDArray[np.bool_]:
    """(H,W)"""
    out = np.zeros((HEIGHT, WIDTH), np.bool_)
    if box is not None:
        top, left, height, width = box
        out[top : top + height, left : left + width] = True
    return out


def codes(boxes: Sequence[Box]) -> list[Any]:
    """The run-length code of each frame."""
    return [encode_mask(mask(box)) for box in boxes]


def still(place: int, frames: int = LENGTH) -> list[Box]:
    """An object of 8 x 8 that stays at one of twelve places, apart from all others."""
    row, column = divmod(place, 4)
    return [(10 * row, 12 * column, 8, 8)] * frames


class Truth:
    """Annotations of videos of ``LENGTH`` frames; categories are 1 to 3."""

    def __init__(self, videos: int = 1) -> None:
        ids = itertools.count(1)
        self._ids = ids
        entries = [{"id": n + 1, "width": WIDTH, "height": HEIGHT, "length": LENGTH} for n in range(videos)]
        names = [f"{n + 1:03}" for n in range(videos)]
        for entry, name in zip(entries, names, strict=True):
            entry["file_names"] = [f"{name}/{frame:05}.jpg" for frame in range(LENGTH)]  # type: ignore[assignment]
        self.json: dict[str, Any] = {
            "videos": entries,
            "categories": [{"id": n, "name": f"class {n}"} for n in (1, 2, 3)],
            "annotations": [],
        }

    def add(self, boxes: Sequence[Box], category: int = 1, video: int = 1, crowd: bool = False) -> None:
        """One annotated track."""
        entry = {"video_id": video, "category_id": category, "iscrowd": int(crowd)}
        areas = [None if box is None else int(mask(box).sum()) for box in boxes]
        self.json["annotations"].append(
            {**entry, "id": next(self._ids), "segmentations": codes(boxes), "areas": areas}
        )


def result(boxes: Sequence[Box], score: float = 0.9, category: int = 1, video: int = 1) -> dict[str, Any]:
    """One result."""
    return {"video_id": video, "category_id": category, "score": score, "segmentations": codes(boxes)}
