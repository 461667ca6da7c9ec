"""Measure the sweep engine against its targets, each part on its own.

``python -m benchmarks.engine`` runs all parts, ``python -m benchmarks.engine expand again`` those named:

- ``expand``: 10,000 trials from a sweep's text, and their dry run;
- ``again``: a finished sweep of 400 cells, run again; its rows are synthesised, nothing is trained;
- ``workers``: 8 equal trials by one worker and by two, and what the engine adds to their processes' own time.

Nothing else may use the machine meanwhile.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from tabulate import tabulate

from harness.engine.attempts import attempts_of
from harness.engine.plan import Options, Plan, make_plan
from harness.engine.run import run
from harness.provenance import git_state, machine, now
from harness.store import METRIC_COLUMNS, SCHEMA_VERSION, read_rows, row_states, write_row
from harness.sweep import Cell, Identities, Trial, expand, trial_cells
from harness.sweep_file import SCALES, SweepFile, load_scale

PROJECT = Path(__file__).resolve().parent.parent
EXPAND_S, AGAIN_S, STATES_S, OVERHEAD_S, WORKERS_SHARE = 2.0, 3.0, 0.5, 0.3, 0.6
TRIALS = 8
ENCODERS = ["no_comm", "full_thw", "decomp_t_hw", "ifc"]

Line = tuple[str, str, str, str]
"""What, measured, target, verdict"""


def main() -> int:
    """Print the table; exit status 1 when a target is missed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", metavar="part", help=f"of {', '.join(PARTS)}; none: all")
    chosen = parser.parse_args().parts or list(PARTS)
    strange = [part for part in chosen if part not in PARTS]
    if strange:
        parser.error(f"part: {strange[0]!r}; allowed: {', '.join(PARTS)}")
    lines: list[Line] = []
    for part in chosen:
        with tempfile.TemporaryDirectory() as work:
            lines += PARTS[part](Path(work))
    print(tabulate(lines, ("what", "measured", "target", ""), tablefmt="github"))
    return int(any(line[3] == "MISSED" for line in lines))


# ---------------------------------------------------------------------------------------------- expand


def expansion(work: Path) -> list[Line]:
    """10,000 trials: of 10,000 points, of 2,000 points with five seeds, and a dry run of them."""
    rates = [(number + 1) * 1e-5 for number in range(100)]
    decays = [number * 1e-5 for number in range(100)]
    points = large_sweep({"train.learning_rate": rates, "train.weight_decay": decays}, 1)
    more_rates = [(number + 1) * 1e-5 for number in range(500)]
    seeds = large_sweep({"model.encoder": ENCODERS, "train.learning_rate": more_rates}, 5)
    lines = []
    for what, sweep in (("10,000 points, 1 seed", points), ("2,000 points, 5 seeds", seeds)):
        seconds = median([_expanding(sweep, work) for _ in range(3)])
        lines.append(at_most(f"expand {what}, median of 3", seconds, EXPAND_S))
    file, scale = write_sweep(points, work), write_scale(1, work)
    seconds = timed(lambda: run_sweep(file, scale, work, "--dry-run"))
    lines.append(told("--dry-run of 10,000 trials, the process", seconds))
    return lines


def _expanding(content: dict[str, Any], work: Path) -> float:
    sweep = SweepFile.model_validate(content)
    scale = load_scale(str(write_scale(content["seeds"], work)))
    identities = Identities("train data", "valid data", "training code", "evaluation code")
    started = time.perf_counter()
    trials = expand(sweep, scale, identities)
    seconds = time.perf_counter() - started
    assert len({trial.key for trial in trials}) == 10_000
    return seconds


def large_sweep(axes: dict[str, list[Any]], seeds: int) -> dict[str, Any]:
    """A sweep over these axes, as a file has it."""
    table = {"rows": list(axes)[:1], "columns": list(axes)[1:], "cells": ["AP", "fps"]}
    return {"name": "large", "title": "A large sweep", "axes": axes, "seeds": seeds, "table": table}


# ----------------------------------------------------------------------------------------------- again


def finished_again(work: Path) -> list[Line]:
    """A finished sweep of 400 cells: reading its rows, and the whole command."""
    axes = {"model.encoder": ENCODERS, "inference.window": [5, 10, 15, 20]}
    sweep = {**large_sweep(axes, 25), "std_table": "large_std", "figures": ["AP", "fps"]}
    file, scale = write_sweep(sweep, work), write_scale(25, work)
    plan = make_plan(Options(file, str(scale), work / "results", work / "reports"))
    cells = [cell.key for _, cell in trial_cells(list(plan.trials))]
    assert len(cells) == 400
    synthesise(plan)

    states = median([timed(lambda: row_states(plan.rows, cells, ["AP", "fps"])) for _ in range(3)])
    rows = median([timed(lambda: read_rows(plan.rows, cells)) for _ in range(3)])
    first = timed(lambda: run_sweep(file, scale, work))
    again = median([timed(lambda: run_sweep(file, scale, work)) for _ in range(3)])
    return [
        at_most("states of 400 cells, median of 3", states, STATES_S),
        told("rows of 400 cells, median of 3", rows),
        told("400 cells, rows there, report made", first),
        at_most("400 cells, finished, run again, median of 3", again, AGAIN_S),
    ]


