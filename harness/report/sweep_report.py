"""From a plan's rows to its report: reads parquet, writes tables, figures and the picture of tracks."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from rich.console import Console

from harness.data.source import DataSource
from harness.data.splits import load_scored
from harness.engine.manifest import load_manifests
from harness.engine.plan import Plan
from harness.provenance import PROJECT, code_version
from harness.report.spec_of import spec_of
from harness.report.table_spec import TableSpec
from harness.store import OddFile, read_rows
from harness.sweep import Cell, Trial, trial_cells

PAGE = "report.html"
"""Of one sweep; ``harness report`` writes one page over all"""
MADE_FROM = ".made_from.json"
"""In a report's folder: what it was made from, its files, and its table for the terminal"""


def report_plan(plan: Plan, console: Console, anew: bool) -> None:
    """Print the table; write the report unless it is there already, of the same rows by the same code.

    Args:
        anew: write it in any case.
    """
    spec = table_spec(plan)
    cells = list(trial_cells(list(plan.trials)))
    origin = _origin(plan, spec, cells)
    made = None if anew else _up_to_date(plan.report, origin)
    if made is None:
        made = _make(plan, spec, cells, origin, console)
    text, files = made
    console.print()
    console.print(text, markup=False)
    console.print(f"rows: {plan.rows}; report: {plan.report}", markup=False)
    for path in files:
        console.print(f"  {path}", markup=False)


def _make(
    plan: Plan, spec: TableSpec, cells: list[tuple[Trial, Cell]], origin: str, console: Console
) -> tuple[str, list[Path]]:
    """Write the report; returns the table for the terminal, and the files."""
    # Late: pandas, scipy and matplotlib take a second, and a report that is there needs none of them.
    from harness.report.book import Sheet
    from harness.report.html.page import html_page
    from harness.report.report import report_files, write_whole
    from harness.report.terminal import terminal_claims, terminal_table

    odd: list[OddFile] = []
    rows = read_rows(plan.rows, [cell.key for _, cell in cells], odd)
    for file in odd:
        console.print(str(file), markup=False)
    results = plan.options.results
    manifest = next((each for each in load_manifests(results)[0] if each.folder == plan.rows), None)
    sheet = Sheet.of(spec, rows, plan.rows, results, manifest)
    contents = {**report_files(sheet.findings, sheet.figures), PAGE: html_page([sheet.page]).encode()}
    text = "\n\n".join(filter(None, [terminal_table(sheet.findings), terminal_claims(sheet.findings)]))
    files = [write_whole(plan.report / name, content) for name, content in contents.items()]
    files += _picture(plan, spec, cells)
    record = {"origin": origin, "files": [path.name for path in files], "text": text}
    write_whole(plan.report / MADE_FROM, json.dumps(record, indent=1).encode())
    return text, files


def table_spec(plan: Plan) -> TableSpec:
    """What the sweep file asks of its table."""
    cells = [cell for _, cell in trial_cells(list(plan.trials))]
    seeds = tuple(dict.fromkeys(trial.seed for trial in plan.trials))
    return spec_of(plan.sweep, plan.scale, cells[0].config, [cell.varied for cell in cells], seeds)


def _origin(plan: Plan, spec: TableSpec, cells: list[tuple[Trial, Cell]]) -> str:
    """A hash of all that decides the report's bytes: rows, layout, the paper's numbers, the code."""
    digest = hashlib.sha256(repr(spec).encode())
    for _, cell in cells:
        file = plan.rows / f"{cell.key}.parquet"
        digest.update(file.read_bytes() if file.is_file() else b"missing")
    digest.update((PROJECT / "harness" / "paper.yaml").read_bytes())
    here = Path(__file__).resolve().parent
    sources = sorted(str(file.relative_to(PROJECT)) for file in here.rglob("*.py"))
    digest.update(code_version(tuple(sources)).encode())
    for file in sorted(path for path in here.rglob("page.*") if path.suffix != ".py"):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _up_to_date(folder: Path, origin: str) -> tuple[str, list[Path]] | None:
    """The report's table and files if they are all there and of this origin."""
    try:
        record = json.loads((folder / MADE_FROM).read_text(encoding="utf-8"))
        files = [folder / name for name in record["files"]]
        is_same = record["origin"] == origin and all(file.is_file() for file in files)
        return (str(record["text"]), files) if is_same else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _picture(plan: Plan, spec: TableSpec, cells: list[tuple[Trial, Cell]]) -> list[Path]:
    """Tracks on one scored video, for the first seed at the last column, of the cells that have results.

    The rows alone make every table and figure; this picture also needs ``results.json`` and the frames.
    """
    from harness.report.tracks import Prediction, draw_tracks

    predictions: dict[str, tuple[DataSource, list[Prediction]]] = {}
    last = spec.columns.order[-1]
    for values in spec.rows.order:
        for trial, cell in cells:
            varied = dict(cell.varied)
            row, column = (tuple(varied[key] for key in side.keys) for side in (spec.rows, spec.columns))
            if trial.seed == spec.seeds[0] and (row, column) == (values, last):
                results = plan.cell_file(trial, cell, "results.json")
                if results.is_file():
                    of = plan.source_of(cell.config)
                    predictions.setdefault(of.name, (of, []))[1].append(
                        Prediction(spec.rows.label(values), results)
                    )
    if not predictions:
        return []
    # One picture has one video: where data runs down the table, that of its first row.
    source, drawn = next(iter(predictions.values()))
    dataset = load_scored(source.root(plan.options.results / "datasets"), source.config)
    at = f" at {spec.columns.label(last)}" if last else ""
    title = f"{spec.name}, scale {spec.scale}: tracks of seed {spec.seeds[0]}{at}, score above 0.3"
    return [draw_tracks(dataset, drawn, title, plan.report / f"{spec.name}_tracks.png")]
