"""The sweep files as a lab runs them: planned without data, and the whole road at the smallest scale."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.engine.plan import Options, make_plan
from harness.report.paper import paper_cells
from harness.report.sweep_report import table_spec
from harness.report.table_spec import TableSpec
from tests.small_road import ROOT, Road, make_road

SWEEPS = ROOT / "sweeps"
# trials, trainings, evaluations
PAPER = {
    "table1": (4, 0, 16),
    "table2a": (10, 10, 20),
    "table2b": (5, 5, 10),
    "table2c": (10, 10, 10),
    "table2d": (5, 5, 20),
    "table3a": (20, 20, 80),
    "table3b": (2, 2, 2),
    "table3c": (25, 25, 100),
    "table3d": (10, 10, 40),
}
DATA_VARIABLES = ("YOUTUBE_VIS", "YOUTUBE_VIS_2019", "YOUTUBE_VIS_2021", "OVIS", "COCO", "IFC_WEIGHTS")


@pytest.mark.parametrize("table", PAPER)
def test_a_dry_run_needs_neither_data_nor_weights(table: str, tmp_path: Path) -> None:
    command = [sys.executable, "run_sweep.py", f"sweeps/{table}.yaml", "--scale", "paper", "--dry-run"]
    places = ["--results", str(tmp_path / "results"), "--reports", str(tmp_path / "reports")]
    bare = {name: value for name, value in os.environ.items() if name not in DATA_VARIABLES}
    done = subprocess.run(
        [*command, *places], cwd=ROOT, env=bare, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    trials, trainings, evaluations = PAPER[table]
    assert f"{trials} trials: {trainings} trainings, {evaluations} evaluations" in done.stdout
    lacking = [line for line in done.stdout.splitlines() if line.startswith("still lacking: ")]
    assert len(lacking) == (0 if table == "table1" else 2), "data and weights"
    assert not list(tmp_path.iterdir())


def numbers_in(line: str) -> list[str]:
    return [cell.strip(" *") for cell in line.split("|")[2:-1]]


def test_table_1_comes_out_to_the_last_digit(tmp_path: Path) -> None:
    places = ["--results", str(tmp_path / "results"), "--reports", str(tmp_path / "reports")]
    command = [sys.executable, "run_sweep.py", "sweeps/table1.yaml", *places]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "results" / "datasets").exists(), "a count needs no data"
    page = (tmp_path / "reports" / "table1" / "paper" / "table1.md").read_text()
    assert "16 of the paper's 16 numbers are met to their last digit." in page
    lines = [line for line in page.splitlines() if line.startswith("| ")]
    ours, paper = lines[1::2], lines[2::2]
    assert len(ours) == len(paper) == 4
    for line, printed in zip(ours, paper, strict=True):
        assert numbers_in(line) == numbers_in(printed)
        assert line.count("**") == (8 if "No Comm" in line else 0), "the least of each column"
        assert len(line.split("|")) == 7


# (row, column, metric) -> what the paper prints there, copied by hand; and how many numbers it has in all.
PRINTED: dict[str, tuple[int, dict[tuple[str, str, str], float]]] = {
    "table1": (
        16,
        {("decomp_t_hw", "720x1280 / 36", "flops_g"): 265.5, ("ifc", "360x640 / 5", "flops_g"): 5.52},
    ),
    "table2a": (
        18,
        {
            ("resnet50 / 5", "", "AP"): 41.0,
            ("resnet50 / 36", "", "fps"): 107.1,
            ("resnet101 / 36", "", "AP"): 44.6,
            ("resnet101 / 36", "", "AR10"): 52.1,
        },
    ),
    "table2b": (6, {("5", "", "AP"): 36.6, ("36", "", "AP75"): 39.3}),
    "table2c": (2, {("box", "", "AP"): 37.2, ("mask", "", "AP"): 39.4}),
    "table2d": (12, {("5 / 3", "", "AP"): 40.9, ("20 / 10", "", "fps"): 95.7}),
    "table3a": (48, {("full_thw", "20", "AP75"): 42.8, ("ifc", "5", "fps"): 36.3}),
    "table3b": (4, {("0", "", "AP"): 35.0, ("8", "", "AP50"): 56.5}),
    "table3c": (20, {("1", "20", "AP"): 39.4, ("16", "5", "AP"): 38.1}),
    "table3d": (8, {("unified", "10", "AP"): 38.9, ("decomposed", "20", "AP"): 40.4}),
}


def spec_of(file: Path, folder: Path, scale: str = "paper") -> TableSpec:
    plan = make_plan(Options(file, scale, folder / "results", folder / "reports"), lacking=True)
    return table_spec(plan)


@pytest.mark.parametrize("table", PRINTED)
def test_the_papers_numbers_stand_where_they_belong(table: str, tmp_path: Path) -> None:
    count, some = PRINTED[table]
    spec = spec_of(SWEEPS / f"{table}.yaml", tmp_path)
    found = paper_cells(spec.paper, spec)
    assert len(found) == count
    assert {where: found[where] for where in some} == some


@pytest.mark.parametrize(
    ("table", "changes", "count"),
    [
        ("table2a", {}, 0),  # at tiny other backbones stand in
        ("table1", {"settings": {"model": {"memory_tokens": 16}}}, 12),
        ("table3d", {"settings": {"model": {"memory_tokens": 16}}}, 0),
        ("table3d", {"settings": {"inference": {"stride": 3}}}, 0),
        ("table3c", {"settings": {"model": {"encoder": "no_comm"}}}, 0),
        ("table3a", {"settings": {"model": {"memory_tokens": 2}}}, 36),
    ],
)
def test_a_number_of_other_settings_is_not_printed(
    table: str, changes: dict[str, Any], count: int, tmp_path: Path
) -> None:
    content = yaml.safe_load((SWEEPS / f"{table}.yaml").read_text(encoding="utf-8"))
    file = tmp_path / "changed.yaml"
    file.write_text(yaml.safe_dump({**content, **changes}, sort_keys=False), encoding="utf-8")
    spec = spec_of(file, tmp_path, "tiny")
    assert len(paper_cells(spec.paper, spec)) == count


def road_of(table: str, folder: Path) -> Road:
    sweep: dict[str, Any] = yaml.safe_load((SWEEPS / f"{table}.yaml").read_text(encoding="utf-8"))
    return make_road(folder, sweep, scale={"seeds": 1})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("table", "rows"),
    [
        ("table2a", ["Tiny, T=5", "Tiny, T=36", "Tiny deep, T=5", "Tiny deep, T=36"]),
        ("table2c", ["Box-based", "Mask-based"]),
        ("table2d", ["T=5, S=3", "T=10, S=5", "T=15, S=8", "T=20, S=10"]),
        ("table3b", ["M=0", "M=8"]),
    ],
)
def test_the_whole_road(table: str, rows: list[str], tmp_path: Path) -> None:
    road = road_of(table, tmp_path)
    done = road.run()
    assert done.returncode == 0, done.stderr + done.stdout
    page = (road.plan().report / f"{table}.md").read_text()
    cells = [line.split("|")[1:-1] for line in page.splitlines() if line.startswith("| ")][1:]
    ours = [line for line in cells if not line[0].strip().startswith("published")]
    assert [line[0].strip() for line in ours] == rows
    assert all(cell.strip() not in ("", "--") for line in ours for cell in line)
    printed = [line for line in cells if line[0].strip().startswith("published")]
    assert len(printed) == (0 if table == "table2a" else len(rows))
    assert ("has no number of these rows" in page) == (table == "table2a"), "other backbones stood in"
    files = road.files()
    assert road.run().returncode == 0
    assert road.files() == files, "a second run has nothing to do"
