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

from model.convolution import Convolution


class SpatialDecoder(nn.Module):
    """Encoder map and backbone pyramid to mask features at the pyramid's second level.

    No ReLU stands after the first two group norms: so it is in the published code.
    """

    def __init__(self, width: int, pyramid_channels: Sequence[int]) -> None:
        super().__init__()
        groups = math.gcd(32, width)
        self.conv1 = Convolution(width, width, 3)
        self.norm1 = nn.GroupNorm(groups, width)
        self.conv2 = Convolution(width, width, 3)
        self.norm2 = nn.GroupNorm(groups, width)
        self.conv3 = Convolution(width, width, 3)
        self.norm3 = nn.GroupNorm(groups, width)
        self.adapter16 = Convolution(pyramid_channels[2], width, 1)
        self.adapter8 = Convolution(pyramid_channels[1], width, 1)
        self.depthwise = nn.Conv2d(width, width, 5, padding=2, groups=width)
        self.pointwise = Convolution(width, width, 1)
        for module in self.children():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight, a=1)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def lateral(self, level16: Tensor, level8: Tensor) -> tuple[Tensor, ...]:
        """What :meth:`forward` needs of the pyramid's third and second level: the same in every window."""
        return self.adapter16(level16), self.adapter8(level8)

    def forward(self, encoded: Tensor, adapted16: Tensor, adapted8: Tensor) -> Tensor:
        """Encoded map (N, C, H, W) and the two adapted pyramid maps to mask features (N, C, h, w)."""
        x = self.norm1(self.conv1(encoded))
        x = adapted16 + F.interpolate(x, size=adapted16.shape[-2:], mode="nearest")
        x = self.norm2(self.conv2(x))
        x = adapted8 + F.interpolate(x, size=adapted8.shape[-2:], mode="nearest")
        return self.sharpened(self.norm3(self.conv3(x)).relu_())

    def sharpened(self, x: Tensor) -> Tensor:
        """The last two convolutions, at full width and height."""
        return self.pointwise(self.depthwise(x).relu_()).relu_()  # type: ignore[no-any-return]


def dynamic_masks(features: Tensor, weights: Tensor) -> Tensor:
    """Mask logits (B, Q, T, h, w): features (B, T, C, h, w) times each query's weights (B, Q, C)."""
    by_frame = weights[:, None] @ features.flatten(3)
    return by_frame.unflatten(-1, features.shape[-2:]).transpose(1, 2)  # type: ignore[no-any-return]
