"""Tracks of one video that are drawn: annotated ones, and those of a method's results."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from harness.benchmark_json import Masks
from harness.data.polygons import Polygons
from harness.data.ytvis import Video, VideoDataset


@dataclass(frozen=True)
class DrawnTrack:
    """A track with one class, whatever its mask files say of others."""

    masks: Masks
    category: str
    score: float | None
    """None of an annotated track"""


def annotated_tracks(dataset: VideoDataset, video: Video) -> list[DrawnTrack]:
    """The video's annotated tracks, crowds aside."""
    names = [category.name for category in dataset.categories]
    return [
        DrawnTrack(_codes(track.segmentations), names[track.category], None)
        for track in video.tracks
        if not track.iscrowd
    ]


def method_tracks(
    results: Iterable[dict[str, Any]], names: Mapping[int, str], threshold: float, most: int
) -> list[DrawnTrack]:
    """A method's tracks in a video, best score first.

    Results that share their list of masks (:func:`harness.foreign_results.read_foreign`) are one track of
    the best one's class.

    Args:
        results: of one video.
        names: of categories, by id.
        threshold: tracks with a lower score are left out.
        most: no more tracks than this.
    """
    best: dict[int, dict[str, Any]] = {}
    for result in results:
        key = id(result["segmentations"])
        if key not in best or result["score"] > best[key]["score"]:
            best[key] = result
    chosen = sorted((each for each in best.values() if each["score"] >= threshold), key=lambda r: -r["score"])
    return [
        DrawnTrack(tuple(each["segmentations"]), names[each["category_id"]], each["score"])
        for each in chosen[:most]
    ]


def _codes(masks: Iterable[Any]) -> Masks:
    found = tuple(masks)
    if any(isinstance(mask, Polygons) for mask in found):
        raise TypeError("polygons are of images, which are refused before")
    return found
