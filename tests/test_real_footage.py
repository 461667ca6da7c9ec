"""The same road on real footage. Skipped where the folder is not: it may not be part of this repository."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import torch

from harness.config import TrainConfig
from harness.data.clips import ClipSampler, collate
from harness.data.ytvis import load_dataset
from model import build_model
from model.losses import SetCriterion
from tests.small_road import make_road

PROJECT = Path(__file__).resolve().parent.parent
FOOTAGE = PROJECT.parent / "shared" / "data" / "ytvis_mini"

pytestmark = pytest.mark.skipif(
    not FOOTAGE.is_dir(), reason="the real footage ../shared/data/ytvis_mini is not here"
)

SWEEP = {
    "name": "footage",
    "title": "IFC on real frames",
    "axes": {"model.encoder": ["ifc"], "inference.window": [5, 20]},
    "seeds": 1,
    "table": {"rows": "model.encoder", "columns": "inference.window", "cells": ["AP", "fps"]},
}


def test_a_padded_batch_of_real_clips_trains_every_parameter() -> None:
    recipe = TrainConfig(frames_per_clip=3, short_sides=(48, 64), clips_per_batch=4)
    dataset = load_dataset(FOOTAGE, "train")
    sampler = ClipSampler(dataset, recipe, seed=3)
    batch = collate([sampler.clip(index) for index in range(4)])
    assert batch.padding is not None, "clips of two sizes are padded"
    model = build_model(
        {"backbone": "tiny", "num_classes": len(dataset.categories), "hidden_dim": 32, "num_queries": 6}
    )
    criterion = SetCriterion(len(dataset.categories))
    loss = criterion.total(criterion(model(batch.frames, batch.padding), batch.targets))
    loss.backward()
    assert torch.isfinite(loss)
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())


@pytest.mark.slow
def test_the_same_command_makes_a_table_and_a_picture_of_real_footage(tmp_path: Path) -> None:
    road = make_road(tmp_path, SWEEP, "--data", str(FOOTAGE))
    for split, videos in (("valid", 3), ("valid_seen", 5)):
        done = road.run("--split", split)
        assert done.returncode == 0, done.stderr
        name = f"micro-ytvis_mini-{split}"
        rows = pd.read_parquet(road.results / "footage" / name)
        assert len(rows) == 2
        assert set(rows["split"]) == {split}
        assert set(rows["scored_videos"]) == {videos}
        assert rows["AP"].between(0, 100).all()
        report = tmp_path / "reports" / "footage" / name
        assert (report / "footage_tracks.png").stat().st_size > 10_000
        assert "Synthetic" not in (report / "footage.tex").read_text(encoding="utf-8")
    trainings = list((road.results / "trials").glob("*/weights.safetensors"))
    assert len(trainings) == 1, "another split to score is no other training"
