"""A clip model made ready to segment videos: the same function, other operations.

Exact (to rounding) are: frozen norms folded into convolutions, and a spatial decoder that computes once what
the windows of a frame share. Lower precision and compilation are asked for, and change outputs.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from model.backbone import fold_norms
from model.clip_model import ClipModel, Detections, FrameFeatures
from model.config import ModelConfig
from model.mask_head import SharedSpatialDecoder

FRAMES_AT_ONCE = {"cpu": 1}
"""Frames that go through the backbone and the spatial decoder together, by kind of device. On a CPU one
frame's maps stay in memory that the process has; larger ones are asked of the system each time, which costs
more than it saves (docs/performance.md)."""
OTHERWISE_AT_ONCE = 5
WINDOWS_WORTH_SHARING = 2.0
"""So many windows must see a frame before the shared spatial decoder pays"""

Precision = Literal["float32", "bfloat16", "float16"]


class Execution(NamedTuple):
    """How the operations of a model are run. The default changes no output but for rounding."""

    precision: Precision = "float32"
    """Others run under autocast: convolutions and matrix products in it, norms and softmax in float32"""
    compiled: bool = False
    """By ``torch.compile``: takes a minute or more before the first frame"""
    cuda_graphs: bool = False
    """Compiled, and replayed as CUDA graphs"""


PLAIN = Execution()


class ReadyModel:
    """A copy of a model, in evaluation mode, for :class:`model.inference.VideoStream`."""

    def __init__(self, model: ClipModel, execution: Execution = PLAIN) -> None:
        with torch.inference_mode():
            self._model = copy.deepcopy(model).eval().requires_grad_(False)
            fold_norms(self._model.backbone)
            self._shared = SharedSpatialDecoder(self._model.spatial_decoder)
        self.device = next(model.parameters()).device
        self.config: ModelConfig = model.config
        self.frames_at_once = FRAMES_AT_ONCE.get(self.device.type, OTHERWISE_AT_ONCE)
        self._execution = execution
        if execution.compiled or execution.cuda_graphs:
            self._compile("reduce-overhead" if execution.cuda_graphs else "default")

    def frame_features(self, frames: Tensor, windows_a_frame: float) -> FrameFeatures:
        """Frames (n, 3, H0, W0) on any device, at most ``frames_at_once``, each to be in so many windows."""
        # Measured on CPUs only.
        shares = self.device.type == "cpu" and windows_a_frame >= WINDOWS_WORTH_SHARING
        decoder = self._shared if shares and self._model.encoder.communicates else None
        count, given = len(frames), frames
        if self._execution.compiled or self._execution.cuda_graphs:
            # One shape for all: another one would be compiled anew.
            given = torch.cat([frames, frames[-1:].expand(self.frames_at_once - count, -1, -1, -1)])
        with self._autocast():
            features = self._model.frame_features(given[None].to(self.device), spatial_decoder=decoder)
        return features.part(0, count)

    def detect(self, parts: Sequence[FrameFeatures]) -> Detections:
        """The frames of one window, in parts that follow each other, to what was found in them; float32."""
        if self.frames_at_once > 1:
            parts = [FrameFeatures.joined(parts)]
        with self._autocast():
            found = self._model.detect(parts)
        return Detections(found.class_probs.float(), found.mask_logits.float(), found.finite)

    def _autocast(self) -> AbstractContextManager[object]:
        if self._execution.precision == "float32":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=getattr(torch, self._execution.precision))

    def _compile(self, mode: str) -> None:
        own = self._model
        for part in (own.backbone, own.projection, own.decoder, own.spatial_decoder, self._shared):
            part.compile(mode=mode, dynamic=False)
        for name in ("alone", "together"):
            setattr(own.encoder, name, torch.compile(getattr(own.encoder, name), mode=mode, dynamic=False))


def ready(model: ClipModel | ReadyModel) -> ReadyModel:
    """The model itself if it is ready."""
    return model if isinstance(model, ReadyModel) else ReadyModel(model)
