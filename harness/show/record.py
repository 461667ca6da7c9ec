"""All that the files of a results folder say about one trial, as one dictionary."""

from __future__ import annotations

import csv
import dataclasses
import json
import statistics
import time
from collections import Counter
from pathlib import Path
from typing import Any

from harness.engine.plan import RECORDS, STAGES
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
    trial = _read(folder / "trial.json")
    attempts = _attempts(folder, results)
    notes: list[str] = []
    cells = [_cell(key, found, folder, attempts, notes) for key in _cell_keys(found, folder)]
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
        "cost": _cost(trial, attempts),
        "files": _files(folder),
        "notes": notes,
        "repeat": dataclasses.asdict(repeat(found, [*([trial] if trial else []), *records])),
    }


def _read(path: Path) -> Json:
    """A json file of ours; empty where it is missing or damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _sweep(manifest: Any, trial: Any) -> Json:
    shown = {"name": manifest.name, "title": manifest.title, "label": trial.label}
    shown |= {"scale": manifest.scale, "data": manifest.data, "split": manifest.split}
    return shown | {"measure": list(manifest.measure), "cells": [cell.key for cell in trial.cells]}


def _config(folder: Path, trial: Json) -> Json | None:
    """Of the finished training, or what the last try was told."""
    told = [*sorted(folder.glob("*.job.json")), *sorted(folder.glob("attempts/*/job.json"))]
    for record in [trial, *(_read(path) for path in reversed(told))]:
        if isinstance(record.get("config"), dict):
            return dict(record["config"])
    return None


# ------------------------------------------------------------------------------------------------ attempts


def _attempts(folder: Path, results: Path) -> list[Json]:
    """Every try at a stage, oldest first: who, when, how it ended; of a running one, how far it is."""
    found = []
    for place in sorted(path for path in folder.glob("attempts/*") if path.is_dir()):
        owner, outcome = _read(place / "owner.json"), _read(place / "outcome.json")
        attempt = {"attempt": place.name, **owner, "state": "running", **outcome}
        if not outcome:
            attempt["progress"] = _read(place / "progress.json") or None
            attempt["last_beat_seconds"] = _age(results / "runners" / f"{owner.get('runner')}.beat")
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


def _cell(key: str, found: Found, folder: Path, attempts: list[Json], notes: list[str]) -> Json:
    """State, numbers and conditions of one evaluation."""
    files = [record.file for record in RECORDS.values()]
    records = {name: _read(folder / "cells" / key / name) for name in files}
    whole: Json = {}
    for record in records.values():
        whole |= record
    uses = [use for use in found.uses if any(cell.key == key for cell in use.trial.cells)]
    row = _row(key, [use.manifest.folder for use in uses], notes)
    needed = {RECORDS[STAGES[measure]].column for use in uses for measure in use.manifest.measure}  # type: ignore[index]
    tries = [attempt for attempt in attempts if key in attempt.get("cells", [key])]
    last = tries[-1]["state"] if tries else "pending"
    if row.get("status") == "done" or (not row and needed and needed <= whole.keys()):
        state = "done"
    elif last == "running":
        state = "running"
    else:
        state = str(row.get("status") or (last if last != "done" else "pending"))
    made = whole.get("evaluated") or whole.get("counted")
    conditions = {name: whole.get(name) for name in CONDITIONS} | {"at": made} if made else None
    varied = next((cell.varied for use in uses for cell in use.trial.cells if cell.key == key), {})
    return {
        "cell": key,
        "varied": varied,
        "state": state,
        "error": None if state == "done" else row.get("error"),
        **{name: whole.get(name) for name in METRIC_COLUMNS},
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
    keys = ("train_started", "train_finished", "train_seconds", "train_processes")
    shown = {key: trial.get(key) for key in keys}
    try:
        with (folder / "losses.csv").open(newline="", encoding="utf-8") as file:
            lines = [{name: float(value) for name, value in line.items()} for line in csv.DictReader(file)]
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


def _cost(trial: Json, attempts: list[Json]) -> Json:
    """Of the training alone, and of all tries, with those that came to nothing."""
    ended = [attempt for attempt in attempts if isinstance(attempt.get("seconds"), int | float)]
    hours = sum(attempt["seconds"] * (_count(attempt.get("devices"))) / 3600 for attempt in ended)
    return {
        "train_seconds": trial.get("train_seconds"),
        "train_processes": trial.get("train_processes"),
        "attempts": len(attempts),
        "all_attempts_seconds": round(sum(attempt["seconds"] for attempt in ended), 3) if ended else None,
        "all_attempts_device_hours": round(hours, 6) if ended else None,
    }


def _count(devices: Any) -> int:
    """Devices of a try: a number, or their names."""
    return devices if isinstance(devices, int) else max(1, len(devices or ()))


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
