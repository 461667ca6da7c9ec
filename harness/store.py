"""Rows in and out of parquet: one file a cell, written whole or not at all.

The folder of a sweep reads as one table: ``pandas.read_parquet("results/table3a/tiny")``, and
``results/table3a/tiny/*.parquet`` for polars and DuckDB.
"""

from __future__ import annotations

import errno
import os
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.row_schema import (
    KEY_COLUMNS,
    METRIC_COLUMNS,
    ROW_STATES,
    SCHEMA_VERSION,
    Row,
    arrow_schema,
    upgraded,
)
from model.errors import InputError
from model.whole_file import whole_file

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

__all__ = [
    "METRIC_COLUMNS",
    "SCHEMA_VERSION",
    "OddFile",
    "read_rows",
    "row_states",
    "row_status",
    "set_aside",
    "write_row",
]

OLDER, ASIDE = "_older", "_set_aside"
"""Folders in a sweep's folder that no reader takes for rows"""


@dataclass(frozen=True)
class OddFile:
    """A file among the rows that is no row: damaged, or somebody else's."""

    path: Path
    reason: str
    moved: Path | None = None
    """Where it lies now; None while it is only passed over"""

    def __str__(self) -> str:
        done = "passed over" if self.moved is None else f"moved to {self.moved.parent.name}/{self.moved.name}"
        return f"{self.path}: not a row of this harness ({self.reason}); {done}"


class _OddError(ValueError):
    """Why a file is no row."""


class _ReplacedError(Exception):
    """Another process has put a file where we read one."""


@dataclass(frozen=True)
class _File:
    """What a file held when it was read."""

    path: Path
    content: bytes
    stamp: tuple[int, int, int]
    """Of this very file: another one under the same name has another"""


@dataclass(frozen=True)
class _Found:
    """A row as its file has it."""

    table: pa.Table
    """Of one row, and the columns that were asked for"""
    schema: pa.Schema
    """Of all its columns"""
    version: int


def write_row(folder: Path, row: Row) -> Path:
    """Write one cell's row as ``<cell>.parquet``, replacing an older row of the same cell.

    Columns that are None or missing keep their type, so that files of one sweep always read as one table.
    Raises ValueError for a column that is neither one of ours nor a key of the configuration.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{row['cell']}.parquet"
    with whole_file(path) as draft:
        _write(_table(row), draft)
    return path


def row_states(
    folder: Path,
    cells: Collection[str],
    needed: Sequence[str] = (),
    odd: list[OddFile] | None = None,
    varied: Set[str] | None = None,
    exact: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """The status of those of these cells that have a row. Nothing is moved or written.

    Args:
        needed: numbers without which a ``done`` row counts as missing.
        odd: takes the files that are no rows, whose cells count as missing; None makes them an error.
        varied: the keys that the sweep varies; a row with columns of others counts as missing, since beside
            it the folder is no table.
        exact: texts that a ``done`` row must have in these columns; one with others counts as missing.

    Raises :class:`InputError` for a row of a newer version.
    """
    states, meant = {}, exact or {}
    for cell, found in _read(folder, cells, (*KEY_COLUMNS, *needed, *meant), odd):
        if varied is not None and varied != {name for name in found.schema.names if "." in name}:
            continue
        [row] = found.table.to_pylist()
        whole = all(row.get(name) is not None for name in needed)
        if row["status"] != "done" or (whole and all(row.get(name) == meant[name] for name in meant)):
            states[cell] = row["status"]
    return states


def row_status(folder: Path, cell: str, needed: Sequence[str] = ()) -> str | None:
    """:func:`row_states` of one cell."""
    return row_states(folder, [cell], needed).get(cell)


def read_rows(folder: Path, cells: Collection[str], odd: list[OddFile] | None = None) -> pd.DataFrame:
    """The rows of these cells that are there, in this order, older versions with today's columns.

    ``schema_version`` is that of the file. Others in the folder are left alone. ``odd`` and errors are those
    of :func:`row_states`.
    """
    import pandas as pd
    import pyarrow as pa

    tables, versions = [], []
    for cell, found in _read(folder, cells, None, odd):
        try:
            tables.append(_as_today(found))
            versions.append(found.version)
        except _OddError as error:
            _report(OddFile(folder / f"{cell}.parquet", str(error)), odd)
    if not tables:
        return pd.DataFrame()
    # By way of plain values: lists stay lists.
    rows = pd.DataFrame(pa.concat_tables(tables, promote_options="default").to_pylist())
    return rows.assign(schema_version=versions)


def set_aside(folder: Path, keep: Set[str]) -> list[OddFile]:
    """Leave a folder with nothing but rows of these cells, in this version; return what was no row.

    Rows of other cells (older axes, older code) move to ``_older/``, what is no row moves to ``_set_aside/``,
    rows of older versions are rewritten. A file that another process puts in place meanwhile is left alone.
    """
    odd = []
    for path in sorted(folder.glob("*.parquet")):
        file = _opened(path)
        if file is None:
            continue
        try:
            version = _checked(file, KEY_COLUMNS).version
            if path.stem not in keep:
                _move(file, folder / OLDER / path.name)
            elif version > SCHEMA_VERSION:
                raise InputError(_newer(path, version))
            elif version < SCHEMA_VERSION:
                _rewrite(file)
        except _OddError as error:
            moved = _move(file, _free(folder / ASIDE / path.name))
            if moved is not None:
                odd.append(OddFile(path, str(error), moved))
    return odd


def _read(
    folder: Path, cells: Iterable[str], columns: Sequence[str] | None, odd: list[OddFile] | None
) -> Iterator[tuple[str, _Found]]:
    """(cell, its one row) of the cells that have a row; only these columns, where they are there."""
    for cell in cells if folder.is_dir() else ():
        path = folder / f"{cell}.parquet"
        try:
            file = _opened(path)
            if file is None:
                continue
            found = _checked(file, columns)
        except InputError as error:
            if odd is None:
                raise
            odd.append(OddFile(path, str(error).removeprefix(f"{path}: ")))
            continue
        except _OddError as error:
            _report(OddFile(path, str(error)), odd)
            continue
        if found.version > SCHEMA_VERSION:
            if odd is None:
                raise InputError(_newer(path, found.version))
            odd.append(OddFile(path, f"schema_version {found.version}: of a newer version of this code"))
            continue
        yield cell, found


def _report(found: OddFile, odd: list[OddFile] | None) -> None:
    if odd is None:
        raise InputError(str(found))
    odd.append(found)


def _checked(file: _File, columns: Sequence[str] | None) -> _Found:
    """The one row of a file, of any version; raises :class:`_OddError` where it has none of ours."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        parquet = pq.ParquetFile(pa.BufferReader(file.content), page_checksum_verification=True)
        schema = parquet.schema_arrow
        names = schema.names
        lacking = [name for name in KEY_COLUMNS if name not in names]
        if lacking:
            raise _OddError(f"no column {lacking[0]!r}")
        if parquet.metadata.num_rows != 1:
            raise _OddError(f"{parquet.metadata.num_rows} rows; a file holds one")
        wanted = None if columns is None else [name for name in columns if name in names]
        table = parquet.read(columns=wanted, use_threads=False)
        version, cell, status = (table.column(name)[0].as_py() for name in KEY_COLUMNS)
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise _OddError(_one_line(error)) from None
    if not isinstance(version, int) or version < 1:
        raise _OddError(f"schema_version {version!r}")
    if version <= SCHEMA_VERSION and status not in ROW_STATES:
        raise _OddError(f"status {status!r}; known are {', '.join(ROW_STATES)}")
    if cell != file.path.stem:
        raise _OddError(f"the row of cell {cell!r}")
    return _Found(table, schema, version)


