"""``python -m harness report``: whole from any rows, honest about what lacks, the same twice."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.made_results import make_results
from harness.command_line import harness_command
from harness.row_schema import Row
from tests.small_road import ROOT

SWEEPS = ", ".join(sorted(path.stem for path in (ROOT / "sweeps").glob("*.yaml")))


def report(
    capsys: pytest.CaptureFixture[str], results: Path, *arguments: str, reports: Path | None = None
) -> tuple[int, str, str]:
    places = ["--results", str(results), "--reports", str(reports or results.parent / "reports")]
    with pytest.raises(SystemExit) as end:
        harness_command(["report", *arguments, *places])
    printed = capsys.readouterr()
    return int(end.value.code or 0), printed.out, printed.err


def files_below(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_whole_sweep_ends_with_0(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = make_results(tmp_path / "results", "table2c", "table1")
    status, out, err = report(capsys, results, "table2c", "table1")
    assert (status, err) == (0, "")
    written = files_below(tmp_path / "reports")
    for name in ("table2c/tiny/table2c", "table1/tiny/table1"):
        assert {f"{name}.tex", f"{name}.md", f"{name}.csv"} <= written.keys()
    assert {"tables.tex", "index.html", "table2c/tiny/report.md"} <= written.keys()
    assert "masks-beat-boxes" in out, "the verdicts are told at once"
    lines = list(csv.DictReader((tmp_path / "reports/table2c/tiny/table2c.csv").open()))
    assert [line["n"] for line in lines if line["metric"] == "AP"] == ["5", "5"]


def test_the_same_rows_give_the_same_bytes_in_two_processes_and_from_an_archive(tmp_path: Path) -> None:
    results = make_results(tmp_path / "results", "table3d", seeds=(0, 1, 2))
    run = [sys.executable, "-m", "harness"]

    def call(*arguments: str) -> None:
        environment = {**os.environ, "PYTHONHASHSEED": "random"}
        done = subprocess.run([*run, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    call("report", "table3d", "--results", str(results), "--reports", str(tmp_path / "a"))
    call("report", "table3d", "--results", str(results), "--reports", str(tmp_path / "b"))
    call("archive", "table3d", "--results", str(results), "--to", str(tmp_path / "kept"))
    call("report", "table3d", "--results", str(tmp_path / "kept"), "--reports", str(tmp_path / "c"))
    first = files_below(tmp_path / "a")
    assert first == files_below(tmp_path / "b")
    assert first == files_below(tmp_path / "c")


def failed(row: Row) -> Row:
    """IFC's second seed died."""
    dead = {"status": "failed", "error": "RuntimeError: no <luck>", "AP": None, "AP75": None, "fps": None}
    return row | dead if (row["model.encoder"], row["seed"]) == ("ifc", 1) else row


def without_number(row: Row) -> Row:
    return row | {"AP": float("nan")} if (row["model.encoder"], row["seed"]) == ("ifc", 1) else row


def dropped(row: Row) -> Row | None:
    return None if (row["model.encoder"], row["seed"]) == ("ifc", 1) else row


def other_commit(row: Row) -> Row:
    return row | {"git_commit": "f" * 40} if row["seed"] == 1 else row


def older(row: Row) -> Row:
    return row | {"schema_version": 2} if row["seed"] == 1 else row


def infinite(row: Row) -> Row:
    return row | {"AP": float("inf")} if row["model.encoder"] == "ifc" else row


BAD = {
    "schema": (older, (0, 1, 2), "the rows come from 2 schema versions"),
    "inf": (infinite, (0, 1, 2), "12 finished runs without AP"),
    "failed": (failed, (0, 1, 2), "4 of 48 planned evaluations are missing, 4 of them failed"),
    "unequal": (dropped, (0, 1, 2), "4 of 48 planned evaluations are missing, 0 of them failed"),
    "NaN": (without_number, (0, 1, 2), "4 finished runs without AP"),
    "commits": (other_commit, (0, 1, 2), "the rows come from 2 commits"),
    "one seed": (lambda row: row, (0,), "one seed: no spread is known"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_lacks_is_told_and_the_report_is_made(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change, seeds, said = BAD[case]
    results = make_results(tmp_path / "results", "table3a", seeds=seeds, change=change)
    if case == "one seed":  # what tiny plans is two
        said = "16 of 32 planned evaluations are missing"
    status, _, err = report(capsys, results, "sweeps/table3a.yaml")
    assert status == 1
    assert f"missing: table3a/tiny: {said}" in err
    assert len(err.splitlines()) == err.count("missing: ")
    written = files_below(tmp_path / "reports")
    assert {"table3a/tiny/table3a.tex", "table3a/tiny/table4a.tex", "index.html"} <= written.keys()
    for name, content in written.items():
        if name.endswith((".tex", ".md", ".csv")):
            assert b"nan" not in content.lower().replace(b"nance", b""), name
    assert report(capsys, results, "table3a", "--allow-missing")[0] == 0


def test_no_rows_at_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "results").mkdir()
    status, out, err = report(capsys, tmp_path / "results", "table3a", "--scale", "tiny")
    assert status == 1
    assert "missing: table3a/tiny: no rows: all 32 planned evaluations are missing" in err
    assert (tmp_path / "reports/table3a/tiny/table3a.tex").is_file()
    assert "inconclusive" in out
    status, _, err = report(capsys, tmp_path / "results")
    assert status == 2
    assert "no rows of any sweep" in err


def test_damaged_files_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = make_results(tmp_path / "results", "table2c")
    file = sorted((results / "table2c" / "tiny").glob("*.parquet"))[0]
    file.write_bytes(b"PAR1")
    status, _, err = report(capsys, results)
    assert status == 1
    assert f"{file}: not a row of this harness" in err
    assert file.read_bytes() == b"PAR1", "a report moves nothing"


def test_more_seeds_than_the_scale_plans(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--seeds 5 at a scale of two seeds: all five count, and all five are wanted of every row."""
    results = make_results(tmp_path / "results", "table2c", seeds=range(5))
    assert report(capsys, results)[0] == 0
    sorted((results / "table2c" / "tiny").glob("*.parquet"))[-1].unlink()
    assert report(capsys, results)[0] == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["tabel3a"], f"SWEEP: 'tabel3a': allowed: a sweep file, or one of {SWEEPS}"),
        (["no/such.yaml"], "no/such.yaml: cannot be read as a sweep file"),
        (["table2c", "--scale", "huge"], "--scale: 'huge': no such scale"),
    ],
)
def test_misspelt(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = make_results(tmp_path / "results", "table2c", seeds=(0,))
    status, _, err = report(capsys, results, *arguments)
    assert status == 2
    assert said in err
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "reports").exists()


def test_rows_of_a_scale_whose_file_is_gone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = make_results(tmp_path / "results", "table2c", change=lambda row: row | {"scale": "mine"})
    status, _, err = report(capsys, results)
    assert status == 2
    assert "rows of the scale 'mine', whose file is not known: name it with --scale" in err
    (tmp_path / "mine.yaml").write_text(
        (ROOT / "sweeps/scales/tiny.yaml").read_text().replace("name: tiny", "name: mine")
    )
    (results / "table2c" / "tiny").rename(results / "table2c" / "mine")
    assert report(capsys, results, "--scale", str(tmp_path / "mine.yaml"))[0] == 0
