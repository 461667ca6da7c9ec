"""The embedded data set: seeded videos of moving shapes, written as a real YouTube-VIS folder.

``synthetic_scene.py`` draws the pictures; this file gives them names, masks and annotations and puts
the folder on disk, whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as rle

from harness.config import SyntheticConfig
from harness.data.synthetic_cast import CATEGORY_NAMES
from harness.data.synthetic_scene import Scene, render_scene
from harness.provenance import code_version
from model.errors import InputError

JPEG_QUALITY = 92
GENERATOR = tuple(f"harness/data/synthetic{part}.py" for part in ("", "_cast", "_scene"))
SPLITS = ("train", "valid")
RECEIPT = "complete.json"
"""Checksums of a finished folder; written last."""

Progress = Callable[[int, int], None]


def write_dataset(config: SyntheticConfig, root: Path, progress: Progress | None = None) -> None:
    """Generate the data set as the folder ``root``, which must not exist yet.

    Writes ``{train,valid}.json`` and ``{train,valid}/JPEGImages/<video>/<frame>.jpg``, in the layout of
    YouTube-VIS 2019. Masks hold visible pixels only. The same configuration gives the same bytes, and
    each video depends on (configuration, split, index) alone, never on how many videos there are.

    Args:
        progress: called as ``progress(videos done, videos in all)``.

    Raises:
        InputError: ``root`` exists, or the instances do not fit the frame.
    """
    if root.exists():
        raise InputError(f"{root}: already exists; the data set is written to a new folder only")
    root.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{root.name}-", dir=root.parent))
    try:
        total, done = config.train_videos + config.valid_videos, 0
        for number, split in enumerate(SPLITS):
            videos: list[dict[str, Any]] = []
            annotations: list[dict[str, Any]] = []
            count = config.train_videos if split == "train" else config.valid_videos
            for index in range(count):
                scene = render_scene(config, np.random.default_rng([config.seed, number, index]))
                _write_video(draft / split / "JPEGImages", split, index, scene, videos, annotations)
                done += 1
                if progress is not None:
                    progress(done, total)
            (draft / f"{split}.json").write_text(_annotation_text(config, videos, annotations), "utf-8")
        (draft / RECEIPT).write_text(json.dumps(_receipt(draft), indent=1) + "\n", "utf-8")
        draft.chmod(0o755)  # mkdtemp's 0700 would hide a shared cache from other users
        draft.rename(root)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def cached_dataset(config: SyntheticConfig, cache: Path, progress: Progress | None = None) -> Path:
    """The folder of ``config`` inside ``cache``: generated on first use, checked and reused afterwards.

    Its name changes with the configuration and with the generator's source. Two processes may ask at
    once: both generate, one rename wins, the other's work is discarded.

    Raises:
        InputError: the folder is there but damaged, or ``cache`` cannot be written to.
    """
    folder = cache / dataset_name(config)
    if not folder.exists():
        try:
            write_dataset(config, folder, progress)
        except InputError:
            if not folder.exists():
                raise
        except OSError as error:
            if not folder.exists():
                raise InputError(
                    f"{cache}: the synthetic data set cannot be written here ({error})"
                ) from None
    _verify(folder)
    return folder


def dataset_name(config: SyntheticConfig) -> str:
    """Name of the data set's folder: a hash of its configuration and of the generator's code."""
    code = code_version(GENERATOR)
    content = json.dumps([config.model_dump(), code], sort_keys=True)
    return f"synthetic-{hashlib.sha256(content.encode()).hexdigest()[:12]}"


def describe(config: SyntheticConfig) -> str:
    """One sentence for captions: size, number and difficulty of the videos."""
    return (
        f"embedded synthetic videos ({config.train_videos} for training, {config.valid_videos} scored) of "
        f"{config.length} frame{'s' * (config.length > 1)} of {config.height}x{config.width}, "
        f"{config.categories} categories, up to {config.max_instances} instances of "
        f"{config.min_size}-{config.max_size} px, speed up to {config.speed:g} px a frame, "
        f"texture {config.texture:g}, probabilities of overlap "
        f"{config.overlap:g}, absence {config.absence:g}, look-alikes {config.look_alike:g}, "
        f"blur {config.blur:g}{_withheld(config)}"
    )


def _withheld(config: SyntheticConfig) -> str:
    """What single frames do not show."""
    shares = {"lost frames": config.lost, "frames in disguise": config.disguise}
    said = [f"{what} {share:.0%}" for what, share in shares.items() if share]
    return f"; {', '.join(said)}" if said else ""


def _write_video(
    images: Path,
    split: str,
    index: int,
    scene: Scene,
    videos: list[dict[str, Any]],
    annotations: list[dict[str, Any]],
) -> None:
    """Write a video's frames below ``images`` and append its json entries."""
    L, H, W = scene.labels.shape
    name = f"{split}_{index:05d}"
    files = [f"{name}/{t:05d}.jpg" for t in range(L)]
    (images / name).mkdir(parents=True)
    for file, frame in zip(files, scene.frames, strict=True):
        Image.fromarray(frame).save(images / file, quality=JPEG_QUALITY)
    video = {"id": index + 1, "width": W, "height": H, "length": L, "file_names": files}
    if scene.lost.any():
        video["lost"] = np.flatnonzero(scene.lost).tolist()
    videos.append(video)
    for label, category in enumerate(scene.categories):
        masks = np.asfortranarray((scene.labels == label).transpose(1, 2, 0), np.uint8)
        encoded = rle.encode(masks)
        areas = [int(a) for a in rle.area(encoded)]
        boxes = [[float(v) for v in box] for box in rle.toBbox(encoded)]
        segmentations = [{"size": [H, W], "counts": r["counts"].decode("ascii")} for r in encoded]
        annotations.append(
            {
                "id": len(annotations) + 1,
                "video_id": index + 1,
                "category_id": category + 1,
                "iscrowd": 0,
                "width": W,
                "height": H,
                "length": L,
                "segmentations": [s if a else None for s, a in zip(segmentations, areas, strict=True)],
                "bboxes": [b if a else None for b, a in zip(boxes, areas, strict=True)],
                "areas": [a or None for a in areas],
            }
        )


