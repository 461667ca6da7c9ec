"""A data set's tracks in three groups by a tag: the rule, with ties told and never split."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from harness.metrics import LEVELS, SITUATIONS
from harness.situations.tags import TrackTags

FEWEST_TRACKS = 10
"""An AP of fewer tracks is not given."""


class Terciles(NamedTuple):
    """Three groups by one tag: ``low`` up to ``borders[0]``, ``mid`` up to ``borders[1]``, ``high`` above.

    Where all defined tags are equal there are no groups: no borders, and no track has a level.
    """

    situation: str
    borders: tuple[float, float] | None
    """Both are the tag of a track; None where there are no groups"""
    lowest_tied: bool
    """Whether ``low`` is the tracks that share the lowest value, being more than a third"""
    levels: tuple[int | None, ...]
    """Of each track the place in :data:`LEVELS`; None where the tag is not defined, or there are no groups"""
    undefined: int
    """Tracks without this tag"""

    @property
    def counts(self) -> tuple[int, int, int]:
        """Tracks that are low, mid and high."""
        low, mid, high = (self.levels.count(level) for level in range(len(LEVELS)))
        return low, mid, high


def split_tracks(situation: str, values: Sequence[float | None]) -> Terciles:
    """Cut the tracks at a third and two thirds of their tags' ranks; tracks of equal tags stay together.

    Many tags are zero for most tracks. Where more than a third of the tracks share the lowest value, these
    are ``low`` and the rest is cut at its median. So a group may be empty or small; that is not mended by
    another cut, but :data:`FEWEST_TRACKS` decides whether it is scored.
    """
    told = np.sort(np.array([value for value in values if value is not None], float))
    undefined = len(values) - len(told)
    if not len(told) or told[0] == told[-1]:
        return Terciles(situation, None, False, (None,) * len(values), undefined)
    tied = int(np.searchsorted(told, told[0], side="right"))
    lowest_tied = 3 * tied > len(told)
    if lowest_tied:
        first, second = float(told[0]), _value_at(told[tied:], 1, 2)
    else:
        first, second = _value_at(told, 1, 3), _value_at(told, 2, 3)
    levels = tuple(None if v is None else int(v > first) + int(v > second) for v in values)
    return Terciles(situation, (first, second), lowest_tied, levels, undefined)


def _value_at(told: np.ndarray[tuple[int], np.dtype[np.float64]], part: int, of: int) -> float:
    """The smallest of the sorted values that ``part / of`` of them do not exceed."""
    return float(told[-(-len(told) * part // of) - 1])


def terciles_of(tags: Sequence[TrackTags]) -> dict[str, Terciles]:
    """The groups of each situation; levels in the order of ``tags``."""
    return {name: split_tracks(name, [track.tag(name) for track in tags]) for name in SITUATIONS}
