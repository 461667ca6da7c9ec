"""The clip model, top to bottom: frames in, instances out (paper Fig. 1).

Shapes
    B, T     clips, frames of a clip
    H0, W0   input size in pixels; H, W the token grid at the coarsest stride; h, w the mask grid
    C, Q, K  width, object queries, classes
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from model.backbone import build_backbone
from model.box_head import BoxHead
from model.communication import Alone, Encoded, build_encoder
from model.config import ModelConfig
from model.convolution import Convolution
from model.decoder import MLP, QueryDecoder
from model.mask_head import SpatialDecoder, dynamic_masks
from model.positions import sine_positions


@dataclass(frozen=True)
class FrameFeatures:
    """All that is computed frame by frame, before frames communicate: once a frame of a video."""

    alone: Alone
    """The encoder's own: tokens and memory"""
    maps: tuple[Tensor, ...]
    """Of the spatial decoder what it makes of the third pyramid level (B, T, C, H', W') and the second
    (B, T, C, h, w). Where frames never communicate its result, the mask features (B, T, C, h, w)."""
    positions: Tensor
    """(B, N, C), the same on all frames of a clip"""
    padding: Tensor | None
    """(B, N), True outside the picture"""
    grid: tuple[int, int]
    """(H, W), N = H * W"""
    spatial_decoder: SpatialDecoder | None
    """What ``maps`` were made for; None where they are its result"""

    def part(self, start: int, stop: int) -> FrameFeatures:
        """The features of frames start..stop-1."""
        if (start, stop) == (0, self.alone.frames.shape[1]):
            return self
        alone = Alone(*(x[:, start:stop] for x in self.alone))
        return replace(self, alone=alone, maps=tuple(x[:, start:stop] for x in self.maps))

    def frames(self) -> list[FrameFeatures]:
        """Those of each frame by itself."""
        return [self.part(place, place + 1) for place in range(self.alone.frames.shape[1])]

    @staticmethod
    def joined(parts: Sequence[FrameFeatures]) -> FrameFeatures:
        """The features of clips that follow each other, as one."""
        if len(parts) == 1:
            return parts[0]
        maps = tuple(torch.cat(x, dim=1) for x in zip(*(part.maps for part in parts), strict=True))
        return replace(parts[0], alone=joined_frames(parts), maps=maps)


def joined_frames(parts: Sequence[FrameFeatures]) -> Alone:
    """The encoder's own features of frames that follow each other."""
    frames, memory = (torch.cat(x, dim=1) for x in zip(*(part.alone for part in parts), strict=True))
    return Alone(frames, memory)


class Detections(NamedTuple):
    """The queries of a clip that found something."""

    class_probs: Tensor
    """(N, K+1)"""
    mask_logits: Tensor
    """(N, T, h, w)"""
    finite: Tensor
    """Whether all of the clip's outputs are numbers"""


