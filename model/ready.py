"""A clip model made ready to segment videos: the same function, other operations.

Exact (to rounding) are: frozen norms folded into convolutions, convolutions of fewer products, and a spatial
decoder that computes once what the windows of a frame share. Lower precision and compilation are asked for,
and change outputs.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from model.backbone import ConvNorm, FrozenBatchNorm
from model.clip_model import ClipModel, Detections, FrameFeatures
from model.config import ModelConfig
from model.convolution import Convolution
from model.fixed_convolution import Convolutions, fixed_convolution
from model.shared_spatial_decoder import SharedSpatialDecoder
from model.side_by_side import Item, Result, SideBySide

FRAMES_AT_ONCE = {"cpu": 1}
OTHERWISE_AT_ONCE = 5
"""Frames that go through the backbone together, by kind of device (docs/performance.md)"""
WINDOWS_WORTH_SHARING = 3.0
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
    convolutions: Convolutions = "packed"
    """At most so special ones; of other kinds than ``library`` only on CPUs, in float32, not compiled"""
    side_by_side: bool = True
    """Frames, and windows, on threads of their own; only on CPUs, not compiled. Takes more memory"""


PLAIN = Execution()


class ReadyModel:
    """A copy of a model, in evaluation mode, for :class:`model.inference.VideoStream`."""

    def __init__(self, model: ClipModel, execution: Execution = PLAIN) -> None:
        self.device = next(model.parameters()).device
        plain = execution.precision == "float32" and not (execution.compiled or execution.cuda_graphs)
        kind = execution.convolutions if plain and self.device.type == "cpu" else "library"
        with torch.inference_mode():
            self._model = copy.deepcopy(model).eval().requires_grad_(False)
            self._shared = SharedSpatialDecoder(self._model.spatial_decoder)
            for part in (self._model, self._shared):
                fix_convolutions(part, kind)
        self.config: ModelConfig = model.config
        self.frames_at_once = FRAMES_AT_ONCE.get(self.device.type, OTHERWISE_AT_ONCE)
        self.one_by_one = self.device.type == "cpu"
        """The spatial decoder sees a frame of a window at a time: its maps stay in caches"""
        self._execution = execution
        compiled = execution.compiled or execution.cuda_graphs
        together = execution.side_by_side and self.device.type == "cpu" and not compiled
        self._side_by_side = SideBySide() if together else None
        if compiled:
            self._compile("reduce-overhead" if execution.cuda_graphs else "default")

    def modules(self) -> Iterator[nn.Module]:
        """All that may run."""
        yield from self._model.modules()
        yield from self._shared.modules()

    @property
    def frames_together(self) -> int:
        """Frames that are best given together where nobody waits for the first of them."""
        return self.frames_at_once * (self._side_by_side.workers if self._side_by_side else 1)

    def each(self, work: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
        """Work of this model on items that need nothing of each other: side by side on a CPU."""
        if self._side_by_side is None:
            return [work(item) for item in items]
        return self._side_by_side.map(work, items)

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
        parts = (
            [each for x in parts for each in x.frames()] if self.one_by_one else [FrameFeatures.joined(parts)]
        )
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


def fix_convolutions(model: nn.Module, kind: Convolutions) -> None:
    """Replace convolutions, and frozen norms behind them, by one operation each with fixed weights."""
    for module in list(model.modules()):
        for name, conv in list(module.named_children()):
            if isinstance(conv, ConvNorm) and isinstance(conv.norm, FrozenBatchNorm):
                weight, bias = conv.folded(conv.norm)
            elif isinstance(conv, Convolution) and conv.bias is not None:
                weight, bias = conv.weight, conv.bias
            else:
                continue
            setattr(module, name, fixed_convolution(weight, bias, conv.stride[0], kind))


def ready(model: ClipModel | ReadyModel) -> ReadyModel:
    """The model itself if it is ready."""
    return model if isinstance(model, ReadyModel) else ReadyModel(model)
