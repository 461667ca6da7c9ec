"""The whole road on data with empty videos, short ones, ones without instances, and on images."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.small_road import IFC_ONLY, Road, make_road

H, W = 32, 48
pytestmark = pytest.mark.slow

LENGTHS = {"long": 8, "short": 1, "bare": 4, "empty": 0, "crowd": 3}
SWEEP: dict[str, Any] = {
    **copy.deepcopy(IFC_ONLY),
    "seeds": 1,
    "measure": ["ap", "speed"],
}


def write_pictures(folder: Path, names: list[str]) -> None:
    rng = np.random.default_rng(0)
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (H, W, 3), dtype=np.uint8)).save(folder / name)


def write_videos(root: Path, split: str) -> None:
    """One video of each kind; the annotated ones show a box."""
    box = {"size": [H, W], "counts": [4 * H, 12 * H, H * W - 16 * H]}
    videos, annotations = [], []
    for number, (name, length) in enumerate(LENGTHS.items(), 1):
        files = [f"{name}/{t:05d}.jpg" for t in range(length)]
        write_pictures(root / split / "JPEGImages", files)
        videos.append({"id": number, "height": H, "width": W, "length": length, "file_names": files})
        entry = {"id": number, "video_id": number, "category_id": 1 + number % 2, "iscrowd": 0}
        if name != "bare":
            masks = [None if t == 2 else box for t in range(length)]
            annotations.append({**entry, "iscrowd": int(name == "crowd"), "segmentations": masks})
    content = {
        "categories": [{"id": 1, "name": "one"}, {"id": 2, "name": "two"}],
        "videos": videos,
        "annotations": annotations,
    }
    (root / f"{split}.json").write_text(json.dumps(content))


def write_images(root: Path, split: str) -> None:
    """Two images with an instance, one with a crowd, one with nothing."""
    polygon = [4, 2, 30, 3, 20, 28]
    images = [{"id": 10 * i, "file_name": f"{i}.jpg", "height": H, "width": W} for i in range(4)]
    write_pictures(root / split, [image["file_name"] for image in images])  # type: ignore[misc]
    annotations: list[dict[str, Any]] = [
        {
            "id": i,
            "image_id": 10 * i,
            "category_id": 1,
            "iscrowd": 0,
            "area": 330.0,
            "segmentation": [polygon],
        }
        for i in range(2)
    ]
    crowd = {"size": [H, W], "counts": [0, H * W]}
    annotations.append(
        {"id": 2, "image_id": 20, "category_id": 1, "iscrowd": 1, "area": H * W, "segmentation": crowd}
    )
    content = {"categories": [{"id": 1, "name": "one"}], "images": images, "annotations": annotations}
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))


def finished(road: Road) -> dict[str, Any]:
    done = road.run()
    assert done.returncode == 0, done.stderr + done.stdout
    rows = road.rows
    assert set(rows["status"]) == {"done"}
    assert rows["AP"].between(0, 100).all()
    assert (rows["fps"] > 0).all()
    row: dict[str, Any] = rows.iloc[0].to_dict()
    return row


@pytest.mark.parametrize("valid", ["valid", "ytvis19-holdout-v1"])
def test_videos_of_every_kind(valid: str, tmp_path: Path) -> None:
    data = tmp_path / "data"
    write_videos(data, "train")
    sweep = copy.deepcopy(SWEEP)
    if valid == "valid":
        write_videos(data, "valid")
        scored = len(LENGTHS)
    else:  # the rule holds out "v02", and "empty", whose name without frames is ""
        held_out = json.loads((data / "train.json").read_text())
        extra = copy.deepcopy(held_out["videos"][0])
        extra |= {"id": 9, "file_names": [f"v02/{t:05d}.jpg" for t in range(8)]}
        write_pictures(data / "train" / "JPEGImages", extra["file_names"])
        held_out["videos"].append(extra)
        held_out["annotations"].append({**held_out["annotations"][0], "id": 9, "video_id": 9})
        (data / "train.json").write_text(json.dumps(held_out))
        scored = 1
    row = finished(make_road(tmp_path / "road", sweep, "--data", str(data)))
    assert (row["split"], row["scored_videos"]) == (valid, scored)
    results = list((tmp_path / "road" / "results" / "trials").rglob("results.json"))
    assert len(results) == 2
    for file in results:
        entries = json.loads(file.read_text())
        assert all(entry["segmentations"] for entry in entries), "the empty video has no results"


def test_images(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for split in ("train2017", "val2017"):
        write_images(data, split)
    sweep = copy.deepcopy(SWEEP)
    sweep["settings"] = {
        "data": {"benchmark": "coco"},
        "train": {
            "frames_per_clip": 1,
            "max_long_side": 60,
            "crop": 0.5,
            "crop_short_sides": [24, 40],
            "crop_range": [20, 36],
        },
    }
    sweep["axes"]["inference.window"] = [1, 2]
    row = finished(make_road(tmp_path / "road", sweep, "--data", str(data)))
    assert (row["split"], row["scored_videos"]) == ("val2017", 4)
    assert row["data_description"] == "4 training images, scored on the 4 of val2017.json"
