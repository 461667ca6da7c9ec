"""``--dry-run``: the grid, what is done, what is left."""

from __future__ import annotations

from collections import Counter

from rich.console import Console
from tabulate import tabulate

from harness.engine.plan import Plan
from harness.store import row_status
from harness.sweep import is_evaluation_key


def preview(plan: Plan, console: Console) -> None:
    """Print trials with their states, then counts. Writes nothing."""
    trained_keys = [key for key in plan.sweep.axes if not is_evaluation_key(key)]
    evaluated_keys = [key for key in plan.sweep.axes if is_evaluation_key(key)]
    lines = []
    states: Counter[str] = Counter()
    for trial in plan.trials:
        found = [
            row_status(plan.rows, cell.key, plan.measured_columns()) or "pending" for cell in trial.cells
        ]
        states.update(found)
        varied = dict(trial.cells[0].varied)
        settings = [
            " ".join(str(dict(cell.varied)[key]) for key in evaluated_keys) or "-" for cell in trial.cells
        ]
        lines.append(
            [
                *(varied[key] for key in trained_keys),
                trial.seed,
                "done" if plan.is_trained(trial) else "pending",
                ", ".join(settings),
                ", ".join(f"{count} {state}" for state, count in sorted(Counter(found).items())),
                trial.key,
            ]
        )
    heads = [*trained_keys, "seed", "training", " x ".join(evaluated_keys) or "evaluated", "cells", "trial"]
    console.print(tabulate(lines, heads, tablefmt="simple", disable_numparse=True), markup=False)
    left = sum(not plan.is_trained(trial) for trial in plan.trials)
    cells = sum(states.values())
    console.print()
    console.print(f"{plan.sweep.name}: {plan.sweep.title}", markup=False)
    console.print(f"scale {plan.scale.name}: {plan.scale.description}", markup=False)
    console.print(f"data {plan.source.name}: {plan.source.description}", markup=False)
    console.print(
        f"{len(plan.trials)} trials, {cells} cells; left: {left} trainings, {cells - states['done']} cells "
        f"({states['failed']} failed)"
    )
