"""Rows in and out of parquet: one file a cell, written whole or not at all.

The folder of a sweep reads as one table: ``pandas.read_parquet("results/table3a/tiny")``.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.provenance import PACKAGES
from model.errors import InputError
from model.whole_file import whole_file

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

SCHEMA_VERSION = 2

METRIC_COLUMNS = ("AP", "AP50", "AP75", "AR1", "AR10", "fps", "peak_memory_gb", "flops_g")
_TYPES = {
    "schema_version": "int64",
    **dict.fromkeys(("sweep", "scale", "trial", "cell", "status", "error"), "string"),
    "seed": "int64",
    **dict.fromkeys(METRIC_COLUMNS, "float64"),
    **dict.fromkeys(("config", "data_name", "data_kind", "data_description", "split"), "string"),
    **dict.fromkeys(("train_data", "valid_data", "data_checksum", "initial_weights"), "string"),
    **dict.fromkeys(("code_version", "git_commit", "git_diff_hash"), "string"),
    "git_dirty": "bool",
    **dict.fromkeys(("device", "hardware", "cpu", "platform", "python_version", "cuda_version"), "string"),
    **dict.fromkeys(("host", "gpu_driver", "determinism"), "string"),
    **dict.fromkeys((f"{name}_version" for name in PACKAGES), "string"),
    **dict.fromkeys(("cpu_count", "threads", "train_threads"), "int64"),
    "tf32": "bool",
    **dict.fromkeys(("results", "scored_videos", "timed_frames", "kept_tracks", "multiply_adds"), "int64"),
    "fps_passes": "float64 list",
    "peak_memory_kind": "string",
    **dict.fromkeys(("train_started", "train_finished", "train_hardware"), "string"),
    "train_seconds": "float64",
    **dict.fromkeys(("evaluated", "counted", "finished"), "string"),
}
"""Columns of every row, done or failed, on any machine: one schema, or the folder is no table."""


def write_row(folder: Path, row: dict[str, Any]) -> Path:
    """Write one cell's row as ``<cell>.parquet``, replacing an older row of the same cell.

    Columns that are None or missing keep their type, so that files of one sweep always read as one table.
    """
    import pyarrow as pa  # late: a dry run of a fresh sweep reads no row
    import pyarrow.parquet as pq

    folder.mkdir(parents=True, exist_ok=True)
    columns = {
        name: pa.array([value], type=_type_of(name, value))
        for name, value in {**row, **{name: row.get(name) for name in _TYPES}}.items()
    }
    path = folder / f"{row['cell']}.parquet"
    with whole_file(path) as draft:
        pq.write_table(pa.table(columns), draft)
    return path


def read_rows(folder: Path, cells: list[str]) -> pd.DataFrame:
    """The rows of these cells that are there, in this order; others in the folder are left alone.

    Raises :class:`InputError` that names a file which is not one of our rows.
    """
    import pandas as pd

    found = (_read_row(folder / f"{cell}.parquet") for cell in cells)
    return pd.DataFrame([row for row in found if row is not None])


def row_status(folder: Path, cell: str, needed: Sequence[str] = ()) -> str | None:
    """The status of a cell's row; None where there is none, or a ``done`` one lacks a needed number."""
    row = _read_row(folder / f"{cell}.parquet")
    if row is None or (row["status"] == "done" and any(row[name] is None for name in needed)):
        return None
    return str(row["status"])


def set_aside(folder: Path, keep: Set[str]) -> None:
    """Move rows of other cells (older axes, older code) to ``_older/``, which no reader takes for rows."""
    older = folder / "_older"
    for path in folder.glob("*.parquet"):
        if path.stem not in keep:
            older.mkdir(exist_ok=True)
            path.replace(older / path.name)


def _read_row(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        row: dict[str, Any] = pq.ParquetFile(path).read().to_pylist()[0]
        version, _ = row["schema_version"], row["status"]
    except (pa.ArrowException, OSError, KeyError, IndexError) as error:
        reason = f"no column {error}" if isinstance(error, KeyError) else str(error).split("\n")[0]
        raise InputError(f"{path}: not a row of this harness ({reason}); delete it to make it anew") from None
    if version != SCHEMA_VERSION:
        raise InputError(f"{path}: schema_version {version}: this version reads {SCHEMA_VERSION}")
    return row


def _type_of(name: str, value: Any) -> pa.DataType:
    import pyarrow as pa

    if name in _TYPES:
        kind, _, many = _TYPES[name].partition(" ")
        return pa.list_(pa.type_for_alias(kind)) if many else pa.type_for_alias(kind)
    return pa.string() if value is None else pa.array([value]).type
