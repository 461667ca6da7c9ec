"""Committed rows give committed bytes: tables in every shape, and the page around them.

``python -m tests.test_golden_reports`` rewrites the rows and the golden files; read the difference then.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
import pytest

from harness.report.findings import Findings, examine
from harness.report.paper import paper_cells
from harness.report.report import write_findings
from harness.report.table_spec import TableSpec
from tests.judged_by_hand import judged
from tests.report_rows import FIXTURES, SPEC, drawn_rows, fixture_rows, spec_of

GOLDEN = FIXTURES / "golden"


@dataclass(frozen=True)
class Shape:
    """One committed report."""

    spec: TableSpec
    rows: Callable[[TableSpec], pd.DataFrame]
    """Made once, then committed"""
    judge: Callable[[Findings], Findings] = lambda findings: findings

    @property
    def parquet(self) -> Path:
        return FIXTURES / f"rows_{self.spec.name}.parquet"

    def write(self, out: Path) -> list[Path]:
        return write_findings(self.judge(examine(self.spec, pd.read_parquet(self.parquet))), out)


def counted_rows(spec: TableSpec) -> pd.DataFrame:
    """The paper's counts but for one, which is off by 1."""
    rows, paper = drawn_rows(spec), paper_cells(spec.paper, spec)
    rows["flops_g"] = [paper[where] for where in paper for _ in spec.seeds]
    rows.loc[3, "flops_g"] += 1
    return rows


def too_large_rows(spec: TableSpec) -> pd.DataFrame:
    """Unified memory fits at no seed for T = 20, at some for T = 15; one run has no number."""
    rows = drawn_rows(spec)
    at = rows["model.memory_mixing"] == "unified"
    large = at & ((rows["inference.window"] == 20) | ((rows["inference.window"] == 15) & (rows["seed"] > 2)))
    rows.loc[large, ["status", "error", "AP"]] = ["oom", "CUDA out of memory", None]
    rows.loc[large, "trial_peak_memory_gb"] = 15.5
    rows.loc[~at & (rows["inference.window"] == 5) & (rows["seed"] == 1), "AP"] = float("nan")
    return rows


SHAPES = {
    # one trial failed, one row is lost
    "table3a and table4a": Shape(replace(SPEC, figures=()), lambda _: fixture_rows()),
    "two keys down, judged": Shape(spec_of("table2d"), drawn_rows, judged),
    "counted, two keys across": Shape(spec_of("table1"), counted_rows),
    "out of memory": Shape(spec_of("table3d"), too_large_rows),
}


@pytest.mark.parametrize("name", SHAPES)
def test_golden_files_byte_for_byte(name: str, tmp_path: Path) -> None:
    shape = SHAPES[name]
    written = shape.write(tmp_path)
    folder = GOLDEN / shape.spec.name
    assert sorted(path.name for path in written) == sorted(path.name for path in folder.iterdir())
    for path in written:
        assert path.read_bytes() == (folder / path.name).read_bytes(), path.name


def test_golden_files_hold_what_they_are_for() -> None:
    """A golden file shows that nothing changed, not that it is right: the odd places by hand."""
    read = {path.name: path.read_text(encoding="utf-8") for path in GOLDEN.glob("*/*")}
    assert r"No Comm & 5.17 & 38.23 &" not in read["table1.tex"]
    assert "15 of the paper's 16 numbers are met to their last digit." in read["table1.md"]
    oom = next(line for line in read["table3d.tex"].splitlines() if line.startswith("Unified"))
    assert oom.endswith(r"& OOM \\")
    assert "OOM: did not fit in the memory of AMD EPYC, 2 cores (7 runs)." in read["table3d.md"]
    assert "1 done run without a number (AP), counted as missing." in read["table3d.md"]
    assert "T=20, S=10" in read["table2d.tex"]
    assert "2/3" in read["table3a.tex"]


def rewrite() -> None:
    """Make the rows and the golden files anew."""
    for shape in SHAPES.values():
        shape.rows(shape.spec).to_parquet(shape.parquet, index=False)
        for path in shape.write(GOLDEN / shape.spec.name):
            print(path.relative_to(GOLDEN), file=sys.stderr)


if __name__ == "__main__":
    rewrite()
