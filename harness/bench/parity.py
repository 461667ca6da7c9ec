"""How far two ways to compute a model agree on a video."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np


class Parity(NamedTuple):
    """Of results in order; of another number of results only that is told."""

    results: tuple[int, int]
    same_labels: bool
    largest_score_gap: float
    mean_iou: float
    """Mean over results of the space-time IoU of their masks; two empty masks agree"""
    least_iou: float

    def text(self) -> str:
        """In a line."""
        if self.results[0] != self.results[1]:
            return f"{self.results[0]} results against {self.results[1]}"
        labels = "labels equal" if self.same_labels else "labels differ"
        return (
            f"{self.results[0]} results, {labels}, scores within {self.largest_score_gap:.1e}, "
            f"mask IoU {self.mean_iou:.5f} on average, {self.least_iou:.5f} at least"
        )


def compare(one: Path, other: Path) -> Parity:
    """Two files of :func:`harness.bench.worker.outputs`."""
    a, b = np.load(one), np.load(other)
    counts = (len(a["scores"]), len(b["scores"]))
    if counts[0] != counts[1]:
        return Parity(counts, False, float("nan"), float("nan"), float("nan"))
    if not counts[0]:
        return Parity(counts, True, 0.0, 1.0, 1.0)
    size = int(np.prod(a["shape"]))
    p, q = (np.unpackbits(x["masks"], count=size).reshape(counts[0], -1).astype(bool) for x in (a, b))
    union = (p | q).sum(1)
    iou = np.where(union > 0, (p & q).sum(1) / np.maximum(union, 1), 1.0)
    return Parity(
        counts,
        bool((a["labels"] == b["labels"]).all()),
        float(np.abs(a["scores"] - b["scores"]).max()),
        float(iou.mean()),
        float(iou.min()),
    )
