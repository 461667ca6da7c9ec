"""A video in, tracks out, as published: the region that frames per second are timed in.

Shapes as in ``model/inference.py``.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from model.inference import windows
from model.published.operations import PublishedClipModel
from model.published.tracker import SquareTracker


@torch.no_grad()
def segment_video_as_published(
    model: PublishedClipModel,
    frames: Tensor,
    window: int,
    stride: int,
    output_size: tuple[int, int],
    match_threshold: float = 0.05,
    score_threshold: float = 0.01,
) -> dict[str, Tensor]:
    """As :func:`model.inference.segment_video`, for a model in evaluation mode; its tracks are at most 50."""
    device = next(model.parameters()).device
    length = len(frames)
    video = frames.to(device)
    padding = video.new_zeros((1, *video.shape[-2:]), dtype=torch.bool)
    pyramid = model.pyramid(video, padding)
    grid = (pyramid[0].shape[-2], pyramid[0].shape[-1])
    tracker = SquareTracker(model.config.num_classes, length, grid, device, match_threshold)
    for span in windows(length, window, stride):
        indices = list(span)
        outputs = model.window([level[indices] for level in pyramid], padding, 1, every_layer=False)
        probabilities = outputs["pred_logits"][0].softmax(-1)
        kept = probabilities.argmax(-1) < model.config.num_classes
        tracker.update(span, probabilities[kept], outputs["pred_masks"][0][kept])
    class_probs, mask_logits = tracker.result()
    tracks, labels = (class_probs[:, :-1] > score_threshold).nonzero(as_tuple=True)
    masks = torch.zeros((0, length, *output_size), dtype=torch.bool)
    if len(mask_logits):
        full = F.interpolate(mask_logits, output_size, mode="bilinear", align_corners=False) > 0
        masks = full[tracks].cpu()
    return {
        "scores": class_probs[tracks, labels].cpu(),
        "labels": labels.cpu(),
        "tracks": tracks.cpu(),
        "masks": masks,
    }
