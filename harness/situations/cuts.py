"""Masks of a video cut out of their frames: everything is worked out on boxes, never on whole frames.

Shapes:
    L frames of a video, H, W their size, h, w sides of a box.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as codes

from harness.data.rle import Rle

Mask = NDArray[np.bool_]
Floats = NDArray[np.floating[Any]]


class Box(NamedTuple):
    """Rows ``top`` to ``bottom``, columns ``left`` to ``right``; the last of each are outside."""

    top: int
    left: int
    bottom: int
    right: int

    def grown(self, by: int) -> Box:
        """Larger by so many pixels on every side; it may reach out of the frame."""
        return Box(self.top - by, self.left - by, self.bottom + by, self.right + by)

    def shared(self, other: Box) -> Box | None:
        """What both have, None where that is nothing."""
        box = Box(
            max(self.top, other.top),
            max(self.left, other.left),
            min(self.bottom, other.bottom),
            min(self.right, other.right),
        )
        return box if box.top < box.bottom and box.left < box.right else None

    def inside(self, size: tuple[int, int]) -> Box:
        """The part within a frame (H, W)."""
        return Box(max(0, self.top), max(0, self.left), min(size[0], self.bottom), min(size[1], self.right))


class Cut(NamedTuple):
    """A visible mask in one frame: ``mask`` (h,w) fills its tight ``box``; ``area`` in pixels."""

    box: Box
    mask: Mask
    area: int
    centre: tuple[float, float]
    """(y, x) in pixels of the frame: the mean of the mask's pixels"""
    at_border: bool
    """Whether it touches the picture's border: then a part of the object may be out of sight"""

    def within(self, box: Box) -> Mask:
        """The mask as it lies in another box; False wherever this one's box does not reach."""
        out = np.zeros((box.bottom - box.top, box.right - box.left), np.bool_)
        both = self.box.shared(box)
        if both is not None:
            rows = slice(both.top - self.box.top, both.bottom - self.box.top)
            columns = slice(both.left - self.box.left, both.right - self.box.left)
            target = out[both.top - box.top : both.bottom - box.top]
            target[:, both.left - box.left : both.right - box.left] = self.mask[rows, columns]
        return out


def cut_masks(segmentations: Sequence[Rle | Any | None]) -> list[Cut | None]:
    """One cut a frame (L of them), None where the track shows no pixel."""
    return [None if code is None else _cut(code) for code in segmentations]


def _cut(code: Rle) -> Cut | None:
    height, width = code["size"]
    left, top, w, h = (int(side) for side in codes.toBbox(code))
    if not w or not h:
        return None
    box = Box(top, left, top + h, left + w)
    mask = codes.decode(code)[box.top : box.bottom, box.left : box.right].astype(np.bool_)
    area = int(np.count_nonzero(mask))
    rows, columns = np.count_nonzero(mask, 1), np.count_nonzero(mask, 0)
    centre = (
        top + float(rows @ np.arange(h)) / area,
        left + float(columns @ np.arange(w)) / area,
    )
    at_border = top == 0 or left == 0 or box.bottom == height or box.right == width
    return Cut(box, mask, area, centre, at_border)


def dilated(mask: Mask, by: int) -> Mask:
    """Every pixel at most ``by`` rows and columns from one of the mask's; the shape stays."""
    out: Mask = _window_sums(mask, by) > 0
    return out


def eroded(mask: Mask, by: int) -> Mask:
    """The pixels all of whose neighbours, ``by`` rows and columns away, are the mask's; outside is not."""
    out: Mask = _window_sums(mask, by) == (2 * by + 1) ** 2
    return out


def _window_sums(mask: Mask, by: int) -> NDArray[np.int32]:
    """Pixels of the mask in the square of side 2*by+1 around each pixel."""
    sums = np.cumsum(np.pad(mask, ((by + 1, by), (by + 1, by))), 0, dtype=np.int32)
    np.cumsum(sums, 1, out=sums)
    side = 2 * by + 1
    rows = sums[side:] - sums[:-side]
    out: NDArray[np.int32] = rows[:, side:] - rows[:, :-side]
    return out
