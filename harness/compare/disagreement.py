"""How far methods disagree on a frame, and which frames and videos show it best.

Of two rows of tracks: 1 - IoU of their identity maps, that is 1 - (pixels where both have the same identity)
/ (pixels where one of them has any); 0 where neither has any. Of a frame: the mean over all pairs of rows,
the annotations being a row. Of a video: the mean over its frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, pairwise

import numpy as np
from numpy.typing import NDArray

from harness.compare.identities import Shown, identity_map

GRID = 90
"""Pixels of the shorter side that are looked at, at least: every k-th of larger frames"""


def disagreements(rows: Sequence[Sequence[Shown]], length: int, size: tuple[int, int]) -> NDArray[np.float64]:
    """Of each of L frames, from 0 to 1; all 0 of a single row."""
    step = max(1, min(size) // GRID)
    return np.array([_of_frame(rows, frame, size, step) for frame in range(length)])


def _of_frame(rows: Sequence[Sequence[Shown]], frame: int, size: tuple[int, int], step: int) -> float:
    maps = [identity_map(row, frame, size, step) for row in rows]
    gaps = []
    for one, other in combinations(maps, 2):
        union = int(((one > 0) | (other > 0)).sum())
        gaps.append(1 - int(((one == other) & (one > 0)).sum()) / union if union else 0.0)
    return float(np.mean(gaps)) if gaps else 0.0


def most_disputed(values: NDArray[np.float64], count: int) -> list[int]:
    """``count`` frames, or all where there are fewer.

    The video is cut into so many parts of equal length, and of each the first frame with the largest value
    is taken: the choice covers the whole video.
    """
    count = min(count, len(values))
    edges = [len(values) * part // count for part in range(count + 1)] if count else [0]
    return [start + int(np.argmax(values[start:stop])) for start, stop in pairwise(edges)]
