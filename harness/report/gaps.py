"""What a report lacks, in one sentence each: what must not be overlooked before it is believed."""

from __future__ import annotations

from collections.abc import Iterable

from harness.report.findings import Findings
from harness.report.sentence import count, listed
from harness.report.table_spec import HARDWARE_METRICS, is_counted, metric_name
from harness.store import OddFile

MIXED = (
    ("git_commit", "commits"),
    ("code_version", "code versions"),
    ("schema_version", "schema versions"),
    ("data_checksum", "data"),
)
"""Columns that should have one value in all rows of a sweep"""


def gaps(findings: Findings, odd: Iterable[OddFile] = ()) -> list[str]:
    """Why the report is not whole; empty where nothing is missing. OOM is a result."""
    spec, selection = findings.spec, findings.selection
    planned = len(spec.rows.order) * len(spec.columns.order) * len(spec.seeds)
    missing = sum(len(seeds) for _, _, seeds in selection.missing)
    said = [f"{count(selection.unplanned, 'row')} outside the plan left out"] if selection.unplanned else []
    if selection.used.empty and selection.failed.empty:
        return [f"no rows: all {planned} planned evaluations are missing", *said, *map(str, odd)]
    if missing:
        said.append(
            f"{missing} of {planned} planned evaluations are missing, {_failed(findings)} of them failed"
        )
    said += _without_numbers(findings)
    sizes = {cell.n for where, cell in findings.cells.items() if where[2] in spec.cells and cell.n}
    if sizes == {1} and not is_counted(spec.cells):
        said.append("one seed: no spread is known, nothing can be decided")
    if len(sizes) > 1:
        said.append(f"the cells have unequal numbers of seeds ({min(sizes)} to {max(sizes)})")
    for column, what in MIXED:
        values = selection.distinct(column) if column in selection.used else []
        meant = column == "data_checksum" and not selection.mixed_data()
        if len(values) > 1 and not meant:
            said.append(f"the rows come from {len(values)} {what}")
    if selection.used.size and selection.mixed_hardware() and set(HARDWARE_METRICS) & set(spec.cells):
        said.append("the rows come from different machines: speeds are withheld")
    return [*said, *map(str, odd)]


def _failed(findings: Findings) -> int:
    """Planned runs whose newest row is a failure other than too little memory."""
    failed = findings.selection.failed
    stands = failed["planned"].astype(bool) & ~failed["superseded"].astype(bool) & (failed["status"] != "oom")
    return int(stands.sum())


def _without_numbers(findings: Findings) -> list[str]:
    """Finished runs that lack a finite number that the table shows."""
    spec, selection = findings.spec, findings.selection
    bare = selection.without_number(spec.cells)
    if not bare:
        return []
    lacking = {metric for metrics in bare.values() for metric in metrics}
    names = listed([metric_name(metric) for metric in spec.cells if metric in lacking])
    return [f"{count(len(bare), 'finished run')} without {names}"]
