"""Which videos are trained on and which are scored, and the hold-out where no annotations are public.

YouTube-VIS and OVIS publish no annotations of their valid videos. ``<benchmark>-holdout-v1`` takes a
tenth of the training videos, by name: scoring sees those, training the others only.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from harness.config import DataConfig
from harness.data.benchmarks import BENCHMARKS
from harness.data.layouts import annotation_file
from harness.data.ytvis import VideoDataset, has_annotations, load_dataset
from model.errors import InputError

HOLDOUT = "-holdout-v1"
RULE = "int(sha256(video folder name)[:8], 16) % 10 == 0"


def is_held_out(name: str) -> bool:
    """Whether the rule holds out the video of this folder name; one without a folder is never held out."""
    return name != "" and int(hashlib.sha256(name.encode()).hexdigest()[:8], 16) % 10 == 0


def holdout_name(benchmark: str) -> str | None:
    """Name of the benchmark's hold-out split; None where images are scored."""
    return None if BENCHMARKS[benchmark].is_images else benchmark + HOLDOUT


def resolved(root: Path, data: DataConfig) -> DataConfig:
    """``data`` with both splits named.

    Training takes the benchmark's own split. Scoring takes its own too if that has annotations,
    otherwise the hold-out of training.

    Raises :class:`InputError` where the training split is not there, or for a hold-out of another benchmark.
    """
    if data.kind == "synthetic":
        return data.model_copy(update={"train": data.train or "train", "valid": data.valid or "valid"})
    benchmark, holdout = BENCHMARKS[data.benchmark], holdout_name(data.benchmark)
    train, valid = data.train or benchmark.train, data.valid
    annotation_file(root, train)
    if valid is None:
        keeps = holdout is None or has_annotations(root, benchmark.valid)
        valid = benchmark.valid if keeps else holdout
    elif valid.endswith(HOLDOUT) and valid != holdout:
        allowed = "the name of a json" if holdout is None else f"{holdout} or the name of a json"
        raise InputError(f"split {valid!r}: {benchmark.title} has no such hold-out; allowed: {allowed}")
    return data.model_copy(update={"train": train, "valid": valid})


def load_training(root: Path, data: DataConfig) -> VideoDataset:
    """The videos to train on; without the held-out ones where those are scored.

    Raises :class:`InputError` where nothing can be learnt: no annotations, or no video left.
    """
    data = resolved(root, data)
    whole = load_dataset(root, data.train or "")
    if not _is_holdout(data):
        if not any(video.tracks for video in whole.videos):
            raise InputError(f"{whole.annotation_file}: annotations: none; a split to train on needs them")
        return _with_frames(whole)
    kept = [video for video in whole.videos if not is_held_out(video.name)]
    if all(video.is_empty for video in kept):
        raise InputError(
            f"{whole.annotation_file}: no annotated video is left to train on once {data.valid} ({RULE}) is "
            "held out; name another json to score with --split"
        )
    return _with_frames(whole.part(f"{data.train} without {data.valid}", kept))


def load_scored(root: Path, data: DataConfig) -> VideoDataset:
    """The videos to score.

    Raises :class:`InputError` where there is nothing to score against, crowds aside.
    """
    data = resolved(root, data)
    if not _is_holdout(data):
        dataset = load_dataset(root, data.valid or "")
        if all(video.is_empty for video in dataset.videos):
            holdout = holdout_name(data.benchmark)
            other = f"an annotated json of this folder, or {holdout}," if holdout else "an annotated json"
            raise InputError(
                f"{dataset.annotation_file}: no annotations to score against (the published one has none); "
                f"name {other} with --split"
            )
        return dataset
    whole = load_dataset(root, data.train or "")
    held_out = [video for video in whole.videos if is_held_out(video.name)]
    if all(video.is_empty for video in held_out):
        raise InputError(
            f"{whole.annotation_file}: split {data.valid!r} is empty: none of the {len(whole.videos)} videos "
            f"has annotations and {RULE}; name an annotated json of this folder with --split"
        )
    return whole.part(data.valid or "", held_out)


def shared_videos(training: VideoDataset, scored: VideoDataset) -> int:
    """How many of the scored videos have a frame that is trained on."""
    trained = {file for video in training.videos for file in video.files}
    return sum(any(file in trained for file in video.files) for video in scored.videos)


def _is_holdout(data: DataConfig) -> bool:
    return data.kind == "folder" and data.valid == holdout_name(data.benchmark)


def _with_frames(dataset: VideoDataset) -> VideoDataset:
    noun = "image" if dataset.is_images else "video"
    if not dataset.training_videos:
        raise InputError(f"{dataset.annotation_file}: nothing to train on: no {noun} has a frame")
    if all(video.is_empty for video in dataset.training_videos):
        raise InputError(f"{dataset.annotation_file}: nothing to train on: no {noun} has an instance")
    return dataset
