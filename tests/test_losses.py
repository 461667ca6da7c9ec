"""Matching and training criterion: laws that hold for any input."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from model.box_head import BoxHead
from model.boxes import boxes_of_masks
from model.config import ModelConfig
from model.losses import SetCriterion, box_losses, loss_grid, resize_masks
from model.matching import dice_coefficient, match_by_boxes, match_by_masks
from model.published.criterion import dice_loss, focal_loss

K, T, H, W = 3, 2, 4, 6
seeds = st.integers(0, 10_000)


def prediction(seed: int, batch: int, queries: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "pred_logits": 2 * torch.randn(batch, queries, K + 1, generator=generator),
        "pred_masks": 3 * torch.randn(batch, queries, T, H, W, generator=generator),
    }


def outputs(seed: int, batch: int, queries: int, layers: int = 2) -> dict[str, Any]:
    made = [prediction(seed + layer, batch, queries) for layer in range(layers)]
    return {**made[-1], "aux_outputs": made[:-1]}


def boxed(seed: int, batch: int, queries: int, layers: int = 2) -> dict[str, Any]:
    """Outputs of a model with a box head; boxes are leaves."""
    out = outputs(seed, batch, queries, layers)
    generator = torch.Generator().manual_seed(seed)
    for layer in (out, *out["aux_outputs"]):
        layer["pred_boxes"] = torch.rand(batch, queries, T, 4, generator=generator).requires_grad_()
    return out


def target(seed: int, instances: int, scale: int = 2) -> dict[str, Tensor]:
    rng = np.random.default_rng(seed)
    masks = np.kron(rng.random((instances, T, H, W)) > 0.5, np.ones((1, 1, scale, scale)))
    return {
        "labels": torch.from_numpy(rng.integers(0, K, instances)),
        "masks": torch.from_numpy(masks.astype(np.float32)).reshape(instances, T, scale * H, scale * W),
    }


def perfect(target: dict[str, Tensor], queries: int) -> dict[str, Any]:
    """What a model that is sure and right says: instance i by query ``queries - 1 - i``."""
    logits = torch.full((1, queries, K + 1), -20.0)
    masks = torch.full((1, queries, T, H, W), -20.0)
    logits[..., K] = 20.0
    for i, (label, mask) in enumerate(zip(target["labels"], target["masks"], strict=True)):
        logits[0, queries - 1 - i] = 40 * F.one_hot(label, K + 1) - 20.0
        masks[0, queries - 1 - i] = 40 * mask[:, ::2, ::2] - 20
    return {"pred_logits": logits, "pred_masks": masks, "aux_outputs": []}


@settings(max_examples=30, deadline=None)
@given(seeds, st.integers(1, 5), st.integers(0, 5))
def test_matching_is_the_best_of_all(seed: int, queries: int, instances: int) -> None:
    layer, truth = prediction(seed, 1, queries), target(seed, instances, scale=1)
    logits, masks = layer["pred_logits"][0], layer["pred_masks"][0]
    found = match_by_masks(logits, masks, truth["labels"], truth["masks"])
    score = np.zeros((queries, instances))
    for q in range(queries):
        for n in range(instances):
            p, g = masks[q].sigmoid(), truth["masks"][n]
            dice = (2 * (p * g).sum() + 1) / (p.sum() + g.sum() + 1)
            score[q, n] = logits[q].softmax(0)[truth["labels"][n]] + 3 * dice
    assert_best(found, score)


def assert_best(found: tuple[Tensor, Tensor], score: np.ndarray[Any, np.dtype[np.float64]]) -> None:
    """No one-to-one assignment has a larger sum of ``score`` (queries, instances)."""
    queries, instances = score.shape
    few, many = sorted((queries, instances))
    if queries <= instances:
        ways = ([(q, n) for q, n in enumerate(way)] for way in permutations(range(many), few))
    else:
        ways = ([(q, n) for n, q in enumerate(way)] for way in permutations(range(many), few))
    best = max(sum(score[pair] for pair in way) for way in ways)
    assert len(found[0]) == len(found[1]) == few
    assert len(set(found[0].tolist())) == len(set(found[1].tolist())) == few
    assert sum(score[q, n] for q, n in zip(*found, strict=True)) == pytest.approx(best, abs=1e-5)


@settings(max_examples=20, deadline=None)
@given(seeds)
def test_dice_coefficient_is_one_minus_dice_loss(seed: int) -> None:
    logits = prediction(seed, 1, 3)["pred_masks"][0].flatten(1)
    masks = target(seed, 3, scale=1)["masks"].flatten(1)
    pairs = dice_coefficient(logits.sigmoid(), masks)
    torch.testing.assert_close(pairs.diagonal(), 1 - dice_loss(logits, masks))
    assert ((pairs > 0) & (pairs <= 1)).all()


@settings(max_examples=20, deadline=None)
@given(seeds)
def test_focal_loss_is_tempered_cross_entropy(seed: int) -> None:
    logits = prediction(seed, 1, 2)["pred_masks"][0].flatten(1)
    masks = target(seed, 2, scale=1)["masks"].flatten(1)
    plain = F.binary_cross_entropy_with_logits(logits, masks, reduction="none").mean(1)
    torch.testing.assert_close(focal_loss(logits, masks, alpha=0.5, gamma=0), plain / 2)
    assert (focal_loss(logits, masks) < plain).all()


@pytest.mark.parametrize("instances", [1, 3])
def test_perfect_predictions_cost_next_to_nothing(instances: int) -> None:
    truth = target(1, instances)
    out = perfect(truth, queries=5)
    criterion = SetCriterion(K)
    # Bilinear upsampling blurs the borders, so masks of one colour a frame are the perfect ones here.
    truth["masks"] = truth["masks"][..., :1, :1].expand(-1, -1, 2 * H, 2 * W).contiguous()
    out["pred_masks"][0, -instances:] = 40 * truth["masks"].flip(0)[..., :H, :W] - 20
    losses = criterion(out, [truth])
    assert all(float(value) < 1e-3 for value in losses.values())
    queries, found = criterion.match(out["pred_logits"][0], out["pred_masks"][0], *truth.values())
    assert (queries + found == 4).all()
    wrong = {**out, "pred_logits": out["pred_logits"].roll(1, -1)}
    assert float(criterion(wrong, [truth])["loss_ce"]) > 1


def test_batches_without_any_instance_teach_no_object_only() -> None:
    out = outputs(0, 2, 4)
    for layer in (out, *out["aux_outputs"]):
        layer["pred_logits"].requires_grad_()
        layer["pred_masks"].requires_grad_()
    criterion = SetCriterion(K)
    losses = criterion(out, [target(0, 0), target(1, 0)])
    for name, value in losses.items():
        assert value.isfinite()
        assert name.startswith("loss_ce") or value == 0
    no_object = out["pred_logits"].log_softmax(-1)[..., K]
    torch.testing.assert_close(losses["loss_ce"], -no_object.mean())
    criterion.total(losses).backward()
    assert out["pred_logits"].grad is not None


def test_a_clip_without_instances_leaves_the_others_masks_alone() -> None:
    both, truth = outputs(3, 2, 4), target(3, 2)
    alone = {
        **{key: both[key][:1] for key in ("pred_logits", "pred_masks")},
        "aux_outputs": [{k: v[:1] for k, v in layer.items()} for layer in both["aux_outputs"]],
    }
    criterion = SetCriterion(K)
    one, other = criterion(alone, [truth]), criterion(both, [truth, target(0, 0)])
    for name in one:
        assert (float(one[name]) == pytest.approx(float(other[name]))) == (not name.startswith("loss_ce"))


def test_more_instances_than_queries() -> None:
    out, truth = outputs(5, 1, 2), target(5, 6)
    criterion = SetCriterion(K)
    queries, found = criterion.match(out["pred_logits"][0], out["pred_masks"][0], *truth.values())
    assert sorted(queries.tolist()) == [0, 1]
    assert len(set(found.tolist())) == 2
    losses = criterion(out, [truth])
    assert all(value.isfinite() and value > 0 for value in losses.values())
    assert float(losses["loss_dice"]) <= 2 / 6  # two masks' loss over all six instances


def test_mask_losses_are_divided_by_the_instances_given() -> None:
    out, truth = outputs(6, 1, 4), target(6, 2)
    criterion = SetCriterion(K)
    own, given = criterion(out, [truth]), criterion(out, [truth], instances=8.0)
    for name, value in own.items():
        factor = 1 if name.startswith("loss_ce") else 4
        assert float(value) == pytest.approx(factor * float(given[name]), rel=1e-5)


@settings(max_examples=15, deadline=None)
@given(seeds, st.lists(st.integers(0, 5), min_size=4, max_size=4), st.integers(1, 3))
def test_losses_of_shares_add_up_to_those_of_the_batch(seed: int, instances: list[int], cut: int) -> None:
    """More instances than queries (3), clips without one, shares of unequal size; both ways of matching."""
    truths = [target(seed + b, count) for b, count in enumerate(instances)]
    for criterion in (SetCriterion(K, 0.3), SetCriterion(K, 0.3, matching="box")):
        out = boxed(seed, 4, 3)
        divisors = criterion.divisors(truths, queries=3)
        parts = []
        for share in (slice(cut), slice(cut, None)):
            layers = [
                {key: value[share] for key, value in layer.items() if key != "aux_outputs"}
                for layer in (out, *out["aux_outputs"])
            ]
            parts.append(criterion({**layers[0], "aux_outputs": layers[1:]}, truths[share], *divisors))
        for name, value in criterion(out, truths).items():
            both = (parts[0][name] + parts[1][name]).item()
            assert both == pytest.approx(value.item(), rel=1e-5, abs=1e-6), name


def test_total_is_the_weighted_sum_over_all_layers() -> None:
    criterion = SetCriterion(K, dice_weight=2.0, mask_weight=7.0)
    losses = criterion(outputs(7, 2, 4, layers=3), [target(7, 2), target(8, 1)])
    assert len(losses) == 9
    weights = {"ce": 1.0, "dice": 2.0, "mask": 7.0}
    wanted = sum(weights[name.split("_")[1]] * float(value) for name, value in losses.items())
    assert float(criterion.total(losses)) == pytest.approx(wanted, rel=1e-5)


def test_the_dice_weight_is_that_of_matching_too() -> None:
    """As in the published code: query 0 has the class, query 1 the mask; the weight decides between them."""
    truth = {"labels": torch.tensor([1]), "masks": torch.ones(1, T, 2 * H, 2 * W)}
    logits, masks = torch.zeros(2, K + 1), torch.full((2, T, H, W), -9.0)
    logits[0, 1], masks[1] = 9.0, 9.0
    for weight, query in ((0.5, 0), (3.0, 1)):
        queries, _ = SetCriterion(K, dice_weight=weight).match(logits, masks, *truth.values())
        assert queries.tolist() == [query]


def test_no_object_weight_tempers_unmatched_queries() -> None:
    out, truth = outputs(9, 1, 4), target(9, 1)
    queries, _ = SetCriterion(K).match(out["pred_logits"][0], out["pred_masks"][0], *truth.values())
    classes = torch.full((4,), K)
    classes[queries] = truth["labels"]
    each = F.cross_entropy(out["pred_logits"][0], classes, reduction="none")
    weight = torch.where(classes == K, 0.1, 1.0)
    found = float(SetCriterion(K, no_object_weight=0.1)(out, [truth])["loss_ce"])
    assert found == pytest.approx(float((each * weight).sum() / weight.sum()), rel=1e-5)


def test_gradient_steps_lower_the_loss() -> None:
    out, truths = outputs(10, 2, 4), [target(10, 2), target(11, 1)]
    leaves = [
        v.requires_grad_() for x in (out, *out["aux_outputs"]) for k, v in x.items() if k != "aux_outputs"
    ]
    criterion, optimizer, history = SetCriterion(K), torch.optim.Adam(leaves, lr=0.05), []
    for _ in range(15):
        total = criterion.total(criterion(out, truths))
        history.append(total.item())
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
    assert history[-1] < 0.8 * history[0]


def test_a_diverged_model_reaches_the_loss() -> None:
    out = outputs(12, 1, 4)
    out["pred_masks"][:] = float("nan")
    criterion = SetCriterion(K)
    assert criterion.total(criterion(out, [target(12, 2)])).isnan()


def test_targets_are_shrunk_to_the_middle_of_each_cell() -> None:
    masks = torch.zeros(1, 1, 8, 8)
    masks[0, 0, 1, 1:3] = 1  # two pixels of the first cell's middle
    masks[0, 0, 1:, 5] = 1  # a column through the middles of two cells
    masks[0, 0, :, 7] = 1  # a column that no cell has in its middle
    assert resize_masks(masks > 0, (2, 2)).tolist() == [[[[0.5, 0.5], [0.0, 0.5]]]]
    assert resize_masks(masks[:0], (2, 2)).shape == (0, 1, 2, 2)


@settings(max_examples=200, deadline=None)
@given(st.integers(9, 900), st.integers(9, 900), st.sampled_from([4, 8]))
def test_losses_live_at_half_the_stride_of_the_masks(height: int, width: int, stride: int) -> None:
    masks = (-(-height // stride), -(-width // stride))
    grid = (-(-2 * height // stride), -(-2 * width // stride))
    assert loss_grid(masks, (height, width)) == grid
    assert loss_grid(masks, grid) == grid  # targets may come at the size of the losses
    with pytest.raises(ValueError, match="belong to no frame"):
        loss_grid(masks, (height * 64, width))


def test_frames_of_odd_size_are_scored_on_their_own_grid() -> None:
    """Masks 3x4 of frames 20x25: the losses see 5x7 cells, where twice the masks would be 6x8."""
    out, rng = outputs(13, 1, 4), np.random.default_rng(13)
    for layer in (out, *out["aux_outputs"]):
        layer["pred_masks"] = layer["pred_masks"][..., :3, :4]
    truth = {"labels": torch.tensor([1]), "masks": torch.from_numpy(rng.random((1, T, 20, 25)) > 0.5)}
    found = SetCriterion(K)(out, [truth])
    shrunk = {**truth, "masks": resize_masks(truth["masks"], (5, 7))}
    for name, value in SetCriterion(K)(out, [shrunk]).items():
        assert float(found[name]) == pytest.approx(float(value), rel=1e-6)


# ------------------------------------------------------------------------------------------- box matching


def overlap(one: list[float], other: list[float]) -> float:
    """Generalised IoU of two centred boxes, step by step."""
    (ax, ay, aw, ah), (bx, by, bw, bh) = one, other
    lefts, rights = (ax - aw / 2, bx - bw / 2), (ax + aw / 2, bx + bw / 2)
    tops, bottoms = (ay - ah / 2, by - bh / 2), (ay + ah / 2, by + bh / 2)
    both = max(0, min(rights) - max(lefts)) * max(0, min(bottoms) - max(tops))
    either = aw * ah + bw * bh - both
    around = (max(rights) - min(lefts)) * (max(bottoms) - min(tops))
    return both / either - (around - either) / around


def random_boxes(seed: int, instances: int) -> tuple[Tensor, Tensor, Tensor]:
    """Labels (n,), centred boxes (n, T, 4), present (n, T); some are present in no frame."""
    generator = torch.Generator().manual_seed(seed)
    present = torch.rand(instances, T, generator=generator) < 0.6
    boxes = torch.rand(instances, T, 4, generator=generator) * present[..., None]
    return torch.randint(0, K, (instances,), generator=generator), boxes, present


@settings(max_examples=30, deadline=None)
@given(seeds, st.integers(1, 5), st.integers(0, 5))
def test_box_matching_is_the_best_of_all(seed: int, queries: int, instances: int) -> None:
    out = boxed(seed, 1, queries)
    logits, boxes = out["pred_logits"][0], out["pred_boxes"][0].detach()
    labels, wanted, present = random_boxes(seed + 1, instances)
    score = np.zeros((queries, instances))
    for q in range(queries):
        for n in range(instances):
            score[q, n] = logits[q].softmax(0)[labels[n]]
            seen = present[n].nonzero().flatten().tolist()
            for t in seen:
                one, other = boxes[q, t].tolist(), wanted[n, t].tolist()
                distance = sum(abs(a - b) for a, b in zip(one, other, strict=True))
                score[q, n] += (2 * overlap(one, other) - 5 * distance) / len(seen)
    assert_best(match_by_boxes(logits, boxes, labels, wanted, present), score)


def clip_of_boxes() -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Two instances; instance 0 is query 2's by boxes and query 0's by masks, instance 1 is 1's by both."""
    truth = {"labels": torch.tensor([0, 0]), "masks": torch.zeros(2, T, 2 * H, 2 * W)}
    truth["masks"][0, :, :4, :6] = 1
    truth["masks"][1, :, 4:, 8:] = 1
    out = outputs(0, 1, 4, layers=1)
    out["pred_logits"][:] = 0
    out["pred_masks"][:] = -9
    out["pred_masks"][0, 0, :, :2, :3] = 9
    out["pred_masks"][0, 1, :, 2:, 4:] = 9
    boxes, _ = boxes_of_masks(truth["masks"])
    out["pred_boxes"] = torch.full((1, 4, T, 4), 0.9)
    out["pred_boxes"][0, 2], out["pred_boxes"][0, 1] = boxes[0], boxes[1]
    return out, truth


