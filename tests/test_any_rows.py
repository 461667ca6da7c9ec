"""Whatever the rows: whole tables, no row lost, the same bytes in any order."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from random import Random
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.report.csv_table import csv_deviations, csv_table
from harness.report.findings import Findings, examine
from harness.report.latex import latex_table
from harness.report.markdown import markdown_table
from harness.report.page import page
from harness.report.table import tables_of
from tests.report_rows import ENCODERS, SPEC, WINDOWS, both, frame, row

ODD = st.text(alphabet="ab_%&#{}$\\^~<>|*`\"'[]\n\té±×中🙂. -", max_size=30)
ROW_SETS = st.lists(
    st.builds(
        lambda encoder, window, seed, status, ap, odd, day: row(
            encoder,
            window,
            seed,
            status=status,
            AP=ap,
            error=odd,
            data_name=odd,
            hardware=odd,
            git_commit=odd,
            finished=f"2026-01-0{day}T00:00:00Z",
        ),
        st.sampled_from(ENCODERS),
        st.sampled_from((*WINDOWS, float("nan"))),
        st.sampled_from((0, 1, 2, 3)),
        st.sampled_from(("done", "done", "done", "failed", "running")),
        st.one_of(st.floats(0, 100), st.sampled_from((None, float("nan"), float("inf")))),
        ODD,
        st.integers(1, 3),
    ),
    max_size=25,
)


QUICK = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@QUICK
@given(ROW_SETS, ODD)
def test_any_rows_make_whole_tables(rows: list[dict[str, Any]], title: str) -> None:
    for text in both(replace(SPEC, title=title), frame(*rows)):
        assert not re.search(r"\b(nan|inf|None|NaT)\b", text)
        if "tabular" in text:
            bare = re.sub(r"\\[\\{}$%&#_]", "", text)
            assert bare.count("{") == bare.count("}")
            assert bare.count("$") % 2 == 0
            body = text.split(r"\midrule")[1].split(r"\bottomrule")[0]
            widths = {line.count("&") for line in body.splitlines() if line.endswith(r"\\")}
            assert len(widths) == 1
        else:
            lines = [line for line in text.splitlines() if line.startswith("|")]
            assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) == 1


@QUICK
@given(ROW_SETS)
def test_every_row_is_accounted_for_and_every_number_counts(rows: list[dict[str, Any]]) -> None:
    findings = examine(SPEC, frame(*rows))
    found = findings.selection
    superseded_failures = int(found.failed["superseded"].sum())
    superseded_numbers = found.superseded - superseded_failures
    assert len(found.used) + len(found.failed) + superseded_numbers + found.unplanned == len(rows)
    for metric in ("AP", "AP75"):
        finite = [value for value in found.used[metric] if value is not None and math.isfinite(value)]
        cells = [cell for where, cell in findings.cells.items() if where[2] == metric]
        assert sum(cell.n for cell in cells) == len(finite)
        assert len(found.used) == len(finite) + len(found.without_number([metric]))
    missing = sum(len(seeds) for _, _, seeds in found.missing)
    assert len(found.used) + missing == len(ENCODERS) * len(WINDOWS) * len(SPEC.seeds)


@QUICK
@given(ROW_SETS, st.randoms(use_true_random=False))
def test_the_order_of_the_rows_changes_no_byte(rows: list[dict[str, Any]], random: Random) -> None:
    shuffled = random.sample(rows, len(rows))
    once, again = examine(SPEC, frame(*rows)), examine(SPEC, frame(*shuffled))
    assert all_forms(once) == all_forms(again)


@QUICK
@given(ROW_SETS)
def test_data_and_page_have_no_number_that_is_none(rows: list[dict[str, Any]]) -> None:
    findings = examine(SPEC, frame(*rows))
    *tables, text = all_forms(findings)
    listed = [line for line in text.splitlines() if line.startswith("|")]
    for printed in (*tables, *listed):
        assert not re.search(r"\b(nan|inf|None|NaT|<NA>)\b", printed)
    keys = [line.split(",")[2:5] for line in csv_table(findings).splitlines()[1:]]
    assert keys == [
        [encoder, str(window), metric]
        for encoder in ENCODERS
        for window in WINDOWS
        for metric in findings.metrics
    ], "the rows of a table have one order"


def all_forms(findings: Findings) -> list[str]:
    tables = tables_of(findings)
    return [
        *(form(table) for table in tables for form in (latex_table, markdown_table)),
        csv_table(findings),
        csv_deviations(findings, tables[-1].metrics),
        page(findings, tables),
    ]
