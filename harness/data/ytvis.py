"""Reader of the YouTube-VIS layout, for the embedded data set and for real footage alike.

::

    <root>/<split>.json  or  <root>/annotations/<split>.json
    <root>/<split>/JPEGImages/<video>/<frame>.jpg

A split without a folder of its own takes the one before its first underscore: the images of
``valid_seen.json`` lie in ``valid/``.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco

from harness.data.rle import Rle, checked_masks
from model.errors import InputError


@dataclass(frozen=True)
class Category:
    """A category as the json has it; its label is its place in ``VideoDataset.categories``."""

    id: int
    name: str


@dataclass(frozen=True)
class Track:
    """One annotated instance; ``segmentations`` has one compressed RLE a frame, None where absent."""

    annotation_id: int
    category: int
    """Contiguous label 0..K-1, in order of category id."""
    segmentations: tuple[Rle | None, ...]
    iscrowd: bool


@dataclass(frozen=True)
class Video:
    """One video; ``files`` are the frames in order, ``name`` is its folder."""

    video_id: int
    name: str
    height: int
    width: int
    files: tuple[Path, ...]
    tracks: tuple[Track, ...]

    @property
    def length(self) -> int:
        """L, number of frames."""
        return len(self.files)


@dataclass(frozen=True)
class VideoDataset:
    """A split that was read and checked by :func:`load_dataset`."""

    root: Path
    split: str
    annotation_file: Path
    categories: tuple[Category, ...]
    videos: tuple[Video, ...]

    def frames(self, video: Video, indices: Sequence[int]) -> NDArray[np.uint8]:
        """Decode frames ``indices`` as (n,3,H,W) uint8 RGB.

        Raises:
            InputError: a file cannot be decoded, or has another size than the json says.
        """
        out = np.empty((len(indices), 3, video.height, video.width), np.uint8)
        decoded: dict[int, int] = {}
        for place, index in enumerate(indices):
            if index in decoded:  # clips are drawn with replacement
                out[place] = out[decoded[index]]
                continue
            out[place] = _decode(video.files[index], video).transpose(2, 0, 1)
            decoded[index] = place
        return out

    def masks(self, video: Video, indices: Sequence[int]) -> NDArray[np.bool_]:
        """Masks (tracks, n, H, W) at frames ``indices``; all False where a track is absent."""
        out = np.zeros((len(video.tracks), len(indices), video.height, video.width), np.bool_)
        for track, planes in zip(video.tracks, out, strict=True):
            for plane, index in zip(planes, indices, strict=True):
                segmentation = track.segmentations[index]
                if segmentation is not None:
                    plane[:] = coco.decode(segmentation)
        return out

    def checksum(self) -> str:
        """SHA-256 of the annotation file's bytes and the names and sizes of all images, in order."""
        return self._checksum

    @cached_property
    def _checksum(self) -> str:
        digest = hashlib.sha256(self.annotation_file.read_bytes())
        for video in self.videos:
            for file in video.files:
                digest.update(f"{video.name}/{file.name} {file.stat().st_size}\n".encode())
        return digest.hexdigest()

    def ground_truth(self) -> dict[str, Any]:
        """The annotation json as it is on disk."""
        return _read_json(self.annotation_file)


def load_dataset(root: Path, split: str) -> VideoDataset:
    """Read and check ``<split>.json`` below ``root``. Frames are looked up, not decoded.

    Raises:
        InputError: one line that names the file, the video or annotation, the field, and what is allowed.
    """
    file = _annotation_file(root, split)
    content = _read_json(file)
    _require_lists(content, file)
    categories = _categories(content["categories"], file)
    labels = {category.id: label for label, category in enumerate(categories)}
    entries = _video_entries(content["videos"], file)
    tracks: dict[int, list[Track]] = {video_id: [] for video_id in entries}
    annotation_ids: set[int] = set()
    for entry in content.get("annotations") or []:
        track, video_id = _track(entry, entries, labels, file)
        if track.annotation_id in annotation_ids:
            raise InputError(f"{file}: annotation {track.annotation_id}: id appears twice")
        annotation_ids.add(track.annotation_id)
        tracks[video_id].append(track)
    if split.split("_")[0] == "train" and not annotation_ids:
        raise InputError(f"{file}: annotations: none, but a split to train on needs them")
    images = _image_folder(root, split)
    videos = tuple(_video(entry, images, tuple(tracks[i]), file) for i, entry in entries.items())
    return VideoDataset(root, split, file, categories, videos)


def annotation_file(root: Path, split: str) -> Path:
    """The annotation json of ``split`` below ``root``; raises :class:`InputError` where there is none."""
    return _annotation_file(root, split)


def _annotation_file(root: Path, split: str) -> Path:
    candidates = (root / f"{split}.json", root / "annotations" / f"{split}.json")
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    if not root.is_dir():
        state = "no such folder" if not root.exists() else "not a folder"
    else:
        state = "the folder is empty" if not any(root.iterdir()) else f"no annotations of split {split!r}"
    raise InputError(
        f"{root}: {state}; looked for {candidates[0]} and {candidates[1]}; expected the YouTube-VIS layout: "
        f"{split}.json and {split}/JPEGImages/<video>/<frame>.jpg"
    )


