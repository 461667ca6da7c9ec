"""The cache of frames: bounded, safe to share between threads, and never seen in a clip."""

from __future__ import annotations

import dataclasses
import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness import control_groups, memory_budget
from harness.config import SyntheticConfig, TrainConfig
from harness.control_groups import memory_limit
from harness.data.clips import Clip, ClipSampler, _resized, batches, resized_size
from harness.data.frame_cache import FrameCache, FrameKey, ResizedFrame
from harness.data.synthetic import write_dataset
from harness.data.ytvis import VideoDataset, load_dataset
from harness.memory_budget import MOST_CACHE, default_frame_cache, parse_frame_cache
from model.errors import InputError
from tests.small_road import IFC_ONLY, make_road

DATA = SyntheticConfig(
    train_videos=3, valid_videos=1, length=5, height=34, width=50, min_size=8, max_size=16, categories=4
)
RECIPE: dict[str, Any] = {"clips_per_batch": 2, "frames_per_clip": 3, "short_sides": (24, 34)}
SIZE = (4, 6)
WHOLE = 3 * 24 + 6
"""Bytes of an entry of that size with two instances, of 24 pixels each"""


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> VideoDataset:
    root = tmp_path_factory.mktemp("frame_cache") / "data"
    write_dataset(DATA, root)
    return load_dataset(root, "train")


def example(number: int, size: tuple[int, int] = SIZE, instances: int = 2) -> ResizedFrame:
    rng = np.random.default_rng(number)
    pixels = rng.integers(0, 256, (3, *size), dtype=np.uint8)
    return ResizedFrame(pixels, rng.random((instances, *size)) < 0.5)


def key(number: int) -> FrameKey:
    return FrameKey(1, number, SIZE)


def same(one: ResizedFrame | None, other: ResizedFrame) -> bool:
    return (
        one is not None
        and np.array_equal(one.pixels, other.pixels)
        and one.masks.dtype == np.bool_
        and np.array_equal(one.masks, other.masks)
    )


# ----------------------------------------------------------------------------------------------- the cache


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 5), st.integers(1, 9), st.integers(1, 9))
def test_what_is_kept_is_found_as_it_was(instances: int, height: int, width: int) -> None:
    cache = FrameCache(10_000)
    frame = example(0, (height, width), instances)
    assert cache.find(key(0)) is None
    cache.keep(key(0), frame)
    assert same(cache.find(key(0)), frame)
    assert cache.find(FrameKey(2, 0, SIZE)) is cache.find(FrameKey(1, 0, (6, 4))) is None
    assert (cache.hits, cache.misses) == (1, 3)
    assert cache.bytes == 3 * height * width + -(-instances * height * width // 8)


def test_the_least_recently_used_goes_first() -> None:
    cache = FrameCache(3 * WHOLE)
    for number in range(3):
        cache.keep(key(number), example(number))
    assert cache.bytes == cache.limit
    assert same(cache.find(key(0)), example(0))
    cache.keep(key(3), example(3))
    assert cache.find(key(1)) is None
    assert all(same(cache.find(key(number)), example(number)) for number in (0, 2, 3))
    cache.keep(key(3), example(3))  # of a second thread that missed it
    assert (len(cache), cache.bytes) == (3, 3 * WHOLE)


@pytest.mark.parametrize("limit", [0, WHOLE - 1])
def test_what_is_larger_than_the_bound_is_not_kept(limit: int) -> None:
    cache = FrameCache(limit)
    cache.keep(key(0), example(0))
    assert (cache.find(key(0)), len(cache), cache.bytes) == (None, 0, 0)


def test_a_large_frame_evicts_as_many_as_it_needs() -> None:
    cache = FrameCache(4 * WHOLE)
    for number in range(4):
        cache.keep(key(number), example(number))
    cache.keep(FrameKey(1, 0, (8, 9)), example(9, (8, 9)))  # 234 bytes: three of the others
    assert [cache.find(key(number)) is None for number in range(4)] == [True, True, True, False]


def test_nobody_can_change_what_is_kept() -> None:
    cache = FrameCache(WHOLE)
    frame = example(0)
    cache.keep(key(0), frame)
    frame.pixels[:] = 0
    frame.masks[:] = False
    found = cache.find(key(0))
    assert found is not None
    with pytest.raises(ValueError, match="read-only"):
        found.pixels[:] = 0
    found.masks[:] = False
    assert same(cache.find(key(0)), example(0))


def test_a_part_of_an_array_does_not_keep_the_whole() -> None:
    cache = FrameCache(WHOLE)
    large = np.zeros((5, 3, *SIZE), np.uint8)
    cache.keep(key(0), ResizedFrame(large[2], np.zeros((2, *SIZE), np.bool_)))
    found = cache.find(key(0))
    assert found is not None
    assert found.pixels.base is None


def test_threads_that_ask_at_once_find_what_belongs_to_the_key() -> None:
    cache = FrameCache(5 * WHOLE)
    wanted = [example(number) for number in range(12)]

    def ask(seed: int) -> bool:
        for number in np.random.default_rng(seed).integers(12, size=400).tolist():
            found = cache.find(key(number))
            if found is None:
                cache.keep(key(number), wanted[number])
            elif not same(found, wanted[number]):
                return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(8)))
    assert len(cache) == 5
    assert cache.bytes == 5 * WHOLE
    assert cache.hits + cache.misses == 8 * 400
    assert cache.hits > 0


