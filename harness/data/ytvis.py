"""Reader of a split: the embedded data set, YouTube-VIS, OVIS and COCO alike (``layouts.py``: where it is).

COCO's images are videos of one frame; their video ids are the image ids.
"""

from __future__ import annotations

import dataclasses
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
from pycocotools import mask as codes

from harness.data.coco import as_videos, is_image_json
from harness.data.layouts import annotation_file, find_annotation_file, image_folder
from harness.data.polygons import Polygons
from harness.data.rle import Rle, checked_masks
from model.errors import InputError


@dataclass(frozen=True, slots=True)
class Category:
    """A category as the json has it; its label is its place in ``VideoDataset.categories``."""

    id: int
    name: str


@dataclass(frozen=True, slots=True)
class Track:
    """One annotated instance; ``segmentations`` has one mask a frame, None where absent."""

    annotation_id: int
    category: int
    """Contiguous label 0..K-1, in order of category id."""
    segmentations: tuple[Rle | Polygons | None, ...]
    """Compressed RLE; polygons where a COCO json has them."""
    iscrowd: bool


@dataclass(frozen=True, slots=True)
class Video:
    """One video; ``files`` are the frames in order. It may have none."""

    video_id: int
    name: str
    """Its folder; of a COCO image its file; "" of a video without frames."""
    height: int
    width: int
    files: tuple[Path, ...]
    tracks: tuple[Track, ...]

    @property
    def length(self) -> int:
        """L, number of frames."""
        return len(self.files)

    @property
    def is_empty(self) -> bool:
        """Whether it has no instance, crowds aside."""
        return all(track.iscrowd for track in self.tracks)


@dataclass(frozen=True)
class VideoDataset:
    """A split that was read and checked by :func:`load_dataset`, or a part of one."""

    root: Path
    split: str
    annotation_file: Path
    categories: tuple[Category, ...]
    videos: tuple[Video, ...]
    is_images: bool = False
    """Whether the videos are the images of a COCO json."""
    is_part: bool = False
    """Whether ``videos`` are some of the json's only."""

    def part(self, name: str, videos: Sequence[Video]) -> VideoDataset:
        """Some videos of this split, as a split of their own."""
        return dataclasses.replace(self, split=name, videos=tuple(videos), is_part=True)

    @cached_property
    def training_videos(self) -> tuple[Video, ...]:
        """The videos that clips are drawn from.

        Videos without frames cannot be. Those without an instance stay, as in the published configs, images
        too: they teach "no object".
        """
        return tuple(video for video in self.videos if video.length)

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
                if isinstance(segmentation, Polygons):
                    plane[:] = codes.decode(segmentation.rle(video.height, video.width))
                elif segmentation is not None:
                    plane[:] = codes.decode(segmentation)
        return out

    def checksum(self) -> str:
        """SHA-256 of the annotations and the names and sizes of all images, in order.

        Of a whole split the annotation file's bytes count; of a part the entries of exactly its videos.
        """
        return self._checksum

    @cached_property
    def _checksum(self) -> str:
        digest = hashlib.sha256(self._part_bytes() if self.is_part else self.annotation_file.read_bytes())
        for video in self.videos:
            for file in video.files:
                digest.update(f"{video.name}/{file.name} {file.stat().st_size}\n".encode())
        return digest.hexdigest()

    def _part_bytes(self) -> bytes:
        content = self.ground_truth()
        kept = {key: content.get(key) for key in ("categories", "videos", "annotations")}
        return json.dumps(kept, sort_keys=True, separators=(",", ":")).encode()

    def ground_truth(self) -> dict[str, Any]:
        """What the evaluator takes: the annotation json as it is on disk, or of a part its entries."""
        content = _read_json(self.annotation_file)
        if self.is_part:
            ids = {video.video_id for video in self.videos}
            content["videos"] = [entry for entry in content["videos"] if entry["id"] in ids]
            annotations = content.get("annotations") or []
            content["annotations"] = [entry for entry in annotations if entry["video_id"] in ids]
        return content


