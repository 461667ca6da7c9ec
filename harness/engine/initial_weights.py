"""Which weights trainings start from: a folder of files named after what they hold. Torch is not needed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from harness.config import TrialConfig
from harness.sweep import initial_stem
from model.errors import InputError

FOLDER_VARIABLE = "IFC_WEIGHTS"
SUFFIXES = (".safetensors", ".pth", ".pkl")


@dataclass(frozen=True)
class InitialWeights:
    """The files that were found, by stem (:func:`harness.sweep.initial_stem`)."""

    files: dict[str, Path] = field(default_factory=dict)
    checksums: dict[str, str] = field(default_factory=dict)
    """First 16 digits of the SHA-256 of each file"""

    def file(self, config: TrialConfig) -> Path | None:
        """What this training starts from; None: random weights."""
        stem = initial_stem(config)
        return None if stem is None else self.files[stem]

    def name(self, config: TrialConfig) -> str:
        """For a row: ``random``, or stem and checksum."""
        stem = initial_stem(config)
        return "random" if stem is None else f"{stem} {self.checksums.get(stem, 'absent')}"


def find_initial_weights(
    configs: Iterable[TrialConfig], folder: Path | None, sweep: str, absent: list[str] | None
) -> InitialWeights:
    """The files that these trainings need, from ``folder`` or the folder that ``IFC_WEIGHTS`` names.

    Args:
        absent: takes a line for what is not there; None makes that an error.

    Raises :class:`InputError` that says where it looked and what to do.
    """
    stems = dict.fromkeys(stem for config in configs if (stem := initial_stem(config)) is not None)
    if not stems and folder is not None:
        raise InputError(
            f"--weights {folder}: no training of {sweep} starts from weights: train.initial is random"
        )
    if not stems:
        return InitialWeights()
    named = folder or (Path(os.environ[FOLDER_VARIABLE]) if os.environ.get(FOLDER_VARIABLE) else None)
    files = {}
    lacking = []
    for stem in stems:
        found = [] if named is None else [named / (stem + suffix) for suffix in SUFFIXES]
        found = [file for file in found if file.is_file()]
        if len(found) > 1:
            raise InputError(f"--weights {named}: {stem}: several files ({_names(found)}); leave one")
        if found:
            files[stem] = found[0]
        else:
            lacking.append(stem)
    if lacking:
        looked = "--weights (not given) and the variable " + FOLDER_VARIABLE + " (not set)"
        where = looked if named is None else f"{named}"
        line = (
            f"no initial weights {', '.join(lacking)}: looked at {where}; give --weights a folder with "
            f"{lacking[0]}.safetensors (or .pth, .pkl), or say `train: {{initial: random}}` in the settings "
            f"of {sweep} and know that the paper's AP is then out of reach"
        )
        if absent is None:
            raise InputError(line)
        absent.append(line)
    return InitialWeights(files, {stem: _checksum(file) for stem, file in files.items()})


def _names(files: list[Path]) -> str:
    return ", ".join(file.name for file in files)


def _checksum(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()[:16]
