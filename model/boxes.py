"""Boxes of instances, one a frame: formats, overlap, and the boxes that masks have.

Shapes
    n, T  instances, frames
    H, W  size of a mask
    boxes end in 4: "centred" is (cx, cy, w, h), "corners" is (left, top, right, bottom); both are
    shares of the clip's own width and height, without padding
"""

from __future__ import annotations

import torch
from torch import Tensor

SMALLEST_AREA = 1e-9
"""Keeps the overlap of two boxes without area finite; a pixel of an 8K frame is larger"""


def to_corners(boxes: Tensor) -> Tensor:
    """Centred boxes (..., 4) to corners (..., 4)."""
    centre, size = boxes[..., :2], boxes[..., 2:]
    return torch.cat([centre - size / 2, centre + size / 2], dim=-1)


def to_centred(corners: Tensor) -> Tensor:
    """Corners (..., 4) to centred boxes (..., 4)."""
    first, last = corners[..., :2], corners[..., 2:]
    return torch.cat([(first + last) / 2, last - first], dim=-1)


def generalised_iou(one: Tensor, other: Tensor) -> Tensor:
    """Generalised IoU in -1..1 of corners (..., 4) and (..., 4), which may broadcast (Rezatofighi 2019).

    IoU less the share of the smallest box around both that neither fills. Two boxes without area
    overlap by 0.
    """
    inner = (torch.minimum(one[..., 2:], other[..., 2:]) - torch.maximum(one[..., :2], other[..., :2])).clamp(
        min=0
    )
    outer = torch.maximum(one[..., 2:], other[..., 2:]) - torch.minimum(one[..., :2], other[..., :2])
    both = inner.prod(-1)
    either = _area(one) + _area(other) - both
    around = outer.prod(-1)
    return both / either.clamp(min=SMALLEST_AREA) - (around - either) / around.clamp(min=SMALLEST_AREA)


def _area(corners: Tensor) -> Tensor:
    return (corners[..., 2:] - corners[..., :2]).prod(-1)


def boxes_of_masks(masks: Tensor, size: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The box of each mask in each frame, and whether the instance is there at all.

    Args:
        masks: (n, T, H, W); whatever is above 0 belongs to the instance.
        size: (2,) the clip's own height and width, where masks are padded at the right and the bottom.

    Returns:
        Centred boxes (n, T, 4) that reach from the first to the end of the last pixel, all 0 in frames
        without the instance, and (n, T) bool, True in frames with it.
    """
    inside = masks > 0
    columns, rows = inside.any(-2), inside.any(-1)
    left, right = _ends(columns)
    top, bottom = _ends(rows)
    height, width = masks.shape[-2:] if size is None else size.to(masks.device)
    corners = torch.stack([left / width, top / height, right / width, bottom / height], dim=-1)
    present = rows.any(-1)
    return to_centred(corners.float()).masked_fill(~present[..., None], 0.0), present


def _ends(line: Tensor) -> tuple[Tensor, Tensor]:
    """First True and one past the last True along the last axis of a bool tensor (..., N)."""
    first = line.int().argmax(-1)
    last = line.shape[-1] - line.flip(-1).int().argmax(-1)
    return first, last


def frame_shares(present: Tensor) -> Tensor:
    """Weights (n, T) for a mean over the frames in which an instance is present; all 0 if in none."""
    return present.float() / present.sum(-1, keepdim=True).clamp(min=1)
