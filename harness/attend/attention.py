"""What the memory tokens of a model attend to in a whole video, and what of it is foreground.

Shapes
    F, T     frames of the video, of a window
    L, G, M  Encode-Receive layers, heads, memory tokens
    h, w     token grid
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.attend.footage import Footage, PredictedMasks, TrackMasks
from harness.attend.foreground import Floats, cell_edges, cell_shares
from harness.config import InferenceConfig
from harness.data.clips import resize_frames, resized_size
from harness.data.video_file import FrameSource
from harness.encoded_tracks import batches
from model.clip_model import ClipModel
from model.inference import VideoStream
from model.memory_attention import memory_attention


@dataclass(frozen=True)
class VideoAttention:
    """Of every frame: the maps of the memory tokens, and what masks cover of each cell."""

    attention: NDArray[np.float32]
    """(F, L, M, h, w): parts of a token's attention"""
    shares: Floats
    """(F, h, w): see :func:`harness.attend.foreground.cell_shares`"""
    edges: tuple[Floats, Floats]
    """Of the cells' rows and columns: see :func:`harness.attend.foreground.cell_edges`"""
    windows: tuple[tuple[range, range], ...]
    """Each window, and the frames that were taken from it"""
    deviation: float
    """See :class:`model.memory_attention.MemoryAttention`"""
    masks: Callable[[int], TrackMasks]
    """Of a frame by its number"""
    masks_are: str

    def spans(self) -> str:
        """The windows in words."""
        spans = [f"{span.start}-{span.stop - 1}" for span, _ in self.windows]
        listed = ", ".join(spans if len(spans) <= 6 else [*spans[:2], "...", spans[-1]])
        return f"windows {listed}" if len(spans) > 1 else f"one window {listed}"


def video_attention(
    model: ClipModel,
    footage: Footage,
    settings: InferenceConfig,
    head: int | None,
    least_score: float,
    told: Callable[[int, int | None], None] = lambda done, of: None,
) -> VideoAttention:
    """Look at all frames, window by window.

    Args:
        head: None takes the mean of all.
        least_score: of predicted tracks that count as foreground, where there are no annotated ones.
        told: called as ``told(frames looked at, frames in all if known)``.

    Raises:
        FloatingPointError: the model's outputs are not finite.
    """
    source = footage.frames
    size = (source.height, source.width)
    predicted = PredictedMasks(size)
    stream = None
    if footage.annotated is None:
        stream = VideoStream(model, settings.window, 1, settings.match_threshold, source.announced)
    maps: list[Tensor] = []
    windows: list[tuple[range, range]] = []
    deviation, device = 0.0, next(model.parameters()).device
    for span, taken, frames in _windows(source, settings):
        found = memory_attention(model, frames.to(device))
        deviation = max(deviation, found.deviation)
        own = found.to_frame[:, taken.start - span.start :]
        maps += (own.mean(2) if head is None else own[:, :, head]).unbind(1)
        windows.append((span, taken))
        if stream is not None:
            predicted.add(stream.push(frames[taken.start - span.start :]))
        told(span.stop, source.announced)
    masks_are = "annotated masks"
    if stream is not None:
        predicted.add(stream.finish())
        count = predicted.keep(stream.class_probs().cpu(), least_score)
        masks_are = f"predicted masks of the same model: {count} tracks of at least {least_score:g}"
    attention = torch.stack(maps).numpy()
    if not np.isfinite(attention).all():
        raise FloatingPointError("the model's attention is not finite")
    masks = footage.annotated or predicted
    stride = model.backbone.strides[3]
    resized = resized_size(*size, settings.short_side, settings.max_long_side)
    rows, columns = (
        cell_edges(pixels, cells, into, stride)
        for pixels, cells, into in zip(size, attention.shape[-2:], resized, strict=True)
    )
    shares = [cell_shares(_joined(masks(index), size), (rows, columns)) for index in range(len(attention))]
    return VideoAttention(
        attention, np.stack(shares), (rows, columns), tuple(windows), deviation, masks, masks_are
    )


def _joined(masks: TrackMasks, size: tuple[int, int]) -> NDArray[np.bool_]:
    """(H, W): where any of them is."""
    joined = np.zeros(size, np.bool_)
    for mask in masks.values():
        joined |= mask
    return joined


def _windows(source: FrameSource, settings: InferenceConfig) -> Iterator[tuple[range, range, Tensor]]:
    """Windows of T frames behind each other, the last one moved back to end at the last frame.

    Yields the window, the frames that no earlier window held, and the window's frames (T, 3, H0, W0).
    """
    window, seen = settings.window, 0
    before: Tensor | None = None
    for batch in batches(source, window):
        new = torch.cat([_resized(torch.from_numpy(frame), settings) for frame in batch])
        taken = range(seen, seen + len(new))
        frames = new if before is None else torch.cat([before, new])[-window:]
        yield range(taken.stop - len(frames), taken.stop), taken, frames
        before, seen = new, taken.stop


def _resized(frame: Tensor, settings: InferenceConfig) -> Tensor:
    """(3, H, W) to (1, 3, H0, W0)."""
    return resize_frames(frame[None], **settings.resizing())
