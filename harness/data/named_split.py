"""What ``--split`` and ``--video`` name: a json of a data folder or a hold-out; one of its videos."""

from __future__ import annotations

from pathlib import Path

from harness.config import DataConfig
from harness.data.benchmarks import BENCHMARKS
from harness.data.splits import HOLDOUT, holdout_name, load_scored
from harness.data.ytvis import Video, VideoDataset, load_dataset
from model.errors import InputError

DEFAULT_SPLIT = "valid"
NAMES_SHOWN = 8
"""Names of videos that an error lists"""


def is_holdout(split: str | None) -> bool:
    """Whether the name means videos that are held out of training, and no json of the folder."""
    return split is not None and split.endswith(HOLDOUT)


def load_split(root: Path, split: str | None) -> VideoDataset:
    """The videos of a split; ``valid`` where none is named. Annotations may be missing.

    Raises:
        InputError: there is no such json or hold-out.
    """
    if split is None or not is_holdout(split):
        return load_dataset(root, split or DEFAULT_SPLIT)
    benchmark = split.removesuffix(HOLDOUT)
    if benchmark not in BENCHMARKS or holdout_name(benchmark) is None:
        raise InputError(
            f"--split {split}: allowed: a json of the folder, or the hold-out of a video benchmark"
        )
    return load_scored(root, DataConfig(benchmark=benchmark, valid=split))  # type: ignore[arg-type]


def find_video(dataset: VideoDataset, name: str, option: str) -> Video:
    """The video of this name, or else of this id; ``option`` opens the error.

    Raises:
        InputError: none or several have it, or it has no frame.
    """
    found = [video for video in dataset.videos if video.name == name]
    found = found or [video for video in dataset.videos if str(video.video_id) == name]
    if len(found) == 1 and found[0].length:
        return found[0]
    why = f"{len(found)} videos have this name" if found else "no such video"
    why = "it has no frame" if len(found) == 1 else why
    known = [video.name or str(video.video_id) for video in dataset.videos]
    more = ", ..." if len(known) > NAMES_SHOWN else ""
    raise InputError(f"{option} {name!r}: {why}; allowed: {', '.join(known[:NAMES_SHOWN])}{more}")
