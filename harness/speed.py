"""Frames per second, to final results, and peak memory (``docs/fps.md``).

The timed region is the paper's "to final results": decoded uint8 frames on the host, at inference size,
go in; full-size masks on the host come out. Matching, tracking and upsampling are inside; decoding,
resizing, RLE encoding and scoring are outside.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.config import TrialConfig
from harness.data.clips import resize_frames
from harness.data.ytvis import VideoDataset
from harness.memory import peak_memory, reset_peak_memory
from model.clip_model import ClipModel
from model.errors import InputError
from model.inference import segment_tracks


@dataclass(frozen=True)
class Speed:
    """What one cell's timing found."""

    fps: float
    """Median over passes of frames of the set / seconds of the pass"""
    fps_passes: list[float]
    timed_frames: int
    """Frames of one pass"""
    peak_memory_gb: float | None
    """None where the platform cannot tell the peak of one cell"""
    peak_memory_kind: str
    """``cuda allocated``, ``process resident`` or ``unknown``"""
    kept_tracks: int
    """Tracks of one pass; they drive tracking and upsampling, so FPS depends on them"""


def time_videos(
    model: ClipModel,
    dataset: VideoDataset,
    config: TrialConfig,
    device: torch.device,
    passed: Callable[[int], None] = lambda done: None,
    check: Callable[[], None] = lambda: None,
) -> Speed:
    """Time inference over the first videos of ``dataset``: one warm-up pass, then the timed ones.

    Videos without frames do not count. Every pass sees every video, so the warm-up has seen every shape.
    ``passed`` is called after every pass, out of the timed region, with the timed passes done (0 after the
    warm-up). ``check`` is called before every video, and does next to nothing: it raises to end the timing.
    """
    videos = [video for video in dataset.videos if video.length][: config.speed.videos]
    if not videos:
        raise InputError(f"{dataset.annotation_file}: no video has a frame: nothing to time")
    decoded: list[tuple[Tensor, tuple[int, int]]] = []
    for video in videos:
        check()
        clip = torch.from_numpy(dataset.frames(video, range(video.length)))
        clip = resize_frames(clip, **config.inference.resizing())
        decoded.append((clip, (video.height, video.width)))
    frames = sum(len(clip) for clip, _ in decoded)
    reset_peak_memory(device)
    _, tracks = _pass(model, decoded, config, device, check)
    passed(0)
    seconds: list[float] = []
    while len(seconds) < config.speed.passes or sum(seconds) < config.speed.min_seconds:
        seconds.append(_pass(model, decoded, config, device, check)[0])
        passed(len(seconds))
    peak, kind = peak_memory(device)
    rates = [frames / second for second in seconds]
    return Speed(statistics.median(rates), rates, frames, peak, kind, tracks)


def _pass(
    model: ClipModel,
    decoded: list[tuple[Tensor, tuple[int, int]]],
    config: TrialConfig,
    device: torch.device,
    check: Callable[[], None],
) -> tuple[float, int]:
    """All videos once: (seconds, tracks found)."""
    tracks = 0
    _synchronize(device)
    started = time.perf_counter()
    for frames, size in decoded:
        check()
        result = segment_tracks(model, frames, output_size=size, **config.inference.arguments())
        tracks += len(result.masks)
    _synchronize(device)
    return time.perf_counter() - started, tracks


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