# ------------------------------------------------------------------------------------------------ in clips


def sampler(dataset: VideoDataset, seed: int, limit: int | None, **keys: Any) -> ClipSampler:
    cache = None if limit is None else FrameCache(limit)
    return ClipSampler(dataset, TrainConfig(**{**RECIPE, **keys}), seed, cache)


def equal(one: Clip, other: Clip) -> bool:
    names = ("frames", "labels", "masks")
    return all(torch.equal(getattr(one, name), getattr(other, name)) for name in names)


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10_000), crop=st.sampled_from([0.0, 0.5]), order=st.randoms())
def test_clips_are_the_same_with_any_cache(dataset: VideoDataset, seed: int, crop: float, order: Any) -> None:
    """By several threads in any order, twice over: no cache, one that evicts all the time, a large one."""
    keys = {"crop": crop, "crop_range": (16, 30)}
    plain = sampler(dataset, seed, None, **keys)
    wanted = [plain.clip(index) for index in range(12)]
    indices = [*range(12), *range(12)]
    order.shuffle(indices)
    for limit in (0, 20_000, 10**8):
        cached = sampler(dataset, seed, limit, **keys)
        with ThreadPoolExecutor(4) as pool:
            clips = list(pool.map(cached.clip, indices))
        assert all(equal(clip, wanted[index]) for index, clip in zip(indices, clips, strict=True)), limit
        assert cached.cache.bytes <= limit
        if limit == 20_000:  # of 15 frames in two sizes, 2.5 or 5.1 kB each without their masks
            assert 0 < len(cached.cache) <= 7


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2), st.integers(16, 70), st.sampled_from([None, 40]))
def test_a_frame_that_is_resized_alone_is_that_of_its_clip(
    dataset: VideoDataset, place: int, short_side: int, longest: int | None
) -> None:
    video = dataset.videos[place]
    together = [torch.from_numpy(read(video, range(5))) for read in (dataset.frames, dataset.masks)]
    frames, masks = _resized(together[0], together[1], short_side, longest)
    assert tuple(frames.shape[-2:]) == resized_size(34, 50, short_side, longest)
    for index in range(5):
        alone = [torch.from_numpy(read(video, [index])) for read in (dataset.frames, dataset.masks)]
        one, its = _resized(alone[0], alone[1], short_side, longest)
        assert torch.equal(one[0], frames[index])
        assert torch.equal(its[:, 0], masks[:, index])


