"""Parquet rows: what goes in comes out, a folder is one table, a row is whole or not there."""

from __future__ import annotations

import json
import math
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest

from harness.config import TrialConfig
from harness.row_schema import COLUMNS, arrow_type
from harness.store import (
    SCHEMA_VERSION,
    OddFile,
    read_rows,
    row_states,
    row_status,
    set_aside,
    write_row,
)
from model.errors import InputError

OLDER_ROWS = Path(__file__).resolve().parent / "fixtures" / "rows_of_older_versions"
"""Written by the versions themselves: done and failed, on a CPU"""
ROOT = Path(__file__).resolve().parent.parent


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


def read_with(reader: str, folder: Path) -> pd.DataFrame:
    """A folder as one table, the way people read it."""
    if reader == "pandas":
        return pd.read_parquet(folder)
    if reader == "pyarrow":
        return pyarrow.dataset.dataset(folder, format="parquet").to_table().to_pandas()
    library = pytest.importorskip(reader)
    pattern = f"{folder}/*.parquet"
    if reader == "polars":
        return pd.DataFrame(library.read_parquet(pattern).to_dicts())
    found = library.sql(f"select * from '{pattern}'")
    return pd.DataFrame(found.fetchall(), columns=found.columns)


READERS = ("pandas", "pyarrow", "polars", "duckdb")


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("first", range(4))
def test_a_folder_is_one_table(reader: str, first: int, tmp_path: Path) -> None:
    rows = mixed_rows()
    rows[0]["cell"], rows[first]["cell"] = rows[first]["cell"], rows[0]["cell"]
    for content in rows:
        write_row(tmp_path, content)
    table = read_with(reader, tmp_path)
    assert set(row()) | set(COLUMNS) == set(table.columns)
    by_cell = table.set_index("cell")
    for content in rows:
        found = by_cell.loc[content["cell"]]
        assert found["status"] == content["status"]
        for name in ("AP", "seed", "error", "tf32", "cuda_version", "fps", "hardware", "model.encoder"):
            if content.get(name) is None:
                assert pd.isna(found[name]), name
            else:
                assert found[name] == content[name], name


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("null_first", [True, False])
def test_a_varied_key_has_one_type_whatever_its_values(reader: str, null_first: bool, tmp_path: Path) -> None:
    """``[null, 480]``, ``[1, 0.5]``, ``[[], [400]]``: each file alone would say another type."""
    first = {"train.max_long_side": None, "train.learning_rate": 1, "train.crop_short_sides": []}
    second = {"train.max_long_side": 480, "train.learning_rate": 0.5, "train.crop_short_sides": [400]}
    for cell, values in zip("ab", (first, second) if null_first else (second, first), strict=True):
        write_row(tmp_path, {**failed_row(cell), **values})
    table = read_with(reader, tmp_path).set_index("cell")
    for cell, values in zip("ab", (first, second) if null_first else (second, first), strict=True):
        for name, value in values.items():
            found = table.loc[cell, name]
            if value is None:
                assert pd.isna(found)
            else:
                assert (list(found) if isinstance(value, list) else found) == value, name


def test_every_key_of_a_configuration_has_a_type() -> None:
    def names(schema: type[Any], prefix: str) -> list[str]:
        fields = schema.model_fields.items()
        inner = {
            name: field.annotation for name, field in fields if hasattr(field.annotation, "model_fields")
        }
        below = [key for name, part in inner.items() for key in names(part, f"{prefix}{name}.")]
        return below + [f"{prefix}{name}" for name, _ in fields if name not in inner]

    found = {str(arrow_type(name)) for name in names(TrialConfig, "") if "." in name}
    assert found == {"int64", "double", "string", "bool", "list<item: int64>"}


@pytest.mark.parametrize("name", ["fpss", "model.encoderr", "model.encoder.x", "data.synthetic", "modell.x"])
def test_a_column_that_is_not_ours_is_refused(name: str, tmp_path: Path) -> None:
    """It would be in some files of the folder and not in others."""
    with pytest.raises(ValueError, match=f"column '{name}'"):
        write_row(tmp_path, row(**{name: 1}))
    assert not list(tmp_path.iterdir())


def test_rows_in_the_order_asked_for_and_others_left_alone(tmp_path: Path) -> None:
    for cell in ("b", "a", "other"):
        write_row(tmp_path, row(cell))
    assert list(read_rows(tmp_path, ["b", "missing", "a"])["cell"]) == ["b", "a"]
    assert read_rows(tmp_path / "none", ["a"]).empty


