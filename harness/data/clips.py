"""Training clips: which frames, which part of them, at which size, in which order (paper Sec. 4.1).

Clip i of a training is a pure function of (seed, i). The state of the sampler is therefore one number,
the next i, and an interrupted training goes on with the clips it would have seen.

Shapes
    B, T    clips of a batch, frames of a clip
    n       instances of a clip
    H0, W0  frame size after resizing
"""

from __future__ import annotations

import itertools
import math
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from harness.config import TrainConfig
from harness.data.frame_cache import FrameCache, FrameKey, ResizedFrame
from harness.data.ytvis import Video, VideoDataset
from model.errors import InputError

READERS = 8
"""Threads that read clips, at most; decoding and resizing leave Python's lock to others"""
BATCHES_AHEAD = 2
"""So many batches' clips are read or being read at a time: what bounds the memory"""


@dataclass(frozen=True)
class Clip:
    """One training example."""

    frames: Tensor
    """(T, 3, H0, W0) uint8 RGB"""
    labels: Tensor
    """(n,) int64"""
    masks: Tensor
    """(n, T, H0, W0) bool; every instance is visible in at least one frame"""


@dataclass(frozen=True)
class Batch:
    """Clips padded at the right and the bottom to one size."""

    frames: Tensor
    """(B, T, 3, H0, W0) uint8"""
    padding: Tensor | None
    """(B, H0, W0) bool, True outside the picture; None when all clips have one size"""
    targets: list[dict[str, Tensor]]
    """``labels`` (n,), ``masks`` (n, T, H0, W0) and ``size`` (2,), unpadded height and width, of each clip"""


class ClipSampler:
    """Clip i of a training, for i = 0, 1, 2, ...; each epoch visits every training video once, shuffled."""

    def __init__(
        self, dataset: VideoDataset, config: TrainConfig, seed: int, cache: FrameCache | None = None
    ) -> None:
        """Draw from ``seed``; ``cache``, of this data set alone, keeps frames that clips may share."""
        if not dataset.training_videos:
            raise InputError(f"{dataset.annotation_file}: no video to draw clips from")
        self.dataset = dataset
        self.config = config
        self.seed = seed
        self.cache = FrameCache(0) if cache is None else cache
        self._kept: tuple[int, NDArray[np.int64]] | None = None

    def clip(self, index: int) -> Clip:
        """Read, perhaps crop, resize and perhaps flip the clip's frames and masks."""
        videos = self.dataset.training_videos
        epoch, place = divmod(index, len(videos))
        video = videos[self._order(epoch)[place]]
        return self.draw(video, np.random.default_rng([self.seed, 1, index]))

    def draw(self, video: Video, rng: np.random.Generator) -> Clip:
        """A clip of ``video``: its frames, size, crop and flip come from ``rng`` alone."""
        indices = sample_frames(rng, video.length, self.config.frames_per_clip, self.config.frame_range)
        short_side = int(rng.choice(self.config.short_sides))
        flip = bool(rng.random() < self.config.flip)

        labels = np.array([track.category for track in video.tracks], np.int64)
        crowd = np.array([track.iscrowd for track in video.tracks], np.bool_)
        if rng.random() < self.config.crop:
            frames, masks = _cropped(*self._read(video, indices), self.config, rng)
            frames, masks = _resized(frames, masks, short_side, self.config.max_long_side)
        else:
            frames, masks = self._uncropped(video, indices, short_side)
        # By NumPy: torch would call threads together that the training computes with.
        pixels, planes = frames.numpy(), masks.numpy()
        visible = planes.reshape(len(planes), math.prod(planes.shape[1:])).any(1) & ~crowd
        labels, planes = labels[visible], planes[visible]
        if flip:
            pixels, planes = pixels[..., ::-1].copy(), planes[..., ::-1].copy()
        pixels = np.ascontiguousarray(pixels)
        return Clip(torch.from_numpy(pixels), torch.from_numpy(labels), torch.from_numpy(planes))

    def _read(self, video: Video, indices: list[int]) -> tuple[Tensor, Tensor]:
        """Frames (T, 3, H, W) and masks (tracks, T, H, W) as they are in the files."""
        frames, masks = self.dataset.frames(video, indices), self.dataset.masks(video, indices)
        return torch.from_numpy(frames), torch.from_numpy(masks)

    def _uncropped(self, video: Video, indices: list[int], short_side: int) -> tuple[Tensor, Tensor]:
        """Whole frames after resizing, from the cache where it has them: resized alone or together is one.

        Stacking copies: what is kept is never part of a clip.
        """
        longest = self.config.max_long_side
        size = resized_size(video.height, video.width, short_side, longest)
        keys = {index: FrameKey(video.video_id, index, size) for index in indices}
        found: dict[int, ResizedFrame] = {}
        missing = []
        for index, key in keys.items():
            kept = self.cache.find(key)
            if kept is None:
                missing.append(index)
            else:
                found[index] = kept
        if missing:
            frames, masks = _resized(*self._read(video, missing), short_side, longest)
            for place, index in enumerate(missing):
                found[index] = ResizedFrame(frames[place].numpy(), masks[:, place].numpy())
                self.cache.keep(keys[index], found[index])
        pixels = np.stack([found[index].pixels for index in indices])
        planes = np.stack([found[index].masks for index in indices], axis=1)
        return torch.from_numpy(pixels), torch.from_numpy(planes)

    def _order(self, epoch: int) -> NDArray[np.int64]:
        """Places of the training videos in an epoch; the last epoch's is kept: COCO has 118,287."""
        kept = self._kept
        if kept is None or kept[0] != epoch:
            rng = np.random.default_rng([self.seed, 0, epoch])
            kept = (epoch, rng.permutation(len(self.dataset.training_videos)))
            self._kept = kept
        return kept[1]


