"""Findings for the page's tests: rows of two sweeps, with claims, verdicts and figures made by hand."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from harness.report.against_paper import AgainstPaper
from harness.report.comparison import Comparison
from harness.report.findings import Findings, examine
from harness.report.html.page import SweepPage
from harness.report.table_spec import Side, TableSpec
from harness.report.verdicts import CellVerdict, ClaimedGap, ClaimVerdict, Verdict
from harness.sweep_file import Claim

ENCODERS = ("no_comm", "full_thw", "decomp_t_hw", "ifc")
WINDOWS = (5, 10, 15, 20)
SPEC = TableSpec(
    name="table3a",
    title="Various encoders taking clips of different lengths",
    rows=Side(("model.encoder",), tuple((encoder,) for encoder in ENCODERS)),
    columns=Side(("inference.window",), tuple((window,) for window in WINDOWS)),
    cells=("AP", "AP75", "fps"),
    paper="table3a_encoders",
    paper_std="table4a_std_of_3a",
    std_name="table4a",
    seeds=(0, 1, 2, 3, 4),
    scale="tiny",
    figures=("AP",),
)
MATCHING = TableSpec(
    name="table2c",
    title="Matching by boxes or by masks",
    rows=Side(("train.matching",), (("box",), ("mask",))),
    columns=Side((), ((),)),
    cells=("AP",),
    paper="table2c_matching_AP",
    paper_std=None,
    std_name=None,
    seeds=(0, 1, 2),
    scale="tiny",
    figures=(),
)
COMMAND = "git checkout {commit}\npython run_sweep.py sweeps/table3a.yaml --scale tiny --only {only}"


@dataclass(frozen=True)
class Picture:
    """A figure of which only the drawing is missing."""

    name: str = "table3a_AP"
    title: str = "AP against T"
    caption: str = "Means over five seeds; bars are t intervals, dots single seeds."
    svg: str = (
        '<svg role="img" width="240pt" height="150pt" viewBox="0 0 240 150"><title>AP</title>'
        '<path d="M 20 130 \nL 220 20" style="stroke: #0072b2; fill: none"/>'
        '<text x="20" y="145">5 &amp; 20</text></svg>'
    )


def row(encoder: str, window: int | None, seed: int, **changes: Any) -> dict[str, Any]:
    """A finished row with a configuration as long as a real one."""
    train = {f"setting_{number}": number / 8 for number in range(60)}
    config = {
        "model": {"encoder": encoder, "memory_tokens": 8, "backbone": "tiny"},
        "train": {"steps": 360, "clips_per_batch": 8, "frames_per_clip": 3, "matching": "mask", **train},
        "inference": {"window": window, "stride": 1},
    }
    return {
        "schema_version": 3,
        "sweep": "table3a",
        "scale": "tiny",
        "trial": f"{encoder}-{seed}",
        "cell": f"{encoder}-{window or 0}-{seed}",
        "status": "done",
        "error": None,
        "seed": seed,
        "model.encoder": encoder,
        "inference.window": window,
        "train.matching": "mask",
        **dict.fromkeys(("AP", "AP75", "fps", "peak_memory_gb"), float("nan")),
        "config": json.dumps(config),
        "data_name": "synthetic-1a2b3c4d",
        "data_kind": "synthetic",
        "data_description": "embedded synthetic videos: 64x96, 20 frames, 4 categories",
        "data_checksum": "9f8e7d6c",
        "split": "valid",
        "code_version": "c0ffee",
        "git_commit": "0123456789abcdef",
        "git_dirty": False,
        "hardware": "AMD EPYC, 2 cores",
        "device": "cpu",
        "threads": 1,
        "torch_version": "2.13.0",
        "log_tail": None,
        "host": "node7",
        "device_hours": 0.0375,
        "train_started": f"2026-01-0{seed % 9 + 1}T03:04:05+00:00",
        "finished": f"2026-01-0{seed % 9 + 1}T04:04:05+00:00",
    } | changes


def encoder_rows() -> pd.DataFrame:
    """Five seeds of Table 3(a): one failed, one out of memory at T=20, one missing, one superseded,
    one outside the plan."""
    draw, rows = np.random.default_rng(5), []
    for place, encoder in enumerate(ENCODERS):
        for seed in SPEC.seeds:
            for window in WINDOWS:
                ap = 25 + 5 * place + window / 5 + draw.normal(0, 2)
                fps = 98 + window / 2 - 8 * place + draw.normal(0, 1)
                numbers: dict[str, Any] = {"AP": ap, "AP75": ap + 1, "fps": fps, "peak_memory_gb": 0.4}
                if (encoder, window) == ("full_thw", 20):
                    numbers = {"status": "oom", "error": "torch.OutOfMemoryError: tried to allocate 12 GiB"}
                if (encoder, seed) == ("decomp_t_hw", 2):
                    log = "\n".join(f"step {step}: loss {9 - step / 40:.3f}" for step in range(0, 200, 20))
                    numbers = {
                        "status": "failed",
                        "error": "FloatingPointError: loss is NaN at step 212",
                        "log_tail": log,
                        "trial_peak_memory_gb": 0.51,
                    }
                if (encoder, window, seed) != ("ifc", 20, 1):
                    rows.append(row(encoder, window, seed, **numbers))
    rows.append(row("ifc", 5, 0, AP=1.0, finished="2025-01-01T00:00:00+00:00", cell="old"))
    rows.append(row("ifc", 36, 0, AP=2.0))
    return pd.DataFrame(rows)


def matching_rows() -> pd.DataFrame:
    """Three seeds of Table 2(c)."""
    return pd.DataFrame(
        [
            row(
                "ifc",
                5,
                seed,
                AP=30 + seed + 4 * (matching == "mask"),
                sweep="table2c",
                trial=f"{matching}-{seed}",
            )
            | {"train.matching": matching}
            for matching in ("box", "mask")
            for seed in MATCHING.seeds
        ]
    )


def comparison(gap: float, reach: float, p: float) -> Comparison:
    """One with plausible other numbers."""
    return Comparison(gap, gap - reach, gap + reach, p, max(p, 0.0079), None, 0.88, reach * 1.4, 7, (5, 5), 5)


def claims() -> tuple[ClaimVerdict, ...]:
    """One of each verdict."""

    def claim(name: str, says: str, **form: Any) -> Claim:
        return Claim.model_validate({"id": name, "says": says, "metric": "AP", **form})

    better = {"better": "ifc", "worse": "no_comm", "at": "every inference.window"}
    wins = tuple(
        ClaimedGap(f"IFC - No Comm at T={window}", comparison(gap, 2.9, p))
        for window, gap, p in zip(WINDOWS, (4.0, 6.1, 5.2, 3.3), (0.011, 0.0004, 0.003, 0.031), strict=True)
    )
    mixed = (
        ClaimedGap("IFC - Full THW at T=5", comparison(-0.8, 3.9, 0.64)),
        ClaimedGap("IFC - Full THW at T=20", None),
    )
    speed = {"near": "ifc", "to": "no_comm", "within": "10%", "metric": "fps"}
    fps = (ClaimedGap("IFC - 0.9 No Comm at T=5", comparison(-14.2, 3.1, 0.00002)),)
    judged: list[tuple[Claim, Verdict, str, float | None, tuple[ClaimedGap, ...]]] = [
        (
            claim("ifc-beats-no-comm", "IFC beats No Comm at every T", **better),
            "reproduced",
            "all 4 comparisons are significant",
            0.031,
            wins,
        ),
        (
            claim(
                "ap-rises-with-t", "AP of IFC rises with the window T", rises="ifc", along="inference.window"
            ),
            "consistent",
            "points its way, p = 0.062",
            0.062,
            (ClaimedGap("slope of IFC along T, per frame", comparison(0.21, 0.24, 0.062)),),
        ),
        (
            claim("ifc-best", "IFC is the best encoder at every T", best="ifc"),
            "inconclusive",
            "1 of 2 comparisons has no numbers",
            None,
            mixed,
        ),
        (
            claim("ifc-costs-little", "IFC is within 10 % of No Comm's FPS", **speed),
            "not reproduced",
            "IFC runs at 74 % of No Comm's FPS",
            0.00004,
            fps,
        ),
        (
            claim(
                "thw-slows",
                "Full THW slows down as T grows",
                metric="fps",
                falls="full_thw",
                along="inference.window",
            ),
            "not comparable",
            "speeds come from two machines",
            None,
            (),
        ),
    ]
    return tuple(ClaimVerdict(*each) for each in judged)


def cell_verdicts(findings: Findings) -> dict[tuple[str, str, str], CellVerdict]:
    """Nothing is comparable, but for the first two cells."""
    tests = AgainstPaper(1.1, 0.21, 33.0, 41.8, 1.0, 0.4, 23)
    found = {
        where: CellVerdict(where, "not comparable", "synthetic data, not YouTube-VIS 2019 valid")
        for where in findings.paper
    }
    for where, verdict in zip(list(found)[:2], ("consistent", "inconclusive"), strict=False):
        found[where] = CellVerdict(where, verdict, "inside the prediction interval", tests)  # type: ignore[arg-type]
    return found


def judged(findings: Findings, with_claims: bool = True) -> Findings:
    """The findings with made-up verdicts."""
    return replace(
        findings,
        verdicts=cell_verdicts(findings),
        claims=claims() if with_claims else (),
        best=frozenset({("ifc", "10", "AP"), ("no_comm", "5", "fps")}),
    )


def sweep_page(spec: TableSpec, rows: pd.DataFrame, figures: Sequence[Picture] = ()) -> SweepPage:
    """One sweep with a command and a log for every trial."""
    trials = sorted({str(trial) for trial in rows["trial"]})
    return SweepPage(
        findings=judged(examine(spec, rows), with_claims=spec.name == "table3a"),
        figures=figures,
        commands={trial: COMMAND.format(commit="0123456789abcdef", only=trial) for trial in trials},
        logs={trial: f"step 340: loss 1.02\nstep 360: loss 0.98\n{trial} is trained" for trial in trials},
    )


def two_sweeps() -> list[SweepPage]:
    """Tables 3(a) and 2(c)."""
    wide = Picture("table3a_paper", "Paper against ours", svg=Picture.svg.replace("240 150", "480 150"))
    return [
        sweep_page(SPEC, encoder_rows(), [Picture(), wide]),
        sweep_page(MATCHING, matching_rows()),
    ]
