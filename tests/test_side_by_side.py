"""Work side by side: really at the same time, in order, with the outputs of one after the other."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from model.clip_model import ClipModel
from model.communication import ENCODERS
from model.fixed_convolution import PackedConv, can_pack
from model.inference import VideoStream, segment_tracks
from model.ready import Execution, ReadyModel
from model.side_by_side import MOST_WORKERS, SideBySide
from tests.test_inference import tiny, video

SECONDS = 20
"""After which threads that wait for each other have failed"""


@pytest.fixture(autouse=True)
def threads_as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def sure(encoder: str = "ifc") -> ClipModel:
    """Masks that differ: between those of untrained queries rounding decides which track is continued."""
    model = tiny(encoder=encoder)
    with torch.no_grad():
        model.class_head.layers[-1].bias[-1] = -3.0
        model.mask_weight_head.get_parameter("layers.2.weight").mul_(20)
    return model


def test_two_items_are_worked_on_at_the_same_time_and_come_back_in_order() -> None:
    meeting = threading.Barrier(2)

    def work(item: int) -> int:
        meeting.wait(SECONDS)
        return 10 * item

    assert SideBySide(2).map(work, range(6)) == [0, 10, 20, 30, 40, 50]


@pytest.mark.parametrize(
    ("threads", "workers", "each"), [(1, 1, 1), (2, 2, 1), (5, 4, 1), (16, MOST_WORKERS, 4)]
)
def test_workers_share_the_threads(threads: int, workers: int, each: int) -> None:
    torch.set_num_threads(threads)
    together = SideBySide()
    assert together.workers == workers
    seen = set(together.map(lambda _: torch.get_num_threads(), range(8)))
    assert seen == {each}
    assert together.map(lambda _: torch.get_num_threads(), [0]) == [threads], "alone: all of them"
    assert torch.get_num_threads() == threads
    later: list[int] = []
    other = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
    other.start()
    other.join()
    assert later == [threads], "threads that are none of its workers"


def test_no_worker_starts_for_nothing() -> None:
    before = threading.active_count()
    together = SideBySide(2)
    assert together.map(lambda item: item, []) == []
    assert together.map(lambda item: item, [1]) == [1]
    assert threading.active_count() == before


def test_a_start_that_is_broken_off_leaves_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, started = ThreadPoolExecutor.submit, []

    def submit(self: ThreadPoolExecutor, *given: Any) -> Any:
        if started:
            raise KeyboardInterrupt
        started.append(plain(self, *given))
        return started[0]

    monkeypatch.setattr(ThreadPoolExecutor, "submit", submit)
    with pytest.raises(KeyboardInterrupt):
        SideBySide(2).map(lambda item: item, [1, 2])
    with pytest.raises(threading.BrokenBarrierError):
        started[0].result(SECONDS)


def test_workers_need_no_gradients_and_their_errors_arrive() -> None:
    weight = torch.ones(2, requires_grad=True)
    together = SideBySide(2)
    assert not any(x.requires_grad for x in together.map(lambda item: weight * item, range(3)))
    with pytest.raises(ZeroDivisionError):
        together.map(lambda item: 1 // item, [1, 0, 1])
    assert together.map(lambda item: item, [1, 2]) == [1, 2], "and it goes on"


@pytest.mark.parametrize(("length", "window", "stride"), [(11, 3, 1), (11, 4, 3), (7, 7, 1), (2, 5, 1)])
@pytest.mark.parametrize("encoder", list(ENCODERS))
def test_a_video_gives_the_tracks_of_one_frame_after_the_other(
    encoder: str, length: int, window: int, stride: int
) -> None:
    torch.set_num_threads(2)
    model, frames = sure(encoder), video(length)
    together, alone = ReadyModel(model), ReadyModel(model, Execution(side_by_side=False))
    assert (together.frames_together, alone.frames_together) == (2, 1)
    found, wanted = (segment_tracks(each, frames, window, stride, (61, 97)) for each in (together, alone))
    assert len(wanted.scores)
    assert torch.equal(found.labels, wanted.labels)
    assert torch.equal(found.tracks, wanted.tracks)
    torch.testing.assert_close(found.scores, wanted.scores, rtol=1e-5, atol=1e-6)
    assert (found.masks != wanted.masks).float().mean() < 1e-4


def test_frames_and_windows_of_a_video_run_in_several_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(2)
    seen: dict[str, set[int]] = {"frame_features": set(), "detect": set()}
    for name in seen:
        plain = getattr(ReadyModel, name)

        def told(self: ReadyModel, *given: Any, name: str = name, plain: Any = plain) -> Any:
            seen[name].add(threading.get_ident())
            return plain(self, *given)

        monkeypatch.setattr(ReadyModel, name, told)
    segment_tracks(ReadyModel(sure()), video(12), 3, 1, (32, 48))
    assert all(len(idents) > 1 for idents in seen.values())


def test_the_first_window_that_is_not_finite_is_named() -> None:
    torch.set_num_threads(2)
    model = sure()
    stream = VideoStream(model, 3, 1)
    stream.push(video(3))
    with torch.inference_mode():
        for parameter in stream._model._model.decoder.parameters():
            parameter.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match="frames 0-2 are not finite"):
        stream.push(video(4))


@pytest.mark.skipif(not can_pack(), reason="this torch has no packed convolutions")
def test_packed_weights_are_safe_between_threads() -> None:
    torch.manual_seed(0)
    weight, bias = torch.randn(8, 8, 3, 3), torch.randn(8)
    conv = PackedConv(weight, bias, 1)
    pictures = [torch.randn(1, 8, 5 + n % 5, 7) for n in range(60)]
    for found, x in zip(SideBySide(4).map(conv, pictures), pictures, strict=True):
        torch.testing.assert_close(found, F.conv2d(x, weight, bias, padding=1), rtol=1e-4, atol=1e-4)


def test_compiled_models_take_one_after_the_other() -> None:
    assert ReadyModel(sure(), Execution(compiled=True)).frames_together == 1
