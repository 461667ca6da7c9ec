"""AP of the tracks that are slow, faster and fast, and so on: one number a situation and tercile.

Shapes:
    I IoU thresholds, R recall thresholds, K categories with tracks in a tercile, D results, G tracks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.data.ytvis import VideoDataset
from harness.evaluation import IOU_THRESHOLDS, interpolated_precision
from harness.metrics import LEVELS
from harness.situations.cuts import Floats
from harness.situations.outcomes import MISSED, Outcome, outcomes
from harness.situations.tags import TrackTags, tag_tracks
from harness.situations.terciles import FEWEST_TRACKS, Terciles, terciles_of

_LAST: dict[str, list[TrackTags]] = {}
"""The tags of the data set that this process asked for last, by its checksum: many results, one data set."""


def situation_scores(dataset: VideoDataset, results: Sequence[dict[str, Any]]) -> dict[str, float | None]:
    """AP in each tercile of each situation, in percent: ``AP_speed_low``, ``AP_speed_mid`` and so on.

    None where a tercile has fewer than :data:`~harness.situations.terciles.FEWEST_TRACKS` tracks.

    Args:
        dataset: its annotations say which tracks there are, its frames how blurred they are.
        results: as :func:`harness.evaluation.evaluate` takes them.

    Raises:
        InputError: images instead of videos, a frame that cannot be read, or a result that cannot be scored.
    """
    tags = tags_of(dataset)
    found, _ = outcomes(dataset.ground_truth(), results)
    return tercile_scores(found, tags, terciles_of(tags))


def tracks_of(dataset: VideoDataset) -> dict[str, int]:
    """Tracks in each tercile, by the keys of :func:`situation_scores`."""
    groups = terciles_of(tags_of(dataset))
    return {
        score_key(name, level): count
        for name, group in groups.items()
        for level, count in zip(LEVELS, group.counts, strict=True)
    }


def tags_of(dataset: VideoDataset) -> list[TrackTags]:
    """The data set's tags; those of the last data set are kept."""
    key = dataset.checksum()
    if key not in _LAST:
        tags = tag_tracks(dataset)
        _LAST.clear()
        _LAST[key] = tags
    return _LAST[key]


def score_key(situation: str, level: str) -> str:
    """The name of a score."""
    return f"AP_{situation}_{level}"


def tercile_scores(
    found: Sequence[Outcome], tags: Sequence[TrackTags], groups: dict[str, Terciles]
) -> dict[str, float | None]:
    """As :func:`situation_scores`, from outcomes and tags that are there."""
    scores: dict[str, float | None] = {}
    for name, group in groups.items():
        level_of = levels_by_track(tags, group)
        for level, (title, count) in enumerate(zip(LEVELS, group.counts, strict=True)):
            counts = [np.array([level_of.get(i) == level for i in one.tracks], np.bool_) for one in found]
            enough = count >= FEWEST_TRACKS
            scores[score_key(name, title)] = 100 * average_precision(found, counts) if enough else None
    return scores


def levels_by_track(tags: Sequence[TrackTags], group: Terciles) -> dict[int | None, int | None]:
    """Annotation id to level."""
    return {track.annotation_id: level for track, level in zip(tags, group.levels, strict=True)}


def average_precision(found: Sequence[Outcome], counts: Sequence[NDArray[np.bool_]]) -> float:
    """AP, 0 to 1, of the tracks that count; of all tracks exactly what ``evaluate`` says. NaN without any.

    Results that match another track are ignored: neither hits nor misses. Those that match no track are of
    no group, and count as misses in each; but a group of a third of the tracks can have a third of the hits
    only, so each hit weighs (tracks of the category) / (those that count), in the precision: the normalised
    precision of Hoiem et al. (2012), with the category's own number of tracks as the constant. Recall
    is that of the group. Categories without a track that counts are left out.

    Args:
        found: K outcomes.
        counts: of each, (G,): whether a track counts.
    """
    precisions = [_precision(one, which) for one, which in zip(found, counts, strict=True) if which.any()]
    return float(np.stack(precisions, -1).reshape(-1).mean()) if precisions else float("nan")


def _precision(one: Outcome, counts: NDArray[np.bool_]) -> Floats:
    """Precision (I,R) of a category."""
    counted = int(counts.sum())
    weight = len(counts) / counted
    rows = []
    for i in range(len(IOU_THRESHOLDS)):
        misses = np.cumsum(one.found[i] == MISSED, dtype=np.float64)
        at = places_of_hits(one.found[i], counts)
        hits = np.arange(1, len(at) + 1, dtype=np.float64)
        rows.append(interpolated_precision(hits, misses[at], counted, weight))
    return np.stack(rows)


def places_of_hits(found: NDArray[np.intp], counts: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Where in (D,) are results that match a track that counts.

    Precision falls between one and the next, so these places alone decide the best one at each recall.
    """
    hits = found >= 0
    hits[hits] = counts[found[hits]]
    return np.flatnonzero(hits)
