"""Verdicts, claims and bests written by hand: what prints them is tested without what finds them."""

from __future__ import annotations

from dataclasses import replace
from itertools import cycle

from harness.report.comparison import Comparison
from harness.report.findings import Findings
from harness.report.table_spec import place
from harness.report.verdicts import OF_A_CELL, CellVerdict, ClaimedGap, ClaimVerdict
from harness.sweep_file import Claim

TESTS = Comparison(
    gap=1.25,
    low=-0.5,
    high=3.0,
    p=0.03125,
    p_permutation=0.0079365,
    p_sign_flip=None,
    probability=0.84,
    minimal_effect=2.03,
    seeds_needed=9,
    n=(5, 4),
    pairs=4,
)


def judged(findings: Findings) -> Findings:
    """All five verdicts in turn over the paper's cells, the last row best, and two claims."""
    spec = findings.spec
    down, metric = spec.rows.order, spec.cells[0]
    first, last = (", ".join(map(str, values)) for values in (down[0], down[-1]))
    better = Claim(
        id="last-wins", says=f"50% of | rows: {last} & first", metric=metric, better=last, worse=first
    )
    lost = Claim(id="first-is-best", says="The first row is best", metric=metric, best=first)
    return replace(
        findings,
        verdicts={
            where: CellVerdict(where, verdict, f'because of "{verdict}", 100% & more')
            for where, verdict in zip(findings.paper, cycle(OF_A_CELL), strict=False)
        },
        best=frozenset((place(down[-1]), column, metric) for column in spec.columns.places),
        claims=(
            ClaimVerdict(
                better,
                "consistent",
                "one of 2 gaps is significant",
                0.0625,
                (ClaimedGap("last - first", TESTS),),
            ),
            ClaimVerdict(lost, "inconclusive", "runs are missing", None, (ClaimedGap("first - last", None),)),
        ),
    )
