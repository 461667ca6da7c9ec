"""Frames per second, to final results, and peak memory (``docs/fps.md``).

The timed region is the paper's "to final results": decoded uint8 frames on the host, at inference size,
go in; full-size masks on the host come out. Matching, tracking and upsampling are inside; decoding,
resizing, RLE encoding and scoring are outside.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from harness.allocator import freed_memory_kept
from harness.clocks import Load, gpu_clocks
from harness.config import TrialConfig
from harness.data.clips import resize_frames
from harness.data.ytvis import VideoDataset
from harness.memory import peak_memory, reset_peak_memory
from model.clip_model import ClipModel
from model.errors import InputError
from model.inference import segment_tracks
from model.ready import ReadyModel, ready


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
    frame_ms_p50: float
    """Half of the timed videos took at most this long a frame"""
    frame_ms_p90: float
    others_cpu_share: float | None
    """Of all cores, what other processes took while passes ran; None where the system does not tell"""
    gpu_clocks: list[dict[str, Any] | None]
    """What the driver told before the timed passes and after them; None without a GPU"""


@freed_memory_kept()
def time_videos(
    model: ClipModel | ReadyModel,
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
    made_ready = ready(model)
    _, tracks = _pass(made_ready, decoded, config, device, check)
    passed(0)
    seconds: list[list[float]] = []
    clocks, load = [gpu_clocks(device)], Load()
    while len(seconds) < config.speed.passes or sum(map(sum, seconds)) < config.speed.min_seconds:
        seconds.append(_pass(made_ready, decoded, config, device, check)[0])
        passed(len(seconds))
    others = load.of_others()
    clocks.append(gpu_clocks(device))
    peak, kind = peak_memory(device)
    rates = [frames / sum(each) for each in seconds]
    a_frame = sorted(
        1000 * s / len(clip) for each in seconds for s, (clip, _) in zip(each, decoded, strict=True)
    )
    return Speed(
        fps=statistics.median(rates),
        fps_passes=rates,
        timed_frames=frames,
        peak_memory_gb=peak,
        peak_memory_kind=kind,
        kept_tracks=tracks,
        frame_ms_p50=at_share(a_frame, 0.5),
        frame_ms_p90=at_share(a_frame, 0.9),
        others_cpu_share=others,
        gpu_clocks=clocks,
    )


def at_share(ordered: Sequence[float], share: float) -> float:
    """The value that so large a share of ordered values does not pass."""
    return ordered[min(len(ordered) - 1, math.ceil(share * len(ordered)) - 1)]


def _pass(
    model: ReadyModel,
    decoded: list[tuple[Tensor, tuple[int, int]]],
    config: TrialConfig,
    device: torch.device,
    check: Callable[[], None],
) -> tuple[list[float], int]:
    """All videos once: (seconds of each, tracks found)."""
    tracks, seconds = 0, []
    for frames, size in decoded:
        check()
        synchronize(device)
        started = time.perf_counter()
        result = segment_tracks(model, frames, output_size=size, **config.inference.arguments())
        synchronize(device)
        seconds.append(time.perf_counter() - started)
        tracks += len(result.masks)
    return seconds, tracks


def synchronize(device: torch.device) -> None:
    """Wait for the device, at the edges of a timed region only."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
