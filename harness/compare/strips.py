"""A video under several methods on paper: frames across, methods down; and as a video, methods side by side.

Shapes:
    R rows (annotations and methods), F frames, (H', W') size of a picture.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from harness.compare.identities import DUPLICATE_IOU, LEAST_IOU, Shown
from harness.compare.methods import GROUND_TRUTH
from harness.compare.scenes import Scene, background, painted
from harness.data.ytvis import VideoDataset
from harness.overlay import IMAGES_RATE, Painter, Picture, PictureVideo, lettering
from harness.report.figures.style import PAGE, SMALL_TEXT
from harness.strip import WIDEST_LABEL, WIDEST_PICTURE, Strip

EDGE_POINTS = 0.6
"""Of masks, in print"""
TAG_SHARE = 0.3
"""Of a picture's height that a tag may have at most"""
FINEST_DPI = 450
"""Pictures are stored no finer"""
LISTED = 6
"""Tracks that a row's label lists"""
WIDEST_VIDEO = 1920
SMALLEST_CELL = 320
"""Pixels; smaller frames are made larger in the video"""
GUTTER = 6
"""Pixels between the pictures of the video"""
HEADING = 16
"""Pixels of the letters above each picture of the video"""


def strip_of(scene: Scene, dataset: VideoDataset, frames: Sequence[int], caption: str) -> Strip:
    """The strip of some frames, ready to be written."""
    points = min(WIDEST_PICTURE, (PAGE - WIDEST_LABEL) / max(1, len(frames))) * 72
    height, width = Painter(*scene.size).size
    painter = Painter(*scene.size, line=max(1, round(width * EDGE_POINTS / points)))
    letters = max(8, min(round(width * SMALL_TEXT / points), round(height * TAG_SHARE)))
    behind = [background(painter, frame) for frame in dataset.frames(scene.video, frames)]
    pictures = [
        [
            _small(painted(painter, picture, row, index, letters), points)
            for picture, index in zip(behind, frames, strict=True)
        ]
        for row in scene.rows.values()
    ]
    labels = tuple(_label(name, row, frames) for name, row in scene.rows.items())
    return Strip(labels, tuple(f"frame {index}" for index in frames), pictures, caption=caption)


def _small(picture: Picture, points: float) -> Picture:
    """The picture with no more pixels than print shows."""
    height, width = picture.shape[:2]
    most = round(points / 72 * FINEST_DPI)
    if width <= most:
        return picture
    size = (most, max(1, round(height * most / width)))
    return np.array(Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS, reducing_gap=2))


def strip_caption(scene: Scene, chosen: str, threshold: float, most: int) -> str:
    """What the pictures are and how they were made."""
    reference = next(iter(scene.rows))
    first = "an annotated track" if reference == GROUND_TRUTH else f"a track of {reference}"
    return (
        f"{scene.title}; {chosen}. Same number and colour: same object as {first} (space-time IoU at least "
        f"{LEAST_IOU:g}, paired one to one over the whole video). Hatched, ×: a number is a duplicate "
        f"(IoU at least {DUPLICATE_IOU:g}), a letter matches none of them. "
        f"Tracks with a score of at least {threshold:g}, at most {most} a method. "
        "The frames' own colours are faded."
    )


def _label(name: str, row: Sequence[Shown], frames: Sequence[int]) -> str:
    seen = [each for each in row if any(each.track.masks[frame] is not None for frame in frames)]
    more = [f"and {len(seen) - LISTED} more"] if len(seen) > LISTED else []
    nothing = [] if seen else ["(nothing)"]
    return "\n".join([name, *(each.words for each in seen[:LISTED]), *more, *nothing])


def write_video(scene: Scene, dataset: VideoDataset, path: Path) -> None:
    """Every frame of the scene as a mp4 at the pace of its images, one picture a row, their names above."""
    painter = Painter(*scene.size)
    sheet = _Sheet(list(scene.rows), painter.size)
    video = PictureVideo(path, sheet.size, IMAGES_RATE, "video")
    try:
        for index in range(scene.video.length):
            frame = dataset.frames(scene.video, [index])[0]
            behind = background(painter, frame)
            pictures = [painted(painter, behind, row, index) for row in scene.rows.values()]
            video.add(sheet.filled(pictures))
    except BaseException:
        video.discard()
        raise
    video.close()


class _Sheet:
    """Pictures in as many columns as make the whole nearest to a screen's shape."""

    def __init__(self, names: Sequence[str], size: tuple[int, int]) -> None:
        """``size``: (H', W') of the pictures."""
        height, width = size
        top = 2 * HEADING
        columns = min(
            range(1, len(names) + 1),
            key=lambda n: abs(math.log(n * width / (math.ceil(len(names) / n) * (height + top)) * 9 / 16)),
        )
        scale = min(max(1.0, SMALLEST_CELL / width), WIDEST_VIDEO / columns / width)
        self._cell = (max(1, round(height * scale)), max(1, round(width * scale)))
        rows = math.ceil(len(names) / columns)
        across, down = self._cell[1] + GUTTER, self._cell[0] + top
        image = Image.new("RGB", (columns * across - GUTTER, rows * down), "white")
        draw = ImageDraw.Draw(image)
        self._places = []
        for place, name in enumerate(names):
            left, above = place % columns * across, place // columns * down
            draw.text((left, above + top / 2), name, "black", lettering(HEADING), anchor="lm")
            self._places.append((above + top, left))
        self._blank = np.array(image)
        self.size = self._blank.shape[:2]

    def filled(self, pictures: Sequence[Picture]) -> Picture:
        """The sheet with one picture a name."""
        whole = self._blank.copy()
        height, width = self._cell
        for picture, (top, left) in zip(pictures, self._places, strict=True):
            if picture.shape[:2] != self._cell:
                picture = np.array(
                    Image.fromarray(picture).resize((width, height), Image.Resampling.BILINEAR)
                )
            whole[top : top + height, left : left + width] = picture
        return whole
