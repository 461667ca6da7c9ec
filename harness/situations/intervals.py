"""How far an AP of a tercile may be chance of the videos: percentile bootstrap over videos.

Shapes:
    B resamples, V videos, D results and G tracks of a category, n hits.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from harness.evaluation import IOU_THRESHOLDS, RECALL_THRESHOLDS
from harness.metrics import LEVELS
from harness.situations.cuts import Floats
from harness.situations.outcomes import MISSED, Outcome
from harness.situations.scores import levels_by_track, places_of_hits, score_key
from harness.situations.tags import TrackTags
from harness.situations.terciles import FEWEST_TRACKS, Terciles

RESAMPLES = 1000
SEED = 0
FEWEST_VIDEOS = 10
"""Resampling fewer videos says nothing about others."""
COVER = (2.5, 97.5)
"""Percentiles"""

Interval = tuple[float, float]


def score_intervals(
    found: Sequence[Outcome],
    tags: Sequence[TrackTags],
    groups: dict[str, Terciles],
    videos: int,
    resamples: int = RESAMPLES,
) -> dict[str, Interval | None]:
    """95 % intervals in percent, by the keys of the scores; and of their differences.

    A resample draws as many videos as there are, with replacement, and takes each with all its tracks and
    results. Which tercile a track is in stays as it is. Keys are ``AP``, those of
    :func:`~harness.situations.scores.situation_scores`, and ``AP_<situation>_high-low``, whose interval
    is the one to look at: terciles share videos, so their own intervals do not tell whether they differ.

    None with fewer than :data:`FEWEST_VIDEOS` videos, or where a tercile has too few tracks to be scored.
    """
    draws = resampled_videos(videos, resamples)
    out: dict[str, Interval | None] = {}
    every = [np.ones(len(one.tracks), np.bool_) for one in found]
    out["AP"] = _interval(resampled_ap(found, every, draws), videos)
    for name, group in groups.items():
        level_of = levels_by_track(tags, group)
        aps: list[Floats | None] = []
        for level, (title, count) in enumerate(zip(LEVELS, group.counts, strict=True)):
            counts = [np.array([level_of.get(i) == level for i in one.tracks], np.bool_) for one in found]
            aps.append(resampled_ap(found, counts, draws) if count >= FEWEST_TRACKS else None)
            out[score_key(name, title)] = _interval(aps[-1], videos)
        low, _, high = aps
        gap = None if low is None or high is None else high - low
        out[score_key(name, "high-low")] = _interval(gap, videos)
    return out


def resampled_videos(videos: int, resamples: int) -> Floats:
    """How often each video is drawn, (B,V); the same on every call."""
    rng = np.random.default_rng(SEED)
    draws: Floats = rng.multinomial(videos, np.full(videos, 1 / videos), resamples).astype(np.float64)
    return draws


def _interval(aps: Floats | None, videos: int) -> Interval | None:
    if aps is None or videos < FEWEST_VIDEOS or np.isnan(aps).all():
        return None
    low, high = 100 * np.nanpercentile(aps, COVER)
    return float(low), float(high)


def resampled_ap(found: Sequence[Outcome], counts: Sequence[NDArray[np.bool_]], draws: Floats) -> Floats:
    """AP (B,) as :func:`~harness.situations.scores.average_precision` has it, videos taken ``draws`` times.

    NaN in a resample without any track that counts.
    """
    total, categories = np.zeros((2, len(draws)))
    for one, which in zip(found, counts, strict=True):
        tracks = draws[:, one.track_videos]
        counted = tracks[:, which].sum(1)
        defined = counted > 0
        if defined.any():
            drawn = draws[defined]
            total[defined] += _category_ap(one, which, drawn, tracks[defined].sum(1) / counted[defined])
            categories += defined
    aps: Floats = np.divide(total, categories, out=np.full(len(draws), np.nan), where=categories > 0)
    return aps


def _category_ap(one: Outcome, counts: NDArray[np.bool_], draws: Floats, weight: Floats) -> Floats:
    """AP (B,) of a category; ``weight`` (B,) of a hit."""
    counted = draws[:, one.track_videos[counts]].sum(1)
    out = np.zeros(len(draws))
    for i in range(len(IOU_THRESHOLDS)):
        at = places_of_hits(one.found[i], counts)
        if not len(at):
            continue
        missed = np.flatnonzero(one.found[i] == MISSED)
        so_far = np.cumsum(np.pad(draws[:, one.videos[missed]], ((0, 0), (1, 0))), 1)
        misses = so_far[:, np.searchsorted(missed, at)]
        hits = np.cumsum(draws[:, one.videos[at]], 1)
        weighted = weight[:, None] * hits
        precision = weighted / np.maximum(weighted + misses, np.spacing(1))
        best = np.maximum.accumulate(precision[:, ::-1], 1)[:, ::-1]
        # How many recall thresholds each hit is the first to reach.
        reached = np.searchsorted(RECALL_THRESHOLDS, hits / counted[:, None], side="right")
        out += (np.diff(reached, axis=1, prepend=0) * best).sum(1)
    return out / (len(IOU_THRESHOLDS) * len(RECALL_THRESHOLDS))