def test_boxes_decide_where_they_shall() -> None:
    out, truth = clip_of_boxes()
    by_box, by_mask = (SetCriterion(K, matching=m)(out, [truth]) for m in ("box", "mask"))
    assert set(by_box) - set(by_mask) == {"loss_bbox", "loss_giou"}
    assert float(by_box["loss_bbox"]) < 1e-6
    assert float(by_box["loss_giou"]) < 1e-6
    assert float(by_box["loss_dice"]) > 0.4 > 0.1 > float(by_mask["loss_dice"])  # query 2 has no mask yet
    found, instances = match_by_boxes(
        out["pred_logits"][0], out["pred_boxes"][0], truth["labels"], *boxes_of_masks(truth["masks"])
    )
    assert dict(zip(instances.tolist(), found.tolist(), strict=True)) == {0: 2, 1: 1}


def test_mask_matching_does_not_look_at_boxes() -> None:
    out, truth = boxed(1, 2, 4), [target(1, 2), target(2, 1)]
    plain = {k: v for k, v in out.items() if k != "pred_boxes"}
    with_boxes, without = SetCriterion(K)(out, truth), SetCriterion(K)(plain, truth)
    assert with_boxes.keys() == without.keys()
    assert all(torch.equal(with_boxes[name], without[name]) for name in without)
    with pytest.raises(ValueError, match="needs pred_boxes"):
        SetCriterion(K, matching="box")(plain, truth)
    with pytest.raises(ValueError, match="'boxes'; allowed: mask, box"):
        SetCriterion(K, matching="boxes")  # type: ignore[arg-type]


