"""What a report lacks, in one sentence each: what must not be overlooked before it is believed."""

from __future__ import annotations

from collections.abc import Iterable

from harness.report.findings import Findings
from harness.report.sentence import count, listed
from harness.report.table_spec import is_counted, metric_name
from harness.store import OddFile

MIXED = (
    ("git_commit", "commits"),
    ("code_version", "code versions"),
    ("schema_version", "schema versions"),
    ("data_checksum", "data"),
    ("scale", "scales"),
)
"""Columns that should have one value in all rows of a sweep"""


def gaps(findings: Findings, odd: Iterable[OddFile] = ()) -> list[str]:
    """Why the report is not whole; empty where nothing is missing. OOM is a result."""
    spec, selection = findings.spec, findings.selection
    planned = len(spec.rows.order) * len(spec.columns.order) * len(spec.seeds)
    if selection.used.empty and selection.failed.empty:
        return [f"no rows: all {planned} planned evaluations are missing", *map(str, odd)]
    missing = sum(len(seeds) for _, _, seeds in selection.missing)
    standing = selection.failed[~selection.failed["superseded"].astype(bool)]
    failed = int((standing["status"] != "oom").sum())
    said = []
    if missing:
        said.append(f"{missing} of {planned} planned evaluations are missing, {failed} of them failed")
    said += _without_numbers(findings)
    if len(spec.seeds) == 1 and not is_counted(spec.cells):
        said.append("one seed: no spread is known, nothing can be decided")
    if {cell.n for cell in findings.cells.values() if cell.n} - {len(spec.seeds)}:
        said.append("the cells have unequal numbers of seeds")
    for column, what in MIXED:
        values = selection.distinct(column) if column in selection.used else []
        if len(values) > 1:
            said.append(f"the rows come from {len(values)} {what}")
    if selection.used.size and selection.mixed_hardware() and {"fps", "peak_memory_gb"} & set(spec.cells):
        said.append("the rows come from different machines: speeds are withheld")
    return [*said, *map(str, odd)]


def _without_numbers(findings: Findings) -> list[str]:
    """Finished rows that lack a number that the table shows."""
    used = findings.selection.used
    lacking = [metric for metric in findings.spec.cells if metric in used and used[metric].isna().any()]
    lacking += [metric for metric in findings.spec.cells if metric not in used and len(used)]
    if not lacking:
        return []
    rows = used[[metric for metric in lacking if metric in used]].isna().any(axis=1).sum()
    return [
        f"{count(int(rows or len(used)), 'finished row')} without {listed(list(map(metric_name, lacking)))}"
    ]
