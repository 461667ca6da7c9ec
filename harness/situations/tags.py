"""Six numbers for every annotated track: how hard is it, and in which way? (``docs/situations.md``)"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.data.ytvis import Track, Video, VideoDataset
from harness.situations.colours import look_alikes, palette, sampled_pixels
from harness.situations.cuts import Cut, Floats, cut_masks
from harness.situations.occlusion import hidden_shares, overlap
from harness.situations.paths import absence, size_change, speed
from harness.situations.sharpness import blur, frame_blur, window_of
from model.errors import InputError


class TrackTags(NamedTuple):
    """The tags of one track; None where a tag is not defined for it. Higher is harder throughout."""

    video_id: int
    annotation_id: int
    category: int
    """Contiguous label, as in :class:`harness.data.ytvis.Track`"""
    speed: float | None
    """Own sizes a frame: :func:`harness.situations.paths.speed`"""
    overlap: float | None
    """Share hidden by others, 0 to 1: :func:`harness.situations.occlusion.overlap`"""
    look_alikes: float | None
    """Same-class tracks weighted by nearness of colour: :func:`harness.situations.colours.look_alikes`"""
    blur: float | None
    """0 sharp to 1: :func:`harness.situations.sharpness.frame_blur`"""
    absence: float | None
    """Share of frames gone between first and last: :func:`harness.situations.paths.absence`"""
    size_change: float | None
    """Doublings of area: :func:`harness.situations.paths.size_change`"""

    def tag(self, situation: str) -> float | None:
        """The tag of this name."""
        value: float | None = getattr(self, situation)
        return value


def tag_tracks(dataset: VideoDataset) -> list[TrackTags]:
    """The tags of every track that is no crowd, in the order of the data set's videos and their tracks.

    Videos are read by a thread a core; one video's masks and one frame are in memory for each.

    Raises:
        InputError: the data set is of images, or a frame cannot be decoded.
    """
    if dataset.is_images:
        raise InputError(
            f"{dataset.annotation_file}: images instead of videos; allowed: a YouTube-VIS json, "
            "since situations are of tracks"
        )
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with ThreadPoolExecutor(cores) as threads:
        futures = [threads.submit(video_tags, dataset, video) for video in dataset.videos]
        try:
            return [tags for future in futures for tags in future.result()]
        finally:
            for future in futures:  # after an error, or Ctrl-C, nothing more is begun
                future.cancel()


def video_tags(dataset: VideoDataset, video: Video) -> list[TrackTags]:
    """The tags of one video's tracks."""
    tracks = [track for track in video.tracks if not track.iscrowd]
    if not tracks:
        return []
    cuts = [cut_masks(track.segmentations) for track in tracks]
    categories = [track.category for track in tracks]
    blurs, palettes = _read_frames(dataset, video, tracks, cuts)
    hidden = hidden_shares(cuts, min(video.height, video.width))
    alike = look_alikes(categories, palettes)
    return [
        TrackTags(
            video.video_id,
            track.annotation_id,
            track.category,
            speed=speed(cuts[i]),
            overlap=overlap(hidden[i], cuts[i]),
            look_alikes=alike[i],
            blur=blurs[i],
            absence=absence(cuts[i]),
            size_change=size_change(cuts[i], hidden[i]),
        )
        for i, track in enumerate(tracks)
    ]


def _read_frames(
    dataset: VideoDataset, video: Video, tracks: list[Track], cuts: list[list[Cut | None]]
) -> tuple[list[float | None], list[Floats | None]]:
    """What needs pictures: each track's blur, and its palette (None for one that is never visible)."""
    window = window_of(min(video.height, video.width))
    blurs: list[list[float | None]] = [[] for _ in tracks]
    samples: list[list[NDArray[np.uint8]]] = [[] for _ in tracks]
    for frame in range(video.length):
        visible = [(i, cut) for i in range(len(tracks)) if (cut := cuts[i][frame]) is not None]
        if not visible:
            continue
        [pixels] = dataset.frames(video, [frame])
        for i, cut in visible:
            blurs[i].append(frame_blur(pixels, cut, window))
            samples[i].append(sampled_pixels(pixels, cut))
    return [blur(each) for each in blurs], [palette(each) if each else None for each in samples]
