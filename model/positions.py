"""Two-dimensional sine positions, as in DETR (paper Sec. 3.1 takes them over).

Shapes
    B, H, W  clips and the token grid
    C        width; the first C/2 channels tell y, the others x
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

TEMPERATURE = 10000.0


def sine_positions(padding: Tensor, width: int) -> Tensor:
    """Positions (B, H, W, C) for a padding mask (B, H, W) that is True outside the picture.

    Coordinates count the unpadded cells and are scaled to (0, 2 pi], so that a padded frame gets the
    positions it would have without its padding.
    """
    inside = (~padding).float()
    y = inside.cumsum(1)
    x = inside.cumsum(2)
    y = y / (y[:, -1:, :] + 1e-6) * (2 * math.pi)
    x = x / (x[:, :, -1:] + 1e-6) * (2 * math.pi)
    half = width // 2
    index = torch.arange(half, dtype=torch.float32, device=padding.device)
    period = TEMPERATURE ** (2 * (index // 2) / half)
    return torch.cat([_waves(y, period), _waves(x, period)], dim=-1)


def _waves(coordinate: Tensor, period: Tensor) -> Tensor:
    """(B, H, W) to (B, H, W, C/2): sine on even channels, cosine on odd ones."""
    phase = coordinate[..., None] / period
    return torch.stack([phase[..., 0::2].sin(), phase[..., 1::2].cos()], dim=-1).flatten(-2)
