"""The training criterion (paper Sec. 3.4).

Shapes
    B, Q, K  clips, queries, classes
    T, h, w  frames and the grid of predicted masks (stride 8)
    H, W     the grid of given targets: that of the frames, or the losses' own already
    n        instances of a clip
    boxes    (..., 4) as cx, cy, w, h
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.boxes import boxes_of_masks, frame_shares, generalised_iou, to_corners
from model.mask_losses import mask_losses
from model.matching import Match, assign, box_scores, mask_scores, match_by_masks

Target = Mapping[str, Tensor]
"""``labels`` (n,) int64 and ``masks`` (n, T, H, W) in 0..1, H and W the same in all clips of a batch;
perhaps ``size`` (2,), the clip's own height and width where its masks are padded; boxes are shares of it"""


class Divisors(NamedTuple):
    """What losses are divided by. Batches that make up one batch have divisors that add up to its own."""

    instances: float
    """Ground-truth instances, for mask and box losses"""
    class_weight: float | None
    """Class weights of all queries, for the class loss; None: those of the batch at hand"""


class SetCriterion(nn.Module):
    """Cross-entropy, Dice and focal losses of matched queries, at every decoder layer.

    With ``matching="box"`` (Table 2c) boxes decide who is matched, and are learned by two more losses;
    masks are learned as ever. The model must have a box head.

    ``forward`` returns the unweighted losses by DETR's names: ``loss_ce``, ``loss_dice``, ``loss_mask``,
    and with box matching ``loss_bbox`` and ``loss_giou``, for the last layer, with ``_0``, ``_1``, ... for
    earlier ones. :meth:`total` weighs and adds them.
    """

    class_weights: Tensor

    def __init__(
        self,
        num_classes: int,
        no_object_weight: float = 0.1,
        dice_weight: float = 3.0,
        mask_weight: float = 3.0,
        matching: Literal["mask", "box"] = "mask",
        box_weight: float = 5.0,
        giou_weight: float = 2.0,
    ) -> None:
        super().__init__()
        if matching not in ("mask", "box"):
            raise ValueError(f"matching {matching!r}; allowed: mask, box")
        self.weights = {"loss_ce": 1.0, "loss_dice": dice_weight, "loss_mask": mask_weight}
        self.matching = matching
        if matching == "box":
            self.weights |= {"loss_bbox": box_weight, "loss_giou": giou_weight}
        self.match_dice_weight = dice_weight
        self.no_object_weight = no_object_weight
        class_weights = torch.ones(num_classes + 1)
        class_weights[-1] = no_object_weight
        self.register_buffer("class_weights", class_weights, persistent=False)

    def forward(
        self,
        outputs: Mapping[str, Any],
        targets: Sequence[Target],
        instances: float | None = None,
        class_weight: float | None = None,
    ) -> dict[str, Tensor]:
        """Losses of a batch.

        Args:
            outputs: the model's ``pred_logits``, ``pred_masks`` and ``aux_outputs``; for box matching
                ``pred_boxes`` too.
            targets: one a clip.
            instances: ground-truth instances that the mask and box losses are divided by (at least 1); None
                counts this batch. Workers whose losses are averaged pass the mean of their counts, workers
                whose losses are added up the sum.
            class_weight: what the class loss is divided by, see :meth:`divisors`; None takes this batch's.
        """
        if instances is None:
            instances = float(sum(len(target["labels"]) for target in targets))
        divisors = Divisors(max(1.0, instances), class_weight)
        layers = [*outputs.get("aux_outputs", ()), outputs]
        grid = loss_grid(outputs["pred_masks"].shape[-2:], targets[0]["masks"].shape[-2:])
        wanted = [resize_masks(target["masks"], grid) for target in targets]
        boxes = (
            [boxes_of_masks(target["masks"], target.get("size")) for target in targets]
            if self.matching == "box"
            else []
        )
        matches = self.matches(layers, targets, wanted, boxes)
        found = {
            "loss_ce": [
                self.class_loss(layer["pred_logits"], targets, own, class_weight)
                for layer, own in zip(layers, matches, strict=True)
            ],
            **self.mask_losses(layers, wanted, matches, divisors),
            **self.box_losses(layers, boxes, matches, divisors),
        }
        suffixes = [*(f"_{index}" for index in range(len(layers) - 1)), ""]
        return {
            name + suffix: values[index]
            for index, suffix in enumerate(suffixes)
            for name, values in found.items()
        }

    def divisors(self, targets: Sequence[Target], queries: int) -> Divisors:
        """What a batch adds to the divisors of a larger one, for a model of so many queries a clip.

        Matching is one-to-one and as large as can be, so that this is known before anything is matched.
        """
        instances = [len(target["labels"]) for target in targets]
        matched = sum(min(queries, count) for count in instances)
        unmatched = queries * len(targets) - matched
        return Divisors(float(sum(instances)), matched + self.no_object_weight * unmatched)

    def total(self, losses: Mapping[str, Tensor]) -> Tensor:
        """The weighted sum that is minimised."""
        parts = [self.weights[name.rstrip("_0123456789")] * value for name, value in losses.items()]
        return torch.stack(parts).sum()

    def matches(
        self,
        layers: Sequence[Mapping[str, Tensor]],
        targets: Sequence[Target],
        wanted: Sequence[Tensor],
        boxes: Sequence[tuple[Tensor, Tensor]],
    ) -> list[list[Match]]:
        """Queries to instances, for each layer and clip; ``wanted`` are masks on the losses' grid."""
        scores = []
        for layer in layers:
            logits, masks = layer["pred_logits"], layer["pred_masks"]
            for b, target in enumerate(targets):
                labels = target["labels"]
                if self.matching == "mask":
                    weight = self.match_dice_weight
                    scores.append(mask_scores(logits[b], masks[b], labels, wanted[b], weight))
                else:
                    if "pred_boxes" not in layer:
                        raise ValueError("matching 'box' needs pred_boxes: a model with box_head")
                    scores.append(box_scores(logits[b], layer["pred_boxes"][b], labels, *boxes[b]))
        found = assign(scores)
        return [found[i : i + len(targets)] for i in range(0, len(found), len(targets))]

    def mask_losses(
        self,
        layers: Sequence[Mapping[str, Tensor]],
        wanted: Sequence[Tensor],
        matches: Sequence[Sequence[Match]],
        divisors: Divisors,
    ) -> dict[str, Sequence[Tensor]]:
        """Dice and focal loss of every layer; all layers' matched masks at once."""
        predicted, which = [], []
        for layer, own in zip(layers, matches, strict=True):
            first = 0
            for masks, (queries, found), truth in zip(layer["pred_masks"], own, wanted, strict=True):
                predicted.append(masks[queries])
                which.append(found + first)
                first += len(truth)
        losses = mask_losses(torch.cat(predicted), torch.cat(list(wanted)), torch.cat(which))
        dice, focal = (x.view(len(layers), len(x) // len(layers)).sum(1) / divisors.instances for x in losses)
        return {"loss_dice": dice.unbind(), "loss_mask": focal.unbind()}

    def box_losses(
        self,
        layers: Sequence[Mapping[str, Tensor]],
        boxes: Sequence[tuple[Tensor, Tensor]],
        matches: Sequence[Sequence[Match]],
        divisors: Divisors,
    ) -> dict[str, Sequence[Tensor]]:
        """L1 and generalised IoU losses of every layer; none where masks decide the matches."""
        if self.matching == "mask":
            return {}
        sums = []
        for layer, own in zip(layers, matches, strict=True):
            each = [
                box_losses(predicted[queries], truth[found], present[found])
                for predicted, (queries, found), (truth, present) in zip(
                    layer["pred_boxes"], own, boxes, strict=True
                )
            ]
            sums.append([torch.cat(x).sum() / divisors.instances for x in zip(*each, strict=True)])
        distances, gaps = zip(*sums, strict=True)
        return {"loss_bbox": distances, "loss_giou": gaps}

    def match(self, logits: Tensor, masks: Tensor, labels: Tensor, targets: Tensor) -> Match:
        """Queries of one clip to its instances; masks (Q, T, h, w), targets on the losses' grid."""
        return match_by_masks(logits, masks, labels, targets, self.match_dice_weight)

    def class_loss(
        self,
        logits: Tensor,
        targets: Sequence[Target],
        matches: Sequence[Match],
        class_weight: float | None = None,
    ) -> Tensor:
        """Weighted mean over all queries; unmatched ones should say "no object".

        With ``class_weight`` given, the weighted sum is divided by that instead of its own weights.
        """
        no_object = logits.shape[-1] - 1
        classes = logits.new_full(logits.shape[:2], no_object, dtype=torch.long)
        for b, (queries, found) in enumerate(matches):
            classes[b, queries] = targets[b]["labels"][found]
        logits = logits.transpose(1, 2)
        if class_weight is None:
            return F.cross_entropy(logits, classes, self.class_weights)
        return F.cross_entropy(logits, classes, self.class_weights, reduction="sum") / class_weight


def loss_grid(predicted: Sequence[int], given: Sequence[int]) -> tuple[int, int]:
    """The grid (rows, columns) of the losses: half the stride of the predicted masks, partial cells counted.

    Frames of 180x250 with masks at stride 8 (23x32) give 45x63, which is not twice 23x32. Targets that lie
    on that grid already give it back.
    """
    for stride in (1, 2, 4, 8, 16):
        if all(math.ceil(g / (2 * stride)) == p for p, g in zip(predicted, given, strict=True)):
            return math.ceil(given[0] / stride), math.ceil(given[1] / stride)
    raise ValueError(f"targets {tuple(given)} belong to no frame whose masks are {tuple(predicted)}")


def resize_masks(masks: Tensor, grid: tuple[int, int]) -> Tensor:
    """Target masks (n, T, H, W) to the loss grid, bilinearly without antialiasing (published code).

    A cell of 4x4 pixels takes the mean of the 2x2 in its middle.
    """
    masks = masks if masks.is_floating_point() else masks.float()
    if len(masks) == 0:
        return masks.new_zeros((0, masks.shape[1], *grid))
    return F.interpolate(masks, size=grid, mode="bilinear", align_corners=False)


def box_losses(boxes: Tensor, targets: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
    """Boxes (n, T, 4), present (n, T) to L1 (n,) and 1 - generalised IoU (n,).

    Both are means over the frames in which the instance is present, as the focal loss is over pixels;
    an instance that is present in none costs nothing. L1 is a sum over the four numbers, as in DETR.
    """
    shares = frame_shares(present)
    distance = (boxes - targets).abs().sum(-1)
    gap = 1 - generalised_iou(to_corners(boxes), to_corners(targets))
    return (distance * shares).sum(-1), (gap * shares).sum(-1)
