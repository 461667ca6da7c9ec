"""The clip model, top to bottom: frames in, instances out (paper Fig. 1).

Shapes
    B, T     clips, frames of a clip
    H0, W0   input size in pixels; H, W the token grid at the coarsest stride; h, w the mask grid
    C, Q, K  width, object queries, classes
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from model.backbone import build_backbone
from model.box_head import BoxHead
from model.communication import build_encoder
from model.config import ModelConfig
from model.decoder import MLP, QueryDecoder
from model.mask_head import SpatialDecoder, dynamic_masks
from model.positions import sine_positions


class FrameFeatures(NamedTuple):
    """All that is computed frame by frame, before frames communicate: once a frame of a video."""

    tokens: Tensor
    """(B, T, C, H, W), the projected coarsest map"""
    adapted16: Tensor
    """(B, T, C, H', W'), third pyramid level through its adapter"""
    adapted8: Tensor
    """(B, T, C, h, w), second pyramid level through its adapter"""

    def window(self, start: int, stop: int) -> FrameFeatures:
        """The features of frames start..stop-1."""
        return FrameFeatures(*(x[:, start:stop] for x in self))


class ClipModel(nn.Module):
    """Backbone, communication, query decoder, heads."""

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        width = config.hidden_dim
        self.backbone = build_backbone(config.backbone)
        self.projection = nn.Conv2d(self.backbone.channels[3], width, 1)
        self.encoder = build_encoder(config)
        self.decoder = QueryDecoder(config)
        self.class_head = MLP(width, config.num_classes + 1, layers=2)
        self.mask_weight_head = MLP(width, width, layers=config.mask_weight_layers)
        self.spatial_decoder = SpatialDecoder(width, self.backbone.channels)
        # The last part that draws: a model without it is the one it was before this part existed.
        self.box_head: BoxHead | None = BoxHead(config) if config.box_head else None
        mean, std = (torch.tensor(x).view(3, 1, 1) for x in self.backbone.pixels[1:])
        self.register_buffer("pixel_mean", mean, persistent=False)
        self.register_buffer("pixel_std", std, persistent=False)

    def forward(self, frames: Tensor, padding: Tensor | None = None) -> dict[str, Any]:
        """Instances of each clip.

        Args:
            frames: (B, T, 3, H0, W0) RGB in 0..255, uint8 or float.
            padding: (B, H0, W0) bool, True outside the picture, for clips of unequal sizes in a batch.

        Returns:
            ``pred_logits`` (B, Q, K+1), the last class meaning "no object"; ``pred_masks``
            (B, Q, T, h, w) logits; with a box head ``pred_boxes`` (B, Q, T, 4), cx, cy, w, h as shares of
            the picture without padding; ``aux_outputs``, a list of such dicts for the earlier decoder layers.
        """
        if frames.ndim != 5 or frames.shape[2] != 3:
            raise ValueError(f"frames must be (B, T, 3, H0, W0), got {tuple(frames.shape)}")
        return self.clip(self.frame_features(frames, padding), padding)

    def frame_features(self, frames: Tensor, padding: Tensor | None = None) -> FrameFeatures:
        """frames (B, T, 3, H0, W0) and padding (B, H0, W0) to features that know one frame each."""
        batch = frames.shape[0]
        pixels = frames.float() if self.backbone.pixels.order == "RGB" else frames.float().flip(2)
        x = (pixels - self.pixel_mean) / self.pixel_std
        if padding is not None:
            x = x.masked_fill(padding[:, None, None], 0.0)
        _, level8, level16, level32 = self.backbone(x.flatten(0, 1))
        maps = (
            self.projection(level32),
            self.spatial_decoder.adapter16(level16),
            self.spatial_decoder.adapter8(level8),
        )
        return FrameFeatures(*(m.unflatten(0, (batch, -1)) for m in maps))

    def clip(
        self, features: FrameFeatures, padding: Tensor | None = None, every_layer: bool = True
    ) -> dict[str, Any]:
        """Frame features of clips to instances; shapes as in :meth:`forward`.

        Inference needs the last decoder layer only: with ``every_layer`` False ``aux_outputs`` is empty,
        and there are no boxes, which only training looks at.
        """
        batch, frames, _, height, width = features.tokens.shape
        grid = features.tokens.new_zeros((batch, height, width), dtype=torch.bool)
        if padding is not None:
            # A cell belongs to the picture when its first pixel does: ceil(size / stride) cells, as alone.
            stride = self.backbone.strides[3]
            grid = padding[:, ::stride, ::stride]
        positions = sine_positions(grid, self.config.hidden_dim).flatten(1, 2).to(features.tokens.dtype)
        key_padding = None if padding is None else grid.flatten(1)

        tokens = features.tokens.flatten(3).transpose(2, 3)
        encoded = self.encoder(tokens, positions, key_padding)
        outputs = self.decoder(encoded, positions, key_padding)

        frame_maps = encoded.frames.transpose(2, 3).reshape(batch * frames, -1, height, width)
        mask_features = self.spatial_decoder(
            frame_maps, features.adapted16.flatten(0, 1), features.adapted8.flatten(0, 1)
        ).unflatten(0, (batch, frames))
        predictions = [
            {
                "pred_logits": self.class_head(x),
                "pred_masks": dynamic_masks(mask_features, self.mask_weight_head(x)),
            }
            for x in (outputs if every_layer else outputs[-1:])
        ]
        if self.box_head is not None and every_layer:
            for prediction, x in zip(predictions, outputs, strict=True):
                prediction["pred_boxes"] = self.box_head(x, encoded.frames, positions, key_padding)
        return {**predictions[-1], "aux_outputs": predictions[:-1]}