def _annotation_text(
    config: SyntheticConfig, videos: list[dict[str, Any]], annotations: list[dict[str, Any]]
) -> str:
    return json.dumps(
        {
            "info": {"description": "synthetic moving shapes", "config": config.model_dump()},
            "licenses": [],
            "categories": [{"id": i + 1, "name": CATEGORY_NAMES[i]} for i in range(config.categories)],
            "videos": videos,
            "annotations": annotations,
        }
    )


def _receipt(folder: Path) -> dict[str, str]:
    """Checksums that are cheap to take: the bytes of the annotations, the names and sizes of the images."""
    receipt = {
        f"{split}.json": hashlib.sha256((folder / f"{split}.json").read_bytes()).hexdigest()
        for split in SPLITS
    }
    images = hashlib.sha256()
    for split in SPLITS:
        for video in sorted(os.scandir(folder / split / "JPEGImages"), key=lambda entry: entry.name):
            for file in sorted(os.scandir(video), key=lambda entry: entry.name):
                images.update(f"{split}/{video.name}/{file.name} {file.stat().st_size}\n".encode())
    receipt["images"] = images.hexdigest()
    return receipt


def _verify(folder: Path) -> None:
    advice = "delete this folder; it is generated again on the next run"
    try:
        expected = json.loads((folder / RECEIPT).read_text("utf-8"))
        found = _receipt(folder)
    except (OSError, ValueError) as error:
        raise InputError(f"{folder}: damaged synthetic data set ({error}); {advice}") from None
    if found != expected:
        parts = ", ".join(key for key in found if found[key] != dict(expected).get(key))
        raise InputError(f"{folder}: damaged synthetic data set (changed: {parts}); {advice}")
