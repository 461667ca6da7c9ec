"""Windows over a video, and a whole video to tracks."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from model import build_model
from model.backbone import TinyBackbone
from model.clip_model import ClipModel, FrameFeatures
from model.communication import ENCODERS
from model.inference import VideoStream, segment_video, windows

TINY: dict[str, Any] = {
    "backbone": "tiny",
    "memory_tokens": 2,
    "num_classes": 4,
    "num_queries": 5,
    "hidden_dim": 16,
    "attention_heads": 2,
    "ffn_dim": 24,
}
lengths = st.integers(1, 60)


def tiny(**keys: Any) -> ClipModel:
    torch.manual_seed(0)
    return build_model({**TINY, **keys}).eval()


def biased(no_object: float) -> ClipModel:
    """A model whose queries all lean to, or against, "no object"."""
    model = tiny()
    with torch.no_grad():
        model.class_head.layers[-1].bias[-1] = no_object
    return model


def video(length: int, height: int = 32, width: int = 48) -> Tensor:
    generator = torch.Generator().manual_seed(length)
    return torch.randint(0, 256, (length, 3, height, width), generator=generator, dtype=torch.uint8)


@pytest.mark.parametrize("window", [2, 9])
def test_outputs_that_are_no_numbers_are_an_error_not_an_empty_result(window: int) -> None:
    model = build_model({"backbone": "tiny", "hidden_dim": 16, "ffn_dim": 16, "attention_heads": 2})
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match=r"outputs for frames 0-[14] are not finite"):
        segment_video(model, torch.zeros(5, 3, 32, 32, dtype=torch.uint8), window, 1, (32, 32))


@settings(max_examples=200, deadline=None)
@given(lengths, st.integers(1, 20), st.data())
def test_windows_cover_the_video(length: int, window: int, data: st.DataObject) -> None:
    stride = data.draw(st.integers(1, window))
    found = list(windows(length, window, stride))
    assert {frame for span in found for frame in span} == set(range(length))
    assert all(len(span) == min(window, length) for span in found)
    assert found[0].start == 0
    assert found[-1].stop == length
    steps = [after.start - before.start for before, after in pairwise(found)]
    assert all(step == stride for step in steps[:-1])
    assert all(0 < step <= stride for step in steps[-1:])
    assert (len(found) == 1) == (length <= window)


def test_windows_by_hand() -> None:
    assert [list(span) for span in windows(6, 3, 2)] == [[0, 1, 2], [2, 3, 4], [3, 4, 5]]
    assert [list(span) for span in windows(5, 3, 2)] == [[0, 1, 2], [2, 3, 4]]
    assert [list(span) for span in windows(2, 5, 1)] == [[0, 1]]


@pytest.mark.parametrize("bad", [(0, 5, 1), (5, 0, 1), (5, 5, 0)])
def test_windows_of_nothing_are_refused(bad: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        list(windows(*bad))


@pytest.mark.parametrize(
    ("length", "window", "stride", "size"),
    [(9, 3, 2, (64, 96)), (2, 5, 1, (20, 31)), (1, 5, 1, (32, 48)), (1, 1, 1, (32, 48)), (4, 4, 1, (7, 9))],
)
def test_results_of_a_video(length: int, window: int, stride: int, size: tuple[int, int]) -> None:
    found = segment_video(biased(-5.0), video(length), window, stride, size)
    count = len(found["scores"])
    assert count > 0
    assert found["masks"].shape == (count, length, *size)
    assert found["masks"].dtype == torch.bool
    assert found["labels"].dtype == torch.int64
    assert found["labels"].shape == found["tracks"].shape == (count,)
    assert ((found["labels"] >= 0) & (found["labels"] < 4)).all()
    assert ((found["scores"] > 0.01) & (found["scores"] <= 1)).all()
    for track in found["tracks"].unique():
        of_track = found["tracks"] == track
        assert len(found["labels"][of_track].unique()) == of_track.sum()
        masks = found["masks"][of_track]
        assert all(torch.equal(mask, masks[0]) for mask in masks)
    assert len(found["tracks"].unique()) < count  # some track gave several results


@pytest.mark.parametrize("length", [1, 7])
def test_no_query_is_kept(length: int) -> None:
    found = segment_video(biased(100.0), video(length), 3, 1, (64, 96))
    assert {key: tuple(value.shape) for key, value in found.items()} == {
        "scores": (0,),
        "labels": (0,),
        "tracks": (0,),
        "masks": (0, length, 64, 96),
    }


def test_one_window_is_the_models_own_answer() -> None:
    model, frames = biased(-5.0), video(3)
    with torch.no_grad():
        out = model(frames[None])
    found = segment_video(model, frames, 3, 1, out["pred_masks"].shape[-2:], score_threshold=0.0)
    probabilities = out["pred_logits"][0].softmax(-1)[:, :-1]
    assert found["tracks"].unique().tolist() == list(range(5))
    torch.testing.assert_close(
        found["scores"], probabilities[found["tracks"], found["labels"]], rtol=1e-4, atol=1e-5
    )
    assert torch.equal(found["masks"], (out["pred_masks"][0] > 0)[found["tracks"]])


def test_thresholds() -> None:
    model, frames = biased(-5.0), video(6)
    low = segment_video(model, frames, 3, 1, (32, 48), score_threshold=0.0)
    cut = float(low["scores"].median())
    high = segment_video(model, frames, 3, 1, (32, 48), score_threshold=cut)
    assert torch.equal(high["scores"], low["scores"][low["scores"] > cut])
    unlinked = segment_video(model, frames, 3, 1, (32, 48), match_threshold=1.0)
    assert len(unlinked["tracks"].unique()) == 4 * 5  # every prediction of four windows alone


def test_each_frame_passes_the_backbone_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model, seen = tiny(), []
    plain = TinyBackbone.forward

    def counted(self: TinyBackbone, frames: Tensor) -> list[Tensor]:
        seen.append(len(frames))
        return plain(self, frames)

    monkeypatch.setattr(TinyBackbone, "forward", counted)
    segment_video(model, video(13), 4, 1, (32, 48))
    assert sum(seen) == 13


@pytest.mark.parametrize("encoder", list(ENCODERS))
@pytest.mark.parametrize("parts", [[3], [1, 1, 1], [2, 1]], ids=str)
@torch.no_grad()
def test_detections_are_the_clips_answer_however_its_frames_come(encoder: str, parts: list[int]) -> None:
    model, frames = tiny(encoder=encoder), video(3)
    model.class_head.layers[-1].bias[-1] = -1.0
    wanted = model(frames[None])
    features = [model.frame_features(part[None]) for part in frames.split(parts)]
    for found in (model.detect(features), model.detect([FrameFeatures.joined(features)])):
        probabilities = wanted["pred_logits"][0].softmax(-1)
        kept = probabilities.argmax(-1) < model.config.num_classes
        assert kept.sum() > 0
        torch.testing.assert_close(found.class_probs, probabilities[kept], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(found.mask_logits, wanted["pred_masks"][0, kept], rtol=1e-4, atol=1e-5)
        assert found.finite


@pytest.mark.parametrize("encoder", list(ENCODERS))
@torch.no_grad()
def test_frames_alone_are_the_same_in_every_window(encoder: str) -> None:
    """What is kept of a frame depends on no other: encoding it in two windows is encoding it once."""
    model, frames = tiny(encoder=encoder), video(5)
    whole = model.frame_features(frames[None]).part(1, 3)
    for t, part in enumerate([whole.part(0, 1), whole.part(1, 2)], 1):
        alone = model.frame_features(frames[None, t : t + 1])
        for one, other in zip((*part.alone, *part.maps), (*alone.alone, *alone.maps), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_a_stream_gives_each_frame_once_as_soon_as_it_is_final() -> None:
    model, frames = tiny(), video(9)
    stream, seen = VideoStream(model, window=4, stride=1), []
    for pushed, frame in enumerate(frames, 1):
        seen += [final.frame for final in stream.push(frame[None])]
        assert seen == [*range(max(0, pushed - 4))]
    seen += [final.frame for final in stream.finish()]
    assert seen == [*range(9)]


def test_a_model_in_training_mode_predicts_without_dropout_and_stays_in_its_mode() -> None:
    model = tiny(dropout=0.5).train()
    first, second = (segment_video(model, video(4), 2, 1, (32, 48)) for _ in range(2))
    assert model.training
    assert torch.equal(first["scores"], second["scores"])


def test_a_video_without_frames_has_no_results() -> None:
    tracks = segment_video(biased(-9.0), video(0), window=5, stride=1, output_size=(20, 30))
    shapes = {name: tuple(value.shape) for name, value in tracks.items()}
    assert shapes == {"scores": (0,), "labels": (0,), "tracks": (0,), "masks": (0, 0, 20, 30)}
    assert {name: value.dtype for name, value in tracks.items()} == {
        name: value.dtype
        for name, value in segment_video(tiny(), video(2), 5, 1, output_size=(20, 30)).items()
    }
