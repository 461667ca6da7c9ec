"""Training clips: the same ones for the same seed, whole epochs, and frames and masks kept together."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from harness.config import SyntheticConfig, TrainConfig
from harness.data.clips import Clip, ClipSampler, _resized, batches, collate, resize_frames, sample_frames
from harness.data.synthetic import write_dataset
from harness.data.ytvis import VideoDataset, load_dataset
from model.errors import InputError

DATA = SyntheticConfig(
    train_videos=5, valid_videos=1, length=6, height=32, width=48, min_size=8, max_size=16, categories=4
)
RECIPE: dict[str, Any] = {"clips_per_batch": 2, "frames_per_clip": 3, "short_sides": (32,)}


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> VideoDataset:
    root = tmp_path_factory.mktemp("clips") / "data"
    write_dataset(DATA, root)
    return load_dataset(root, "train")


def sampler(dataset: VideoDataset, seed: int = 0, **keys: Any) -> ClipSampler:
    return ClipSampler(dataset, TrainConfig(**{**RECIPE, **keys}), seed)


def equal(one: Clip, other: Clip) -> bool:
    return all(
        torch.equal(getattr(one, name), getattr(other, name)) for name in ("frames", "labels", "masks")
    )


def test_a_clip_depends_on_seed_and_index_alone(dataset: VideoDataset) -> None:
    one, same, other = sampler(dataset, 3), sampler(dataset, 3), sampler(dataset, 4)
    forward = [one.clip(i) for i in range(12)]
    backward = [same.clip(i) for i in reversed(range(12))][::-1]
    assert all(equal(a, b) for a, b in zip(forward, backward, strict=True))
    assert not all(equal(a, other.clip(i)) for i, a in enumerate(forward))


def test_a_clip_has_the_shapes_it_names(dataset: VideoDataset) -> None:
    for index in range(10):
        clip = sampler(dataset, short_sides=(16, 24)).clip(index)
        height, width = clip.frames.shape[2:]
        assert (height, width) in {(16, 24), (24, 36)}
        assert clip.frames.shape[:2] == (3, 3)
        assert clip.frames.dtype == torch.uint8
        assert clip.labels.dtype == torch.int64
        assert clip.masks.dtype == torch.bool
        assert clip.masks.shape == (len(clip.labels), 3, height, width)
        assert clip.masks.flatten(1).any(1).all()  # what no frame shows is no target
        assert ((clip.labels >= 0) & (clip.labels < 4)).all()


@pytest.mark.parametrize("seed", [0, 1])
def test_each_epoch_visits_every_video_once(
    seed: int, dataset: VideoDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    plain = VideoDataset.frames

    def noted(self: VideoDataset, video: Any, indices: Any) -> Any:
        seen.append(video.video_id)
        return plain(self, video, indices)

    monkeypatch.setattr(VideoDataset, "frames", noted)
    clips = sampler(dataset, seed)
    for index in range(20):
        clips.clip(index)
    epochs = [seen[start : start + 5] for start in range(0, 20, 5)]
    assert all(sorted(epoch) == [1, 2, 3, 4, 5] for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1  # shuffled anew


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 60), st.integers(1, 8), st.integers(0, 25))
def test_frames_are_sorted_and_within_reach(seed: int, length: int, count: int, reach: int) -> None:
    frames = sample_frames(np.random.default_rng(seed), length, count, reach)
    assert len(frames) == count
    assert frames == sorted(frames)
    assert 0 <= frames[0] <= frames[-1] < length
    assert any(all(abs(frame - reference) <= reach for frame in frames) for reference in frames)
    if length > 1 and reach > 0 and count > 1:
        assert len(set(frames)) > 1  # the reference itself is not drawn again


def test_every_frame_can_be_drawn() -> None:
    rng = np.random.default_rng(0)
    drawn = [frame for _ in range(300) for frame in sample_frames(rng, 7, 2, 2)]
    assert set(drawn) == set(range(7))


def test_a_flip_turns_frames_and_masks_together(dataset: VideoDataset) -> None:
    plain, flipped = sampler(dataset, flip=0.0), sampler(dataset, flip=1.0)
    for index in range(5):
        one, other = plain.clip(index), flipped.clip(index)
        assert torch.equal(one.frames.flip(-1), other.frames)
        assert torch.equal(one.masks.flip(-1), other.masks)
        assert torch.equal(one.labels, other.labels)
        assert not torch.equal(one.frames, other.frames)


def test_half_of_the_clips_are_flipped(dataset: VideoDataset) -> None:
    plain, mixed = sampler(dataset, flip=0.0), sampler(dataset, flip=0.5)
    unturned = [torch.equal(plain.clip(i).frames, mixed.clip(i).frames) for i in range(40)]
    assert 8 < sum(unturned) < 32


def test_masks_lie_on_the_things_they_name(dataset: VideoDataset) -> None:
    """At the original size the clip's masks are those of the data set at some frames of some video."""
    clip = sampler(dataset, flip=0.0).clip(0)
    everywhere = torch.cat(
        [torch.from_numpy(dataset.masks(v, range(6))).flatten(0, 1) for v in dataset.videos]
    )
    for plane in clip.masks.flatten(0, 1):
        assert (everywhere == plane).flatten(1).all(1).any()