class ClipModel(nn.Module):
    """Backbone, communication, query decoder, heads."""

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        width = config.hidden_dim
        self.backbone = build_backbone(config.backbone)
        self.projection = Convolution(self.backbone.channels[3], width, 1)
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
        return self.clip(self.frame_features(frames, padding))

    def frame_features(
        self,
        frames: Tensor,
        padding: Tensor | None = None,
        spatial_decoder: SpatialDecoder | None = None,
    ) -> FrameFeatures:
        """frames (B, T, 3, H0, W0) and padding (B, H0, W0) to features that know one frame each.

        ``spatial_decoder`` is one that stands in for the model's own.
        """
        batch = frames.shape[0]
        pixels = frames.float() if self.backbone.pixels.order == "RGB" else frames.float().flip(2)
        x = (pixels - self.pixel_mean) / self.pixel_std
        if padding is not None:
            x = x.masked_fill(padding[:, None, None], 0.0)
        _, level8, level16, level32 = self.backbone(_ordered(x.flatten(0, 1)))
        projected = self.projection(level32).unflatten(0, (batch, -1))

        grid = (projected.shape[-2], projected.shape[-1])
        outside = projected.new_zeros((batch, *grid), dtype=torch.bool)
        if padding is not None:
            # A cell belongs to the picture when its first pixel does: ceil(size / stride) cells, as alone.
            stride = self.backbone.strides[3]
            outside = padding[:, ::stride, ::stride]
        positions = sine_positions(outside, self.config.hidden_dim).flatten(1, 2).to(projected.dtype)
        key_padding = None if padding is None else outside.flatten(1)

        alone = self.encoder.alone(projected.flatten(3).transpose(2, 3), positions, key_padding)
        decoder = spatial_decoder or self.spatial_decoder
        maps = decoder.lateral(level16, level8)
        if not self.encoder.communicates:
            maps = (decoder(_as_map(alone.frames, grid), *maps),)
        maps = tuple(x.unflatten(0, (batch, -1)) for x in maps)
        unfinished = decoder if self.encoder.communicates else None
        return FrameFeatures(alone, maps, positions, key_padding, grid, unfinished)

    def clip(self, features: FrameFeatures) -> dict[str, Any]:
        """Frame features of clips to the instances of every decoder layer; shapes as in :meth:`forward`."""
        encoded, outputs = self._decoded(features)
        mask_features = _mask_features(encoded.frames, features)
        predictions = [
            {
                "pred_logits": self.class_head(x),
                "pred_masks": dynamic_masks(mask_features, self.mask_weight_head(x)),
            }
            for x in outputs
        ]
        if self.box_head is not None:
            for prediction, x in zip(predictions, outputs, strict=True):
                prediction["pred_boxes"] = self.box_head(
                    x, encoded.frames, features.positions, features.padding
                )
        return {**predictions[-1], "aux_outputs": predictions[:-1]}

    def detect(self, parts: Sequence[FrameFeatures]) -> Detections:
        """The features of one clip, in parts that follow each other, to what its last decoder layer found.

        A query is kept when its best class is not "no object"; no other one gets masks. The spatial decoder
        sees a part at a time: it needs the most memory, and knows nothing of time.
        """
        encoded, outputs = self._decoded(replace(parts[0], alone=joined_frames(parts), maps=()))
        probabilities = self.class_head(outputs[-1][0]).softmax(-1)
        kept = probabilities.argmax(-1) != self.config.num_classes
        weights = self.mask_weight_head(outputs[-1][:, kept])
        lengths = [part.alone.frames.shape[1] for part in parts]
        masks = [
            dynamic_masks(_mask_features(own, part), weights)[0]
            for own, part in zip(encoded.frames.split(lengths, dim=1), parts, strict=True)
        ]
        logits = torch.cat(masks, dim=1)
        finite = probabilities.isfinite().all() & logits.isfinite().all()
        return Detections(probabilities[kept], logits, finite)

    def _decoded(self, features: FrameFeatures) -> tuple[Encoded, list[Tensor]]:
        """What the encoder makes of clips, and the output (B, Q, C) of each decoder layer."""
        encoded = self.encoder.together(features.alone, features.positions, features.padding)
        return encoded, self.decoder(encoded, features.positions, features.padding)


def _mask_features(encoded: Tensor, features: FrameFeatures) -> Tensor:
    """Encoded frames (B, T, N, C) and what else their features hold to mask features (B, T, C, h, w)."""
    if features.spatial_decoder is None:
        return features.maps[0]
    maps = (x.flatten(0, 1) for x in features.maps)
    x: Tensor = features.spatial_decoder(_as_map(encoded, features.grid), *maps)
    return x.unflatten(0, encoded.shape[:2])  # type: ignore[no-any-return]


def _as_map(tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    """Tokens (B, T, N, C) as maps (B * T, C, H, W)."""
    return tokens.flatten(0, 1).transpose(1, 2).unflatten(2, grid)  # type: ignore[no-any-return]


def _ordered(frames: Tensor) -> Tensor:
    """Frames (N, 3, H0, W0) in the order of memory that convolutions are fastest in."""
    # Measured on CPUs (docs/performance.md); float32 convolutions of CUDA prefer what they are given.
    return frames.contiguous(memory_format=torch.channels_last) if frames.device.type == "cpu" else frames
