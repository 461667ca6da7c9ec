"""Parquet rows: what goes in comes out, a folder is one table, a row is whole or not there."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest

from harness.store import SCHEMA_VERSION, read_rows, row_status, write_row
from model.errors import InputError


def row(cell: str = "c0", **changes: Any) -> dict[str, Any]:
    """A row as a finished cell on a CPU writes it."""
    return {
        "schema_version": SCHEMA_VERSION,
        "sweep": "s",
        "scale": "tiny",
        "trial": "t0",
        "cell": cell,
        "status": "done",
        "error": None,
        "seed": 1,
        "model.encoder": "ifc",
        "inference.window": 5,
        "train.learning_rate": 0.001,
        "train.short_sides": [64, 96],
        "AP": 12.5,
        "fps": 30,
        "peak_memory_gb": None,
        "config": '{"model": {}}',
        "git_commit": None,
        "git_dirty": None,
        "hardware": "a processor, 2 cores",
        "torch_version": "2.6.0",
        "threads": 2,
        "tf32": None,
        "cuda_version": None,
        "fps_passes": [29.5, 30.0],
        "kept_tracks": 4,
        "finished": "2026-01-01T00:00:00+00:00",
        **changes,
    }


def failed_row(cell: str, **changes: Any) -> dict[str, Any]:
    """A failed cell measured nothing: most columns are not given at all."""
    full = row(cell)
    names = ("schema_version", "sweep", "scale", "trial", "cell", "seed", "config")
    given = {name: full[name] for name in (*names, *(name for name in full if "." in name))}
    return {**given, "status": "failed", "error": "RuntimeError: no", **changes}


def test_round_trip(tmp_path: Path) -> None:
    given = row()
    path = write_row(tmp_path, given)
    assert path == tmp_path / "c0.parquet"
    [found] = read_rows(tmp_path, ["c0"]).to_dict("records")
    for name, value in given.items():
        if value is None:
            assert found[name] is None or math.isnan(found[name]), name
        else:
            assert found[name] == value, name


def test_none_keeps_the_columns_type(tmp_path: Path) -> None:
    empty = dict.fromkeys(("AP", "fps", "git_dirty", "tf32", "threads", "hardware", "cuda_version", "error"))
    full = {"AP": 1.0, "fps": 2.0, "git_dirty": True, "tf32": False, "threads": 1, "hardware": "h"}
    full |= {"cuda_version": "12", "error": "e"}
    without, with_values = (
        pq.read_schema(write_row(tmp_path, row(cell, **values)))
        for cell, values in (("a", empty), ("b", full))
    )
    for name in empty:
        assert without.field(name).type == with_values.field(name).type, name


def mixed_rows() -> list[dict[str, Any]]:
    """One folder: a failed row first (its schema leads), a CPU row, a GPU row, a row without speed."""
    no_speed = {
        k: v for k, v in row("c3").items() if k not in ("fps", "fps_passes", "kept_tracks", "threads")
    }
    return [
        failed_row("c0", seed=0),
        row("c1", AP=50.0),
        row(
            "c2", AP=60.0, tf32=True, cuda_version="12.4", git_dirty=True, peak_memory_gb=3, git_commit="abc"
        ),
        no_speed,
    ]


@pytest.mark.parametrize("reader", ["pandas", "pyarrow"])
@pytest.mark.parametrize("first", range(4))
def test_a_folder_is_one_table(reader: str, first: int, tmp_path: Path) -> None:
    rows = mixed_rows()
    rows[0]["cell"], rows[first]["cell"] = rows[first]["cell"], rows[0]["cell"]
    for content in rows:
        write_row(tmp_path, content)
    if reader == "pandas":
        table = pd.read_parquet(tmp_path)
    else:
        table = pyarrow.dataset.dataset(tmp_path, format="parquet").to_table().to_pandas()
    assert set(row()) <= set(table.columns)
    by_cell = table.set_index("cell")
    for content in rows:
        found = by_cell.loc[content["cell"]]
        assert found["status"] == content["status"]
        for name in ("AP", "seed", "error", "tf32", "cuda_version", "fps", "hardware", "model.encoder"):
            if content.get(name) is None:
                assert pd.isna(found[name]), name
            else:
                assert found[name] == content[name], name


def test_rows_in_the_order_asked_for_and_others_left_alone(tmp_path: Path) -> None:
    for cell in ("b", "a", "other"):
        write_row(tmp_path, row(cell))
    assert list(read_rows(tmp_path, ["b", "missing", "a"])["cell"]) == ["b", "a"]
    assert read_rows(tmp_path / "none", ["a"]).empty


def test_status(tmp_path: Path) -> None:
    write_row(tmp_path, failed_row("bad"))
    write_row(tmp_path, row("good"))
    assert [row_status(tmp_path, cell) for cell in ("bad", "good", "none")] == ["failed", "done", None]


def test_a_row_is_replaced(tmp_path: Path) -> None:
    write_row(tmp_path, failed_row("c0"))
    write_row(tmp_path, row("c0"))
    assert row_status(tmp_path, "c0") == "done"
    assert [file.name for file in tmp_path.iterdir()] == ["c0.parquet"]


@pytest.mark.parametrize("where", ["rename", "write"])
def test_a_crash_leaves_the_old_row(where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_row(tmp_path, row("c0", AP=1.0))
    before = path.read_bytes()

    def crash(*arguments: Any, **named: Any) -> None:
        raise OSError(28, "No space left on device")

    def half_a_file(table: pa.Table, target: Path) -> None:
        Path(target).write_bytes(before[: len(before) // 2])
        crash()

    if where == "rename":
        monkeypatch.setattr(os, "replace", crash)
    else:
        monkeypatch.setattr(pq, "write_table", half_a_file)
    for cell in ("c0", "c1"):
        with pytest.raises(OSError, match="No space left"):
            write_row(tmp_path, row(cell, AP=2.0))
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["c0.parquet"]
    assert read_rows(tmp_path, ["c0", "c1"])["AP"].tolist() == [1.0]


def test_what_a_killed_writer_leaves_disturbs_no_reader(tmp_path: Path) -> None:
    """SIGKILL between writing and renaming leaves the hidden draft; nobody may read it as a row."""
    path = write_row(tmp_path, row("c0"))
    (tmp_path / ".c1.parquet.0123").write_bytes(path.read_bytes()[:100])
    assert len(pd.read_parquet(tmp_path)) == 1
    assert len(pyarrow.dataset.dataset(tmp_path, format="parquet").to_table()) == 1
    assert list(read_rows(tmp_path, ["c0", "c1"])["cell"]) == ["c0"]


def foreign(path: Path, **columns: list[Any]) -> None:
    pq.write_table(pa.table(columns), path)


@pytest.mark.parametrize("damage", ["text", "empty file", "truncated", "foreign", "no status", "no row"])
def test_what_is_no_row_is_named(damage: str, tmp_path: Path) -> None:
    path = write_row(tmp_path, row("c0"))
    good = path.read_bytes()
    if damage in ("text", "empty file", "truncated"):
        path.write_bytes({"text": b"hello", "empty file": b"", "truncated": good[: len(good) // 2]}[damage])
    elif damage == "foreign":
        foreign(path, a=[1], b=["x"])
    elif damage == "no status":
        foreign(path, schema_version=[SCHEMA_VERSION])
    else:
        foreign(path, schema_version=pa.array([], pa.int64()), status=pa.array([], pa.string()))
    for read in (lambda: read_rows(tmp_path, ["c0"]), lambda: row_status(tmp_path, "c0")):
        with pytest.raises(InputError) as caught:
            read()
        message = str(caught.value)
        assert message.startswith(f"{path}: not a row of this harness (")
        assert "delete it to make it anew" in message
        assert "\n" not in message


def test_other_schema_version_is_refused(tmp_path: Path) -> None:
    path = write_row(tmp_path, row("c0", schema_version=SCHEMA_VERSION + 1))
    with pytest.raises(InputError) as caught:
        read_rows(tmp_path, ["c0"])
    expected = f"{path}: schema_version {SCHEMA_VERSION + 1}: this version reads {SCHEMA_VERSION}"
    assert str(caught.value) == expected
