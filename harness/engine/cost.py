"""What a sweep still costs: device-hours and wall-clock of the work that is left. Pure arithmetic.

Where the seconds come from is the matter of ``timings.py``; this file multiplies and adds.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

Origin = Literal["stated", "measured", "probed", "does not fit", "unknown"]


@dataclass(frozen=True)
class Pace:
    """Seconds of one training step, or of one stage of an evaluated cell, and who says so."""

    seconds: float | None
    """None where nobody knows, or where the work does not fit into memory"""
    origin: Origin
    note: str = ""

    def of(self, amount: int) -> Span:
        """What so many steps, or cells, take."""
        if self.origin == "does not fit" or not amount:
            return Span()
        return Span(0.0, amount) if self.seconds is None else Span(self.seconds * amount)


UNKNOWN = Pace(None, "unknown")


@dataclass(frozen=True)
class Span:
    """Seconds that are known, and how many steps or cells there are whose seconds are not."""

    seconds: float = 0.0
    unknown: int = 0

    def __add__(self, other: Span) -> Span:
        return Span(self.seconds + other.seconds, self.unknown + other.unknown)

    def times(self, devices: int) -> Span:
        """Device-seconds of a span that holds so many devices."""
        return Span(self.seconds * devices, self.unknown)


def total(spans: Iterable[Span]) -> Span:
    """The sum of spans."""
    return sum(spans, Span())


@dataclass(frozen=True)
class Machine:
    """What the work would run on."""

    hardware: str
    """As ``trial.json`` has it"""
    unit: Literal["GPU", "core"]
    cores: int
    workers: int
    """Trials at a time"""

    def devices(self, threads: int | None, processes: int = 1) -> int:
        """GPUs, or cores, that a process holds whose configuration says so many threads."""
        return processes if self.unit == "GPU" else (threads or self.cores) * processes


@dataclass(frozen=True)
class TrialWork:
    """What is left of one trial."""

    training: str
    """Name of its training configuration: all its seeds have one"""
    steps: int
    """Training steps left"""
    step: Pace
    evaluations: tuple[Pace, ...]
    """One for each cell that is left to be evaluated"""
    timings: tuple[Pace, ...]
    """One for each cell that is left to be timed, which is done alone"""
    devices: int
    """GPUs or cores that it holds while it trains and evaluates"""

    @property
    def trained(self) -> Span:
        """Seconds of training left."""
        return self.step.of(self.steps)

    @property
    def evaluated(self) -> Span:
        """Seconds of evaluation left; nothing is evaluated where the training does not fit."""
        return Span() if self._is_stuck else total(pace.of(1) for pace in self.evaluations)

    @property
    def timed(self) -> Span:
        """Seconds of timing left."""
        return Span() if self._is_stuck else total(pace.of(1) for pace in self.timings)

    @property
    def _is_stuck(self) -> bool:
        return self.steps > 0 and self.step.origin == "does not fit"


@dataclass(frozen=True)
class TrainingLine:
    """All seeds of one training configuration."""

    training: str
    trainings: int
    steps: int
    step: Pace
    train_cost: Span
    """Device-seconds"""
    evaluations: int
    timings: int
    paces: tuple[Pace, ...]
    """Of its evaluations and timings"""
    evaluation_cost: Span
    """Device-seconds"""


@dataclass(frozen=True)
class Estimate:
    """The whole sweep."""

    machine: Machine
    lines: tuple[TrainingLine, ...]
    training: Span
    """Device-seconds"""
    evaluation: Span
    """Device-seconds"""
    wall: Span
    """Seconds on the clock"""


def estimate(works: Sequence[TrialWork], machine: Machine) -> Estimate:
    """Add up what is left.

    Trials start in order, each on the first free worker; timing comes last and alone, on all cores.
    """
    groups: dict[str, list[TrialWork]] = {}
    for work in works:
        groups.setdefault(work.training, []).append(work)
    lines = tuple(_line(name, group, machine) for name, group in groups.items())
    return Estimate(
        machine,
        lines,
        total(line.train_cost for line in lines),
        total(line.evaluation_cost for line in lines),
        _wall(works, machine.workers),
    )


def _line(name: str, works: list[TrialWork], machine: Machine) -> TrainingLine:
    trained = total(work.trained.times(work.devices) for work in works)
    evaluated = total(work.evaluated.times(work.devices) for work in works)
    timed = total(work.timed.times(machine.devices(None)) for work in works)
    return TrainingLine(
        name,
        sum(work.steps > 0 for work in works),
        sum(work.steps for work in works),
        next((work.step for work in works if work.steps), UNKNOWN),
        trained,
        sum(len(work.evaluations) for work in works),
        sum(len(work.timings) for work in works),
        tuple(pace for work in works for pace in (*work.evaluations, *work.timings)),
        evaluated + timed,
    )


def _wall(works: Sequence[TrialWork], workers: int) -> Span:
    free_at = [0.0] * workers
    for work in works:
        done = work.trained + work.evaluated
        heapq.heapreplace(free_at, free_at[0] + done.seconds)
    together = Span(max(free_at), sum((work.trained + work.evaluated).unknown for work in works))
    return together + total(work.timed for work in works)