def test_frames_without_the_instance_do_not_count() -> None:
    out, truth = clip_of_boxes()
    truth["masks"][0, 1] = 0
    truth["masks"][1] = 0  # gone from the whole clip
    criterion = SetCriterion(K, matching="box")
    wanted = criterion(out, [truth])
    assert float(wanted["loss_bbox"]) < 1e-6
    out["pred_boxes"][0, 2, 1] = 0.01  # where it is absent
    found = criterion(out, [truth])
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    out["pred_boxes"][0, 2, 0, 0] += 0.1  # where it is present
    assert float(criterion(out, [truth])["loss_bbox"]) == pytest.approx(0.1 / 2)  # by two instances


def test_box_losses_are_means_over_the_frames_of_an_instance() -> None:
    boxes = torch.tensor([[[0.5, 0.5, 0.2, 0.2], [0.5, 0.5, 0.4, 0.2]]]).repeat(3, 1, 1)
    present = torch.tensor([[1, 1], [0, 1], [0, 0]]) > 0
    wanted = torch.tensor([0.5, 0.5, 0.2, 0.2]).expand(3, T, 4) * present[..., None]
    distance, gap = box_losses(boxes, wanted, present)
    torch.testing.assert_close(distance, torch.tensor([0.1, 0.2, 0.0]))
    torch.testing.assert_close(gap, torch.tensor([0.25, 0.5, 0.0]))


