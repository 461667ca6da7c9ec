"""``trial.json``: the last thing a training leaves, and what says that it is finished."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def read_training(trial_folder: Path) -> dict[str, Any] | None:
    """``trial.json``; None where it is missing or damaged."""
    try:
        found: dict[str, Any] = json.loads((trial_folder / "trial.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and "train_seconds" in found else None
