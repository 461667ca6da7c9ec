"""Situation ``look_alikes``: others of the same class in the video, weighted by nearness of colour."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from harness.situations.cuts import Cut, Floats, eroded

SAMPLES = 512
"""Pixels of a mask in one frame that count, evenly spaced, at most"""
LEVELS = np.linspace(0.05, 0.95, 19)
"""Quantiles that describe the distribution of a colour channel"""
FALL = 10.0
"""In CIELAB units: so far apart, a look-alike counts 1/e. About 2.3 can just be told apart side by side."""
LINEAR_RGB_TO_XYZ = np.array(
    [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
) / np.array([[0.9505], [1.0], [1.089]])
"""Of sRGB (IEC 61966-2-1), divided by its white point D65"""


def lab(rgb: NDArray[np.uint8]) -> Floats:
    """CIELAB (m,3) of sRGB pixels (m,3)."""
    share = rgb / 255.0
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    xyz = linear @ LINEAR_RGB_TO_XYZ.T
    f = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    x, y, z = f.T
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], 1)


def sampled_pixels(pixels: NDArray[np.uint8], cut: Cut) -> NDArray[np.uint8]:
    """At most :data:`SAMPLES` RGB pixels (m,3) of a mask in the frame (3,H,W), its outline left out.

    Where only outline is left, that is taken.
    """
    inner = eroded(cut.mask, 1)
    places = np.flatnonzero(inner if inner.any() else cut.mask)
    places = places[:: -(-len(places) // SAMPLES)]
    rows, columns = np.unravel_index(places, cut.mask.shape)
    out: NDArray[np.uint8] = pixels[:, cut.box.top + rows, cut.box.left + columns].T
    return out


def palette(samples: Sequence[NDArray[np.uint8]]) -> Floats:
    """A track's colours, (19,3): quantiles of each CIELAB channel over its pixels of all frames."""
    quantiles: Floats = np.quantile(lab(np.concatenate(samples)), LEVELS, axis=0)
    return quantiles


def palette_distance(one: Floats, other: Floats) -> float:
    """How far apart two palettes are, in CIELAB units.

    In each channel the mean difference of their quantiles (the earth mover's distance of the two
    distributions); over the channels the Euclidean norm. No histogram's bins are in it, so a shade that
    differs a little is a little different.
    """
    return float(np.hypot.reduce(np.abs(one - other).mean(0)))


def look_alikes(categories: Sequence[int], palettes: Sequence[Floats | None]) -> list[float | None]:
    """Of each track, the sum of ``exp(-d / 10)`` over the other tracks of its class in the video.

    d is :func:`palette_distance`, so an identical one counts 1; 0 without others of the class. Higher is
    more and nearer look-alikes. Tracks that are never visible have no palette: None, and they count for none.
    """
    out: list[float | None] = []
    for i, own in enumerate(palettes):
        others = [
            other
            for j, other in enumerate(palettes)
            if j != i and categories[j] == categories[i] and other is not None
        ]
        near = None if own is None else [math.exp(-palette_distance(own, other) / FALL) for other in others]
        out.append(None if near is None else math.fsum(near))
    return out
