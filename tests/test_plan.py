"""What a plan refuses before anything runs, and which rows and records it takes for finished."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from harness.config import SyntheticConfig
from harness.data.synthetic import write_dataset
from harness.engine.plan import Options, Plan, make_plan
from harness.engine.run import remove_old_drafts
from harness.store import SCHEMA_VERSION, row_status, set_aside, write_row
from model.errors import InputError

ROOT = Path(__file__).resolve().parent.parent
TABLE = yaml.safe_load((ROOT / "sweeps" / "table3a.yaml").read_text(encoding="utf-8"))


def plan_of(folder: Path, changes: dict[str, Any], **options: Any) -> Plan:
    file = folder / "sweep.yaml"
    file.write_text(yaml.safe_dump({**TABLE, **changes}), encoding="utf-8")
    return make_plan(Options(file, "tiny", folder / "results", folder / "reports", **options))


@pytest.mark.parametrize(
    ("said", "seeds"), [("5", (0, 1, 2, 3, 4)), ("1", (0,)), ("7,0", (7, 0)), ("3,4,5", (3, 4, 5))]
)
def test_seeds_of_the_command_line_win(said: str, seeds: tuple[int, ...], tmp_path: Path) -> None:
    plan = plan_of(tmp_path, {}, seeds=said)
    assert tuple(dict.fromkeys(trial.seed for trial in plan.trials)) == seeds
    alike = {trial.key for trial in plan_of(tmp_path, {}).trials if trial.seed in seeds}
    assert alike == {trial.key for trial in plan.trials if trial.seed < 2}, "the same trainings"


@pytest.mark.parametrize("said", ["0", "3,3", "1.5", "-1", "all", "1,", ""])
def test_seeds_that_are_none(said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^--seeds: .*: allowed: a count"):
        plan_of(tmp_path, {}, seeds=said)
    with pytest.raises(InputError, match=r"--seeds: '3': .*table1\.yaml only counts"):
        make_plan(Options(ROOT / "sweeps" / "table1.yaml", "tiny", tmp_path, tmp_path, seeds="3"))


CLASSES = {"axes": {"model.num_classes": [3, 4], "inference.window": [5]}}
BAD = {
    "unknown paper table": (
        {"paper": "table3z"},
        "paper: 'table3z': not in harness/paper.yaml; it has table1",
    ),
    "unknown paper deviations": ({"paper_std": "table4z"}, "paper_std: 'table4z'"),
    "two tables of one name": ({"std_table": "table3a"}, "std_table: 'table3a': must differ from name"),
    "a name of ours": ({"name": "trials"}, "name: 'trials': taken"),
    "speed shown, not measured": ({"measure": ["ap"]}, "fps: shown but not measured"),
    "speed without AP": (
        {"measure": ["speed"]},
        "measure: ['speed']: 'speed' is of trained weights; add 'ap'",
    ),
    "FLOPs shown, not counted": (
        {"table": {**TABLE["table"], "cells": ["AP", "flops_g"]}},
        "flops_g: shown but not measured; add 'flops' to measure",
    ),
    "figure without columns": (
        {"axes": {"model.encoder": ["ifc"]}, "table": {"rows": "model.encoder", "cells": ["AP", "fps"]}},
        "figures: drawn against the table's columns, and it has none",
    ),
    "classes as an axis": (
        {**CLASSES, "table": {"rows": "model.num_classes", "columns": "inference.window", "cells": ["AP"]}},
        "axes.model.num_classes: given by the data",
    ),
    "other classes than the data's": (
        {"settings": {"model": {"num_classes": 3}}},
        "model.num_classes: 3: synth",
    ),
    "a seed below 0": ({"settings": {"data": {"synthetic": {"seed": -1}}}}, "data.synthetic.seed: -1: "),
    "frames of no size": ({"settings": {"train": {"short_sides": [0]}}}, "train.short_sides.0: 0: "),
}


@pytest.mark.parametrize(("changes", "message"), BAD.values(), ids=BAD.keys())
def test_refused_before_anything_runs(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        plan_of(tmp_path, changes)
    assert str(error.value).startswith(f"{tmp_path / 'sweep.yaml'}: {message}")
    assert "\n" not in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["sweep.yaml"]


def test_a_date_that_is_none_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "sweep.yaml"
    file.write_text("title: 2020-99-99\n", encoding="utf-8")
    with pytest.raises(InputError, match="not YAML"):
        make_plan(Options(file, "tiny", tmp_path / "results", tmp_path / "reports"))


@pytest.mark.parametrize("annotations", [None, []])
def test_a_split_that_cannot_be_scored_is_refused(annotations: object, tmp_path: Path) -> None:
    data = tmp_path / "data"
    small = SyntheticConfig(
        train_videos=1, valid_videos=1, length=2, height=32, width=32, categories=2, min_size=10, max_size=14
    )
    write_dataset(small, data)
    content = json.loads((data / "valid.json").read_text(encoding="utf-8"))
    (data / "valid.json").write_text(json.dumps({**content, "annotations": annotations}), encoding="utf-8")
    with pytest.raises(InputError, match=r"valid\.json: no annotations to score against"):
        plan_of(tmp_path, {}, data=data, split="valid")
    # Without a named split the hold-out is scored; the rule holds out no video here.
    with pytest.raises(InputError, match=r"train\.json: split 'ytvis19-holdout-v1' is empty: .*--split"):
        plan_of(tmp_path, {}, data=data)


@pytest.mark.parametrize("option", ["data", "weights"])
def test_an_option_that_would_be_ignored_is_refused(option: str, tmp_path: Path) -> None:
    count = Options(
        ROOT / "sweeps" / "table1.yaml", "tiny", tmp_path / "r", tmp_path / "p", **{option: tmp_path}
    )
    with pytest.raises(InputError, match=f"--{option}: .* only counts; it needs none"):
        make_plan(count)


def test_weights_that_nothing_starts_from_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--weights .*: no training of .* starts from weights"):
        plan_of(tmp_path, {}, weights=tmp_path)


def test_annotations_that_cannot_be_scored_are_refused_before_the_training(tmp_path: Path) -> None:
    small = SyntheticConfig(
        train_videos=1, valid_videos=1, length=2, height=32, width=32, categories=2, min_size=10, max_size=14
    )
    write_dataset(small, tmp_path / "data")
    file = tmp_path / "data" / "valid.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    content["annotations"][0]["areas"] = [float("nan"), 3.0]
    file.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(InputError, match=r"valid\.json: annotation \d+ \(video \d+\): areas\[0\]"):
        plan_of(tmp_path, {}, data=tmp_path / "data")


def test_a_split_is_a_name_not_a_path(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--split: '\.\./valid'"):
        plan_of(tmp_path, {}, data=tmp_path, split="../valid")


def test_damaged_and_incomplete_records_are_missing(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, {})
    trial = plan.trials[0]
    for content, missing in (('{"AP":', True), ("{}", True), ("[1]", True), ('{"AP": 1.0}', False)):
        file = plan.cell_file(trial, trial.cells[0], "metrics.json")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content, encoding="utf-8")
        assert (trial.cells[0] in plan.without(trial, "train_evaluate")) == missing, content


def test_a_row_without_a_wanted_number_is_not_done(tmp_path: Path) -> None:
    write_row(
        tmp_path, {"schema_version": SCHEMA_VERSION, "cell": "a", "status": "done", "AP": 3.0, "fps": None}
    )
    assert row_status(tmp_path, "a", ["AP"]) == "done"
    assert row_status(tmp_path, "a", ["AP", "fps"]) is None
    assert row_status(tmp_path, "b", ["AP"]) is None


def test_rows_of_another_plan_are_set_aside_and_no_longer_read(tmp_path: Path) -> None:
    for cell in ("a", "b", "c"):
        write_row(tmp_path, {"schema_version": SCHEMA_VERSION, "cell": cell, "status": "done", "AP": 3.0})
    set_aside(tmp_path, {"a", "c"})
    assert sorted(pd.read_parquet(tmp_path)["cell"]) == ["a", "c"]
    assert (tmp_path / "_older" / "b.parquet").is_file()


def test_old_drafts_of_killed_runs_are_removed_and_nothing_else(tmp_path: Path) -> None:
    rows = tmp_path / "table3a" / "tiny"
    drafts = [tmp_path / "datasets" / ".synthetic-1-x", rows / ".c0.parquet.0f"]
    kept = [tmp_path / "datasets" / "synthetic-1", tmp_path / "datasets" / ".synthetic-2-y"]
    kept += [rows / "c0.parquet", rows / ".c1.parquet.0f"]
    for place in drafts + kept:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.touch() if "parquet" in place.name else place.mkdir()
        if place not in (kept[1], kept[3]):  # these two may still be written
            os.utime(place, (time.time() - 7200, time.time() - 7200))
    remove_old_drafts(tmp_path, rows)
    assert all(place.exists() for place in kept)
    assert not any(place.exists() for place in drafts)
