"""Where the rows of a report lie, and which sweep files they belong to. No data is read, no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from harness.archive import read_folder
from harness.engine.manifest import Manifest, load_manifests
from harness.provenance import PROJECT
from harness.report.claimed import check_claims
from harness.report.spec_of import spec_of_files
from harness.report.table_spec import TableSpec
from harness.store import OddFile
from harness.sweep_file import SCALES, ScaleFile, SweepFile, load_scale, load_sweep, seed_list
from model.errors import InputError

SWEEPS = PROJECT / "sweeps"
DEFAULT_SCALE = "paper"


@dataclass(frozen=True)
class Source:
    """One sweep at one scale: its rows, whichever code made them, and the table that is wanted of them."""

    file: Path
    """The sweep file"""
    folder: Path
    """Of the rows, such as ``results/table3a/tiny``; it need not exist"""
    spec: TableSpec
    rows: pd.DataFrame
    odd: tuple[OddFile, ...]
    """Files of the folder that are no rows"""
    manifest: Manifest | None
    """What the last run planned, where that is still known"""

    @property
    def name(self) -> str:
        """``table3a/tiny``"""
        return f"{self.spec.name}/{self.folder.name}"


def find_sources(named: Sequence[str], scale: str | None, results: Path) -> list[Source]:
    """The rows of the sweeps that people name, in that order; of each, every folder that has some.

    Args:
        named: sweep files, or names of files in ``sweeps/``; none: all of these that have rows.
        scale: only this one, by name or file; a sweep without rows of it is a source without rows.

    Raises:
        InputError: no such sweep, no such scale, or no rows where nothing was named.
    """
    if not results.is_dir():
        raise InputError(f"--results {results}: no such folder")
    files = [_sweep_file(name) for name in named] or sorted(SWEEPS.glob("*.yaml"))
    manifests = {found.folder: found for found in load_manifests(results)[0]}
    sources = []
    for file in {file.resolve(): file for file in files}.values():  # named twice, made once
        sweep = load_sweep(file)
        wanted = None if scale is None else load_scale(scale)
        folders = _folders(results / sweep.name, wanted)
        if not folders and named:
            folders = [results / sweep.name / (DEFAULT_SCALE if wanted is None else wanted.name)]
        sources += [_source(file, sweep, folder, wanted, manifests.get(folder)) for folder in folders]
    if not sources:
        raise InputError(
            f"--results {results}: no rows of any sweep of {SWEEPS.name}/; run one, or name a file"
        )
    return sources


def _sweep_file(name: str) -> Path:
    """A path, or the name of one of ours."""
    path = Path(name)
    if name.endswith((".yaml", ".yml")) or path.is_file():
        return path
    ours = sorted(file.stem for file in SWEEPS.glob("*.yaml"))
    if name not in ours:
        raise InputError(f"SWEEP: {name!r}: allowed: a sweep file, or one of {', '.join(ours)}")
    return SWEEPS / f"{name}.yaml"


def _folders(sweep: Path, scale: ScaleFile | None) -> list[Path]:
    """The folders of a sweep that hold rows, of one scale if that is given."""
    found = sorted({file.parent for file in sweep.glob("*/*.parquet")})
    if scale is None:
        return found
    return [
        folder for folder in found if folder.name == scale.name or folder.name.startswith(f"{scale.name}-")
    ]


def _source(
    file: Path, sweep: SweepFile, folder: Path, scale: ScaleFile | None, manifest: Manifest | None
) -> Source:
    odd: list[OddFile] = []
    rows = read_folder(folder, odd)
    scale = scale or _scale_of(folder, rows, manifest)
    spec = spec_of_files(sweep, scale, _seeds(sweep, scale, rows, manifest), str(file))
    check_claims(spec, str(file))
    return Source(file, folder, spec, rows, tuple(odd), manifest)


def _scale_of(folder: Path, rows: pd.DataFrame, manifest: Manifest | None) -> ScaleFile:
    """The scale that the rows name."""
    names = sorted(set(rows["scale"].dropna())) if "scale" in rows else []
    name = names[0] if names else folder.name.split("-")[0]
    if len(names) > 1:
        raise InputError(f"{folder}: rows of several scales ({', '.join(names)}): name one with --scale")
    if (SCALES / f"{name}.yaml").is_file():
        return load_scale(name)
    argument = manifest.scale_argument if manifest is not None else ""
    if argument.endswith(".yaml") and Path(argument).is_file():
        return load_scale(argument)
    raise InputError(f"{folder}: rows of the scale {name!r}, whose file is not known: name it with --scale")


def _seeds(
    sweep: SweepFile, scale: ScaleFile, rows: pd.DataFrame, manifest: Manifest | None
) -> tuple[int, ...]:
    """Those that the last run planned, or else the files do, and those that the rows have beyond."""
    if "ap" not in sweep.measure:
        return (0,)
    if manifest is not None:
        planned = tuple(trial.seed for trial in manifest.trials)
    else:
        planned = seed_list(scale.seeds if scale.seeds is not None else sweep.seeds, "seeds")
    there = {int(seed) for seed in rows["seed"].dropna()} if "seed" in rows else set()
    return tuple(sorted({*planned, *there}))
