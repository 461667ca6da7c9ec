"""What is compared: the videos of a split, and the result files of methods, by the names people give them."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.data.named_split import load_split
from harness.data.ytvis import VideoDataset
from harness.foreign_results import read_foreign
from model.errors import InputError

GROUND_TRUTH = "ground truth"


@dataclass(frozen=True)
class Method:
    """A result file, read."""

    name: str
    path: Path
    results: list[dict[str, Any]]
    notes: list[str]
    sha256: str
    """Of the bytes that were read"""

    def by_video(self) -> dict[int, list[dict[str, Any]]]:
        """The results of each video that has some."""
        found: dict[int, list[dict[str, Any]]] = defaultdict(list)
        for result in self.results:
            found[result["video_id"]].append(result)
        return found


def load_videos(data: Path, split: str | None) -> VideoDataset:
    """The videos of a split, or of a benchmark's hold-out; annotations may be missing.

    Raises:
        InputError: there is no such split, it holds images, or it has no frame.
    """
    if data.is_file():
        raise InputError(f"--data {data}: a file; allowed: the data folder (with --score-only also its json)")
    dataset = load_split(data, split)
    if dataset.is_images:
        raise InputError(f"{dataset.annotation_file}: images; allowed: a YouTube-VIS json, with videos")
    if not any(video.length for video in dataset.videos):
        raise InputError(f"{dataset.annotation_file}: no video has a frame")
    return dataset


def read_methods(files: dict[str, Path], truth: dict[str, Any]) -> list[Method]:
    """The result files in the order given; raises :class:`InputError` at what cannot be mapped."""
    found = []
    for name, path in files.items():
        read = read_foreign(path, truth)
        found.append(Method(name, path, read.results, read.notes, read.sha256))
    return found
