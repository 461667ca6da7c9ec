"""The embedded data set: the same bytes every time, true masks, and every knob does what it says."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.config import SyntheticConfig
from harness.data.synthetic import cached_dataset, describe, write_dataset
from harness.data.synthetic_cast import CATEGORY_NAMES
from harness.data.synthetic_scene import PATTERNS, SHAPES, Scene, render_scene
from harness.data.ytvis import load_dataset
from model.errors import InputError

SMALL: dict[str, Any] = {
    "train_videos": 3,
    "valid_videos": 2,
    "length": 6,
    "height": 40,
    "width": 56,
    "min_size": 12,
    "max_size": 22,
}


def config(**knobs: Any) -> SyntheticConfig:
    return SyntheticConfig(**{**SMALL, **knobs})


def scene(index: int = 0, **knobs: Any) -> Scene:
    return render_scene(config(**knobs), np.random.default_rng([index]))


def tree(root: Path) -> dict[str, str]:
    files = (path for path in root.rglob("*") if path.is_file())
    return {p.relative_to(root).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("synthetic") / "set"
    write_dataset(config(), root)
    return root


def test_two_writes_are_byte_identical(written: Path, tmp_path: Path) -> None:
    write_dataset(config(), tmp_path / "again")
    assert tree(tmp_path / "again") == tree(written)
    assert [path.name for path in tmp_path.iterdir()] == ["again"]


def test_more_videos_leave_the_others_alone(written: Path, tmp_path: Path) -> None:
    write_dataset(config(train_videos=5, valid_videos=3), tmp_path / "more")
    old, new = tree(written), tree(tmp_path / "more")
    assert all(new[name] == digest for name, digest in old.items() if name.endswith(".jpg"))
    for split in ("train", "valid"):
        before = json.loads((written / f"{split}.json").read_text())
        after = json.loads((tmp_path / "more" / f"{split}.json").read_text())
        for key in ("videos", "annotations"):
            assert after[key][: len(before[key])] == before[key]


def test_seed_and_split_change_every_frame(written: Path, tmp_path: Path) -> None:
    write_dataset(config(seed=1), tmp_path / "other")
    images = [
        d for root in (written, tmp_path / "other") for n, d in tree(root).items() if n.endswith(".jpg")
    ]
    assert len(set(images)) == len(images) == 2 * 5 * SMALL["length"]


@pytest.mark.parametrize("split", ["train", "valid"])
def test_the_reader_takes_it_and_finds_consistent_annotations(split: str, written: Path) -> None:
    dataset = load_dataset(written, split)
    assert len(dataset.videos) == SMALL[f"{split}_videos"]
    assert [c.name for c in dataset.categories] == list(CATEGORY_NAMES[:8])
    by_id = {entry["id"]: entry for entry in dataset.ground_truth()["annotations"]}
    for video in dataset.videos:
        frames, masks = dataset.frames(video, range(video.length)), dataset.masks(video, range(video.length))
        assert frames.shape == (6, 3, 40, 56)
        assert 1 <= len(video.tracks) <= 3
        assert masks.sum(0).max() == 1  # visible pixels only: masks of a frame never overlap
        for track, planes in zip(video.tracks, masks, strict=True):
            entry = by_id[track.annotation_id]
            assert planes.any()
            assert [a or 0 for a in entry["areas"]] == planes.sum((1, 2)).tolist()
            for segmentation, box, plane in zip(track.segmentations, entry["bboxes"], planes, strict=True):
                assert (segmentation is None) == (box is None) == (not plane.any())
                if box is not None:
                    ys, xs = np.nonzero(plane)
                    size = [np.ptp(xs) + 1, np.ptp(ys) + 1]
                    assert box == [xs.min(), ys.min(), *size]


def test_existing_folder_is_not_overwritten(written: Path) -> None:
    with pytest.raises(InputError, match="already exists"):
        write_dataset(config(), written)


def test_failure_leaves_nothing(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_dataset(config(), tmp_path / "set", stop)
    assert list(tmp_path.iterdir()) == []


def test_progress_counts_all_videos(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    write_dataset(config(), tmp_path / "set", lambda done, total: seen.append((done, total)))
    assert seen == [(i, 5) for i in range(1, 6)]


def test_cache_is_reused_and_named_by_its_configuration(tmp_path: Path) -> None:
    folder = cached_dataset(config(), tmp_path)
    stamps = {p: p.stat().st_mtime_ns for p in folder.rglob("*")}
    assert cached_dataset(config(), tmp_path) == folder
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("*")} == stamps
    assert cached_dataset(config(seed=1), tmp_path) != folder


@pytest.mark.parametrize("damage", ["edited", "cut", "lost", "unfinished"])
def test_damaged_cache_is_named(damage: str, tmp_path: Path) -> None:
    folder = cached_dataset(config(), tmp_path)
    image = next(iter(sorted((folder / "valid" / "JPEGImages").rglob("*.jpg"))))
    if damage == "edited":
        (folder / "train.json").write_text("{}")
    elif damage == "cut":
        image.write_bytes(image.read_bytes()[:-1])
    elif damage == "lost":
        image.unlink()
    else:
        (folder / "complete.json").unlink()
    with pytest.raises(InputError) as caught:
        cached_dataset(config(), tmp_path)
    assert str(caught.value).startswith(f"{folder}: damaged")
    assert "delete this folder" in str(caught.value)


def test_the_loser_of_a_race_discards_its_own(tmp_path: Path) -> None:
    def overtake(done: int, total: int) -> None:
        if done == total:
            cached_dataset(config(), tmp_path)

    folder = cached_dataset(config(), tmp_path, overtake)
    assert list(tmp_path.iterdir()) == [folder]
    assert cached_dataset(config(), tmp_path) == folder


def test_cache_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file: the synthetic data set cannot be written here"):
        cached_dataset(config(), tmp_path / "file")


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 10**6),
    st.integers(1, 8),
    st.integers(1, 5),
    st.tuples(*[st.sampled_from([0.0, 0.5, 1.0])] * 5),
)
def test_every_track_is_visible_whatever_the_knobs(
    index: int, length: int, instances: int, chances: tuple[float, ...]
) -> None:
    names = ("overlap", "absence", "look_alike", "blur", "texture")
    knobs = dict(zip(names, chances, strict=True))
    drawn = scene(index, length=length, max_instances=instances, **knobs)
    assert drawn.frames.shape == (length, 40, 56, 3)
    assert 1 <= len(drawn.categories) <= instances
    assert set(np.unique(drawn.labels)) - {-1} == set(range(len(drawn.categories)))


def test_no_room_is_an_error_not_an_endless_search() -> None:
    knobs = {"max_instances": 30, "length": 1, "min_size": 38, "max_size": 40}
    with pytest.raises(InputError, match="max_instances 30: instances of up to 40 px hide one another"):
        scene(0, **knobs)


def track_frames(drawn: Scene, k: int = 0) -> list[bool]:
    return [bool((labels == k).any()) for labels in drawn.labels]


def test_absence_makes_a_gap_and_the_instance_comes_back() -> None:
    for index in range(20):
        seen = track_frames(scene(index, absence=1.0, max_instances=1, length=14))
        inside = seen[seen.index(True) : len(seen) - seen[::-1].index(True)]
        assert False in inside


def test_without_absence_a_lone_instance_is_always_there() -> None:
    for index in range(20):
        assert all(track_frames(scene(index, absence=0.0, max_instances=1, length=14, speed=4)))


def test_overlap_makes_more_contacts() -> None:
    def contacts(overlap: float) -> int:
        count = 0
        for index in range(30):
            labels = scene(index, overlap=overlap, absence=0, length=10, height=96, width=128).labels
            right, down = labels[:, :, :-1], labels[:, :-1]
            touching = ((right != labels[:, :, 1:]) & (right >= 0) & (labels[:, :, 1:] >= 0)).any((1, 2))
            touching |= ((down != labels[:, 1:]) & (down >= 0) & (labels[:, 1:] >= 0)).any((1, 2))
            count += int(touching.sum())
        return count

    assert contacts(1.0) > 1.5 * contacts(0.0)


def test_look_alikes_share_the_category_and_the_colours() -> None:
    drawn = [scene(index, look_alike=1.0, max_instances=4, length=1) for index in range(12)]
    assert all(len(set(d.categories)) == 1 for d in drawn)
    assert any(len(d.categories) > 2 for d in drawn)


def test_blur_averages_the_exposure_and_leaves_the_masks() -> None:
    knobs: dict[str, Any] = {"speed": 6.0, "max_instances": 1, "absence": 0.0, "drift": 0.0}
    sharp, blurred = scene(3, blur=0.0, **knobs), scene(3, blur=1.0, **knobs)
    assert np.array_equal(sharp.labels, blurred.labels)

    def detail(drawn: Scene) -> float:
        return float(np.abs(np.diff(drawn.frames.astype(float), axis=2)).mean())

    assert detail(blurred) < 0.95 * detail(sharp)


@pytest.mark.parametrize("share", [0.25, 0.5, 0.9])
def test_lost_frames_show_nothing_and_leave_everything_else_alone(share: float) -> None:
    for index in range(4):
        whole, holed = (scene(index, length=8, lost=lost) for lost in (0.0, share))
        assert np.array_equal(whole.labels, holed.labels)
        lost = [t for t in range(8) if len(np.unique(holed.frames[t])) == 1]
        assert len(lost) == min(7, round(share * 8))
        kept = [t for t in range(8) if t not in lost]
        assert np.array_equal(whole.frames[kept], holed.frames[kept])


def test_a_disguise_hides_the_category() -> None:
    """In disguise a star and a disc of the same place and size are the same picture."""
    knobs: dict[str, Any] = {"length": 10, "max_instances": 1, "absence": 0, "texture": 0, "drift": 0}
    shown, hidden = scene(5, **knobs), scene(5, disguise=0.5, **knobs)
    assert shown.categories == hidden.categories
    greys = [np.ptp(hidden.frames[t][hidden.labels[t] == 0].astype(int), axis=1).max() for t in range(10)]
    disguised = [t for t in range(10) if greys[t] < 20]
    assert len(disguised) == 5
    for t in disguised:
        ys, xs = np.nonzero(hidden.labels[t] == 0)
        filled = len(ys) / ((np.ptp(ys) + 1) * (np.ptp(xs) + 1))
        assert 0.7 < filled < 0.85  # a disc fills pi / 4 of its box


def test_the_description_says_what_single_frames_do_not_show() -> None:
    assert describe(config(lost=0.4)).endswith("blur 0.1; lost frames 40%")
    assert describe(config(disguise=0.6)).endswith("; frames in disguise 60%")
    assert describe(config()).endswith("blur 0.1")


def test_texture_zero_is_a_flat_background() -> None:
    flat, rough = scene(texture=0.0, blur=0.0), scene(texture=1.0, blur=0.0)
    behind = flat.frames[flat.labels == -1]
    _, counts = np.unique(behind, axis=0, return_counts=True)
    assert counts.max() > 0.8 * len(behind)  # the rest are soft edges
    assert rough.frames[rough.labels == -1].std(0).min() > 20


def test_instances_move_no_faster_than_speed() -> None:
    for index in range(10):
        drawn = scene(index, speed=1.5, absence=0, max_instances=1, min_size=12, max_size=12, length=12)
        centres = np.array([np.argwhere(labels == 0).mean(0) for labels in drawn.labels])
        # The centre of visible pixels also wanders a little as the shape turns and is cut by the border.
        assert np.hypot(*np.diff(centres, axis=0).T).max() < 1.5 + 1.0


@pytest.mark.parametrize("k", range(len(CATEGORY_NAMES)))
def test_shapes_fit_the_unit_disc_and_fill_enough_of_it(k: int) -> None:
    x, y = np.meshgrid(np.linspace(-1.5, 1.5, 151), np.linspace(-1.5, 1.5, 151))
    inside = SHAPES[k](x, y) < 0
    assert not inside[np.hypot(x, y) > 1.01].any()
    assert 0.15 < inside.sum() / (np.hypot(x, y) < 1).sum() < 0.95


def test_categories_differ_in_shape() -> None:
    x, y = np.meshgrid(np.linspace(-1, 1, 101), np.linspace(-1, 1, 101))
    planes = [shape(x, y) < 0 for shape in SHAPES]
    assert len(planes) == len(CATEGORY_NAMES) >= 10
    for i, one in enumerate(planes):
        for other in planes[:i]:
            assert (one & other).sum() / (one | other).sum() < 0.93
    assert len(PATTERNS) == 4