def test_a_warm_cache_reads_no_file(dataset: VideoDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    cached = sampler(dataset, 0, 10**8)
    first = [cached.clip(index) for index in range(9)]
    monkeypatch.setattr(VideoDataset, "frames", None)
    monkeypatch.setattr(VideoDataset, "masks", None)
    assert all(equal(cached.clip(index), clip) for index, clip in enumerate(first))


def test_cropped_clips_leave_the_cache_alone(dataset: VideoDataset) -> None:
    cached = sampler(dataset, 0, 10**8, crop=1.0, crop_range=(16, 30))
    for index in range(6):
        cached.clip(index)
    assert (len(cached.cache), cached.cache.hits, cached.cache.misses) == (0, 0, 0)


@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_whoever_changes_a_clip_changes_that_clip_alone(dataset: VideoDataset, flip: float) -> None:
    cached, plain = sampler(dataset, 0, 10**8, flip=flip), sampler(dataset, 0, None, flip=flip)
    for _ in range(2):
        clip = cached.clip(0)
        assert equal(clip, plain.clip(0))
        clip.frames.zero_()
        clip.masks.zero_()
    for batch in batches(cached, 0, 6, 2):
        batch.frames.zero_()
        for target in batch.targets:
            target["masks"].zero_()
    assert all(equal(cached.clip(index), plain.clip(index)) for index in range(12))


def test_videos_without_tracks_are_kept_too(dataset: VideoDataset) -> None:
    bare = dataclasses.replace(
        dataset, videos=tuple(dataclasses.replace(video, tracks=()) for video in dataset.videos)
    )
    cached, plain = sampler(bare, 0, 10**8), sampler(bare, 0, None)
    assert all(equal(cached.clip(index), plain.clip(index)) for index in range(6))
    misses = cached.cache.misses
    assert all(equal(cached.clip(index), plain.clip(index)) for index in range(6))
    assert cached.cache.misses == misses == len(cached.cache)


# -------------------------------------------------------------------------------------------- how large


def test_the_default_is_bounded_by_a_share_and_a_constant(monkeypatch: pytest.MonkeyPatch) -> None:
    limit: int | None = 8 * 10**9
    monkeypatch.setattr(memory_budget, "memory_limit", lambda: limit)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1}, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    assert default_frame_cache() == 10**9
    assert default_frame_cache(processes=4) == 250 * 10**6
    assert default_frame_cache(budget=4 * 10**9) == 500 * 10**6
    assert default_frame_cache(budget=10**12) == 10**9
    monkeypatch.setattr(os, "cpu_count", lambda: 8)  # pinned to a quarter: there are neighbours
    assert default_frame_cache() == 250 * 10**6
    limit = 10**12
    assert default_frame_cache() == MOST_CACHE
    limit = None
    assert default_frame_cache() == 0


@pytest.mark.parametrize(
    ("version", "limits", "wanted"),
    [
        (2, {"a/b/memory.max": "max", "a/memory.max": "3000"}, 3000),
        (2, {"a/b/memory.max": "2000", "a/memory.max": "3000"}, 2000),
        (2, {"a/b/memory.max": "max"}, None),
        (2, {"memory.max": "1000"}, 1000),  # in a container whose path is the host's
        (1, {"memory/a/b/memory.limit_in_bytes": "9223372036854771712"}, None),
        (1, {"memory/a/memory.limit_in_bytes": "5000"}, 5000),
        (1, {}, None),
    ],
)
def test_control_groups_bound_the_memory(
    version: int, limits: dict[str, str], wanted: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in limits.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"{text}\n")
    folder = tmp_path / ("a/b" if version == 2 else "memory/a/b")
    monkeypatch.setattr(control_groups, "GROUPS", tmp_path)
    monkeypatch.setattr(control_groups, "memory_groups", lambda pid: [(folder, version)])
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert memory_limit() == (machine if wanted is None else wanted)


def test_sizes_as_people_write_them() -> None:
    texts = ("0", "2GB", "1GiB", "1.5 GB")
    assert [parse_frame_cache(text) for text in texts] == [0, 2 * 10**9, 2**30, 15 * 10**8]
    for text in ("", "2", "-1GB", "0GB", "nan", "2XB", "none"):
        with pytest.raises(InputError, match=rf"^--frame-cache: {re.escape(repr(text))}: allowed: 0 \(no"):
            parse_frame_cache(text)


def test_a_bad_size_is_one_line(tmp_path: Path) -> None:
    refused = make_road(tmp_path, IFC_ONLY).run("--frame-cache", "lots", "--dry-run")
    assert refused.returncode == 2
    wanted = "error: --frame-cache: 'lots': allowed: 0 (no cache), or an amount such as 2GB, 2GiB or 500MB\n"
    assert refused.stderr == wanted


@pytest.mark.slow
def test_the_size_reaches_the_trial_and_is_no_part_of_its_identity(tmp_path: Path) -> None:
    road = make_road(tmp_path, IFC_ONLY)
    done = road.run("--frame-cache", "1MB", "--only", "seed=0")
    assert done.returncode == 0, done.stderr
    plan = road.plan()  # without the option
    [record] = [found for trial in plan.trials if (found := plan.training(trial)) is not None]
    assert record["frame_cache_gb"] == 0.001
    assert 0 < record["train_waited_seconds"] <= record["train_seconds"]
