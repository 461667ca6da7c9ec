"""The report of many sweeps: a folder of tables and figures for each, and one page over all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from harness.archive import read_curves
from harness.engine.manifest import Manifest
from harness.report.figures import Figure, figures_of, read_losses
from harness.report.findings import Findings, examine
from harness.report.gaps import gaps
from harness.report.html.page import SweepPage, html_page
from harness.report.latex import all_tables_document
from harness.report.report import report_files, write_whole
from harness.report.sources import Source
from harness.report.table_spec import TableSpec
from harness.report.trials_told import log_tails, repeat_commands

TABLES, PAGE = "tables.tex", "index.html"


@dataclass(frozen=True)
class Book:
    """What was written, and what it lacks."""

    files: tuple[Path, ...]
    gaps: tuple[str, ...]
    """``table3a/tiny: 4 of 80 planned evaluations are missing``"""
    findings: tuple[Findings, ...]


@dataclass(frozen=True)
class Sheet:
    """One sweep of a book."""

    findings: Findings
    figures: tuple[Figure, ...]
    page: SweepPage

    @classmethod
    def of(
        cls, spec: TableSpec, rows: pd.DataFrame, folder: Path, results: Path, manifest: Manifest | None
    ) -> Sheet:
        """All that is told of one sweep.

        Args:
            folder: of the rows.
            results: whose ``trials/`` have losses and logs, unless the rows are archived.

        Raises:
            InputError: rows lack a column that their table needs.
        """
        findings, trials = examine(spec, rows), results / "trials"
        curves = read_curves(folder, trials, findings.selection.used.get("trial", []))
        figures = tuple(figures_of(findings, read_losses(curves, findings.selection)))
        page = SweepPage(findings, figures, repeat_commands(rows, manifest), log_tails(rows, trials))
        return cls(findings, figures, page)


def write_book(sources: Sequence[Source], results: Path, reports: Path) -> Book:
    """Write ``<sweep>/<folder>/`` of every source, ``tables.tex`` and ``index.html``.

    The same rows give the same bytes. Each file is replaced as a whole or not at all.

    Raises:
        InputError: rows lack a column that their table needs, or ``reports`` cannot be written.
    """
    files: list[Path] = []
    pages: list[SweepPage] = []
    lacking: list[str] = []
    tables: list[str] = []
    for source in sources:
        sheet = Sheet.of(source.spec, source.rows, source.folder, results, source.manifest)
        contents = report_files(sheet.findings, sheet.figures)
        folder = reports / source.spec.name / source.folder.name
        files += [write_whole(folder / name, content) for name, content in contents.items()]
        tables += [f"{source.name}/{Path(name).stem}" for name in contents if name.endswith(".tex")]
        lacking += [f"{source.name}: {gap}" for gap in gaps(sheet.findings, source.odd)]
        pages.append(sheet.page)
    files.append(write_whole(reports / TABLES, all_tables_document(tables).encode()))
    files.append(write_whole(reports / PAGE, html_page(pages).encode()))
    return Book(tuple(files), tuple(lacking), tuple(page.findings for page in pages))
