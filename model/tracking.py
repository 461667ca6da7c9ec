"""Windows to tracks, as a stream (paper Sec. 3.3).

Shapes
    N        instances or predictions
    K        classes
    T, L     frames of a window, of the video
    h, w     mask grid
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

SMOOTHING = 1e-6
"""Added to unions and counts, as in the published code: empty ones give 0"""


class FrameMasks(NamedTuple):
    """The masks of one frame, averaged over the windows that saw it."""

    frame: int
    tracks: list[int]
    """n of them, counted from 0 in order of first appearance"""
    logits: Tensor
    """(n, h, w)"""


@dataclass
class FrameSum:
    """Running sums of one frame over the windows that saw it."""

    rows: dict[int, int]
    """track -> row of the sums"""
    logits: Tensor
    """(n, h, w)"""
    windows: Tensor
    """(n,) how many windows gave the track a mask here"""

    def mean(self, frame: int) -> FrameMasks:
        """The averaged masks."""
        return FrameMasks(frame, [*self.rows], self.logits / self.windows[:, None, None])


@dataclass(frozen=True)
class SavedWindow:
    """What later windows are compared with."""

    frames: tuple[int, ...]
    tracks: list[int]
    """(N,) the track of each prediction"""
    probabilities: Tensor
    """(N, T, h, w)"""


class ClipTracker:
    """Links the predictions of overlapping windows by the soft IoU of their masks.

    Only the last T windows, running sums of masks and one sum of class probabilities a track are kept.
    Frames that no later window covers can be taken out with :meth:`release`; then memory does not grow with
    the video but for these class probabilities.
    """

    def __init__(self, num_classes: int, match_threshold: float = 0.05) -> None:
        self.num_classes = num_classes
        self.match_threshold = match_threshold
        self.saved: deque[SavedWindow] = deque()
        self._class_sums = torch.zeros(0, num_classes + 1)
        self._windows = torch.zeros(0)
        self._frames: dict[int, FrameSum] = {}
        self._grid: tuple[int, int] = (0, 0)

    @property
    def track_count(self) -> int:
        """Tracks found so far."""
        return len(self._windows)

    @property
    def live(self) -> list[int]:
        """Tracks that a later window may still be linked to; all others are final."""
        return sorted({track for saved in self.saved for track in saved.tracks})

    def update(self, frame_indices: Sequence[int], class_probs: Tensor, mask_logits: Tensor) -> None:
        """Take one window's predictions: class_probs (N, K+1) and mask_logits (N, T, h, w)."""
        frames = tuple(int(f) for f in frame_indices)
        if class_probs.shape[1] != self.num_classes + 1:
            raise ValueError(f"class_probs has {class_probs.shape[1]} columns for {self.num_classes} classes")
        if mask_logits.shape[:2] != (len(class_probs), len(frames)):
            raise ValueError(f"mask_logits {tuple(mask_logits.shape)} for {len(frames)} frames")
        self._grid = (mask_logits.shape[2], mask_logits.shape[3])
        probabilities = mask_logits.sigmoid()
        tracks = self._link(frames, probabilities)
        self._add(frames, tracks, class_probs, mask_logits)
        self.saved.append(SavedWindow(frames, tracks, probabilities))
        while len(self.saved) > len(frames):
            self.saved.popleft()

    def release(self, before: int) -> list[FrameMasks]:
        """Take out the frames below ``before``, which no later window may cover, in order."""
        done = sorted(frame for frame in self._frames if frame < before)
        return [self._frames.pop(frame).mean(frame) for frame in done]

    def class_probs(self) -> Tensor:
        """(N, K+1) of all tracks, averaged over the windows that saw each, in order of first appearance."""
        return self._class_sums / self._windows[:, None]

    def result(self, video_length: int) -> tuple[Tensor, Tensor]:
        """Class probabilities (N, K+1) and mask logits (N, L, h, w), averaged over windows.

        Instances come in order of first appearance; frames that no window saw are NaN.
        """
        shape = (self.track_count, video_length, *self._grid)
        masks = torch.full(shape, float("nan"), dtype=self._class_sums.dtype, device=self._class_sums.device)
        for frame, total in self._frames.items():
            masks[[*total.rows], frame] = total.mean(frame).logits
        return self.class_probs(), masks

    def _link(self, frames: tuple[int, ...], probabilities: Tensor) -> list[int]:
        """The track of each prediction; unlinked predictions open new tracks."""
        count = len(probabilities)
        assigned: dict[int, int] = {}
        live = self.live
        if live and count:
            score = self._scores(live, frames, probabilities).cpu()
            # Weak pairs must not decide how strong ones are matched.
            score = score * (score > self.match_threshold)
            rows, columns = linear_sum_assignment(score.numpy(), maximize=True)
            assigned = {
                prediction: live[row]
                for row, prediction in zip(rows.tolist(), columns.tolist(), strict=True)
                if score[row, prediction] > 0
            }
        tracks, following = [], self.track_count
        for prediction in range(count):
            tracks.append(assigned.get(prediction, following))
            following += prediction not in assigned
        return tracks

    def _scores(self, live: list[int], frames: tuple[int, ...], probabilities: Tensor) -> Tensor:
        """Soft IoU (live, N), averaged over the saved windows that saw the track on common frames."""
        rows = {track: row for row, track in enumerate(live)}
        total = probabilities.new_zeros(len(live), len(probabilities))
        windows = probabilities.new_zeros(len(live))
        for saved in self.saved:
            common = [(i, frames.index(f)) for i, f in enumerate(saved.frames) if f in frames]
            if not common or not saved.tracks:
                continue
            theirs, ours = (_span([*side]) for side in zip(*common, strict=True))
            own = [rows[track] for track in saved.tracks]
            total[own] += soft_iou(saved.probabilities[:, theirs], probabilities[:, ours])
            windows[own] += 1
        return total / (windows + SMOOTHING)[:, None]

    def _add(self, frames: tuple[int, ...], tracks: list[int], classes: Tensor, logits: Tensor) -> None:
        """Add one window to the sums."""
        new = max(tracks, default=-1) + 1 - self.track_count
        self._class_sums = _grown(self._class_sums.to(classes), new)
        self._windows = _grown(self._windows.to(classes), new)
        self._class_sums[tracks] += classes
        self._windows[tracks] += 1
        for frame, own in zip(frames, logits.unbind(1), strict=True):
            total = self._frames.get(frame)
            if total is None:
                rows = {track: row for row, track in enumerate(tracks)}
                self._frames[frame] = FrameSum(rows, own.clone(), logits.new_ones(len(tracks)))
                continue
            unseen = [track for track in tracks if track not in total.rows]
            for track in unseen:
                total.rows[track] = len(total.rows)
            places = [total.rows[track] for track in tracks]
            total.logits = _grown(total.logits, len(unseen))
            total.windows = _grown(total.windows, len(unseen))
            total.logits[places] += own
            total.windows[places] += 1


def _span(indices: list[int]) -> slice | list[int]:
    """Indices that follow each other as a slice, which copies nothing."""
    first, last = indices[0], indices[-1]
    return slice(first, last + 1) if indices == [*range(first, last + 1)] else indices


def _grown(x: Tensor, rows: int) -> Tensor:
    """``x`` with so many rows of zeros below."""
    return torch.cat([x, x.new_zeros(rows, *x.shape[1:])]) if rows > 0 else x


def soft_iou(known: Tensor, new: Tensor) -> Tensor:
    """(I, F, h, w) and (N, F, h, w) probabilities to (I, N): sum(p q) / sum(p + q - p q) over space-time."""
    # Frame by frame: masks come frames first, and are read in place.
    p, q = known.transpose(0, 1).flatten(2), new.transpose(0, 1).flatten(2)
    overlap = (p @ q.transpose(1, 2)).sum(0)
    union = p.sum((0, 2))[:, None] + q.sum((0, 2))[None] - overlap
    return overlap / (union + SMOOTHING)
