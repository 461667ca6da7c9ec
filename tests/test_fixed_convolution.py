"""Convolutions with fixed weights equal the library's, and are chosen where they may be."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from model import build_model, fixed_convolution
from model.fixed_convolution import DoubledConv, FixedConv, MinimalConv, PackedConv, can_pack
from model.ready import Execution, ReadyModel

needs_packing = pytest.mark.skipif(not can_pack(), reason="this torch has no packed convolutions")


def expected(x: Tensor, weight: Tensor, bias: Tensor, stride: int, plus: bool, relu: bool) -> Tensor:
    """In double precision; what is added is 1, 2, 3, ..."""
    y = F.conv2d(x.double(), weight.double(), bias.double(), stride, weight.shape[-1] // 2)
    y = y + added(y.shape).double() if plus else y
    return (y.relu() if relu else y).float()


def added(shape: torch.Size) -> Tensor:
    return torch.arange(float(shape.numel())).reshape(shape) / shape.numel()


@pytest.mark.parametrize("kind", [FixedConv, pytest.param(PackedConv, marks=needs_packing), MinimalConv])
def test_each_kind_is_the_convolution(kind: type[nn.Module]) -> None:
    @settings(max_examples=60, deadline=None)
    @given(
        st.integers(0, 10_000),
        st.sampled_from([1, 3, 7]),
        st.sampled_from([1, 2]),
        st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9)),
        st.tuples(st.integers(1, 20), st.integers(1, 20)),
        st.booleans(),
        st.booleans(),
        st.booleans(),
    )
    @torch.inference_mode()
    def check(
        seed: int,
        kernel: int,
        stride: int,
        shape: tuple[int, int, int],
        size: tuple[int, int],
        channels_last: bool,
        plus: bool,
        relu: bool,
    ) -> None:
        kernel, stride = (3, 1) if kind is MinimalConv else (kernel, stride)
        generator = torch.Generator().manual_seed(seed)
        images, inputs, outputs = shape
        x = torch.randn(images, inputs, *size, generator=generator)
        if channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        weight = torch.randn(outputs, inputs, kernel, kernel, generator=generator)
        bias = torch.randn(outputs, generator=generator)
        wanted = expected(x, weight, bias, stride, plus, relu)
        conv = kind(weight, bias) if kind is MinimalConv else kind(weight, bias, stride)
        before = x.clone()
        for _ in range(2):  # what was packed is packed once
            found = conv(x, plus=added(wanted.shape) if plus else None, relu=relu)
            torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
        assert torch.equal(x, before)

    check()


@needs_packing
@torch.inference_mode()
def test_packed_weights_follow_the_size_of_frames() -> None:
    torch.manual_seed(0)
    weight, bias = torch.randn(8, 8, 3, 3), torch.randn(8)
    conv = PackedConv(weight, bias, 1)
    for size in ((1, 9, 7), (4, 9, 7), (4, 30, 40), (1, 30, 40), (1, 9, 7), (2, 1, 1)):
        x = torch.randn(size[0], 8, *size[1:])
        torch.testing.assert_close(conv(x), F.conv2d(x, weight, bias, 1, 1), rtol=1e-4, atol=1e-5)


@torch.inference_mode()
def test_fewer_products_round_no_worse() -> None:
    """At the channels it is used from: against double precision, beside the library's convolution."""
    torch.manual_seed(0)
    x = torch.randn(1, 256, 23, 40).relu()
    weight, bias = torch.randn(256, 256, 3, 3) / 48, torch.randn(256)
    exact = F.conv2d(x.double(), weight.double(), bias.double(), padding=1)
    of_library = (F.conv2d(x, weight, bias, padding=1) - exact).norm() / exact.norm()
    of_ours = (MinimalConv(weight, bias)(x) - exact).norm() / exact.norm()
    assert of_ours < max(2 * float(of_library), 1e-6)


def kinds(model: ReadyModel) -> set[type[nn.Module]]:
    special = (FixedConv, PackedConv, MinimalConv, DoubledConv)
    parts = (model._model, model._shared)
    return {type(module) for part in parts for module in part.modules() if isinstance(module, special)}


def test_kinds_are_chosen_by_what_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build_model({"backbone": "resnet18", "num_classes": 3, "hidden_dim": 16, "attention_heads": 2})
    packed = PackedConv if can_pack() else FixedConv
    assert kinds(ReadyModel(model)) == {packed, MinimalConv, DoubledConv}
    assert kinds(ReadyModel(model, Execution(convolutions="minimal"))) == {
        FixedConv,
        MinimalConv,
        DoubledConv,
    }
    for execution in (Execution(convolutions="library"), Execution("bfloat16"), Execution(compiled=True)):
        assert kinds(ReadyModel(model, execution)) == {FixedConv, DoubledConv}
    monkeypatch.setattr(fixed_convolution, "can_pack", lambda: False)
    assert kinds(ReadyModel(model)) == {FixedConv, MinimalConv, DoubledConv}


def test_all_kinds_give_the_same_tracks() -> None:
    from model.inference import segment_tracks

    torch.manual_seed(0)
    model = build_model({"backbone": "resnet18", "num_classes": 3, "hidden_dim": 16, "attention_heads": 2})
    with torch.no_grad():
        model.class_head.get_parameter("layers.1.bias")[-1] = -0.5
    frames = torch.randint(0, 256, (6, 3, 50, 70), dtype=torch.uint8)
    found = [
        segment_tracks(ReadyModel(model, Execution(convolutions=kind)), frames, 4, 1, (50, 70))
        for kind in ("library", "minimal", "packed")
    ]
    assert len(found[0].scores) > 0
    for other in found[1:]:
        torch.testing.assert_close(other.scores, found[0].scores, rtol=1e-4, atol=1e-6)
        assert (other.masks != found[0].masks).float().mean() < 1e-4