def sample_frames(rng: np.random.Generator, length: int, count: int, reach: int) -> list[int]:
    """Sorted frame indices: a random reference and count - 1 others within ± reach of it.

    The others are drawn with replacement, as the published code does; a video of one frame repeats it.
    """
    reference = int(rng.integers(length))
    near = [i for i in range(max(0, reference - reach), min(length, reference + reach + 1)) if i != reference]
    others = rng.choice(near or [reference], size=count - 1)
    return sorted([reference, *(int(i) for i in others)])


def _cropped(
    frames: Tensor, masks: Tensor, config: TrainConfig, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Cut out one rectangle, the same from every frame, as COCO images are trained on.

    Both sides are drawn from ``crop_range``, at most the frame's. With ``crop_short_sides`` the frame is
    first resized to one of these, as in DETR; the published IFC does not.
    """
    if config.crop_short_sides:
        frames, masks = _resized(frames, masks, int(rng.choice(config.crop_short_sides)), None)
    spans = []
    for side in frames.shape[-2:]:
        low, high = (min(bound, side) for bound in config.crop_range)
        length = int(rng.integers(low, high + 1))
        start = int(rng.integers(side - length + 1))
        spans.append(slice(start, start + length))
    rows, columns = spans
    return frames[..., rows, columns], masks[..., rows, columns]


def _resized(
    frames: Tensor, masks: Tensor, short_side: int, max_long_side: int | None
) -> tuple[Tensor, Tensor]:
    frames = resize_frames(frames, short_side, max_long_side)
    return frames, _resize_masks(masks, (frames.shape[-2], frames.shape[-1]))


def resized_size(
    height: int, width: int, short_side: int, max_long_side: int | None = None
) -> tuple[int, int]:
    """(H, W) of a frame that :func:`resize_frames` has resized."""
    scale = short_side / min(height, width)
    if max_long_side is not None:
        scale = min(scale, max_long_side / max(height, width))
    return max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))


def resize_frames(frames: Tensor, short_side: int, max_long_side: int | None = None) -> Tensor:
    """(T, 3, H, W) uint8 to the size whose shorter side is ``short_side``, bilinear with antialiasing.

    A longer side that would pass ``max_long_side`` becomes that, and the shorter one less: the aspect
    ratio is kept in any case.
    """
    height, width = frames.shape[-2:]
    size = resized_size(height, width, short_side, max_long_side)
    if size == (height, width):
        return frames
    if not len(frames):
        return frames.new_zeros((0, frames.shape[1], *size))
    resized = F.interpolate(frames.float(), size=size, mode="bilinear", align_corners=False, antialias=True)
    return resized.round_().clamp_(0, 255).to(torch.uint8)


def _resize_masks(masks: Tensor, size: tuple[int, int]) -> Tensor:
    if masks.shape[-2:] == size or len(masks) == 0:
        return masks.new_zeros((0, masks.shape[1], *size)) if len(masks) == 0 else masks
    # "nearest" would shift masks by up to half a pixel against their frames.
    return F.interpolate(masks.float(), size=size, mode="nearest-exact") > 0.5


def collate(clips: Sequence[Clip]) -> Batch:
    """Pad clips to the largest height and width among them."""
    height = max(clip.frames.shape[-2] for clip in clips)
    width = max(clip.frames.shape[-1] for clip in clips)
    frames, outside, targets = [], [], []
    for clip in clips:
        below, right = height - clip.frames.shape[-2], width - clip.frames.shape[-1]
        frames.append(F.pad(clip.frames, (0, right, 0, below)))
        outside.append(F.pad(torch.zeros(clip.frames.shape[-2:]), (0, right, 0, below), value=1.0) > 0.5)
        targets.append({"labels": clip.labels, "masks": F.pad(clip.masks, (0, right, 0, below))})
        targets[-1]["size"] = torch.tensor(clip.frames.shape[-2:])
    padding = torch.stack(outside)
    return Batch(torch.stack(frames), padding if bool(padding.any()) else None, targets)


def pad(batch: Batch, height: int, width: int) -> Batch:
    """The batch with padding up to ``height`` and ``width``, which are at least its own."""
    margin = (0, width - batch.frames.shape[-1], 0, height - batch.frames.shape[-2])
    if not any(margin):
        return batch
    outside = batch.padding
    if outside is None:
        outside = torch.zeros(len(batch.frames), *batch.frames.shape[-2:], dtype=torch.bool)
    targets = [{**target, "masks": F.pad(target["masks"], margin)} for target in batch.targets]
    return Batch(F.pad(batch.frames, margin), F.pad(outside, margin, value=True), targets)


def batches(
    sampler: ClipSampler, first_step: int, steps: int, clips_per_batch: int, rank: int = 0, processes: int = 1
) -> Iterator[Batch]:
    """Batches of steps first_step..steps-1; clips of the next ones are read while one is used.

    With several ``processes``, which divide ``clips_per_batch``, only the share of process ``rank``: their
    shares make up the batch, in order of rank.
    """
    share = clips_per_batch // processes
    clips = (
        step * clips_per_batch + rank * share + place
        for step in range(first_step, steps)
        for place in range(share)
    )
    readers = min(READERS, os.cpu_count() or 1)
    ahead = max(share * BATCHES_AHEAD, readers)
    with ThreadPoolExecutor(max_workers=readers) as pool:
        try:
            reading = deque(pool.submit(sampler.clip, i) for i in itertools.islice(clips, ahead))
            for _ in range(first_step, steps):
                read = []
                for _ in range(share):
                    read.append(reading.popleft().result())
                    reading.extend(pool.submit(sampler.clip, i) for i in itertools.islice(clips, 1))
                yield collate(read)
        finally:
            pool.shutdown(cancel_futures=True)
