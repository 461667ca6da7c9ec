"""Peak memory of the clip tracker beside square buffers, on a long video of made-up masks.

``python -m benchmarks.tracker_memory``. Square buffers of the real size take more memory than machines have:
what they would take is their size; at a small mask grid both are made and measured.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import torch

from harness.memory import peak_memory, reset_peak_memory
from model.published.tracker import MAX_INSTANCES, SquareTracker
from model.tracking import ClipTracker

PROJECT = Path(__file__).resolve().parent.parent
LENGTH, WINDOW, INSTANCES, CLASSES = 400, 5, 20, 40
GRID = (45, 80)
SMALL_GRID = (6, 10)
TARGET = 1 / 50


def measure() -> list[tuple[str, str, str, bool]]:
    """Lines of the table: what, measured, target, whether it is met."""
    ours = _peak("stream", GRID)
    square = 2 * LENGTH * MAX_INSTANCES * LENGTH * GRID[0] * GRID[1] * 4 / 1e9
    small, small_square = _peak("stream", SMALL_GRID), _peak("square", SMALL_GRID)
    height, width = GRID
    return [
        (
            f"tracker L={LENGTH} T={WINDOW}, masks {height}x{width}: peak memory",
            f"1/{square / ours:.0f}: {ours:.3f} GB measured, square buffers would be {square:.0f} GB",
            "at most 1/50",
            ours <= TARGET * square,
        ),
        (
            f"the same, masks {SMALL_GRID[0]}x{SMALL_GRID[1]}, both measured",
            f"1/{small_square / small:.0f}: {small:.4f} against {small_square:.3f} GB touched",
            "less",
            small < small_square,
        ),
    ]


def _peak(kind: str, grid: tuple[int, int]) -> float:
    """GB above the start, in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.tracker_memory", kind, json.dumps(grid)]
    done = subprocess.run(command, cwd=PROJECT, check=True, capture_output=True, text=True)
    return float(done.stdout)


def _track(kind: str, grid: tuple[int, int]) -> float:
    device = torch.device("cpu")
    generator = torch.Generator().manual_seed(0)
    # The same masks in every window, so that instances are found again.
    masks = 4 * torch.randn((INSTANCES, 1, *grid), generator=generator)
    classes = torch.rand((INSTANCES, CLASSES + 1), generator=generator).softmax(-1)
    logits = masks.repeat(1, WINDOW, 1, 1)
    reset_peak_memory(device)
    before, _ = peak_memory(device)
    tracker = SquareTracker(CLASSES, LENGTH, grid, device) if kind == "square" else ClipTracker(CLASSES)
    for start in range(LENGTH - WINDOW + 1):
        tracker.update(range(start, start + WINDOW), classes, logits)
    if isinstance(tracker, ClipTracker):
        tracker.result(LENGTH)
    else:
        tracker.result()
    after, _ = peak_memory(device)
    if before is None or after is None:
        raise SystemExit("this system does not tell a process its peak memory")
    return after - before


def main() -> int:
    """Print the table, or as a process of its own the peak of one tracker."""
    if len(sys.argv) == 3:
        print(_track(sys.argv[1], tuple(json.loads(sys.argv[2]))))
        return 0
    for line in measure():
        print(*line, sep=" | ")
    return 0


if __name__ == "__main__":
    sys.exit(main())