def test_crowds_and_unseen_instances_are_no_targets(dataset: VideoDataset) -> None:
    videos = []
    for video in dataset.videos:
        first, *others = video.tracks
        gone = replace(first, segmentations=(None,) * 6)
        crowds = [replace(track, iscrowd=True) for track in (first, *others)]
        videos.append(replace(video, tracks=(gone, *crowds)))
    clip = sampler(replace(dataset, videos=tuple(videos))).clip(0)
    assert clip.labels.shape == (0,)
    assert clip.masks.shape == (0, 3, 32, 48)


def example(height: int, width: int, instances: int) -> Clip:
    return Clip(
        torch.full((2, 3, height, width), 9, dtype=torch.uint8),
        torch.arange(instances),
        torch.ones(instances, 2, height, width, dtype=torch.bool),
    )


def test_collate_pads_right_and_below() -> None:
    batch = collate([example(6, 8, 2), example(4, 10, 0)])
    assert batch.frames.shape == (2, 2, 3, 6, 10)
    assert batch.padding is not None
    inside = [(slice(6), slice(8)), (slice(4), slice(10))]
    for b, (rows, columns) in enumerate(inside):
        outside = torch.ones(6, 10, dtype=torch.bool)
        outside[rows, columns] = False
        assert torch.equal(batch.padding[b], outside)
        assert torch.equal(batch.frames[b, 0, 0] == 0, outside)
    assert [tuple(target["masks"].shape) for target in batch.targets] == [(2, 2, 6, 10), (0, 2, 6, 10)]
    assert torch.equal(batch.targets[0]["masks"][1, 1], ~batch.padding[0])
    assert [target["labels"].tolist() for target in batch.targets] == [[0, 1], []]
    assert [target["size"].tolist() for target in batch.targets] == [[6, 8], [4, 10]]


def test_clips_of_one_size_need_no_padding() -> None:
    assert collate([example(4, 6, 1), example(4, 6, 3)]).padding is None


@pytest.mark.parametrize("first", [0, 3, 5])
def test_batches_go_on_where_they_stopped(first: int, dataset: VideoDataset) -> None:
    clips = sampler(dataset)
    found = list(batches(clips, first, 5, 2))
    assert len(found) == 5 - first
    for step, batch in enumerate(found, first):
        wanted = collate([clips.clip(2 * step), clips.clip(2 * step + 1)])
        assert torch.equal(batch.frames, wanted.frames)
        for one, other in zip(batch.targets, wanted.targets, strict=True):
            assert torch.equal(one["masks"], other["masks"])


def test_shrunk_masks_lie_where_their_frames_show_them() -> None:
    """A centred square stays centred in frame and mask alike."""
    frames = torch.zeros(1, 3, 33, 33, dtype=torch.uint8)
    frames[..., 12:21, 12:21] = 255
    small, masks = _resized(frames, frames[:, 0][None] > 0, 11, None)
    assert masks[0, 0].nonzero().float().mean(0).tolist() == [5, 5]
    assert torch.equal(masks[0, 0], small[0, 0] > 127)


@pytest.mark.parametrize("first", [(), (64,)])
def test_crops_are_cut_from_the_frame_as_it_is_or_resized_first(
    first: tuple[int, ...], dataset: VideoDataset
) -> None:
    keys = {"crop": 1.0, "crop_range": (16, 24), "crop_short_sides": first, "max_long_side": None}
    sizes = set()
    for index in range(20):
        clip = sampler(dataset, short_sides=(48,), **keys).clip(index)
        height, width = clip.frames.shape[-2:]
        assert min(height, width) == 48
        sizes.add(max(height, width))
        assert clip.masks.shape[-2:] == clip.frames.shape[-2:]
    assert len(sizes) > 3
    assert max(sizes) <= 48 * 24 / 16


def gradient(height: int, width: int) -> Tensor:
    return torch.linspace(0, 255, width).expand(1, 3, height, width).to(torch.uint8)


def test_resizing_keeps_aspect_and_range() -> None:
    frames = gradient(30, 60)
    assert torch.equal(resize_frames(frames, 30), frames)
    half = resize_frames(frames, 15)
    assert half.shape == (1, 3, 15, 30)
    assert half.dtype == torch.uint8
    assert (half[0, 0, 0].int().diff() > 0).all()
    assert resize_frames(gradient(60, 31), 20).shape == (1, 3, 39, 20)
    assert abs(int(half.float().mean()) - 127) <= 1


@pytest.mark.parametrize(
    ("size", "short_side", "longest", "wanted"),
    [
        ((30, 60), 24, 40, (20, 40)),
        ((60, 30), 24, 40, (40, 20)),
        ((30, 60), 24, 48, (24, 48)),
        ((30, 60), 24, None, (24, 48)),
        ((30, 60), 60, 60, (30, 60)),
        ((2, 400), 16, 100, (1, 100)),
    ],
)
def test_the_longer_side_is_bounded(
    size: tuple[int, int], short_side: int, longest: int | None, wanted: tuple[int, int]
) -> None:
    assert resize_frames(gradient(*size), short_side, longest).shape[2:] == wanted


