"""What a table says of its data, its spread, its machines and its code."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from harness.report.caption import mean_caption
from harness.report.findings import examine
from harness.report.sentence import Sentence
from harness.report.table import mean_table
from harness.report.table_spec import Side
from harness.report.verdicts import OF_A_CELL, CellVerdict, Verdict
from tests.report_rows import SPEC, both, frame, full_rows, markdown_cells


def test_caption_names_data_spread_and_code() -> None:
    for text in both(SPEC, full_rows(git_dirty=True)):
        assert "Synthetic data: embedded synthetic videos: 96x128" in text
        assert "ddof = 1" in text
        assert "n = 3 seeds" in text
        assert "commit 0123456 + uncommitted changes" in text
        assert "MIXED" not in text
    real = full_rows(
        data_kind="youtube_vis", data_name="ytvis_mini", data_description="YouTube-VIS, 4 videos"
    )
    assert "Synthetic" not in "".join(both(SPEC, real))


def test_small_n_says_how_little_a_deviation_is_worth() -> None:
    spec = replace(SPEC, seeds=(0, 1))
    assert "With n = 2 the true sigma lies within 0.45-31.9 times" in both(spec, full_rows())[2]


def test_speeds_of_two_machines_are_not_averaged() -> None:
    rows = full_rows()
    rows.loc[rows["seed"] == 1, "hardware"] = "NVIDIA V100"
    text = both(SPEC, rows)[1]
    cells = markdown_cells(text)["No Comm"]
    assert cells["T=5 FPS"] == "--"
    assert cells["T=5 AP"] == "50.0 ± 0.0"
    assert "**MIXED hardware, FPS left out" in text
    assert "NVIDIA V100" in text


@pytest.mark.parametrize(
    "column", ["git_commit", "code_version", "data_checksum", "data_name", "schema_version"]
)
def test_mixed_origins_are_loud(column: str) -> None:
    rows = full_rows()
    rows[column] = rows[column].astype(object)
    rows.loc[rows["seed"] == 1, column] = "another"
    assert re.search(r"\*\*[^*]*MIXED[^*]*another[^*]*\*\*", both(SPEC, rows)[1])


def test_machines_are_named_where_nothing_is_timed_too() -> None:
    spec = replace(SPEC, cells=("AP",))
    rows = full_rows().assign(train_hardware="NVIDIA H200")
    assert "Hardware: AMD EPYC, 2 cores (cpu, 1 thread). Trained on NVIDIA H200." in both(spec, rows)[1]
    rows.loc[rows["seed"] == 1, "hardware"] = "NVIDIA V100"
    text = both(spec, rows)[1]
    assert "Hardware: AMD EPYC, 2 cores (cpu, 1 thread); NVIDIA V100 (cpu, 1 thread)." in text
    assert "MIXED" not in text, "AP is the same quantity on any machine"


def test_the_caption_says_what_bold_means_or_that_nothing_is_established() -> None:
    findings = examine(SPEC, full_rows())
    none = "No best of a column is established (Welch, Holm over the table, 5%)."
    bold = "Bold: better than every other of its column, established (Welch, Holm over the table, 5%)."
    assert none in texts(mean_caption(findings))
    best = replace(findings, best=frozenset({("ifc", "5", "AP")}))
    assert bold in texts(mean_caption(best))
    assert none not in texts(mean_caption(best))
    assert texts(mean_caption(best, bold="*")).count(bold.replace("Bold", "*")) == 1
    one_row = replace(SPEC, rows=Side(SPEC.rows.keys, (("ifc",),)))
    for spec, rows in ((one_row, full_rows()), (SPEC, frame())):
        said = " ".join(texts(mean_caption(examine(spec, rows))))
        assert "best" not in said, "there was nothing to compare"


@pytest.mark.parametrize("verdict", OF_A_CELL)
def test_a_verdict_that_all_cells_share_is_said_once(verdict: Verdict) -> None:
    findings = examine(SPEC, full_rows())
    alike = {where: CellVerdict(where, verdict, "a reason") for where in findings.paper}
    last = mean_caption(replace(findings, verdicts=alike))[-1].text
    if verdict == "not comparable":
        assert last.endswith("are printed for orientation and are not comparable (n.c.): a reason.")
    else:
        assert f"every cell is {verdict}: {OF_A_CELL[verdict]}." in last
    table = mean_table(replace(findings, verdicts=alike))
    assert not table.marks
    assert table.paper_row == ("published (not comparable)" if verdict == "not comparable" else "published")


def texts(sentences: list[Sentence]) -> list[str]:
    return [sentence.text for sentence in sentences]
