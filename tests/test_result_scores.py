"""Scores of results that are there: a stage of its own, which retrains and re-evaluates nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.engine.plan import Options, make_plan
from harness.engine.runners import Observer
from harness.engine.states import CellStates
from harness.metrics import ERROR_KINDS, ERROR_METRICS, LEVELS, METRICS, SITUATION_METRICS, SITUATIONS
from harness.provenance import score_versions
from harness.report.table_spec import METRIC_NAMES, UNITS
from harness.row_schema import SCHEMA_VERSION, upgraded
from harness.track_errors import error_scores
from model.errors import InputError
from tests.small_road import IFC_ONLY, Road, check_refused, make_road

ERRORS: dict[str, Any] = {
    **IFC_ONLY,
    "measure": ["ap", "errors"],
    "table": {**IFC_ONLY["table"], "cells": ["AP", "dAP_missed", "dAP_identity_switch"]},
}


def stamps(road: Road, name: str) -> dict[Path, tuple[int, int]]:
    files = sorted((road.results / "trials").glob(f"*/{name}")) + sorted(
        (road.results / "trials").glob(f"*/cells/*/{name}")
    )
    return {file: (file.stat().st_mtime_ns, file.stat().st_ino) for file in files}


def test_an_evaluated_cell_computes_only_what_it_lacks(tmp_path: Path) -> None:
    plain = make_road(tmp_path, IFC_ONLY)
    done = plain.run()
    assert done.returncode == 0, done.stderr
    before = {name: stamps(plain, name) for name in ("trial.json", "metrics.json", "results.json")}
    assert len(before["results.json"]) == 4
    assert not stamps(plain, "errors.json")

    road = make_road(tmp_path, ERRORS | {"measure": ["ap", "situations", "errors"]})
    done = road.run()
    assert done.returncode == 0, done.stderr
    assert {name: stamps(road, name) for name in before} == before, "nothing is trained or evaluated again"
    files = stamps(road, "errors.json")
    assert len(files) == 4
    rows = road.rows.set_index("cell")
    truth = road.plan().source.root(road.results / "datasets", lambda done, total: None)
    annotations = json.loads(next(truth.rglob("valid*.json")).read_text(encoding="utf-8"))
    for file in files:
        record = json.loads(file.read_text(encoding="utf-8"))
        again = error_scores(annotations, json.loads((file.parent / "results.json").read_text()))
        assert {name: record[name] for name in ERROR_METRICS} == again
        assert record["errors_code"] == score_versions()["errors"]
        row = rows.loc[file.parent.name]
        assert {name: row[name] for name in ERROR_METRICS} == again
        assert row["schema_version"] == SCHEMA_VERSION
        situations = json.loads((file.parent / "situations.json").read_text(encoding="utf-8"))
        assert {name: situations[name] for name in SITUATION_METRICS} == dict.fromkeys(SITUATION_METRICS)
        assert row["situations_code"] == score_versions()["situations"]
        assert row[list(SITUATION_METRICS)].isna().all(), "two tracks are too few, and that is a result"
    table = (tmp_path / "reports" / "ifc_only" / "micro" / "ifc_only.md").read_text(encoding="utf-8")
    assert "dAP (identity switch)" in table

    # Of other code: worked out again, the row too, and nothing else.
    [stale, *_] = files
    record = json.loads(stale.read_text(encoding="utf-8"))
    stale.write_text(json.dumps({**record, "errors_code": "old", "dAP_missed": 77.0}), encoding="utf-8")
    (road.plan().rows / f"{stale.parent.name}.parquet").unlink()
    done = road.run()
    assert done.returncode == 0, done.stderr
    assert json.loads(stale.read_text(encoding="utf-8"))["dAP_missed"] == record["dAP_missed"]
    assert {name: stamps(road, name) for name in before} == before
    fresh = stamps(road, "errors.json")
    assert [file for file in files if fresh[file] != files[file]] == [stale]
    assert len(road.rows) == 4

    last = stamps(road, "errors.json")
    assert road.run().returncode == 0
    assert stamps(road, "errors.json") == last, "done is done"

    stale.unlink()
    stale.with_name("results.json").unlink()
    (road.plan().rows / f"{stale.parent.name}.parquet").unlink()
    check_refused(road.run(), f"delete {stale.parent.resolve()} to evaluate again: results.json")


def test_a_row_of_other_code_counts_as_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = make_road(tmp_path, ERRORS).plan()
    trial = plan.trials[0]
    cell = trial.cells[0]
    for name, content in {
        "metrics.json": {"AP": 1.0},
        "errors.json": {"errors_code": score_versions()["errors"]},
    }.items():
        file = plan.cell_file(trial, cell, name)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(content), encoding="utf-8")
    assert plan.record(trial, cell, "errors") is not None
    states = CellStates(plan)
    assert states.stage_of(trial, cell) == "train_evaluate", "it has all, but there is no training"
    monkeypatch.setattr("harness.engine.trial_files.score_versions", lambda: {"errors": "new"})
    assert plan.record(trial, cell, "errors") is None
    assert states.stage_of(trial, cell) == "errors"
    assert states.states(trial, Observer(plan.results))[cell.key] == "pending"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"measure": ["errors"]}, r"measure: \['errors'\]: 'errors' is of evaluated results; add 'ap'"),
        ({"measure": ["situations", "flops"]}, r"'situations' is of evaluated results; add 'ap'"),
        ({"measure": ["ap"]}, r"dAP_missed: shown but not measured; add 'errors' to measure"),
        (
            {"table": {**ERRORS["table"], "cells": ["AP_speed_high"]}},
            r"AP_speed_high: shown but not measured; add 'situations' to measure",
        ),
        ({"settings": {"data": {"benchmark": "coco"}}}, r"measure: 'errors': told of tracks, and COCO"),
    ],
)
def test_refused_in_one_line(change: dict[str, Any], reason: str, tmp_path: Path) -> None:
    road = make_road(tmp_path, {**ERRORS, **change})
    with pytest.raises(InputError, match=reason) as caught:
        make_plan(Options(road.sweep, str(tmp_path / "scale.yaml"), road.results, tmp_path / "reports"))
    assert "\n" not in str(caught.value)


def test_old_rows_have_the_new_columns() -> None:
    row = upgraded({"schema_version": 4, "cell": "a", "status": "done", "AP": 3.0})
    assert row["schema_version"] == SCHEMA_VERSION == 5
    assert row["AP"] == 3.0
    new = (*SITUATION_METRICS, *ERROR_METRICS, "situations_code", "errors_code")
    assert all(row[name] is None for name in new)


def test_names() -> None:
    assert len(SITUATIONS) * len(LEVELS) == len(SITUATION_METRICS) == 18
    assert len(ERROR_KINDS) == len(ERROR_METRICS) == 7
    assert set(METRIC_NAMES) == set(UNITS) == set(METRICS)
    assert len(set(METRIC_NAMES.values())) == len(METRICS)
