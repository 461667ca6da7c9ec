"""Records: small json files that say what was done. Written whole; a damaged one says nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from model.whole_file import whole_file

Record = dict[str, Any]


def read_record(file: Path) -> Record:
    """What a record says; empty where it is missing, or damaged by a failing disk."""
    try:
        found = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def write_record(file: Path, content: Record) -> None:
    """Write a record, whole or not at all."""
    with whole_file(file) as draft:
        draft.write_text(json.dumps(content, indent=1), encoding="utf-8")


def read_training(trial_folder: Path) -> Record | None:
    """``trial.json``, the last thing a training leaves; None where the training is not finished."""
    found = read_record(trial_folder / "trial.json")
    return found if "train_seconds" in found else None
