"""Peak of live tensor bytes, traced with fake tensors: no memory is used and nothing is computed.

The model runs under torch's ``FakeTensorMode``, which knows shapes, strides and lifetimes and holds no
numbers; every storage is counted from the operation that makes it until nobody holds it.

Counted are tensors: weights, frames, activations, gradients, states of the optimizer. Not counted are the
workspaces that kernels take inside an operation, what an allocator keeps for later, the driver's context,
libraries. ``docs/memory.md`` says how far from measured peaks the numbers are.

Attention is traced as the device would run it. Ours asks for ``scaled_dot_product_attention``; on a GPU, in
float32, that is torch's memory-efficient kernel, which writes no scores; on a CPU torch chooses by the call
(fused without dropout, explicit scores with it). The published operations write their scores everywhere.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree
from torch.utils._python_dispatch import TorchDispatchMode

from harness.config import TrainConfig
from harness.train import build_criterion, build_optimizer
from model import build_model
from model.backbone import ResNet
from model.clip_model import ClipModel, FrameFeatures
from model.communication import Alone
from model.config import ModelConfig
from model.fixed_convolution import FixedConv, can_pack
from model.losses import SetCriterion
from model.losses import Target as Targets
from model.matching import Match, mask_scores
from model.ready import FRAMES_AT_ONCE, OTHERWISE_AT_ONCE, Execution, ReadyModel

Target = Literal["cuda", "cpu"]
KEPT_QUERIES = 10
"""Queries of a window that find something, unless the caller knows: masks and tracks are kept of these"""
INSTANCES = 3
"""Annotated instances of a training clip, unless the caller knows"""
BLOCK = {"cuda": 512, "cpu": 1}
"""Bytes that torch's allocators round up to"""


@dataclass(frozen=True)
class Estimate:
    """Bytes of tensors."""

    peak: int
    """The most that are alive at one time"""
    held: int
    """Of those there before the region that is estimated: weights, and states of the optimizer"""

    @property
    def activations(self) -> int:
        """What the region itself adds at its peak."""
        return self.peak - self.held


