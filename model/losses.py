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
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.boxes import boxes_of_masks, frame_shares, generalised_iou, to_corners
from model.matching import Match, match_by_boxes, match_by_masks

Target = Mapping[str, Tensor]
"""``labels`` (n,) int64 and ``masks`` (n, T, H, W) in 0..1, H and W the same in all clips of a batch;
perhaps ``size`` (2,), the clip's own height and width where its masks are padded; boxes are shares of it"""


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
        class_weights = torch.ones(num_classes + 1)
        class_weights[-1] = no_object_weight
        self.register_buffer("class_weights", class_weights, persistent=False)

    def forward(
        self, outputs: Mapping[str, Any], targets: Sequence[Target], instances: float | None = None
    ) -> dict[str, Tensor]:
        """Losses of a batch.

        Args:
            outputs: the model's ``pred_logits``, ``pred_masks`` and ``aux_outputs``; for box matching
                ``pred_boxes`` too.
            targets: one a clip.
            instances: ground-truth instances that the mask and box losses are divided by (at least 1); None
                counts this batch. Distributed training passes the mean over its workers.
        """
        if instances is None:
            instances = float(sum(len(target["labels"]) for target in targets))
        layers = [*enumerate(outputs.get("aux_outputs", ())), (None, outputs)]
        losses = {}
        for index, layer in layers:
            suffix = "" if index is None else f"_{index}"
            for name, value in self.layer_losses(layer, targets, max(1.0, instances)).items():
                losses[name + suffix] = value
        return losses

    def total(self, losses: Mapping[str, Tensor]) -> Tensor:
        """The weighted sum that is minimised."""
        parts = [self.weights[name.rstrip("_0123456789")] * value for name, value in losses.items()]
        return torch.stack(parts).sum()

    def layer_losses(
        self, layer: Mapping[str, Tensor], targets: Sequence[Target], instances: float
    ) -> dict[str, Tensor]:
        """The losses of one decoder layer."""
        logits, masks = layer["pred_logits"], layer["pred_masks"]
        grid = loss_grid(masks.shape[-2:], targets[0]["masks"].shape[-2:])
        wanted = [resize_masks(target["masks"], grid) for target in targets]
        if self.matching == "box":
            return self.box_matched_losses(layer, targets, wanted, instances)
        matches = [
            self.match(logits[b], masks[b], target["labels"], wanted[b]) for b, target in enumerate(targets)
        ]
        return self.matched_losses(logits, masks, targets, wanted, matches, instances)

    def box_matched_losses(
        self,
        layer: Mapping[str, Tensor],
        targets: Sequence[Target],
        wanted: Sequence[Tensor],
        instances: float,
    ) -> dict[str, Tensor]:
        """The losses of one layer where boxes decide the matches; wanted are masks on the losses' grid."""
        if "pred_boxes" not in layer:
            raise ValueError("matching 'box' needs pred_boxes: a model with box_head")
        logits, predicted = layer["pred_logits"], layer["pred_boxes"]
        matches, distances, gaps = [], [], []
        for b, target in enumerate(targets):
            boxes, present = boxes_of_masks(target["masks"], target.get("size"))
            queries, found = match_by_boxes(logits[b], predicted[b], target["labels"], boxes, present)
            distance, gap = box_losses(predicted[b, queries], boxes[found], present[found])
            matches.append((queries, found))
            distances.append(distance.sum())
            gaps.append(gap.sum())
        return {
            **self.matched_losses(logits, layer["pred_masks"], targets, wanted, matches, instances),
            "loss_bbox": torch.stack(distances).sum() / instances,
            "loss_giou": torch.stack(gaps).sum() / instances,
        }

    def matched_losses(
        self,
        logits: Tensor,
        masks: Tensor,
        targets: Sequence[Target],
        wanted: Sequence[Tensor],
        matches: Sequence[Match],
        instances: float,
    ) -> dict[str, Tensor]:
        """Class and mask losses of logits (B, Q, K+1) and masks (B, Q, T, h, w), given the matches."""
        grid = (wanted[0].shape[-2], wanted[0].shape[-1])
        predicted = torch.cat(
            [upsample_masks(masks[b, queries], grid) for b, (queries, _) in enumerate(matches)]
        )
        truth = torch.cat([wanted[b][found] for b, (_, found) in enumerate(matches)])
        return {
            "loss_ce": self.class_loss(logits, targets, matches),
            "loss_dice": dice_loss(predicted.flatten(1), truth.flatten(1)).sum() / instances,
            "loss_mask": focal_loss(predicted.flatten(1), truth.flatten(1)).sum() / instances,
        }

    def match(self, logits: Tensor, masks: Tensor, labels: Tensor, targets: Tensor) -> Match:
        """Queries of one clip to its instances; masks (Q, T, h, w), targets on the losses' grid."""
        upsampled = upsample_masks(masks.detach(), (targets.shape[-2], targets.shape[-1]))
        return match_by_masks(logits, upsampled, labels, targets, self.match_dice_weight)

    def class_loss(self, logits: Tensor, targets: Sequence[Target], matches: Sequence[Match]) -> Tensor:
        """Weighted mean over all queries; unmatched ones should say "no object"."""
        no_object = logits.shape[-1] - 1
        classes = logits.new_full(logits.shape[:2], no_object, dtype=torch.long)
        for b, (queries, found) in enumerate(matches):
            classes[b, queries] = targets[b]["labels"][found]
        return F.cross_entropy(logits.transpose(1, 2), classes, self.class_weights)