def _image_folder(root: Path, split: str) -> Path:
    names = [split] if "_" not in split else [split, split.split("_")[0]]
    for name in names:
        if (root / name).is_dir():
            if not (root / name / "JPEGImages").is_dir():
                raise InputError(
                    f"{root / name}: has no folder JPEGImages; expected JPEGImages/<video>/<frame>.jpg"
                )
            return root / name / "JPEGImages"
    looked = " and ".join(str(root / name / "JPEGImages") for name in names)
    raise InputError(f"{root}: no images of split {split!r}; looked for {looked}")


def _read_json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_bytes())
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise InputError(f"{file}: not a json file ({error})") from None
    if not isinstance(content, dict):
        raise InputError(
            f"{file}: top level is a {type(content).__name__}; allowed: the object of a YouTube-VIS json, "
            "with videos, categories and annotations"
        )
    return content


def _require_lists(content: dict[str, Any], file: Path) -> None:
    if "videos" not in content and "images" in content:
        raise InputError(
            f"{file}: key videos is missing, but images is there: a COCO image json, not YouTube-VIS"
        )
    for key in ("videos", "categories"):
        if key not in content:
            raise InputError(f"{file}: key {key} is missing; a YouTube-VIS json has videos and categories")
    for key in ("videos", "categories", "annotations"):
        value = content.get(key)
        # The published valid.json has "annotations": null or none at all.
        if not isinstance(value, list) and not (key == "annotations" and value is None):
            raise InputError(f"{file}: {key}: {type(value).__name__}; allowed: a list")
        for place, entry in enumerate(value or []):
            if not isinstance(entry, dict):
                raise InputError(f"{file}: {key}[{place}]: {type(entry).__name__}; allowed: an object")
            if not _is_int(entry.get("id")):
                raise InputError(f"{file}: {key}[{place}]: id: {entry.get('id')!r}; allowed: an integer")
    for key in ("videos", "categories"):
        if not content[key]:
            raise InputError(f"{file}: {key}: empty list; at least one is needed")


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _categories(entries: list[dict[str, Any]], file: Path) -> tuple[Category, ...]:
    categories = sorted((Category(e["id"], str(e.get("name", e["id"]))) for e in entries), key=lambda c: c.id)
    for one, following in itertools.pairwise(categories):
        if one.id == following.id:
            raise InputError(f"{file}: category {one.id}: id appears twice")
    return tuple(categories)


def _video_entries(entries: list[dict[str, Any]], file: Path) -> dict[int, dict[str, Any]]:
    """The checked video entries by id."""
    by_id: dict[int, dict[str, Any]] = {}
    for entry in entries:
        where = f"{file}: video {entry['id']}"
        if entry["id"] in by_id:
            raise InputError(f"{where}: id appears twice")
        for key in ("height", "width"):
            if not _is_int(entry.get(key)) or entry[key] < 1:
                raise InputError(f"{where}: {key}: {entry.get(key)!r}; allowed: a positive integer")
        names = entry.get("file_names")
        if not isinstance(names, list) or not names or not all(isinstance(n, str) and n for n in names):
            shown = "empty list" if names == [] else type(names).__name__
            raise InputError(f"{where}: file_names: {shown}; allowed: a list of one path or more")
        if entry.get("length", len(names)) != len(names):
            raise InputError(f"{where}: length: {entry['length']!r}, but file_names has {len(names)} entries")
        by_id[entry["id"]] = entry
    return by_id


def _video(entry: dict[str, Any], images: Path, tracks: tuple[Track, ...], file: Path) -> Video:
    files = tuple(images / name for name in entry["file_names"])
    for index, frame in enumerate(files):
        if not frame.is_file():
            raise InputError(f"{file}: video {entry['id']}: file_names[{index}]: no file {frame}")
    name = Path(entry["file_names"][0]).parent.as_posix()
    return Video(entry["id"], name, entry["height"], entry["width"], files, tracks)


def _track(
    entry: dict[str, Any], videos: dict[int, dict[str, Any]], labels: dict[int, int], file: Path
) -> tuple[Track, int]:
    """A checked annotation, and the id of its video."""
    where = f"{file}: annotation {entry['id']}"
    video_id, category_id = entry.get("video_id"), entry.get("category_id")
    if not _is_int(video_id) or video_id not in videos:
        raise InputError(f"{where}: video_id: {video_id!r}; allowed: the id of a video in this file")
    if not _is_int(category_id) or category_id not in labels:
        raise InputError(f"{where}: category_id: {category_id!r}; allowed: the id of a category in this file")
    video = videos[video_id]
    length, size = len(video["file_names"]), (video["height"], video["width"])
    masks = checked_masks(entry.get("segmentations"), length, size, where)
    crowd = entry.get("iscrowd", 0)
    if crowd not in (0, 1):
        raise InputError(f"{where}: iscrowd: {crowd!r}; allowed: 0, 1")
    return Track(entry["id"], labels[category_id], masks, bool(crowd)), video_id


def _decode(file: Path, video: Video) -> NDArray[np.uint8]:
    """A frame as (H,W,3) uint8 RGB."""
    try:
        with Image.open(file) as image:
            size = image.size
            pixels = np.asarray(image.convert("RGB")) if size == (video.width, video.height) else None
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(f"{file}: cannot be decoded ({' '.join(str(error).split())})") from None
    if pixels is None:
        raise InputError(
            f"{file}: {size[1]}x{size[0]} (height x width), but video {video.video_id} says "
            f"{video.height}x{video.width}"
        )
    return pixels
