"""2-D convolutions whose weights no longer change, for inference. Exact but for rounding.

Shapes
    N, I, O      images, input and output channels
    H, W, h, w   input and output size
    k            kernel (odd, padded by k // 2)
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.convolution import finished
from model.minimal_convolution import MINIMAL_CHANNELS, input_factors, kernel_factors, outputs_of

Convolutions = Literal["library", "minimal", "packed"]
"""The library's own; of fewer products where that pays; and the library's with weights laid out beforehand"""


class FixedConv(nn.Module):
    """A convolution, what is added to it, and a ReLU; weights (O, I, k, k), bias (O,)."""

    weight: Tensor
    bias: Tensor

    def __init__(self, weight: Tensor, bias: Tensor, stride: int) -> None:
        super().__init__()
        self.stride, self.padding = (stride, stride), (weight.shape[-1] // 2,) * 2
        self.register_buffer("weight", weight.detach().contiguous(memory_format=torch.channels_last))
        self.register_buffer("bias", bias.detach())

    def forward(self, x: Tensor, plus: Tensor | None = None, relu: bool = False) -> Tensor:
        """x (N, I, H, W) to (N, O, h, w); ``plus`` has the shape of the result."""
        return finished(F.conv2d(x, self.weight, self.bias, self.stride, self.padding), plus, relu)


class PackedConv(FixedConv):
    """The same on CPUs, weights laid out beforehand as oneDNN wants them, and one pass over the result.

    ``torch.compile`` puts these operators of torch in; they are no public interface, so :func:`can_pack`
    looks whether they are there.
    """

    def __init__(self, weight: Tensor, bias: Tensor, stride: int) -> None:
        super().__init__(weight, bias, stride)
        self._packed: dict[torch.Size, Tensor] = {}

    def forward(self, x: Tensor, plus: Tensor | None = None, relu: bool = False) -> Tensor:
        """See :class:`FixedConv`."""
        how = (self.bias, self.padding, self.stride, (1, 1), 1)
        weight = self._weight_for(x.shape)
        operator: Any = torch.ops.mkldnn._convolution_pointwise
        if plus is None:
            return operator(x, weight, *how, "relu" if relu else "none", [], "")  # type: ignore[no-any-return]
        return operator.binary(  # type: ignore[no-any-return]
            x, plus, weight, *how, "add", 1.0, "relu" if relu else None, [], ""
        )

    def _weight_for(self, shape: torch.Size) -> Tensor:
        """The best layout depends on the number and size of frames: the last two are kept, for a video's
        last frames are fewer."""
        packed = self._packed.get(shape)
        if packed is None:
            reorder: Any = torch._C._nn.mkldnn_reorder_conv2d_weight
            packed = reorder(self.weight.to_mkldnn(), self.padding, self.stride, (1, 1), 1, list(shape))
            # A new dictionary: other threads may be looking into this one.
            self._packed = {**dict(list(self._packed.items())[-1:]), shape: packed}
        return packed


def can_pack() -> bool:
    """Whether this torch has the operators of :class:`PackedConv`."""
    return (
        torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_convolution_pointwise")
        and hasattr(torch._C._nn, "mkldnn_reorder_conv2d_weight")
    )


class MinimalConv(nn.Module):
    """A 3x3 convolution of stride 1 by fewer products; weights (O, I, 3, 3), bias (O,)."""

    factors: Tensor
    bias: Tensor

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.register_buffer("factors", kernel_factors(weight.detach()))
        self.register_buffer("bias", bias.detach())

    def forward(self, x: Tensor, plus: Tensor | None = None, relu: bool = False) -> Tensor:
        """See :class:`FixedConv`."""
        products = torch.bmm(input_factors(x), self.factors)
        return finished(outputs_of(products, (len(x), *x.shape[2:]), self.bias), plus, relu)


class DoubledConv(nn.Module):
    """A 3x3 convolution (no bias, padding 1) of a map that was doubled by its nearest cells.

    A row of the doubled map and its neighbours are at most two different rows of the small one. So each cell
    is multiplied once with each of the nine kernel positions, and the four outputs of a cell are sums of its
    own and its neighbours' products: 9 instead of 36.
    """

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.products = weight.detach().permute(1, 2, 3, 0).flatten(1).contiguous()  # (I, 9 * O)

    def forward(self, x: Tensor, size: torch.Size) -> Tensor:
        """x (N, I, H, W) to (N, O, H', W'), where H is half of H', rounded up, and W half of W'."""
        height, width = size
        products = (x.permute(0, 2, 3, 1) @ self.products).unflatten(-1, (3, 3, -1))
        images, _, across, _, _, outputs = products.shape
        rows = products.new_empty(images, height, across, 3, outputs)
        _neighbours_summed(products.permute(3, 1, 0, 2, 4, 5), rows.transpose(0, 1))
        out = products.new_empty(images, height, width, outputs)
        _neighbours_summed(rows.permute(3, 2, 0, 1, 4), out.permute(2, 0, 1, 3))
        return out.permute(0, 3, 1, 2)  # type: ignore[no-any-return]


def _neighbours_summed(products: Tensor, out: Tensor) -> None:
    """Products (3, n, ...) of each cell with a kernel's three rows to the rows (2n or 2n - 1, ...) of the
    doubled map: an even row sees the cell above and its own cell twice, an odd one its own twice and the one
    below. The last row of an odd size is no double: beyond it there is nothing."""
    above, own, below = products
    even, odd = out[::2], out[1::2]
    even[0] = own[0]
    torch.add(own[1:], above[:-1], out=even[1:])
    even[: len(odd)] += below[: len(odd)]
    torch.add(above[: len(odd)], own[: len(odd)], out=odd)
    odd[: len(own) - 1] += below[1:]


def fixed_convolution(weight: Tensor, bias: Tensor, stride: int, kind: Convolutions) -> nn.Module:
    """The fastest for weights (O, I, k, k) that is at most as special as ``kind``."""
    if kind == "library":
        return FixedConv(weight, bias, stride)
    if weight.shape[-1] == 3 and stride == 1 and min(weight.shape[:2]) >= MINIMAL_CHANNELS:
        return MinimalConv(weight, bias)
    return (PackedConv if kind == "packed" and can_pack() else FixedConv)(weight, bias, stride)
