"""The spatial decoder for frames that several windows see, for inference.

Shapes as in ``model/mask_head.py``.
"""

from __future__ import annotations

from torch import Tensor, nn

from model.fixed_convolution import DoubledConv
from model.mask_head import SpatialDecoder


class SharedSpatialDecoder(SpatialDecoder):
    """The same function for frames that several windows see: what no window changes is computed once.

    A convolution of a sum is the sum of two convolutions: that of the adapted map needs no window, and that
    of a map whose cells were doubled needs a quarter of the products, for rows and columns repeat. Exact but
    for rounding. From how many windows a frame on it pays is in ``model/ready.py``.
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
        x = self.norm2(self.doubled2(x, lateral16.shape[-2:]).add_(lateral16))
        x = self.norm3(self.doubled3(x, lateral8.shape[-2:]).add_(lateral8))
        return self.sharpened(x.relu_())
