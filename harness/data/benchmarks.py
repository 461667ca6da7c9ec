"""The published data sets, as facts: classes, where people keep them, and the names of their splits."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Benchmark:
    """One published data set; a folder of one's own is laid out like one of them."""

    title: str
    num_classes: int
    """Classes of the published annotations; a folder of one's own may have others."""
    variables: tuple[str, ...]
    """Environment variables that name its folder, the one that counts first in front."""
    train: str
    valid: str
    """Names of the splits that are trained on and scored unless others are named."""
    is_images: bool = False
    """Whether an item is one image, not a video."""


BENCHMARKS = {
    "ytvis19": Benchmark("YouTube-VIS 2019", 40, ("YOUTUBE_VIS_2019", "YOUTUBE_VIS"), "train", "valid"),
    "ytvis21": Benchmark("YouTube-VIS 2021", 40, ("YOUTUBE_VIS_2021",), "train", "valid"),
    "ovis": Benchmark("OVIS", 25, ("OVIS",), "train", "valid"),
    "coco": Benchmark("COCO 2017", 80, ("COCO",), "train2017", "val2017", is_images=True),
}
"""By their name in ``data.benchmark``."""
