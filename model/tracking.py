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
from dataclasses import dataclass, field

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

SMOOTHING = 1e-6
"""Added to unions and counts, as in the published code: empty ones give 0"""


@dataclass
class Track:
    """Running sums of one instance over the windows that saw it."""

    class_sum: Tensor
    """(K+1,)"""
    windows: int = 0
    mask_sum: dict[int, Tensor] = field(default_factory=dict)
    """frame -> sum of mask logits (h, w)"""
    mask_count: dict[int, int] = field(default_factory=dict)
    """frame -> windows that gave it a mask"""


@dataclass(frozen=True)
class SavedWindow:
    """What later windows are compared with."""

    frames: tuple[int, ...]
    tracks: Tensor
    """(N,) the track of each prediction"""
    probabilities: Tensor
    """(N, T, h, w)"""


class ClipTracker:
    """Links the predictions of overlapping windows by the soft IoU of their masks.

    Only the last T windows and running sums are kept, so memory grows linearly with the video.
    """

    def __init__(self, num_classes: int, match_threshold: float = 0.05) -> None:
        self.num_classes = num_classes
        self.match_threshold = match_threshold
        self.tracks: list[Track] = []
        self.saved: deque[SavedWindow] = deque()
        self._grid: tuple[int, int] = (0, 0)

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
        for prediction, track in enumerate(tracks.tolist()):
            self._add(self.tracks[track], frames, class_probs[prediction], mask_logits[prediction])
        self.saved.append(SavedWindow(frames, tracks, probabilities))
        while len(self.saved) > len(frames):
            self.saved.popleft()

    def result(self, video_length: int) -> tuple[Tensor, Tensor]:
        """Class probabilities (N, K+1) and mask logits (N, L, h, w), averaged over windows.

        Instances come in order of first appearance; frames that no window saw are NaN.
        """
        height, width = self._grid
        if not self.tracks:
            return torch.zeros(0, self.num_classes + 1), torch.zeros(0, video_length, height, width)
        classes = torch.stack([track.class_sum / track.windows for track in self.tracks])
        masks = classes.new_full((len(self.tracks), video_length, height, width), float("nan"))
        for row, track in enumerate(self.tracks):
            for frame, total in track.mask_sum.items():
                masks[row, frame] = total / track.mask_count[frame]
        return classes, masks

    def _link(self, frames: tuple[int, ...], probabilities: Tensor) -> Tensor:
        """The track of each prediction; unlinked predictions open new tracks."""
        count = len(probabilities)
        assigned = torch.full((count,), -1, dtype=torch.long)
        if self.tracks and count:
            score = self._scores(frames, probabilities)
            # Weak pairs must not decide how strong ones are matched.
            score = score * (score > self.match_threshold)
            rows, columns = linear_sum_assignment(score.cpu().numpy(), maximize=True)
            for track, prediction in zip(rows.tolist(), columns.tolist(), strict=True):
                if score[track, prediction] > 0:
                    assigned[prediction] = track
        for new in range(count):
            if assigned[new] < 0:
                assigned[new] = len(self.tracks)
                self.tracks.append(Track(probabilities.new_zeros(self.num_classes + 1)))
        return assigned

    def _scores(self, frames: tuple[int, ...], probabilities: Tensor) -> Tensor:
        """Soft IoU (tracks, N), averaged over the saved windows that saw the track on common frames."""
        total = probabilities.new_zeros(len(self.tracks), len(probabilities))
        windows = probabilities.new_zeros(len(self.tracks))
        for saved in self.saved:
            common = [(i, frames.index(f)) for i, f in enumerate(saved.frames) if f in frames]
            if not common or not len(saved.tracks):
                continue
            theirs, ours = (list(side) for side in zip(*common, strict=True))
            total[saved.tracks] += soft_iou(saved.probabilities[:, theirs], probabilities[:, ours])
            windows[saved.tracks] += 1
        return total / (windows + SMOOTHING)[:, None]

    @staticmethod
    def _add(track: Track, frames: tuple[int, ...], classes: Tensor, logits: Tensor) -> None:
        track.class_sum = track.class_sum + classes
        track.windows += 1
        for index, frame in enumerate(frames):
            seen = track.mask_sum.get(frame)
            track.mask_sum[frame] = logits[index].clone() if seen is None else seen + logits[index]
            track.mask_count[frame] = track.mask_count.get(frame, 0) + 1


def soft_iou(known: Tensor, new: Tensor) -> Tensor:
    """(I, F, h, w) and (N, F, h, w) probabilities to (I, N): sum(p q) / sum(p + q - p q) over space-time."""
    p, q = known.flatten(1), new.flatten(1)
    overlap = p @ q.T
    union = p.sum(1)[:, None] + q.sum(1)[None] - overlap
    return overlap / (union + SMOOTHING)
