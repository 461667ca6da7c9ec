"""Claims of a sweep file: what they compare, how they are judged, and which are refused."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from harness.report.claimed import Pair, Trend, asked_of, check_claims
from harness.report.comparison import compare
from harness.report.findings import examine
from harness.report.table_spec import Side, TableSpec
from harness.report.verdicts import ClaimVerdict
from harness.sweep_file import Claim
from model.errors import InputError

ROWS, WINDOWS, SEEDS = ("ifc", "no_comm", "full_thw"), (5, 10), (0, 1, 2, 3, 4)
SPREAD = (-1.0, -0.5, 0.0, 0.5, 1.0)
"""Around a mean, one a seed: SD 0.79, so with five seeds a gap of 1.15 has p = 0.05"""


def spec_with(*claims: dict[str, Any], cells: tuple[str, ...] = ("AP", "fps"), **changes: Any) -> TableSpec:
    named = [
        Claim.model_validate({"id": f"c{number}", "says": "so", "metric": "AP"} | claim)
        for number, claim in enumerate(claims)
    ]
    layout: dict[str, Any] = {
        "name": "t",
        "title": "T",
        "rows": Side(("model.encoder",), tuple((row,) for row in ROWS)),
        "columns": Side(("inference.window",), tuple((window,) for window in WINDOWS)),
        "cells": cells,
        "paper": None,
        "paper_std": None,
        "std_name": None,
        "seeds": SEEDS,
        "scale": "tiny",
        "figures": (),
        "claims": tuple(named),
    }
    return TableSpec(**layout | changes)


def rows_of(means: dict[tuple[str, int], float], metric: str = "AP", **changes: Any) -> pd.DataFrame:
    """Five runs a cell around these means; cells that are not given have 50."""
    return pd.DataFrame(
        [
            {
                "trial": f"{row}-{seed}",
                "status": "done",
                "seed": seed,
                "model.encoder": row,
                "inference.window": window,
                "AP": 50.0 + SPREAD[seed],
                "fps": 30.0 + SPREAD[seed],
                metric: means.get((row, window), 50.0) + SPREAD[seed],
                "finished": "2026-01-02T03:04:05+00:00",
                "data_checksum": "9f",
                "hardware": "one",
            }
            | changes
            for row in ROWS
            for window in WINDOWS
            for seed in SEEDS
        ]
    )


def judged(rows: pd.DataFrame, *claims: dict[str, Any], **changes: Any) -> tuple[ClaimVerdict, ...]:
    return examine(spec_with(*claims, **changes), rows).claims


BEATS = {"better": "ifc", "worse": "no_comm"}


@pytest.mark.parametrize(
    ("gaps", "verdict"),
    [
        ((5, 5), "reproduced"),
        ((5, 0.5), "consistent"),
        ((5, -0.5), "inconclusive"),
        ((5, -5), "not reproduced"),
        ((-0.5, -0.5), "inconclusive"),
        ((-5, -5), "not reproduced"),
    ],
)
def test_better_at_every_column(gaps: tuple[float, float], verdict: str) -> None:
    means = {("ifc", window): 50 + gap for window, gap in zip(WINDOWS, gaps, strict=True)}
    [found] = judged(rows_of(means), {**BEATS, "at": "every inference.window"})
    assert found.verdict == verdict, found
    assert [gap.where for gap in found.gaps] == ["IFC - No Comm at T=5", "IFC - No Comm at T=10"]
    assert [gap.tests and gap.tests.gap for gap in found.gaps] == pytest.approx(gaps)


def test_one_column_of_several() -> None:
    means = {("ifc", 5): 60.0, ("ifc", 10): 40.0}
    at5, at10, both = judged(
        rows_of(means), BEATS | {"at": "inference.window=5"}, BEATS | {"at": "inference.window=10"}, BEATS
    )
    assert (at5.verdict, at10.verdict, both.verdict) == ("reproduced", "not reproduced", "not reproduced")


def test_best_has_every_rival() -> None:
    means = {(row, window): mean for row, mean in (("ifc", 60.0), ("no_comm", 50.0)) for window in WINDOWS}
    ours, theirs = judged(rows_of(means | {("full_thw", 5): 59.9}), {"best": "ifc"}, {"best": "no_comm"})
    assert (len(ours.gaps), ours.verdict) == (4, "consistent"), "T=5 against Full THW is not significant"
    assert theirs.verdict == "not reproduced"


@pytest.mark.parametrize(
    ("ifc", "within", "verdict"),
    [
        (100.0, "10%", "reproduced"),
        (95.0, "10%", "reproduced"),
        (90.5, "10%", "consistent"),
        (89.5, "10%", "inconclusive"),
        (80.0, "10%", "not reproduced"),
        (97.0, 5.0, "reproduced"),
        (90.0, 5.0, "not reproduced"),
        (150.0, 5.0, "reproduced"),
    ],
)
def test_near_is_not_much_worse(ifc: float, within: str | float, verdict: str) -> None:
    means = {("ifc", window): ifc for window in WINDOWS} | {("no_comm", window): 100.0 for window in WINDOWS}
    claim = {"near": "ifc", "to": "no_comm", "within": within, "metric": "fps"}
    [found] = judged(rows_of(means, "fps"), claim)
    assert found.verdict == verdict, found


@pytest.mark.parametrize(
    ("ifc", "verdict"),
    [(50.0, "reproduced"), (51.0, "consistent"), (55.0, "not reproduced"), (45.0, "not reproduced")],
)
def test_equal_bounds_both_sides(ifc: float, verdict: str) -> None:
    means = {("ifc", window): ifc for window in WINDOWS}
    [found] = judged(rows_of(means), {"equal": ["ifc", "no_comm"], "within": 1.5})
    assert found.verdict == verdict, found
    assert len(found.gaps) == 4


def test_less_memory_is_better() -> None:
    means = {("ifc", window): 2.0 for window in WINDOWS} | {("no_comm", window): 9.0 for window in WINDOWS}
    rows = rows_of(means, "peak_memory_gb")
    right, wrong, near = judged(
        rows,
        BEATS | {"metric": "peak_memory_gb"},
        {"better": "no_comm", "worse": "ifc", "metric": "peak_memory_gb"},
        {"near": "no_comm", "to": "ifc", "within": "10%", "metric": "peak_memory_gb"},
        cells=("peak_memory_gb",),
    )
    assert [right.verdict, wrong.verdict, near.verdict] == ["reproduced", "not reproduced", "not reproduced"]
    assert right.gaps[0].tests is not None
    assert right.gaps[0].tests.gap == pytest.approx(7.0), "positive the claim's way"


def test_trends_are_slopes_of_each_seed() -> None:
    """T=5 to T=10: -4 FPS is -0.8 a frame, the same in every seed but for what is added."""
    rows = rows_of({("full_thw", 5): 34.0, ("full_thw", 10): 30.0}, "fps")
    odd = (rows["inference.window"] == 10) & (rows["model.encoder"] == "full_thw")
    rows.loc[odd, "fps"] += rows["seed"] * 0.1
    falls, rises = judged(
        rows,
        {"falls": "full_thw", "along": "inference.window", "metric": "fps"},
        {"rises": "full_thw", "along": "inference.window", "metric": "fps"},
    )
    assert (falls.verdict, rises.verdict) == ("reproduced", "not reproduced")
    assert falls.gaps[0].tests is not None
    assert falls.gaps[0].tests.gap == pytest.approx(0.8 - 0.04), "four tenths at most, two on average"


def test_counts_have_no_noise() -> None:
    rows = rows_of({("ifc", 5): 5.5, ("ifc", 10): 5.5, ("no_comm", 5): 5.2, ("no_comm", 10): 5.5}, "flops_g")
    rows = rows[rows["seed"] == 0].assign(flops_g=lambda frame: frame["flops_g"] - SPREAD[0])
    near, less, equal = judged(
        rows,
        {"near": "ifc", "to": "no_comm", "within": "10%", "metric": "flops_g"},
        {"better": "no_comm", "worse": "ifc", "at": "inference.window=5", "metric": "flops_g"},
        {"better": "no_comm", "worse": "ifc", "at": "inference.window=10", "metric": "flops_g"},
        cells=("flops_g",),
        seeds=(0,),
    )
    assert [near.verdict, less.verdict, equal.verdict] == ["reproduced", "reproduced", "inconclusive"]


def test_missing_runs_decide_nothing() -> None:
    rows = rows_of({("ifc", window): 60.0 for window in WINDOWS})
    one_less = rows[~((rows["model.encoder"] == "ifc") & (rows["seed"] == 4))]
    [found] = judged(one_less, BEATS)
    assert (found.verdict, "planned runs are missing" in found.why) == ("inconclusive", True)
    [found] = judged(rows[rows["model.encoder"] != "ifc"], BEATS)
    assert found.verdict == "inconclusive"
    assert found.why == "no two runs of each for IFC - No Comm at T=5 and 1 more"
    assert found.p is None
    [found] = judged(rows[rows["seed"] == 0], BEATS, seeds=(0,))
    assert found.verdict == "inconclusive"


def test_what_cannot_be_compared() -> None:
    rows = rows_of({("ifc", window): 60.0 for window in WINDOWS}, "fps")
    rows.loc[rows["model.encoder"] == "ifc", "hardware"] = "another"
    fps, ap = judged(rows, BEATS | {"metric": "fps"}, BEATS)
    assert (fps.verdict, fps.why) == ("not comparable", "measured on different machines")
    assert ap.verdict != "not comparable"
    rows.loc[rows["seed"] == 1, "data_checksum"] = "aa"
    assert judged(rows, BEATS)[0].why == "the rows come from different data"


def test_holm_is_over_the_claims_of_the_table() -> None:
    """A gap that is significant alone is not among many claims that hold as narrowly."""
    rows = rows_of({("ifc", window): 51.2 for window in WINDOWS})
    [alone] = judged(rows, BEATS)
    many = judged(rows, *[BEATS] * 3)
    assert alone.p is not None
    assert (alone.verdict, [each.verdict for each in many]) == ("reproduced", ["consistent"] * 3)
    assert [each.p for each in many] == pytest.approx([3 * alone.p] * 3)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(0, 100), min_size=6, max_size=6), st.sampled_from(ROWS), st.sampled_from(ROWS))
def test_a_claim_and_its_reverse_never_both_hold(means: list[float], one: str, other: str) -> None:
    assume(one != other)
    places = [(row, window) for row in ROWS for window in WINDOWS]
    rows = rows_of(dict(zip(places, means, strict=True)))
    verdicts = [
        each.verdict
        for each in judged(rows, {"better": one, "worse": other}, {"better": other, "worse": one})
    ]
    assert verdicts.count("reproduced") + verdicts.count("consistent") <= 1
    assert all(each.p is None or 0 <= each.p <= 1 for each in judged(rows, {"best": one}))


@pytest.mark.parametrize(
    ("claim", "said"),
    [
        ({"better": "ifcc", "worse": "no_comm"}, "better: 'ifcc': allowed: ifc, no_comm, full_thw"),
        (
            {"best": "ifc", "at": "every train.steps"},
            "at: 'every train.steps': allowed: every inference.window",
        ),
        ({"best": "ifc", "at": "inference.window=7"}, "at: 'inference.window=7': allowed values: 5, 10"),
        ({"best": "ifc", "at": "everywhere"}, "allowed: every KEY or KEY=VALUE with inference.window"),
        ({"rises": "ifc", "along": "model.encoder"}, "along: 'model.encoder': allowed: inference.window"),
        ({"best": "ifc", "metric": "AR1"}, "metric: 'AR1': allowed: AP, fps"),
        ({"better": "ifc", "worse": "ifc"}, "'ifc' is held against itself; name two rows"),
        ({"equal": ["ifc", "ifc"], "within": 1.0}, "'ifc' is held against itself"),
    ],
)
def test_claims_that_the_table_cannot_answer(claim: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=r"^s\.yaml: claims\.c0: ") as error:
        check_claims(spec_with(claim), "s.yaml")
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("claim", "said"),
    [
        ({}, "none: allowed: one of better, best"),
        ({"better": "ifc"}, "better takes worse, not nothing"),
        ({"best": "ifc", "worse": "no_comm"}, "best takes nothing else, not worse"),
        ({"best": "ifc", "better": "ifc", "worse": "a"}, "better, best: allowed: one of"),
        ({"near": "ifc", "to": "a", "within": "ten"}, "within"),
        (
            {"near": "ifc", "to": "a", "within": -1.0},
            "-1.0: allowed: a number above 0, or a share such as 10%",
        ),
        ({"near": "ifc", "to": "a", "within": "150%"}, "'150%': allowed: a number above 0"),
        ({"near": "ifc", "to": "a", "within": "0%"}, "'0%': allowed: a number above 0"),
        ({"near": "ifc", "to": "a", "within": True}, "True: allowed: a number above 0"),
        ({"rises": "ifc", "along": "x", "at": "every x"}, "a trend runs along all columns"),
        ({"bestt": "ifc"}, "bestt"),
    ],
)
def test_claims_that_say_nothing(claim: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError) as error:
        spec_with(claim)
    assert said in str(error.value)


def test_rows_of_two_keys_and_stand_ins() -> None:
    rows = Side(("model.backbone", "inference.window"), (("tiny", 5), ("tiny", 36)))
    spec = spec_with(
        {"better": ["resnet50", 36], "worse": ["resnet50", 5]},
        rows=rows,
        columns=Side((), ((),)),
        stand_ins={"resnet50": "tiny"},
    )
    [asked] = asked_of(spec, spec.claims[0])
    assert isinstance(asked, Pair)
    assert (asked.a, asked.b) == (("tiny / 36", "", "AP"), ("tiny / 5", "", "AP"))
    assert asked.where == "Tiny, T=36 - Tiny, T=5"


def test_a_trend_at_each_value_of_the_other_key() -> None:
    order = tuple((size, window) for size in ("a", "b") for window in (5, 36))
    columns = Side(("flops.resolution", "inference.window"), order)
    spec = spec_with({"rises": "ifc", "along": "inference.window"}, columns=columns)
    asked = asked_of(spec, spec.claims[0])
    assert [each.where[-5:] for each in asked] == [" at a", " at b"]
    assert all(isinstance(each, Trend) and len(each.points) == 2 for each in asked)


def test_windows_of_one_training_are_no_independent_samples() -> None:
    """Trials differ by encoder and seed only: T=10 beats T=5 by 0.5 in every seed, which differ by 2."""
    spec = spec_with(
        {"better": 10, "worse": 5},
        rows=Side(("inference.window",), ((5,), (10,))),
        columns=Side((), ((),)),
    )
    rows = rows_of({("ifc", 10): 50.5})
    [found] = examine(spec, rows[rows["model.encoder"] == "ifc"]).claims
    assert found.verdict == "reproduced"
    assert found.gaps[0].tests is not None
    assert found.gaps[0].tests.paired
    assert examine(spec, rows[rows["model.encoder"] == "ifc"]).best == {("10", "", "AP")}
    rows["trial"] += rows["inference.window"].astype(str)
    [apart] = examine(spec, rows[rows["model.encoder"] == "ifc"]).claims
    assert apart.verdict == "consistent", (
        "other trainings: a gap of 0.5 among seeds that differ by 2 says little"
    )


def test_what_stands_in_is_said() -> None:
    spec = spec_with(BEATS | {"better": "resnet101"}, stand_ins={"resnet101": "ifc", "resnet18": "tiny"})
    [found] = examine(spec, rows_of({})).claims
    assert found.why.endswith("; here ifc for resnet101")


# A lead that widens


FAST, SLOW = "AP_speed_high", "AP_speed_low"
WIDENS = {"widens": ["ifc", "no_comm"], "metric": FAST, "against": SLOW}


def rows_by_speed(lead: float, wobble: dict[str, float] | None = None) -> pd.DataFrame:
    """IFC leads by 3 in the slow third and by ``3 + lead`` in the fast one; seeds spread as elsewhere.

    ``wobble``: what a seed adds to both of its thirds, much more than to their difference.
    """
    rows = rows_of({})
    own = rows["model.encoder"].eq("ifc").astype(float)
    spread = rows["seed"].map(dict(enumerate(SPREAD)))
    turned = rows["seed"].map(dict(enumerate((0.5, -1.0, 1.0, 0.0, -0.5))))
    shared = 10.0 * turned * (wobble or {"ifc": 0.0}).get("ifc", 0.0)
    return rows.assign(**{SLOW: 40 + 3 * own + shared, FAST: 30 + (3 + lead) * own + shared + spread})


@pytest.mark.parametrize(
    ("lead", "verdict"),
    [(5.0, "reproduced"), (0.5, "consistent"), (-0.5, "inconclusive"), (-5.0, "not reproduced")],
)
@pytest.mark.parametrize("wobble", [None, {"ifc": 1.0}])
def test_a_lead_that_widens(lead: float, verdict: str, wobble: dict[str, float] | None) -> None:
    [found] = judged(rows_by_speed(lead, wobble), WIDENS | {"at": "inference.window=5"})
    assert found.verdict == verdict, found
    [gap] = found.gaps
    assert gap.where == "IFC - No Comm in AP (speed high), less in AP (speed low) at T=5"
    assert gap.tests is not None
    assert gap.tests.gap == pytest.approx(lead), "what a seed adds to both thirds drops out"
    assert gap.tests.n == (5, 5)
    assert not gap.tests.paired, "the rows are different trainings"
    by_hand = compare({s: 10 + lead + x - 10 for s, x in enumerate(SPREAD)}, dict(enumerate(SPREAD)))
    assert (gap.tests.p, gap.tests.low) == pytest.approx((by_hand.p, by_hand.low))


def test_a_lead_in_less_is_better_widens_the_other_way() -> None:
    rows = rows_by_speed(5.0).rename(columns={FAST: "dAP_missed", SLOW: "dAP_localisation"})
    claim = {"widens": ["no_comm", "ifc"], "metric": "dAP_missed", "against": "dAP_localisation"}
    [found] = judged(rows, claim | {"at": "inference.window=5"})
    assert found.verdict == "reproduced"
    assert found.gaps[0].where.startswith("IFC - No Comm in dAP (missed)")


def test_a_lead_that_widens_from_column_to_column() -> None:
    means = {("ifc", 5): 52.0, ("ifc", 10): 57.0}
    claim = {"widens": ["ifc", "no_comm"], "at": "inference.window=10", "against_at": "inference.window=5"}
    back = claim | {"at": "inference.window=5", "against_at": "inference.window=10"}
    # Seeds that move differently at the two columns: else the differences would have no spread.
    rows = rows_of(means)
    rows["AP"] += rows["seed"].mod(2) * rows["inference.window"].eq(10) * 0.5
    found, other = judged(rows, claim, back)
    assert (found.verdict, other.verdict) == ("reproduced", "not reproduced")
    assert found.gaps[0].where == "IFC - No Comm at T=10, less at T=5"
    assert found.gaps[0].tests is not None
    assert found.gaps[0].tests.gap == pytest.approx(5)


def test_columns_of_two_data_sets() -> None:
    """Trainings of their own at each column: each data set has its checksum, and is comparable within."""
    columns = Side(
        ("data.synthetic.decoys", "inference.window"), tuple((d, t) for d in (0, 1) for t in (5, 10))
    )
    parts = []
    for decoys, lead in ((0, 1.0), (1, 6.0)):
        part = rows_of({("ifc", window): 50 + lead for window in WINDOWS})
        turned = part["seed"].map(dict(enumerate(SPREAD if decoys else SPREAD[::-1])))
        parts.append(
            part.assign(
                **{"data.synthetic.decoys": decoys, "data_checksum": f"d{decoys}"},
                trial=part["trial"] + f"-{decoys}",
                AP=part["AP"] + 0.3 * turned,
            )
        )
    rows = pd.concat(parts, ignore_index=True)
    at = {"at": "data.synthetic.decoys=1", "against_at": "data.synthetic.decoys=0"}
    [found] = judged(rows, {"widens": ["ifc", "no_comm"], **at}, columns=columns)
    assert found.verdict == "reproduced", found
    assert len(found.gaps) == 2, "one at each window"
    assert found.gaps[0].where == "IFC - No Comm at decoys=1, T=5, less at decoys=0, T=5"
    mixed = rows.assign(data_checksum=[f"d{n % 2}" for n in range(len(rows))])
    [found] = judged(mixed, {"widens": ["ifc", "no_comm"], **at}, columns=columns)
    assert found.verdict == "not comparable"


def test_a_lead_without_its_other_metric() -> None:
    [found] = judged(rows_by_speed(5.0).drop(columns=SLOW), WIDENS)
    assert (found.verdict, found.why) == ("inconclusive", "AP (speed low) was not measured")
    few = rows_by_speed(5.0).drop(columns=SLOW).assign(situations_code="c0de")
    [found] = judged(few, WIDENS)
    assert (found.verdict, found.why) == ("inconclusive", "AP (speed low) has too few tracks")
    rows = rows_by_speed(5.0)
    rows.loc[rows["model.encoder"].eq("ifc") & rows["seed"].gt(0), SLOW] = float("nan")
    [found] = judged(rows, WIDENS)
    assert found.verdict == "inconclusive"
    assert "no two runs of each" in found.why


@pytest.mark.parametrize(
    ("claim", "reason"),
    [
        ({"widens": ["ifc", "no_comm"]}, "widens takes one of against, against_at, not neither"),
        (
            WIDENS | {"against_at": "inference.window=5", "at": "inference.window=10"},
            "not against, against_at",
        ),
        (WIDENS | {"against": FAST}, "allowed: another metric"),
        (BEATS | {"against": SLOW}, "only 'widens' has it"),
        ({"widens": ["ifc", "no_comm"], "against_at": "inference.window=5"}, "needs 'at', the other side"),
        ({"widens": ["ifc"], "against": SLOW}, "widens"),
        (WIDENS | {"within": 3}, "widens takes nothing else, not within"),
    ],
)
def test_leads_that_no_claim_may_compare(claim: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        spec_with(claim)


@pytest.mark.parametrize(
    ("claim", "reason"),
    [
        (WIDENS | {"widens": ["ifc", "ifc"]}, "'ifc' is held against itself"),
        (WIDENS | {"widens": ["ifc", "vistr"]}, "widens: 'vistr': allowed: ifc, no_comm, full_thw"),
        (
            WIDENS | {"against": "dAP_missed"},
            "of it and 'AP_speed_high' less is better in",
        ),
        (
            {"widens": ["ifc", "no_comm"], "at": "inference.window=5", "against_at": "inference.window=7"},
            "against_at: 'inference.window=7': allowed values: 5, 10",
        ),
        (
            {"widens": ["ifc", "no_comm"], "at": "inference.window=5", "against_at": "inference.window=5"},
            "do not match those of at: 'inference.window=5' one to one",
        ),
        (
            {
                "widens": ["ifc", "no_comm"],
                "at": "every inference.window",
                "against_at": "inference.window=5",
            },
            "one to one",
        ),
        (WIDENS | {"against": "AR1"}, "against: 'AR1': allowed: AP, fps"),
    ],
)
def test_leads_that_the_table_does_not_have(claim: dict[str, Any], reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        check_claims(spec_with(claim), "s.yaml")
