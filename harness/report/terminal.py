"""A table for the end of a sweep, in a terminal."""

from __future__ import annotations

from dataclasses import replace

from tabulate import tabulate

from harness.report import escape
from harness.report.findings import Findings
from harness.report.markdown import plain
from harness.report.paper_words import judged_on, whose_claims
from harness.report.table import Table, mean_table
from harness.report.table_spec import Place, metric_name

MARK = "*"
"""Behind the best of a column, if it is established; a terminal has no bold that a log keeps"""


def terminal_table(findings: Findings) -> str:
    """Our means without the paper's, at most 100 columns wide for the usual four windows."""
    spec = findings.spec
    ours = replace(findings, spec=replace(spec, paper=None), paper={}, verdicts={})
    table = mean_table(ours, bold=MARK)
    lines = []
    for key, label in table.rows:
        for metric in table.metrics:
            cells = [_cell(table, (key, column, metric)) for column, _ in table.columns]
            lines.append([label if metric == table.metrics[0] else "", metric_name(metric), *cells])
    head = [table.stub, "", *[", ".join(labels) for _, labels in table.columns]]
    rendered = tabulate(lines, head, tablefmt="simple", disable_numparse=True)
    notes = [sentence.text for sentence in table.caption[1:]]  # the first is the title
    return "\n".join([f"{spec.name}: {spec.title}", "", rendered, "", *map(escape.one_line, notes)])


def _cell(table: Table, where: Place) -> str:
    return plain(table, where) + (MARK if where in table.best else "")


def terminal_claims(findings: Findings) -> str:
    """One line a claim: its verdict first; empty where the sweep file names none."""
    if not findings.claims:
        return ""
    lines = [[found.verdict, found.claim.id, found.claim.says, found.why] for found in findings.claims]
    whose = whose_claims(findings.spec)
    head = f"{findings.spec.name}: {whose[0].lower()}{whose[1:]}, {judged_on(findings)}"
    return "\n".join([head, "", tabulate(lines, tablefmt="plain", disable_numparse=True)])
