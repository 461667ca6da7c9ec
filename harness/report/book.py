"""The report of many sweeps: a folder of tables and figures for each, and one page over all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.archive import read_curves
from harness.report.figures import figures_of, read_losses
from harness.report.findings import Findings, examine
from harness.report.gaps import gaps
from harness.report.html.page import SweepPage, html_page
from harness.report.latex import all_tables_document
from harness.report.report import report_files, write_whole
from harness.report.sources import Source
from harness.report.trials_told import log_tails, repeat_commands

TABLES, PAGE = "tables.tex", "index.html"


@dataclass(frozen=True)
class Book:
    """What was written, and what it lacks."""

    files: tuple[Path, ...]
    gaps: tuple[str, ...]
    """``table3a/tiny: 4 of 80 planned evaluations are missing``"""
    findings: tuple[Findings, ...]


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
        findings = examine(source.spec, source.rows)
        curves = read_curves(source.folder, results / "trials", findings.selection.used.get("trial", []))
        figures = figures_of(findings, read_losses(curves, findings.selection))
        folder = reports / source.spec.name / source.folder.name
        contents = report_files(findings, figures)
        files += [write_whole(folder / name, content) for name, content in contents.items()]
        tables += [f"{source.name}/{Path(name).stem}" for name in contents if name.endswith(".tex")]
        lacking += [f"{source.name}: {gap}" for gap in gaps(findings, source.odd)]
        commands = repeat_commands(source.rows, source.manifest)
        pages.append(SweepPage(findings, figures, commands, log_tails(source.rows, results / "trials")))
    files.append(write_whole(reports / TABLES, all_tables_document(tables).encode()))
    files.append(write_whole(reports / PAGE, html_page(pages).encode()))
    return Book(tuple(files), tuple(lacking), tuple(page.findings for page in pages))