class _Shapes(FakeTensorMode):
    """Fake tensors that can be copied deeply: the copy belongs to the same mode."""

    def __deepcopy__(self, memo: dict[int, Any]) -> _Shapes:
        return self


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of all storages that operations under it make, for as long as they live.

    A choice by a mask of booleans, whose size only numbers know, takes ``kept`` entries.
    """

    def __init__(self, block: int, kept: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = self.peak = 0
        self._block, self._kept = block, kept
        self._known: dict[int, weakref.ref[torch.UntypedStorage]] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is torch.ops.aten.index.Tensor:
            args = (args[0], [self._chosen(index) for index in args[1]])
        made = func(*args, **(kwargs or {}))
        for leaf in _pytree.tree_leaves(made):
            if isinstance(leaf, Tensor):
                self.hold(leaf)
        return made

    def hold(self, tensor: Tensor) -> None:
        """Count a tensor's storage from now on."""
        storage = tensor.untyped_storage()
        key, size = storage._cdata, -(-storage.nbytes() // self._block) * self._block
        if key in self._known:
            return

        def gone(_: object) -> None:
            self.live -= size
            del self._known[key]

        self._known[key] = weakref.ref(storage, gone)
        self.live += size
        self.peak = max(self.peak, self.live)

    def restart(self) -> int:
        """Peaks count from here; returns what is alive."""
        self.peak = self.live
        return self.live

    def _chosen(self, index: Tensor | None) -> Tensor | None:
        if index is None or index.dtype != torch.bool:
            return index
        return torch.zeros(min(self._kept, index.shape[0]), dtype=torch.long)


class EfficientAttention(TorchFunctionMode):
    """Calls of ``scaled_dot_product_attention`` become those of the kernel that CUDA takes for float32.

    Its shapes, what it keeps for the gradient and its own gradient are torch's.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = kwargs or {}
        if func is not F.scaled_dot_product_attention:
            return func(*args, **given)
        query, key, value = args
        mask = given.get("attn_mask")
        if mask is not None:  # torch makes it numbers to add; its expansion costs nothing
            bias = torch.zeros(mask.shape, dtype=query.dtype)
            mask = bias.expand(*query.shape[:3], key.shape[2])
        keep = torch.is_grad_enabled() and query.requires_grad
        dropout = given.get("dropout_p", 0.0)
        kernel = torch.ops.aten._scaled_dot_product_efficient_attention
        return kernel(query, key, value, mask, keep, dropout)[0]


def estimate_window(
    config: ModelConfig,
    frame_size: tuple[int, int],
    window: int,
    target: Target = "cuda",
    kept: int = KEPT_QUERIES,
    stride: int = 1,
) -> Estimate:
    """Segmenting a video of frames (H0, W0) with windows of T frames, in the middle of it, without gradients.

    Alive are weights with norms folded, features of T frames, the next frames on their way through the
    backbone or one window on its way to the masks of ``kept`` queries, and what the tracker holds of earlier
    windows. Full-size masks are on the host. A video of one window, or its beginning, needs less.
    """
    with traced(target, kept) as live, torch.no_grad():
        built = build_model(config)
        stride_of_masks = built.backbone.strides[1]
        # Fake tensors cannot be packed; what is packed of weights is added below.
        model = ReadyModel(built, Execution(convolutions="minimal" if target == "cpu" else "library"))
        del built
        model.frames_at_once = min(window, FRAMES_AT_ONCE.get(target, OTHERWISE_AT_ONCE))
        model.one_by_one = target == "cpu"
        packed = _packed_when_run(model) if target == "cpu" and can_pack() else {}
        held = live.restart()
        grid = tuple(math.ceil(side / stride_of_masks) for side in frame_size)
        shares = target == "cpu"  # the spatial decoder; fake tensors are all of the CPU
        _window(model, frame_size, grid, (window, stride), kept, window / stride if shares else 1.0)
        laid_out = sum(packed.values())  # weights, too: they are there as long as frames keep their size
        return Estimate(live.peak + laid_out, held + laid_out)


def estimate_training_step(
    config: ModelConfig,
    recipe: TrainConfig,
    frame_size: tuple[int, int],
    clips: int,
    target: Target = "cuda",
    instances: int = INSTANCES,
    prepare: Callable[[ClipModel], ClipModel] = lambda model: model,
) -> Estimate:
    """One step of a training that is under way: forward, losses, gradients, AdamW.

    Args:
        recipe: frames of a clip, frozen stages, losses.
        frame_size: (H0, W0) that clips have in the batch.
        clips: of this process.
        instances: annotated ones of each clip.
        prepare: makes the model that is trained from the one of the configuration.
    """
    with traced(target, kept=instances) as live:
        model: ClipModel = build_model(config)
        if recipe.initial != "random" and isinstance(model.backbone, ResNet):
            model.backbone.freeze(recipe.frozen_stages)
        model = prepare(model).train()
        criterion = _FixedMatches.of(build_criterion(config.num_classes, recipe))
        optimizer = build_optimizer(model, recipe)
        frames = torch.zeros(clips, recipe.frames_per_clip, 3, *frame_size, dtype=torch.uint8)
        masks = torch.zeros(instances, recipe.frames_per_clip, *frame_size, dtype=torch.bool)
        target_of_clip = {"labels": torch.zeros(instances, dtype=torch.long), "masks": masks}
        held = 0
        for _ in range(2):  # the first makes the optimizer's states
            held = live.restart()
            total = criterion.total(criterion(model(frames), [target_of_clip] * clips))
            optimizer.zero_grad(set_to_none=True)
            total.backward()
            nn.utils.clip_grad_norm_(model.parameters(), recipe.clip_norm)
            optimizer.step()
            del total
        return Estimate(live.peak, held)


@contextmanager
def traced(target: Target, kept: int) -> Iterator[LiveBytes]:
    """Everything in here is traced as on ``target``; what it makes is counted."""
    live = LiveBytes(BLOCK[target], kept)
    with _Shapes(), live:
        if target == "cuda":
            with EfficientAttention():
                yield live
        else:
            yield live


def _window(
    model: ReadyModel,
    size: tuple[int, int],
    grid: tuple[int, ...],
    windows: tuple[int, int],
    kept: int,
    windows_a_frame: float,
) -> None:
    (window, stride), at_once = windows, model.frames_at_once
    pattern = model.frame_features(torch.zeros(at_once, 3, *size, dtype=torch.uint8), windows_a_frame)
    parts = [_alike(pattern, min(at_once, window - start)) for start in range(0, window, at_once)]
    saved = [torch.zeros(kept, window, *grid) for _ in range(math.ceil(window / stride))]
    sums = torch.zeros(kept, window + stride, *grid)
    # The next frames come while all of this is held, and then the next window.
    following = model.frame_features(torch.zeros(at_once, 3, *size, dtype=torch.uint8), windows_a_frame)
    found = model.detect(parts)
    del parts, pattern, following
    found.mask_logits.sigmoid()
    del saved, sums


def _packed_when_run(model: ReadyModel) -> dict[int, int]:
    """Filled while the model runs: bytes of each convolution's weights, laid out for a size of frames."""
    found: dict[int, int] = {}

    def ran(module: nn.Module, given: object) -> None:
        assert isinstance(module, FixedConv)
        found[id(module)] = module.weight.numel() * module.weight.element_size()

    for module in model.modules():
        if isinstance(module, FixedConv):
            module.register_forward_pre_hook(ran)
    return found


def _alike(features: FrameFeatures, length: int) -> FrameFeatures:
    """Memory of its own for the features of ``length`` frames: a backbone need not be traced once a frame."""
    part = features.part(0, length)
    alone, maps = Alone(*(torch.zeros_like(x) for x in part.alone)), tuple(map(torch.zeros_like, part.maps))
    return replace(part, alone=alone, maps=maps)


class _FixedMatches(SetCriterion):
    """The criterion with its costs of matching, but for the choice itself, which needs numbers."""

    @classmethod
    def of(cls, criterion: SetCriterion) -> _FixedMatches:
        """The same criterion, of this class."""
        criterion.__class__ = cls
        assert isinstance(criterion, cls)
        return criterion

    def matches(
        self,
        layers: Sequence[Mapping[str, Tensor]],
        targets: Sequence[Targets],
        wanted: Sequence[Tensor],
        boxes: Sequence[tuple[Tensor, Tensor]],
    ) -> list[list[Match]]:
        """As many matches as there are instances; what the real one makes on the way is made too."""
        found = []
        for layer in layers:
            for b, target in enumerate(targets):
                logits, masks, labels = layer["pred_logits"][b], layer["pred_masks"][b], target["labels"]
                mask_scores(logits, masks, labels, wanted[b], self.match_dice_weight)
            chosen = torch.arange(min(len(target["labels"]), len(logits)))
            found.append([(chosen, chosen)] * len(targets))
        return found
