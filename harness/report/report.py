"""Rows in, a folder of tables and figures out: the last step of a sweep, repeatable at any time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from harness.metrics import ERROR_METRICS, SITUATION_METRICS
from harness.report.csv_table import csv_claims, csv_comparisons, csv_deviations, csv_table
from harness.report.figures.style import Figure
from harness.report.findings import Findings, examine
from harness.report.growth_table import growth_files
from harness.report.latex import latex_table
from harness.report.markdown import markdown_table
from harness.report.page import page
from harness.report.table import tables_of
from harness.report.table_spec import TableSpec
from model.errors import InputError
from model.whole_file import whole_file


def write_report(spec: TableSpec, rows: pd.DataFrame, out: Path) -> list[Path]:
    """:func:`write_findings` of what the rows say.

    Raises:
        InputError: a needed column is not in ``rows``, ``paper.yaml`` lacks a named table, or
            ``out`` cannot be written.
    """
    return write_findings(examine(spec, rows), out)


def write_findings(findings: Findings, out: Path) -> list[Path]:
    """Write tables (``.tex``, ``.md``, ``.csv``), figures (``.pdf``, ``.png``) and ``report.md``.

    The same rows give the same bytes. Each file is replaced as a whole or not at all.

    Returns:
        The files' paths.

    Raises:
        InputError: ``out`` cannot be written.
    """
    figures: list[Figure] = []
    of_tracks = set(findings.metrics) & {*SITUATION_METRICS, *ERROR_METRICS}
    if findings.spec.figures or of_tracks:
        from harness.report.figures import figures_of  # matplotlib takes a second to import

        figures = figures_of(findings)
    return [write_whole(out / name, content) for name, content in report_files(findings, figures).items()]


def report_files(findings: Findings, figures: Sequence[Figure]) -> dict[str, bytes]:
    """Names and contents of all files of a sweep's report."""
    contents: dict[str, bytes] = {}
    tables = tables_of(findings)
    for table in tables:
        numbers = csv_deviations(findings, table.metrics) if table.spread else csv_table(findings)
        contents[f"{table.name}.tex"] = latex_table(table).encode()
        contents[f"{table.name}.md"] = markdown_table(table).encode()
        contents[f"{table.name}.csv"] = numbers.encode()
    contents |= growth_files(findings)
    if findings.claims:
        contents["claims.csv"] = csv_claims(findings).encode()
        contents["comparisons.csv"] = csv_comparisons(findings).encode()
    for figure in figures:
        contents |= {f"{figure.name}.pdf": figure.pdf, f"{figure.name}.png": figure.png}
    contents["report.md"] = page(findings, tables, figures).encode()
    return contents


def write_whole(path: Path, content: bytes) -> Path:
    """Put a file in place as a whole, so that a reader never meets half of one."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as draft:
            draft.write_bytes(content)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from error
    return path