def test_box_losses_are_divided_by_the_instances_given_and_weighed() -> None:
    out, truth = boxed(6, 1, 4, layers=3), target(6, 2)
    criterion = SetCriterion(K, matching="box", box_weight=7.0, giou_weight=11.0)
    own, given = criterion(out, [truth]), criterion(out, [truth], instances=8.0)
    assert len(own) == 15
    assert {"loss_bbox_0", "loss_bbox_1", "loss_bbox", "loss_giou_0"} <= own.keys()
    for name, value in own.items():
        factor = 1 if name.startswith("loss_ce") else 4
        assert value.item() == pytest.approx(factor * given[name].item(), rel=1e-5)
    weights = {"ce": 1.0, "dice": 3.0, "mask": 3.0, "bbox": 7.0, "giou": 11.0}
    wanted = sum(weights[name.split("_")[1]] * value.item() for name, value in own.items())
    assert criterion.total(own).item() == pytest.approx(wanted, rel=1e-5)


def test_boxes_are_relative_to_the_clip_without_padding() -> None:
    out, truth = clip_of_boxes()
    padded = {
        "labels": truth["labels"],
        "masks": F.pad(truth["masks"], (0, 8, 0, 2)),
        "size": torch.tensor([2 * H, 2 * W]),
    }
    grown = {**out, "pred_masks": F.pad(out["pred_masks"], (0, 4, 0, 1), value=-9.0)}
    criterion = SetCriterion(K, matching="box")
    assert criterion(grown, [padded])["loss_bbox"].item() < 1e-6
    assert criterion(grown, [{k: v for k, v in padded.items() if k != "size"}])["loss_bbox"].item() > 0.1


