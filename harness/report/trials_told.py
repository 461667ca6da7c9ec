"""What a page tells of each trial beside its numbers: the commands that repeat it, and the end of its log."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from harness.engine.attempts import attempts_of
from harness.engine.manifest import Manifest
from harness.show.find import Found, Use
from harness.show.repeat import repeat

NEEDED = ("git_commit", "git_dirty", "git_diff_hash", "train_processes", "log_tail")
"""Columns of the rows"""


def repeat_commands(rows: pd.DataFrame, manifest: Manifest | None) -> dict[str, str]:
    """Trial -> lines for a shell, warnings as comments; trials that no plan names have a comment alone."""
    uses = {trial.key: Use(manifest, trial) for trial in manifest.trials} if manifest is not None else {}
    told = {}
    for key, records in _by_trial(rows).items():
        found = Found(key, (uses[key],) if key in uses else ())
        processes = max(int(_or(record.get("train_processes"), 1)) for record in records)
        said = repeat(found, [_origin(record) for record in records], processes)
        told[key] = "\n".join([*(f"# {warning}" for warning in said.warnings), *said.commands])
    return told


def log_tails(rows: pd.DataFrame, trials: Path) -> dict[str, str]:
    """Trial -> the end of its last attempt's log; where a failure's log is gone, what its row kept of it."""
    tails = {}
    for key, records in _by_trial(rows).items():
        attempts = attempts_of(trials / key)
        kept = [str(record["log_tail"]) for record in records if _or(record.get("log_tail"), "")]
        tail = attempts[-1].last_log_lines() if attempts else ""
        if tail or kept:
            tails[key] = tail or kept[-1]
    return tails


def _by_trial(rows: pd.DataFrame) -> dict[str, list[dict[str, Any]]]:
    """What is needed of each trial's rows, oldest first."""
    if rows.empty or "trial" not in rows:
        return {}
    ordered = rows.sort_values(["trial", "finished"] if "finished" in rows else "trial", kind="stable")
    found: dict[str, list[dict[str, Any]]] = {}
    for row in ordered.reindex(columns=["trial", *NEEDED]).to_dict("records"):
        found.setdefault(str(row["trial"]), []).append({str(name): value for name, value in row.items()})
    return found


def _origin(record: Mapping[str, Any]) -> dict[str, Any]:
    """What ``repeat`` reads of a record; NaN is nothing."""
    commit = _or(record.get("git_commit"), None)
    dirty, hashed = _or(record.get("git_dirty"), False), _or(record.get("git_diff_hash"), None)
    return {"git_commit": commit, "git_dirty": bool(dirty), "git_diff_hash": hashed}


def _or(value: Any, otherwise: Any) -> Any:
    return otherwise if value is None or value != value else value
