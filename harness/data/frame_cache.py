"""Decoded and resized frames and their masks, kept in bounded memory; least recently used goes out first.

What is kept changes when a clip is there, never what it holds: an entry is what reading would give again.

Shapes
    n       instances of a video
    H, W    frame size after resizing
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class FrameKey(NamedTuple):
    """What an entry is of; ids are those of one data set."""

    video: int
    frame: int
    size: tuple[int, int]
    """(H, W) after resizing"""


class ResizedFrame(NamedTuple):
    """A frame as a clip takes it, before a flip."""

    pixels: NDArray[np.uint8]
    """(3, H, W) RGB"""
    masks: NDArray[np.bool_]
    """(n, H, W)"""


class _Entry(NamedTuple):
    pixels: NDArray[np.uint8]
    bits: NDArray[np.uint8]
    """The masks, eight pixels in a byte"""
    instances: int

    @property
    def bytes(self) -> int:
        return self.pixels.nbytes + self.bits.nbytes


class FrameCache:
    """Frames and masks of one data set by :class:`FrameKey`; several threads may ask at once."""

    def __init__(self, limit: int) -> None:
        """Keep at most ``limit`` bytes of pixels and masks; 0 keeps nothing."""
        self.limit = limit
        self.bytes = 0
        self.hits = 0
        self.misses = 0
        self._entries: OrderedDict[FrameKey, _Entry] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Frames that are kept."""
        return len(self._entries)

    def find(self, key: FrameKey) -> ResizedFrame | None:
        """The frame if it is kept, as the one used last; its pixels are shared and cannot be written to."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                self.misses += 1
                return None
            self._entries.move_to_end(key)
            self.hits += 1
        return ResizedFrame(entry.pixels, _unpacked(entry))

    def keep(self, key: FrameKey, frame: ResizedFrame) -> None:
        """Keep a copy, in the place of those that were used longest ago.

        What is larger than the bound is not kept. Threads that missed one frame at once may all bring it:
        they bring the same.
        """
        if frame.pixels.nbytes + -(-frame.masks.size // 8) > self.limit:
            return
        pixels = frame.pixels.copy()  # not a view, which would hold the whole clip
        pixels.flags.writeable = False
        entry = _Entry(pixels, np.packbits(frame.masks), len(frame.masks))
        with self._lock:
            former = self._entries.pop(key, None)
            if former is not None:
                self.bytes -= former.bytes
            self._entries[key] = entry
            self.bytes += entry.bytes
            while self.bytes > self.limit:
                _, oldest = self._entries.popitem(last=False)
                self.bytes -= oldest.bytes


def _unpacked(entry: _Entry) -> NDArray[np.bool_]:
    shape = (entry.instances, *entry.pixels.shape[1:])
    return np.unpackbits(entry.bits, count=int(np.prod(shape))).view(np.bool_).reshape(shape)
