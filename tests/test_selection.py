"""Which rows count, and that none is lost without being counted."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from harness.report.findings import examine
from harness.report.report import write_report
from harness.report.selection import select
from tests.report_rows import SPEC, both, frame, full_rows, markdown_cells, row


def test_failed_and_missing_runs_are_listed_and_never_averaged(tmp_path: Path) -> None:
    rows = full_rows()
    bad = (rows["model.encoder"] == "ifc") & (rows["seed"] == 1)
    rows.loc[bad, ["status", "error", "AP"]] = ["failed", "killed | by\nthe <kernel>", 0.0]
    write_report(replace(SPEC, figures=()), rows[rows["inference.window"] != 20], tmp_path)
    page = (tmp_path / "report.md").read_text()
    assert page.count(r"killed \| by the \<kernel\>") == 3
    assert "50.0 ± 0.0 (2/3)" in page
    assert re.search(r"\| IFC \(M=8\) +\| T=20 +\| 0, 1, 2 +\|", page)


def test_what_does_not_fit_is_a_result(tmp_path: Path) -> None:
    """All seeds too large: OOM. Some: their number is missing from n. Other failures: no number, no OOM."""
    rows = full_rows()
    too_large = (rows["model.encoder"] == "ifc") & (rows["inference.window"] == 20)
    one = (rows["model.encoder"] == "ifc") & (rows["inference.window"] == 15) & (rows["seed"] == 1)
    other = (rows["model.encoder"] == "no_comm") & (rows["inference.window"] == 20)
    rows.loc[too_large | one, ["status", "AP", "AP75", "fps"]] = ["oom", None, None, None]
    rows.loc[other, ["status", "AP", "AP75", "fps"]] = ["timeout", None, None, None]
    latex, text = both(SPEC, rows)[:2]
    cells = markdown_cells(text)
    assert [cells["IFC (M=8)"][f"T=20 {name}"] for name in ("AP", "AP75", "FPS")] == ["OOM"] * 3
    assert cells["IFC (M=8)"]["T=15 AP"] == "50.0 ± 0.0 (2/3)"
    assert cells["No Comm"]["T=20 AP"] == "--"
    assert latex.count("OOM &") + latex.count(r"OOM \\") == 3
    assert "OOM: did not fit in the memory of AMD EPYC, 2 cores (4 runs)." in text
    assert "3 trials did not finish (3 rows), never averaged." in text
    rows["trial_peak_memory_gb"] = 15.987
    write_report(replace(SPEC, figures=()), rows, tmp_path)
    assert (tmp_path / "report.md").read_text().count("| 15.99 ") == 7


def test_newest_row_of_a_run_stands() -> None:
    rows = full_rows()
    older = row("ifc", 5, 0, AP=10.0, finished="2025-12-31T23:59:59Z")
    newer = row("ifc", 5, 0, AP=56.0, finished="2026-01-02T04:00:00+00:00")
    text = both(SPEC, frame(newer, *rows.to_dict("records"), older))[1]
    assert markdown_cells(text)["IFC (M=8)"]["T=5 AP"] == "52.0 ± 3.5"  # 56, 50, 50
    assert "2 older rows superseded" in text
    failed = row("ifc", 5, 0, status="failed", AP=float("nan"), finished="2026-01-03T00:00:00Z")
    again = both(SPEC, frame(*rows.to_dict("records"), failed))[1]
    assert markdown_cells(again)["IFC (M=8)"]["T=5 AP"] == "50.0 ± 0.0 (2/3)"


def test_rows_outside_the_plan_are_counted() -> None:
    strangers = [row("ifc", 5, 9), row("ifc", 36, 0), row("ifc", 5, 0, scale="small", AP=0.0)]
    text = both(SPEC, frame(*full_rows().to_dict("records"), *strangers))[1]
    assert "3 rows outside the plan left out" in text
    assert markdown_cells(text)["IFC (M=8)"]["T=5 AP"] == "50.0 ± 0.0"


@pytest.mark.parametrize("rows", [pd.DataFrame(), frame()], ids=["no columns", "no rows"])
def test_no_rows_still_make_a_report(rows: pd.DataFrame, tmp_path: Path) -> None:
    paths = write_report(SPEC, rows, tmp_path)
    assert all(path.exists() for path in paths)
    page = (tmp_path / "table3a.md").read_text()
    assert "No finished run: every cell is missing." in page
    assert set(markdown_cells(page)["IFC"].values()) == {"--"}


def test_a_finished_run_without_a_number_is_missing_and_said_so(tmp_path: Path) -> None:
    rows = full_rows()
    at = (rows["model.encoder"] == "ifc") & (rows["inference.window"] == 5)
    rows.loc[at & (rows["seed"] == 1), "AP75"] = float("nan")
    rows.loc[at & (rows["seed"] == 2), ["AP75", "fps"]] = float("inf")
    write_report(replace(SPEC, figures=()), rows, tmp_path)
    page = (tmp_path / "report.md").read_text()
    cells = markdown_cells((tmp_path / "table3a.md").read_text())["IFC (M=8)"]
    assert [cells[f"T=5 {name}"] for name in ("AP", "AP75", "FPS")] == [
        "50.0 ± 0.0",
        "40.0 (1/3)",
        "30.0 ± 0.0 (2/3)",
    ]
    assert "2 done runs without a number (AP75 and FPS), counted as missing." in page
    assert re.search(r"\| ifc-1 +\| IFC \(M=8\) +\| T=5 +\| 1 +\| AP75 +\|", page)
    assert re.search(r"\| ifc-2 +\| IFC \(M=8\) +\| T=5 +\| 2 +\| AP75, FPS +\|", page)


def test_what_was_never_measured_is_said_once(tmp_path: Path) -> None:
    write_report(replace(SPEC, figures=()), full_rows(fps=None), tmp_path)
    page = (tmp_path / "report.md").read_text()
    assert page.count("FPS was not measured.") == 1, "table4a has no FPS"
    assert "without a number (" not in page
    assert "### Finished runs without a number\n\nNone." in page


def test_of_rows_of_the_same_time_the_order_decides_nothing() -> None:
    """An error stands; of two numbers always the same one."""
    two = [row("ifc", 5, 0, AP=10.0), row("ifc", 5, 0, AP=20.0)]
    failed = row("ifc", 5, 0, status="failed", AP=None)
    for rows, status in ((two, "done"), ([*two, failed], "failed"), ([failed, *two], "failed")):
        once, again = select(SPEC, frame(*rows)), select(SPEC, frame(*reversed(rows)))
        assert once.used["AP"].tolist() == again.used["AP"].tolist() == ([20.0] if status == "done" else [])
        assert once.superseded == again.superseded == len(rows) - 1


def test_a_speed_that_is_withheld_is_not_a_run_without_a_number() -> None:
    rows = full_rows()
    rows.loc[rows["seed"] == 1, "hardware"] = "NVIDIA V100"
    too_large = (rows["model.encoder"] == "ifc") & (rows["inference.window"] == 20)
    rows.loc[too_large, ["status", "AP", "AP75", "fps"]] = ["oom", None, None, None]
    findings = examine(SPEC, rows)
    assert findings.cells["no_comm", "5", "fps"].n == 0
    assert findings.cells["ifc", "20", "fps"].out_of_memory == 3, "what does not fit has no speed to withhold"
    assert "without a number" not in both(SPEC, rows)[1]
