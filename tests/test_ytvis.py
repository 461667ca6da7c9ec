"""Reading YouTube-VIS folders: what comes out of a good one, and how each kind of bad one is named."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco

from harness.config import DataConfig
from harness.data.splits import load_training
from harness.data.ytvis import VideoDataset, load_dataset
from model.errors import InputError

H, W, L = 12, 16, 3
REAL = Path(__file__).resolve().parents[2] / "shared" / "data" / "ytvis_mini"
needs_real = pytest.mark.skipif(
    not REAL.is_dir(), reason="the real footage ytvis_mini is not on this machine"
)


def rle(mask: np.ndarray) -> dict[str, Any]:
    code = coco.encode(np.asfortranarray(mask, np.uint8))
    return {"size": list(mask.shape), "counts": code["counts"].decode()}


def left_half() -> np.ndarray:
    mask = np.zeros((H, W), bool)
    mask[:, : W // 2] = True
    return mask


def content() -> dict[str, Any]:
    """Two videos of three frames; category ids are neither contiguous nor in order."""
    names = {5: "a", 2: "b"}
    return {
        "info": {},
        "categories": [{"id": 30, "name": "late"}, {"id": 4, "name": "early"}],
        "videos": [
            {
                "id": i,
                "width": W,
                "height": H,
                "length": L,
                "file_names": [f"{name}/{t:05d}.jpg" for t in range(L)],
            }
            for i, name in names.items()
        ],
        "annotations": [
            {
                "id": 1,
                "video_id": 2,
                "category_id": 30,
                "iscrowd": 1,
                "segmentations": [None, rle(left_half()), {"size": [H, W], "counts": [0, H, H * W - H]}],
            }
        ],
    }


def write_json(root: Path, data: Any, split: str = "train") -> Path:
    (root / f"{split}.json").write_text(json.dumps(data))
    return root


def write(root: Path, data: Any, split: str = "train") -> Path:
    for name in ("a", "b"):
        folder = root / split / "JPEGImages" / name
        folder.mkdir(parents=True, exist_ok=True)
        for t in range(L):
            Image.new("RGB", (W, H), (200, 20 * t, 0)).save(folder / f"{t:05d}.jpg", quality=95)
    return write_json(root, data, split)


@pytest.fixture
def dataset(tmp_path: Path) -> VideoDataset:
    return load_dataset(write(tmp_path / "set", content()), "train")


def test_reads_videos_and_tracks(dataset: VideoDataset) -> None:
    first, second = dataset.videos
    assert (first.name, first.length, first.tracks) == ("a", L, ())
    assert (second.video_id, second.name, second.height, second.width) == (2, "b", H, W)
    assert [(c.id, c.name) for c in dataset.categories] == [(4, "early"), (30, "late")]
    (track,) = second.tracks
    assert (track.annotation_id, track.category, track.iscrowd) == (1, 1, True)
    assert dataset.ground_truth() == content()


def test_frames_are_rgb_planes_in_the_order_asked(dataset: VideoDataset) -> None:
    frames = dataset.frames(dataset.videos[0], [2, 0, 2])
    assert frames.shape == (3, 3, H, W)
    assert frames.dtype == np.uint8
    means = frames.astype(float).mean((2, 3))
    assert means == pytest.approx(np.array([[200, 40, 0], [200, 0, 0], [200, 40, 0]]), abs=4)


def test_masks_of_absent_and_uncompressed_frames(dataset: VideoDataset) -> None:
    masks = dataset.masks(dataset.videos[1], [0, 1, 2])
    assert masks.shape == (1, 3, H, W)
    assert not masks[0, 0].any()
    assert np.array_equal(masks[0, 1], left_half())
    assert np.array_equal(np.argwhere(masks[0, 2])[:, 1], np.zeros(H))
    assert dataset.masks(dataset.videos[0], [1]).shape == (0, 1, H, W)


def test_checksum_follows_annotations_and_images(tmp_path: Path) -> None:
    root = write(tmp_path / "one", content())
    shutil.copytree(root, tmp_path / "two")
    first = load_dataset(root, "train").checksum()
    assert load_dataset(tmp_path / "two", "train").checksum() == first
    with (root / "train/JPEGImages/a/00000.jpg").open("ab") as file:
        file.write(b"x")
    assert load_dataset(root, "train").checksum() != first
    (tmp_path / "two" / "train.json").write_text(json.dumps(content(), indent=1))
    assert load_dataset(tmp_path / "two", "train").checksum() != first


def test_annotations_folder_and_images_of_a_derived_split(tmp_path: Path) -> None:
    root = write(tmp_path, content(), "valid")
    (root / "annotations").mkdir()
    (root / "valid.json").rename(root / "annotations" / "valid_seen.json")
    video = load_dataset(root, "valid_seen").videos[0]
    assert video.files[0] == root / "valid/JPEGImages/a/00000.jpg"


@pytest.mark.parametrize("annotations", ["absent", None, []])
def test_only_a_training_split_needs_annotations(annotations: object, tmp_path: Path) -> None:
    data = content()
    data["annotations"] = annotations
    if annotations == "absent":
        del data["annotations"]
    assert load_dataset(write(tmp_path, data, "valid"), "valid").videos[1].tracks == ()
    for name in ("train", "mine"):
        write(tmp_path, data, name)
        with pytest.raises(InputError, match=rf"{name}\.json: annotations: none; a split to train on"):
            load_training(tmp_path, DataConfig(train=name, valid="valid"))


def test_a_video_without_frames(tmp_path: Path) -> None:
    data = content()
    data["videos"][0] = {"id": 5, "width": W, "height": H, "length": 0, "file_names": []}
    data["annotations"].append({"id": 2, "video_id": 5, "category_id": 4, "iscrowd": 0, "segmentations": []})
    dataset = load_dataset(write(tmp_path, data), "train")
    empty, other = dataset.videos
    assert (empty.name, empty.length, len(empty.tracks)) == ("", 0, 1)
    assert dataset.frames(empty, []).shape == (0, 3, H, W)
    assert dataset.masks(empty, []).shape == (1, 0, H, W)
    assert dataset.training_videos == (other,)
    shutil.rmtree(tmp_path / "train")
    nothing = {**data, "videos": data["videos"][:1], "annotations": []}
    assert load_dataset(write_json(tmp_path, nothing), "train").training_videos == ()


def put(*path: str | int, value: object) -> Callable[[dict[str, Any]], object]:
    def edit(data: Any) -> object:
        target = data
        for step in path[:-1]:
            target = target[step]
        target[path[-1]] = value
        return data

    return edit


def drop(key: str) -> Callable[[dict[str, Any]], object]:
    return lambda data: {k: v for k, v in data.items() if k != key}


VIDEO, TRACK = ("videos", 0), ("annotations", 0)
POLYGON = [[0, 0, 4, 0, 4, 4]]
FULL = rle(np.ones((H, W), bool))
BAD_JSON: dict[str, Callable[[dict[str, Any]], object]] = {
    "top level is a list": lambda data: [data],
    "images: empty list": lambda data: {**drop("videos")(data), "images": []},  # type: ignore[dict-item]
    "key videos is missing": drop("videos"),
    "key categories is missing": drop("categories"),
    "videos: empty list": put("videos", value=[]),
    "categories: empty list": put("categories", value=[]),
    "videos: dict; allowed: a list": put("videos", value={}),
    "annotations[0]: int; allowed: an object": put("annotations", value=[1]),
    "videos[0]: id: 'x'": put(*VIDEO, "id", value="x"),
    "video 2: id appears twice": put(*VIDEO, "id", value=2),
    "video 5: height: None": put(*VIDEO, "height", value=None),
    "video 5: width: 0": put(*VIDEO, "width", value=0),
    "video 5: length: 9, but file_names has 3": put(*VIDEO, "length", value=9),
    "video 5: length: 3, but file_names has 0": put(*VIDEO, "file_names", value=[]),
    "video 5: length: 'x', but file_names has 3": put(*VIDEO, "length", value="x"),
    "video 5: file_names: NoneType": put(*VIDEO, "file_names", value=None),
    "video 5: file_names[1]: 7": put(*VIDEO, "file_names", 1, value=7),
    "video 5: file_names[0]: no file": put(*VIDEO, "file_names", value=["a/9.jpg"] * L),
    "annotation 1: video_id: 77": put(*TRACK, "video_id", value=77),
    "annotation 1: video_id: None": put(*TRACK, "video_id", value=None),
    "annotation 1: category_id: 77": put(*TRACK, "category_id", value=77),
    "annotation 1 (video 2): iscrowd: 2": put(*TRACK, "iscrowd", value=2),
    "annotation 1 (video 2): segmentations: NoneType": put(*TRACK, "segmentations", value=None),
    "annotation 1 (video 2): segmentations: 1 entries": put(*TRACK, "segmentations", value=[None]),
    "annotation 1 (video 2): segmentations[0]: a polygon": put(*TRACK, "segmentations", value=[POLYGON] * L),
    "annotation 1 (video 2): segmentations[2]: str": put(*TRACK, "segmentations", 2, value="abc"),
    "annotation 1 (video 2): segmentations[1]: size: [16, 12]": put(
        *TRACK, "segmentations", 1, "size", value=[W, H]
    ),
    "annotation 1 (video 2): segmentations[1]: counts: runs of": put(
        *TRACK, "segmentations", 1, "counts", value="11"
    ),
    "annotation 1: id appears twice": lambda data: put(
        "annotations", value=[data["annotations"][0], copy.deepcopy(data["annotations"][0])]
    )(data),
}


@pytest.mark.parametrize("message", BAD_JSON)
def test_bad_json_is_named(message: str, tmp_path: Path) -> None:
    write(tmp_path, BAD_JSON[message](content()))
    with pytest.raises(InputError) as caught:
        load_dataset(tmp_path, "train")
    assert str(caught.value).startswith(f"{tmp_path / 'train.json'}: {message}")
    assert "\n" not in str(caught.value)


def test_not_json(tmp_path: Path) -> None:
    write(tmp_path, {})
    (tmp_path / "train.json").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(InputError, match=r"train\.json: not a json file"):
        load_dataset(tmp_path, "train")


def test_missing_and_empty_folders(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"nowhere: no such folder; looked for train\.json, annotations/train\.json, "
    ):
        load_dataset(tmp_path / "nowhere", "train")
    with pytest.raises(InputError, match=r"the folder is empty; .* annotations/instances_train\.json"):
        load_dataset(tmp_path, "train")
    write(tmp_path, content())
    with pytest.raises(InputError, match="no annotations of split 'valid'"):
        load_dataset(tmp_path, "valid")
    shutil.rmtree(tmp_path / "train" / "JPEGImages")
    with pytest.raises(InputError, match=r"video 5: file_names\[0\]: no file .*train/a/00000\.jpg"):
        load_dataset(tmp_path, "train")
    (tmp_path / "train").rmdir()
    with pytest.raises(InputError, match=r"no images of split 'train'; .* train/JPEGImages, train$"):
        load_dataset(tmp_path, "train")


@pytest.mark.parametrize("damage", ["truncated", "text", "empty"])
def test_broken_picture_is_named(damage: str, dataset: VideoDataset) -> None:
    file = dataset.videos[0].files[1]
    whole = file.read_bytes()
    file.write_bytes({"truncated": whole[: len(whole) - 40], "text": b"no picture", "empty": b""}[damage])
    dataset.frames(dataset.videos[0], [0, 2])
    with pytest.raises(InputError) as caught:
        dataset.frames(dataset.videos[0], [1])
    assert str(caught.value).startswith(f"{file}: cannot be decoded")
    assert "\n" not in str(caught.value)


def test_picture_of_another_size_is_named(dataset: VideoDataset) -> None:
    file = dataset.videos[0].files[1]
    Image.new("RGB", (H, W)).save(file)
    with pytest.raises(InputError, match=r"00001\.jpg: 16x12 \(height x width\), but video 5 says 12x16"):
        dataset.frames(dataset.videos[0], [1])


@needs_real
@pytest.mark.parametrize(("split", "videos"), [("train", 11), ("valid", 3), ("valid_seen", 5)])
def test_real_footage(split: str, videos: int) -> None:
    dataset = load_dataset(REAL, split)
    assert len(dataset.videos) == videos
    video = dataset.videos[-1]
    frames, masks = dataset.frames(video, [0, 1]), dataset.masks(video, [0, 1])
    assert frames.shape == (2, 3, video.height, video.width)
    assert frames.std() > 10
    assert masks.shape == (len(video.tracks), 2, video.height, video.width)
    assert masks.any((1, 2, 3)).all()
    assert 0.001 < masks.mean() < 0.8
