"""``python -m harness memory``: which encoder fits which T in how much memory, ours beside published code.

Every number is traced (``harness/activation_memory.py``); nothing is run.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tabulate import tabulate

from harness.activation_memory import (
    INSTANCES,
    KEPT_QUERIES,
    Estimate,
    Target,
    estimate_training_step,
    estimate_window,
)
from harness.config import TrainConfig
from harness.memory_budget import STATED_ERROR, parse_memory, spelled
from harness.published_memory import VIDEO_FRAMES, estimate_published_window
from model.communication import ENCODERS
from model.config import ModelConfig
from model.errors import InputError
from model.published.operations import published_operations

HEAD = ("region", "operations", "encoder", "T", "size", "device", "peak_gb", "activations_gb")


@dataclass(frozen=True)
class Question:
    """What the table is of."""

    config: ModelConfig
    """Its encoder does not matter: the table has all"""
    windows: tuple[int, ...]
    sizes: tuple[tuple[int, int], ...]
    budgets: tuple[int, ...]
    target: Target = "cuda"
    clips: int | None = None
    """Of a training step; None: no training"""


@dataclass(frozen=True)
class Line:
    """One estimate."""

    region: str
    """``video`` or ``training step``"""
    operations: str
    """``ours`` or ``published``"""
    encoder: str
    window: int
    size: tuple[int, int]
    found: Estimate


def lines_of(question: Question) -> Iterator[Line]:
    """All estimates, as they are made."""
    recipe, target = TrainConfig(initial="model"), question.target
    for size in question.sizes:
        for encoder in ENCODERS:
            config = question.config.model_copy(update={"encoder": encoder})
            for window in question.windows:
                ours = estimate_window(config, size, window, target)
                theirs = estimate_published_window(config, size, window, target)
                yield Line("video", "ours", encoder, window, size, ours)
                yield Line("video", "published", encoder, window, size, theirs)
            if question.clips is not None:
                step = config, recipe, size, question.clips, target
                ours = estimate_training_step(*step)
                theirs = estimate_training_step(*step, prepare=published_operations)
                yield Line("training step", "ours", encoder, recipe.frames_per_clip, size, ours)
                yield Line("training step", "published", encoder, recipe.frames_per_clip, size, theirs)


def markdown(question: Question, lines: Sequence[Line]) -> str:
    """One table a region and size, an encoder a row, a T a column: GB, and which budgets it does not fit."""
    parts = []
    for region, size in dict.fromkeys((line.region, line.size) for line in lines):
        own = [line for line in lines if (line.region, line.size) == (region, size)]
        windows = list(dict.fromkeys(line.window for line in own))
        peaks = {(line.encoder, line.operations, line.window): line.found.peak for line in own}
        rows = [
            [*named, *(_cell(peaks[(*named, window)], question.budgets) for window in windows)]
            for named in dict.fromkeys((line.encoder, line.operations) for line in own)
        ]
        head = ["encoder", "operations", *(f"T={window}" for window in windows)]
        clips = f" of {question.clips} clips" if region == "training step" else ""
        title = f"{region}{clips}, {size[0]}x{size[1]}, {question.config.backbone}, {question.target}"
        parts += [
            f"### Peak memory (GB): {title}",
            tabulate(rows, head, tablefmt="github", disable_numparse=True),
        ]
    return "\n\n".join([*parts, *_notes(question)]) + "\n"


def _notes(question: Question) -> list[str]:
    budgets, training = ", ".join(map(spelled, question.budgets)), question.clips is not None
    counted = "weights, frames, activations" + (", gradients, AdamW states" if training else "")
    video = (
        f"Video, ours: features of T frames, the next frames or one window, masks, tracks of {KEPT_QUERIES}"
        f" queries (S = 1). Video, published: {VIDEO_FRAMES} frames in the backbone at once, all queries,"
        " buffers of the whole video."
    )
    step = f" Training step: {INSTANCES} instances a clip, first stages frozen." if training else ""
    return [
        f"In brackets: which of the budgets ({budgets}) it does not fit. Estimated from live tensors, not"
        f" measured ({counted}; no workspaces of kernels, no driver, nothing that an allocator keeps)."
        f" {STATED_ERROR}",
        video + step,
    ]


def as_csv(question: Question, lines: Sequence[Line]) -> str:
    """One estimate a line, and a column ``fits_<budget>`` for each budget."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*HEAD, *(f"fits_{spelled(budget)}" for budget in question.budgets)])
    for line in lines:
        size = f"{line.size[0]}x{line.size[1]}"
        numbers = (f"{line.found.peak / 1e9:.4f}", f"{line.found.activations / 1e9:.4f}")
        named = (line.region, line.operations, line.encoder, line.window, size, question.target)
        fits = (str(line.found.peak <= budget).lower() for budget in question.budgets)
        writer.writerow([*named, *numbers, *fits])
    return text.getvalue()


def _cell(peak: int, budgets: Sequence[int]) -> str:
    """``7.78``, or ``35.20 (not 16GB, 32GB)``."""
    missed = [spelled(budget) for budget in budgets if peak > budget]
    return f"{peak / 1e9:.2f}" + (f" (not {', '.join(missed)})" if missed else "")


def whole_numbers(option: str, text: str) -> tuple[int, ...]:
    """``5,10,36``; raises :class:`InputError` for anything else."""
    if re.fullmatch(r"[1-9]\d{0,3}(,[1-9]\d{0,3})*", text) is None:
        raise InputError(f"{option}: {text!r}: allowed: numbers from 1 to 9999 with commas, such as 5,36")
    return tuple(dict.fromkeys(int(part) for part in text.split(",")))


def frame_sizes(option: str, text: str) -> tuple[tuple[int, int], ...]:
    """``360x640,720x1280`` to (H, W) each; raises :class:`InputError` for anything else."""
    found = []
    for part in text.split(","):
        size = re.fullmatch(r"([1-9]\d{1,3})x([1-9]\d{1,3})", part)
        if size is None or min(int(size[1]), int(size[2])) < 16:
            raise InputError(f"{option}: {part!r}: allowed: HxW from 16 to 9999 pixels, such as 360x640")
        found.append((int(size[1]), int(size[2])))
    return tuple(dict.fromkeys(found))


def budgets_of(option: str, text: str) -> tuple[int, ...]:
    """``16GB,32GB`` in bytes."""
    return tuple(dict.fromkeys(parse_memory(part, option) for part in text.split(",")))
