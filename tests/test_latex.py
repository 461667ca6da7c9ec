"""Tables as LaTeX: what stands where, and that it compiles."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from harness.report import escape
from harness.report.findings import examine
from harness.report.latex import all_tables_document, latex_list, latex_table
from harness.report.report import write_findings, write_report
from harness.report.table import mean_table
from tests.judged_by_hand import judged
from tests.report_rows import ENCODERS, ROWS, SPEC, both, drawn_rows, full_rows, spec_of

NEEDS_LATEX = pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")


def test_paper_numbers_stand_below_ours_and_are_called_not_comparable() -> None:
    means, _, deviations, _ = both(SPEC, full_rows())
    assert means.count("published (n.c.)") == len(ENCODERS)
    assert "are not comparable (n.c.): embedded synthetic data, not YouTube-VIS 2019 valid; another" in means
    grey = [re.findall(r"\\textcolor\{black!60\}\{([\d.]+)\}", line) for line in means.splitlines()]
    assert [line for line in grey if line][3] == (
        ["39.0", "42.7", "36.3", "39.6", "43.0", "38.9", "39.8", "43.0", "43.7", "40.4", "43.4", "50.2"]
    )
    assert "FPS" not in deviations.split(r"\toprule")[1], "Table 4 has no FPS"


def test_escapes_keep_every_character() -> None:
    assert escape.latex("50% of a_b & {c} #1") == r"50\% of a\_b \& \{c\} \#1"
    assert escape.latex("naïve 中\n") == "naïve [U+4E2D]"
    assert escape.not_in_latex(["naïve", "中", "ours"]) == (
        "pdflatex lacks letters: '中' is written [U+4E2D]"
    )
    assert escape.not_in_latex(["naïve", "[ours]"]) == ""
    assert escape.not_in_latex(["naïve", "中", "ours"]) == (
        "pdflatex lacks letters: '中' is written [U+4E2D]"
    )
    assert escape.not_in_latex(["naïve", "[ours]"]) == ""
    assert escape.markdown("a|b <c>") == r"a\|b \<c\>"


def test_the_best_is_bold_and_letters_take_no_width() -> None:
    spec = spec_of("table2d")
    text = latex_table(mean_table(judged(examine(spec, drawn_rows(spec)))))
    body = text.split(r"\midrule")[1]
    [bold] = re.findall(r"\\textbf\{([\d.]+)\}", body)
    assert rf"T=20, S=10 & \textbf{{{bold}}} &" in body
    assert body.count(r"\rlap{$^{\mathrm{") == 12 - 2, "two cells are not comparable"
    assert r"\textcolor{black!60}{40.9\rlap{$^{\mathrm{r}}$}}" in body


def test_the_document_of_all_tables_has_the_papers_numbers() -> None:
    text = all_tables_document(["table3a/tiny/table3a.tex", "table1/paper/table1", "mine/tiny/mine.tex"])
    numbered = re.findall(r"\\thetable\}\{(.*)\}\n\\input\{(.*)\}", text)
    assert numbered == [
        ("3(a)", "table3a/tiny/table3a"),
        ("1", "table1/paper/table1"),
        (r"\arabic{table}", "mine/tiny/mine"),
    ]


@NEEDS_LATEX
@pytest.mark.parametrize("name", ["中文", "[ours]", "*", "Łukasz", "]", "-", "\\", "'", "?`"])
def test_any_name_of_a_row_compiles(name: str, tmp_path: Path) -> None:
    """At the beginning of a row LaTeX reads ``[`` and ``*`` as options of what ended the row before."""
    lines = [[name, "1.0"], ["ours", "2.0"], [name, "3.0"]]
    text = latex_list("methods", name, [name, "AP"], lines, name)
    _, _, body = text.partition(r"\toprule")
    assert not [line for line in body.partition(r"\end{tabular}")[0].splitlines() if line[:1] in ("[", "*")]
    (tmp_path / "a.tex").write_text(text, encoding="utf-8")
    line = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "a.tex"]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, done.stdout[-2000:]


@NEEDS_LATEX
@pytest.mark.parametrize("columns", ["onecolumn", "twocolumn"])
def test_latex_compiles_without_overfull_boxes(columns: str, tmp_path: Path) -> None:
    rows = pd.read_parquet(ROWS)
    rows["data_name"] = "odd_%&#{}$\\^~<>|\"'é中"
    write_report(replace(SPEC, figures=()), rows, tmp_path)
    margin = r"\usepackage[margin=0.75in]{geometry}" if columns == "twocolumn" else ""
    (tmp_path / "page.tex").write_text(
        rf"\documentclass[{columns}]{{article}}{margin}\usepackage{{booktabs}}\usepackage{{xcolor}}"
        r"\begin{document}\input{table3a}\input{table4a}x\end{document}"
    )
    compile_quietly(tmp_path / "page.tex")


PAPERS_TABLES = {
    "table1": ["table1"],
    "table2a": ["table2a"],
    "table2b": ["table2b"],
    "table2c": ["table2c"],
    "table2d": ["table2d"],
    "table3a": ["table3a", "table4a"],
    "table3b": ["table3b"],
    "table3c": ["table3c", "table4b"],
    "table3d": ["table3d", "table4c"],
}
"""Sweep -> its tables"""


@pytest.mark.slow
@NEEDS_LATEX
def test_the_papers_tables_compile_alone_and_together(tmp_path: Path) -> None:
    """Each file as it is, all in one- and two-column articles, and the document that we make."""
    names = []
    for sweep, tables in PAPERS_TABLES.items():
        spec = spec_of(sweep)
        findings = examine(spec, drawn_rows(spec))
        write_findings(judged(findings) if sweep != "table3c" else findings, tmp_path)
        names += tables
    for columns in ("onecolumn", "twocolumn"):
        inputs = "".join(rf"\input{{{name}}}\clearpage" for name in names)
        (tmp_path / f"{columns}.tex").write_text(
            rf"\documentclass[{columns}]{{article}}\usepackage{{booktabs}}\usepackage{{xcolor}}"
            rf"\begin{{document}}x{inputs}\end{{document}}"
        )
    (tmp_path / "tables.tex").write_text(all_tables_document(names))
    for name in (*names, "onecolumn", "twocolumn", "tables"):
        compile_quietly(tmp_path / f"{name}.tex")


def compile_quietly(file: Path) -> None:
    """pdflatex without errors, overfull boxes or open conditionals."""
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", file.name]
    result = subprocess.run(
        command, cwd=file.parent, capture_output=True, text=True, errors="replace", check=False
    )
    assert result.returncode == 0, file.name + result.stdout[-2000:]
    for trouble in ("Overfull", "incomplete", "LaTeX Error"):
        assert trouble not in result.stdout, file.name
