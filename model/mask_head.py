"""Spatial decoder and dynamic masks (paper Sec. 3.2): frame by frame, then one weight vector a query.

Shapes
    N       frames (clips and their frames, flattened)
    C       width
    h, w    the map of the pyramid's second level (stride 8; ``tiny``: 4)
    Q       object queries
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F


class SpatialDecoder(nn.Module):
    """Encoder map and backbone pyramid to mask features at the pyramid's second level.

    No ReLU stands after the first two group norms: so it is in the published code.
    """

    def __init__(self, width: int, pyramid_channels: Sequence[int]) -> None:
        super().__init__()
        groups = math.gcd(32, width)
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.norm1 = nn.GroupNorm(groups, width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.norm2 = nn.GroupNorm(groups, width)
        self.conv3 = nn.Conv2d(width, width, 3, padding=1)
        self.norm3 = nn.GroupNorm(groups, width)
        self.adapter16 = nn.Conv2d(pyramid_channels[2], width, 1)
        self.adapter8 = nn.Conv2d(pyramid_channels[1], width, 1)
        self.depthwise = nn.Conv2d(width, width, 5, padding=2, groups=width)
        self.pointwise = nn.Conv2d(width, width, 1)
        for module in self.children():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight, a=1)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, encoded: Tensor, adapted16: Tensor, adapted8: Tensor) -> Tensor:
        """Encoded map (N, C, H, W) and the two adapted pyramid maps to mask features (N, C, h, w)."""
        x = self.norm1(self.conv1(encoded))
        x = adapted16 + F.interpolate(x, size=adapted16.shape[-2:], mode="nearest")
        x = self.norm2(self.conv2(x))
        x = adapted8 + F.interpolate(x, size=adapted8.shape[-2:], mode="nearest")
        x = F.relu(self.norm3(self.conv3(x)))
        return F.relu(self.pointwise(F.relu(self.depthwise(x))))


def dynamic_masks(features: Tensor, weights: Tensor) -> Tensor:
    """Mask logits (B, Q, T, h, w): features (B, T, C, h, w) times each query's weights (B, Q, C)."""
    by_frame = weights[:, None] @ features.flatten(3)
    return by_frame.unflatten(-1, features.shape[-2:]).transpose(1, 2)  # type: ignore[no-any-return]
