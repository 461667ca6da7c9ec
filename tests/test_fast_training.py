"""A training step by our operations equals one by the published ones, gradients included."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from model import build_model, convolution
from model.backbone import ResNet
from model.convolution import Convolution, convolve, weight_gradient
from model.losses import SetCriterion
from model.mask_losses import mask_losses
from model.published.criterion import PublishedCriterion
from model.published.operations import published_operations

K = 3


def layers_of(seed: int, batch: int, queries: int, size: tuple[int, int, int]) -> list[dict[str, Tensor]]:
    """Three decoder layers' outputs in double precision, leaves of a graph."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {"pred_logits": (batch, queries, K + 1), "pred_masks": (batch, queries, *size)}
    return [
        {
            name: (2 * torch.randn(shape, generator=generator, dtype=torch.float64)).requires_grad_()
            for name, shape in shapes.items()
        }
        for _ in range(3)
    ]


def target(
    seed: int, instances: int, frames: int, height: int, width: int, dtype: torch.dtype = torch.bool
) -> dict[str, Tensor]:
    rng = np.random.default_rng(seed)
    masks = torch.from_numpy(rng.random((instances, frames, height, width)) > 0.5).to(dtype)
    return {"labels": torch.from_numpy(rng.integers(0, K, instances)), "masks": masks}


def by_our_products(monkeypatch: pytest.MonkeyPatch, channels: int) -> None:
    """From the smallest convolution on, an image at a time; by few products from so many channels on."""
    limits = {"SMALLEST": 0, "COLUMNS": 1, "FACTORS": 1}
    limits |= {"MINIMAL_CHANNELS": channels, "MINIMAL_GRADIENT_CHANNELS": channels}
    for name, value in limits.items():
        monkeypatch.setattr(convolution, name, value)


def test_losses_and_gradients_equal_the_published_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where masks come in many groups, frames are odd, and instances outnumber queries or are none."""

    @settings(max_examples=40, deadline=None)
    @given(
        st.integers(0, 10_000),
        st.lists(st.integers(0, 5), min_size=1, max_size=3),
        st.integers(1, 4),
        st.integers(1, 3),
        st.tuples(st.integers(2, 6), st.integers(2, 6)),
        st.sampled_from([1, 150, 2**19]),
    )
    def check(
        seed: int, instances: list[int], queries: int, frames: int, grid: tuple[int, int], group: int
    ) -> None:
        for module in ("model.matching", "model.mask_losses"):
            monkeypatch.setattr(f"{module}.pixels_at_once", lambda masks: group)
        height, width = 8 * grid[0] - seed % 8, 8 * grid[1] - seed % 5
        truths = [target(seed + b, n, frames, height, width, torch.float64) for b, n in enumerate(instances)]
        found: list[tuple[dict[str, Tensor], list[Tensor]]] = []
        for kind in (SetCriterion, PublishedCriterion):
            layers = layers_of(seed, len(truths), queries, (frames, *grid))
            outputs: dict[str, Any] = {**layers[-1], "aux_outputs": layers[:-1]}
            criterion = kind(K).double()
            losses = criterion(outputs, truths)
            criterion.total(losses).backward()
            leaves = [x for layer in layers for x in layer.values()]
            found.append((losses, [torch.zeros_like(x) if x.grad is None else x.grad for x in leaves]))
        (losses, gradients), (wanted, wanted_gradients) = found
        assert losses.keys() == wanted.keys()
        for name, value in wanted.items():
            torch.testing.assert_close(losses[name], value)
        for one, other in zip(gradients, wanted_gradients, strict=True):
            torch.testing.assert_close(one, other)

    check()


def test_gradients_of_mask_losses_are_those_of_finite_differences() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 2, 3, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    truths = torch.rand(2, 2, 6, 8, generator=generator, dtype=torch.float64)
    which = torch.tensor([1, 0, 1])
    assert torch.autograd.gradcheck(lambda x: mask_losses(x, truths, which), (logits,))


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 10_000),
    st.sampled_from([1, 3, 5]),
    st.sampled_from([1, 2]),
    st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4), st.integers(1, 9), st.integers(1, 9)),
    st.booleans(),
)
def test_weight_gradients_of_convolutions(
    seed: int, kernel: int, stride: int, shape: tuple[int, ...], channels_last: bool
) -> None:
    generator = torch.Generator().manual_seed(seed)
    images, inputs, outputs, height, width = shape
    x = torch.randn(images, inputs, height, width, generator=generator, dtype=torch.float64)
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    size = (outputs, inputs, kernel, kernel)
    weight = torch.randn(size, generator=generator, dtype=torch.float64)
    gradient = torch.randn_like(torch.nn.functional.conv2d(x, weight, None, stride, kernel // 2))
    wanted = torch.nn.grad.conv2d_weight(x, size, gradient, stride, kernel // 2)
    torch.testing.assert_close(weight_gradient(x, gradient, kernel, stride), wanted)


@pytest.mark.parametrize("channels", [1, 10_000])
@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (1, 2), (3, 1), (3, 2)])
def test_convolutions_are_differentiated_in_all_they_take(
    kernel: int, stride: int, channels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_our_products(monkeypatch, channels)
    generator = torch.Generator().manual_seed(0)
    shapes = (2, 3, 5, 6), (4, 3, kernel, kernel), (4,)
    given = [torch.randn(s, generator=generator, dtype=torch.float64, requires_grad=True) for s in shapes]
    assert torch.autograd.gradcheck(lambda x, weight, bias: convolve(x, weight, bias, stride), given)


@pytest.mark.parametrize("frozen", [0, 2])
def test_a_step_equals_the_published_one(frozen: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Losses and all gradients of a ResNet model, every convolution by our products."""
    by_our_products(monkeypatch, channels=1)
    torch.manual_seed(0)
    sizes = {"hidden_dim": 32, "attention_heads": 2, "ffn_dim": 32, "num_queries": 6}
    own = build_model({"backbone": "resnet18", "num_classes": K, "dropout": 0.0, **sizes}).train()
    assert isinstance(own.backbone, ResNet)
    own.backbone.freeze(frozen)
    published = published_operations(own)
    assert not any(type(module) is Convolution for module in published.modules())
    frames = torch.randint(0, 256, (2, 2, 3, 40, 56), dtype=torch.uint8)
    padding = torch.zeros(2, 40, 56, dtype=torch.bool)
    padding[1, :, 40:] = True
    truths = [target(0, 2, 2, 40, 56), target(1, 1, 2, 40, 56)]
    totals = []
    for model, criterion in ((own, SetCriterion(K)), (published, PublishedCriterion(K))):
        total = criterion.total(criterion(model(frames, padding), truths))
        total.backward()
        totals.append(total.item())
    assert totals[0] == pytest.approx(totals[1], rel=1e-5)
    largest = max(float(p.grad.abs().max()) for p in published.parameters() if p.grad is not None)
    for (name, one), other in zip(own.named_parameters(), published.parameters(), strict=True):
        assert (one.grad is None) == (other.grad is None), name
        if one.grad is not None and other.grad is not None:
            torch.testing.assert_close(one.grad, other.grad, rtol=1e-3, atol=1e-5 * largest, msg=name)
