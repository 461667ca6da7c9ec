"""One trial in sections that people read; plain where the output is no terminal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import yaml
from rich.console import Console
from tabulate import tabulate

from harness.metrics import ERROR_KINDS, ERROR_NAMES, LEVELS, SITUATION_NAMES, SITUATIONS
from harness.show.record import CONDITIONS
from harness.store import METRIC_COLUMNS

Json = dict[str, Any]


def print_trial(record: Json, console: Console) -> None:
    """Print what :func:`harness.show.record.gather` found."""
    say = Sections(console)
    say.head(f"Trial {record['trial']}" + (f": {record['label']}" if record["label"] else ""))
    for sweep in record["sweeps"]:
        data = sweep["data"] or "embedded data"
        say.line(f"used by {sweep['name']} ({sweep['title']}) as {sweep['label']!r}; {data}")
    if not record["sweeps"]:
        say.line("used by no sweep whose plan is here")
    say.line(f"folder {record['folder']}")
    _state(record, say)
    if record["training"]:
        say.head("Training")
        _training(record["training"], say)
    if record["cells"]:
        say.head("Results")
        say.table(*_cell_table(record["cells"]))
        for cell in record["cells"]:
            _scores(cell, say)
    say.head("Provenance")
    _provenance(record, say)
    say.head("Cost")
    say.pairs((key, value) for key, value in record["cost"].items() if value is not None)
    say.head("Configuration")
    config = yaml.safe_dump(record["config"], sort_keys=False)
    say.line(config.rstrip() if record["config"] else "not known")
    say.head("Files")
    say.table([[file["file"], f"{file['bytes']:,}"] for file in record["files"]], ["file", "bytes"])
    say.head("Repeat")
    for warning in record["repeat"]["warnings"]:
        say.line(f"# warning: {warning}")
    for command in record["repeat"]["commands"]:
        say.line(command)


class Sections:
    """Headings, lines and tables on a console; nothing is cut or wrapped, so that commands can be copied."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._first = True

    def head(self, text: str) -> None:
        """A heading after a blank line."""
        if not self._first:
            self.line("")
        self._first = False
        self.console.print(text, style="bold", markup=False, highlight=False, soft_wrap=True)

    def line(self, text: str) -> None:
        """A line, or several."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def table(self, rows: list[list[Any]], heads: list[str]) -> None:
        """Columns under heads; nothing for no rows."""
        if rows:
            shown = [["" if value is None else value for value in row] for row in rows]
            self.line(tabulate(shown, heads, tablefmt="simple", disable_numparse=True))

    def pairs(self, pairs: Iterable[tuple[str, Any]]) -> None:
        """Names and values, one a line."""
        rows = [[name, str(value)] for name, value in pairs]
        if rows:
            self.line(tabulate(rows, tablefmt="plain", disable_numparse=True))


def _state(record: Json, say: Sections) -> None:
    """What is done, every try, and the last words of the last one that failed."""
    say.head("State")
    cells = ", ".join(f"{count} {state}" for state, count in record["state"]["cells"].items())
    say.line(f"training {record['state']['training']}; cells: {cells or 'none'}")
    attempts = record["attempts"]
    keys = ("stage", "state", "runner", "host", "pid", "executor", "since", "seconds", "peak_memory_gb")
    heads = ["attempt", *(key.replace("_", " ") for key in keys)]
    say.table([[a["attempt"], *(a.get(key) for key in keys)] for a in attempts], heads)
    for attempt in attempts:
        if attempt["state"] == "running" or attempt.get("progress"):
            say.line(f"attempt {attempt['attempt']}: {_how_far(attempt)}")
        elif attempt.get("error"):
            say.line(f"attempt {attempt['attempt']}: {attempt['error']}")
    for cell in record["cells"]:
        if cell["error"]:
            say.line(f"cell {cell['cell']}: {cell['error']}")
    tails = [attempt for attempt in attempts if attempt.get("log_tail") and attempt["state"] != "done"]
    if tails:
        tail = tails[-1]["log_tail"]
        say.line(f"last lines of the log of attempt {tails[-1]['attempt']}:")
        for line in tail.splitlines() if isinstance(tail, str) else tail:
            say.line(f"  | {line}")
    for note in record["notes"]:
        say.line(f"note: {note}")


def _how_far(attempt: Json) -> str:
    """Of a try without an outcome: its progress, and whether its runner is alive."""
    progress = attempt.get("progress") or {}
    parts = [str(progress["name"])] if progress.get("name") else []
    if progress.get("steps"):
        parts.append(f"step {progress.get('done')}/{progress['steps']}")
    if isinstance(progress.get("loss"), int | float):
        parts.append(f"loss {progress['loss']:.4g}")
    if isinstance(progress.get("seconds_per_step"), int | float):
        parts.append(f"{progress['seconds_per_step']:.3g} s a step")
    beat = attempt.get("last_beat_seconds")
    parts.append("its runner is gone" if beat is None else f"its runner's last beat {beat:g} s ago")
    return ", ".join(parts)


def _training(training: Json, say: Sections) -> None:
    keys = (
        "steps",
        "seconds_per_step",
        "train_seconds",
        "train_waited_seconds",
        "waiting_share",
        "train_started",
        "train_finished",
        "train_processes",
    )
    say.pairs((key, training[key]) for key in keys if training.get(key) is not None)
    first, last = training.get("first_losses"), training.get("last_losses")
    if first and last:
        names = [name for name in first if name not in ("step", "seconds")]
        rows = [[name, f"{first[name]:.6g}", f"{last[name]:.6g}"] for name in names]
        say.table(rows, ["loss", "first step", "last step"])


def _cell_table(cells: list[Json]) -> tuple[list[list[Any]], list[str]]:
    """One line a cell: what varies, its state, the numbers that there are."""
    varied = list(dict.fromkeys(key for cell in cells for key in cell["varied"]))
    shown = [name for name in METRIC_COLUMNS if any(cell[name] is not None for cell in cells)]
    rows = []
    for cell in cells:
        numbers = [_number(cell[name]) for name in shown]
        rows.append([cell["cell"], *(cell["varied"].get(key) for key in varied), cell["state"], *numbers])
    return rows, ["cell", *varied, "state", *shown]


def _scores(cell: Json, say: Sections) -> None:
    """AP by situation, and what each kind of error costs, of a cell that measured them."""
    by_situation, by_error = cell["by_situation"], cell["by_error"]
    if by_situation:
        rows = [
            [
                SITUATION_NAMES[situation],
                *(_number(by_situation.get(f"AP_{situation}_{level}")) for level in LEVELS),
            ]
            for situation in SITUATIONS
        ]
        say.line("")
        say.table(rows, [f"AP of {cell['cell']}", *(f"{level} third" for level in LEVELS)])
    if by_error:
        say.line("")
        rows = [[ERROR_NAMES[kind], _number(by_error.get(f"dAP_{kind}"))] for kind in ERROR_KINDS]
        say.table(rows, [f"errors of {cell['cell']}", "points of AP50"])


def _number(value: float | None) -> str | None:
    return None if value is None else f"{value:.4g}"


def _provenance(record: Json, say: Sections) -> None:
    """Conditions of training and evaluation, once where they agree; then what only a training has."""
    found = record["provenance"]
    trained = found["training"] or {}
    evaluated = [cell["conditions"] for cell in record["cells"] if cell["conditions"]]
    lines = []
    for name in CONDITIONS:
        of_training = [str(trained[name])] if trained.get(name) is not None else []
        values = [str(made[name]) for made in evaluated if made.get(name) is not None]
        of_evaluation = list(dict.fromkeys(values))
        if of_training == of_evaluation:
            lines += [(name, value) for value in of_training]
        else:
            lines += [(f"{name} (training)", value) for value in of_training]
            lines += [(f"{name} (evaluation)", value) for value in of_evaluation]
    lines += [(f"code version ({stage})", version) for stage, version in found["code"].items()]
    say.pairs(lines)
    say.line(f"data: {', '.join(found['data']) or 'not known'}")
    say.line(f"initial weights: {found['initial_weights'] or 'random'}")
    if found["packages"]:
        say.line("packages: " + ", ".join(f"{name} {version}" for name, version in found["packages"].items()))
    for name, state in found["loggers"].items():
        say.line(f"logger {name}: {state}")
