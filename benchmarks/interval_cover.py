"""Measure how often the intervals of ``python -m harness situations --intervals`` hold the true value.

``python -m benchmarks.interval_cover``. Made-up outcomes, no masks: videos of one or two tracks in four
categories, half of the tracks fast and found less well; tracks of a video share a part of their luck. The
true values are those of many thousand videos; then samples of few videos get intervals.
"""

from __future__ import annotations

import argparse
import sys

import numpy as np
from numpy.typing import NDArray
from tabulate import tabulate

from harness.evaluation import IOU_THRESHOLDS
from harness.situations.intervals import COVER, resampled_ap, resampled_videos
from harness.situations.outcomes import MISSED, Outcome
from harness.situations.scores import average_precision

CATEGORIES = 4
Groups = list[list[NDArray[np.bool_]]]
"""All tracks, the slow ones and the fast ones of each category"""


def main(arguments: list[str]) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.interval_cover", description=__doc__)
    parser.add_argument("--videos", default="30,100,300", help="of a sample, with commas")
    parser.add_argument("--samples", type=int, default=300)
    parser.add_argument("--resamples", type=int, default=400)
    parser.add_argument("--true-videos", type=int, default=12000)
    asked = parser.parse_args(arguments)
    rng = np.random.default_rng(0)
    truth = values(*sample(rng, asked.true_videos))
    names = ("AP", "AP slow", "AP fast", "fast - slow")
    rows = [["true", *(f"{value:.1f}" for value in truth)]]
    for videos in (int(text) for text in asked.videos.split(",")):
        draws = resampled_videos(videos, asked.resamples)
        held = np.zeros((asked.samples, len(truth)))
        told = np.zeros_like(held)
        for place in range(asked.samples):
            found, groups = sample(rng, videos)
            told[place] = values(found, groups)
            every, slow, fast = (100 * resampled_ap(found, group, draws) for group in groups)
            ends = np.nanpercentile([every, slow, fast, fast - slow], COVER, axis=1)
            held[place] = (ends[0] <= truth) & (truth <= ends[1])
        rows.append([f"{videos} videos: mean of samples", *(f"{value:.1f}" for value in np.nanmean(told, 0))])
        rows.append(["intervals that hold the true value", *(f"{100 * v:.0f} %" for v in held.mean(0))])
    print(tabulate(rows, ["", *names], disable_numparse=True))
    return 0


def values(found: list[Outcome], groups: Groups) -> NDArray[np.float64]:
    """AP of all, of the slow and of the fast tracks, in percent, and the difference of these."""
    every, slow, fast = (100 * average_precision(found, group) for group in groups)
    return np.array([every, slow, fast, fast - slow])


def sample(rng: np.random.Generator, videos: int) -> tuple[list[Outcome], Groups]:
    """Outcomes of so many videos: a result for each track, of some quality, and false alarms."""
    track_videos = np.repeat(np.arange(videos), rng.integers(1, 3, videos))
    count = len(track_videos)
    of = rng.integers(CATEGORIES, size=count)
    fast = rng.random(count) < 0.5
    shared = rng.normal(size=videos)[track_videos] * 0.15
    quality = 0.75 - 0.15 * fast + shared + 0.15 * rng.normal(size=count)
    scores = quality + 0.2 * rng.normal(size=count)
    found: list[Outcome] = []
    for category in range(CATEGORIES):
        own = np.flatnonzero(of == category)
        alarms = np.flatnonzero(rng.random(videos) < 0.3)
        order = np.argsort(-np.append(scores[own], 0.4 + 0.25 * rng.normal(size=len(alarms))))
        reached = quality[own] >= IOU_THRESHOLDS[:, None]
        hits = np.where(reached, np.arange(len(own)), MISSED)
        lost = np.full((len(IOU_THRESHOLDS), len(alarms)), MISSED)
        matches, places = np.append(hits, lost, 1), np.append(track_videos[own], alarms)
        tracks = tuple(own.tolist())
        found.append(Outcome(category, matches[:, order], places[order], tracks, track_videos[own]))
    slow_ones = [~fast[of == category] for category in range(CATEGORIES)]
    return found, [[np.ones_like(slow) for slow in slow_ones], slow_ones, [~slow for slow in slow_ones]]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
