"""The five verdicts: what each says of a cell and of a claim, and the records they are told with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from harness.report.against_paper import AgainstPaper
from harness.report.comparison import Comparison
from harness.report.table_spec import Place
from harness.sweep_file import Claim

Verdict = Literal["reproduced", "consistent", "inconclusive", "not reproduced", "not comparable"]

CONFIDENCE = 0.95
LEVEL = 1 - CONFIDENCE
"""Significance level of every test, after Holm's correction over one table"""
ENOUGH_RUNS = 5
"""The paper's number of runs; fewer of ours decide nothing about its numbers."""

OF_A_CELL: dict[Verdict, str] = {
    "reproduced": "equal to the paper's mean within the margin of the sweep file: both one-sided Welch"
    f" tests reject at {LEVEL:g} (a count: equal to the last printed digit)",
    "consistent": f"inside the {CONFIDENCE:.0%} prediction interval that the paper's five runs give for a"
    " mean of ours; that they are equal within the margin is not established",
    "inconclusive": f"fewer than {ENOUGH_RUNS} runs, planned runs missing, no spread printed in the paper, or"
    " outside the prediction interval without a significant difference",
    "not reproduced": "outside the prediction interval, and different by Welch's test after Holm's correction"
    f" over the table's cells at {LEVEL:g} (a count: another number)",
    "not comparable": "data, split, recipe or hardware are not the paper's",
}
OF_A_CLAIM: dict[Verdict, str] = {
    "reproduced": f"holds on these data: every difference it names is significant at {LEVEL:g}, after Holm's"
    " correction over the table's claims (counts: every difference is as it says)",
    "consistent": "every difference has its sign, not all significantly: weak evidence, since a single"
    " difference lands here by chance alone half the time",
    "inconclusive": "some difference points the other way, none significantly; or runs are missing",
    "not reproduced": "some difference is significant the other way, after corrections over the claim's"
    " differences (Bonferroni) and the table's claims (Holm)",
    "not comparable": "its numbers come from different data or, of speed and memory, from different machines",
}


@dataclass(frozen=True)
class CellVerdict:
    """One of our cells against the paper's."""

    place: Place
    verdict: Verdict
    why: str
    """A clause without a full stop: ``synthetic data, not YouTube-VIS 2019 valid``"""
    tests: AgainstPaper | None = None
    """None where nothing was tested"""


@dataclass(frozen=True)
class ClaimedGap:
    """One comparison that a claim makes, and what it gave."""

    where: str
    """``IFC - No Comm at T=5``"""
    tests: Comparison | None
    """The gap is positive where it points the claim's way; None where numbers are missing"""


@dataclass(frozen=True)
class ClaimVerdict:
    """One claim of the sweep file, judged on this data."""

    claim: Claim
    verdict: Verdict
    why: str
    p: float | None
    """Of the deciding test after all corrections; None where nothing was tested"""
    gaps: tuple[ClaimedGap, ...]
