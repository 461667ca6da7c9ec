"""Measure speed and memory against their targets, beside the published operations, in one run.

``python -m benchmarks.speed`` (``make bench``); nothing else may use the machine.
Each line is measured in fresh processes that take turns (``docs/fps.md``). Lines that need a GPU, or bf16 on
the CPU, say so where there is none. ``--only WORD`` measures the lines whose name holds the word.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from tabulate import tabulate

from benchmarks import long_video, tracker_memory, training_step
from harness.bench.command import BenchOptions, bench, remarks
from harness.bench.run import Bench
from harness.provenance import git_state, machine, now

PASSES = 3
Line = tuple[str, str, str, str]
"""What, measured, target, verdict"""

R50 = BenchOptions(
    region="video", passes=PASSES, min_seconds=0, against="published-ops", device="cpu", kept=5
)


@dataclass(frozen=True)
class Faster:
    """A line of the table: our frames per second over the published operations'."""

    what: str
    options: BenchOptions
    target: float
    needs: str | None = None
    """None, ``bf16`` or ``cuda``"""


FASTER = (
    Faster("R50 L=36 T=5 S=1, CPU float32", R50, 2.5),
    Faster("R50 L=36 T=36 offline, CPU float32", replace(R50, window=36), 2.5),
    Faster(
        "R50 L=36 T=36 offline, CPU bf16", replace(R50, window=36, precision="bfloat16"), 4.0, needs="bf16"
    ),
    Faster("R50 L=36 T=5 S=1, GPU float32", replace(R50, device="cuda", passes=10), 3.0, needs="cuda"),
    Faster(
        "R50 L=36 T=5 S=1, GPU bf16 + compile",
        replace(R50, device="cuda", passes=10, precision="bfloat16", compiled=True),
        6.0,
        needs="cuda",
    ),
)
FULL_THW = replace(R50, encoder="full_thw", window=20, length=20, passes=1)
MEMORY_SHARE = 0.5
SAME_MASKS = 0.999


def main() -> int:
    """Print the table; exit status 1 when a target is missed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="lines whose name holds this word")
    word = parser.parse_args().only
    lines: list[Line] = []
    said: list[str] = []
    for what, measure in _work():
        if word in what:
            more, remarked = measure()
            lines += more
            said += [f"{what}: {remark}" for remark in remarked]
            print(tabulate(more, tablefmt="plain"), file=sys.stderr)
    here = machine()
    commit = git_state()["git_commit"]
    print(f"{here['cpu']}, {here['cpu_count']} cores, torch {torch.__version__}; commit {commit}; {now()}\n")
    print(tabulate(lines, ("work", "measured", "target", ""), tablefmt="github"), "", *said, sep="\n")
    return int(any(line[3] == "MISSED" for line in lines))


def _work() -> list[tuple[str, Callable[[], tuple[list[Line], list[str]]]]]:
    work: list[tuple[str, Callable[[], tuple[list[Line], list[str]]]]] = [
        (each.what, partial(_faster, each)) for each in FASTER
    ]
    work.append(("Full THW T=20, CPU: peak memory", _full_thw))
    for name, measure in (
        ("tracker L=400: peak memory", tracker_memory.measure),
        ("1,000 frames: peak memory", long_video.measure),
        ("training step", training_step.measure),
    ):
        work.append((name, partial(_others, measure)))
    return work


def _faster(line: Faster) -> tuple[list[Line], list[str]]:
    target = f"at least {line.target:g}x"
    if line.needs is not None and not _has(line.needs):
        return [(line.what, f"not run: no {line.needs} here", target, "--")], []
    found = bench(line.options, _tell)
    ours, published = (side[0].fps for side in found.sides)
    ratio = ours.median / published.median
    measured = (
        f"{ratio:.2f}x: {ours.median:.2f} ({ours.low:.2f}-{ours.high:.2f}) against "
        f"{published.median:.2f} ({published.low:.2f}-{published.high:.2f}) FPS"
    )
    lines = [(line.what, measured, target, _verdict(ratio >= line.target))]
    assert found.parity is not None
    if line.options.precision == "float32":
        same = found.parity.same_labels and found.parity.mean_iou >= SAME_MASKS
        iou = f"IoU {found.parity.mean_iou:.5f}, least {found.parity.least_iou:.5f}"
        lines.append((f"{line.what}: masks", iou, f"at least {SAME_MASKS}", _verdict(same)))
    return lines, _careful(found)


def _full_thw() -> tuple[list[Line], list[str]]:
    found = bench(FULL_THW, _tell)
    ours, published = (side[0].peak_memory_gb for side in found.sides)
    assert ours is not None
    assert published is not None
    share = ours / published
    measured = f"{share:.2f}x: {ours:.2f} against {published:.2f} GB of the whole process"
    name, target = "Full THW T=20, CPU: peak memory", f"at most {MEMORY_SHARE}x"
    return [(name, measured, target, _verdict(share <= MEMORY_SHARE))], _careful(found)


def _careful(found: Bench) -> list[str]:
    return [
        line for line in remarks(found) if line.startswith(("careful", "freed memory", "parity", "tracks"))
    ]


def _has(needed: str) -> bool:
    if needed == "cuda":
        return torch.cuda.is_available()
    info = Path("/proc/cpuinfo")
    flags = info.read_text(encoding="utf-8") if info.is_file() else ""
    return "avx512_bf16" in flags or "amx_bf16" in flags


def _others(measure: Callable[[], list[tuple[str, str, str, bool]]]) -> tuple[list[Line], list[str]]:
    return _told(measure()), []


def _told(lines: list[tuple[str, str, str, bool]]) -> list[Line]:
    return [(what, measured, target, _verdict(met)) for what, measured, target, met in lines]


def _verdict(met: bool) -> str:
    return "met" if met else "MISSED"


def _tell(line: str) -> None:
    print(line, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
