"""The part of ``--dry-run`` that says what is left to pay: per training configuration, then in all."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from tabulate import tabulate

from harness.config import TrialConfig
from harness.engine.cost import UNKNOWN, Estimate, Machine, Pace, Span, TrainingLine, TrialWork, estimate
from harness.engine.plan import Plan
from harness.engine.timings import (
    CostOptions,
    Kind,
    OwnTrial,
    Shape,
    Timings,
    evaluation_shape,
    steps_kept,
    train_device_seconds,
    training_shape,
)
from harness.provenance import hardware
from harness.record_file import read_training
from harness.sweep import Trial

MOST_LINES = 40
KINDS: tuple[Kind, ...] = ("train_evaluate", "time")


class Shapes:
    """The shapes of configurations; seeds share a configuration, so each is dumped once."""

    def __init__(self) -> None:
        self._dumped: dict[int, dict[str, Any]] = {}
        self._made: dict[tuple[int, Kind], Shape] = {}

    def of(self, config: TrialConfig, kind: Kind) -> Shape:
        """The shape of one kind of work."""
        place = (id(config), kind)
        if place not in self._made:
            if id(config) not in self._dumped:
                self._dumped[id(config)] = config.model_dump(mode="json")
            dumped = self._dumped[id(config)]
            self._made[place] = training_shape(dumped) if kind == "train" else evaluation_shape(dumped, kind)
        return self._made[place]


def this_machine(device: str, cores: int, workers: int) -> Machine:
    """The machine that a sweep would run on, as its records will name it.

    Args:
        device: ``cpu``, ``cuda`` or ``cuda:1``.
    """
    return Machine(hardware(device), "core" if device == "cpu" else "GPU", cores, workers)


def timings_for(plan: Plan, options: CostOptions, machine: Machine) -> Timings:
    """Where this plan's paces are looked up."""
    source = plan.source
    data = ("", "") if source.folder is None else (source.train_identity, source.valid_identity)
    device = "cpu" if machine.unit == "core" else "cuda"
    return Timings(plan.options.results, machine.hardware, device, *data, options)


def needed_shapes(
    plan: Plan, left: Mapping[str, Sequence[str]], trained: Collection[str], shapes: Shapes
) -> dict[Shape, tuple[Trial, TrialConfig]]:
    """What has to be known -> a trial, and the configuration of that training or cell."""
    needed: dict[Shape, tuple[Trial, TrialConfig]] = {}
    for trial in plan.trials:
        if trial.key not in left:
            continue
        if trial.key not in trained and trial.config.train.steps:
            needed.setdefault(shapes.of(trial.config, "train"), (trial, trial.config))
        waiting = set(left[trial.key])
        for cell in trial.cells:
            if cell.key in waiting:
                for kind in KINDS:
                    if kind in plan.stages:
                        needed.setdefault(shapes.of(cell.config, kind), (trial, cell.config))
    return needed


def own_trials(plan: Plan, shapes: Shapes) -> Iterator[OwnTrial]:
    """The trials of this plan that have a folder."""
    folders = trial_folders(plan)
    kinds = [kind for kind in KINDS if kind in plan.stages]
    for trial in plan.trials:
        if trial.key in folders:
            cells = [(shapes.of(cell.config, kind), cell.key) for cell in trial.cells for kind in kinds]
            yield trial.key, [(shapes.of(trial.config, "train"), None), *cells]


def trial_folders(plan: Plan) -> set[str]:
    """Names of all trials' folders in the results: one look in place of thousands."""
    folder = plan.options.results / "trials"
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()


def priced(
    plan: Plan,
    left: Mapping[str, Sequence[str]],
    trained: Collection[str],
    options: CostOptions,
    machine: Machine,
) -> Estimate:
    """The estimate of what is left.

    Args:
        left: trials that would run -> keys of their cells that wait.
        trained: keys of trials whose training is finished.
    """
    shapes = Shapes()
    timings = timings_for(plan, options, machine)
    timings.read(needed_shapes(plan, left, trained, shapes), own_trials(plan, shapes))
    paces: dict[Shape, Pace] = {}

    def pace(config: TrialConfig, kind: Kind) -> Pace:
        shape = shapes.of(config, kind)
        if shape not in paces:
            paces[shape] = timings.pace(shape)
        return paces[shape]

    works = []
    folders = trial_folders(plan)
    for trial in plan.trials:
        if trial.key not in left:
            continue
        recipe, begun = trial.config.train, trial.key in folders
        steps = 0 if trial.key in trained else recipe.steps
        if steps and begun:
            steps -= steps_kept(plan.trial_folder(trial), recipe.steps, recipe.checkpoint_every)
        waiting = set(left[trial.key])
        cells = [cell for cell in trial.cells if cell.key in waiting]
        stages: dict[Kind, list[Pace]] = {kind: [] for kind in KINDS}
        for cell in cells:
            kinds = [
                kind
                for kind in KINDS
                if kind in plan.stages and not (begun and plan.record(trial, cell, kind) is not None)
            ]
            if options.evaluation_seconds is not None:
                del kinds[1:]  # what is stated is of the whole cell
            for kind in kinds:
                stages[kind].append(pace(cell.config, kind))
        works.append(
            TrialWork(
                training_name(plan, trial),
                steps,
                pace(trial.config, "train") if steps else UNKNOWN,
                tuple(stages["train_evaluate"]),
                tuple(stages["time"]),
                machine.devices(recipe.threads),
            )
        )
    return estimate(works, machine)


def training_name(plan: Plan, trial: Trial) -> str:
    """The varied values of a training; of a sweep that varies none its own name."""
    return trial.label().removesuffix(f"seed {trial.seed}").strip() or plan.sweep.name


