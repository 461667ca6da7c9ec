"""Attention weights computed again: against the layer's own output and torch's own weights."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from model import ModelConfig, build_model
from model.attention import Attention
from model.checkpoint import from_published
from model.clip_model import ClipModel
from model.communication import IFC
from model.memory_attention import attended, attention_weights, memory_attention, reads_memory

FIXTURES = Path(__file__).resolve().parent / "fixtures"
sys.path.insert(0, str(FIXTURES))
from seeded_weights import seeded_value, seeded_video  # noqa: E402


def tiny(**changed: object) -> ClipModel:
    settings = {
        "backbone": "tiny",
        "encoder": "ifc",
        "hidden_dim": 16,
        "attention_heads": 4,
        "ffn_dim": 32,
        "encoder_layers": 3,
        "decoder_layers": 1,
        "memory_tokens": 5,
        "num_queries": 3,
        "num_classes": 2,
        "dropout": 0.0,
    }
    torch.manual_seed(0)
    return build_model(ModelConfig.parse({**settings, **changed})).eval()


def clip(frames: int, height: int, width: int) -> Tensor:
    return torch.rand(frames, 3, height, width, generator=torch.Generator().manual_seed(1)) * 255


@given(
    st.integers(1, 3), st.integers(1, 6), st.integers(1, 9), st.sampled_from([1, 2, 4]), st.integers(0, 99)
)
@settings(max_examples=30, deadline=None)
def test_weights_are_those_of_torchs_own_attention(b: int, n: int, s: int, heads: int, seed: int) -> None:
    torch.manual_seed(seed)
    ours = Attention(8, heads, 0.0)
    nn.init.normal_(ours.in_proj_bias)
    theirs = nn.MultiheadAttention(8, heads, batch_first=True)
    theirs.load_state_dict(ours.state_dict())
    query, key, value = torch.randn(b, n, 8), torch.randn(b, s, 8), torch.randn(b, s, 8)
    padding = torch.rand(b, s) < 0.4
    padding[:, 0] = False
    weights = attention_weights(ours, query, key, padding)
    output, wanted = theirs(query, key, value, padding, need_weights=True, average_attn_weights=False)
    torch.testing.assert_close(weights, wanted, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(weights.sum(-1), torch.ones(b, heads, n))
    assert not weights.masked_select(padding[:, None, None].expand_as(weights)).any()
    torch.testing.assert_close(attended(ours, weights, value), output, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(
        attended(ours, weights, value), ours(query, key, value, padding), atol=1e-6, rtol=1e-5
    )


def test_memory_tokens_of_a_clip() -> None:
    model, frames = tiny(), clip(4, 48, 80)
    found = memory_attention(model, frames)
    assert found.grid == (3, 5)
    assert found.weights.shape == (3, 4, 4, 5, 20)
    assert found.to_frame.shape == (3, 4, 4, 5, 3, 5)
    assert found.to_memory.shape == (3, 4, 4, 5, 5)
    torch.testing.assert_close(found.weights.sum(-1), torch.ones(3, 4, 4, 5))
    total = found.to_frame.sum((-1, -2)) + found.to_memory.sum(-1)
    torch.testing.assert_close(total, torch.ones(3, 4, 4, 5))
    assert found.deviation < 1e-5


def test_the_models_own_path_is_untouched_bit_for_bit() -> None:
    model, frames = tiny(), clip(3, 48, 64)
    with torch.inference_mode():
        before = model(frames[None])
        memory_attention(model, frames)
        after = model(frames[None])
    assert all(torch.equal(before[key], after[key]) for key in ("pred_logits", "pred_masks"))
    assert not any(module._forward_hooks for module in model.modules())


def test_hooks_go_away_when_something_fails() -> None:
    model = tiny()
    with pytest.raises(RuntimeError):
        memory_attention(model, torch.zeros(3, 48, 64))
    assert not any(module._forward_hooks for module in model.modules())


def test_padding_is_not_looked_at() -> None:
    model = tiny()
    padded = torch.zeros(3, 3, 64, 96)
    padded[..., :48, :64] = clip(3, 48, 64)
    outside = torch.ones(64, 96, dtype=torch.bool)
    outside[:48, :64] = False
    found = memory_attention(model, padded, outside)
    assert found.grid == (4, 6)
    inside = found.to_frame[..., :3, :4]
    assert (inside > 0).all()
    torch.testing.assert_close(found.to_frame.sum((-1, -2)), inside.sum((-1, -2)), atol=0, rtol=1e-6)
    torch.testing.assert_close(found.weights.sum(-1), torch.ones(3, 3, 4, 5))
    assert found.deviation < 1e-5
    unpadded = memory_attention(model, padded)
    assert (unpadded.to_frame[..., 3:, :] > 0).all()


def test_the_first_layer_does_not_depend_on_the_window_and_later_ones_do() -> None:
    model, frames = tiny(), clip(4, 48, 64)
    whole, part = memory_attention(model, frames), memory_attention(model, frames[:2])
    torch.testing.assert_close(whole.weights[0, :2], part.weights[0])
    assert (whole.weights[1, :2] - part.weights[1]).abs().max() > 1e-6


@pytest.mark.parametrize(
    "changed", [{"encoder": "no_comm"}, {"encoder": "full_thw"}, {"memory_tokens": 0}, {"training": True}]
)
def test_models_without_memory_tokens_are_refused(changed: dict[str, object]) -> None:
    training = changed.pop("training", False)
    model = tiny(**changed).train(bool(training))
    assert reads_memory(model) == bool(training)
    with pytest.raises(ValueError, match=r"no memory tokens|evaluation mode"):
        memory_attention(model, clip(2, 32, 32))


def test_published_sizes_by_seeded_weights() -> None:
    """Width 256, 8 heads, 8 tokens, 3 layers, against torch's own attention on what the layers were given."""
    lines = (FIXTURES / "official_state_dict.tsv").read_text(encoding="utf-8").splitlines()
    shapes = dict(line.split("\t") for line in lines if not line.startswith("#"))
    model = build_model({}).eval()
    model.load_state_dict(
        from_published(
            {
                name: torch.from_numpy(seeded_value(name, tuple(int(side) for side in shape.split("x"))))
                for name, shape in shapes.items()
            }
        )
    )
    frames = torch.from_numpy(seeded_video(2, 64, 96, 3))
    encoder = model.encoder
    assert isinstance(encoder, IFC)
    given: list[Any] = []
    handles = [
        layer.self_attention.register_forward_hook(lambda module, inputs, _: given.append((module, inputs)))  # type: ignore[union-attr]
        for layer in encoder.receive
    ]
    found = memory_attention(model, frames)
    for handle in handles:
        handle.remove()
    assert found.weights.shape == (3, 2, 8, 8, 2 * 3 + 8)
    assert found.deviation < 1e-4
    for own, (module, (query, key, value, _)) in zip(found.weights, given, strict=True):
        theirs = nn.MultiheadAttention(256, 8, batch_first=True)
        theirs.load_state_dict(module.state_dict())
        with torch.no_grad():
            wanted = theirs(query, key, value, average_attn_weights=False)[1]
        torch.testing.assert_close(own, wanted[:, :, -8:], atol=1e-6, rtol=1e-4)
