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
from torch.nn.grad import conv2d_input

SMALLEST = 50_000_000
"""Multiply-adds of an image's output below which the library's own gradient is as fast"""
COLUMNS = 2**23
"""Numbers that the columns of some images may have: one matrix product takes them, and caches keep them"""


class Convolution(nn.Conv2d):
    """``torch.nn.Conv2d`` for odd square kernels, padded to keep the size (but for the stride)."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, bias: bool = True) -> None:
        super().__init__(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return convolve(x, self.weight, self.bias, self.stride[0])


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int) -> Tensor:
    """x (N, I, H, W), weight (O, I, k, k) and bias (O,) to (N, O, h, w), as ``torch.nn.functional.conv2d``.

    On CPUs the gradient of large weights is made by matrix products: the same sums in another order, and so
    equal to torch's up to rounding.
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
    """Forward, and backward to the input, as torch does them; only the weights' gradient is ours."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, stride: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride = stride
        return F.conv2d(x, weight, bias, stride, weight.shape[-1] // 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        kernel = weight.shape[-1]
        needs_x, needs_weight, needs_bias, _ = ctx.needs_input_grad
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        of_x = None
        if needs_x:
            of_x = conv2d_input(x.shape, weight, gradient, ctx.stride, kernel // 2)
        of_weight = weight_gradient(x, gradient, kernel, ctx.stride) if needs_weight else None
        return of_x, of_weight, gradient.sum((0, 2, 3)) if needs_bias else None, None


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
