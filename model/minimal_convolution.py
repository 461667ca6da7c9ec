"""3x3 convolutions of stride 1, and their gradients, by 4 products a pixel and pair of channels, not 9.

Winograd's F(2x2, 3x3) (Lavin and Gray, arXiv:1509.09308): two neighbouring outputs of a row are sums of four
products instead of six, and so are those of a column. The sums are shorter than the plain ones, and so is
their rounding error.

Shapes
    N, I, O   images, input and output channels
    H, W      the map, as large before as after
    P         its squares of 2x2 outputs, of all images
"""

from __future__ import annotations

import torch
from torch import Tensor

MINIMAL_CHANNELS = 256
"""Input and output channels from which fewer products are worth the additions that they cost (CPU)"""
KERNEL = ((1.0, 0.0, 0.0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0.0, 0.0, 1.0))


def kernel_factors(weight: Tensor) -> Tensor:
    """Weights (O, I, 3, 3) to what inputs are multiplied with (16, I, O)."""
    taps = weight.new_tensor(KERNEL)
    return torch.einsum("ar,bs,oirs->abio", taps, taps, weight).flatten(0, 1).contiguous()


def input_factors(x: Tensor) -> Tensor:
    """x (N, I, H, W) to what the kernel's factors are multiplied with (16, P, I)."""
    images, inputs, height, width = x.shape
    down, across = (height + 1) // 2, (width + 1) // 2
    padded = x.new_zeros(images, 2 * down + 2, 2 * across + 2, inputs)
    padded[:, 1 : height + 1, 1 : width + 1] = x.permute(0, 2, 3, 1)
    rows = x.new_empty(4, images, down, 2 * across + 2, inputs)
    _four_of_overlapping(padded, 1, rows)
    factors = x.new_empty(4, 4, images, down, across, inputs)
    _four_of_overlapping(rows, 3, factors.transpose(0, 1))
    return factors.view(16, -1, inputs)


def outputs_of(products: Tensor, size: tuple[int, int, int], bias: Tensor | None) -> Tensor:
    """Products (16, P, O) to the outputs (N, O, H, W), of ``size`` (N, H, W), with a bias (O,)."""
    images, height, width = size
    down, across, outputs = (height + 1) // 2, (width + 1) // 2, products.shape[-1]
    products = products.view(4, 4, images, down, across, outputs)
    halves = products.new_empty(2, *products.shape[1:])
    _two_of(products, halves)
    if bias is not None:
        halves[:, 1] += bias  # which is once in each output
    out = products.new_empty(images, 2 * down, 2 * across, outputs)
    by_parity = out.view(images, down, 2, across, 2, outputs).permute(4, 2, 0, 1, 3, 5)
    _two_of(halves.transpose(0, 1), by_parity)
    return out[:, :height, :width].permute(0, 3, 1, 2)


def gradient_factors(gradient: Tensor) -> Tensor:
    """The gradient (N, O, H, W) of the outputs to that of the products (16, P, O)."""
    images, outputs, height, width = gradient.shape
    down, across = (height + 1) // 2, (width + 1) // 2
    even = gradient.permute(0, 2, 3, 1)
    if height % 2 or width % 2:
        padded = gradient.new_zeros(images, 2 * down, 2 * across, outputs)
        padded[:, :height, :width] = even
        even = padded
    rows = gradient.new_empty(4, images, down, 2 * across, outputs)
    _four_of_two(even, 1, rows)
    factors = gradient.new_empty(4, 4, images, down, across, outputs)
    _four_of_two(rows, 3, factors.transpose(0, 1))
    return factors.view(16, -1, outputs)


def kernel_gradient(products: Tensor) -> Tensor:
    """The gradient (16, I, O) of the kernel's factors to that of the weights (O, I, 3, 3)."""
    taps = products.new_tensor(KERNEL)
    return torch.einsum("ar,bs,abio->oirs", taps, taps, products.unflatten(0, (4, 4)))


def _four_of_overlapping(x: Tensor, dim: int, out: Tensor) -> None:
    """Lines 2i..2i+3 of x to the four factors (4, ...) of the two outputs i."""
    count = out.shape[1:][dim]
    first, second, third, fourth = (_every_second(x, dim, start, count) for start in range(4))
    torch.sub(first, third, out=out[0])
    torch.add(second, third, out=out[1])
    torch.sub(third, second, out=out[2])
    torch.sub(second, fourth, out=out[3])


def _two_of(products: Tensor, out: Tensor) -> None:
    """Four products (4, ...) to the two outputs (2, ...) that they make."""
    torch.add(products[0], products[1], out=out[0]).add_(products[2])
    torch.sub(products[1], products[2], out=out[1]).sub_(products[3])


def _four_of_two(x: Tensor, dim: int, out: Tensor) -> None:
    """The gradients of outputs 2i and 2i+1 to those of their four products (4, ...)."""
    count = out.shape[1:][dim]
    first, second = (_every_second(x, dim, start, count) for start in range(2))
    out[0].copy_(first)
    torch.add(first, second, out=out[1])
    torch.sub(first, second, out=out[2])
    torch.neg(second, out=out[3])


def _every_second(x: Tensor, dim: int, start: int, count: int) -> Tensor:
    """Lines start, start + 2, ... of x: so many."""
    places = [slice(None)] * x.ndim
    places[dim] = slice(start, start + 2 * count - 1, 2)
    return x[tuple(places)]
