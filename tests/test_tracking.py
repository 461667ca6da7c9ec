"""The clip tracker against a plain re-implementation that keeps every window of the whole video."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from model.tracking import ClipTracker, soft_iou

K, H, W = 3, 4, 5
Window = tuple[range, np.ndarray, np.ndarray]


def moving(rng: np.random.Generator, length: int, objects: int) -> np.ndarray:
    """Logits (objects, L, H, W) of blobs that drift."""
    yy, xx = np.mgrid[:H, :W]
    centre, speed = rng.uniform(0, 4, (objects, 2)), rng.uniform(-0.3, 0.3, (objects, 2))
    at = centre[:, None] + speed[:, None] * np.arange(length)[None, :, None]
    distance = (yy - at[..., 0, None, None]) ** 2 + (xx - at[..., 1, None, None]) ** 2
    return 4 - 2 * distance


@st.composite
def scenes(draw: st.DrawFn) -> tuple[int, list[Window]]:
    """A video's length, and windows with predictions in random order, some missing, some spurious."""
    length, window = draw(st.integers(1, 12)), draw(st.integers(1, 5))
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    objects = moving(rng, length, draw(st.integers(0, 5)))
    starts = [0]
    while starts[-1] + window < length:
        starts.append(min(starts[-1] + draw(st.integers(1, window)), length - window))
    made = []
    for start in starts:
        span = range(start, min(start + window, length))
        seen = rng.permutation(len(objects))[: int(rng.integers(0, len(objects) + 1))]
        masks = objects[seen][:, list(span)] + rng.normal(0, 1, (len(seen), len(span), H, W))
        noise = rng.normal(-1, 3, (int(rng.integers(0, 2)), len(span), H, W))
        masks = np.concatenate([masks, noise]).astype(np.float32)
        made.append((span, rng.random((len(masks), K + 1)).astype(np.float32), masks))
    return length, made


