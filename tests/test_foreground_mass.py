"""Masks on the token grid, and attention mass on them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.attend.foreground import cell_edges, cell_shares, on_masks, token_numbers, tokens_apart

sizes = st.integers(17, 90)


def edges_of(height: int, width: int, stride: int = 16) -> tuple[np.ndarray, np.ndarray]:
    rows, columns = (cell_edges(side, -(-side // stride), side, stride) for side in (height, width))
    return rows, columns


def test_cells_are_centred_where_the_backbone_looks() -> None:
    """Centres at 0.5, 16.5, 32.5, 48.5: a step in the middle between them."""
    assert cell_edges(64, 4, 64, 16).tolist() == [0, 8.5, 24.5, 40.5, 64]
    assert cell_edges(128, 4, 64, 16).tolist() == [0, 17, 49, 81, 128]
    assert cell_edges(64, 6, 64, 16).tolist() == [0, 8.5, 24.5, 40.5, 64, 64, 64], "two cells of padding"
    assert cell_edges(30, 1, 15, 16).tolist() == [0, 30]


def test_centres_are_those_of_the_convolutions() -> None:
    """A single pixel changes the token whose centre it is more than any other (linear, even kernels)."""
    torch = pytest.importorskip("torch")
    x = torch.zeros(64, 1, 1, 64)
    x[torch.arange(64), 0, 0, torch.arange(64)] = 1
    kernel = torch.tensor([0.25, 0.5, 0.25])[None, None, None]
    for _ in range(4):
        x = torch.nn.functional.conv2d(x, kernel, stride=(1, 2), padding=(0, 1))
    strongest = x[:, 0, 0].argmax(-1).numpy()
    edges = cell_edges(64, 4, 64, 16)
    assert (strongest == np.searchsorted(edges[1:-1], np.arange(64) + 0.5, "right"))[
        [0, 5, 16, 20, 32, 48]
    ].all()
    reached = x[:, 0, 0] > 0
    centre = (reached * torch.arange(64)[:, None]).sum(0) / reached.sum(0)
    assert centre[1:3].tolist() == [16, 32]


def test_shares_by_hand() -> None:
    mask = np.zeros((32, 32), np.bool_)
    mask[:4, 16:] = True
    shares = cell_shares(mask, edges_of(32, 32))
    # Rows and columns: [0, 8.5) and [8.5, 32).
    assert shares == pytest.approx(np.array([[0, 4 * 16 / (8.5 * 23.5)], [0, 0]]))


@given(sizes, sizes, st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_shares_keep_the_area(height: int, width: int, seed: int) -> None:
    mask = np.random.default_rng(seed).random((height, width)) < 0.3
    rows, columns = edges_of(height, width)
    shares = cell_shares(mask, (rows, columns))
    areas = np.diff(rows)[:, None] * np.diff(columns)
    assert (shares * areas).sum() == pytest.approx(mask.sum())
    assert (shares >= 0).all()
    assert (shares <= 1 + 1e-12).all()
    assert cell_shares(~mask, (rows, columns)) == pytest.approx(1 - shares)


@given(sizes, sizes, st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_an_even_gaze_has_lift_one(height: int, width: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    masks = [rng.random((height, width)) < level for level in (0.2, 0.7)]
    edges = edges_of(height, width)
    shares = np.stack([cell_shares(mask, edges) for mask in masks])
    even = np.full((2, 1, 3, *shares.shape[1:]), 0.01, np.float32)
    for each in token_numbers(even, shares):
        assert each.lift == pytest.approx(1)
        assert each.on_foreground == pytest.approx(each.area)
    assert tokens_apart(even) == [pytest.approx(0)]


def test_padding_counts_for_nothing() -> None:
    mask = np.zeros((40, 40), np.bool_)
    mask[:20] = True
    rows = cell_edges(40, 5, 40, 16)  # 3 cells and 2 of padding
    shares = cell_shares(mask, (rows, rows))
    assert np.isnan(shares[3:]).all()
    assert np.isnan(shares[:, 3:]).all()
    inside = cell_shares(mask, (rows[:4], rows[:4]))
    assert (shares[:3, :3] == inside).all()
    attention = np.random.default_rng(0).random((5, 5))
    assert on_masks(attention, shares) == pytest.approx(on_masks(attention[:3, :3], inside))
    numbers = token_numbers(attention[None, None, None].astype(np.float32), shares[None])
    assert numbers[0].area == pytest.approx(inside.mean())


def test_numbers_by_hand() -> None:
    shares = np.array([[[1.0, 0.5], [0.0, 0.0]]])
    attention = np.array([[[[[0.4, 0.2], [0.1, 0.1]], [[0.0, 0.0], [0.25, 0.25]]]]], np.float32)
    first, second = token_numbers(attention, shares)
    assert (first.layer, first.token, second.token) == (0, 0, 1)
    assert (first.to_frame, second.to_frame) == (pytest.approx(0.8), pytest.approx(0.5))
    assert first.on_foreground == pytest.approx(0.5 / 0.8)
    assert first.area == pytest.approx(1.5 / 4)
    assert first.lift == pytest.approx(0.5 / 0.8 / (1.5 / 4))
    assert second.lift == 0
    # |0.5 - 0| + |0.25 - 0| + |0.125 - 0.5| twice, halved
    assert tokens_apart(attention) == [pytest.approx(0.75)]
    assert tokens_apart(attention[:, :, :1]) == [None]


def test_without_masks_there_is_no_lift() -> None:
    numbers = token_numbers(np.full((2, 1, 1, 2, 2), 0.2, np.float32), np.zeros((2, 2, 2)))
    assert numbers[0].lift is None
    assert numbers[0].on_foreground == 0
