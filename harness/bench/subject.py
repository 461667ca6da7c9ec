"""What a benchmark runs on where nothing is given: embedded videos, and weights that keep a few queries."""

from __future__ import annotations

from pathlib import Path

import torch

from harness.config import SyntheticConfig
from harness.data.synthetic import write_dataset
from harness.data.ytvis import load_dataset
from model import build_model
from model.checkpoint import read_weights, save_weights, weights_metadata
from model.config import ModelConfig
from model.errors import InputError
from model.implied_config import implied_config


def write_videos(folder: Path, size: tuple[int, int], length: int, videos: int) -> None:
    """Embedded videos of any size in the layout of YouTube-VIS, split ``valid``."""
    height, width = size
    if min(size) < 32:
        raise InputError(f"--size: {height}x{width}: allowed: at least 32x32")
    write_dataset(
        SyntheticConfig(
            train_videos=1,
            valid_videos=videos,
            length=length,
            height=height,
            width=width,
            min_size=min(size) // 4,
            max_size=min(size) // 2,
        ),
        folder,
    )


def model_of(weights: Path) -> ModelConfig:
    """The configuration that a file of weights says, or that its entries imply."""
    if not weights.is_file():
        raise InputError(f"--weights: {weights}: no such file")
    told = weights_metadata(weights).get("config") if weights.suffix == ".safetensors" else None
    return implied_config(read_weights(weights).entries) if told is None else ModelConfig.parse(told)


def write_weights(path: Path, config: ModelConfig, folder: Path, split: str, window: int, kept: int) -> None:
    """Untrained weights whose "no object" is as likely as leaves ``kept`` queries of the first window.

    How many are kept drives tracking, upsampling and encoding; trained models keep a few.
    """
    if kept >= config.num_queries:
        raise InputError(f"--kept: {kept}: allowed: less than the model's {config.num_queries} queries")
    torch.manual_seed(0)
    model = build_model(config).eval()
    dataset = load_dataset(folder, split)
    video = next(video for video in dataset.videos if video.length)
    frames = torch.from_numpy(dataset.frames(video, range(min(window, video.length))))
    with torch.inference_mode():
        logits = model(frames[None])["pred_logits"][0]
        lead = (logits[:, :-1].max(1).values - logits[:, -1]).sort(descending=True).values
        model.class_head.get_parameter("layers.1.bias")[-1] += (lead[kept - 1] + lead[kept]) / 2
    save_weights(model, path, {"config": config.model_dump(), "identity": "untrained"})
