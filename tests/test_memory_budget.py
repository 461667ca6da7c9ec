"""A memory budget on the whole road: what does not fit is a row, and says by what it was judged."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from harness.activation_memory import estimate_window
from harness.engine.plan import Options, make_plan
from harness.memory_budget import ESTIMATED, spelled
from harness.row_schema import upgraded
from tests.small_road import IFC_ONLY, Road, make_road

SWEEP = {**IFC_ONLY, "axes": {"model.encoder": ["ifc"], "inference.window": [2, 8]}, "seeds": 1}


def rows_of(road: Road, folder: str) -> pd.DataFrame:
    found = pd.read_parquet(road.results / "ifc_only" / folder)
    return found.sort_values("inference.window").reset_index(drop=True)


def test_a_budget_has_rows_of_its_own(tmp_path: Path) -> None:
    road = make_road(tmp_path, SWEEP)
    plan = road.plan()
    peaks = {
        window: estimate_window(plan.trials[0].config.model, (32, 48), window, "cpu").peak
        for window in (2, 8)
    }
    assert peaks[2] < peaks[8]
    budget = (peaks[2] + peaks[8]) // 2
    name = spelled(budget)

    refused = road.run("--memory-budget", "100MiB", "--only", "seed=7")
    assert refused.returncode == 2, "the choice is checked before anything runs"
    small = road.run("--memory-budget", "1MB")
    assert small.returncode == 1, small.stderr
    rows = rows_of(road, "micro-memory-1MB")
    assert list(rows["status"]) == ["oom", "oom"]
    assert set(rows["trial_peak_memory_kind"]) == {ESTIMATED}
    assert (rows["trial_peak_memory_gb"] > 0.001).all()
    assert rows["error"].str.contains("training step of 2 clips of 3 frames 32x48: estimated to need").all()

    plain = road.run()
    assert plain.returncode == 0, "a training that was too large for 1 MB says nothing without a budget"
    before = road.files()
    some = road.run("--memory-budget", name)
    assert some.returncode == 1, some.stderr
    rows = rows_of(road, f"micro-memory-{name}")
    assert list(rows["status"]) == ["done", "oom"]
    assert set(rows["memory_budget_gb"]) == {budget / 1e9}
    assert f"above --memory-budget {name}; not run" in rows["error"][1]
    assert rows["train_memory_budget_gb"].isna().all(), "its training had no budget"
    without = rows_of(road, "micro")
    assert list(without["status"]) == ["done", "done"]
    assert without["memory_budget_gb"].isna().all()
    assert not set(without["cell"]) & set(rows["cell"])
    assert list(without["AP"])[:1] == list(rows["AP"])[:1]
    kept = {name: time for name, time in before.items() if name.startswith("ifc_only/micro/")}
    assert kept.items() <= road.files().items(), "the rows without a budget are left alone"
    plan_file = json.loads((road.results / "ifc_only" / f"micro-memory-{name}" / "_plan.json").read_text())
    assert plan_file["memory_budget"] == budget
    report = (road.folder / "reports" / "ifc_only" / f"micro-memory-{name}" / "report.md").read_text()
    assert f"Each process was given {budget / 1e9:g} GB of memory." in report
    assert "On a CPU an estimate decides what does not fit; such runs were not started." in report


def test_identities(tmp_path: Path) -> None:
    road = make_road(tmp_path, SWEEP)
    scale = str(tmp_path / "scale.yaml")
    plans = [
        make_plan(Options(road.sweep, scale, road.results, tmp_path / "reports", memory_budget=budget))
        for budget in (None, 10**9, 2 * 10**9)
    ]
    assert len({plan.trials[0].key for plan in plans}) == 1, "weights do not depend on it"
    assert len({plan.trials[0].cells[0].key for plan in plans}) == 3
    assert [plan.folder_name for plan in plans] == ["micro", "micro-memory-1GB", "micro-memory-2GB"]


@pytest.mark.parametrize("version", [1, 2, 3])
def test_rows_of_older_versions_had_no_budget(version: int) -> None:
    row = upgraded({"schema_version": version, "cell": "a", "status": "done"})
    assert row["memory_budget_gb"] is None
    assert row["train_memory_budget_gb"] is None
