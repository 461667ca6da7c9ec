"""How much memory a process may take: what people write, the cap on a GPU, the verdict on a CPU; how much
of it frames take that are kept.

Light: torch is imported by those who cap or estimate.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from harness.control_groups import memory_limit
from model.errors import InputError

if TYPE_CHECKING:
    import torch

    from harness.config import TrialConfig
    from harness.data.ytvis import VideoDataset

UNITS = {"MB": 10**6, "GB": 10**9, "MiB": 2**20, "GiB": 2**30}
MOST_CACHE = 2 * 10**9
"""Bytes of frames that a training process keeps at most, where nobody says otherwise"""
CACHE_SHARE = 1 / 8
"""Of the memory that the process may have; the model needs the rest"""
ESTIMATED = "estimated tensors"
"""``peak_memory_kind`` of a number that was traced with fake tensors, not measured"""
STATED_ERROR = (
    "Against measured peaks of nine regions on a CPU: 0% to 11% too low where freed memory is given back, 12%"
    " to 65% where the C library keeps it; on a GPU not held against any (docs/memory.md)."
)
"""Of ``benchmarks/memory_estimate.py``"""


class OverBudgetError(MemoryError):
    """An estimate is above the budget: what it is of was not run."""

    def __init__(self, what: str, estimate: int, budget: int) -> None:
        super().__init__(
            f"{what}: estimated to need {estimate / 1e9:.3g} GB, above --memory-budget {spelled(budget)}; "
            "not run"
        )
        self.peak_memory_gb = estimate / 1e9


def parse_memory(text: str, option: str = "--memory-budget") -> int:
    """Bytes of an amount such as 16GB (10^9), 16GiB (2^30) or 500MB.

    Raises :class:`InputError` for anything else.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]+)", text.strip())
    amount = round(float(found[1]) * UNITS.get(found[2], 0)) if found else 0
    if amount <= 0:
        raise InputError(f"{option}: {text!r}: allowed: an amount such as 16GB, 16GiB or 500MB")
    return amount


def default_frame_cache(budget: int | None = None, processes: int = 1) -> int:
    """Bytes of frames that a training process keeps if nobody says: a share of its memory, bounded.

    A process that is pinned to some of the machine's processors has neighbours on the others: its memory
    counts as that part of the whole. 0 where the system does not tell how much memory there is.

    Args:
        budget: bytes of host memory that the process was given, if it was.
        processes: that share one training on this machine.
    """
    limit = memory_limit()
    if limit is None:
        return 0
    if hasattr(os, "sched_getaffinity"):
        limit = limit * len(os.sched_getaffinity(0)) // (os.cpu_count() or 1)
    limit //= processes
    return min(MOST_CACHE, int(CACHE_SHARE * (limit if budget is None else min(limit, budget))))


def parse_frame_cache(text: str, option: str = "--frame-cache") -> int:
    """Bytes of an amount such as 2GB; of 0, none. Raises :class:`InputError` for anything else."""
    if text.strip() == "0":
        return 0
    try:
        return parse_memory(text, option)
    except InputError:
        raise InputError(
            f"{option}: {text!r}: allowed: 0 (no cache), or an amount such as 2GB, 2GiB or 500MB"
        ) from None


def spelled(budget: int) -> str:
    """The shortest exact way to write a number of bytes: ``16GB``, ``16GiB``, ``1.5GB``."""
    for unit in ("GB", "GiB", "MB", "MiB"):
        if budget % UNITS[unit] == 0:
            return f"{budget // UNITS[unit]}{unit}"
    return f"{budget / 1e9:.9f}".rstrip("0").rstrip(".") + "GB"


def cap_device(device: torch.device, budget: int) -> None:
    """From here on torch's allocator gives this process at most so many bytes of a GPU.

    What is asked beyond raises ``torch.OutOfMemoryError``. The driver's own context is not counted.
    On a CPU nothing can be capped so; there an estimate decides (``harness/activation_memory.py``).
    Raises :class:`InputError` where the GPU has less than the budget.
    """
    import torch

    if device.type != "cuda":
        return
    total = torch.cuda.get_device_properties(device).total_memory
    if budget > total:
        raise InputError(
            f"--memory-budget: {spelled(budget)}: {torch.cuda.get_device_name(device)} has "
            f"{total / 1e9:.1f} GB; allowed: at most that"
        )
    torch.cuda.set_per_process_memory_fraction(budget / total, device)


def refuse_training(
    config: TrialConfig, dataset: VideoDataset, device: torch.device, budget: int, processes: int
) -> None:
    """On a CPU, raise :class:`OverBudgetError` for a training whose step is estimated above the budget.

    Of all videos and short sides the largest frame counts, as if a whole batch had it. A crop of a training
    on images is not looked at: it is smaller than its frame.
    """
    if device.type == "cuda":
        return
    from harness.activation_memory import estimate_training_step
    from harness.data.clips import resized_size

    recipe = config.train
    sizes = {
        resized_size(video.height, video.width, side, recipe.max_long_side)
        for video in dataset.videos
        for side in recipe.short_sides
    }
    largest = max(sizes, key=lambda size: size[0] * size[1], default=None)
    if largest is None:
        return
    clips = recipe.clips_per_batch // processes
    found = estimate_training_step(config.model, recipe, largest, clips, "cpu")
    if found.peak > budget:
        what = f"training step of {clips} clips of {recipe.frames_per_clip} frames {_size(largest)}"
        raise OverBudgetError(what, found.peak, budget)


def refuse_cell(config: TrialConfig, dataset: VideoDataset, device: torch.device, budget: int) -> None:
    """The same for segmenting the largest video of a data set at the cell's window."""
    if device.type == "cuda":
        return
    from harness.activation_memory import estimate_window
    from harness.data.clips import resized_size

    inference = config.inference
    sizes = {resized_size(video.height, video.width, **inference.resizing()) for video in dataset.videos}
    largest = max(sizes, key=lambda size: size[0] * size[1], default=None)
    if largest is None:
        return
    window = min(inference.window, max(video.length for video in dataset.videos) or 1)
    found = estimate_window(config.model, largest, window, "cpu", stride=min(inference.stride, window))
    if found.peak > budget:
        raise OverBudgetError(f"window of {window} frames {_size(largest)}", found.peak, budget)


def _size(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
