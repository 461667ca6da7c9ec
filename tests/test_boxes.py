"""Boxes: formats, overlap, boxes of masks. Laws that hold for any box and any mask."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as rle
from torch import Tensor

from model.boxes import boxes_of_masks, frame_shares, generalised_iou, to_centred, to_corners

GRID = 8
seeds = st.integers(0, 10_000)
cells = st.tuples(*[st.integers(0, GRID - 1)] * 2, *[st.integers(1, GRID)] * 2).map(
    lambda b: (b[0], b[1], min(GRID, b[0] + b[2]), min(GRID, b[1] + b[3]))
)
numbers = st.floats(0, 1, width=32)


def random_masks(seed: int, instances: int = 2, frames: int = 3, height: int = 7, width: int = 9) -> Tensor:
    """Masks of every density: some are empty, some of one pixel, some full."""
    rng = np.random.default_rng(seed)
    density = rng.choice([0, 0.02, 0.2, 1], (instances, frames, 1, 1))
    return torch.from_numpy(rng.random((instances, frames, height, width)) < density)


def covered(box: tuple[int, int, int, int]) -> set[tuple[int, int]]:
    left, top, right, bottom = box
    return {(x, y) for x in range(left, right) for y in range(top, bottom)}


@settings(max_examples=50, deadline=None)
@given(numbers, numbers, numbers, numbers)
def test_formats_are_each_others_inverse(cx: float, cy: float, w: float, h: float) -> None:
    box = torch.tensor([cx, cy, w, h])
    torch.testing.assert_close(to_centred(to_corners(box)), box, rtol=0, atol=1e-6)


def test_formats_by_hand() -> None:
    corners = to_corners(torch.tensor([[0.5, 0.25, 0.2, 0.5]]))
    torch.testing.assert_close(corners, torch.tensor([[0.4, 0.0, 0.6, 0.5]]))
    torch.testing.assert_close(to_centred(corners), torch.tensor([[0.5, 0.25, 0.2, 0.5]]))


@settings(max_examples=200, deadline=None)
@given(cells, cells)
def test_generalised_iou_counts_cells(
    one: tuple[int, int, int, int], other: tuple[int, int, int, int]
) -> None:
    first, second = covered(one), covered(other)
    both, either = len(first & second), len(first | second)
    around = len(covered((*map(min, one[:2], other[:2]), *map(max, one[2:], other[2:]))))  # type: ignore[arg-type]
    wanted = both / either - (around - either) / around
    found = generalised_iou(torch.tensor(one) / GRID, torch.tensor(other) / GRID)
    assert float(found) == pytest.approx(wanted, abs=1e-6)


@settings(max_examples=100, deadline=None)
@given(seeds)
def test_laws_of_generalised_iou(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    one, other = to_corners(torch.rand(2, 20, 4, generator=generator))
    found = generalised_iou(one, other)
    assert ((found >= -1) & (found <= 1 + 1e-6)).all()
    torch.testing.assert_close(generalised_iou(other, one), found)
    torch.testing.assert_close(generalised_iou(one, one), torch.ones(20))
    moved, scaled = one + 0.3, 2.5 * one
    torch.testing.assert_close(generalised_iou(moved, other + 0.3), found, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(generalised_iou(scaled, 2.5 * other), found, rtol=1e-4, atol=1e-5)
    pairs = generalised_iou(one[:, None], other)
    assert pairs.shape == (20, 20)
    torch.testing.assert_close(pairs.diagonal(), found)


def test_boxes_far_apart_are_worse_than_boxes_near() -> None:
    box = torch.tensor([0.0, 0.0, 0.1, 0.1])
    gaps = [float(generalised_iou(box, box + step)) for step in (0.0, 0.05, 0.1, 0.3, 0.9)]
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[0] == pytest.approx(1)
    assert gaps[-1] < -0.9


@pytest.mark.parametrize("size", [(0.0, 0.0), (0.0, 0.5), (1.0, 0.0)])
def test_boxes_without_area_have_finite_values_and_gradients(size: tuple[float, float]) -> None:
    for other in ((0.5, 0.5, 0.0, 0.0), (0.5, 0.5, *size), (0.2, 0.3, 0.1, 0.2), (0.5, 0.5, 1.0, 1.0)):
        box = torch.tensor([0.5, 0.5, *size], requires_grad=True)
        found = generalised_iou(to_corners(box), to_corners(torch.tensor(other)))
        found.backward()
        assert -1 <= found.item() <= 1
        assert box.grad is not None
        assert box.grad.isfinite().all()


@settings(max_examples=100, deadline=None)
@given(seeds)
def test_the_box_of_a_mask_reaches_just_as_far_as_the_mask(seed: int) -> None:
    masks = random_masks(seed)
    boxes, present = boxes_of_masks(masks)
    assert boxes.shape == (2, 3, 4)
    assert torch.equal(present, masks.flatten(2).any(2))
    corners = (to_corners(boxes) * torch.tensor([9, 7, 9, 7])).round().int()
    torch.testing.assert_close(to_corners(boxes) * torch.tensor([9, 7, 9, 7]), corners.float())
    for mask, (left, top, right, bottom), there in zip(
        masks.flatten(0, 1), corners.flatten(0, 1).tolist(), present.flatten().tolist(), strict=True
    ):
        if not there:
            assert (left, top, right, bottom) == (0, 0, 0, 0)
            continue
        inside = mask[top:bottom, left:right]
        assert inside.sum() == mask.sum(), "nothing lies outside"
        assert all(edge.any() for edge in (inside[0], inside[-1], inside[:, 0], inside[:, -1])), (
            "nor is it wider"
        )


@settings(max_examples=50, deadline=None)
@given(seeds)
def test_boxes_are_those_of_the_annotation_tools(seed: int) -> None:
    masks = random_masks(seed, instances=1)
    wanted = rle.toBbox([rle.encode(np.asfortranarray(m.numpy().astype(np.uint8))) for m in masks[0]])
    found = to_corners(boxes_of_masks(masks)[0][0]) * torch.tensor([9, 7, 9, 7])
    found[:, 2:] -= found[:, :2]
    np.testing.assert_allclose(found.numpy(), wanted, atol=1e-5)


@settings(max_examples=50, deadline=None)
@given(seeds)
def test_flips_of_masks_are_flips_of_boxes(seed: int) -> None:
    masks = random_masks(seed)
    boxes, present = boxes_of_masks(masks)
    for axis, place in ((-1, 0), (-2, 1)):
        mirrored = boxes.clone()
        mirrored[..., place] = torch.where(present, 1 - boxes[..., place], boxes[..., place])
        found, there = boxes_of_masks(masks.flip(axis))
        torch.testing.assert_close(found, mirrored)
        assert torch.equal(there, present)
    torch.testing.assert_close(boxes_of_masks(masks.flip(1))[0], boxes.flip(1))


@settings(max_examples=50, deadline=None)
@given(seeds, st.integers(0, 5), st.integers(0, 5))
def test_padding_leaves_the_boxes_of_a_clip_alone(seed: int, right: int, below: int) -> None:
    masks = random_masks(seed)
    padded = torch.nn.functional.pad(masks, (0, right, 0, below))
    found, wanted = boxes_of_masks(padded, torch.tensor([7, 9])), boxes_of_masks(masks)
    assert torch.equal(found[0], wanted[0])
    assert torch.equal(found[1], wanted[1])
    if right and wanted[1].any():
        assert not torch.equal(boxes_of_masks(padded)[0], wanted[0])


def test_masks_of_shares_count_wherever_they_are_above_nothing() -> None:
    masks = torch.zeros(1, 1, 4, 4)
    masks[0, 0, 1, 2], masks[0, 0, 2, 2] = 0.1, 1.0
    boxes, present = boxes_of_masks(masks)
    torch.testing.assert_close(to_corners(boxes)[0, 0], torch.tensor([0.5, 0.25, 0.75, 0.75]))
    assert present.all()


def test_no_instances_have_no_boxes() -> None:
    boxes, present = boxes_of_masks(torch.zeros(0, 3, 7, 9) > 0)
    assert boxes.shape == (0, 3, 4)
    assert present.shape == (0, 3)


def test_shares_of_frames() -> None:
    present = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0]]) > 0
    assert frame_shares(present).tolist() == [[0.5, 0.5, 0, 0], [0.25] * 4, [0] * 4]
