"""``python -m harness archive``: the same rows in one file, the same report from it."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from benchmarks.made_results import make_results
from harness.archive import CURVES, ROWS, read_curves, read_folder, write_archive
from harness.store import OddFile
from model.errors import InputError


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return make_results(tmp_path / "results", "table3a", seeds=(0, 1))


def archived(results: Path, target: Path) -> Path:
    write_archive(results / "table3a" / "tiny", results / "trials", target)
    return target


def test_nothing_is_lost(results: Path, tmp_path: Path) -> None:
    rows, target = results / "table3a" / "tiny", tmp_path / "kept"
    assert write_archive(rows, results / "trials", target) == 32
    odd: list[OddFile] = []
    before, after = read_folder(rows, odd), read_folder(target, odd)
    assert not odd
    order = ["trial", "cell"]
    pd.testing.assert_frame_equal(
        before.sort_values(order, ignore_index=True), after.sort_values(order, ignore_index=True)
    )
    assert isinstance(after["fps_passes"].iloc[0], list)
    assert len(pd.read_parquet(target)) == 32, "the losses beside it are no rows"
    keys = set(before["trial"])
    curves = read_curves(target, tmp_path / "nowhere", keys)
    assert set(curves) == keys
    whole = read_curves(rows, results / "trials", keys)
    for key in keys:
        assert [step for step, _ in curves[key]] == [step for step, _ in whole[key]]
        assert [loss for _, loss in curves[key]] == [loss for _, loss in whole[key]]


def test_the_same_bytes_twice_and_from_an_archive(results: Path, tmp_path: Path) -> None:
    first, second = archived(results, tmp_path / "a"), archived(results, tmp_path / "b")
    write_archive(first, tmp_path / "nowhere", tmp_path / "c")
    for name in (ROWS, CURVES):
        assert (
            (first / name).read_bytes()
            == (second / name).read_bytes()
            == (tmp_path / "c" / name).read_bytes()
        )


def test_a_damaged_row_is_not_archived_in_silence(results: Path, tmp_path: Path) -> None:
    rows = results / "table3a" / "tiny"
    file = next(rows.glob("*.parquet"))
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(InputError, match=file.name):
        archived(results, tmp_path / "kept")
    assert not (tmp_path / "kept").exists()


def test_errors_are_one_line(results: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no rows to archive"):
        write_archive(tmp_path / "none", results / "trials", tmp_path / "kept")
    with pytest.raises(InputError, match="name another folder"):
        archived(results, results / "table3a" / "tiny")


def test_a_damaged_archive_is_told_and_no_traceback(results: Path, tmp_path: Path) -> None:
    kept = archived(results, tmp_path / "kept")
    content = (kept / ROWS).read_bytes()
    odd: list[OddFile] = []
    for spoilt in (b"", content[:-20], b"PAR1" + content[4:300], content[:100] + b"\0" * 50 + content[150:]):
        (kept / ROWS).write_bytes(spoilt)
        before = len(odd)
        assert read_folder(kept, odd).empty
        assert len(odd) == before + 1
    frame = pd.read_parquet(archived(results, tmp_path / "again") / ROWS)
    frame.loc[0, "status"], frame.loc[1, "schema_version"], frame.loc[2, "cell"] = "well", 99, None
    frame.to_parquet(kept / ROWS)
    odd.clear()
    assert len(read_folder(kept, odd)) == 29
    assert [each.reason for each in odd] == [
        "row 0: status 'well'",
        "row 1: schema_version 99",
        "row 2: no cell",
    ]


def test_rows_of_older_versions_become_todays(results: Path, tmp_path: Path) -> None:
    kept = archived(results, tmp_path / "kept")
    frame = pd.read_parquet(kept / ROWS)
    frame["schema_version"] = 2
    frame.drop(columns=["host", "attempt", "device_hours"]).to_parquet(kept / ROWS)
    odd: list[OddFile] = []
    rows = read_folder(kept, odd)
    assert not odd
    assert set(rows["schema_version"]) == {2}, "as it was written, so that a report can tell"
    assert "device_hours" in rows


def test_an_archive_takes_the_place_of_an_older_one(results: Path, tmp_path: Path) -> None:
    rows = results / "table3a" / "tiny"
    (rows / "_plan.json").write_text("{}")
    kept = archived(results, tmp_path / "kept")
    assert (kept / "_plan.json").is_file()
    (rows / "_plan.json").unlink()
    for file in sorted(rows.glob("*.parquet"))[16:]:
        file.unlink()
    assert write_archive(rows, tmp_path / "nowhere", kept) == 16
    assert not (kept / "_plan.json").exists()
    assert not read_curves(kept, tmp_path / "nowhere", ["table3aifc0"])
    with pytest.raises(InputError, match=r"--to: .*other rows lie there"):
        write_archive(kept, results / "trials", rows)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"--to: .*cannot be written"):
        archived(results, tmp_path / "file" / "below")


def test_odd_types_in_an_archive_are_odd_rows(results: Path, tmp_path: Path) -> None:
    kept = archived(results, tmp_path / "kept")
    frame = pd.read_parquet(kept / ROWS).astype({"seed": object, "config": object})
    frame["seed"] = [f"0x{seed}" for seed in frame["seed"]]
    frame.to_parquet(kept / ROWS)
    odd: list[OddFile] = []
    assert read_folder(kept, odd).empty
    assert len(odd) == 32
