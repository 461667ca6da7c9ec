"""Frames to a feature pyramid. Nothing here knows about time.

Shapes
    N        frames (clips and their frames, flattened)
    H0, W0   input size in pixels
    pyramid  four maps (N, C_i, ceil(H0 / s_i), ceil(W0 / s_i)) at strides s = 4, 8, 16, 32
             (``tiny``: 2, 4, 8, 16)
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.convolution import convolve, finished


class PixelNorm(NamedTuple):
    """How a backbone wants its pixels (0..255): channel order, mean and standard deviation in that order."""

    order: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


IMAGENET_RGB = PixelNorm("RGB", (123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
IMAGENET_BGR = PixelNorm("BGR", (103.53, 116.28, 123.675), (1.0, 1.0, 1.0))


NORM_EPS = 1e-5


class FrozenBatchNorm(nn.Module):
    """Batch norm with fixed statistics and fixed affine parameters: all four are buffers."""

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, eps: float = NORM_EPS) -> None:
        super().__init__()
        self.eps = eps
        self.register_buffer("weight", torch.ones(channels))
        self.register_buffer("bias", torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def scale_and_shift(self) -> tuple[Tensor, Tensor]:
        """What the norm does to each channel: multiply, then add."""
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        return scale, self.bias - self.running_mean * scale

    def forward(self, x: Tensor) -> Tensor:
        scale, shift = self.scale_and_shift()
        return x * scale[:, None, None] + shift[:, None, None]


class ConvNorm(nn.Conv2d):
    """A bias-free convolution and the norm behind it; odd kernels keep the size (but for the stride).

    A frozen norm is no operation of its own: its scale goes into the convolution's weights, its shift
    becomes the bias. Gradients of the weights pass through the scale.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, norm: nn.Module) -> None:
        super().__init__(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False)
        self.norm = norm
        nn.init.kaiming_normal_(self.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor, plus: Tensor | None = None, relu: bool = False) -> Tensor:
        """x to the normalised result; where asked for, ``plus`` of its shape is added, then a ReLU."""
        if isinstance(self.norm, FrozenBatchNorm):
            return finished(convolve(x, *self.folded(self.norm), self.stride[0]), plus, relu)
        return finished(self.norm(convolve(x, self.weight, None, self.stride[0])), plus, relu)

    def folded(self, norm: FrozenBatchNorm) -> tuple[Tensor, Tensor]:
        """Weights and bias of the one convolution that does both."""
        scale, shift = norm.scale_and_shift()
        return self.weight * scale[:, None, None, None], shift


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(inputs, outputs, 3, stride, FrozenBatchNorm(outputs))
        self.conv2 = ConvNorm(outputs, outputs, 3, 1, FrozenBatchNorm(outputs))
        self.shortcut = _shortcut(inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(x, relu=True)
        beside = x if self.shortcut is None else self.shortcut(x)
        return self.conv2(y, plus=beside, relu=True)  # type: ignore[no-any-return]


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions beside a shortcut; the stride sits in the 3x3 or in the first 1x1."""

    def __init__(self, inputs: int, outputs: int, stride: int, stride_in_1x1: bool) -> None:
        super().__init__()
        width = outputs // 4
        stride1, stride3 = (stride, 1) if stride_in_1x1 else (1, stride)
        self.conv1 = ConvNorm(inputs, width, 1, stride1, FrozenBatchNorm(width))
        self.conv2 = ConvNorm(width, width, 3, stride3, FrozenBatchNorm(width))
        self.conv3 = ConvNorm(width, outputs, 1, 1, FrozenBatchNorm(outputs))
        self.shortcut = _shortcut(inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(self.conv1(x, relu=True), relu=True)
        beside = x if self.shortcut is None else self.shortcut(x)
        return self.conv3(y, plus=beside, relu=True)  # type: ignore[no-any-return]


def _shortcut(inputs: int, outputs: int, stride: int) -> ConvNorm | None:
    if inputs == outputs and stride == 1:
        return None
    return ConvNorm(inputs, outputs, 1, stride, FrozenBatchNorm(outputs))


class Stem(nn.Module):
    """7x7 convolution of stride 2, then 3x3 max-pooling of stride 2: stride 4 in all."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = ConvNorm(3, 64, 7, 2, FrozenBatchNorm(64))

    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool2d(self.conv1(x, relu=True), kernel_size=3, stride=2, padding=1)


class ResNet(nn.Module):
    """ResNet with frozen batch norms: pyramid at strides 4, 8, 16, 32 (paper Sec. 4.1)."""

    strides = (4, 8, 16, 32)

    def __init__(self, blocks: tuple[int, int, int, int], bottleneck: bool, pixels: PixelNorm) -> None:
        super().__init__()
        self.pixels = pixels
        # Weights for BGR pixels (MSRA) have the stride in the 1x1, those for RGB (torchvision) in the 3x3.
        stride_in_1x1 = pixels.order == "BGR"
        widths = (256, 512, 1024, 2048) if bottleneck else (64, 128, 256, 512)
        self.channels = widths
        self.stem = Stem()
        inputs = 64
        for level, (count, width) in enumerate(zip(blocks, widths, strict=True)):
            stage = nn.Sequential()
            for index in range(count):
                stride = 2 if level > 0 and index == 0 else 1
                block = (
                    Bottleneck(inputs, width, stride, stride_in_1x1)
                    if bottleneck
                    else BasicBlock(inputs, width, stride)
                )
                stage.append(block)
                inputs = width
            self.add_module(f"res{level + 2}", stage)

    def freeze(self, stages: int) -> None:
        """The first ``stages`` of stem, res2, res3, res4, res5 keep their weights from now on."""
        for stage in list(self.children())[:stages]:
            stage.requires_grad_(False)

    def forward(self, frames: Tensor) -> list[Tensor]:
        """Normalised frames (N, 3, H0, W0) to the four maps."""
        x = self.stem(frames)
        pyramid = []
        for level in (2, 3, 4, 5):
            x = self.get_submodule(f"res{level}")(x)
            pyramid.append(x)
        return pyramid


class TinyBlock(nn.Module):
    """A strided convolution, then residual pairs; group norms, because it trains from nothing.

    The output is normalised and not rectified: positive maps would give all tokens a large common part, and
    a transformer that trains for minutes does not learn to look past it.
    """

    def __init__(self, inputs: int, outputs: int, pairs: int) -> None:
        super().__init__()
        self.down = ConvNorm(inputs, outputs, 3, 2, nn.GroupNorm(8, outputs))
        self.pairs = nn.ModuleList(
            nn.ModuleList(ConvNorm(outputs, outputs, 3, 1, nn.GroupNorm(8, outputs)) for _ in range(2))
            for _ in range(pairs)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.down(x)
        for pair in self.pairs:
            y = x
            for conv in pair:  # type: ignore[attr-defined]  # a ModuleList of ModuleLists
                y = conv(F.relu(y))
            x = x + y
        return x


class TinyBackbone(nn.Module):
    """For CPU and small frames: pyramid at strides 2, 4, 8, 16, so that a 64x96 frame keeps 4x6 tokens.

    ``pairs`` residual pairs stand in each level but the first: depth is what R50 and R101 differ in.
    """

    strides = (2, 4, 8, 16)
    channels = (16, 32, 64, 96)
    pixels = IMAGENET_RGB

    def __init__(self, pairs: int) -> None:
        super().__init__()
        inputs = (3, *self.channels[:-1])
        self.levels = nn.ModuleList(
            TinyBlock(i, o, pairs if level > 0 else 0)
            for level, (i, o) in enumerate(zip(inputs, self.channels, strict=True))
        )

    def forward(self, frames: Tensor) -> list[Tensor]:
        """Normalised frames (N, 3, H0, W0) to the four maps."""
        pyramid: list[Tensor] = []
        x = frames
        for level in self.levels:
            x = level(F.relu(x) if pyramid else x)
            pyramid.append(x)
        return pyramid


RESNETS: dict[str, tuple[tuple[int, int, int, int], bool, PixelNorm]] = {
    "resnet18": ((2, 2, 2, 2), False, IMAGENET_RGB),
    "resnet50": ((3, 4, 6, 3), True, IMAGENET_RGB),
    "resnet50_bgr": ((3, 4, 6, 3), True, IMAGENET_BGR),
    "resnet101": ((3, 4, 23, 3), True, IMAGENET_BGR),
    "resnet101_rgb": ((3, 4, 23, 3), True, IMAGENET_RGB),
}
"""Blocks of each stage, whether they are bottlenecks, and pixels. Without a suffix: as published."""


def build_backbone(name: str) -> ResNet | TinyBackbone:
    """The backbone called ``name``; all have ``pixels``, ``channels``, ``strides``."""
    if name == "tiny":
        return TinyBackbone(pairs=1)
    if name == "tiny_deep":
        return TinyBackbone(pairs=3)
    if name not in RESNETS:
        raise ValueError(f"no backbone called {name!r}")
    return ResNet(*RESNETS[name])
