"""A benchmark: processes that take turns, and what their passes say.

Each side is a fresh process; passes alternate (A, B, A, B, ...), so that a machine whose clock drifts slows
both. The first pass of each region is not counted: it sees every shape.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from harness.bench.job import BenchJob, Region
from harness.bench.parity import Parity, compare
from harness.clocks import throttled
from harness.speed import at_share
from model.errors import InputError

PROJECT = Path(__file__).resolve().parent.parent.parent
BUSY = 0.05
"""A larger share of the cores in other processes' hands is told"""
DRIFT = 0.05
"""So is a clock that moved by more"""


class OutOfMemoryInBenchError(RuntimeError):
    """A side of the benchmark does not fit the memory."""


class Quartiles(NamedTuple):
    """Of frames per second over passes."""

    low: float
    median: float
    high: float


@dataclass
class Measured:
    """One side in one region."""

    label: str
    region: Region
    warm_up_seconds: float = 0.0
    passes: list[list[float]] = field(default_factory=list)
    """Seconds of each video, pass by pass"""
    frames: list[int] = field(default_factory=list)
    peak_memory_gb: float | None = None
    peak_memory_kind: str = "unknown"
    warnings: set[str] = field(default_factory=set)

    @property
    def fps(self) -> Quartiles:
        """Frames of all videos / seconds of a pass."""
        rates = [sum(self.frames) / sum(seconds) for seconds in self.passes]
        if len(rates) == 1:
            return Quartiles(rates[0], rates[0], rates[0])
        low, median, high = statistics.quantiles(rates, n=4, method="inclusive")
        return Quartiles(low, median, high)

    def milliseconds(self, share: float) -> float:
        """So large a share of the videos takes at most this long a frame."""
        each = sorted(
            1000 * s / n for seconds in self.passes for s, n in zip(seconds, self.frames, strict=True)
        )
        return at_share(each, share)

    def take(self, told: dict[str, Any]) -> None:
        """One pass."""
        self.passes.append(told["seconds"])
        self.frames = told["frames"]
        if told["peak_memory_gb"] is not None:
            self.peak_memory_gb = max(self.peak_memory_gb or 0.0, told["peak_memory_gb"])
        self.peak_memory_kind = told["peak_memory_kind"]
        others = told["others_cpu_share"]
        if others is not None and others > BUSY:
            self.warnings.add("other processes used the machine")
        before, after = told["clocks"]
        if throttled(before) or throttled(after):
            self.warnings.add("the GPU was throttled")
        clocks = [c["sm_mhz"] for c in (before, after) if c and c["sm_mhz"]]
        if len(clocks) == 2 and abs(clocks[0] - clocks[1]) > DRIFT * max(clocks):
            self.warnings.add("the GPU's clock drifted by more than 5%")


class Bench(NamedTuple):
    """What came out."""

    sides: list[list[Measured]]
    """By side, then region"""
    parity: Parity | None
    """Of the second side with the first"""
    tracks: int
    """Of the first video, on the first side: they drive tracking and upsampling"""
    conditions: dict[str, Any]
    keeps_memory: list[bool]
    """Side by side, whether it uses freed memory again (``harness/allocator.py``); on CPUs"""


class Process:
    """A worker, as the one that asks sees it."""

    def __init__(self, job: BenchJob, folder: Path) -> None:
        file = folder / f"{job.side}.json"
        file.write_text(job.model_dump_json(), encoding="utf-8")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "harness.bench.worker", str(file)],
            cwd=PROJECT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.label = job.label
        self.conditions = self._heard()

    def ask(self, command: str) -> dict[str, Any]:
        """The answer to a command."""
        assert self._process.stdin is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()
        return self._heard()

    def _heard(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            status = self._process.wait()
            raise RuntimeError(
                f"the process of {self.label} ended with status {status}; its own words are above"
            )
        told: dict[str, Any] = json.loads(line)
        if told.get("kind") == "input":
            raise InputError(told["error"])
        if told.get("kind") == "oom":
            raise OutOfMemoryInBenchError(f"{self.label}: {told['error']}")
        return told

    def __enter__(self) -> Process:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()


def run_bench(
    jobs: Sequence[BenchJob],
    regions: Sequence[Region],
    passes: int,
    min_seconds: float,
    told: Callable[[str], None] = lambda line: None,
) -> Bench:
    """Time the jobs side by side.

    Args:
        passes, min_seconds: timed passes of each side and region, at least, and seconds of them.
        told: hears in a line what is being done.

    Raises :class:`model.errors.InputError`, :class:`OutOfMemoryInBenchError`.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        sides = []
        for job in jobs:
            told(f"{job.label}: loading")
            sides.append(stack.enter_context(Process(job, folder)))
        measured = [[Measured(side.label, region) for region in regions] for side in sides]
        for place, region in enumerate(regions):
            for side, own in zip(sides, measured, strict=True):
                told(f"{side.label}: {region}, warm-up")
                own[place].warm_up_seconds = sum(side.ask(f"pass {region}")["seconds"])
            number = 0
            while number < passes or any(sum(map(sum, own[place].passes)) < min_seconds for own in measured):
                number += 1
                for side, own in zip(sides, measured, strict=True):
                    told(f"{side.label}: {region}, pass {number}")
                    own[place].take(side.ask(f"pass {region}"))
        files, counts = [], []
        for number, side in enumerate(sides):
            files.append(folder / f"outputs-{number}.npz")
            counts.append(side.ask(f"outputs {files[-1]}"))
        parity = compare(files[0], files[1]) if len(files) == 2 else None
        kept = [job.keeps_memory for job in jobs]
        return Bench(measured, parity, counts[0]["tracks"], sides[0].conditions, kept)
