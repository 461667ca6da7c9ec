"""``--only encoder=ifc,seed=0``: a part of a sweep."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Sequence
from typing import Any

from harness.sweep import Trial
from model.errors import InputError

SEED = "seed"
OUTSIDE_BRACKETS = re.compile(r",(?![^\[]*\])")
"""A list's own commas part nothing."""


def choose(trials: Sequence[Trial], only: str | None) -> tuple[Trial, ...]:
    """The trials, with those of their cells, that meet every condition of ``only``.

    A condition is ``key=value``: ``seed``, a varied key, or its last part where that names one key. The
    same key twice allows either value.

    Raises :class:`InputError` for a key that does not vary, or a value that it does not take.
    """
    if only is None:
        return tuple(trials)
    wanted: dict[str, set[str]] = {}
    for condition in OUTSIDE_BRACKETS.split(only):
        key, value = _condition(condition, trials)
        wanted.setdefault(key, set()).add(value)
    chosen = []
    for trial in trials:
        if SEED in wanted and str(trial.seed) not in wanted[SEED]:
            continue
        cells = tuple(
            cell
            for cell in trial.cells
            if all(key not in wanted or spelled(value) in wanted[key] for key, value in cell.varied)
        )
        if cells:
            chosen.append(dataclasses.replace(trial, cells=cells))
    if not chosen:
        raise InputError(f"--only: {only!r}: no trial of the sweep meets all of it")
    return tuple(chosen)


def spelled(value: Any) -> str:
    """How a value is written in a condition: text as it is, anything else as json without blanks."""
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def _condition(text: str, trials: Sequence[Trial]) -> tuple[str, str]:
    """The full key and the value of one condition, held against what varies."""
    name, found, value = (part.strip() for part in text.partition("="))
    if not found:
        raise InputError(f"--only: {text!r}: allowed: key=value, several with commas between them")
    keys = [key for key, _ in trials[0].cells[0].varied]
    meant = [key for key in (*keys, SEED) if name in (key, key.rsplit(".", 1)[-1])]
    if len(meant) != 1:
        problem = f"means {' and '.join(meant)}" if meant else "does not vary"
        raise InputError(f"--only: {name!r}: {problem}; allowed: {', '.join((*keys, SEED))}")
    [key] = meant
    if key == SEED:
        values = [str(trial.seed) for trial in trials]
    else:
        values = [spelled(dict(cell.varied)[key]) for trial in trials for cell in trial.cells]
    if value not in values:
        raise InputError(f"--only: {name}={value}: allowed: {', '.join(dict.fromkeys(values))}")
    return key, value
