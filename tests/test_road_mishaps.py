"""What goes wrong on the road: a trial that fails, a broken picture, a checkpoint of another training."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import torch

from harness.config import SyntheticConfig
from harness.data.synthetic import write_dataset
from model import build_model
from model.checkpoint import save_weights
from tests.small_road import IFC_ONLY, VIDEOS, check_refused, make_road

pytestmark = pytest.mark.slow


def test_a_trial_that_fails_is_a_row_and_the_rest_goes_on(tmp_path: Path) -> None:
    sweep = {
        **IFC_ONLY,
        "axes": {"train.learning_rate": [1e30, 1e-3], "inference.window": [3, 5]},
        "table": {"rows": "train.learning_rate", "columns": "inference.window", "cells": ["AP"]},
        "seeds": 1,
    }
    road = make_road(tmp_path, sweep)
    done = road.run()
    assert done.returncode == 1
    assert done.stderr == ""
    rows = road.rows.set_index(["train.learning_rate", "inference.window"])
    assert len(rows) == 4
    for window in (3, 5):
        good, bad = rows.loc[(1e-3, window)], rows.loc[(1e30, window)]
        assert (good["status"], bad["status"]) == ("done", "failed")
        assert pd.isna(good["error"])
        assert bad["error"].startswith("TrainingDivergedError: ")
        assert pd.notna(good["AP"])
        assert pd.isna(bad["AP"])
        for column in ("config", "code_version", "torch_version", "hardware", "seed", "train_data"):
            assert bad[column] == good[column] or column == "config", column
            assert bad[column] is not None
    assert "TrainingDivergedError" in (road.plan().report / "report.md").read_text()

    before = road.files()
    again = road.run()
    assert again.returncode == 1
    assert road.files() == before

    retried = road.run("--retry", "failed")
    assert retried.returncode == 1
    trials = {trial.config.train.learning_rate: trial.key for trial in road.plan().trials}
    changed = {name for name, changed in road.files().items() if before.get(name) != changed}
    assert f"trials/{trials[1e30]}/attempts/0002/outcome.json" in changed
    assert not any(trials[1e-3] in name for name in changed)
    assert len(road.rows) == 4


def test_a_truncated_picture_stops_the_sweep(tmp_path: Path) -> None:
    data = tmp_path / "videos"
    write_dataset(SyntheticConfig.model_validate(VIDEOS), data)
    frames = sorted((data / "train" / "JPEGImages").glob("*/*.jpg"))
    for frame in frames:  # whichever is drawn first
        frame.write_bytes(frame.read_bytes()[:200])
    road = make_road(tmp_path / "road", {**IFC_ONLY, "seeds": 1}, "--data", str(data))
    check_refused(road.run(), str(data / "train" / "JPEGImages"), ".jpg: cannot be decoded (")
    assert not list(road.plan().rows.glob("*.parquet"))


def test_a_foreign_checkpoint_is_named(tmp_path: Path) -> None:
    road = make_road(tmp_path, {**IFC_ONLY, "seeds": 1})
    [trial] = road.plan().trials
    checkpoint = road.plan().trial_folder(trial) / "checkpoint.pt"
    checkpoint.parent.mkdir(parents=True)
    torch.save({"identity": "ffffffffffff", "step": 1}, checkpoint)
    before = checkpoint.read_bytes()
    check_refused(road.run(), f"{checkpoint}: checkpoint of training ffffffffffff, not of {trial.key}")
    assert checkpoint.read_bytes() == before
    assert not list(road.plan().rows.glob("*.parquet"))


def test_weights_of_another_training_are_not_evaluated(tmp_path: Path) -> None:
    road = make_road(tmp_path, {**IFC_ONLY, "seeds": 1})
    assert road.run().returncode == 0
    [trial] = road.plan().trials
    folder = road.plan().trial_folder(trial)
    save_weights(
        build_model(trial.config.model), folder / "weights.safetensors", {"identity": "ffffffffffff"}
    )
    for file in [*folder.glob("cells/*/metrics.json"), *road.plan().rows.glob("*.parquet")]:
        file.unlink()
    message = f"delete {folder} to train again: weights.safetensors is of training ffffffffffff"
    check_refused(road.run(), message)
    assert not list(road.plan().rows.glob("*.parquet"))
