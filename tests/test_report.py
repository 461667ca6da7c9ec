"""From rows to a folder of files."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from harness.report.findings import examine
from harness.report.report import write_findings, write_report
from harness.report.verdicts import OF_A_CELL, OF_A_CLAIM
from model.errors import InputError
from tests.judged_by_hand import judged
from tests.report_rows import ROWS, SPEC, drawn_rows, full_rows, spec_of


def test_errors_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no column 'seed'"):
        write_report(SPEC, full_rows().drop(columns="seed"), tmp_path)
    with pytest.raises(InputError, match="unknown metric 'APP'"):
        write_report(replace(SPEC, cells=("APP",)), full_rows(), tmp_path)
    with pytest.raises(InputError, match=r"paper\.yaml has no 'table9'"):
        write_report(replace(SPEC, paper="table9"), full_rows(), tmp_path)
    blocked = tmp_path / "file"
    blocked.touch()
    with pytest.raises(InputError, match="cannot write"):
        write_report(replace(SPEC, figures=()), full_rows(), blocked)


def test_the_same_rows_give_the_same_bytes_in_any_order(tmp_path: Path) -> None:
    rows = pd.read_parquet(ROWS)
    first = write_report(SPEC, rows, tmp_path / "a")
    second = write_report(SPEC, rows.sample(frac=1, random_state=1), tmp_path / "b")
    assert [path.name for path in first] == [path.name for path in second]
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes(), one.name
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == sorted(path.name for path in first)


def test_the_page_lists_claims_and_verdicts_and_says_what_the_words_mean(tmp_path: Path) -> None:
    spec = spec_of("table2d")
    findings = judged(examine(spec, drawn_rows(spec)))
    write_findings(findings, tmp_path)
    page = (tmp_path / "report.md").read_text(encoding="utf-8")
    sections = dict(part.split("\n", 1) for part in page.split("\n### "))
    [heading] = [title for title in sections if title.startswith("The paper's claims, ")]
    assert heading.endswith(
        "judged on SYNTHETIC videos, scale tiny: this says nothing about YouTube-VIS 2019 valid"
    )
    claims = sections[heading]
    assert re.search(r"\| last-wins +\| 50% of \\\| rows: .* \| consistent +\| 0\.062 +\|", claims)
    assert re.search(r"\| first-is-best +\|.*\| inconclusive +\| -- +\| runs are missing +\|", claims)
    numbers = sections["Comparisons of the claims"]
    cells = [cell.strip() for cell in numbers.splitlines()[3].split("|")[1:-1]]
    assert cells[3:] == [
        "+1.25",
        "-0.50 to 3.00",
        "0.031",
        "Welch",
        "0.008",
        "--",
        "0.84",
        "5, 4",
        "2.03",
        "9",
    ]
    against = [line for line in sections["Against the paper"].splitlines() if line.startswith("| T=")]
    assert len(against) == len(findings.verdicts) == 12
    assert re.search(r"T=5, S=3 +\| AP +\| [\d.]+ +\| 40\.9 +\| reproduced", against[0])
    for verdict in OF_A_CELL:
        assert f"| {verdict} " in sections["What the words mean"]
        assert OF_A_CELL[verdict] in sections["What the words mean"]
        assert OF_A_CLAIM[verdict] in sections["What the words mean"]
