"""What ``python -m harness situations`` prints and writes."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tabulate import tabulate

from harness.data.ytvis import VideoDataset
from harness.metrics import LEVELS, SITUATION_NAMES, SITUATIONS
from harness.situations.intervals import FEWEST_VIDEOS, RESAMPLES, Interval
from harness.situations.scores import score_key
from harness.situations.tags import TrackTags
from harness.situations.terciles import FEWEST_TRACKS, Terciles

UNITS = {
    "speed": "own sizes a frame",
    "overlap": "share hidden by others",
    "look_alikes": "same-class tracks by nearness of colour",
    "blur": "0 sharp to 1",
    "absence": "share of frames gone in between",
    "size_change": "doublings of area",
}
NONE = "--"

Intervals = Mapping[str, Interval | None]


@dataclass(frozen=True)
class Scored:
    """One result file's scores in percent; ``AP`` is that of all tracks."""

    scores: dict[str, float | None]
    intervals: Intervals | None
    notes: list[str]
    """What was done to the file's results before they were scored"""


@dataclass(frozen=True)
class Listing:
    """All that was found."""

    dataset: VideoDataset
    tags: list[TrackTags]
    groups: dict[str, Terciles]
    scored: dict[str, Scored]
    """By the name that the user gave the result file"""


def text(found: Listing) -> str:
    """The tables as people read them."""
    dataset = found.dataset
    counts = f"{len(found.tags)} tracks in {len(dataset.videos)} videos"
    opening = f"{dataset.annotation_file} ({dataset.split}): {counts}"
    parts = [opening, _groups_table(found.groups), *_remarks(found.groups)]
    if found.scored:
        parts += ["", "AP of each tercile, in percent", _scores_table(found)]
        if any(each.intervals is not None for each in found.scored.values()):
            parts.append(_interval_words(len(dataset.videos)))
    return "\n".join(parts)


def _groups_table(groups: dict[str, Terciles]) -> str:
    rows = []
    for name, group in groups.items():
        if group.borders is None:
            cells = [NONE] * len(LEVELS)
        else:
            counts = group.counts
            first, second = (f"{border:.3g}" for border in group.borders)
            low = f"= {first}" if group.lowest_tied else f"<= {first}"
            cells = [f"{low} ({counts[0]})", f"<= {second} ({counts[1]})", f"> {second} ({counts[2]})"]
        rows.append([SITUATION_NAMES[name], UNITS[name], *cells, group.undefined or ""])
    head = ["situation", "unit", *(f"{level} (tracks)" for level in LEVELS), "undefined"]
    return tabulate(rows, head, disable_numparse=True)


def _remarks(groups: dict[str, Terciles]) -> list[str]:
    out = []
    if tied := _named(groups, lambda group: group.lowest_tied and group.borders is not None):
        out.append(
            "more than a third share the lowest value, and are low; the rest is cut at its median: "
            + ", ".join(tied)
        )
    if same := _named(groups, lambda group: group.borders is None):
        out.append(f"no terciles, since all tracks have the same value, or none: {', '.join(same)}")
    return out


def _named(groups: dict[str, Terciles], fits: Callable[[Terciles], bool]) -> list[str]:
    return [SITUATION_NAMES[name] for name, group in groups.items() if fits(group)]


def _scores_table(found: Listing) -> str:
    names = list(found.scored)
    rows = [["all", "", len(found.tags), *(_cell(found.scored[name], "AP") for name in names)]]
    for situation, group in found.groups.items():
        for level, count in zip(LEVELS, group.counts, strict=True):
            key = score_key(situation, level)
            rows.append(
                [
                    SITUATION_NAMES[situation],
                    level,
                    count,
                    *(_cell(found.scored[name], key) for name in names),
                ]
            )
        if any(each.intervals is not None for each in found.scored.values()):
            rows.append(["", "high-low", "", *(_gap(found.scored[name], situation) for name in names)])
    remark = f"\n{NONE}: fewer than {FEWEST_TRACKS} tracks"
    few = any(value is None for each in found.scored.values() for value in each.scores.values())
    return tabulate(rows, ["situation", "", "tracks", *names], disable_numparse=True) + (
        remark if few else ""
    )


def _cell(each: Scored, key: str) -> str:
    value = each.scores[key]
    if value is None:
        return NONE
    return f"{value:.1f}{_spelled(each.intervals, key)}"


def _gap(each: Scored, situation: str) -> str:
    low, high = each.scores[score_key(situation, "low")], each.scores[score_key(situation, "high")]
    if low is None or high is None:
        return NONE
    return f"{high - low:+.1f}{_spelled(each.intervals, score_key(situation, 'high-low'))}"


def _spelled(intervals: Intervals | None, key: str) -> str:
    interval = intervals[key] if intervals is not None else None
    return "" if interval is None else f" [{interval[0]:.1f}, {interval[1]:.1f}]"


def _interval_words(videos: int) -> str:
    if videos < FEWEST_VIDEOS:
        return f"no intervals: {videos} videos; at least {FEWEST_VIDEOS} are needed"
    return (
        f"[95 % interval]: percentile bootstrap over the {videos} videos, {RESAMPLES} resamples; "
        "of high-low that of the difference"
    )


def as_csv(found: Listing) -> str:
    """A line a track: its video, its tags, and its tercile in each situation."""
    names = {video.video_id: video.name for video in found.dataset.videos}
    out = io.StringIO()
    lines = csv.writer(out, lineterminator="\n")
    lines.writerow(
        ["video_id", "video", "annotation_id", "category_id", "category", *SITUATIONS]
        + [f"{name}_tercile" for name in SITUATIONS]
    )
    for place, track in enumerate(found.tags):
        category = found.dataset.categories[track.category]
        levels = [found.groups[name].levels[place] for name in SITUATIONS]
        values = [track.tag(name) for name in SITUATIONS]
        lines.writerow(
            [track.video_id, names[track.video_id], track.annotation_id, category.id, category.name]
            + ["" if value is None else f"{value:.6g}" for value in values]
            + ["" if level is None else LEVELS[level] for level in levels]
        )
    return out.getvalue()


def as_json(found: Listing) -> str:
    """Everything but the tags of single tracks, as one object."""
    content: dict[str, Any] = {
        "annotations": str(found.dataset.annotation_file),
        "split": found.dataset.split,
        "data_checksum": found.dataset.checksum(),
        "videos": len(found.dataset.videos),
        "tracks": len(found.tags),
        "situations": {
            name: {
                "unit": UNITS[name],
                "borders": group.borders,
                "lowest_tied": group.lowest_tied,
                "tracks": dict(zip(LEVELS, group.counts, strict=True)),
                "undefined": group.undefined,
            }
            for name, group in found.groups.items()
        },
        "scores": {name: each.scores for name, each in found.scored.items()},
        "notes": {name: each.notes for name, each in found.scored.items()},
    }
    if any(each.intervals is not None for each in found.scored.values()):
        content["intervals"] = {name: each.intervals for name, each in found.scored.items()}
    return json.dumps(content, indent=1)
