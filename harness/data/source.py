"""Which data a sweep runs on: embedded videos, or a folder that the user names."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from harness.benchmark_json import read_annotations, read_header
from harness.config import DataConfig
from harness.data.benchmarks import BENCHMARKS, Benchmark
from harness.data.layouts import ANNOTATION_FILES
from harness.data.splits import load_scored, load_training, resolved, shared_videos
from harness.data.synthetic import cached_dataset, dataset_name, describe
from harness.data.ytvis import VideoDataset
from model.errors import InputError


class NoDataNamedError(InputError):
    """Neither the command line nor the environment names a data folder."""


@dataclass(frozen=True)
class DataSource:
    """A data set that is there, or (embedded) can be made at any time."""

    config: DataConfig
    """With both splits named, whoever chose them."""
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
        """The data folder; embedded data is written below ``cache`` unless it is there."""
        if self.folder is not None:
            return self.folder
        return cached_dataset(self.config.synthetic, cache, progress)


def find_data(config: DataConfig, folder: Path | None, sweep: str) -> DataSource:
    """The data that ``config`` asks for; a real folder is read and checked, embedded data is not made yet.

    Args:
        folder: what ``--data`` names; None asks the benchmark's environment variables.
        sweep: the sweep's file, for the commands that an error message proposes.

    Raises :class:`InputError` that says where it looked and what to do.
    """
    if config.kind == "synthetic":
        name = dataset_name(config.synthetic)
        categories = config.synthetic.categories
        config = resolved(Path(name), config)
        return DataSource(config, name, name, name, describe(config.synthetic), categories, folder=None)
    root = folder or _folder_of_environment(BENCHMARKS[config.benchmark], sweep)
    config = resolved(root, config)
    training = load_training(root, config)
    scored = load_scored(root, config)
    _check_same_categories(training, scored)
    # What the evaluator would refuse after the training is refused before it.
    truth, name = scored.ground_truth(), str(scored.annotation_file)
    read_annotations(truth, name, read_header(truth, name))
    return DataSource(
        config,
        root.resolve().name,
        training.checksum()[:16],
        scored.checksum()[:16],
        _describe(training, scored, config),
        len(training.categories),
        root,
    )


def absent_data(config: DataConfig, description: str) -> DataSource:
    """What stands for the data where none is needed, or a dry run has none: counts, no videos."""
    synthetic, benchmark = config.kind == "synthetic", BENCHMARKS[config.benchmark]
    categories = config.synthetic.categories if synthetic else benchmark.num_classes
    named = config.model_copy(update={"train": config.train or benchmark.train})
    return DataSource(named, "none", "", "", description, categories, folder=None)


def _describe(training: VideoDataset, scored: VideoDataset, config: DataConfig) -> str:
    noun = "images" if training.is_images else "videos"
    text = f"{len(training.videos)} training {noun}, scored on the {len(scored.videos)} of "
    if scored.is_part:
        return f"{text}{scored.split}, held out of {config.train}"
    shared = shared_videos(training, scored)
    seen = f"; {shared} of these are training {noun}: no measure of generalisation" if shared else ""
    return f"{text}{config.valid}.json{seen}"


def _folder_of_environment(benchmark: Benchmark, sweep: str) -> Path:
    named = next((value for name in benchmark.variables if (value := os.environ.get(name))), None)
    if named:
        return Path(named)
    plural = "s" if len(benchmark.variables) > 1 else ""
    names = " and ".join(benchmark.variables)
    looked = ", ".join(name.format(split=benchmark.train) for name in ANNOTATION_FILES)
    raise NoDataNamedError(
        f"no {benchmark.title} data: looked at --data (not given) and the variable{plural} {names} "
        "(not set); "
        f"give the folder that holds the annotations (one of {looked}) and the images: "
        f"`python run_sweep.py {sweep} --data FOLDER`, or run at once on embedded data: "
        f"`python run_sweep.py {sweep} --scale tiny`"
    )


def _check_same_categories(train: VideoDataset, valid: VideoDataset) -> None:
    ours = [(c.id, c.name) for c in train.categories]
    theirs = [(c.id, c.name) for c in valid.categories]
    if ours != theirs:
        odd = json.dumps(sorted(set(ours) ^ set(theirs))[:3])
        raise InputError(f"{valid.annotation_file}: categories differ from {train.annotation_file}: {odd}")
