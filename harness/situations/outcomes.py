"""What became of every result and every track, once, so that any group of tracks can be scored.

Shapes:
    K categories, D results of a category, G tracks of it that are no crowds, I IoU thresholds.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.evaluation import IOU_THRESHOLDS, Key, Pairs, matched_tracks, read_pairs, track_ious

MISSED, CROWD = -1, -2


class Outcome(NamedTuple):
    """The results of one category, best score first, and its tracks."""

    category: int
    """Its id"""
    found: NDArray[np.intp]
    """(I,D), which of the G tracks a result matches; MISSED: none; CROWD: a crowd, it counts for nothing"""
    videos: NDArray[np.intp]
    """(D,), place of a result's video"""
    tracks: tuple[int | None, ...]
    """(G,), ids of the annotations"""
    track_videos: NDArray[np.intp]
    """(G,), place of a track's video"""


def outcomes(
    ground_truth: dict[str, Any] | str | Path, results: Sequence[dict[str, Any]] | str | Path
) -> tuple[list[Outcome], int]:
    """Match results to tracks as :func:`harness.evaluation.evaluate` does over all areas.

    Returns:
        One :class:`Outcome` a category that has tracks or results, and the number of videos.
    """
    pairs = read_pairs(ground_truth, results)
    places = {video: place for place, video in enumerate(pairs.videos)}
    keys = {category: pairs.of(category) for category in pairs.categories}
    found = [_outcome(category, pairs, each, places) for category, each in keys.items() if each]
    return found, len(pairs.videos)


def _outcome(category: int, pairs: Pairs, keys: list[Key], places: dict[int, int]) -> Outcome:
    scores: list[float] = []
    videos: list[int] = []
    tracks: list[int | None] = []
    track_videos: list[int] = []
    found: list[NDArray[np.intp]] = []
    for key in keys:
        truth, results = pairs.annotated[key], pairs.predicted[key]
        crowds = np.array(truth.crowds, np.bool_)
        # The places of this video's tracks among the category's, the last one for a result without any.
        names = np.append(np.where(crowds, CROWD, len(tracks) + np.cumsum(~crowds) - 1), MISSED)
        ious = track_ious(results.masks, truth.masks)
        taken = [matched_tracks(ious, threshold, crowds, crowds) for threshold in IOU_THRESHOLDS]
        found.append(names[np.array(taken)])
        scores += results.scores
        videos += [places[key[0]]] * len(results.scores)
        counted = [i for i, crowd in zip(truth.ids, truth.crowds, strict=True) if not crowd]
        tracks += counted
        track_videos += [places[key[0]]] * len(counted)
    order = np.argsort(-np.array(scores, float), kind="stable")
    return Outcome(
        category,
        np.concatenate(found, 1)[:, order],
        np.array(videos, np.intp)[order],
        tuple(tracks),
        np.array(track_videos, np.intp),
    )