def test_clips_obey_the_bound(dataset: VideoDataset) -> None:
    clip = sampler(dataset, short_sides=(32,), max_long_side=36).clip(0)
    assert clip.frames.shape[2:] == clip.masks.shape[2:] == (24, 36)


# -------------------------------------------------------------------------------------------------- crops

CROP: dict[str, Any] = {"crop": 1.0, "crop_short_sides": (32,), "crop_range": (16, 24), "short_sides": (32,)}


def test_while_nothing_is_cropped_the_keys_of_the_crop_change_nothing(dataset: VideoDataset) -> None:
    plain, other = sampler(dataset), sampler(dataset, **{**CROP, "crop": 0.0})
    assert all(equal(plain.clip(i), other.clip(i)) for i in range(10))


def test_a_cropped_clip_depends_on_seed_and_index_alone(dataset: VideoDataset) -> None:
    one, same = sampler(dataset, 3, **CROP), sampler(dataset, 3, **CROP)
    forward = [one.clip(i) for i in range(12)]
    assert all(equal(a, b) for a, b in zip(forward, [same.clip(i) for i in range(12)], strict=True))


def test_crops_have_sides_of_the_range_and_are_resized(dataset: VideoDataset) -> None:
    ratios = set()
    for index in range(30):
        clip = sampler(dataset, **CROP).clip(index)
        height, width = clip.frames.shape[2:]
        assert min(height, width) == 32
        assert 16 / 24 - 0.03 <= height / width <= 24 / 16 + 0.03
        ratios.add((height, width))
        assert clip.masks.shape[1:] == (3, height, width)
    assert len(ratios) > 10, "height and width are drawn apart"
    shares = [
        torch.equal(sampler(dataset, **{**CROP, "crop": 0.5}).clip(i).frames, c.frames)
        for i, c in ((i, sampler(dataset, **CROP).clip(i)) for i in range(40))
    ]
    assert 8 < sum(shares) < 32


def test_a_crop_is_one_rectangle_of_frames_and_masks(dataset: VideoDataset) -> None:
    """At scale 1 it is found in the plain clip, at one place, for all frames and all masks that are left."""
    keys = {"flip": 0.0, "short_sides": (32,)}
    for index in range(8):
        plain = sampler(dataset, **keys).clip(index)
        crop = sampler(dataset, **{**CROP, **keys, "crop_range": (32, 32)}).clip(index)
        offsets = [x for x in range(17) if torch.equal(plain.frames[..., x : x + 32], crop.frames)]
        assert len(offsets) == 1
        inside = plain.masks[..., offsets[0] : offsets[0] + 32]
        kept = inside.flatten(1).any(1)
        assert torch.equal(crop.masks, inside[kept])
        assert torch.equal(crop.labels, plain.labels[kept])


def test_instances_that_are_cropped_away_are_no_targets(dataset: VideoDataset) -> None:
    keys = {"crop_range": (16, 16)}
    plain = sum(len(sampler(dataset).clip(i).labels) for i in range(20))
    cropped = [sampler(dataset, **{**CROP, **keys}).clip(i) for i in range(20)]
    assert sum(len(clip.labels) for clip in cropped) < plain
    assert all(clip.masks.flatten(1).any(1).all() for clip in cropped)


def test_a_crop_is_at_most_the_frame(dataset: VideoDataset) -> None:
    clip = sampler(dataset, **{**CROP, "crop_range": (384, 600), "flip": 0.0}).clip(0)
    assert equal(clip, sampler(dataset, flip=0.0).clip(0))


def test_a_falling_range_is_refused() -> None:
    with pytest.raises(ValueError, match=r"crop_range \[96, 64\] must rise"):
        TrainConfig(crop_range=(96, 64))
    assert TrainConfig.model_validate({"crop_range": [16, 32]}).crop_range == (16, 32)


# ------------------------------------------------------------------------------------------- short videos


def test_videos_without_frames_are_left_out(dataset: VideoDataset) -> None:
    first, *others = dataset.videos
    empty = replace(first, video_id=99, files=(), tracks=())
    with_empty = replace(dataset, videos=(first, empty, *others))
    assert all(equal(sampler(with_empty).clip(i), sampler(dataset).clip(i)) for i in range(10))
    with pytest.raises(InputError, match=r"train\.json: no video to draw clips from"):
        sampler(replace(dataset, videos=(empty,)))


def test_a_video_shorter_than_a_clip_and_one_without_instances(dataset: VideoDataset) -> None:
    first = dataset.videos[0]
    tracks = tuple(replace(track, segmentations=track.segmentations[:1]) for track in first.tracks)
    short = replace(first, files=first.files[:1], tracks=tracks)
    clip = sampler(replace(dataset, videos=(short,)), flip=0.0).clip(0)
    assert clip.frames.shape[0] == 3
    assert torch.equal(clip.frames[0], clip.frames[2])
    bare = sampler(replace(dataset, videos=(replace(first, tracks=()),))).clip(0)
    assert (len(bare.labels), bare.masks.shape) == (0, (0, 3, 32, 48))
