"""``--dry-run``: the table as it will stand, what of it is done, what is left, and what that costs."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence

from rich.console import Console
from tabulate import tabulate

from harness.engine.cost import Machine
from harness.engine.plan import Plan
from harness.engine.preview_cost import cost_lines, priced, training_name, trial_folders
from harness.engine.probes import run_probes
from harness.engine.states import FAILURES
from harness.engine.timings import CostOptions
from harness.report.table_spec import Side, Values
from harness.store import OddFile, row_states
from harness.sweep import Trial, is_evaluation_key, trial_cells

MOST_TRIALS = 50
"""More are listed by training configuration, a line for all its seeds."""
MOST_LINES = 40
"""Longer lists are cut; counts and costs are of everything."""


def preview(plan: Plan, console: Console, options: CostOptions, machine: Machine) -> None:
    """Print the grid, the trials, counts and costs. Writes nothing, but for what ``--probe`` measures."""
    trials = plan.chosen
    odd: list[OddFile] = []
    states = _states(plan, trials, odd)
    folders = trial_folders(plan) if plan.trains else set()
    trained = {trial.key for trial in trials if trial.key in folders and plan.is_trained(trial)}
    console.print("seeds done/planned of each cell of the table", markup=False)
    console.print(_grid(plan, trials, states), markup=False)
    console.print()
    console.print(_trial_list(plan, trials, states, trained), markup=False)
    console.print()
    console.print(f"{plan.sweep.name}: {plan.sweep.title}", markup=False)
    console.print(f"scale {plan.scale.name}: {plan.scale.description}", markup=False)
    for source in plan.sources:
        console.print(f"data {source.name}: {source.description}", markup=False)
    for file in odd:
        console.print(str(file), markup=False)
    for line in plan.absent:
        console.print(f"still lacking: {line}", markup=False)
    console.print(_counts(plan, trials, states, trained), markup=False)
    if not plan.trains:
        console.print("cost: none to speak of: nothing is trained, counting needs a CPU for seconds a cell")
        return
    console.print()
    left = _left(trials, states, plan.options.retried())
    if options.probe:
        run_probes(plan, left, trained, options, machine, console)
    for line in cost_lines(plan, trials, priced(plan, left, trained, options, machine)):
        console.print(line, markup=False)


def _states(plan: Plan, trials: Sequence[Trial], odd: list[OddFile]) -> dict[str, str]:
    """The status of every cell that has a row, by its key."""
    keys = [cell.key for _, cell in trial_cells(list(trials))]
    return row_states(plan.rows, keys, plan.measured_columns(), odd, plan.varied, plan.exact_columns())


def _left(trials: Sequence[Trial], states: Mapping[str, str], again: Collection[str]) -> dict[str, list[str]]:
    """Trials that the command would run -> keys of their cells that wait."""
    left: dict[str, list[str]] = {}
    for trial in trials:
        waiting = [c.key for c in trial.cells if states.get(c.key, "pending") in ("pending", *again)]
        if waiting:
            left[trial.key] = waiting
    return left


def _grid(plan: Plan, trials: Sequence[Trial], states: Mapping[str, str]) -> str:
    """The table with ``seeds done/planned`` in each place, and what became of others."""
    keys = plan.sweep.table
    cells: dict[tuple[Values, Values], list[str]] = defaultdict(list)
    for _, cell in trial_cells(list(trials)):
        varied = dict(cell.varied)
        where = (tuple(varied[key] for key in keys.rows), tuple(varied[key] for key in keys.columns))
        cells[where].append(states.get(cell.key, "pending"))
    rows = Side(keys.rows, tuple(dict.fromkeys(row for row, _ in cells)))
    columns = Side(keys.columns, tuple(dict.fromkeys(column for _, column in cells)))
    heads = [rows.title, *(columns.label(values) or "seeds done" for values in columns.order)]
    lines = [
        [rows.label(row), *(_seeds_done(cells.get((row, column), [])) for column in columns.order)]
        for row in rows.order[:MOST_LINES]
    ]
    return _table(lines, heads, len(rows.order), "rows")


def _seeds_done(states: Sequence[str]) -> str:
    """Such as ``3/5 1 oom``; nothing where ``--only`` leaves nothing."""
    counts = Counter(states)
    lost = [f"{counts[state]} {state}" for state in FAILURES if counts[state]]
    return " ".join([f"{counts['done']}/{len(states)}", *lost]) if states else ""


def _trial_list(
    plan: Plan, trials: Sequence[Trial], states: Mapping[str, str], trained: Collection[str]
) -> str:
    """A line a trial; of many trials a line a training configuration."""
    trained_keys = [key for key in plan.sweep.varied_keys() if not is_evaluation_key(key)]
    evaluated_keys = [key for key in plan.sweep.varied_keys() if is_evaluation_key(key)]
    groups: dict[str, list[Trial]] = defaultdict(list)
    grouped = len(trials) > MOST_TRIALS
    for trial in trials:
        groups[training_name(plan, trial) if grouped else trial.key].append(trial)
    lines = []
    for group in itertools.islice(groups.values(), MOST_LINES if grouped else None):
        first = group[0]
        varied = dict(first.cells[0].varied)
        settings = [
            " ".join(str(dict(cell.varied)[key]) for key in evaluated_keys) or "-" for cell in first.cells
        ]
        found = Counter(states.get(cell.key, "pending") for trial in group for cell in trial.cells)
        lines.append(
            [
                *(varied[key] for key in trained_keys),
                _seeds([trial.seed for trial in group]),
                _training(plan, group, trained),
                ", ".join(settings),
                ", ".join(f"{count} {state}" for state, count in sorted(found.items())),
                *([] if grouped else [first.key]),
            ]
        )
    name = "seeds" if grouped else "seed"
    heads = [*trained_keys, name, "training", " x ".join(evaluated_keys) or "evaluated", "cells"]
    return _table(lines, heads if grouped else [*heads, "trial"], len(groups), "training configurations")


def _seeds(seeds: Sequence[int]) -> str:
    """``0-4`` of neighbours, all of them otherwise, where they are few."""
    if len(seeds) > 1 and list(seeds) == list(range(seeds[0], seeds[0] + len(seeds))):
        return f"{seeds[0]}-{seeds[-1]}"
    return ", ".join(map(str, seeds)) if len(seeds) <= 8 else f"{seeds[0]}, ... {seeds[-1]} ({len(seeds)})"


def _training(plan: Plan, trials: Sequence[Trial], trained: Collection[str]) -> str:
    if not plan.trains:
        return "none needed"
    done = sum(trial.key in trained for trial in trials)
    if done in (0, len(trials)):
        return "done" if done else "pending"
    return f"{done}/{len(trials)} done"


def _table(lines: Sequence[Sequence[object]], heads: Sequence[str], count: int, noun: str) -> str:
    """Text columns; says of how many lines these are the first."""
    text = tabulate(lines, heads, tablefmt="simple", disable_numparse=True)
    more = count - len(lines)
    return f"{text}\n... and {more:,} more {noun}" if more else text


def _counts(plan: Plan, trials: Sequence[Trial], states: Mapping[str, str], trained: Collection[str]) -> str:
    """What the sweep comes to, and what of it is left."""
    counts = Counter(states.get(cell.key, "pending") for _, cell in trial_cells(list(trials)))
    cells = sum(counts.values())
    names = {
        "train_evaluate": "evaluated",
        "situations": "scored by situation",
        "errors": "searched for errors",
        "time": "timed",
        "count": "counted",
        "model": "timed alone",
    }
    work = " and ".join(names[stage] for stage in plan.stages)
    trainings = len(trials) if plan.trains else 0
    waits = {"pending", *plan.options.retried()}
    left = [t for t in trials if any(states.get(cell.key, "pending") in waits for cell in t.cells)]
    untrained = sum(trial.key not in trained for trial in left) if plan.trains else 0
    evaluations = sum(counts[state] for state in waits)
    lost = [f"{counts[state]} {state}" for state in FAILURES if counts[state] and state not in waits]
    again = f"; {', '.join(lost)}: not run again without --retry" if lost else ""
    return (
        f"{len(trials)} trials: {trainings} trainings, {cells} evaluations (each {work}); "
        f"left: {untrained} trainings, {evaluations} evaluations{again}"
    )
