"""Which trial people mean: by its key, a cell's key, or its label."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.engine.manifest import Manifest, ManifestTrial
from model.errors import InputError

LISTED = 8
"""Candidates that an error names"""


@dataclass(frozen=True)
class Use:
    """A sweep that needs a trial, and what it calls it."""

    manifest: Manifest
    trial: ManifestTrial


@dataclass(frozen=True)
class Found:
    """A trial and the sweeps that need it; none where its plan is gone."""

    key: str
    uses: tuple[Use, ...]

    @property
    def label(self) -> str | None:
        """As people call it."""
        return self.uses[0].trial.label if self.uses else None


def find_trial(name: str, results: Path, manifests: Sequence[Manifest], sweep: str | None = None) -> Found:
    """The one trial that ``name`` can mean.

    Args:
        name: a trial's key or the beginning of one, a cell's key, or a label such as ``ifc seed 0``.
        sweep: look among the trials of this sweep alone: its name, or name and folder (``table3a/tiny``).

    Raises :class:`InputError` with candidates where none or several fit.
    """
    if not results.is_dir():
        raise InputError(f"--results {results}: no such folder")
    chosen = [m for m in manifests if sweep in (None, m.sweep, m.name)]
    if not chosen and sweep is not None:
        names = ", ".join(m.name for m in manifests) or "none"
        raise InputError(f"--sweep: {sweep!r}: no such sweep in {results}; there are: {names}")
    uses: dict[str, list[Use]] = {}
    for manifest in chosen:
        for trial in manifest.trials:
            uses.setdefault(trial.key, []).append(Use(manifest, trial))
    if sweep is None:
        for folder in results.glob("trials/*/"):
            uses.setdefault(folder.name, [])
    keys = _fitting(" ".join(name.split()), uses, results)
    if len(keys) == 1:
        return Found(keys[0], tuple(uses[keys[0]]))
    if keys:
        raise InputError(f"TRIAL {name!r}: fits {len(keys)} trials: {_listed(keys, uses)}")
    near = _nearest(name, uses)
    known = f"did you mean {_listed(near, uses)}" if near else f"there are: {_listed(list(uses), uses)}"
    raise InputError(f"TRIAL {name!r}: no such trial in {results}; {known}")


def _fitting(name: str, uses: dict[str, list[Use]], results: Path) -> list[str]:
    """Keys of the trials that a name can mean; the most exact reading wins."""
    if not name:
        return []
    if name in uses:
        return [name]
    labelled = [key for key, found in uses.items() if any(use.trial.label == name for use in found)]
    if labelled:
        return labelled
    owners = [key for key, found in uses.items() if any(name in _cells(use) for use in found)]
    if "/" not in name and "*" not in name and "?" not in name and "[" not in name:
        of_files = (path.parent.parent.name for path in results.glob(f"trials/*/cells/{name}"))
        owners += [key for key in of_files if key in uses and key not in owners]
    return owners or [key for key in uses if key.startswith(name)]


def _cells(use: Use) -> set[str]:
    return {cell.key for cell in use.trial.cells}


def _nearest(name: str, uses: dict[str, list[Use]]) -> list[str]:
    words: dict[str, list[str]] = {}
    for key, found in uses.items():
        for word in (key, *(use.trial.label for use in found)):
            words.setdefault(word, []).append(key)
    near = difflib.get_close_matches(name, words, n=LISTED, cutoff=0.7)
    return list(dict.fromkeys(key for word in near for key in words[word]))


def _listed(keys: Sequence[str], uses: dict[str, list[Use]]) -> str:
    """Some keys, each with the sweeps and labels that people know it by."""

    def known(found: Iterable[Use]) -> str:
        return ", ".join(f"{use.manifest.name}: {use.trial.label}" for use in found) or "of no known sweep"

    if not keys:
        return "none"
    named = [f"{key} ({known(uses[key])})" for key in keys[:LISTED]]
    more = [f"and {len(keys) - LISTED} more"] if len(keys) > LISTED else []
    return ", ".join([*named, *more])
