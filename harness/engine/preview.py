"""``--dry-run``: the grid, what is done, what is left."""

from __future__ import annotations

from collections import Counter

from rich.console import Console
from tabulate import tabulate

from harness.engine.plan import Plan
from harness.store import OddFile, row_states
from harness.sweep import Trial, is_evaluation_key, trial_cells


def preview(plan: Plan, console: Console) -> None:
    """Print trials with their states, then counts. Writes and moves nothing."""
    trained_keys = [key for key in plan.sweep.varied_keys() if not is_evaluation_key(key)]
    evaluated_keys = [key for key in plan.sweep.varied_keys() if is_evaluation_key(key)]
    lines = []
    states: Counter[str] = Counter()
    odd: list[OddFile] = []
    keys = [cell.key for _, cell in trial_cells(list(plan.trials))]
    there = row_states(plan.rows, keys, plan.measured_columns(), odd, set(plan.sweep.varied_keys()))
    for trial in plan.trials:
        found = [there.get(cell.key, "pending") for cell in trial.cells]
        states.update(found)
        varied = dict(trial.cells[0].varied)
        settings = [
            " ".join(str(dict(cell.varied)[key]) for key in evaluated_keys) or "-" for cell in trial.cells
        ]
        lines.append(
            [
                *(varied[key] for key in trained_keys),
                trial.seed,
                _training(plan, trial),
                ", ".join(settings),
                ", ".join(f"{count} {state}" for state, count in sorted(Counter(found).items())),
                trial.key,
            ]
        )
    heads = [*trained_keys, "seed", "training", " x ".join(evaluated_keys) or "evaluated", "cells", "trial"]
    console.print(tabulate(lines, heads, tablefmt="simple", disable_numparse=True), markup=False)
    console.print()
    console.print(f"{plan.sweep.name}: {plan.sweep.title}", markup=False)
    console.print(f"scale {plan.scale.name}: {plan.scale.description}", markup=False)
    console.print(f"data {plan.source.name}: {plan.source.description}", markup=False)
    for file in odd:
        console.print(str(file), markup=False)
    for line in plan.absent:
        console.print(f"still lacking: {line}", markup=False)
    console.print(_counts(plan, states), markup=False)


def _training(plan: Plan, trial: Trial) -> str:
    if not plan.trains:
        return "none needed"
    return "done" if plan.is_trained(trial) else "pending"


def _counts(plan: Plan, states: Counter[str]) -> str:
    """What the sweep comes to, and what of it is left."""
    trials, cells = len(plan.trials), sum(states.values())
    names = {"train_evaluate": "evaluated", "time": "timed", "count": "counted"}
    work = " and ".join(names[stage] for stage in plan.stages)
    trainings = trials if plan.trains else 0
    left = sum(not plan.is_trained(trial) for trial in plan.trials) if plan.trains else 0
    return (
        f"{trials} trials: {trainings} trainings, {cells} evaluations (each {work}); left: {left} trainings, "
        f"{cells - states['done']} evaluations ({states['failed']} failed)"
    )
