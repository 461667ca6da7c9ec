"""All that the files of a results folder say about one trial, as one dictionary."""

from __future__ import annotations

import csv
import dataclasses
import statistics
import time
from collections import Counter
from pathlib import Path
from typing import Any

from harness.engine.attempts import attempts_of, is_open
from harness.engine.ledger import spent
from harness.engine.manifest import PlannedFiles
from harness.engine.runners import FOLDER as RUNNERS
from harness.engine.runners import Observer
from harness.engine.states import CellStates, State
from harness.engine.trial_files import RECORDS
from harness.metrics import ERROR_METRICS, SITUATION_METRICS
from harness.record_file import read_record
from harness.show.find import Found
from harness.show.repeat import repeat
from harness.store import METRIC_COLUMNS, read_rows
from model.errors import InputError

CONDITIONS = (
    *("git_commit", "git_dirty", "git_diff_hash", "host", "device", "hardware", "gpu_driver"),
    *("cuda_version", "cpu", "cpu_count", "threads", "platform", "determinism", "tf32", "data_checksum"),
    *("python_version", "torch_version"),
)
"""What is recorded of a training and of an evaluation alike"""
Json = dict[str, Any]


def gather(found: Found, results: Path) -> Json:
    """Everything about a trial; what is not there is None, empty or left out."""
    folder = results / "trials" / found.key
    trial, observer = read_record(folder / "trial.json"), Observer(results)
    attempts, states = _attempts(folder, results, observer), _states(found, results, observer)
    cost = spent(attempts_of(folder))
    notes: list[str] = []
    cells = [_cell(key, found, folder, states, notes) for key in _cell_keys(found, folder)]
    records = sorted((cell["conditions"] for cell in cells if cell["conditions"]), key=lambda r: r["at"])
    return {
        "trial": found.key,
        "label": found.label,
        "seed": trial.get("seed", found.uses[0].trial.seed if found.uses else None),
        "folder": str(folder),
        "sweeps": [_sweep(use.manifest, use.trial) for use in found.uses],
        "config": _config(folder, trial),
        "state": {
            "training": _training_state(found, trial, attempts),
            "cells": dict(Counter(cell["state"] for cell in cells)),
        },
        "attempts": attempts,
        "training": _training(folder, trial),
        "cells": cells,
        "provenance": {
            "training": {key: trial.get(key) for key in CONDITIONS} if trial else None,
            "data": sorted({use.manifest.data or "embedded" for use in found.uses}),
            "initial_weights": trial.get("initial_weights"),
            "code": found.uses[0].manifest.code if found.uses else {},
            "packages": trial.get("packages", {}),
            "loggers": trial.get("loggers", {}),
        },
        "cost": _cost(trial, attempts, cost),
        "files": _files(folder),
        "notes": notes,
        "repeat": dataclasses.asdict(
            repeat(found, [*([trial] if trial else []), *records], cost.get("train_processes", 1))
        ),
    }


def _sweep(manifest: Any, trial: Any) -> Json:
    shown = {"name": manifest.name, "title": manifest.title, "label": trial.label}
    shown |= {"scale": manifest.scale, "data": manifest.data, "split": manifest.split}
    return shown | {"measure": list(manifest.measure), "cells": [cell.key for cell in trial.cells]}


def _config(folder: Path, trial: Json) -> Json | None:
    """Of the finished training, or what the last try was told."""
    for record in [trial, *(attempt.job() for attempt in reversed(attempts_of(folder)))]:
        if isinstance(record.get("config"), dict):
            return dict(record["config"])
    return None


# ------------------------------------------------------------------------------------------------ attempts


def _attempts(folder: Path, results: Path, observer: Observer) -> list[Json]:
    """Every try at a stage, oldest first: who, when, how it ended; of one without an end, how far it came."""
    found = []
    for each in attempts_of(folder):
        owner, outcome = each.owner(), each.outcome()
        state = "running" if is_open(each, observer) else "interrupted"
        attempt = {"attempt": each.folder.name, **owner, "state": state, **(outcome or {})}
        if outcome is None:
            attempt["progress"] = each.progress() or None
        if state == "running":
            attempt["last_beat_seconds"] = _age(results / RUNNERS / f"{owner['runner']}.json")
        found.append(attempt)
    return found


def _age(path: Path) -> float | None:
    """Seconds since a file was written."""
    try:
        return round(max(0.0, time.time() - path.stat().st_mtime), 1)
    except OSError:
        return None


def _training_state(found: Found, trial: Json, attempts: list[Json]) -> str:
    if trial:
        return "done"
    if found.uses and all("ap" not in use.manifest.measure for use in found.uses):
        return "none needed"
    tries = [attempt for attempt in attempts if attempt.get("stage", "train_evaluate") == "train_evaluate"]
    return str(tries[-1]["state"]) if tries else "pending"


