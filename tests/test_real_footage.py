"""The same road on real footage. Skipped where the folder is not: it may not be part of this repository."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest
import torch

from harness.config import DataConfig, TrainConfig, TrialConfig
from harness.data.clips import ClipSampler, collate, resize_frames
from harness.data.source import find_data
from harness.data.splits import load_scored, load_training
from harness.data.ytvis import load_dataset
from harness.evaluation import encode_tracks, evaluate
from harness.train import train
from model import build_model
from model.errors import InputError
from model.inference import segment_video
from model.losses import SetCriterion
from tests.small_road import SCALE, make_road

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


def test_a_few_steps_lower_the_loss_of_real_clips(tmp_path: Path) -> None:
    config = TrialConfig.model_validate(
        {
            "model": {**SCALE["settings"]["model"], "num_classes": 12},
            "train": {**SCALE["settings"]["train"], "steps": 12, "short_sides": [48], "clip_norm": 0.1},
        }
    )
    losses: list[float] = []
    training = load_training(FOOTAGE, DataConfig(valid="valid"))
    train(
        config, 0, training, tmp_path, "footage", torch.device("cpu"), lambda step: losses.append(step.loss)
    )
    assert all(math.isfinite(loss) for loss in losses)
    assert sum(losses[-4:]) < sum(losses[:4])


@pytest.mark.parametrize(("split", "videos"), [("valid", 3), ("valid_seen", 5)])
def test_inference_and_scoring_of_real_videos(split: str, videos: int) -> None:
    dataset = load_scored(FOOTAGE, DataConfig(valid=split))
    assert len(dataset.videos) == videos
    torch.manual_seed(0)
    model = build_model({**SCALE["settings"]["model"], "num_classes": 12})
    video = dataset.videos[0]
    frames = resize_frames(torch.from_numpy(dataset.frames(video, range(video.length))), 48)
    size = (video.height, video.width)
    tracks = segment_video(model, frames, window=5, stride=2, output_size=size)
    assert tracks["masks"].shape[1:] == (video.length, *size)
    categories = [dataset.categories[label].id for label in tracks["labels"].tolist()]
    results = encode_tracks(video.video_id, tracks["scores"].numpy(), categories, tracks["masks"].numpy())
    assert 0 <= evaluate(dataset.ground_truth(), results)["AP"] <= 1
    perfect = [
        {**{key: entry[key] for key in ("video_id", "category_id", "segmentations")}, "score": 1.0}
        for entry in dataset.ground_truth()["annotations"]
    ]
    assert evaluate(dataset.ground_truth(), perfect)["AP"] == pytest.approx(1.0)


def test_what_is_scored_when_no_split_is_named() -> None:
    source = find_data(DataConfig(), FOOTAGE, "sweep.yaml")
    assert source.config.valid == "valid"
    assert source.description == "11 training videos, scored on the 3 of valid.json"
    with pytest.raises(InputError, match=r"'ytvis19-holdout-v1' is empty: none of the 11 videos"):
        find_data(DataConfig(valid="ytvis19-holdout-v1"), FOOTAGE, "sweep.yaml")


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
