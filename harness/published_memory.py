"""What the published operations would need, traced as ``harness/activation_memory.py`` does ours."""

from __future__ import annotations

import torch

from harness.activation_memory import Estimate, Target, traced
from model import build_model
from model.config import ModelConfig
from model.published.operations import published_operations
from model.published.tracker import SquareTracker

VIDEO_FRAMES = 36
"""L: the longest video of YouTube-VIS 2019"""


def estimate_published_window(
    config: ModelConfig,
    frame_size: tuple[int, int],
    window: int,
    target: Target = "cuda",
    video_frames: int = VIDEO_FRAMES,
    buffers: bool = True,
) -> Estimate:
    """Segmenting a video of L frames (H0, W0) as published, without gradients.

    All frames go through the backbone at once and their maps stay; every window makes the masks of all
    queries, attention weights are written out, and the tracker's buffers hold L windows of 50 instances.

    Args:
        video_frames: L, at least T.
        buffers: whether the tracker's are there.
    """
    length = max(window, video_frames)
    with traced(target, kept=0) as live, torch.no_grad():
        model = published_operations(build_model(config).eval())
        held = live.restart()
        padding = torch.zeros(1, *frame_size, dtype=torch.bool)
        pyramid = model.pyramid(torch.zeros(length, 3, *frame_size, dtype=torch.uint8), padding)
        grid = (pyramid[0].shape[-2], pyramid[0].shape[-1])
        cpu = torch.device("cpu")  # as all fake tensors are
        tracker = SquareTracker(config.num_classes, length, grid, cpu) if buffers else None
        indices = list(range(window))
        model.window([level[indices] for level in pyramid], padding, 1, every_layer=False)
        del tracker
        return Estimate(live.peak, held)