def test_status(tmp_path: Path) -> None:
    write_row(tmp_path, failed_row("bad"))
    write_row(tmp_path, row("good"))
    assert [row_status(tmp_path, cell) for cell in ("bad", "good", "none")] == ["failed", "done", None]


def test_a_row_of_other_axes_counts_as_missing(tmp_path: Path) -> None:
    """Adding an axis of one value changes no cell's identity, but the columns of the folder."""
    write_row(tmp_path, row("a"))
    write_row(tmp_path, row("b", **{"train.max_long_side": None}))
    varied = {name for name in row() if "." in name}
    assert row_states(tmp_path, ["a", "b"], (), None, varied) == {"a": "done"}
    assert row_states(tmp_path, ["a", "b"], (), None, varied | {"train.max_long_side"}) == {"b": "done"}


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

    def half_a_file(table: pa.Table, target: Path, **options: Any) -> None:
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


# ------------------------------------------------------------------------------- what is no row of ours


def foreign(path: Path, **columns: Any) -> None:
    pq.write_table(pa.table(columns), path)


def damaged(folder: Path, damage: str) -> Path:
    """The file of cell c0, spoilt."""
    path = write_row(folder, row("c0"))
    good = path.read_bytes()
    spoilt = {"text": b"hello", "empty file": b"", "truncated": good[: len(good) // 2]}
    if damage in spoilt:
        path.write_bytes(spoilt[damage])
    elif damage == "a bit":  # in the page of a column that is read always
        at = good.index(b"done")
        path.write_bytes(good[:at] + b"dome" + good[at + 4 :])
    elif damage == "foreign":
        foreign(path, a=[1], b=["x"])
    elif damage == "no status":
        foreign(path, schema_version=[SCHEMA_VERSION], cell=["c0"])
    elif damage == "status":
        foreign(path, schema_version=[SCHEMA_VERSION], cell=["c0"], status=["fine"])
    elif damage == "version":
        foreign(path, schema_version=["new"], cell=["c0"], status=["done"])
    elif damage == "no row":
        none = pa.array([], pa.string())
        foreign(path, schema_version=pa.array([], pa.int64()), cell=none, status=none)
    elif damage == "two rows":
        foreign(path, schema_version=[3, 3], cell=["c0", "c0"], status=["done", "done"])
    elif damage == "another cell":
        shutil.copy(write_row(folder / "_elsewhere", row("c1")), path)
    elif damage == "a folder":
        path.unlink()
        path.mkdir()
    return path


DAMAGES = {
    "text": "",
    "empty file": "",
    "truncated": "",
    "a bit": "",
    "foreign": "no column 'schema_version'",
    "no status": "no column 'status'",
    "status": "status 'fine'; known are done, failed, oom, timeout",
    "version": "schema_version 'new'",
    "no row": "0 rows; a file holds one",
    "two rows": "2 rows; a file holds one",
    "another cell": "the row of cell 'c1'",
    "a folder": "",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_no_row_is_named_and_its_cell_is_missing(damage: str, tmp_path: Path) -> None:
    path = damaged(tmp_path, damage)
    write_row(tmp_path, row("c2"))
    before = sorted(tmp_path.rglob("*"))
    reads: list[list[OddFile]] = [[], []]
    assert row_states(tmp_path, ["c0", "c2"], (), reads[0]) == {"c2": "done"}
    assert list(read_rows(tmp_path, ["c0", "c2"], reads[1])["cell"]) == ["c2"]
    for [odd] in reads:
        assert str(odd).startswith(f"{path}: not a row of this harness (")
        assert str(odd).endswith("); passed over")
        assert DAMAGES[damage] in odd.reason
        assert odd.reason
        assert "\n" not in str(odd)
    with pytest.raises(InputError, match="not a row of this harness"):
        row_states(tmp_path, ["c0"])
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("keep", [{"c0", "c2"}, {"c2"}])
def test_what_is_no_row_is_set_aside_and_kept(damage: str, keep: set[str], tmp_path: Path) -> None:
    path = damaged(tmp_path, damage)
    content = None if path.is_dir() else path.read_bytes()
    write_row(tmp_path, row("c2"))
    [odd] = set_aside(tmp_path, keep)
    assert odd.path == path
    assert str(odd).endswith("; moved to _set_aside/c0.parquet")
    assert odd.moved == tmp_path / "_set_aside" / "c0.parquet"
    assert content is None or odd.moved.read_bytes() == content
    assert not path.exists()
    assert list(pd.read_parquet(tmp_path)["cell"]) == ["c2"]
    assert set_aside(tmp_path, keep) == []


def test_names_aside_stay_apart(tmp_path: Path) -> None:
    for content in (b"first", b"second", b"third"):
        (tmp_path / "c0.parquet").write_bytes(content)
        assert len(set_aside(tmp_path, {"c0"})) == 1
    kept = list((tmp_path / "_set_aside").glob("c0*.parquet"))
    assert sorted(file.read_bytes() for file in kept) == [b"first", b"second", b"third"]


def test_a_row_that_came_meanwhile_is_not_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between our look and our move another process puts a good row where the damaged one was."""
    import harness.store

    (tmp_path / "c0.parquet").write_bytes(b"junk")
    checked = harness.store._checked

    def check_while_another_writes(*arguments: Any) -> pa.Table:
        write_row(tmp_path, row("c0", AP=7.0))
        return checked(*arguments)

    monkeypatch.setattr(harness.store, "_checked", check_while_another_writes)
    assert set_aside(tmp_path, {"c0"}) == []
    monkeypatch.undo()
    assert read_rows(tmp_path, ["c0"])["AP"].tolist() == [7.0]


def test_no_damage_raises_anything_else_or_passes_for_another_number(tmp_path: Path) -> None:
    path = write_row(tmp_path, row("c0"))
    good, expected = path.read_bytes(), read_rows(tmp_path, ["c0"]).to_json()
    draw = random.Random(0)
    named = 0
    for _ in range(150):
        content = bytearray(good)
        for _ in range(draw.choice((1, 1, 8))):
            content[draw.randrange(len(content))] = draw.randrange(256)
        path.write_bytes(content[: draw.choice((len(good), draw.randrange(len(good))))])
        odd: list[OddFile] = []
        found = read_rows(tmp_path, ["c0"], odd)
        assert odd or found.to_json() == expected
        named += len(odd)
    assert named > 50


# ----------------------------------------------------------------------------------------- versions


def test_a_newer_version_is_refused(tmp_path: Path) -> None:
    path = write_row(tmp_path, row("c0", schema_version=SCHEMA_VERSION + 1, status="of the future"))
    expected = (
        f"{path}: schema_version {SCHEMA_VERSION + 1}: this version reads 1 to {SCHEMA_VERSION}; update"
    )
    for read in (
        lambda: read_rows(tmp_path, ["c0"]),
        lambda: row_states(tmp_path, ["c0"]),
        lambda: set_aside(tmp_path, {"c0"}),
    ):
        with pytest.raises(InputError) as caught:
            read()
        assert str(caught.value).startswith(expected)
    # Who only reads is told and goes on; who would write over it is not.
    odd: list[OddFile] = []
    assert row_states(tmp_path, ["c0"], (), odd) == {}
    assert "of a newer version" in str(odd[0])
    assert path.is_file()
    assert set_aside(tmp_path, {"another"}) == []
    assert (tmp_path / "_older" / path.name).is_file()


OTHERS = ("train.learning_rate", "train.short_sides")
"""Varied keys of :func:`row` that the older rows lack: they are of another sweep"""
OLD_CELLS = ["done1", "failed1", "done2", "failed2"]


def older_rows(folder: Path) -> Path:
    return Path(shutil.copytree(OLDER_ROWS, folder / "rows"))


def check_migrated(table: pd.DataFrame) -> None:
    """What the fixtures say, in today's columns."""
    assert set(COLUMNS) <= set(table.columns)
    by_cell = table.set_index("cell")
    assert set(by_cell["schema_version"]) == {SCHEMA_VERSION}
    for version in (1, 2):
        done, failed = by_cell.loc[f"done{version}"], by_cell.loc[f"failed{version}"]
        assert (done["status"], done["AP"], done["fps"], done["seed"]) == ("done", 12.5, 30.0, 1)
        assert list(done["fps_passes"]) == [29.5, 30.5]
        assert (failed["status"], failed["error"]) == ("failed", "RuntimeError: no")
        assert pd.isna(failed["AP"])
    assert by_cell.loc["done1", "initial_weights"] == "random", "version 1 knew no other"
    assert pd.isna(by_cell.loc["done1", "flops_g"])
    assert by_cell.loc["done2", "initial_weights"] == "resnet50 0123456789abcdef"
    assert by_cell.loc["done2", "multiply_adds"] == 1_500_000_000
    for name in ("host", "attempt", "device_hours", "log_tail", "train.max_long_side"):
        assert by_cell.loc[[f"done{version}" for version in (1, 2)], name].isna().all(), name


def test_rows_of_older_versions_are_read_as_todays(tmp_path: Path) -> None:
    folder = older_rows(tmp_path)
    before = {path: path.read_bytes() for path in folder.iterdir()}
    write_row(folder, row("new", host="h"))
    table = read_rows(folder, [*OLD_CELLS, "new"])
    assert list(table["cell"]) == [*OLD_CELLS, "new"]
    assert set(table["schema_version"]) == {1, 2, SCHEMA_VERSION}, "each as it was written"
    check_migrated(table.assign(schema_version=SCHEMA_VERSION))
    assert table["host"].tolist()[-1] == "h"
    assert row_states(folder, OLD_CELLS, ["AP", "fps"]) == {name: name[:-1] for name in OLD_CELLS}
    assert row_states(folder, ["done1", "done2"], ["flops_g"]) == {"done2": "done"}
    assert {path: path.read_bytes() for path in before} == before, "reading writes nothing"


@pytest.mark.parametrize("reader", READERS)
def test_a_run_leaves_one_version_that_every_reader_reads(reader: str, tmp_path: Path) -> None:
    folder = older_rows(tmp_path)
    varied = {"model.encoder": "ifc", "inference.window": 5, "train.max_long_side": 480}
    write_row(folder, {name: value for name, value in row("new", **varied).items() if name not in OTHERS})
    assert set_aside(folder, {*OLD_CELLS, "new"}) == []
    check_migrated(read_with(reader, folder))
    untouched = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert set_aside(folder, {*OLD_CELLS, "new"}) == []
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == untouched


def test_a_result_that_came_meanwhile_is_not_replaced_by_an_older_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import harness.store

    folder = older_rows(tmp_path)
    write = harness.store._write

    def write_while_another_finishes(table: pa.Table, path: Path) -> None:
        monkeypatch.setattr(harness.store, "_write", write)
        write_row(folder, row("failed2", AP=7.0))
        write(table, path)

    monkeypatch.setattr(harness.store, "_write", write_while_another_finishes)
    set_aside(folder, {"failed2"})
    assert read_rows(folder, ["failed2"])["AP"].tolist() == [7.0]
    assert not list(folder.glob(".*"))


# ---------------------------------------------------------------------------------------- many at once

WRITER = """
import json, sys, time
from pathlib import Path
from harness.store import set_aside, write_row
folder, number, given = Path(sys.argv[1]), int(sys.argv[2]), json.loads(sys.argv[3])
end = time.monotonic() + 1.5
while time.monotonic() < end:
    for cell in range(6):
        text = "x" * 999 * number
        write_row(folder, {**given, "cell": f"c{cell}", "AP": number, "AR1": number, "error": text})
    assert set_aside(folder, {f"c{cell}" for cell in range(6)}) == []
"""


def test_several_writers_and_a_reader_at_once(tmp_path: Path) -> None:
    """Every look finds whole rows, one a cell; nothing is lost, doubled or set aside."""
    for cell in range(6):
        write_row(tmp_path, row(f"c{cell}", AP=0.0, AR1=0.0, error=""))
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    writers = [
        subprocess.Popen([*command, str(number), json.dumps(row())], cwd=ROOT, stderr=subprocess.PIPE)
        for number in (1, 2)
    ]
    seen: set[float] = set()
    looks = 0
    while any(writer.poll() is None for writer in writers):
        table = pd.read_parquet(tmp_path)
        assert sorted(table["cell"]) == [f"c{cell}" for cell in range(6)]
        assert (table["AP"] == table["AR1"]).all()
        assert (table["error"].str.len() == 999 * table["AP"]).all()
        assert len(row_states(tmp_path, [f"c{cell}" for cell in range(6)], ["AP"])) == 6
        seen |= set(table["AP"])
        looks += 1
    for writer in writers:
        _, errors = writer.communicate()
        assert writer.returncode == 0, errors.decode()
    assert looks > 3
    assert seen & {1, 2}
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"c{cell}.parquet" for cell in range(6)]
