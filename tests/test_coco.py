"""COCO's instances json read as videos of one frame: masks as pycocotools has them, and bad input named."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as codes
from pycocotools.coco import COCO

from harness.config import DataConfig, TrainConfig
from harness.data.clips import ClipSampler
from harness.data.polygons import Polygons, checked_polygons
from harness.data.source import find_data
from harness.data.splits import load_scored, load_training
from harness.data.ytvis import VideoDataset, load_dataset
from harness.evaluation import encode_tracks
from harness.image_evaluation import evaluate_images
from model.errors import InputError

H, W = 16, 24
POLYGON = [2.0, 2.0, 12.5, 3.0, 9.25, 14.0]
SQUARE = [14, 4, 20, 4, 20, 10, 14, 10]


def compressed() -> dict[str, Any]:
    mask = np.zeros((H, W), np.uint8)
    mask[3:9, 5:20] = 1
    code = codes.encode(np.asfortranarray(mask))
    return {"size": [H, W], "counts": code["counts"].decode()}


def content() -> dict[str, Any]:
    """Four images: polygons; a crowd beside an instance; a crowd alone; nothing."""

    def annotation(number: int, image: int, category: int, segmentation: Any, crowd: int = 0) -> Any:
        return {
            "id": number,
            "image_id": image,
            "category_id": category,
            "segmentation": segmentation,
            "iscrowd": crowd,
            "area": 70.5,
            "bbox": [0, 0, 1, 1],
        }

    data = {
        "info": {},
        "licenses": [],
        "categories": [{"id": 90, "name": "late"}, {"id": 1, "name": "early", "supercategory": "x"}],
        "images": [
            {"id": number, "file_name": f"{number:012d}.jpg", "height": H, "width": W, "license": 1}
            for number in (139, 9, 25, 30)
        ],
        "annotations": [
            annotation(1, 139, 90, [POLYGON]),
            annotation(2, 139, 1, [POLYGON, SQUARE]),
            annotation(3, 9, 90, {"size": [H, W], "counts": [0, H, H * W - H]}, crowd=1),
            annotation(900100000004, 9, 90, compressed()),
            annotation(5, 25, 1, {"size": [H, W], "counts": [H, H * W - H]}, crowd=1),
        ],
    }
    return copy.deepcopy(data)


def write(root: Path, data: Any, split: str = "train2017") -> Path:
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(data))
    (root / split).mkdir(exist_ok=True)
    for number in (139, 9, 25, 30):
        Image.new("RGB", (W, H), (number, 0, 0)).save(root / split / f"{number:012d}.jpg", quality=95)
    return root


@pytest.fixture
def dataset(tmp_path: Path) -> VideoDataset:
    return load_dataset(write(tmp_path / "coco", content()), "train2017")


def test_images_are_videos_of_one_frame(dataset: VideoDataset) -> None:
    assert [(video.video_id, video.length) for video in dataset.videos] == [
        (139, 1),
        (9, 1),
        (25, 1),
        (30, 1),
    ]
    assert [(c.id, c.name) for c in dataset.categories] == [(1, "early"), (90, "late")]
    first, second, *_ = dataset.videos
    assert first.name == "000000000139.jpg"
    assert [(t.annotation_id, t.category, t.iscrowd) for t in second.tracks] == [
        (3, 1, True),
        (900100000004, 1, False),
    ]
    frames = dataset.frames(first, [0])
    assert frames.shape == (1, 3, H, W)
    assert frames[0, 0].mean() == pytest.approx(139, abs=3)


def test_masks_are_those_of_pycocotools(dataset: VideoDataset) -> None:
    original = COCO(str(dataset.annotation_file))
    seen = 0
    for video in dataset.videos:
        masks = dataset.masks(video, [0])
        for track, mask in zip(video.tracks, masks, strict=True):
            wanted = original.annToMask(original.anns[track.annotation_id])
            assert np.array_equal(mask[0], wanted > 0), track.annotation_id
            seen += int(mask.any())
    assert seen == 5


coordinates = st.floats(-10, 40, allow_nan=False)
outlines = st.lists(
    st.integers(3, 9).flatmap(lambda n: st.lists(coordinates, min_size=2 * n, max_size=2 * n)),
    min_size=1,
    max_size=3,
)


@settings(max_examples=60, deadline=None)
@given(outlines)
def test_any_polygons_are_drawn_as_pycocotools_draws_them(found: list[list[float]]) -> None:
    code = checked_polygons(found, (H, W), "here").rle(H, W)
    wanted = codes.merge(codes.frPyObjects(copy.deepcopy(found), H, W))
    assert np.array_equal(codes.decode(code), codes.decode(wanted))


def test_images_without_an_instance_stay(tmp_path: Path) -> None:
    for split in ("train2017", "val2017"):
        write(tmp_path, content(), split)
    source = find_data(DataConfig(benchmark="coco"), tmp_path, "sweep.yaml")
    assert (source.config.train, source.config.valid) == ("train2017", "val2017")
    assert source.description == "4 training images, scored on the 4 of val2017.json"
    training = load_training(tmp_path, source.config)
    assert [video.video_id for video in training.training_videos] == [
        video.video_id for video in training.videos
    ]
    assert len(load_scored(tmp_path, source.config).videos) == 4
    sampler = ClipSampler(training, TrainConfig(frames_per_clip=1, short_sides=(16,), flip=0.0), 0)
    clips = [sampler.clip(index) for index in range(4)]
    labels = {tuple(sorted(clip.labels.tolist())) for clip in clips}
    assert labels == {(0, 1), (1,), ()}, "crowds are no targets"
    assert all(clip.frames.shape == (1, 3, H, W) for clip in clips)


def test_only_crowds_are_nothing_to_train_on(tmp_path: Path) -> None:
    data = content()
    data["annotations"] = [entry for entry in data["annotations"] if entry["iscrowd"]]
    write(tmp_path, data)
    with pytest.raises(InputError, match=r"instances_train2017\.json: nothing to train on: no image has"):
        load_training(tmp_path, DataConfig(benchmark="coco", valid="val2017"))
    with pytest.raises(InputError, match=r"no annotations to score against .* name an annotated json with"):
        load_scored(tmp_path, DataConfig(benchmark="coco", valid="train2017"))


def test_the_ground_truth_is_what_the_evaluator_takes(dataset: VideoDataset) -> None:
    truth = dataset.ground_truth()
    assert truth == json.loads(dataset.annotation_file.read_bytes())
    results = []
    for video in dataset.videos:
        kept = [track for track in video.tracks if not track.iscrowd]
        masks = dataset.masks(video, [0])[[not track.iscrowd for track in video.tracks]]
        ids = [dataset.categories[track.category].id for track in kept]
        results += encode_tracks(video.video_id, [0.5] * len(kept), ids, masks)
    assert len(results) == sum(not entry["iscrowd"] for entry in truth["annotations"])
    assert evaluate_images(truth, results)["AP"] == pytest.approx(1.0)


def test_polygons_stay_small_in_memory(dataset: VideoDataset) -> None:
    [kept] = dataset.videos[0].tracks[0].segmentations
    assert isinstance(kept, Polygons)
    assert [(outline.itemsize, list(outline)) for outline in kept.outlines] == [(8, POLYGON)]


# ----------------------------------------------------------------------------------------------- bad input


def put(*path: str | int, value: object) -> Callable[[dict[str, Any]], object]:
    def edit(data: Any) -> object:
        target = data
        for step in path[:-1]:
            target = target[step]
        target[path[-1]] = value
        return data

    return edit


IMAGE, FIRST, CROWD = ("images", 0), ("annotations", 0), ("annotations", 2)
MASK = "annotation 1 (image 139): segmentation"
BAD: dict[str, Callable[[dict[str, Any]], object]] = {
    "images: dict; allowed: a list": put("images", value={}),
    "images[0]: int; allowed: an object": put("images", 0, value=5),
    "images[0]: id: '9'": put(*IMAGE, "id", value="9"),
    "image 9: id appears twice": put(*IMAGE, "id", value=9),
    "image 139: height: 0": put(*IMAGE, "height", value=0),
    "image 139: width: None": put(*IMAGE, "width", value=None),
    "image 139: file_name: None": put(*IMAGE, "file_name", value=None),
    "categories: str": put("categories", value="x"),
    "annotations: dict": put("annotations", value={}),
    "annotation 1: image_id: 77": put(*FIRST, "image_id", value=77),
    "annotation 1: image_id: None": put(*FIRST, "image_id", value=None),
    "annotation 1: category_id: 2;": put(*FIRST, "category_id", value=2),
    "annotation 1 (image 139): iscrowd: 'no'": put(*FIRST, "iscrowd", value="no"),
    "annotation 2: id appears twice": put(*FIRST, "id", value=2),
    f"{MASK}: NoneType": put(*FIRST, "segmentation", value=None),
    f"{MASK}: empty list": put(*FIRST, "segmentation", value=[]),
    f"{MASK}[0]: float": put(*FIRST, "segmentation", value=POLYGON),
    f"{MASK}[1]: 4 numbers": put(*FIRST, "segmentation", value=[POLYGON, [1, 2, 3, 4]]),
    f"{MASK}[0]: 7 numbers": put(*FIRST, "segmentation", value=[[*POLYGON, 1]]),
    f"{MASK}[0]: not all entries are numbers": put(*FIRST, "segmentation", 0, 3, value="3"),
    f"{MASK}[0]: nan": put(*FIRST, "segmentation", 0, 3, value=float("nan")),
    f"{MASK}[0]: -inf": put(*FIRST, "segmentation", 0, 0, value=float("-inf")),
    f"{MASK}[0]: 1000000000.0": put(*FIRST, "segmentation", 0, 5, value=1e9),
    "annotation 3 (image 9): segmentation: size: [24, 16]": put(*CROWD, "segmentation", "size", value=[W, H]),
    "annotation 3 (image 9): segmentation: counts: runs of 3 pixels": put(
        *CROWD, "segmentation", "counts", value=[1, 2]
    ),
    "annotation 3 (image 9): segmentation: counts: not a compressed RLE": put(
        *CROWD, "segmentation", "counts", value="\x01"
    ),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_json_is_named(message: str, tmp_path: Path) -> None:
    write(tmp_path, BAD[message](content()))
    with pytest.raises(InputError) as caught:
        load_dataset(tmp_path, "train2017")
    assert str(caught.value).startswith(f"{tmp_path}/annotations/instances_train2017.json: {message}")
    assert "\n" not in str(caught.value)


def test_a_missing_image_is_named(tmp_path: Path) -> None:
    write(tmp_path, content())
    (tmp_path / "train2017" / "000000000025.jpg").unlink()
    with pytest.raises(InputError, match=r"image 25: file_name: no file .*train2017/000000000025\.jpg"):
        load_dataset(tmp_path, "train2017")