def load_dataset(root: Path, split: str) -> VideoDataset:
    """Read and check the annotations of ``split`` below ``root``. Frames are looked up, not decoded.

    Raises:
        InputError: one line that names the file, the video or annotation, the field, and what is allowed.
    """
    file = annotation_file(root, split)
    content = _read_json(file)
    is_images = is_image_json(content)
    if is_images:
        content = as_videos(content, file)
    _require_lists(content, file)
    categories = _categories(content["categories"], file)
    labels = {category.id: label for label, category in enumerate(categories)}
    entries = _video_entries(content["videos"], file)
    tracks: dict[int, list[Track]] = {video_id: [] for video_id in entries}
    annotation_ids: set[int] = set()
    for entry in content.get("annotations") or []:
        track, video_id = _track(entry, entries, labels, file, is_images)
        if track.annotation_id in annotation_ids:
            raise InputError(f"{file}: annotation {track.annotation_id}: id appears twice")
        annotation_ids.add(track.annotation_id)
        tracks[video_id].append(track)
    has_frames = any(entry["file_names"] for entry in entries.values())
    images = image_folder(root, split) if has_frames else root
    videos = tuple(_video(entry, images, tuple(tracks[i]), file, is_images) for i, entry in entries.items())
    return VideoDataset(root, split, file, categories, videos, is_images)


def has_annotations(root: Path, split: str) -> bool:
    """Whether the split has a json with annotations: the published ``valid.json`` has none."""
    file = find_annotation_file(root, split)
    return file is not None and bool(_read_json(file).get("annotations"))


def _read_json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_bytes())
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file}: not a json file ({error})") from None
    if not isinstance(content, dict):
        raise InputError(
            f"{file}: top level is a {type(content).__name__}; allowed: the object of a YouTube-VIS json, "
            "with videos, categories and annotations"
        )
    return content


def _require_lists(content: dict[str, Any], file: Path) -> None:
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
        if not isinstance(names, list):
            raise InputError(f"{where}: file_names: {type(names).__name__}; allowed: a list of paths")
        for index, name in enumerate(names):
            if not isinstance(name, str) or not name:
                raise InputError(f"{where}: file_names[{index}]: {name!r}; allowed: the path of a frame")
        if entry.get("length", len(names)) != len(names):
            raise InputError(f"{where}: length: {entry['length']!r}, but file_names has {len(names)} entries")
        by_id[entry["id"]] = entry
    return by_id


def _video(
    entry: dict[str, Any], images: Path, tracks: tuple[Track, ...], file: Path, is_image: bool
) -> Video:
    files = tuple(images / name for name in entry["file_names"])
    for index, frame in enumerate(files):
        if not _is_file(frame):
            where = (
                f"image {entry['id']}: file_name" if is_image else f"video {entry['id']}: file_names[{index}]"
            )
            raise InputError(f"{file}: {where}: no file {frame}")
    first = Path(entry["file_names"][0] if files else "")
    name = first.name if is_image else first.parent.name if files else ""
    return Video(entry["id"], name, entry["height"], entry["width"], files, tracks)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name too long for any file
        return False


def _track(
    entry: dict[str, Any],
    videos: dict[int, dict[str, Any]],
    labels: dict[int, int],
    file: Path,
    is_checked: bool,
) -> tuple[Track, int]:
    """A checked annotation, and the id of its video; ``is_checked``: its masks are."""
    where = f"{file}: annotation {entry['id']}"
    video_id, category_id = entry.get("video_id"), entry.get("category_id")
    if not _is_int(video_id) or video_id not in videos:
        raise InputError(f"{where}: video_id: {video_id!r}; allowed: the id of a video in this file")
    if not _is_int(category_id) or category_id not in labels:
        raise InputError(f"{where}: category_id: {category_id!r}; allowed: the id of a category in this file")
    video = videos[video_id]
    where = f"{where} ({'image' if is_checked else 'video'} {video_id})"
    length, size = len(video["file_names"]), (video["height"], video["width"])
    found = entry.get("segmentations")
    masks = tuple(found) if is_checked and found else checked_masks(found, length, size, where)
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
