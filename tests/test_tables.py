"""Tables as Markdown and for the terminal: the numbers of the rows, and the paper's."""

from __future__ import annotations

import re
import statistics
from dataclasses import replace

import pandas as pd

from harness.report.findings import examine
from harness.report.latex import latex_table
from harness.report.markdown import markdown_table
from harness.report.table import mean_table, std_table
from harness.report.table_spec import Side
from harness.report.terminal import terminal_table
from tests.judged_by_hand import judged
from tests.report_rows import (
    ENCODERS,
    LABELS,
    ROWS,
    SPEC,
    WINDOWS,
    both,
    drawn_rows,
    full_rows,
    markdown_cells,
    row,
    spec_of,
)


def test_printed_numbers_are_the_means_and_deviations_of_the_rows() -> None:
    rows = pd.read_parquet(ROWS)
    printed = markdown_cells(markdown_table(mean_table(examine(SPEC, rows))))
    for encoder in ENCODERS:
        for window in WINDOWS:
            for metric, name in (("AP", "AP"), ("AP75", "AP75"), ("fps", "FPS")):
                here = rows[(rows["model.encoder"] == encoder) & (rows["inference.window"] == window)]
                values = [float(v) for v in here[here["status"] == "done"][metric]]
                expected = f"{statistics.fmean(values):.1f} ± {statistics.stdev(values):.1f}"
                if len(values) < 3:
                    expected += f" ({len(values)}/3)"
                assert printed[LABELS[encoder]][f"T={window} {name}"] == expected


def test_single_seed_prints_no_spread() -> None:
    spec = replace(SPEC, seeds=(0,))
    rows = full_rows()
    means_tex, means_md, deviations_tex, deviations_md = both(spec, rows)
    assert "pm" not in means_tex.split(r"\toprule")[1]
    assert "±" not in means_md
    assert "single runs" in means_md
    assert "0.0" not in deviations_tex + deviations_md
    assert markdown_cells(deviations_md)["No Comm"]["T=5 AP"] == "--"


def test_memory_table_finds_the_papers_numbers() -> None:
    spec = replace(
        SPEC,
        rows=Side(("model.memory_tokens",), ((1,), (8,))),
        cells=("AP",),
        paper="table3c_memory_tokens_AP",
        paper_std="table4b_std_of_3c_AP",
    )
    rows = pd.DataFrame(
        [row("ifc", w, s) | {"model.memory_tokens": 8.0} for w in WINDOWS for s in SPEC.seeds]
    )
    findings = examine(spec, rows)
    table = mean_table(findings)
    assert table.paper["8", "5", "AP"] == 39.0
    assert [label for _, label in table.rows] == ["M=1", "M=8"]
    assert r"\begin{table}" in latex_table(table), "four number columns fit one text column"
    assert std_table(findings, "table4b").paper["1", "20", "AP"] == 1.3


def test_terminal_table_is_narrow_and_has_ours_only() -> None:
    text = terminal_table(examine(SPEC, pd.read_parquet(ROWS)))
    table = text.split("\n\n")[1]
    assert max(map(len, table.splitlines())) <= 100
    assert "NeurIPS" not in text
    assert "Synthetic data" in text


def test_the_best_is_bold_and_no_other() -> None:
    spec = spec_of("table2d")
    findings = examine(spec, drawn_rows(spec))
    assert "**" not in markdown_table(mean_table(findings))
    cells = markdown_cells(markdown_table(mean_table(judged(findings))))
    bold = {(row, name) for row, line in cells.items() for name, text in line.items() if "**" in text}
    assert bold == {("T=20, S=10", "AP")}
    assert re.fullmatch(r"\*\*[\d.]+ ± [\d.]+\*\*", cells["T=20, S=10"]["AP"])
    terminal = terminal_table(judged(findings)).splitlines()
    assert [line.split()[:3] for line in terminal if line.endswith("*")] == [["T=20,", "S=10", "AP"]]


def test_verdicts_that_differ_are_letters_with_a_key() -> None:
    spec = spec_of("table2d")
    table = mean_table(judged(examine(spec, drawn_rows(spec))))
    lines = [line for line in markdown_table(table).splitlines() if line.startswith("| published ")]
    letters = [re.findall(r"\d( [rcin])? +\|", line) for line in lines]
    assert letters == [[" r", " c", " i"], [" n", "", " r"], [" c", " i", " n"], ["", " r", " c"]]
    assert table.caption[-1].text == (
        "Verdicts beside the paper's numbers (NeurIPS 2021, YouTube-VIS 2019 valid, RTX 2080 Ti):"
        " r reproduced, c consistent, i inconclusive, n not reproduced, no letter: not comparable."
    )
