"""A video under all methods: rows of tracks with their identities, and how far they disagree.

Shapes:
    L frames of the video, (H', W') size of a picture.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco

from harness.compare.disagreement import disagreements
from harness.compare.identities import Shown, identified
from harness.compare.methods import GROUND_TRUTH, Method
from harness.compare.tracks import annotated_tracks, method_tracks
from harness.data.video_file import Frame
from harness.data.ytvis import Video, VideoDataset
from harness.overlay import Painter, Picture

PALE = 80
"""Of 256: how much of a frame's own colours is left behind tracks"""


@dataclass(frozen=True)
class Scene:
    """One video; ``rows`` are the annotations, where the split has some, and the methods."""

    video: Video
    stem: str
    """Its name as a file's"""
    rows: dict[str, list[Shown]]

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the frames."""
        return self.video.height, self.video.width

    @property
    def title(self) -> str:
        """Its name, or its id where it has none."""
        return self.video.name or f"video {self.video.video_id}"

    @cached_property
    def disagreement(self) -> NDArray[np.float64]:
        """Of each frame (L,)."""
        return disagreements(list(self.rows.values()), self.video.length, self.size)


class Scenes:
    """Makes the scenes of a split."""

    def __init__(self, dataset: VideoDataset, methods: Sequence[Method], threshold: float, most: int) -> None:
        self.has_truth = any(video.tracks for video in dataset.videos)
        self._dataset, self._threshold, self._most = dataset, threshold, most
        self._results: dict[str, dict[int, list[dict[str, Any]]]] = {
            method.name: method.by_video() for method in methods
        }
        self._names = {category.id: category.name for category in dataset.categories}
        self._stems = _stems(dataset)

    def of(self, video: Video) -> Scene:
        """One video under all methods."""
        tracks = {GROUND_TRUTH: annotated_tracks(self._dataset, video)} if self.has_truth else {}
        for name, results in self._results.items():
            found = results.get(video.video_id, [])
            tracks[name] = method_tracks(found, self._names, self._threshold, self._most)
        rows = dict(zip(tracks, identified(list(tracks.values())), strict=True))
        return Scene(video, self._stems[video.video_id], rows)


def _stems(dataset: VideoDataset) -> dict[int, str]:
    """File names by video id: the videos' own where each has one that files may have."""
    names = {video.video_id: re.sub(r"[^\w.-]+", "_", video.name).strip(".") for video in dataset.videos}
    taken = [name.casefold() for name in names.values()]
    return {
        number: name if name and taken.count(name.casefold()) == 1 else f"{name or 'video'}_{number}"
        for number, name in names.items()
    }


def background(painter: Painter, frame: Frame) -> Picture:
    """Frame (3, H, W) as a picture whose own colours are pale, so that those of tracks can be told apart."""
    picture = painter.picture(frame).astype(np.uint16)
    grey = (picture @ np.array([77, 150, 29], np.uint16)) >> 8
    return ((picture * PALE + grey[..., None] * (256 - PALE)) >> 8).astype(np.uint8)


def painted(
    painter: Painter, behind: Picture, row: Sequence[Shown], index: int, letters: int | None = None
) -> Picture:
    """A row's tracks at frame ``index`` over the frame's :func:`background`, best score on top.

    Args:
        letters: pixels of short tags beside the tracks; without it, labels with class and score in a
            screen's size.
    """
    picture = behind.copy()
    labels = []
    for shown in reversed(row):
        code = shown.track.masks[index]
        if code is None:
            continue
        mask = np.asarray(coco.decode(code), np.bool_)
        text = shown.words if letters is None else shown.tag
        label = painter.paint(picture, mask, shown.identity, text, shown.look)
        labels += [] if label is None else [label]
    if letters is None:
        return painter.write(picture, labels[::-1])
    return painter.write(picture, labels[::-1], letters, kept=(picture != behind).any(-1))
