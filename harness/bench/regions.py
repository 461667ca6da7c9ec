"""The three timed regions, for our operations and for the published ones.

Shapes as in ``model/inference.py``.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from harness.bench.job import BenchJob
from harness.config import InferenceConfig
from harness.data.clips import resize_frames
from harness.data.ytvis import Video, VideoDataset
from harness.evaluation import encode_tracks, write_results
from harness.stages import video_results
from model.clip_model import ClipModel
from model.inference import VideoResults, segment_tracks
from model.published.inference import segment_video_as_published
from model.published.operations import published_operations
from model.ready import Execution, ReadyModel


class Runner(Protocol):
    """One way to compute a model."""

    def clip(self, frames: Tensor) -> None:
        """One window (T, 3, H0, W0), on the device, to logits and masks at stride 8."""

    def video(self, frames: Tensor, size: tuple[int, int]) -> VideoResults:
        """A video (L, 3, H0, W0), on the host, to full-size masks on the host."""

    def entries(self, dataset: VideoDataset, video: Video) -> list[dict[str, Any]]:
        """A video on disk to its entries in a result file."""


class OurRunner:
    """Our operations."""

    def __init__(self, model: ClipModel, job: BenchJob) -> None:
        execution = Execution(job.precision, job.compiled, job.cuda_graphs)
        self.model, self.job = ReadyModel(model, execution), job

    @torch.inference_mode()
    def clip(self, frames: Tensor) -> None:
        """See :class:`Runner`."""
        parts = frames.split(self.model.frames_at_once)
        self.model.detect(self.model.each(lambda part: self.model.frame_features(part, 1.0), parts))

    def video(self, frames: Tensor, size: tuple[int, int]) -> VideoResults:
        """See :class:`Runner`."""
        return segment_tracks(self.model, frames, self.job.window, self.job.stride, size)

    def entries(self, dataset: VideoDataset, video: Video) -> list[dict[str, Any]]:
        """See :class:`Runner`."""
        job = self.job
        settings = InferenceConfig(
            window=job.window, stride=job.stride, short_side=job.short_side, max_long_side=None
        )
        return video_results(self.model, dataset, video, settings)


class PublishedRunner:
    """The published operations."""

    def __init__(self, model: ClipModel, job: BenchJob) -> None:
        self.model, self.job = published_operations(model.eval()), job

    @torch.no_grad()
    def clip(self, frames: Tensor) -> None:
        """See :class:`Runner`."""
        padding = frames.new_zeros((1, *frames.shape[-2:]), dtype=torch.bool)
        self.model.window(self.model.pyramid(frames, padding), padding, 1, every_layer=False)

    def video(self, frames: Tensor, size: tuple[int, int]) -> VideoResults:
        """See :class:`Runner`; masks of results that share them are there once for each, as published."""
        found = segment_video_as_published(self.model, frames, self.job.window, self.job.stride, size)
        return VideoResults(
            found["scores"], found["labels"], torch.arange(len(found["scores"])), found["masks"]
        )

    def entries(self, dataset: VideoDataset, video: Video) -> list[dict[str, Any]]:
        """See :class:`Runner`; one mask is encoded once for each class it is a result of."""
        found = self.video(decoded(dataset, video, self.job.short_side), (video.height, video.width))
        ids = [dataset.categories[label].id for label in found.labels.tolist()]
        return encode_tracks(video.video_id, found.scores.tolist(), ids, found.masks.numpy())


def runner_of(model: ClipModel, job: BenchJob) -> Runner:
    """The runner of the job's side."""
    return OurRunner(model, job) if job.side == "ours" else PublishedRunner(model, job)


class Regions:
    """A runner and the videos it is timed on."""

    def __init__(self, runner: Runner, dataset: VideoDataset, videos: Sequence[Video], job: BenchJob) -> None:
        self.runner, self.dataset, self.videos, self.job = runner, dataset, videos, job
        self.device = torch.device(job.device)
        self.frames = [decoded(dataset, video, job.short_side) for video in videos]
        self.clips = [frames[: job.window].to(self.device) for frames in self.frames]

    def lengths(self, region: str) -> list[int]:
        """Frames of each video that the region works on."""
        return [len(x) for x in (self.clips if region == "model" else self.frames)]

    def run(self, region: str, place: int) -> None:
        """One video through a region."""
        if region == "model":
            self.runner.clip(self.clips[place])
        elif region == "video":
            self.results(place)
        else:
            self._files(place)

    def results(self, place: int) -> VideoResults:
        """The region ``video``."""
        video = self.videos[place]
        return self.runner.video(self.frames[place], (video.height, video.width))

    def _files(self, place: int) -> None:
        entries = self.runner.entries(self.dataset, self.videos[place])
        with tempfile.TemporaryDirectory() as folder:
            write_results(Path(folder) / "results.json", entries)


def decoded(dataset: VideoDataset, video: Video, short_side: int) -> Tensor:
    """All frames of a video (L, 3, H0, W0) at inference size."""
    return resize_frames(torch.from_numpy(dataset.frames(video, range(video.length))), short_side)
