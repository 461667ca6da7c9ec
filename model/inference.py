"""A video in, tracks out, as a stream (paper Sec. 3.3).

Shapes
    L, T, S  frames of the video, of a window, between the starts of neighbouring windows
    H0, W0   input size; H', W' output size; h, w mask grid
    N, R, K  tracks, results, classes
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from model.clip_model import ClipModel, FrameFeatures
from model.ready import ReadyModel, ready
from model.tracking import ClipTracker, FrameMasks

PIXELS_AT_ONCE = 4_000_000
"""Full-size logits that exist together"""


def windows(length: int, window: int, stride: int) -> Iterator[range]:
    """Frame ranges of T frames every S; the last one is moved back to end at the last frame.

    A video that is not longer than T is one window.
    """
    if window < 1 or stride < 1 or length < 1:
        raise ValueError(f"length {length}, window {window} and stride {stride} must be at least 1")
    start = 0
    while start + window < length:
        yield range(start, start + window)
        start += stride
    yield range(max(0, length - window), length)


class VideoStream:
    """A video that is segmented while its frames come in.

    Memory does not grow with the video: features are kept of the last T frames, masks of the frames that a
    later window may cover. Each frame goes through the backbone once.
    """

    def __init__(
        self,
        model: ClipModel | ReadyModel,
        window: int,
        stride: int,
        match_threshold: float = 0.05,
        length: int | None = None,
    ) -> None:
        """The model is taken as it is now; a copy of it runs in evaluation mode.

        A :class:`model.ready.ReadyModel` saves copying it for each video. ``length`` is L where it is known:
        a video of one window needs nothing that windows share.
        """
        if window < 1 or stride < 1:
            raise ValueError(f"window {window} and stride {stride} must be at least 1")
        self._model = ready(model)
        one_window = length is not None and length <= window
        self._windows_a_frame = 1 if one_window else window / stride
        self._window, self._stride = window, stride
        self._tracker = ClipTracker(model.config.num_classes, match_threshold)
        self._features: deque[tuple[range, FrameFeatures]] = deque()
        self._next = 0  # where the next window starts
        self.length = 0
        """Frames seen"""

    @property
    def live(self) -> list[int]:
        """Tracks that later frames may still change; the class probabilities of all others are final."""
        return self._tracker.live

    def class_probs(self) -> Tensor:
        """(N, K+1) of all tracks so far, each averaged over the windows that saw it."""
        return self._tracker.class_probs()

    @torch.inference_mode()
    def push(self, frames: Tensor) -> list[FrameMasks]:
        """Take the next frames (n, 3, H0, W0), RGB in 0..255; returns the frames that have become final.

        Frames of a video have one size. Each is final when no later window can cover it: T frames later.

        Raises:
            FloatingPointError: the model's outputs are not finite.
        """
        final = []
        for part in frames.split(self._model.frames_together):
            self._look_at(part)
            # A window that ends at the last frame so far may be the last one, and have to start earlier.
            starts = range(self._next, self.length - self._window, self._stride)
            self._segment([range(start, start + self._window) for start in starts])
            self._next += len(starts) * self._stride
            final += self._release(self.length - self._window)
        return final

    @torch.inference_mode()
    def finish(self) -> list[FrameMasks]:
        """The last window; returns all frames that are left."""
        if not self.length:
            return []
        self._segment([range(max(0, self.length - self._window), self.length)])
        return self._release(self.length)

    def _look_at(self, frames: Tensor) -> None:
        parts = frames.split(self._model.frames_at_once)
        features = self._model.each(lambda x: self._model.frame_features(x, self._windows_a_frame), parts)
        for own, part in zip(features, parts, strict=True):
            self._features.append((range(self.length, self.length + len(part)), own))
            self.length += len(part)

    def _segment(self, spans: Sequence[range]) -> None:
        found = self._model.each(self._model.detect, map(self._seen_in, spans))
        for span, (classes, masks, finite) in zip(spans, found, strict=True):
            # Outputs that are no numbers would be no results: an AP of 0 that nobody measured.
            if not bool(finite):
                raise FloatingPointError(
                    f"the model's outputs for frames {span.start}-{span.stop - 1} are not finite"
                )
            self._tracker.update(span, classes, masks)

    def _seen_in(self, span: range) -> list[FrameFeatures]:
        parts = []
        for seen, features in self._features:
            start, stop = max(seen.start, span.start), min(seen.stop, span.stop)
            if start < stop:
                parts.append(features.part(start - seen.start, stop - seen.start))
        return parts

    def _release(self, before: int) -> list[FrameMasks]:
        while self._features and self._features[0][0].stop <= before:
            self._features.popleft()
        return self._tracker.release(before)


@dataclass(frozen=True)
class VideoResults:
    """Every class of a track with enough probability is one result."""

    scores: Tensor
    """(R,)"""
    labels: Tensor
    """(R,)"""
    tracks: Tensor
    """(R,) the row of ``masks`` of each"""
    masks: Tensor
    """(N, L, H', W') bool, one row for each track that has a result"""


def segment_tracks(
    model: ClipModel | ReadyModel,
    frames: Tensor,
    window: int,
    stride: int,
    output_size: tuple[int, int],
    match_threshold: float = 0.05,
    score_threshold: float = 0.01,
) -> VideoResults:
    """As :func:`segment_video`, with the masks of each track once; all on the CPU."""
    stream = VideoStream(model, window, stride, match_threshold, len(frames))
    final = stream.push(frames) + stream.finish()
    scores, labels, tracks = results_of(stream.class_probs(), score_threshold)
    found = tracks.unique().tolist()
    rows = {track: row for row, track in enumerate(found)}
    masks = torch.zeros((len(found), len(frames), *output_size), dtype=torch.bool)
    for frame, own, logits in final:
        wanted = [place for place, track in enumerate(own) if track in rows]
        # Row by row into place: boolean masks of a whole video are large enough to exist only once.
        for place, mask in zip(wanted, full_size_masks(logits[wanted], output_size), strict=True):
            masks[rows[own[place]], frame] = mask
    return VideoResults(scores, labels, torch.tensor([rows[t] for t in tracks.tolist()]).long(), masks)


def segment_video(
    model: ClipModel | ReadyModel,
    frames: Tensor,
    window: int,
    stride: int,
    output_size: tuple[int, int],
    match_threshold: float = 0.05,
    score_threshold: float = 0.01,
) -> dict[str, Tensor]:
    """Tracks of a whole video.

    Args:
        model: a clip model, whose copy runs in evaluation mode, or one that was made ready.
        frames: (L, 3, H0, W0) RGB in 0..255, on any device.
        window, stride: T and S.
        output_size: (H', W') of the masks.

    Returns:
        ``scores`` (R,), ``labels`` (R,) and ``masks`` (R, L, H', W') bool on the CPU. Every class of a track
        with a probability above ``score_threshold`` gives one result; ``tracks`` (R,) tells which results
        share a track, and so their masks. A video without frames (L = 0) has no results.

    Raises:
        FloatingPointError: the model's outputs are not finite.
    """
    found = segment_tracks(model, frames, window, stride, output_size, match_threshold, score_threshold)
    return {
        "scores": found.scores,
        "labels": found.labels,
        "tracks": found.tracks,
        "masks": found.masks[found.tracks],
    }


def results_of(class_probs: Tensor, score_threshold: float) -> tuple[Tensor, Tensor, Tensor]:
    """(N, K+1) to scores, labels and tracks (R,) of all classes above the threshold, on the CPU."""
    probabilities = class_probs.cpu()
    tracks, labels = (probabilities[:, :-1] > score_threshold).nonzero(as_tuple=True)
    return probabilities[tracks, labels], labels, tracks


@torch.inference_mode()
def full_size_masks(logits: Tensor, size: tuple[int, int]) -> Iterator[Tensor]:
    """Logits (n, h, w) to one bool mask (H', W') after the other, on the CPU: upsampled, then above 0."""
    at_once = max(1, PIXELS_AT_ONCE // (size[0] * size[1]))
    for part in logits.split(at_once) if len(logits) else ():
        full = F.interpolate(part[None], size, mode="bilinear", align_corners=False)[0]
        yield from (full > 0).cpu()
