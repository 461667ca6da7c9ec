"""Which query answers for which instance: Hungarian matching in space and time (paper Sec. 3.4).

Shapes
    Q, n     queries, ground-truth instances of a clip
    T, h, w  frames and the mask grid
"""

from __future__ import annotations

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

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
    score = probability + dice_weight * dice
    # A diverged model scores NaN, which scipy refuses; the loss that follows is NaN and tells.
    queries, instances = linear_sum_assignment(score.nan_to_num(0.0).cpu().numpy(), maximize=True)
    return torch.as_tensor(queries), torch.as_tensor(instances)
