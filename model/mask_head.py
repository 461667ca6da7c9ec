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

import torch
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


class SharedSpatialDecoder(SpatialDecoder):
    """The same function for frames that several windows see: what no window changes is computed once.

    A convolution of a sum is the sum of two convolutions: that of the adapted map needs no window, and that
    of a map whose cells were doubled needs four of nine products, for rows and columns repeat. Exact but for
    rounding. A frame costs 13 products instead of 9, and each window 4 instead of 9: it pays from two
    windows a frame on.
    """

    def __init__(self, own: SpatialDecoder) -> None:
        nn.Module.__init__(self)
        for name, module in own.named_children():
            self.add_module(name, module)
        self.doubled2, self.doubled3 = DoubledConv(self.conv2.weight), DoubledConv(self.conv3.weight)

    def lateral(self, level16: Tensor, level8: Tensor) -> tuple[Tensor, ...]:
        """As :meth:`SpatialDecoder.lateral`, with the convolutions that follow."""
        adapted16, adapted8 = super().lateral(level16, level8)
        return self.conv2(adapted16), self.conv3(adapted8)

    def forward(self, encoded: Tensor, lateral16: Tensor, lateral8: Tensor) -> Tensor:
        """Encoded map (N, C, H, W) and the two maps of :meth:`lateral` to mask features (N, C, h, w)."""
        x = self.norm1(self.conv1(encoded))
        x = self.norm2(lateral16 + self.doubled2(x, lateral16.shape[-2:]))
        return self.sharpened(F.relu(self.norm3(lateral8 + self.doubled3(x, lateral8.shape[-2:]))))


class DoubledConv(nn.Module):
    """A 3x3 convolution (no bias, padding 1) of a map that was doubled by its nearest cells; for inference.

    An even row of the doubled map sees the cell above it and its own cell twice, an odd one its own twice and
    the one below: four 2x2 convolutions of the small map, one for each parity of row and column.
    """

    TAPS = (((1, 0, 0), (0, 1, 1)), ((1, 1, 0), (0, 0, 1)))
    """[parity][small cell][row of the 3x3 kernel]"""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        taps = weight.new_tensor(self.TAPS)
        kernels = torch.einsum("par,qbs,oirs->pqoiab", taps, taps, weight.detach()).flatten(0, 2)
        self.weight = weight
        self.kernels = kernels.contiguous(memory_format=torch.channels_last)

    def forward(self, x: Tensor, size: torch.Size) -> Tensor:
        """x (N, C, H, W) to (N, C, H', W'), where H is half of H', rounded up, and W half of W'."""
        height, width = size
        by_parity = F.conv2d(x, self.kernels, padding=1).unflatten(1, (2, 2, -1))
        out = x.new_empty((len(x), by_parity.shape[3], height, width)).contiguous(
            memory_format=torch.channels_last
        )
        for p in range(2):
            for q in range(2):
                rows, columns = (height - p + 1) // 2, (width - q + 1) // 2
                out[..., p::2, q::2] = by_parity[:, p, q, :, p : p + rows, q : q + columns]
        # The last row or column of an odd size is no double: beyond it there is nothing.
        if height % 2:
            last = x[..., -2:, :].repeat_interleave(2, 3)[..., :width]
            last = F.pad(last, (0, 0, int(x.shape[2] == 1), 0))
            out[..., -1:, :] = F.conv2d(last, self.weight[..., :2, :], padding=(0, 1))
        if width % 2:
            last = x[..., -2:].repeat_interleave(2, 2)[..., :height, :]
            last = F.pad(last, (int(x.shape[3] == 1), 0, 0, 0))
            out[..., -1:] = F.conv2d(last, self.weight[..., :2], padding=(1, 0))
        return out


def dynamic_masks(features: Tensor, weights: Tensor) -> Tensor:
    """Mask logits (B, Q, T, h, w): features (B, T, C, h, w) times each query's weights (B, Q, C)."""
    by_frame = weights[:, None] @ features.flatten(3)
    return by_frame.unflatten(-1, features.shape[-2:]).transpose(1, 2)  # type: ignore[no-any-return]
