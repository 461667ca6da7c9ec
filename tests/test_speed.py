"""What is timed, and what is not: with a clock that only inference moves."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from harness import speed
from harness.config import SpeedConfig, SyntheticConfig, TrialConfig
from harness.data.synthetic import write_dataset
from harness.data.ytvis import VideoDataset, load_dataset
from model import build_model
from model.errors import InputError
from model.inference import VideoResults

FRAMES = 6
TINY: dict[str, Any] = {"backbone": "tiny", "num_classes": 2, "num_queries": 3, "hidden_dim": 16}


@pytest.fixture(scope="module")
def valid(tmp_path_factory: pytest.TempPathFactory) -> VideoDataset:
    small = SyntheticConfig(
        train_videos=1,
        valid_videos=3,
        length=FRAMES,
        height=32,
        width=32,
        categories=2,
        min_size=10,
        max_size=14,
    )
    root = tmp_path_factory.mktemp("speed") / "data"
    write_dataset(small, root)
    return load_dataset(root, "valid")


class Clock:
    """Each video that is segmented takes the next of ``costs`` seconds; the last one for ever."""

    def __init__(self, costs: list[float]) -> None:
        self.now = 100.0
        self.costs = costs
        self.sizes: list[tuple[int, ...]] = []

    def segment(self, model: object, frames: torch.Tensor, **arguments: Any) -> VideoResults:
        self.sizes.append(tuple(frames.shape))
        self.now += self.costs.pop(0) if len(self.costs) > 1 else self.costs[0]
        nothing = torch.zeros(0)
        return VideoResults(nothing, nothing, nothing, torch.zeros(2, len(frames), 1, 1))


def timed(
    valid: VideoDataset, monkeypatch: pytest.MonkeyPatch, costs: list[float], **keys: Any
) -> tuple[speed.Speed, Clock]:
    clock = Clock(costs)
    monkeypatch.setattr(speed, "segment_tracks", clock.segment)
    monkeypatch.setattr(speed.time, "perf_counter", lambda: clock.now)
    config = TrialConfig(speed=SpeedConfig(**keys))
    model = build_model(TINY)
    return speed.time_videos(model, valid, config, torch.device("cpu")), clock


def test_the_warm_up_is_not_timed_and_the_median_pass_counts(
    valid: VideoDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, clock = timed(valid, monkeypatch, [50.0, 1.0, 2.0, 4.0], videos=1, passes=3, min_seconds=0)
    assert found.fps_passes == [FRAMES / 1, FRAMES / 2, FRAMES / 4]
    assert found.fps == FRAMES / 2
    assert len(clock.sizes) == 4


def test_short_passes_go_on_until_the_time_is_full(
    valid: VideoDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, _ = timed(valid, monkeypatch, [0.25], videos=1, passes=2, min_seconds=2.0)
    assert len(found.fps_passes) == 8


def test_milliseconds_a_frame_are_told_of_the_typical_and_the_slow_video(
    valid: VideoDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    costs = [9.0, 9.0, 9.0, 0.6, 1.2, 6.0, 0.6, 1.2, 6.0, 0.6]
    found, _ = timed(valid, monkeypatch, costs, videos=None, passes=2, min_seconds=0)
    assert (found.frame_ms_p50, found.frame_ms_p90) == pytest.approx((200.0, 1000.0))


@pytest.mark.parametrize(("share", "value"), [(0.0, 1.0), (0.25, 1.0), (0.5, 2.0), (0.51, 3.0), (1.0, 4.0)])
def test_the_value_that_a_share_does_not_pass(share: float, value: float) -> None:
    assert speed.at_share([1.0, 2.0, 3.0, 4.0], max(share, 0.01)) == value


def test_fps_counts_all_frames_of_all_videos(valid: VideoDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    found, clock = timed(valid, monkeypatch, [0.5], videos=None, passes=2, min_seconds=0)
    assert found.timed_frames == 3 * FRAMES
    assert found.fps == pytest.approx(3 * FRAMES / 1.5)
    assert found.kept_tracks == 3 * 2
    assert found.frame_ms_p50 == found.frame_ms_p90 == pytest.approx(1000 * 0.5 / FRAMES)
    assert {size[0] for size in clock.sizes} == {FRAMES}
    assert {min(size[2:]) for size in clock.sizes} == {360}, "resized before, not inside"


def test_real_inference_has_a_speed_and_a_peak(valid: VideoDataset) -> None:
    config = TrialConfig.model_validate(
        {"inference": {"short_side": 32}, "speed": {"videos": 1, "passes": 2, "min_seconds": 0}}
    )
    found = speed.time_videos(build_model(TINY), valid, config, torch.device("cpu"))
    assert found.fps > 0
    if Path("/proc/self/clear_refs").is_file():
        assert found.peak_memory_kind == "process resident"
        assert found.peak_memory_gb is not None
        assert 0.05 < found.peak_memory_gb < 8


def test_videos_without_frames_are_not_timed(valid: VideoDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    empty = replace(valid.videos[0], video_id=99, files=(), tracks=())
    with_empty = replace(valid, videos=(empty, *valid.videos))
    found, _ = timed(with_empty, monkeypatch, [1.0], videos=1, passes=1, min_seconds=0.0)
    assert found.timed_frames == FRAMES
    with pytest.raises(InputError, match=r"valid\.json: no video has a frame"):
        timed(replace(valid, videos=(empty,)), monkeypatch, [1.0], passes=1, min_seconds=0.0)


def test_signs_of_life_are_given_between_the_timed_passes(
    valid: VideoDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long telling takes, no pass is longer for it; and a check before each video can end it all."""
    clock, told, checks = Clock([0.5]), [], []
    monkeypatch.setattr(speed, "segment_tracks", clock.segment)
    monkeypatch.setattr(speed.time, "perf_counter", lambda: clock.now)
    config = TrialConfig(speed=SpeedConfig(videos=2, passes=3, min_seconds=0))

    def passed(done: int) -> None:
        told.append(done)
        clock.now += 1000.0

    model, cpu = build_model(TINY), torch.device("cpu")
    found = speed.time_videos(model, valid, config, cpu, passed, lambda: checks.append(1))
    assert told == [0, 1, 2, 3]
    assert found.fps_passes == [2 * FRAMES / 1.0] * 3
    assert len(checks) == 2 + 2 * 4, "reading, then each pass"

    def ends() -> None:
        if len(clock.sizes) > 11:
            raise KeyError

    with pytest.raises(KeyError):
        speed.time_videos(model, valid, config, cpu, check=ends)
    assert len(clock.sizes) == 12
