"""Which query answers for which instance: Hungarian matching in space and time (paper Sec. 3.4).

By masks, as the paper does, or by boxes, as VisTR does: the two rows of Table 2c.

Shapes
    Q, n     queries, ground-truth instances of a clip
    T, h, w  frames and the mask grid
"""

from __future__ import annotations

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from model.boxes import frame_shares, generalised_iou, to_corners

Match = tuple[Tensor, Tensor]
"""(query indices, instance indices), both (min(Q, n),) int64"""


def dice_coefficient(probabilities: Tensor, targets: Tensor) -> Tensor:
    """(Q, D) and (n, D) to (Q, n): (2 sum(p g) + 1) / (sum p + sum g + 1), over all frames at once."""
    overlap = probabilities @ targets.T
    total = probabilities.sum(1)[:, None] + targets.sum(1)[None]
    return (2 * overlap + 1) / (total + 1)


@torch.no_grad()
def match_by_masks(
    logits: Tensor, masks: Tensor, labels: Tensor, targets: Tensor, dice_weight: float = 3.0
) -> Match:
    """Maximise class probability + ``dice_weight`` * Dice, one query an instance.

    Args:
        logits: (Q, K+1) class logits.
        masks: (Q, T, h, w) mask logits.
        labels: (n,) classes.
        targets: (n, T, h, w) masks in 0..1.
    """
    probability = logits.softmax(-1)[:, labels]
    dice = dice_coefficient(masks.flatten(1).sigmoid(), targets.flatten(1))
    return _assign(probability + dice_weight * dice)


@torch.no_grad()
def match_by_boxes(
    logits: Tensor,
    boxes: Tensor,
    labels: Tensor,
    targets: Tensor,
    present: Tensor,
    box_weight: float = 5.0,
    giou_weight: float = 2.0,
) -> Match:
    """Maximise class probability - ``box_weight`` * L1 + ``giou_weight`` * generalised IoU.

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
    nearness = ((giou_weight * overlap - box_weight * distance) * shares).sum(-1)
    return _assign(probability + nearness)


def _assign(score: Tensor) -> Match:
    """The one-to-one assignment with the largest sum of ``score`` (Q, n)."""
    # A diverged model scores NaN, which scipy refuses; the loss that follows is NaN and tells.
    queries, instances = linear_sum_assignment(score.nan_to_num(0.0).cpu().numpy(), maximize=True)
    return torch.as_tensor(queries), torch.as_tensor(instances)
