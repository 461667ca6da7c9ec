"""The ``model`` region alone: frames on the device to class logits and masks at the mask grid.

Untrained weights, made so that every query finds something: every window then does all the work that a window
can do, whatever was learned. Nothing is tracked, upsampled or brought to the host. The encoder is timed by
itself, too, on tokens of the same count, since the paper's complexities are the encoder's.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from harness.activation_memory import estimate_window
from harness.allocator import freed_memory_kept
from harness.config import TrialConfig
from harness.flops import count_encoder
from harness.memory import peak_memory, reset_peak_memory
from harness.memory_budget import ESTIMATED, OverBudgetError
from model import build_model
from model.clip_model import ClipModel
from model.ready import Execution, ReadyModel

MOST_SECONDS = 60.0
"""After so long a cell ends timing with the passes that it has, one at least"""


@dataclass(frozen=True)
class ModelSpeed:
    """What one cell's timing found."""

    model_fps: float
    """Median over passes of T / seconds of one clip"""
    encoder_ms: float
    """Median over passes of milliseconds of the encoder on one clip"""
    model_memory_gb: float
    """Peak beyond the weights: measured on a GPU, estimated on a CPU"""
    model_memory_kind: str
    """``cuda allocated`` or ``estimated tensors``"""
    frame_tokens: int
    """HW, tokens of a frame"""
    flops_g: float
    """10^9 multiply-adds of the encoder on the clip, counted"""
    multiply_adds: int
    model_passes: int
    """Passes that were timed, after one that warmed up"""


@freed_memory_kept()
def time_model(
    config: TrialConfig, device: torch.device, budget: int | None, check: Callable[[], None]
) -> ModelSpeed:
    """Time one clip of ``inference.window`` frames of ``clip.resolution``, seed 0.

    On a CPU one frame goes through the backbone after the other: so the memory is estimated.

    ``check`` is called before every pass; it raises to end the timing. Raises :class:`OverBudgetError` on a
    CPU for an estimate above the budget.
    """
    size, window = config.clip.size, config.inference.window
    model = build_untrained(config, device)
    grid = [math.ceil(side / model.backbone.strides[-1]) for side in size]
    tokens = math.prod(grid)
    counted = count_encoder(config.model, size, window)
    estimate = None
    if device.type != "cuda":
        estimate = estimate_window(config.model, size, window, "cpu", config.model.num_queries, stride=window)
        if budget is not None and estimate.peak > budget:
            raise OverBudgetError(
                f"window of {window} frames {config.clip.resolution}", estimate.peak, budget
            )
    encoder, ready = model.encoder.eval(), ReadyModel(model, Execution(side_by_side=False))
    frames = torch.randint(0, 256, (window, 3, *size), dtype=torch.uint8, device=device)
    clip = torch.randn(1, window, tokens, config.model.hidden_dim, device=device)
    positions = torch.randn(1, tokens, config.model.hidden_dim, device=device)
    reset_peak_memory(device)
    held = torch.cuda.memory_allocated(device) if device.type == "cuda" else 0
    with torch.inference_mode():
        whole = _seconds(lambda: _segment(ready, frames), config, device, check)
        memory = (peak_memory(device)[0] or 0.0) - held / 1e9
        alone = _seconds(lambda: encoder(clip, positions, None), config, device, check)
    if estimate is not None:
        memory = estimate.activations / 1e9
    return ModelSpeed(
        model_fps=window / statistics.median(whole),
        encoder_ms=1000 * statistics.median(alone),
        model_memory_gb=memory,
        model_memory_kind="cuda allocated" if estimate is None else ESTIMATED,
        frame_tokens=tokens,
        flops_g=counted / 1e9,
        multiply_adds=counted,
        model_passes=len(whole),
    )


def build_untrained(config: TrialConfig, device: torch.device) -> ClipModel:
    """The model of seed 0 whose queries never say "no object"."""
    torch.manual_seed(0)
    model = build_model(config.model).to(device).eval()
    last = model.class_head.layers[-1]
    assert isinstance(last, nn.Linear)
    with torch.no_grad():
        last.bias[-1] = -1e4
    return model


def _segment(model: ReadyModel, frames: Tensor) -> None:
    parts = [model.frame_features(part, 1.0) for part in frames.split(model.frames_at_once)]
    model.detect(parts)


def _seconds(
    work: Callable[[], object], config: TrialConfig, device: torch.device, check: Callable[[], None]
) -> list[float]:
    """Seconds of each pass after one that warms up: ``speed.passes`` and ``speed.min_seconds`` at least."""
    taken: list[float] = []
    work()
    _synchronize(device)
    while len(taken) < config.speed.passes or sum(taken) < config.speed.min_seconds:
        check()
        started = time.perf_counter()
        work()
        _synchronize(device)
        taken.append(time.perf_counter() - started)
        if sum(taken) > MOST_SECONDS:
            break
    return taken


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
