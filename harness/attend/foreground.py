"""How much of an attention map lies on masks, against what an even gaze would put there.

Shapes
    F, H, W  frames and their size
    h, w     token grid
    L, M     layers, memory tokens
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class TokenNumbers:
    """One memory token in one layer, averaged over frames. Shares are parts of one."""

    layer: int
    token: int
    to_frame: float
    """Of the token's attention: what frame tokens get; memory tokens get the rest"""
    on_foreground: float
    """Of the attention that frame tokens get: what lies on masks"""
    area: float
    """Of the frames' cells: what masks cover, which is ``on_foreground`` of an even gaze"""

    @property
    def lift(self) -> float | None:
        """``on_foreground / area``: above 1 it looks more at masks than an even gaze; None without masks."""
        return self.on_foreground / self.area if self.area else None


def cell_edges(pixels: int, cells: int, resized: int, stride: int) -> Floats:
    """Where the cells of a token grid begin and end along one side of a frame, (cells + 1) pixel coordinates.

    Kernels of an odd size, padded by half of it, centre cell i on pixel ``stride * i`` of the model's input.
    Every place belongs to the nearest centre: the first cell is half as long as others, the last one reaches
    to the frame's end. Cells of padding, whose centre is not in the frame, have no length.

    Args:
        pixels: length of the side; ``resized``: the same in the model's input.
    """
    own = min(cells, -(-resized // stride))
    inner = (stride * (np.arange(own - 1) + 0.5) + 0.5) * pixels / resized
    edges: Floats = np.full(cells + 1, float(pixels))
    edges[0], edges[1:own] = 0.0, inner
    return edges


def cell_shares(mask: NDArray[np.bool_], edges: tuple[Floats, Floats]) -> Floats:
    """A mask (H, W) to the share (h, w) of each cell's area that it covers; NaN where a cell has none.

    ``edges``: of rows and columns, by :func:`cell_edges`.
    """
    rows, columns = (_overlaps(side, own) for side, own in zip(mask.shape, edges, strict=True))
    area = rows.sum(1)[:, None] * columns.sum(1)
    covered = rows @ mask.astype(np.float64) @ columns.T
    with np.errstate(invalid="ignore"):
        shares: Floats = np.where(area > 0, covered / area, np.nan)
    return shares


def _overlaps(pixels: int, edges: Floats) -> Floats:
    """(cells, pixels): how much of each pixel along one side lies in each cell."""
    start = np.arange(pixels)
    overlaps: Floats = np.minimum(edges[1:, None], start + 1) - np.maximum(edges[:-1, None], start)
    return overlaps.clip(0)


def on_masks(attention: NDArray[np.floating], shares: Floats) -> Floats:
    """Attention (..., h, w) and shares (h, w) to the part (...) of its mass that lies on masks."""
    inside = np.isfinite(shares)
    mass = np.where(inside, attention, 0.0).astype(np.float64)
    covered: Floats = (mass * np.where(inside, shares, 0.0)).sum((-1, -2))
    part: Floats = covered / mass.sum((-1, -2))
    return part


def token_numbers(attention: NDArray[np.floating], shares: Floats) -> list[TokenNumbers]:
    """Attention (F, L, M, h, w) and shares (F, h, w) of all frames to the numbers of each layer and token.

    Each frame counts the same. The lift of an even gaze is exactly 1.
    """
    to_frame = attention.sum((-1, -2), dtype=np.float64).mean(0)
    on = np.stack([on_masks(*frame) for frame in zip(attention, shares, strict=True)]).mean(0)
    area = float(np.mean([np.nanmean(frame) for frame in shares]))
    return [
        TokenNumbers(layer, token, float(to_frame[layer, token]), float(on[layer, token]), area)
        for layer, token in np.ndindex(*on.shape)
    ]


def tokens_apart(attention: NDArray[np.floating]) -> list[float | None]:
    """Attention (F, L, M, h, w) to how differently the tokens of each layer look at a frame.

    The mean over frames and pairs of tokens of the total variation between their maps: 0 where all tokens
    look alike, 1 where no two look at the same cell. None of a single token.
    """
    maps = attention.astype(np.float64)
    maps = maps / maps.sum((-1, -2), keepdims=True)
    count = maps.shape[2]
    pairs = [(one, other) for one in range(count) for other in range(one)]
    if not pairs:
        return [None] * maps.shape[1]
    apart = [abs(maps[:, :, i] - maps[:, :, j]).sum((-1, -2)).mean(0) / 2 for i, j in pairs]
    return [float(layer) for layer in np.mean(apart, 0)]
