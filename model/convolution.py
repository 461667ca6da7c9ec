"""2-D convolution whose gradients are fast on CPUs.

Shapes
    N, I, O       images, input and output channels
    H, W, h, w    input and output size
    k, s          kernel (odd, padded by k // 2) and stride
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from model.minimal_convolution import (
    MINIMAL_CHANNELS,
    gradient_factors,
    input_factors,
    kernel_factors,
    kernel_gradient,
    outputs_of,
)

SMALLEST = 50_000_000
"""Multiply-adds of an image's output below which the library's own gradient is as fast"""
MINIMAL_GRADIENT_CHANNELS = 128
"""As ``MINIMAL_CHANNELS``, for gradients"""
COLUMNS, FACTORS = 2**23, 2**21
"""Numbers that the columns or factors of some images may have: one matrix product takes them"""


class Convolution(nn.Conv2d):
    """``torch.nn.Conv2d`` for odd square kernels, padded to keep the size (but for the stride)."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, bias: bool = True) -> None:
        super().__init__(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return convolve(x, self.weight, self.bias, self.stride[0])


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int) -> Tensor:
    """x (N, I, H, W), weight (O, I, k, k) and bias (O,) to (N, O, h, w), as ``torch.nn.functional.conv2d``.

    On CPUs large ones that are trained are made by matrix products, and so are their gradients: the same sums
    in another order, and equal to torch's up to rounding.
    """
    if x.device.type == "cpu" and torch.is_grad_enabled() and weight.requires_grad:
        scale = weight.numel() * x.shape[-2] * x.shape[-1] // stride**2
        if scale >= SMALLEST and x.dtype in (torch.float32, torch.float64):
            return _ByProducts.apply(x, weight, bias, stride)  # type: ignore[no-any-return, no-untyped-call]
    return F.conv2d(x, weight, bias, stride, weight.shape[-1] // 2)


def finished(x: Tensor, plus: Tensor | None, relu: bool) -> Tensor:
    """What follows a convolution, written over its result, which no gradient needs."""
    if plus is not None:
        x += plus
    return x.relu_() if relu else x


class _ByProducts(torch.autograd.Function):
    """A convolution and its gradients, each by the fastest way known."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, stride: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride = stride
        if _is_minimal(weight, stride, MINIMAL_CHANNELS):
            return _minimal(x, weight, bias)
        return F.conv2d(x, weight, bias, stride, weight.shape[-1] // 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        kernel = weight.shape[-1]
        needs_x, needs_weight, needs_bias, _ = ctx.needs_input_grad
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        minimal = _is_minimal(weight, ctx.stride, MINIMAL_GRADIENT_CHANNELS)
        of_x, of_weight = None, None
        if needs_x and minimal:
            of_x = _minimal(gradient, weight.flip(2, 3).transpose(0, 1), None)
        elif needs_x and kernel == 1:
            of_x = _input_gradient(x, weight, gradient, ctx.stride)
        elif needs_x:
            how = ([ctx.stride] * 2, [kernel // 2] * 2, [1, 1], False, [0, 0], 1, [True, False, False])
            of_x = torch.ops.aten.convolution_backward(gradient, x, weight, None, *how)[0]
        if needs_weight and minimal:
            of_weight = _minimal_weight_gradient(x, gradient)
        elif needs_weight:
            of_weight = weight_gradient(x, gradient, kernel, ctx.stride)
        return of_x, of_weight, gradient.sum((0, 2, 3)) if needs_bias else None, None


def _input_gradient(x: Tensor, weight: Tensor, gradient: Tensor, stride: int) -> Tensor:
    """The gradient (N, O, h, w) of a 1x1 convolution to that of its input (N, I, H, W): a 1x1 convolution."""
    seen = F.conv2d(gradient, weight.transpose(0, 1))
    if stride == 1:
        return seen
    found = torch.zeros_like(x)
    found[:, :, ::stride, ::stride] = seen
    return found


def _is_minimal(weight: Tensor, stride: int, channels: int) -> bool:
    return weight.shape[-1] == 3 and stride == 1 and min(weight.shape[:2]) >= channels


def _images_at_once(x: Tensor, channels: int) -> int:
    """So many images' factors (16, P, C) are made at a time."""
    height, width = x.shape[2:]
    return max(1, FACTORS // (16 * ((height + 1) // 2) * ((width + 1) // 2) * channels))


def _minimal(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x (N, I, H, W) to (N, O, H, W) by few products."""
    factors, size = kernel_factors(weight), (x.shape[2], x.shape[3])
    parts = x.split(_images_at_once(x, max(weight.shape[:2])))
    return torch.cat(
        [outputs_of(torch.bmm(input_factors(part), factors), (len(part), *size), bias) for part in parts]
    )


def _minimal_weight_gradient(x: Tensor, gradient: Tensor) -> Tensor:
    """As :func:`weight_gradient` for 3x3 kernels of stride 1, by few products."""
    inputs, outputs = x.shape[1], gradient.shape[1]
    found = x.new_zeros(16, inputs, outputs)
    images = _images_at_once(x, max(inputs, outputs))
    for seen, wanted in zip(x.split(images), gradient.split(images), strict=True):
        found.baddbmm_(input_factors(seen).transpose(1, 2), gradient_factors(wanted))
    return kernel_gradient(found)


def weight_gradient(x: Tensor, gradient: Tensor, kernel: int, stride: int) -> Tensor:
    """x (N, I, H, W) and the gradient (N, O, h, w) of the output to that of the weights (O, I, k, k).

    A row for each place of the output, holding the k * k * I numbers that it is made of, times the gradient:
    one matrix product for some images at a time. Fast where both are channels last.
    """
    inputs, outputs = x.shape[1], gradient.shape[1]
    pixels, wanted = x.permute(0, 2, 3, 1), gradient.permute(0, 2, 3, 1)
    if kernel == 1:
        seen = pixels[:, ::stride, ::stride].reshape(-1, inputs)
        return (wanted.reshape(-1, outputs).T @ seen)[..., None, None]
    margin = kernel // 2
    windows = F.pad(pixels, (0, 0, margin, margin, margin, margin))
    windows = windows.unfold(1, kernel, stride).unfold(2, kernel, stride).permute(0, 1, 2, 4, 5, 3)
    found = x.new_zeros(outputs, kernel * kernel * inputs)
    images = max(1, COLUMNS // max(1, windows[:1].numel()))
    for part, rows in zip(wanted.split(images), windows.split(images), strict=True):
        found.addmm_(part.reshape(-1, outputs).T, rows.reshape(-1, found.shape[1]))
    return found.view(outputs, kernel, kernel, inputs).permute(0, 3, 1, 2).contiguous()