@pytest.mark.parametrize("case", ["none in the batch", "none in one clip", "absent", "all absent", "no area"])
def test_gradients_of_box_losses_are_finite(case: str) -> None:
    out, truths = boxed(3, 2, 4), [target(3, 2), target(4, 3)]
    if case == "none in the batch":
        truths = [target(0, 0), target(1, 0)]
    elif case == "none in one clip":
        truths[0] = target(0, 0)
    elif case == "absent":
        truths[0]["masks"][:, 1] = 0
    elif case == "all absent":
        for truth in truths:
            truth["masks"][:] = 0
    else:
        for layer in (out, *out["aux_outputs"]):
            layer["pred_boxes"].data[..., 2:] = 0
    criterion = SetCriterion(K, matching="box")
    losses = criterion(out, truths)
    assert all(value.isfinite() for value in losses.values())
    criterion.total(losses).backward()
    for layer in (out, *out["aux_outputs"]):
        grad = layer["pred_boxes"].grad
        assert grad.isfinite().all()
        assert grad.any() == (case not in ("none in the batch", "all absent"))
        if case == "absent":
            assert not grad[0, :, 1].any()
            assert grad[0, :, 0].any()


def test_the_gradient_reaches_every_part_of_the_box_head() -> None:
    torch.manual_seed(0)
    head = BoxHead(ModelConfig(hidden_dim=16, attention_heads=2, dropout=0.0))
    tokens, positions = torch.randn(2, T, 6, 16, requires_grad=True), torch.randn(2, 6, 16)
    out = outputs(5, 2, 4, layers=1)
    out["pred_boxes"] = head(torch.randn(2, 4, 16), tokens, positions, None)
    losses = SetCriterion(K, matching="box")(out, [target(5, 2), target(6, 1)])
    (losses["loss_bbox"] + losses["loss_giou"]).backward()
    for name, parameter in head.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.any(), name
    assert tokens.grad is not None
    assert tokens.grad.flatten(2).any(2).all(), "of every frame"


def test_boxes_of_a_diverged_model_reach_the_loss() -> None:
    out = boxed(12, 1, 4)
    out["pred_boxes"].data[:] = float("nan")
    criterion = SetCriterion(K, matching="box")
    assert criterion.total(criterion(out, [target(12, 2)])).isnan()
