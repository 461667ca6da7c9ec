"""Which query answers for which instance: Hungarian matching in space and time (paper Sec. 3.4).

By masks, as the paper does, or by boxes, as VisTR does: the two rows of Table 2c.

Shapes
    Q, n     queries, ground-truth instances of a clip
    T, h, w  frames and the grid of predicted masks
    H, W     the grid of the targets
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional as F

from model.boxes import frame_shares, generalised_iou, to_corners

Match = tuple[Tensor, Tensor]
"""(query indices, instance indices), both (min(Q, n),) int64"""


def dice_coefficient(probabilities: Tensor, targets: Tensor) -> Tensor:
    """(Q, D) and (n, D) to (Q, n): (2 sum(p g) + 1) / (sum p + sum g + 1), over all frames at once."""
    return _dice(*_sums(probabilities, targets), targets)


@torch.no_grad()
def mask_scores(logits: Tensor, masks: Tensor, labels: Tensor, targets: Tensor, dice_weight: float) -> Tensor:
    """Class probability + ``dice_weight`` * Dice of every query and instance: (Q, n).

    Args:
        logits: (Q, K+1) class logits.
        masks: (Q, T, h, w) mask logits; brought to the targets' grid bilinearly, some queries at a time.
        labels: (n,) classes.
        targets: (n, T, H, W) masks in 0..1.
    """
    probability = logits.softmax(-1)[:, labels]
    if len(labels) == 0:
        return probability
    wanted = targets.flatten(1)
    parts = masks.split(max(1, pixels_at_once(masks) // max(1, wanted.shape[1])))
    sums = [_sums(at_grid(part, targets).sigmoid().flatten(1), wanted) for part in parts]
    overlap, total = (torch.cat(x) for x in zip(*sums, strict=True))
    return probability + dice_weight * _dice(overlap, total, wanted)


def pixels_at_once(masks: Tensor) -> int:
    """How many pixels of masks to work on at a time: on a CPU its caches shall keep them."""
    return 2**19 if masks.device.type == "cpu" else 2**26


def at_grid(masks: Tensor, targets: Tensor) -> Tensor:
    """Mask logits (m, T, h, w) on the grid of targets (n, T, H, W), bilinearly."""
    size = (targets.shape[-2], targets.shape[-1])
    if masks.shape[-2:] == size:
        return masks
    return F.interpolate(masks, size=size, mode="bilinear", align_corners=False)


def match_by_masks(
    logits: Tensor, masks: Tensor, labels: Tensor, targets: Tensor, dice_weight: float = 3.0
) -> Match:
    """Maximise class probability + ``dice_weight`` * Dice, one query an instance; see :func:`mask_scores`."""
    return assign([mask_scores(logits.detach(), masks.detach(), labels, targets, dice_weight)])[0]


@torch.no_grad()
def box_scores(
    logits: Tensor,
    boxes: Tensor,
    labels: Tensor,
    targets: Tensor,
    present: Tensor,
    box_weight: float = 5.0,
    giou_weight: float = 2.0,
) -> Tensor:
    """Class probability - ``box_weight`` * L1 + ``giou_weight`` * generalised IoU: (Q, n).

    L1 (a sum over the four numbers) and IoU are means over the frames in which the instance is present;
    one that is present in none is matched by its class alone. The weights are those of VisTR and DETR.

    Args:
        logits: (Q, K+1) class logits.
        boxes: (Q, T, 4) centred boxes.
        labels: (n,) classes.
        targets: (n, T, 4) centred boxes.
        present: (n, T) bool.
    """
    probability = logits.softmax(-1)[:, labels]
    shares = frame_shares(present)
    distance = (boxes[:, None] - targets).abs().sum(-1)
    overlap = generalised_iou(to_corners(boxes)[:, None], to_corners(targets))
    return probability + ((giou_weight * overlap - box_weight * distance) * shares).sum(-1)


def match_by_boxes(logits: Tensor, boxes: Tensor, labels: Tensor, targets: Tensor, present: Tensor) -> Match:
    """Maximise what :func:`box_scores` gives, one query an instance."""
    return assign([box_scores(logits, boxes, labels, targets, present)])[0]


def assign(scores: Sequence[Tensor]) -> list[Match]:
    """The one-to-one assignment with the largest sum of each (Q, n), on the scores' device.

    All go to the host in one copy, and what is found comes back in one: a GPU is waited for once.
    """
    device = scores[0].device
    host = torch.cat([score.flatten() for score in scores]).cpu()
    # A diverged model scores NaN, which scipy refuses; the loss that follows is NaN and tells.
    parts = host.nan_to_num(0.0).split([score.numel() for score in scores])
    found = [
        np.stack(linear_sum_assignment(part.view(score.shape).numpy(), maximize=True))
        for part, score in zip(parts, scores, strict=True)
    ]
    pairs = torch.from_numpy(np.concatenate(found, axis=1)).to(device)
    return [(queries, instances) for queries, instances in pairs.split([x.shape[1] for x in found], dim=1)]


def _sums(probabilities: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """sum(p g) of every pair (Q, n) and sum p (Q,)."""
    return probabilities @ targets.T, probabilities.sum(1)


def _dice(overlap: Tensor, total: Tensor, targets: Tensor) -> Tensor:
    return (2 * overlap + 1) / (total[:, None] + targets.sum(1)[None] + 1)
