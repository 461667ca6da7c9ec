"""Situation ``blur``: how little sharpness a picture can lose where the track is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from harness.situations.cuts import Cut, Mask, dilated

LUMA = (299, 587, 114)
"""Thousandths of red, green and blue (Rec. 601)"""
Grey = NDArray[np.int32]
FEWEST_PIXELS = 25
"""A smaller mask tells nothing about sharpness."""


def window_of(short_side: int) -> int:
    """Pixels of the blurring window: odd, about a 36th of the frames' shorter side, at least 3."""
    return max(3, 2 * (short_side // 72) + 1)


def frame_blur(pixels: NDArray[np.uint8], cut: Cut, window: int) -> float | None:
    """Blur of a track in one frame (3,H,W), 0 to 1, higher is blurrier.

    The measure of Crété et al. (2007), at one object: blur the picture once more, and see which share of
    the differences between neighbouring pixels stays. A sharp picture loses most of them, a blurred one
    hardly any; a factor on the contrast changes nothing. It is taken along rows and along columns, and
    the larger one counts, since motion blurs in one direction. Counted are the mask and half a window
    around it: the outline is an edge that every object has, also one without a texture.

    None where the mask is too small (:data:`FEWEST_PIXELS`), or nothing in it differs.
    """
    if cut.area < FEWEST_PIXELS:
        return None
    size = (pixels.shape[1], pixels.shape[2])
    around = (window + 1) // 2
    region = cut.box.grown(around).inside(size)
    box = cut.box.grown(around + window // 2 + 1).inside(size)
    counted = np.zeros((box.bottom - box.top, box.right - box.left), np.bool_)
    rows = slice(region.top - box.top, region.bottom - box.top)
    columns = slice(region.left - box.left, region.right - box.left)
    counted[rows, columns] = dilated(cut.within(region), around)
    part = pixels[:, box.top : box.bottom, box.left : box.right]
    grey: Grey = sum(share * channel.astype(np.int32) for share, channel in zip(LUMA, part, strict=True))
    stays = [_share_that_stays(each, where, window) for each, where in ((grey, counted), (grey.T, counted.T))]
    found = [share for share in stays if share is not None]
    return max(found) if found else None


def _share_that_stays(grey: Grey, counted: Mask, window: int) -> float | None:
    """Along columns: of the absolute differences of neighbours, the share that another blur leaves.

    In whole numbers throughout, so it is exact: blurred values are sums over the window, not means.
    """
    half = window // 2
    padded = np.pad(grey, ((half + 1, half), (0, 0)), mode="edge")
    padded[0] = 0
    sums = np.cumsum(padded, 0, dtype=np.int32)
    blurred = sums[window:] - sums[:-window]
    both = counted[1:] & counted[:-1]
    before = window * np.abs(np.diff(grey, axis=0)[both])
    after = np.abs(np.diff(blurred, axis=0)[both])
    total = int(before.sum(dtype=np.int64))
    return 1 - int(np.maximum(before - after, 0).sum(dtype=np.int64)) / total if total else None


def blur(frames: Sequence[float | None]) -> float | None:
    """A track's blur: the median over its frames; None where none of them tells it."""
    told = [value for value in frames if value is not None]
    return float(np.median(told)) if told else None
