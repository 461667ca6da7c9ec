"""How far work is from what the machine can multiply: multiply-adds, and seconds at the measured peak.

``python -m benchmarks.floor``; nothing else may use the machine. Convolutions and matrix products are counted
while they run (``torch.utils.flop_counter``), the peak is that of a large matrix product. What is not a
product (norms, ReLU, sums of few-product convolutions, dropout, AdamW) costs no multiply-adds here, but time.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from tabulate import tabulate
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.training_step import PUBLISHED, Training
from harness.allocator import freed_memory_kept
from harness.bench.job import BenchJob
from harness.bench.regions import OurRunner, PublishedRunner, Regions
from harness.bench.subject import write_videos, write_weights
from harness.data.ytvis import load_dataset
from harness.provenance import git_state, machine, now
from model import build_model
from model.checkpoint import load_weights
from model.ready import Execution, ReadyModel

SIDE = 2048
"""Of the matrices that the peak is measured with"""
KEPT = 5


class Work(NamedTuple):
    """Something that is counted and timed."""

    what: str
    timed: Callable[[], object]
    counted: Callable[[], object]
    """The same by operations that can be counted"""


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--passes", type=int, default=3)
    passes = parser.parse_args().passes
    lines = []
    with tempfile.TemporaryDirectory() as folder, freed_memory_kept():
        for work in [*_videos(Path(folder), 5), *_videos(Path(folder), 36), *_training()]:
            multiply_adds = _counted(work.counted)
            peaks, seconds = [_peak()], []
            for _ in range(passes):
                seconds.append(_seconds(work.timed))
                peaks.append(_peak())
            peak, taken = statistics.median(peaks), statistics.median(seconds)
            least = multiply_adds / peak
            lines.append(
                (
                    work.what,
                    f"{multiply_adds / 1e9:.0f}",
                    f"{peak / 1e9:.0f}",
                    f"{least:.1f}",
                    f"{taken:.1f}",
                    f"{least / taken:.0%}",
                )
            )
            print(*lines[-1], sep="; ", file=sys.stderr)
    here = machine()
    commit = git_state()["git_commit"]
    print(f"{here['cpu']}, {here['cpu_count']} cores, torch {torch.__version__}; commit {commit}; {now()}\n")
    headers = ("work", "10^9 multiply-adds", "peak, 10^9/s", "s at peak", "s measured", "of peak")
    print(tabulate(lines, headers, tablefmt="github", disable_numparse=True))
    return 0


def _videos(folder: Path, window: int) -> list[Work]:
    """A video of 36 frames, 360x640, by the published operations and by ours; T is ``window``."""
    data, weights = folder / "videos", folder / f"weights{window}.safetensors"
    if not data.exists():
        write_videos(data, (360, 640), 36, 1)
    config = write_weights(weights, "resnet50", "ifc", data, "valid", window, KEPT)
    model = build_model(config).eval().requires_grad_(False)  # the counter asks for gradients else
    load_weights(model, weights)
    dataset = load_dataset(data, "valid")
    found = []
    for side in ("published-ops", "ours"):
        job = BenchJob(
            side=side, model=config, weights=weights, data=data, split="valid", window=window, device="cpu"
        )
        runner = OurRunner(model, job) if side == "ours" else PublishedRunner(model, job)
        regions = Regions(runner, dataset, dataset.videos[:1], job)
        counted = regions
        if isinstance(runner, OurRunner):  # neither packed operators nor other threads can be counted
            other = OurRunner(model, job)
            other.model = ReadyModel(model, Execution(convolutions="minimal", side_by_side=False))
            counted = Regions(other, dataset, dataset.videos[:1], job)
        found.append(
            Work(f"video T={window}, {side}", lambda r=regions: r.results(0), lambda c=counted: c.results(0))
        )
    return found


def _training() -> list[Work]:
    """A training step by the published operations and by ours."""
    found = []
    for side in ("published", "ours"):
        step = Training(side, PUBLISHED).step
        found.append(Work(f"training step, {side}", step, step))
    return found


def _counted(work: Callable[[], object]) -> float:
    """Multiply-adds; half of what the counter calls operations."""
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops() / 2


def _peak() -> float:
    """Multiply-adds a second of a large matrix product, the best of five."""
    x = torch.randn(SIDE, SIDE)
    return SIDE**3 / min(_seconds(lambda: x @ x) for _ in range(5))


def _seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


if __name__ == "__main__":
    sys.exit(main())
