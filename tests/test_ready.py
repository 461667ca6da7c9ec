"""Models made ready to segment videos: what changes outputs, what does not, and what is copied."""

from __future__ import annotations

import shutil
from typing import Any

import pytest
import torch

from model import build_model
from model.clip_model import ClipModel
from model.inference import VideoStream, segment_tracks
from model.ready import Execution, ReadyModel
from model.shared_spatial_decoder import SharedSpatialDecoder

SMALL: dict[str, Any] = {
    "memory_tokens": 2,
    "num_classes": 4,
    "num_queries": 6,
    "hidden_dim": 16,
    "attention_heads": 2,
    "ffn_dim": 24,
}


def small(backbone: str = "tiny", encoder: str = "ifc") -> ClipModel:
    torch.manual_seed(0)
    model = build_model({**SMALL, "backbone": backbone, "encoder": encoder}).eval()
    with torch.no_grad():
        model.class_head.get_parameter("layers.1.bias")[-1] = -1.0
        model.mask_weight_head.get_parameter("layers.2.weight").mul_(20)
    return model


def video(length: int = 5) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (length, 3, 48, 64), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("backbone", ["tiny", "resnet18"])
def test_a_ready_model_is_a_copy(backbone: str) -> None:
    model, frames = small(backbone), video()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    ready = ReadyModel(model)
    first = segment_tracks(ready, frames, 3, 1, (48, 64))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.requires_grad for p in model.parameters())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    again = segment_tracks(ready, frames, 3, 1, (48, 64))
    assert torch.equal(first.scores, again.scores)
    assert torch.equal(first.masks, again.masks)


@pytest.mark.parametrize(
    ("encoder", "window", "stride", "length", "shared"),
    [
        ("ifc", 4, 1, None, True),
        ("ifc", 6, 2, None, True),
        ("ifc", 4, 2, None, False),
        ("ifc", 4, 1, 4, False),
        ("no_comm", 4, 1, None, False),
    ],
)
def test_windows_share_where_that_pays(
    encoder: str, window: int, stride: int, length: int | None, shared: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = []
    plain = SharedSpatialDecoder.forward
    monkeypatch.setattr(
        SharedSpatialDecoder, "forward", lambda self, *maps: used.append(True) or plain(self, *maps)
    )
    stream = VideoStream(small(encoder=encoder), window, stride, length=length)
    stream.push(video(length or 6))
    stream.finish()
    assert bool(used) is shared


@pytest.mark.parametrize("encoder", ["ifc", "no_comm", "full_thw", "decomp_t_hw"])
def test_bfloat16_gives_nearly_the_same_tracks(encoder: str) -> None:
    model, frames = small("resnet18", encoder), video()
    exact = segment_tracks(ReadyModel(model), frames, 5, 1, (48, 64))
    found = segment_tracks(ReadyModel(model, Execution("bfloat16")), frames, 5, 1, (48, 64))
    assert found.scores.dtype == torch.float32
    assert len(found.masks) == len(exact.masks)
    union = (found.masks | exact.masks).sum()
    assert (found.masks & exact.masks).sum() / union > 0.9
    assert not torch.equal(found.scores, exact.scores), "it is another precision"


@pytest.mark.long
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on CPUs")
def test_a_compiled_model_gives_the_same_tracks() -> None:
    model = small()
    exact = segment_tracks(ReadyModel(model), video(), 3, 1, (48, 64))
    found = segment_tracks(ReadyModel(model, Execution(compiled=True)), video(), 3, 1, (48, 64))
    assert torch.equal(found.labels, exact.labels)
    torch.testing.assert_close(found.scores, exact.scores, rtol=1e-4, atol=1e-5)
    assert (found.masks != exact.masks).float().mean() < 1e-3