def cost_lines(plan: Plan, trials: Sequence[Trial], found: Estimate) -> list[str]:
    """What is left, configuration by configuration, then the totals."""
    machine = found.machine
    hours = f"{machine.unit}-hours"
    if not found.lines:
        return ["cost: nothing is left", *_spent(plan, trials)]
    training = [line for line in found.lines if line.steps]
    evaluation = [line for line in found.lines if line.evaluations or line.timings]
    lines: list[str] = []
    if training:
        heads = ["training", "left", "steps left", "s/step", hours, "by"]
        shown = [_training_cells(line, machine) for line in training[:MOST_LINES]]
        lines += [_table(shown, heads, len(training)), ""]
    if evaluation:
        heads = ["evaluation", "cells left", "s/cell", hours, "by"]
        shown = [_evaluation_cells(line, machine) for line in evaluation[:MOST_LINES]]
        lines += [_table(shown, heads, len(evaluation)), ""]
    lines.append(f"training left:   {_device_hours(found.training, machine)}")
    lines.append(f"evaluation left: {_device_hours(found.evaluation, machine)}")
    workers = f"{machine.workers} worker{'s' * (machine.workers > 1)}"
    lines.append(f"wall-clock:      {_at_least(found.wall, duration(found.wall.seconds))}, {workers}")
    lines += _spent(plan, trials)
    lines.append(f"on:              {machine.hardware}")
    return [*lines, *_notes(found)]


def _training_cells(line: TrainingLine, machine: Machine) -> list[str]:
    return [
        line.training,
        str(line.trainings),
        f"{line.steps:,}",
        _seconds(line.step),
        _hours(line.train_cost),
        _by([line.step]),
    ]


def _evaluation_cells(line: TrainingLine, machine: Machine) -> list[str]:
    known = [pace.seconds for pace in line.paces if pace.seconds is not None]
    cells = max(line.evaluations, line.timings)
    # Each cell has a stage or two; what is shown is the cell.
    each = f"{sum(known) / cells:.3g}" if len(known) == len(line.paces) else "?"
    return [line.training, f"{cells:,}", each, _hours(line.evaluation_cost), _by(line.paces)]


def _by(paces: Sequence[Pace]) -> str:
    """Who says so, and of how much; ``measured (3 trainings)``."""
    notes: dict[str, Counter[str]] = defaultdict(Counter)
    for pace in paces:
        notes[pace.origin][pace.note] += 1
    parts = []
    for origin, found in notes.items():
        note = next(iter(found)) if len(found) == 1 else ""
        count = f"{sum(found.values())} " if len(notes) > 1 else ""
        parts.append(f"{count}{origin}" + (f" ({note})" if note else ""))
    return ", ".join(parts)


def _seconds(pace: Pace) -> str:
    return "?" if pace.seconds is None else f"{pace.seconds:.3g}"


def _hours(span: Span) -> str:
    """Device-hours of a table's line."""
    if span.unknown and not span.seconds:
        return "?"
    return f"{'>= ' if span.unknown else ''}{span.seconds / 3600:,.2f}"


def _device_hours(span: Span, machine: Machine) -> str:
    return _at_least(span, f"{span.seconds / 3600:,.2f} {machine.unit}-hours")


def _at_least(span: Span, text: str) -> str:
    if not span.unknown:
        return text
    return f"at least {text}" if span.seconds else "unknown"


def duration(seconds: float) -> str:
    """``2 d 5 h``, ``3 h 20 min``, ``12 min`` or ``40 s``."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    return f"{hours // 24} d {hours % 24} h"


def _spent(plan: Plan, trials: Sequence[Trial]) -> list[str]:
    """What the finished trainings of this sweep took, by kind of device."""
    spent: dict[str, list[float]] = defaultdict(list)
    folders = trial_folders(plan)
    for trial in trials:
        record = read_training(plan.trial_folder(trial)) if trial.key in folders else None
        if record is not None:
            unit, seconds = train_device_seconds(record)
            spent[unit].append(seconds)
    return [
        f"spent already:   {sum(seconds) / 3600:,.2f} {unit}-hours on {len(seconds)} finished trainings"
        for unit, seconds in sorted(spent.items())
    ]


def _notes(found: Estimate) -> list[str]:
    """What the numbers do not say of themselves."""
    notes = []
    lines = found.lines
    for name, option, paces in (
        ("training", "--step-seconds SECONDS", [line.step for line in lines if line.steps]),
        ("evaluation", "--evaluation-seconds SECONDS (of a cell)", [p for line in lines for p in line.paces]),
    ):
        unknown = [pace for pace in paces if pace.origin == "unknown"]
        # What a probe had to say stands in the note: a second one would say the same.
        probe = "--probe (times a little of it here) or " if any(not pace.note for pace in unknown) else ""
        if unknown:
            notes.append(f"{name} unknown: add {probe}{option}")
    paces = [*(line.step for line in found.lines), *(pace for line in found.lines for pace in line.paces)]
    if any(pace.origin == "does not fit" for pace in paces):
        notes.append("what does not fit into memory is counted as no time")
    return notes


def _table(lines: Sequence[Sequence[str]], heads: Sequence[str], count: int) -> str:
    """The first of ``count`` lines; numbers stand right."""
    sides = ["left", *["right"] * (len(heads) - 2), "left"]
    text = tabulate(lines, heads, tablefmt="simple", disable_numparse=True, colalign=sides)
    more = count - len(lines)
    return f"{text}\n... and {more:,} more, counted below" if more else text
