"""Dice and focal loss of matched masks, with gradients made on the way forward.

Each loss of a mask depends on that mask alone. So its gradient is known, but for a factor, once the loss is,
and is kept at the size of the prediction: nothing of the four times larger grid of the losses outlives
a group of masks.

Shapes
    m, n         matched masks of all clips and layers, instances of all clips
    T, h, w      frames and the grid of predicted masks
    H, W         the grid of the targets, and of the losses
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from model.matching import at_grid, pixels_at_once

ALPHA = 0.25
"""Weight of the focal loss where the target is 1; 1 - ALPHA where it is 0. Its gamma is 2."""


def mask_losses(logits: Tensor, targets: Tensor, which: Tensor) -> tuple[Tensor, Tensor]:
    """Dice and focal loss of each mask: (m,) and (m,).

    Dice is 1 - (2 sum(p g) + 1) / (sum p + sum g + 1) of the sigmoid p and the target g over all frames, the
    focal loss (alpha 0.25, gamma 2) a mean over the pixels of all frames. They are differentiable once.

    Args:
        logits: (m, T, h, w); brought to the targets' grid bilinearly.
        targets: (n, T, H, W) in 0..1.
        which: (m,) int64, the target of each mask.
    """
    return _MaskLosses.apply(logits, targets, which)  # type: ignore[no-any-return, no-untyped-call]


class _MaskLosses(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor, which: Tensor) -> tuple[Tensor, Tensor]:
        count = pixels_at_once(logits) // max(1, targets[:1].numel())
        pairs = zip(logits.split(max(1, count)), which.split(max(1, count)), strict=True)
        found = [_of_group(part, targets[own], ctx.needs_input_grad[0]) for part, own in pairs]
        dice, focal, *gradients = (torch.cat(x) for x in zip(*found, strict=True))
        ctx.save_for_backward(*gradients)
        return dice, focal

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_dice: Tensor, of_focal: Tensor) -> tuple[Tensor | None, ...]:
        dice, focal = ctx.saved_tensors
        factors = (x[:, None, None, None] for x in (of_dice, of_focal))
        return sum(x * factor for x, factor in zip((dice, focal), factors, strict=True)), None, None


def _of_group(logits: Tensor, targets: Tensor, needs_gradient: bool) -> tuple[Tensor, ...]:
    """Losses (m,) of masks with targets (m, T, H, W); where they are needed, gradients (m, T, h, w)."""
    with torch.set_grad_enabled(needs_gradient):
        small = logits.detach().requires_grad_(needs_gradient)
        large = at_grid(small, targets)
    x, g = large.detach().flatten(1), targets.flatten(1)
    p = x.sigmoid()
    above, below = 2 * (p * g).sum(1) + 1, p.sum(1) + g.sum(1) + 1
    entropy = F.binary_cross_entropy_with_logits(x, g, reduction="none")
    miss = p + g - 2 * p * g
    weight = ALPHA * g + (1 - ALPHA) * (1 - g)
    losses = 1 - above / below, (weight * entropy * miss**2).mean(1)
    if not needs_gradient:
        return losses
    slope = p * (1 - p)
    of_dice = slope * ((above / below**2)[:, None] - 2 * g / below[:, None])
    of_focal = weight * miss * (miss * (p - g) + 2 * entropy * slope * (1 - 2 * g)) / x.shape[1]
    gradients = (
        torch.autograd.grad(large, small, gradient.view_as(large), retain_graph=True)[0]
        for gradient in (of_dice, of_focal)
    )
    return *losses, *gradients
