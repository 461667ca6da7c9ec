"""The clip tracker with buffers of a whole video for every window (paper Sec. 3.3, as published).

Shapes
    W, I     windows seen, instances known
    N, T, L  predictions and frames of a window, frames of the video
    h, w, K  mask grid, classes
"""

from __future__ import annotations

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

MAX_INSTANCES = 50
SMOOTHING = 1e-6


class TooManyInstancesError(ValueError):
    """A video has more instances than the published tracker holds; there it is an index error."""


class SquareTracker:
    """Keeps every window's masks in buffers of L windows x 50 instances x L frames: memory grows with L^2."""

    def __init__(
        self,
        num_classes: int,
        video_length: int,
        grid: tuple[int, int],
        device: torch.device,
        match_threshold: float = 0.05,
    ) -> None:
        places = (video_length, MAX_INSTANCES, video_length)
        self.match_threshold = match_threshold
        self.logits = torch.zeros((*places, *grid), device=device)
        self.probabilities = torch.zeros((*places, *grid), device=device)
        self.valid = torch.zeros(places, dtype=torch.bool, device=device)
        self.classes = torch.zeros((video_length, MAX_INSTANCES, num_classes + 1), device=device)
        self.windows, self.instances = 0, 0
        self.seen: set[int] = set()

    @property
    def buffer_bytes(self) -> int:
        """What the buffers take."""
        buffers = (self.logits, self.probabilities, self.valid, self.classes)
        return sum(buffer.numel() * buffer.element_size() for buffer in buffers)

    def update(self, frames: range, class_probs: Tensor, mask_logits: Tensor) -> None:
        """Take one window's predictions: class_probs (N, K+1) and mask_logits (N, T, h, w).

        Raises :class:`TooManyInstancesError` beyond 50.
        """
        probabilities = mask_logits.sigmoid()
        common = [place for place, frame in enumerate(frames) if frame in self.seen]
        where = [frames[place] for place in common]
        recent = slice(max(self.windows - len(frames), 0), self.windows)
        scores = self._soft_iou(
            probabilities[:, common],
            self.probabilities[recent, : self.instances][:, :, where],
            self.valid[recent, : self.instances][:, :, where],
        )
        scores = scores * (scores > self.match_threshold)
        rows, columns = linear_sum_assignment(scores.cpu().numpy(), maximize=True)
        owner = {int(c): int(r) for r, c in zip(rows, columns, strict=True) if scores[r, c] > 0}
        for prediction in range(len(class_probs)):
            if prediction not in owner:
                owner[prediction] = self.instances
                self.instances += 1
            if self.instances > MAX_INSTANCES:
                raise TooManyInstancesError(
                    f"the published tracker holds {MAX_INSTANCES} instances; here are more"
                )
            row = owner[prediction]
            span = slice(frames.start, frames.stop)
            self.logits[self.windows, row, span] = mask_logits[prediction]
            self.probabilities[self.windows, row, span] = probabilities[prediction]
            self.valid[self.windows, row, span] = True
            self.classes[self.windows, row] = class_probs[prediction]
        self.seen.update(frames)
        self.windows += 1

    def result(self) -> tuple[Tensor, Tensor]:
        """Class probabilities (I, K+1) and mask logits (I, L, h, w), NaN in frames that no window saw."""
        logits = self.logits[: self.windows, : self.instances]
        valid = self.valid[: self.windows, : self.instances]
        masks = logits.sum(0) / valid.sum(0)[..., None, None]
        seen = (valid.sum(2) > 0).sum(0)
        return self.classes[: self.windows, : self.instances].sum(0) / seen[:, None], masks

    @staticmethod
    def _soft_iou(new: Tensor, saved: Tensor, valid: Tensor) -> Tensor:
        """new (N, F, h, w), saved (W, I, F, h, w), valid (W, I, F) to (I, N): every pair written out."""
        q = new.flatten(-2)[None, None]
        p = saved.flatten(-2)[:, :, None]
        mask = valid[:, :, None, :, None]
        overlap = ((p * q) * mask).sum((-1, -2))
        union = ((p + q - p * q) * mask).sum((-1, -2))
        windows = (valid.sum(2) > 0).sum(0)
        return (overlap / (union + SMOOTHING)).sum(0) / (windows[:, None] + SMOOTHING)
