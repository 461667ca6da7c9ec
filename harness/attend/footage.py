"""A video with the masks of its objects: annotated ones, or those that a model predicts.

Shapes
    H, W  frame size
    N     tracks
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as rle
from torch import Tensor

from harness.data.named_split import find_video, load_split, paths_of
from harness.data.rle import Rle
from harness.data.video_file import Frame, FrameSource, open_frames
from harness.data.ytvis import Video, VideoDataset
from harness.encoded_tracks import encoded_masks
from model.errors import InputError
from model.tracking import FrameMasks

TrackMasks = dict[int, NDArray[np.bool_]]
"""The mask (H, W) of each track that a frame shows"""


@dataclass(frozen=True)
class Footage:
    """A video, and its annotated masks where there are some."""

    name: str
    frames: FrameSource
    annotated: Callable[[int], TrackMasks] | None
    """The masks of a frame by its number"""
    paths: tuple[Path, ...] = ()
    """What is read: files, and folders of which files are read"""


def open_footage(source: Path | None, data: Path | None, split: str | None, video: str | None) -> Footage:
    """The video file or folder of images ``source``, or the video of that name or id of a data folder.

    Raises:
        InputError: neither or both are named, or there is no such thing.
    """
    if source is not None:
        if data is not None or split is not None or video is not None:
            raise InputError(f"{source}: beside --data, --split or --video; allowed: a video, or --data DIR")
        return Footage(source.resolve().stem, open_frames(source), None, (source,))
    if data is None or video is None:
        raise InputError("no video; allowed: a video file, a folder of images, or --data DIR --video NAME")
    dataset = load_split(data, split)
    found = find_video(dataset, video, "--video:")
    annotated = bool(found.tracks)
    return Footage(
        found.name or str(found.video_id),
        _source(dataset, found),
        (lambda index: _annotated(dataset, found, index)) if annotated else None,
        paths_of(dataset),
    )


def _source(dataset: VideoDataset, video: Video) -> FrameSource:
    def read() -> Iterator[Frame]:
        for index in range(video.length):
            yield dataset.frames(video, [index])[0]

    names = tuple(file.name for file in video.files)
    return FrameSource(video.files[0].parent, video.height, video.width, names, None, video.length, read)


def _annotated(dataset: VideoDataset, video: Video, index: int) -> TrackMasks:
    masks = dataset.masks(video, [index])[:, 0]
    return {track: mask for track, mask in enumerate(masks) if mask.any()}


class PredictedMasks:
    """The masks of a model's tracks, kept as codes until it is known which tracks count."""

    def __init__(self, size: tuple[int, int]) -> None:
        """``size``: (H, W)."""
        self._size = size
        self._frames: list[list[tuple[int, Rle]]] = []
        self._kept: set[int] = set()

    def add(self, finals: list[FrameMasks]) -> None:
        """Take the next frames that have become final."""
        for final in finals:
            self._frames.append([(track, code) for track, _, code in encoded_masks(final, self._size)])

    def keep(self, class_probs: Tensor, least: float) -> int:
        """Tracks (class_probs: (N, K+1)) whose best class has this probability count; returns how many."""
        best = class_probs[:, :-1].amax(1).tolist() if len(class_probs) else []
        self._kept = {track for track, score in enumerate(best) if score >= least}
        return len(self._kept)

    def __call__(self, index: int) -> TrackMasks:
        """The masks of a frame by its number."""
        codes = [(track, code) for track, code in self._frames[index] if track in self._kept]
        return {track: np.asarray(rle.decode(code), np.bool_) for track, code in codes}
