"""The command's work: data and result files in, tags, terciles and scores out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from harness.data.named_split import load_split, paths_of
from harness.data.ytvis import VideoDataset
from harness.foreign_results import read_foreign
from harness.output_folder import check_new_file
from harness.situations.intervals import score_intervals
from harness.situations.listing import Intervals, Listing, Scored, as_csv
from harness.situations.outcomes import Outcome, outcomes
from harness.situations.scores import average_precision, tercile_scores
from harness.situations.tags import TrackTags, tag_tracks
from harness.situations.terciles import Terciles, terciles_of
from model.errors import InputError
from model.whole_file import whole_file


def list_situations(
    data: Path,
    split: str | None,
    files: Mapping[str, Path],
    intervals: bool,
    to_csv: Path | None = None,
    force: bool = False,
) -> Listing:
    """Tags and terciles of a data set, and each result file's AP in them.

    Args:
        files: result files by the name that tables give them.
        to_csv: a new file for the tags, or with ``force`` one that is replaced.

    Raises:
        InputError: the data is of images, has no annotations or cannot be read; a result file does not
            fit; the CSV cannot be written.
    """
    if to_csv is not None:  # told before the work, not after it
        check_new_file("--csv", to_csv, force, files.values())
    dataset = annotated_videos(data, split)
    if to_csv is not None:
        check_new_file("--csv", to_csv, force, (*files.values(), *paths_of(dataset)))
    truth = dataset.ground_truth()
    read = {name: read_foreign(path, truth) for name, path in files.items()}
    matched = {name: outcomes(truth, each.results) for name, each in read.items()}
    tags = tag_tracks(dataset)
    groups = terciles_of(tags)
    scored = {
        name: Scored(*_scored(*each, tags, groups, intervals), read[name].notes)
        for name, each in matched.items()
    }
    found = Listing(dataset, tags, groups, scored)
    if to_csv is not None:
        _write(to_csv, as_csv(found))
    return found


def _scored(
    found: list[Outcome], videos: int, tags: list[TrackTags], groups: dict[str, Terciles], intervals: bool
) -> tuple[dict[str, float | None], Intervals | None]:
    every = average_precision(found, [np.ones(len(one.tracks), np.bool_) for one in found])
    scores = {"AP": 100 * every, **tercile_scores(found, tags, groups)}
    return scores, score_intervals(found, tags, groups, videos) if intervals else None


def annotated_videos(data: Path, split: str | None) -> VideoDataset:
    """The videos of an annotated split; ``valid`` where none is named.

    Raises:
        InputError: images, a split without annotations, or none of the name.
    """
    dataset = load_split(data, split)
    if dataset.is_images:
        raise InputError(
            f"{dataset.annotation_file}: images; allowed: videos, since situations are of tracks"
        )
    if all(video.is_empty for video in dataset.videos):
        raise InputError(
            f"{dataset.annotation_file}: no annotated track (the published valid.json has none); "
            "name an annotated json of this folder, or ytvis19-holdout-v1, with --split"
        )
    return dataset


def _write(path: Path, content: str) -> None:
    try:
        with whole_file(path) as draft:
            draft.write_text(content, encoding="utf-8", newline="")
    except OSError as error:
        raise InputError(f"--csv: {path}: cannot be written ({error.strerror})") from None
