"""Lost frames: what single frames cannot tell, by construction of the encoders and of the score."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.single_frames import masks_of_seen_frames
from harness.config import SyntheticConfig
from harness.data.synthetic import write_dataset
from harness.evaluation import evaluate
from model.communication import ENCODERS, build_encoder
from model.config import ModelConfig

TINY = {"backbone": "tiny", "num_classes": 2, "num_queries": 5, "hidden_dim": 32, "ffn_dim": 64}
TINY |= {"attention_heads": 4, "encoder_layers": 2, "decoder_layers": 1, "dropout": 0.0}


@pytest.mark.parametrize("encoder", ENCODERS)
def test_a_lost_frame_hears_of_the_others_only_where_frames_communicate(encoder: str) -> None:
    """Frame 1 shows the same in two clips. What comes of it depends on frames 0 and 2, but for No Comm."""
    torch.manual_seed(0)
    config = ModelConfig(**{**TINY, "encoder": encoder})
    frames = torch.randn(2, 3, 12, config.hidden_dim)
    frames[1, 1] = frames[0, 1]
    positions = torch.randn(12, config.hidden_dim).expand(2, -1, -1)
    with torch.no_grad():
        tokens = build_encoder(config).eval()(frames, positions, None).frames
    one, other = tokens[:, 1]
    assert not torch.allclose(tokens[0, 0], tokens[1, 0], atol=1e-3)
    if encoder == "no_comm":
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)
    else:
        assert float((one - other).abs().max()) > 1e-3


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    root = tmp_path_factory.mktemp("lost") / "set"
    knobs = {"length": 10, "height": 40, "width": 56, "min_size": 12, "max_size": 22, "absence": 0.0}
    write_dataset(SyntheticConfig(train_videos=1, valid_videos=6, lost=0.4, **knobs), root)
    found: dict[str, Any] = json.loads(Path(root / "valid.json").read_text("utf-8"))
    return found


def test_the_bound_is_perfect_where_frames_are_there_and_nothing_elsewhere(truth: dict[str, Any]) -> None:
    results = masks_of_seen_frames(truth)
    lost = {video["id"]: video["lost"] for video in truth["videos"]}
    assert all(len(frames) == 4 for frames in lost.values())
    for result, annotation in zip(results, truth["annotations"], strict=True):
        for t, (found, true) in enumerate(
            zip(result["segmentations"], annotation["segmentations"], strict=True)
        ):
            assert found == (None if t in lost[annotation["video_id"]] else true)
    # About 0.6 of each track's area: right at IoU 0.5, wrong at 0.75.
    metrics = evaluate(truth, results)
    assert metrics["AP50"] > 0.9
    assert metrics["AP75"] < 0.1
