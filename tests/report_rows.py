"""Made-up rows of a sweep like Table 3(a), and what the tests of its report share."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd

from harness.engine.plan import Options, make_plan
from harness.report.findings import examine
from harness.report.latex import latex_table
from harness.report.markdown import markdown_table
from harness.report.sweep_report import table_spec
from harness.report.table import mean_table, std_table
from harness.report.table_spec import Side, TableSpec, Values
from tests.small_road import ROOT

FIXTURES = Path(__file__).parent / "fixtures"
ROWS = FIXTURES / "rows_table3a.parquet"

ENCODERS = ("no_comm", "full_thw", "decomp_t_hw", "ifc")
WINDOWS = (5, 10, 15, 20)
LABELS = {
    "no_comm": "No Comm",
    "full_thw": "Full THW",
    "decomp_t_hw": "Decomp T-HW",
    "ifc": "IFC (M=8)",
}
SPEC = TableSpec(
    name="table3a",
    title="Various encoders taking clips of different lengths",
    rows=Side(("model.encoder",), tuple((encoder,) for encoder in ENCODERS)),
    columns=Side(("inference.window",), tuple((window,) for window in WINDOWS)),
    cells=("AP", "AP75", "fps"),
    paper="table3a_encoders",
    paper_std="table4a_std_of_3a",
    std_name="table4a",
    seeds=(0, 1, 2),
    scale="tiny",
    figures=("AP", "fps"),
)


def row(encoder: str, window: int, seed: int, **changes: Any) -> dict[str, Any]:
    """A finished row; the numbers are AP = 50, AP75 = 40, fps = 30 unless changed."""
    return {
        "sweep": "table3a",
        "scale": "tiny",
        "trial": f"{encoder}-{seed}",
        "status": "done",
        "error": None,
        "seed": seed,
        "model.encoder": encoder,
        "inference.window": window,
        "AP": 50.0,
        "AP75": 40.0,
        "fps": 30.0,
        "finished": "2026-01-02T03:04:05+00:00",
        "schema_version": 1,
        "config": json.dumps(
            {
                "model": {"encoder": encoder, "memory_tokens": 8, "backbone": "tiny"},
                "train": {"steps": 360, "clips_per_batch": 8, "frames_per_clip": 3},
            }
        ),
        "data_name": "synthetic-1a2b3c4d",
        "data_kind": "synthetic",
        "data_description": "embedded synthetic videos: 96x128, 20 frames, 4 categories",
        "data_checksum": "9f8e7d6c",
        "split": "valid",
        "code_version": "c0ffee",
        "git_commit": "0123456789abcdef",
        "git_dirty": False,
        "hardware": "AMD EPYC, 2 cores",
        "device": "cpu",
        "threads": 1,
        "torch_version": "2.13.0",
    } | changes


def frame(*rows: dict[str, Any]) -> pd.DataFrame:
    return pd.DataFrame(list(rows), columns=list(row("ifc", 5, 0)))


def fixture_rows() -> pd.DataFrame:
    """Three seeds; one trial failed (Full THW, seed 2), one row is lost (IFC, T=20, seed 1)."""
    draw = np.random.default_rng(3)
    rows = []
    for place, encoder in enumerate(ENCODERS):
        for seed in range(3):
            for window in WINDOWS:
                ap = 40 + 2 * place + window / 5 + draw.normal(0, 1)
                fps = 90 + 2 * window - 5 * place + draw.normal(0, 1)
                numbers = {"AP": ap, "AP75": ap + 4 + draw.normal(0, 0.5), "fps": fps}
                if (encoder, seed) == ("full_thw", 2):
                    numbers = dict.fromkeys(numbers, float("nan"))
                    numbers |= {"status": "failed", "error": "RuntimeError: 100% of memory_used & {gone} #1"}
                if (encoder, window, seed) != ("ifc", 20, 1):
                    rows.append(row(encoder, window, seed, **numbers))
    return frame(*rows)


def full_rows(**changes: Any) -> pd.DataFrame:
    return frame(*[row(e, w, s, **changes) for e in ENCODERS for w in WINDOWS for s in SPEC.seeds])


def both(spec: TableSpec, rows: pd.DataFrame) -> list[str]:
    """LaTeX and Markdown of the means and of the deviations."""
    findings = examine(spec, rows)
    tables = [mean_table(findings), std_table(findings, "table4a")]
    return [form(table) for table in tables for form in (latex_table, markdown_table)]


def markdown_cells(text: str) -> dict[str, dict[str, str]]:
    lines = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if "|" in line
    ]
    return {line[0]: dict(zip(lines[0][1:], line[1:], strict=True)) for line in lines[2:]}


@cache
def spec_of(sweep: str, seeds: int = 5) -> TableSpec:
    """The table of one of the repository's sweep files, without figures."""
    scale = "paper" if sweep == "table1" else "tiny"
    with TemporaryDirectory() as folder:
        options = Options(ROOT / "sweeps" / f"{sweep}.yaml", scale, Path(folder, "r"), Path(folder, "t"))
        spec = table_spec(make_plan(options, lacking=True))
    return replace(spec, figures=(), seeds=spec.seeds if sweep == "table1" else tuple(range(seeds)))


def runs(spec: TableSpec) -> Iterable[tuple[Values, Values, int]]:
    """Row, column and seed of every planned run."""
    return (
        (row, column, seed) for row in spec.rows.order for column in spec.columns.order for seed in spec.seeds
    )


def drawn_rows(spec: TableSpec, seed: int = 0) -> pd.DataFrame:
    """A finished row for each planned run, with drawn numbers that look like real ones."""
    draw = np.random.default_rng(seed)
    rows = []
    for down, across, run in runs(spec):
        varied = dict(zip((*spec.rows.keys, *spec.columns.keys), (*down, *across), strict=True))
        numbers = {
            metric: round(100 + draw.normal(0, 6) if metric == "fps" else 50 + draw.normal(0, 1.5), 6)
            for metric in spec.cells
        }
        rows.append(row("ifc", 5, run) | {"sweep": spec.name, "scale": spec.scale, **varied, **numbers})
    return pd.DataFrame(rows)
