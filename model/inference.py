"""A video in, tracks out (paper Sec. 3.3).

Shapes
    L, T, S  frames of the video, of a window, between the starts of neighbouring windows
    H0, W0   input size; h, w output size
    N, K     results, classes
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn import functional as F

from model.clip_model import ClipModel, FrameFeatures
from model.tracking import ClipTracker

FRAMES_AT_ONCE = 5
"""Frames that go through the backbone together: bounds its memory, whatever the video's length"""


def windows(length: int, window: int, stride: int) -> Iterator[range]:
    """Frame ranges of T frames every S; the last one is moved back to end at the last frame.

    A video that is not longer than T is one window.
    """
    if window < 1 or stride < 1 or length < 1:
        raise ValueError(f"length {length}, window {window} and stride {stride} must be at least 1")
    start = 0
    while start + window < length:
        yield range(start, start + window)
        start += stride
    yield range(max(0, length - window), length)


@torch.inference_mode()
def segment_video(
    model: ClipModel,
    frames: Tensor,
    window: int,
    stride: int,
    output_size: tuple[int, int],
    match_threshold: float = 0.05,
    score_threshold: float = 0.01,
) -> dict[str, Tensor]:
    """Tracks of a whole video.

    Args:
        model: a clip model; it runs in evaluation mode and keeps the mode it had.
        frames: (L, 3, H0, W0) RGB in 0..255, on any device.
        window, stride: T and S.
        output_size: (h, w) of the masks.

    Returns:
        ``scores`` (N,), ``labels`` (N,) and ``masks`` (N, L, h, w) bool on the CPU. Every class of a track
        with a probability above ``score_threshold`` gives one result; ``tracks`` (N,) tells which results
        share a track, and so their masks. A video without frames (L = 0) has no results.

    Raises:
        FloatingPointError: the model's outputs are not finite.
    """
    tracker = ClipTracker(model.config.num_classes, match_threshold)
    if not len(frames):
        return _results(*tracker.result(0), output_size, score_threshold)
    with _evaluation_mode(model):
        features = _video_features(model, frames)
        for span in windows(len(frames), window, stride):
            outputs = model.clip(features.window(span.start, span.stop), every_layer=False)
            probabilities = outputs["pred_logits"][0].softmax(-1)
            kept = probabilities.argmax(-1) != model.config.num_classes
            masks = outputs["pred_masks"][0][kept]
            _check_finite(span, probabilities, masks)
            tracker.update(span, probabilities[kept], masks)
    class_probs, mask_logits = tracker.result(len(frames))
    return _results(class_probs, mask_logits, output_size, score_threshold)


def _check_finite(span: range, *outputs: Tensor) -> None:
    """Outputs that are no numbers would be no results: an AP of 0 that nobody measured."""
    if not all(bool(output.isfinite().all()) for output in outputs):
        raise FloatingPointError(
            f"the model's outputs for frames {span.start}-{span.stop - 1} are not finite"
        )


@contextmanager
def _evaluation_mode(model: ClipModel) -> Iterator[None]:
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


def _video_features(model: ClipModel, frames: Tensor) -> FrameFeatures:
    """Frame features (1, L, ...) of the whole video: each frame passes the backbone once."""
    device = next(model.parameters()).device
    parts = [model.frame_features(part[None].to(device)) for part in frames.split(FRAMES_AT_ONCE)]
    return FrameFeatures(*(torch.cat(maps, dim=1) for maps in zip(*parts, strict=True)))


def _results(
    class_probs: Tensor, mask_logits: Tensor, output_size: tuple[int, int], score_threshold: float
) -> dict[str, Tensor]:
    """Averaged tracks to scores, labels and full-size masks; frames never seen are empty."""
    tracks, labels = (class_probs[:, :-1] > score_threshold).nonzero(as_tuple=True)
    length = mask_logits.shape[1]
    full = torch.zeros((len(mask_logits), length, *output_size), dtype=torch.bool)
    for row in tracks.unique().tolist():
        # One track at a time: full-size float masks of all tracks would not fit for long videos.
        upsampled = F.interpolate(
            mask_logits[row, :, None], output_size, mode="bilinear", align_corners=False
        )
        full[row] = (upsampled[:, 0] > 0).cpu()
    return {
        "scores": class_probs[tracks, labels].cpu(),
        "labels": labels.cpu(),
        "tracks": tracks.cpu(),
        "masks": full[tracks.cpu()],
    }
