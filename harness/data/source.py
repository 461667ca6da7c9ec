"""Which data a sweep runs on: embedded videos, or a YouTube-VIS folder that the user names."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from harness.config import DataConfig
from harness.data.synthetic import cached_dataset, dataset_name, describe
from harness.data.ytvis import VideoDataset, load_dataset
from model.errors import InputError

FOLDER_VARIABLE = "YOUTUBE_VIS"


@dataclass(frozen=True)
class DataSource:
    """A data set that is there, or (embedded) can be made at any time."""

    config: DataConfig
    name: str
    train_identity: str
    """Checksum of the training videos; for embedded data the hash of its configuration and generator."""
    valid_identity: str
    """The same of the videos that are scored."""
    description: str
    num_classes: int
    folder: Path | None
    """None for embedded data"""

    def root(self, cache: Path, progress: Callable[[int, int], None] | None = None) -> Path:
        """The YouTube-VIS folder; embedded data is written below ``cache`` unless it is there."""
        if self.folder is not None:
            return self.folder
        return cached_dataset(self.config.synthetic, cache, progress)


def find_data(config: DataConfig, folder: Path | None, sweep: str) -> DataSource:
    """The data that ``config`` asks for; a real folder is read and checked, embedded data is not made yet.

    Raises :class:`InputError` that says where it looked and what to do.
    """
    if config.kind == "synthetic":
        name = dataset_name(config.synthetic)
        return DataSource(
            config, name, name, name, describe(config.synthetic), config.synthetic.categories, folder=None
        )
    root = folder or _folder_of_environment(sweep)
    train = load_dataset(root, config.train)
    valid = load_dataset(root, config.valid)
    _check_same_categories(train, valid)
    if not any(not track.iscrowd for video in valid.videos for track in video.tracks):
        raise InputError(
            f"{valid.annotation_file}: no annotations to score against (the published valid.json has none); "
            "name an annotated json of this folder with --split"
        )
    return DataSource(
        config,
        root.resolve().name,
        train.checksum()[:16],
        valid.checksum()[:16],
        f"{len(train.videos)} training videos, scored on the {len(valid.videos)} of {config.valid}.json",
        len(train.categories),
        root,
    )


def _folder_of_environment(sweep: str) -> Path:
    named = os.environ.get(FOLDER_VARIABLE)
    if named:
        return Path(named)
    raise InputError(
        f"no YouTube-VIS data: looked at --data (not given) and the variable {FOLDER_VARIABLE} (not set); "
        f"give the folder that holds train.json and train/JPEGImages: `python run_sweep.py {sweep} --data "
        f"FOLDER`, or run at once on embedded videos: `python run_sweep.py {sweep} --scale tiny`"
    )


def _check_same_categories(train: VideoDataset, valid: VideoDataset) -> None:
    ours = [(c.id, c.name) for c in train.categories]
    theirs = [(c.id, c.name) for c in valid.categories]
    if ours != theirs:
        odd = json.dumps(sorted(set(ours) ^ set(theirs))[:3])
        raise InputError(f"{valid.annotation_file}: categories differ from {train.annotation_file}: {odd}")