def _as_today(found: _Found) -> pa.Table:
    """A row that was read with all its columns, in this version's columns and types.

    Raises :class:`_OddError` where it does not fit them.
    """
    import pyarrow as pa

    try:
        if found.schema.equals(arrow_schema(tuple(found.schema.names))):
            return found.table
        return _table(upgraded(found.table.to_pylist()[0]))
    except (pa.ArrowException, ValueError) as error:
        raise _OddError(_one_line(error)) from None


def _table(row: Row) -> pa.Table:
    import pyarrow as pa

    return pa.Table.from_pylist([row], schema=arrow_schema(tuple(row)))


def _write(table: pa.Table, path: Path) -> None:
    import pyarrow.parquet as pq

    # Of one row, dictionaries and statistics only make the file larger.
    pq.write_table(table, path, use_dictionary=False, write_statistics=False, write_page_checksum=True)


def _rewrite(file: _File) -> None:
    """Put an older version's row in place as today's."""
    table = _as_today(_checked(file, None))
    with suppress(_ReplacedError), whole_file(file.path) as draft:
        _write(table, draft)
        if not _is_still_there(file):
            raise _ReplacedError


def _newer(path: Path, version: int) -> str:
    return (
        f"{path}: schema_version {version}: this version reads 1 to {SCHEMA_VERSION}; update the checkout, "
        "or name another --results"
    )


def _opened(path: Path, again: bool = True) -> _File | None:
    """A file's bytes; None where it is gone."""
    try:
        with path.open("rb") as opened:
            return _File(path, opened.read(), _stamp(os.fstat(opened.fileno())))
    except FileNotFoundError:
        return None
    except IsADirectoryError:
        return _File(path, b"", _stamp(path.stat()))
    except OSError as error:
        if error.errno == errno.ESTALE and again:  # replaced on a network file system while we read
            return _opened(path, again=False)
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None


def _stamp(found: os.stat_result) -> tuple[int, int, int]:
    return (found.st_ino, found.st_size, found.st_mtime_ns)


def _is_still_there(file: _File) -> bool:
    """Whether nobody has put another file in its place."""
    try:
        return _stamp(file.path.stat()) == file.stamp
    except FileNotFoundError:
        return False


def _move(file: _File, target: Path) -> Path | None:
    """Move what was read; None where another process has moved or replaced it."""
    target.parent.mkdir(exist_ok=True)
    try:
        if not _is_still_there(file):
            return None
        file.path.replace(target)
    except FileNotFoundError:
        return None
    return target


def _free(path: Path) -> Path:
    """This name, or one like it that is not taken."""
    return path.with_stem(f"{path.stem}-{uuid.uuid4().hex[:8]}") if path.exists() else path


def _one_line(error: Exception) -> str:
    text = error.args[0] if isinstance(error, KeyError) else str(error)
    return str(text).split("\n")[0] or type(error).__name__