def brute_force(length: int, made: list[Window], threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """Buffers (windows, instances, L, H, W) with NaN where nothing was saved."""
    total = sum(len(probs) for _, probs, _ in made)
    saved = np.full((len(made), total, length, H, W), np.nan)
    classes = np.full((len(made), total, K + 1), np.nan)
    known = 0
    for now, (span, probs, masks) in enumerate(made):
        full = np.full((len(masks), length, H, W), np.nan)
        full[:, list(span)] = masks
        score = np.zeros((known, len(masks)))
        for i, j in np.ndindex(*score.shape):
            values = []
            for then in range(now):
                valid = ~np.isnan(saved[then, i, :, 0, 0]) & ~np.isnan(full[j, :, 0, 0])
                if valid.any():
                    p, q = (1 / (1 + np.exp(-x[valid])) for x in (saved[then, i], full[j]))
                    values.append((p * q).sum() / ((p + q - p * q).sum() + 1e-6))
            score[i, j] = sum(values) / (len(values) + 1e-6)
        score[score <= threshold] = 0
        owner = {}
        for i, j in zip(*linear_sum_assignment(score, maximize=True), strict=True):
            if score[i, j] > threshold:
                owner[j] = i
        for j in range(len(masks)):
            if j not in owner:
                owner[j] = known
                known += 1
            saved[now, owner[j]], classes[now, owner[j]] = full[j], probs[j]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a mean of nothing is NaN, and meant to be
        return np.nanmean(classes[:, :known], 0), np.nanmean(saved[:, :known], 0)


def track(made: list[Window], threshold: float = 0.05) -> ClipTracker:
    tracker = ClipTracker(K, threshold)
    for span, probs, masks in made:
        tracker.update(span, torch.from_numpy(probs), torch.from_numpy(masks))
    return tracker


@settings(max_examples=60, deadline=None)
@given(scenes(), st.sampled_from([0.05, 0.3]))
def test_equals_the_plain_tracker(scene: tuple[int, list[Window]], threshold: float) -> None:
    length, made = scene
    classes, masks = track(made, threshold).result(length)
    wanted_classes, wanted_masks = brute_force(length, made, threshold)
    if not len(wanted_classes):
        wanted_classes, wanted_masks = np.zeros((0, K + 1)), np.zeros((0, length, H, W))
    np.testing.assert_allclose(classes.numpy(), wanted_classes, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(masks.numpy(), wanted_masks, rtol=1e-4, atol=1e-5)


def cells(*rows: int, frames: int = 2, columns: int = 8) -> Tensor:
    """Logits (N, T, 10, columns): prediction i is sure of row ``rows[i]`` and of nothing else."""
    logits = torch.full((len(rows), frames, 10, columns), -8.0)
    for i, row in enumerate(rows):
        logits[i, :, row] = 8.0
    return logits


def sure(*labels: int) -> Tensor:
    return torch.eye(K + 1)[list(labels)]


def test_instances_come_in_order_of_first_appearance() -> None:
    tracker = ClipTracker(K)
    tracker.update([0, 1], sure(0, 1), cells(4, 7))
    tracker.update([1, 2], sure(2, 1, 0), cells(1, 7, 4))
    classes, masks = tracker.result(3)
    assert classes.argmax(1).tolist() == [0, 1, 2]
    assert [(m[1] > 0).any(1).nonzero().item() for m in masks] == [4, 7, 1]
    assert masks[:, 0].isnan().flatten(1).all(1).tolist() == [False, False, True]


def test_logits_and_classes_are_averaged_over_the_windows_that_saw_them() -> None:
    tracker = ClipTracker(K)
    tracker.update([0, 1], sure(0), cells(4))
    tracker.update([1, 2], sure(1), cells(4) / 2)
    classes, masks = tracker.result(4)
    assert classes.tolist() == [[0.5, 0.5, 0, 0]]
    assert masks[0, :3, 4, 0].tolist() == [8, 6, 4]
    assert masks[0, 3].isnan().all()


def test_a_score_at_the_threshold_is_not_linked() -> None:
    one, other = cells(0, 0, frames=1), cells(0, 1, frames=1)
    score = float(soft_iou(one.sigmoid()[:1], other.sigmoid()[:1]))
    for threshold, instances in ((score, 2), (score - 1e-3, 1)):
        tracker = ClipTracker(K, threshold)
        tracker.update([0], sure(0), one[:1])
        tracker.update([0], sure(0), other[:1])
        assert len(tracker.result(1)[0]) == instances


def test_weak_pairs_do_not_decide_how_strong_ones_are_linked() -> None:
    """Scores [[.33, .25], [.14, 0]]: .25 + .14 is the larger sum, but .14 is no link, so .33 is taken."""
    known, new = torch.zeros(2, 1, 1, 100), torch.zeros(2, 1, 1, 100)
    known[0, ..., :40], known[1, ..., 80:] = 1, 1
    new[0, ..., 25:40], new[0, ..., 95:], new[1, ..., :10] = 1, 1, 1
    torch.testing.assert_close(soft_iou(known, new), torch.tensor([[15 / 45, 10 / 40], [5 / 35, 0]]))
    tracker = ClipTracker(K, match_threshold=0.2)
    tracker.update([0], sure(0, 3), 200 * known - 100)
    tracker.update([0], sure(1, 2), 200 * new - 100)
    assert tracker.result(1)[0].tolist() == [[0.5, 0.5, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]]


def test_more_than_fifty_instances() -> None:
    def scattered(order: Tensor, frames: int) -> Tensor:
        logits = torch.full((len(order), frames, 10, 12), -12.0)
        for i, cell in enumerate(order.tolist()):
            logits[i, :, cell // 12, cell % 12] = 12.0
        return logits

    tracker, generator = ClipTracker(K), torch.Generator().manual_seed(0)
    orders = [torch.randperm(120, generator=generator) for _ in range(3)]
    for start, order in enumerate(orders):
        tracker.update([start, start + 1], sure(*[0] * 120), scattered(order, 2))
    classes, masks = tracker.result(4)
    assert classes.shape == (120, K + 1)
    assert torch.equal((masks > 0).flatten(2).int().argmax(2), orders[0][:, None].expand(-1, 4).int())


def test_no_window_saw_anything() -> None:
    tracker = ClipTracker(K)
    for start in range(3):
        tracker.update([start, start + 1], sure(), cells())
    classes, masks = tracker.result(4)
    assert classes.shape == (0, K + 1)
    assert masks.shape == (0, 4, 10, 8)


@pytest.mark.parametrize(("frames", "instances"), [(3, 1), (2, 2)])
def test_an_empty_window_between(frames: int, instances: int) -> None:
    """An instance is found again as long as some saved window shares frames with the new one."""
    tracker = ClipTracker(K)
    for start, rows in enumerate([[4], [], [4]]):
        span = range(start, start + frames)
        tracker.update(span, sure(*[0] * len(rows)), cells(*rows, frames=frames))
    classes, masks = tracker.result(5)
    assert len(classes) == len(masks) == instances


def test_only_the_last_windows_are_kept() -> None:
    tracker = ClipTracker(K)
    for start in range(40):
        tracker.update(range(start, start + 3), sure(0), cells(4, frames=3))
        assert len(tracker.saved) <= 3
    assert tracker.track_count == 1
    assert tracker.result(42)[1].shape[:2] == (1, 42)


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_released_frames_are_those_of_the_result(stride: int) -> None:
    whole, stream, released = ClipTracker(K), ClipTracker(K), []
    for start in range(0, 30, stride):
        rows = [(start // 4) % 5, 5 + (start // 7) % 4]
        for tracker in (whole, stream):
            tracker.update(range(start, start + 3), sure(0, 1), cells(*rows, frames=3))
        released += stream.release(start + stride)
        assert len(stream._frames) <= 3, "memory does not grow with the video"
    released += stream.release(100)
    classes, masks = whole.result(released[-1].frame + 1)
    assert [one.frame for one in released] == [*range(len(released))]
    torch.testing.assert_close(stream.class_probs(), classes)
    for one in released:
        absent = [row for row in range(len(masks)) if row not in one.tracks]
        torch.testing.assert_close(masks[one.tracks, one.frame], one.logits)
        assert masks[absent, one.frame].isnan().all()


def test_inputs_are_not_changed_and_later_changes_do_not_reach_the_tracks() -> None:
    tracker, masks, probs = ClipTracker(K), cells(4), sure(0)
    tracker.update([0, 1], probs, masks)
    tracker.update([1, 2], probs, masks)
    assert torch.equal(masks, cells(4))
    masks.fill_(100)
    probs.fill_(100)
    classes, logits = tracker.result(3)
    assert classes.max() == 1
    assert logits.max() == 8


def test_masks_without_any_probability_are_not_linked() -> None:
    tracker = ClipTracker(K)
    for start in range(2):
        tracker.update([start, start + 1], sure(0), torch.full((1, 2, 3, 3), -200.0))
    assert len(tracker.result(3)[0]) == 2


@pytest.mark.parametrize(
    ("probs", "masks"),
    [(torch.zeros(1, K), cells(4)), (sure(0, 1), cells(4)), (sure(0), cells(4, frames=3))],
)
def test_windows_that_do_not_fit_are_refused(probs: Tensor, masks: Tensor) -> None:
    with pytest.raises(ValueError, match=r"class_probs|mask_logits"):
        ClipTracker(K).update([0, 1], probs, masks)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_soft_iou_is_symmetric_and_bounded(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    p, q = torch.rand(3, 2, H, W, generator=generator), torch.rand(2, 2, H, W, generator=generator)
    found = soft_iou(p, q)
    torch.testing.assert_close(found, soft_iou(q, p).T)
    assert ((found > 0) & (found <= 1)).all()
    union = p[2] + q[1] - p[2] * q[1]
    torch.testing.assert_close(found[2, 1], (p[2] * q[1]).sum() / union.sum())
