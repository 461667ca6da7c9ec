"""What a table says of the paper's numbers: where they were measured, and how ours stand to them."""

from __future__ import annotations

from collections.abc import Sequence

from harness.report.comparability import CONDITIONS, Conditions
from harness.report.findings import Findings
from harness.report.selection import is_synthetic
from harness.report.sentence import Sentence, listed
from harness.report.table_spec import Place, TableSpec, is_counted
from harness.report.verdicts import OF_A_CELL, Verdict

COMPARABLE = "published"
NOT_COMPARABLE = "published (not comparable)"
"""What stands before the paper's numbers"""
MARKS: dict[Verdict, str] = {
    "reproduced": "r",
    "consistent": "c",
    "inconclusive": "i",
    "not reproduced": "n",
    "not comparable": "",
}
"""Verdict -> the letter beside the paper's number"""


def whose_claims(spec: TableSpec) -> str:
    """Heading of the claims: a sweep without a table of the paper claims what it says itself."""
    return "The sweep's claims" if spec.paper is None else "The paper's claims"


def judged_on(findings: Findings) -> str:
    """What a verdict on a claim is about."""
    if is_counted(findings.spec.cells):
        return "counted"
    scale = f"scale {findings.spec.scale}"
    if is_synthetic(findings.selection):
        return f"judged on SYNTHETIC videos, {scale}: this says nothing about {_data(findings)}"
    return f"judged on {listed(findings.selection.distinct('data_name') or ['no rows'])}, {scale}"


def _data(findings: Findings) -> str:
    return CONDITIONS.get(findings.spec.paper or "", Conditions()).data


def paper_row(findings: Findings, paper: Sequence[Place]) -> str:
    """What stands before the paper's numbers. A count is the same count anywhere."""
    counted = is_counted(tuple(metric for _, _, metric in paper))
    return COMPARABLE if counted or _comparable(findings, paper) else NOT_COMPARABLE


def marks(findings: Findings, paper: Sequence[Place]) -> dict[Place, str]:
    """The letter of each of the paper's cells; none where all verdicts are the same."""
    if len(_kinds(findings, paper)) < 2:
        return {}
    return {where: MARKS[findings.verdicts[where].verdict] for where in paper if where in findings.verdicts}


def said_of_means(findings: Findings, paper: Sequence[Place]) -> list[Sentence]:
    """Sentences on the paper's means in the cells ``paper``."""
    key = findings.spec.paper
    if key is None or not paper:
        return _none(key)
    if not _comparable(findings, paper):
        return [_not_comparable(findings, key, paper)]
    kinds = _kinds(findings, paper)
    if len(kinds) == 1:
        text = (
            f"Against the paper's numbers ({_source(key)}) every cell is {kinds[0]}: {OF_A_CELL[kinds[0]]}."
        )
        return [Sentence(text)]
    named = [f"{MARKS[kind]} {kind}" for kind in kinds if MARKS[kind]]
    named += ["no letter: not comparable"] if "not comparable" in kinds else []
    return [Sentence(f"Verdicts beside the paper's numbers ({_source(key)}): {', '.join(named)}.")]


def said_of_deviations(findings: Findings, paper: Sequence[Place]) -> list[Sentence]:
    """Sentences on the paper's standard deviations in the cells ``paper``."""
    key = findings.spec.paper_std
    if key is None or not paper:
        return _none(key)
    if _comparable(findings, paper):
        first = f"Below ours the paper's ({_source(key)}); no verdict is passed on standard deviations."
        said = Sentence(first)
    else:
        said = _not_comparable(findings, key, paper)
    return [said, Sentence("The paper's are over five runs, ddof not stated.")]


def _none(key: str | None) -> list[Sentence]:
    return (
        []
        if key is None
        else [Sentence(f"The paper's table ({key}) has no number of these rows and columns.")]
    )


def _not_comparable(findings: Findings, key: str, paper: Sequence[Place]) -> Sentence:
    reasons = (findings.verdicts[where].why.split("; ") for where in paper if where in findings.verdicts)
    said = dict.fromkeys(clause for clauses in reasons for clause in clauses)
    return Sentence(
        f"The paper's numbers ({_source(key)}) are printed for orientation"
        f" and are not comparable (n.c.): {'; '.join(said)}."
    )


def _kinds(findings: Findings, paper: Sequence[Place]) -> list[Verdict]:
    """The verdicts that occur, in the order of their definitions."""
    there = {findings.verdicts[where].verdict for where in paper if where in findings.verdicts}
    return [verdict for verdict in OF_A_CELL if verdict in there]


def _comparable(findings: Findings, paper: Sequence[Place]) -> bool:
    return any(kind != "not comparable" for kind in _kinds(findings, paper))


def _source(key: str) -> str:
    return f"NeurIPS 2021, {CONDITIONS.get(key, Conditions()).text()}"
