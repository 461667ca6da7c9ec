"""Situations that a track's own masks tell over time: speed, absence, size change.

Each takes the cuts of a track, one a frame, None where it is not visible.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np

from harness.situations.cuts import Cut, Floats

HIDDEN_MOST = 0.5
"""Share of a track; with more of it hidden, its area says nothing about its size."""


def visible_frames(cuts: Sequence[Cut | None]) -> list[tuple[int, Cut]]:
    """(frame, cut) of the frames in which the track shows."""
    return [(frame, cut) for frame, cut in enumerate(cuts) if cut is not None]


def speed(cuts: Sequence[Cut | None]) -> float | None:
    """How far it moves a frame, in its own sizes; higher is faster. None with fewer than two visible frames.

    Between one visible frame and the next visible one: ``|c' - c| / (s n)``, where c are the centres (mean
    of the visible pixels), n frames lie between them (1 without a gap), and s is the geometric mean of the
    two sizes, a size being the square root of the visible area. The tag is the median over all such
    pairs: a centre that jumps once because something passes in front does not make a track fast. A
    moving camera counts: it is motion in the picture that a model has to follow.
    """
    steps = [
        math.dist(one.centre, other.centre) / ((one.area * other.area) ** 0.25 * (later - earlier))
        for (earlier, one), (later, other) in itertools.pairwise(visible_frames(cuts))
    ]
    return float(np.median(steps)) if steps else None


def absence(cuts: Sequence[Cut | None]) -> float | None:
    """Share of the frames from its first to its last visible one in which it is not seen; 0 to below 1.

    0: it never comes back after having gone. None for a track that is never visible.
    """
    seen = visible_frames(cuts)
    return 1 - len(seen) / (seen[-1][0] - seen[0][0] + 1) if seen else None


def size_change(cuts: Sequence[Cut | None], hidden: Floats | None = None) -> float | None:
    """How often its visible area doubles between small and large; 0 is none, 1 is twice the area.

    ``log2`` of the ninth decile of its areas over the first (interpolated), so that one odd mask changes
    little. What is cut off or hidden is no change of size: an area counts as ``a / (1 - h)`` where others
    hide a share h of it; and frames in which the mask touches the picture's border are left out, and those
    with h above a half, as long as a quarter of the visible frames, and two, remain; else every visible
    area counts as it is. None with fewer than two.

    Args:
        cuts: L of them.
        hidden: (L,) as :func:`harness.situations.occlusion.hidden_shares` has it; None: nothing is hidden.
    """
    seen = visible_frames(cuts)
    if len(seen) < 2:
        return None
    shares = np.zeros(len(cuts)) if hidden is None else hidden
    whole = [
        cut.area / (1 - shares[frame])
        for frame, cut in seen
        if not cut.at_border and shares[frame] <= HIDDEN_MOST
    ]
    areas = whole if len(whole) >= max(2, len(seen) / 4) else [cut.area for _, cut in seen]
    small, large = np.quantile(areas, (0.1, 0.9))
    return math.log2(large / small)
