"""Tracks as run-length codes, a frame at a time: masks of full size exist one after the other.

Shapes
    H, W  frame size; h, w mask grid
    N, K  tracks, classes
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from harness.data.rle import Rle
from harness.evaluation import encode_mask, result_entry
from model.inference import full_size_masks, results_of
from model.tracking import FrameMasks

Item = TypeVar("Item")


def encoded_masks(final: FrameMasks, size: tuple[int, int]) -> Iterator[tuple[int, NDArray[np.bool_], Rle]]:
    """Track, mask (H, W) and code of each track that a final frame shows; ``size`` is (H, W)."""
    for track, mask in zip(final.tracks, full_size_masks(final.logits, size), strict=True):
        plane = mask.numpy()
        code = encode_mask(plane)
        if code is not None:
            yield track, plane, code


def batches(items: Iterable[Item], count: int) -> Iterator[list[Item]]:
    """Lists of ``count`` items that follow each other; the last may be shorter."""
    rest = iter(items)
    while batch := list(itertools.islice(rest, count)):
        yield batch


class EncodedTracks:
    """The tracks of one video in memory, which grows by their codes alone."""

    def __init__(self, size: tuple[int, int]) -> None:
        """``size``: (H, W) of the masks."""
        self._size = size
        self._codes: dict[int, dict[int, Rle]] = {}
        self.length = 0
        """Frames taken"""

    def add(self, finals: Iterable[FrameMasks]) -> None:
        """Take the next frames that have become final."""
        for final in finals:
            self.length += 1
            for track, _, code in encoded_masks(final, self._size):
                self._codes.setdefault(track, {})[final.frame] = code

    def results(
        self, video_id: int, class_probs: Tensor, score_threshold: float, category_ids: Sequence[int]
    ) -> list[dict[str, Any]]:
        """Entries of ``results.json``: every class (of ``category_ids``) of a track above the threshold.

        Args:
            class_probs: (N, K+1) of all tracks. Results of one track share their list of masks.
        """
        scores, labels, tracks = (x.tolist() for x in results_of(class_probs, score_threshold))
        shared = {track: self._masks(track) for track in set(tracks)}
        return [
            result_entry(video_id, category_ids[label], score, shared[track])
            for score, label, track in zip(scores, labels, tracks, strict=True)
        ]

    def _masks(self, track: int) -> list[Rle | None]:
        codes = self._codes.get(track, {})
        return [codes.get(frame) for frame in range(self.length)]
