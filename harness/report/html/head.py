"""What the page says before the first sweep: facts, warnings, and what claims were judged on."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from harness.report.findings import Findings
from harness.report.html.runs import Outcomes
from harness.report.html.wording import MISSING, value_text
from harness.report.selection import is_synthetic
from harness.report.table_spec import HARDWARE_METRICS, is_counted

SYNTHETIC = (
    "Synthetic data: made-up videos, not those of the paper. No number measured on them may be held against"
    " the paper's; what the page can show is how the variants differ on these videos."
)
COUNTS_STAND = " Counted operations depend on no data: they are held against the paper's."
ONLY_THESE_VIDEOS = (
    "Reproduced here means: the ordering holds on these videos. It says nothing about YouTube-VIS."
)


def measured_on_synthetic(findings: Findings) -> bool:
    """Whether numbers of the sweep come from made-up videos; counted ones come from none."""
    return is_synthetic(findings.selection) and not is_counted(findings.spec.cells)


def ground_of(findings: Findings) -> str:
    """What stands behind the verdicts on a sweep's claims: ``judged on synthetic videos (scale tiny)``."""
    selection, scale = findings.selection, f"(scale {findings.spec.scale})"
    if selection.used.empty:
        return f"no finished run {scale}"
    if is_counted(findings.spec.cells):
        return f"counted, on no videos {scale}"
    if measured_on_synthetic(findings):
        partly = "" if selection.distinct("data_kind") == ["synthetic"] else "partly "
        return f"judged on {partly}synthetic videos {scale}"
    return f"judged on {', '.join(selection.distinct('data_name'))} {scale}"


def facts(all_findings: Sequence[Findings]) -> list[tuple[str, list[str]]]:
    """What all sweeps have in common, or each value that occurs."""
    used = [findings.selection.used for findings in all_findings]
    machines = {machine for findings in all_findings for machine in findings.selection.hardware()}
    outcomes = sum(map(Outcomes.of, all_findings), Outcomes(0, 0, 0, 0))
    found = [
        ("Scale", sorted({findings.spec.scale for findings in all_findings})),
        ("Data", _data(all_findings)),
        ("Seeds", _seeds(all_findings)),
        ("Machine", sorted(machines)),
        ("Commit", _commits(used)),
        ("Runs", [outcomes.words]),
    ]
    return [(name, values) for name, values in found if values]


def warnings(findings: Findings, loud: Sequence[str]) -> list[str]:
    """What must be known before a number of a sweep is read; ``loud``: what its captions say first."""
    return [*([SYNTHETIC] if measured_on_synthetic(findings) else []), *dict.fromkeys(loud)]


def _data(all_findings: Sequence[Findings]) -> list[str]:
    found = _distinct([each.selection.used for each in all_findings if not is_counted(each.spec.cells)])
    if any(len(each.selection.used) and is_counted(each.spec.cells) for each in all_findings):
        found.append("none (counted)")
    return found or ["no finished run"]


def _distinct(used: Sequence[pd.DataFrame]) -> list[str]:
    name = "data_description"
    found = {value_text(value) for rows in used if name in rows for value in rows[name].unique()}
    return sorted(found - {MISSING})


def _seeds(all_findings: Sequence[Findings]) -> list[str]:
    """How many numbers stand behind a measured cell; a cell that did not fit in memory has none to count."""
    sizes = {
        cell.n
        for findings in all_findings
        for (_, _, metric), cell in findings.cells.items()
        if metric in findings.spec.cells and not is_counted((metric,))
        if not (metric in HARDWARE_METRICS and findings.selection.mixed_hardware())
        if cell.n or not cell.out_of_memory
    }
    if not sizes:
        return []
    least, most = min(sizes), max(sizes)
    return [f"n = {most} a cell" if least == most else f"n = {least} to {most} a cell"]


def _commits(used: Sequence[pd.DataFrame]) -> list[str]:
    pairs = {
        (value_text(commit)[:12], value_text(dirty) == "yes")
        for rows in used
        if "git_commit" in rows and "git_dirty" in rows
        for commit, dirty in zip(rows["git_commit"], rows["git_dirty"], strict=True)
    }
    return sorted(commit + (" + uncommitted changes" if dirty else "") for commit, dirty in pairs)
