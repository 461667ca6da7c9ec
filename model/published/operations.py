"""A clip model that computes as the published implementation does.

Shapes as in ``model/clip_model.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.attention import Attention
from model.backbone import ConvNorm, FrozenBatchNorm
from model.clip_model import ClipModel
from model.convolution import Convolution, finished
from model.positions import sine_positions


class ExplicitAttention(nn.Module):
    """Attention as ``torch.nn.MultiheadAttention`` has it by default: weights written out, and averaged."""

    def __init__(self, own: Attention) -> None:
        super().__init__()
        self.heads, self.dropout = own.heads, own.dropout
        self.in_proj_weight, self.in_proj_bias = own.in_proj_weight, own.in_proj_bias
        self.out_proj = own.out_proj

    def forward(self, query: Tensor, key: Tensor, value: Tensor, padding: Tensor | None = None) -> Tensor:
        """query (B, N, C), key and value (B, S, C), padding (B, S) to (B, N, C)."""
        attended, _ = F.multi_head_attention_forward(
            query.transpose(0, 1),
            key.transpose(0, 1),
            value.transpose(0, 1),
            embed_dim_to_check=query.shape[-1],
            num_heads=self.heads,
            in_proj_weight=self.in_proj_weight,
            in_proj_bias=self.in_proj_bias,
            bias_k=None,
            bias_v=None,
            add_zero_attn=False,
            dropout_p=self.dropout,
            out_proj_weight=self.out_proj.weight,
            out_proj_bias=self.out_proj.bias,
            training=self.training,
            key_padding_mask=padding,
            need_weights=True,
        )
        return attended.transpose(0, 1)


class NormAfterConv(nn.Module):
    """A convolution, then its frozen norm; one fused operation where no gradient is needed, else two."""

    def __init__(self, own: ConvNorm, norm: FrozenBatchNorm) -> None:
        super().__init__()
        self.stride, self.padding = own.stride, own.padding
        self.weight, self.norm = own.weight, norm

    def forward(self, x: Tensor, plus: Tensor | None = None, relu: bool = False) -> Tensor:
        """As :meth:`model.backbone.ConvNorm.forward`."""
        y = F.conv2d(x, self.weight, None, self.stride, self.padding)
        return finished(self._normalised(y), plus, relu)

    def _normalised(self, y: Tensor) -> Tensor:
        if y.requires_grad:
            return self.norm(y)  # type: ignore[no-any-return]
        norm = self.norm
        return F.batch_norm(y, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)


class PublishedClipModel(ClipModel):
    """The same function as the model it is made from, by the published operations."""

    def forward(self, frames: Tensor, padding: Tensor | None = None) -> dict[str, Any]:
        """As :meth:`model.clip_model.ClipModel.forward`."""
        batch = len(frames)
        if padding is None:
            padding = frames.new_zeros((batch, *frames.shape[-2:]), dtype=torch.bool)
        return self.window(self.pyramid(frames.flatten(0, 1), padding), padding, batch)

    def pyramid(self, frames: Tensor, padding: Tensor) -> list[Tensor]:
        """All frames (N, 3, H0, W0) at once, channels first, to the backbone's upper three maps."""
        pixels = frames.float() if self.backbone.pixels.order == "RGB" else frames.float().flip(1)
        x = (pixels - self.pixel_mean) / self.pixel_std
        x = x.masked_fill(padding.repeat_interleave(len(frames) // len(padding), dim=0)[:, None], 0.0)
        return list(self.backbone(x.contiguous()))[1:]

    def window(
        self, pyramid: Sequence[Tensor], padding: Tensor, batch: int, every_layer: bool = True
    ) -> dict[str, Any]:
        """Everything behind the backbone, from the maps of the window's own frames (B * T, ...)."""
        level8, level16, level32 = pyramid
        projected = self.projection(level32)
        stride = self.backbone.strides[3]
        outside = padding[:, ::stride, ::stride]
        positions = sine_positions(outside, self.config.hidden_dim).flatten(1, 2)
        tokens = projected.flatten(2).transpose(1, 2).unflatten(0, (batch, -1))
        # A padding mask goes everywhere, though nothing is padded in a video.
        encoded = self.encoder(tokens, positions, outside.flatten(1))
        outputs = self.decoder(encoded, positions, outside.flatten(1))

        maps = encoded.frames.flatten(0, 1).transpose(1, 2).reshape(projected.shape)
        decoder = self.spatial_decoder
        features = decoder(maps, decoder.adapter16(level16), decoder.adapter8(level8))
        used = outputs if every_layer else outputs[-1:]
        weights = torch.stack([self.mask_weight_head(x) for x in used], dim=1)
        masks = _masks_by_convolution(features, weights)
        predictions: list[dict[str, Tensor]] = [
            {"pred_logits": self.class_head(x), "pred_masks": mask}
            for x, mask in zip(used, masks, strict=True)
        ]
        return {**predictions[-1], "aux_outputs": predictions[:-1]}


def _masks_by_convolution(features: Tensor, weights: Tensor) -> Tensor:
    """features (B * T, C, h, w), weights (B, layers, Q, C) to (layers, B, Q, T, h, w), in one convolution."""
    groups, width, height, columns = features.shape
    batch, layers, queries, _ = weights.shape
    kernels = weights[:, None].repeat(1, groups // batch, 1, 1, 1).reshape(-1, width, 1, 1)
    masks = F.conv2d(features.reshape(1, groups * width, height, columns), kernels, groups=groups)
    return masks.view(batch, -1, layers, queries, height, columns).permute(2, 0, 3, 1, 4, 5)


def published_operations(model: ClipModel) -> PublishedClipModel:
    """A copy of the model, in its mode and on its device, that computes as published.

    Raises ValueError for a model with a box head, which the published implementation does not have.
    """
    if model.box_head is not None:
        raise ValueError("the published implementation has no box head")
    published = PublishedClipModel(model.config)
    published.load_state_dict(model.state_dict())
    for module in list(published.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, Attention):
                setattr(module, name, ExplicitAttention(child))
            elif isinstance(child, ConvNorm) and isinstance(child.norm, FrozenBatchNorm):
                setattr(module, name, NormAfterConv(child, child.norm))
            elif isinstance(child, Convolution):
                child.__class__ = nn.Conv2d  # type: ignore[assignment]  # torch's own gradients
    for own, copied in zip(model.parameters(), published.parameters(), strict=True):
        copied.requires_grad_(own.requires_grad)
    return published.to(next(model.parameters()).device).train(model.training)
