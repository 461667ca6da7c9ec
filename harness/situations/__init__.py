"""Situations as numbers: how fast, hidden, blurred a track is, and AP by it (``docs/situations.md``)."""

from harness.metrics import SITUATIONS
from harness.situations.scores import situation_scores, tracks_of
from harness.situations.tags import TrackTags, tag_tracks

__all__ = ["SITUATIONS", "TrackTags", "situation_scores", "tag_tracks", "tracks_of"]