def synthesise(plan: Plan) -> None:
    """Write a finished row for every cell: drawn numbers, this machine."""
    drawn = random.Random(0)
    host = machine() | git_state()
    for trial, cell in trial_cells(list(plan.trials)):
        write_row(plan.rows, _row(plan, trial, cell, drawn, host))


def _row(plan: Plan, trial: Trial, cell: Cell, drawn: random.Random, host: dict[str, Any]) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        "sweep": plan.sweep.name,
        "scale": plan.scale.name,
        "trial": trial.key,
        "cell": cell.key,
        "status": "done",
        "seed": trial.seed,
        **dict(cell.varied),
        **{name: drawn.uniform(10, 60) for name in METRIC_COLUMNS},
        "config": cell.config.model_dump_json(),
        "data_name": plan.source.name,
        "data_kind": plan.source.config.kind,
        "data_description": plan.source.description,
        "split": cell.config.data.valid,
        "initial_weights": "random",
        "device": "cpu",
        "hardware": host["cpu"],
        "threads": 1,
        "fps_passes": [drawn.uniform(10, 60) for _ in range(5)],
        "kept_tracks": drawn.randrange(100),
        "peak_memory_kind": "process resident",
        **host,
        "finished": now(),
    }


# --------------------------------------------------------------------------------------------- workers


def workers(work: Path) -> list[Line]:
    """Eight equal trials of one thread each: one at a time, then two."""
    sweep = {**large_sweep({"model.encoder": ["ifc"], "inference.window": [5]}, TRIALS), "measure": ["ap"]}
    sweep["table"] = {**sweep["table"], "cells": ["AP"]}
    file, scale = write_sweep(sweep, work), write_scale(TRIALS, work, train={"steps": 60, "threads": 1})
    seconds, added = {}, {}
    for count in (1, 2):
        results = work / f"results-{count}"
        plan = make_plan(Options(file, str(scale), results, work / "reports", device="cpu", workers=count))
        plan.source.root(results / "datasets")
        seconds[count] = timed(lambda plan=plan: run(plan, Console(quiet=True)))  # type: ignore[misc]
        outcomes = [attempt.outcome() for t in plan.trials for attempt in attempts_of(plan.trial_folder(t))]
        assert len(outcomes) == TRIALS
        assert all(outcome is not None and outcome["state"] == "done" for outcome in outcomes)
        added[count] = (seconds[count] - sum(outcome["seconds"] for outcome in outcomes if outcome)) / TRIALS
    share = seconds[2] / seconds[1]
    verdict = "met" if share <= WORKERS_SHARE else "MISSED"
    return [
        told(f"{TRIALS} trials, one worker", seconds[1]),
        told(f"{TRIALS} trials, two workers", seconds[2]),
        ("two workers' time over one's", f"{share:.2f}", f"at most {WORKERS_SHARE:g}", verdict),
        at_most("engine's own time per trial, one worker", added[1], OVERHEAD_S),
    ]


# ---------------------------------------------------------------------------------------------- shared


def write_sweep(content: dict[str, Any], work: Path) -> Path:
    """A sweep file in ``work``."""
    file = work / "sweep.yaml"
    file.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return file


def write_scale(seeds: int, work: Path, train: dict[str, Any] | None = None) -> Path:
    """The scale ``tiny`` with so many seeds, and another recipe where one is given, in ``work``."""
    content = yaml.safe_load((SCALES / "tiny.yaml").read_text(encoding="utf-8"))
    content["settings"]["train"] |= train or {}
    file = work / "scale.yaml"
    file.write_text(yaml.safe_dump({**content, "seeds": seeds}), encoding="utf-8")
    return file


def run_sweep(sweep: Path, scale: Path, work: Path, *more: str) -> None:
    """The command in a process of its own, with folders in ``work``."""
    folders = ("--results", str(work / "results"), "--reports", str(work / "reports"))
    command = [sys.executable, "run_sweep.py", str(sweep), "--scale", str(scale), *folders, *more]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}: exit status {done.returncode}\n{done.stderr}")


def timed(work: Callable[[], object]) -> float:
    """Seconds that it takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def median(values: list[float]) -> float:
    """The middle one."""
    return sorted(values)[len(values) // 2]


def at_most(what: str, seconds: float, limit: float) -> Line:
    """A measured time beside its target."""
    return (what, f"{seconds:.2f} s", f"at most {limit:g} s", "met" if seconds <= limit else "MISSED")


def told(what: str, seconds: float) -> Line:
    """A measured time that no target is set for."""
    return (what, f"{seconds:.2f} s", "", "")


PARTS: dict[str, Callable[[Path], list[Line]]] = {
    "expand": expansion,
    "again": finished_again,
    "workers": workers,
}


if __name__ == "__main__":
    sys.exit(main())