def loss_grid(predicted: Sequence[int], given: Sequence[int]) -> tuple[int, int]:
    """The grid (rows, columns) of the losses: half the stride of the predicted masks, partial cells counted.

    Frames of 180x250 with masks at stride 8 (23x32) give 45x63, which is not twice 23x32. Targets that lie
    on that grid already give it back.
    """
    for stride in (1, 2, 4, 8, 16):
        if all(math.ceil(g / (2 * stride)) == p for p, g in zip(predicted, given, strict=True)):
            return math.ceil(given[0] / stride), math.ceil(given[1] / stride)
    raise ValueError(f"targets {tuple(given)} belong to no frame whose masks are {tuple(predicted)}")


def upsample_masks(masks: Tensor, grid: tuple[int, int]) -> Tensor:
    """Mask logits (n, T, h, w) to a finer grid, bilinearly."""
    return F.interpolate(masks, size=grid, mode="bilinear", align_corners=False)


def resize_masks(masks: Tensor, grid: tuple[int, int]) -> Tensor:
    """Target masks (n, T, H, W) to the loss grid, bilinearly without antialiasing (published code).

    A cell of 4x4 pixels takes the mean of the 2x2 in its middle.
    """
    masks = masks.float()
    if len(masks) == 0:
        return masks.new_zeros((0, masks.shape[1], *grid))
    return F.interpolate(masks, size=grid, mode="bilinear", align_corners=False)


def dice_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """(n, D) each to (n,): 1 - Dice of the sigmoid, smoothed by 1."""
    probabilities = logits.sigmoid()
    overlap = (probabilities * targets).sum(1)
    return 1 - (2 * overlap + 1) / (probabilities.sum(1) + targets.sum(1) + 1)


def focal_loss(logits: Tensor, targets: Tensor, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """(n, D) each to (n,): sigmoid focal loss, mean over the mask's pixels of all frames."""
    cross_entropy = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    probabilities = logits.sigmoid()
    right = probabilities * targets + (1 - probabilities) * (1 - targets)
    weight = alpha * targets + (1 - alpha) * (1 - targets)
    return (weight * cross_entropy * (1 - right) ** gamma).mean(1)


def box_losses(boxes: Tensor, targets: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
    """Boxes (n, T, 4), present (n, T) to L1 (n,) and 1 - generalised IoU (n,).

    Both are means over the frames in which the instance is present, as the focal loss is over pixels;
    an instance that is present in none costs nothing. L1 is a sum over the four numbers, as in DETR.
    """
    shares = frame_shares(present)
    distance = (boxes - targets).abs().sum(-1)
    gap = 1 - generalised_iou(to_corners(boxes), to_corners(targets))
    return (distance * shares).sum(-1), (gap * shares).sum(-1)
