"""From a plan's rows to its report: reads parquet, writes tables, figures and the picture of tracks."""

from __future__ import annotations

from rich.console import Console

from harness.engine.plan import Plan
from harness.report.report import write_report
from harness.report.table_spec import TableSpec
from harness.report.tables import terminal_table
from harness.store import read_rows
from harness.sweep import trial_cells


def report_plan(plan: Plan, console: Console) -> None:
    """Write the report of the plan's rows and print the table and where it lies."""
    spec = table_spec(plan)
    rows = read_rows(plan.rows, [cell.key for _, cell in trial_cells(list(plan.trials))])
    written = write_report(spec, rows, plan.report)
    console.print()
    console.print(terminal_table(spec, rows), markup=False)
    console.print(f"rows: {plan.rows}; report: {plan.report}", markup=False)
    for path in written:
        console.print(f"  {path}", markup=False)


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
