"""Situation ``overlap``: how much of a track others hide, estimated from visible masks alone.

Annotations hold visible pixels only, so how large an object would be without the others is not known.
Two signs of it can be measured where two masks touch:

- pixels of others within the track's convex hull: something is bitten out of its shape;
- its area is below that of the frames in which it is free, interpolated in time.

Shapes:
    n tracks of a video, L frames.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from harness.situations.cuts import Cut, Floats, Mask, dilated

Flags = NDArray[np.bool_]


def hidden_shares(tracks: Sequence[Sequence[Cut | None]], short_side: int) -> Floats:
    """Estimated share (n,L) of each track that others hide in each frame.

    The larger of two signs counts: ``b / (a + b)`` with a its visible pixels and b those of others within its
    convex hull; and ``1 - a / A`` with A its area interpolated between the frames where it is free, unless
    it touches the picture's border. Free it is where it touches no other, nor the border; without such
    frames, where it touches no other; without any, A is an even growth through its larger areas.

    A sign counts only while the track touches another one that shows less of such signs: of two that
    touch, the other is in front. Frames between visible ones count as hidden, 1, where it touched another
    before or after, away from the border.

    Args:
        tracks: (n, L) cuts of one video.
        short_side: of the frames; two tracks touch within a 180th of it, and within a pixel.
    """
    reach = max(1, round(short_side / 180))
    length = len(tracks[0]) if tracks else 0
    areas = np.array([[cut.area if cut else 0 for cut in cuts] for cuts in tracks], float)
    border = np.array([[cut is not None and cut.at_border for cut in cuts] for cuts in tracks], bool)
    touching, bitten = _where_they_meet(tracks, length, reach)
    for track, visible in enumerate(areas > 0):
        _carry_into_gaps(touching[track], visible, border[track])
    lost = np.array(
        [
            _lost_area(areas[i], touching[i].any(0), border[i]) if areas[i].any() else np.zeros(length)
            for i in range(len(tracks))
        ]
    )
    signs = np.maximum(bitten, lost)
    return np.array([_behind(i, signs, touching) for i in range(len(tracks))])


def overlap(hidden: Floats, cuts: Sequence[Cut | None]) -> float | None:
    """Of a track, the mean of :func:`hidden_shares` (L,) over its life; 0 to 1, higher is more.

    A life is the frames from the first visible one to the last; None for a track that is never visible.
    What nobody annotated (a tree, a wall) hides without a trace.
    """
    seen = [frame for frame, cut in enumerate(cuts) if cut is not None]
    return float(hidden[seen[0] : seen[-1] + 1].mean()) if seen else None


def _where_they_meet(tracks: Sequence[Sequence[Cut | None]], length: int, reach: int) -> tuple[Flags, Floats]:
    """Who touches whom (n,n,L), and the share of others in each one's hull (n,L)."""
    n = len(tracks)
    touching = np.zeros((n, n, length), np.bool_)
    bitten = np.zeros((n, length))
    for frame in range(length):
        present = [(i, cut) for i in range(n) if (cut := tracks[i][frame]) is not None]
        for i, cut in present:
            neighbours = [other for j, other in present if j != i and cut.box.shared(other.box)]
            if neighbours:
                others = np.logical_or.reduce([other.within(cut.box) for other in neighbours]) & ~cut.mask
                inside = int(np.count_nonzero(others & hull(cut.mask))) if others.any() else 0
                bitten[i, frame] = inside / (cut.area + inside)
            for j, other in present:
                if j > i and touch(cut, other, reach):
                    touching[i, j, frame] = touching[j, i, frame] = True
    return touching, bitten


def touch(one: Cut, other: Cut, reach: int) -> bool:
    """Whether some of their pixels are at most ``reach`` rows and columns from each other."""
    box = one.box.grown(reach).shared(other.box)
    if box is None:
        return False
    around = dilated(one.within(box.grown(reach)), reach)[reach:-reach, reach:-reach]
    return bool((around & other.within(box)).any())


def hull(mask: Mask) -> Mask:
    """The pixels (h,w) whose centres lie in the convex hull of the mask's; every row has some of them."""
    rows = np.flatnonzero(mask.any(1))
    first = mask[rows].argmax(1)
    last = mask.shape[1] - 1 - mask[rows, ::-1].argmax(1)
    every = np.arange(mask.shape[0])
    left = np.interp(every, *_lower_chain(rows, first))
    right = -np.interp(every, *_lower_chain(rows, -last))
    columns = np.arange(mask.shape[1])
    out: Mask = (columns >= left[:, None] - 1e-9) & (columns <= right[:, None] + 1e-9)
    return out


def _lower_chain(xs: NDArray[np.intp], ys: NDArray[np.intp]) -> tuple[list[int], list[int]]:
    """Corners of the lower convex hull of points in order of x (Andrew's monotone chain)."""
    chain: list[tuple[int, int]] = []
    for x, y in zip(xs.tolist(), ys.tolist(), strict=True):
        while len(chain) > 1:
            (x0, y0), (x1, y1) = chain[-2:]
            if (x1 - x0) * (y - y0) - (y1 - y0) * (x - x0) > 0:
                break
            chain.pop()
        chain.append((x, y))
    return [x for x, _ in chain], [y for _, y in chain]


def _carry_into_gaps(touching: Flags, visible: Flags, border: Flags) -> None:
    """In frames between visible ones it touches, (n,L), whom it touched at the gap's ends, in place."""
    seen = np.flatnonzero(visible)
    for before, after in itertools.pairwise(seen.tolist()):
        for end in (before, after):
            if not border[end]:  # else it may have left the picture
                touching[:, before + 1 : after] |= touching[:, end, None]


def _lost_area(areas: Floats, touching: Flags, border: Flags) -> Floats:
    """Share (L,) of the area that is missing against free frames, where it touches another."""
    visible = areas > 0
    free = visible & ~touching & ~border
    if not free.any():
        free = visible & ~touching
    frames = np.arange(len(areas))
    whole = np.interp(frames, frames[free], areas[free]) if free.any() else _upper_trend(areas)
    out: Floats = np.where(touching & ~border, np.clip(1 - areas / whole, 0, 1), 0.0)
    return out


def _upper_trend(areas: Floats) -> Floats:
    """Areas (L,) as they would be if they grew evenly: exponentially, up to the ninth decile of what is seen.

    The growth is the median of those between all pairs of visible frames (Theil and Sen), which a minority
    of hidden frames does not move.
    """
    seen = np.flatnonzero(areas)
    logs = np.log(areas[seen])
    one, other = np.triu_indices(len(seen), 1)
    growth = np.median((logs[other] - logs[one]) / (seen[other] - seen[one])) if len(one) else 0.0
    level = np.quantile(logs - growth * seen, 0.9)
    out: Floats = np.exp(level + growth * np.arange(len(areas)))
    return out


def _behind(track: int, signs: Floats, touching: Flags) -> Floats:
    """The signs (L,) of a track where it touches one that shows less of them."""
    less = touching[track] & (signs < signs[track])
    return np.where(less.any(0), signs[track], 0.0)
