"""What a benchmark runs on where nothing is given: embedded videos, and weights that keep a few queries."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from harness.config import InferenceConfig, SyntheticConfig
from harness.data.synthetic import write_dataset
from harness.data.ytvis import Video, VideoDataset, load_dataset
from model import build_model
from model.checkpoint import save_weights
from model.clip_model import ClipModel
from model.config import ModelConfig
from model.errors import InputError

CLASSES_KEPT = 3.0
WINDOWS = 6
"""Over the first video, that are looked at"""
SCORE_THRESHOLD = InferenceConfig().score_threshold


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


def write_weights(
    path: Path, backbone: str, encoder: str, folder: Path, split: str, window: int, kept: int
) -> ModelConfig:
    """Untrained weights that keep as many queries and classes as trained ones may; returns their model.

    What is kept drives tracking, upsampling and encoding. So "no object" is made as likely as leaves at most
    ``kept`` queries of some windows over the first video, and classes as sure of themselves as leaves
    ``CLASSES_KEPT`` of them above the threshold of results, on average over the fullest window's queries.
    """
    dataset = load_dataset(folder, split)
    config = ModelConfig.parse(
        {"backbone": backbone, "encoder": encoder, "num_classes": len(dataset.categories)}
    )
    if kept >= config.num_queries:
        raise InputError(f"--kept: {kept}: allowed: less than the model's {config.num_queries} queries")
    torch.manual_seed(0)
    model = build_model(config).eval()
    video = next((video for video in dataset.videos if video.length), None)
    if video is None:
        raise InputError(f"{dataset.annotation_file}: no video has a frame: nothing to time")
    starts = sorted({round(i * max(0, video.length - window) / (WINDOWS - 1)) for i in range(WINDOWS)})
    with torch.inference_mode():
        logits = max(
            (_class_logits(model, dataset, video, start, window) for start in starts),
            key=lambda found: float(_shift(found, kept)),
        )
        factor = 1.0
        while _classes_kept(factor * logits, kept) > CLASSES_KEPT:
            factor *= 1.25
        weight, bias = (model.class_head.get_parameter(f"layers.1.{name}") for name in ("weight", "bias"))
        weight.mul_(factor)
        bias.mul_(factor)
        bias[-1] += _shift(factor * logits, kept)
    save_weights(model, path, {"config": config.model_dump(), "identity": "untrained"})
    return config


def _class_logits(model: ClipModel, dataset: VideoDataset, video: Video, start: int, window: int) -> Tensor:
    """(Q, K+1) of the window that begins at frame ``start``."""
    frames = dataset.frames(video, range(start, min(start + window, video.length)))
    logits: Tensor = model(torch.from_numpy(frames)[None])["pred_logits"][0]
    return logits


def _shift(logits: Tensor, kept: int) -> Tensor:
    """What "no object" lacks (negative: has too much) for so many of the queries (Q, K+1) to be kept."""
    lead = (logits[:, :-1].max(1).values - logits[:, -1]).sort(descending=True).values
    return (lead[kept - 1] + lead[kept]) / 2


def _classes_kept(logits: Tensor, kept: int) -> float:
    """Classes above the threshold of results, on average over the queries that are kept."""
    moved = logits.clone()
    moved[:, -1] += _shift(logits, kept)
    probabilities = moved.softmax(-1)
    found = probabilities[probabilities.argmax(-1) != probabilities.shape[1] - 1]
    return float((found[:, :-1] > SCORE_THRESHOLD).sum(1).float().mean())
