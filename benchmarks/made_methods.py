"""Result files of made-up methods: annotated tracks that are moved, cut, exchanged, renamed or left out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco

from harness.data.rle import Rle
from harness.evaluation import encode_mask

Json = dict[str, Any]
FAULTS = ("near", "switching", "missing", "confused")
"""What the methods do wrong, in turn"""


def made_results(truth: Json, fault: str, seed: int = 0) -> list[Json]:
    """Results of a method with this fault, for every annotated track of a YouTube-VIS json.

    ``near``: masks are a few pixels away. ``switching``: from the middle of the video on, neighbouring
    tracks have each other's masks. ``missing``: every third track is not found, others end early.
    ``confused``: other classes, and a false find in every video.
    """
    rng = np.random.default_rng([seed, FAULTS.index(fault)])
    categories = [category["id"] for category in truth["categories"]]
    results: list[Json] = []
    for video in truth["videos"]:
        tracks = [each for each in truth["annotations"] if each["video_id"] == video["id"]]
        size = (video["height"], video["width"])
        for place, track in enumerate(tracks):
            masks = track["segmentations"]
            category = track["category_id"]
            if fault == "switching" and len(tracks) > 1:
                other = tracks[(place + 1) % len(tracks)]["segmentations"]
                masks = masks[: len(masks) // 2] + other[len(masks) // 2 :]
            if fault == "missing":
                if place % 3 == 2:
                    continue
                masks = masks[: 2 * len(masks) // 3] + [None] * (len(masks) - 2 * len(masks) // 3)
            if fault == "confused" and rng.random() < 0.5:
                category = categories[int(rng.integers(len(categories)))]
            far = max(1, min(size) // (60 if fault == "near" else 30))
            moved = [_moved(mask, size, far, rng) for mask in masks]
            results.append(_entry(video["id"], category, rng.uniform(0.4, 0.99), moved))
        if fault == "confused" and tracks:
            box = np.zeros(size, bool)
            top, left = (int(rng.integers(0, side * 2 // 3)) for side in size)
            box[top : top + size[0] // 4, left : left + size[1] // 5] = True
            ghost = [encode_mask(np.roll(box, 2 * at, 1)) for at in range(len(tracks[0]["segmentations"]))]
            results.append(_entry(video["id"], categories[0], rng.uniform(0.35, 0.6), ghost))
    return results


def write_methods(folder: Path, truth: Json, faults: tuple[str, ...] = FAULTS) -> dict[str, Path]:
    """A result file for each fault; paths by name."""
    files = {}
    for fault in faults:
        files[fault] = folder / f"{fault}.json"
        files[fault].write_text(json.dumps(made_results(truth, fault)))
    return files


def _entry(video: int, category: int, score: float, masks: list[Rle | None]) -> Json:
    return {"video_id": video, "category_id": category, "score": round(score, 4), "segmentations": masks}


def _moved(mask: Rle | None, size: tuple[int, int], far: int, rng: np.random.Generator) -> Rle | None:
    if mask is None:
        return None
    code = coco.frPyObjects(mask, *size) if isinstance(mask["counts"], list) else mask
    plane: NDArray[np.bool_] = np.roll(coco.decode(code), rng.integers(-far, far + 1, 2), (0, 1)) > 0
    return encode_mask(plane)