# --------------------------------------------------------------------------------------------------- cells


def _cell_keys(found: Found, folder: Path) -> list[str]:
    """Those of the plans first, then others that older settings left."""
    planned = [cell.key for use in found.uses for cell in use.trial.cells]
    return list(dict.fromkeys([*planned, *sorted(path.name for path in folder.glob("cells/*"))]))


def _states(found: Found, results: Path, observer: Observer) -> dict[str, list[State]]:
    """Where each cell of the trial stands, in each sweep that needs it."""
    states: dict[str, list[State]] = {}
    for use in found.uses:
        known = CellStates(PlannedFiles(results, use.manifest))
        known.reread(use.trial)
        for cell, state in known.states(use.trial, observer).items():
            states.setdefault(cell, []).append(state)
    return states


def _cell(key: str, found: Found, folder: Path, states: dict[str, list[State]], notes: list[str]) -> Json:
    """State, numbers and conditions of one evaluation."""
    files = [record.file for record in RECORDS.values()]
    paths = {name: folder / "cells" / key / name for name in files}
    records = {name: read_record(path) for name, path in paths.items()}
    notes += [
        f"{path}: damaged; its numbers are not shown, rows may have them"
        for name, path in paths.items()
        if not records[name] and path.exists()
    ]
    whole: Json = {}
    for record in records.values():
        whole |= record
    uses = [use for use in found.uses if any(cell.key == key for cell in use.trial.cells)]
    row = _row(key, [use.manifest.folder for use in uses], notes)
    said = states.get(key, [])
    state = "done" if "done" in said or (not uses and whole) else next(iter(said), "pending")
    made = whole.get("evaluated") or whole.get("counted")
    conditions = {name: whole.get(name) for name in CONDITIONS} | {"at": made} if made else None
    varied = next((cell.varied for use in uses for cell in use.trial.cells if cell.key == key), {})
    return {
        "cell": key,
        "varied": varied,
        "state": state,
        "error": None if state == "done" else row.get("error"),
        **{name: whole.get(name) for name in METRIC_COLUMNS},
        "by_situation": {name: whole[name] for name in SITUATION_METRICS if name in whole},
        "by_error": {name: whole[name] for name in ERROR_METRICS if name in whole},
        "conditions": conditions,
    }


def _row(key: str, folders: list[Path], notes: list[str]) -> Json:
    """The parquet row's status and error, from the first sweep that has one."""
    for folder in folders:
        if not (folder / f"{key}.parquet").is_file():
            continue
        try:
            rows = read_rows(folder, [key])
        except InputError as error:
            notes.append(str(error))
            continue
        if len(rows):
            row = rows.iloc[0]
            text = {name: row[name] for name in ("status", "error")}
            return {name: value if isinstance(value, str) else None for name, value in text.items()}
    return {}


# ------------------------------------------------------------------------------------------ training, cost


def _training(folder: Path, trial: Json) -> Json:
    """Times and losses of a finished training; empty otherwise."""
    if not trial:
        return {}
    keys = ("train_started", "train_finished", "train_seconds", "train_waited_seconds", "train_processes")
    shown = {key: trial.get(key) for key in keys}
    shown["waiting_share"] = _share(shown["train_waited_seconds"], shown["train_seconds"])
    try:
        with (folder / "losses.csv").open(newline="", encoding="utf-8") as file:
            lines = [
                {name: float(value) for name, value in line.items() if name != "waited"}
                for line in csv.DictReader(file)
            ]
    except (OSError, ValueError, TypeError):
        return {**shown, "losses": None}
    if not lines:
        return {**shown, "steps": 0}
    seconds = statistics.median(line["seconds"] for line in lines)
    return {
        **shown,
        "steps": int(lines[-1]["step"]),
        "first_losses": lines[0],
        "last_losses": lines[-1],
        "seconds_per_step": round(seconds, 4),
    }


def _share(waited: Any, seconds: Any) -> float | None:
    """What part of the training it waited for clips; None where that was not measured, as in older trials."""
    known = all(isinstance(value, int | float) for value in (waited, seconds)) and seconds > 0
    return round(waited / seconds, 4) if known else None


def _cost(trial: Json, attempts: list[Json], cost: Json) -> Json:
    """Of the training's steps, and of all tries, with those that came to nothing."""
    return {
        "train_seconds": trial.get("train_seconds"),
        "train_processes": cost.get("train_processes"),
        "attempts": len(attempts),
        "all_attempts_device_hours": cost.get("device_hours"),
    }


def _files(folder: Path) -> list[Json]:
    """Every file of the trial with its size."""
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    sizes = []
    for path in found:
        try:
            sizes.append({"file": path.relative_to(folder).as_posix(), "bytes": path.stat().st_size})
        except OSError:  # a checkpoint that was replaced meanwhile
            continue
    return sizes
