"""From a plan's rows to its report: reads parquet, writes tables, figures and the picture of tracks."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from harness.data.ytvis import load_dataset
from harness.engine.plan import Plan
from harness.report.report import write_report
from harness.report.table_spec import TableSpec, value_label
from harness.report.tables import terminal_table
from harness.store import read_rows
from harness.sweep import trial_cells


def report_plan(plan: Plan, console: Console) -> None:
    """Write the report of the plan's rows and print the table and where it lies."""
    spec = table_spec(plan)
    rows = read_rows(plan.rows, [cell.key for _, cell in trial_cells(list(plan.trials))])
    written = write_report(spec, rows, plan.report)
    written += _picture(plan, spec)
    console.print()
    console.print(terminal_table(spec, rows), markup=False)
    console.print(f"rows: {plan.rows}; report: {plan.report}", markup=False)
    for path in written:
        console.print(f"  {path}", markup=False)


def _picture(plan: Plan, spec: TableSpec) -> list[Path]:
    """Tracks on one scored video, drawn for the first seed at the last column; needs those cells' results.

    The rows alone make every table; this picture also needs ``results.json`` and the frames. It is drawn
    again only when a result is newer than it.
    """
    from harness.report.tracks import Prediction, draw_tracks

    predictions = []
    for value in spec.row_order:
        for trial, cell in trial_cells(list(plan.trials)):
            varied = dict(cell.varied)
            if trial.seed == spec.seeds[0] and (varied[spec.rows], varied[spec.columns]) == (
                value,
                spec.column_order[-1],
            ):
                name = value_label(spec.rows, value)
                predictions.append(Prediction(name, plan.cell_file(trial, cell, "results.json")))
    predictions = [prediction for prediction in predictions if prediction.results.is_file()]
    if not predictions:
        return []
    out = plan.report / f"{spec.name}_tracks.png"
    newest = max(prediction.results.stat().st_mtime for prediction in predictions)
    if not out.is_file() or out.stat().st_mtime < newest:
        dataset = load_dataset(plan.source.root(plan.options.results / "datasets"), plan.source.config.valid)
        column = value_label(spec.columns, spec.column_order[-1])
        title = (
            f"{spec.name}, scale {spec.scale}: tracks of seed {spec.seeds[0]} at {column}, score above 0.3"
        )
        draw_tracks(dataset, predictions, title, out)
    return [out]


def table_spec(plan: Plan) -> TableSpec:
    """What the sweep file asks of its table."""
    sweep = plan.sweep
    return TableSpec(
        name=sweep.name,
        title=sweep.title,
        rows=sweep.table.rows,
        columns=sweep.table.columns,
        cells=sweep.table.cells,
        paper=sweep.paper,
        paper_std=sweep.paper_std,
        std_name=sweep.std_table,
        row_order=sweep.axes[sweep.table.rows],
        column_order=sweep.axes[sweep.table.columns],
        seeds=tuple(dict.fromkeys(trial.seed for trial in plan.trials)),
        scale=plan.scale.name,
        figures=sweep.figures,
    )
