"""The training criterion by the published operations: the same losses, one decoder layer after the other.

Each layer brings the masks of all queries to the grid of the losses, copies a cost matrix for each clip to
the host, and then brings the matched masks there again, in float, keeping all that autograd wants. What the
published criterion logs and does not minimise is left out.

Shapes as in ``model/losses.py``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional as F

from model.losses import SetCriterion, Target, loss_grid, resize_masks
from model.matching import Match


class PublishedCriterion(SetCriterion):
    """The same function as :class:`model.losses.SetCriterion` with mask matching."""

    def forward(
        self,
        outputs: Mapping[str, Any],
        targets: Sequence[Target],
        instances: float | None = None,
        class_weight: float | None = None,
    ) -> dict[str, Tensor]:
        """As :meth:`model.losses.SetCriterion.forward`."""
        if self.matching != "mask":
            raise ValueError(f"the published implementation has no matching {self.matching!r}")
        if instances is None:
            instances = float(sum(len(target["labels"]) for target in targets))
        grid = loss_grid(outputs["pred_masks"].shape[-2:], targets[0]["masks"].shape[-2:])
        wanted = [resize_masks(target["masks"], grid) for target in targets]  # its data loader does this
        losses = {}
        for suffix, layer in [("", outputs), *((f"_{i}", x) for i, x in enumerate(outputs["aux_outputs"]))]:
            matches = self.layer_matches(layer, targets, wanted)
            predicted = torch.cat(
                [masks[queries] for masks, (queries, _) in zip(layer["pred_masks"], matches, strict=True)]
            )
            truth = torch.cat([x[found] for x, (_, found) in zip(wanted, matches, strict=True)])
            predicted = F.interpolate(predicted, size=grid, mode="bilinear", align_corners=False)
            pair = predicted.flatten(1), truth.flatten(1)
            losses[f"loss_ce{suffix}"] = self.class_loss(layer["pred_logits"], targets, matches, class_weight)
            losses[f"loss_mask{suffix}"] = focal_loss(*pair).sum() / max(1.0, instances)
            losses[f"loss_dice{suffix}"] = dice_loss(*pair).sum() / max(1.0, instances)
        return losses

    @torch.no_grad()
    def layer_matches(
        self, layer: Mapping[str, Tensor], targets: Sequence[Target], wanted: Sequence[Tensor]
    ) -> list[Match]:
        """Queries to instances of each clip; all pairs of masks are multiplied out."""
        probabilities, masks = layer["pred_logits"].softmax(-1), layer["pred_masks"]
        batch, queries, frames = masks.shape[:3]
        grid = wanted[0].shape[-2:]
        upsampled = F.interpolate(
            masks.reshape(batch, queries * frames, *masks.shape[-2:]),
            size=(grid[0], grid[1]),
            mode="bilinear",
            align_corners=False,
        ).view(batch, queries, frames, *grid)
        matches = []
        for b, target in enumerate(targets):
            p, g = upsampled[b].sigmoid().flatten(1)[:, None], wanted[b].flatten(1)[None]
            dice = (2 * (p * g).sum(2) + 1) / (p.sum(2) + g.sum(2) + 1)
            score = self.match_dice_weight * dice + probabilities[b][:, target["labels"]]
            rows, columns = linear_sum_assignment(score.nan_to_num(0.0).cpu().numpy(), maximize=True)
            matches.append((torch.as_tensor(rows), torch.as_tensor(columns)))
        return matches


def dice_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """(n, D) each to (n,): 1 - Dice of the sigmoid, smoothed by 1."""
    probabilities = logits.sigmoid()
    overlap = (probabilities * targets).sum(1)
    return 1 - (2 * overlap + 1) / (probabilities.sum(1) + targets.sum(1) + 1)


def focal_loss(logits: Tensor, targets: Tensor, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """(n, D) each to (n,): sigmoid focal loss, mean over the mask's pixels of all frames."""
    probabilities = logits.sigmoid()
    cross_entropy = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    right = probabilities * targets + (1 - probabilities) * (1 - targets)
    weight = alpha * targets + (1 - alpha) * (1 - targets)
    return (weight * cross_entropy * (1 - right) ** gamma).mean(1)
