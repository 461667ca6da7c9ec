"""What ``--split`` and ``--video`` name: a json of a data folder or a hold-out; one of its videos."""

from __future__ import annotations

from collections import Counter
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


def split_name(split: str | None) -> str:
    """``valid`` where none is named.

    Raises:
        InputError: a name without a letter.
    """
    if split is not None and not split.strip():
        raise InputError(f"--split {split!r}: allowed: the name of a json of the folder, or a hold-out")
    return DEFAULT_SPLIT if split is None else split


def load_split(root: Path, split: str | None) -> VideoDataset:
    """The videos of a split; ``valid`` where none is named. Annotations may be missing.

    Raises:
        InputError: there is no such json or hold-out.
    """
    split = split_name(split)
    if not is_holdout(split):
        return load_dataset(root, split)
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
    several = found if len(found) > 1 else dataset.videos
    names = Counter(video.name for video in dataset.videos)
    known = [call for video in several if video.length and (call := _call(video, names))]
    more = ", ..." if len(known) > NAMES_SHOWN else ""
    allowed = ", ".join(known[:NAMES_SHOWN]) or "a video with frames"
    raise InputError(f"{option} {name!r}: {why}; allowed: {allowed}{more}")


def _call(video: Video, names: Counter[str]) -> str:
    """The name or id that finds this video alone; "" where neither does."""
    if video.name and names[video.name] == 1:
        return video.name
    number = str(video.video_id)
    return "" if number in names else number


def paths_of(dataset: VideoDataset) -> tuple[Path, ...]:
    """What is read of a data set: its annotation file, and the folders of its frames."""
    folders = dict.fromkeys(file.parent for video in dataset.videos for file in video.files)
    return (dataset.annotation_file, *folders)
