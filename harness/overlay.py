"""Tracks painted over their frames: a picture a frame, or a video. One frame is in memory at a time.

Shapes
    H, W    frame size
    H', W'  size of the picture: the frame's own, but for very large and very small frames
"""

from __future__ import annotations

import colorsys
from contextlib import suppress
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from harness.data.video_file import Frame, import_av
from model.errors import InputError
from model.whole_file import whole_file

LONGEST_SIDE = 1920
"""Pictures of larger frames are made smaller: encoders keep tens of them, and no screen has 10,000 pixels."""
SHORT_SIDE = 240
"""Pictures of smaller frames are made larger by a whole number, or no label could be read."""
GOLDEN = 0.618034
"""Of the circle of hues, between the colours of tracks that follow each other: no two of them are near"""
SHADES = ((0.85, 0.95), (0.6, 1.0), (0.95, 0.75))
"""Saturation and value, in turn"""
JPEG_QUALITY = 90
IMAGES_RATE = Fraction(6)
"""Frames per second of a film of images: those of YouTube-VIS were taken at 6"""
USUAL_RATE = Fraction(25)
"""Of videos whose file tells no frame rate"""
CODECS: dict[str, dict[str, str]] = {
    "libx264": {"crf": "20", "preset": "veryfast"},
    "mpeg4": {"qscale": "3"},
}
"""The first that FFmpeg has here is taken."""
HIDING = 12.0
"""What a label's place costs whose every pixel hides something, where its height from the track costs 1"""
OVER_ANOTHER = 1000.0
"""What a place costs that is over another label"""
ASIDE, ALONG, BELOW = 0.3, 0.05, 0.1
"""What a label's height left or right of the track's middle costs; above or below it; to be below at all"""
POINTS = 200
"""Of a track's edge, that distances are measured from, at most"""

Picture = NDArray[np.uint8]
"""(H', W', 3) RGB"""
Places = NDArray[np.int64]
"""Rows, or columns, of pixels"""
Box = tuple[int, int, int, int]
"""left, top, right, bottom; the last two are outside"""


class Label(NamedTuple):
    """What is written beside a track."""

    text: str
    at: Box
    """The track's own box"""
    colour: tuple[int, int, int]
    edge: Places | None = None
    """(n, 2) rows and columns of pixels of its edge; None: the corners of its box stand for them"""


class Look(NamedTuple):
    """How a track is painted where its number alone does not say it."""

    colour: tuple[int, int, int]
    hatched: bool = False
    """Stripes and a dashed edge: it can be told from others without colours, too"""


@cache
def colour_of(track: int) -> tuple[int, int, int]:
    """RGB of a track, the same on every frame and in every run."""
    saturation, value = SHADES[track % len(SHADES)]
    red, green, blue = colorsys.hsv_to_rgb(track * GOLDEN % 1, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)


def picture_size(height: int, width: int) -> tuple[int, int]:
    """(H, W) to (H', W')."""
    longest, shortest = max(height, width), min(height, width)
    if longest > LONGEST_SIDE:
        return max(1, height * LONGEST_SIDE // longest), max(1, width * LONGEST_SIDE // longest)
    times = max(1, min(-(-SHORT_SIDE // shortest), LONGEST_SIDE // longest))
    return height * times, width * times


class Painter:
    """Paints tracks on frames of one size."""

    def __init__(self, height: int, width: int, line: int | None = None) -> None:
        """``line``: width of edges in pixels of the picture, where it is to be printed small."""
        self.size = picture_size(height, width)
        self._own = (height, width)
        self._rows, self._columns = (
            np.arange(new) * old // new for new, old in zip(self.size, self._own, strict=True)
        )
        self._line = 1 + (min(self.size) >= 500) if line is None else line

    def picture(self, frame: Frame) -> Picture:
        """The frame (3, H, W) alone."""
        pixels = np.ascontiguousarray(frame.transpose(1, 2, 0))
        if self.size == self._own:
            return pixels
        smaller = self.size[0] < self._own[0]
        kind = Image.Resampling.BOX if smaller else Image.Resampling.NEAREST
        return np.array(Image.fromarray(pixels).resize(self.size[::-1], kind))

    def paint(
        self, picture: Picture, mask: NDArray[np.bool_], track: int, text: str, look: Look | None = None
    ) -> Label | None:
        """Colour the mask (H, W) of a track on the picture, in place; None where too little is left of it."""
        if self.size != self._own:
            mask = mask[self._rows[:, None], self._columns]
        ys, xs = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        if not len(ys):
            return None
        top, bottom, left, right = int(ys[0]), int(ys[-1]) + 1, int(xs[0]), int(xs[-1]) + 1
        inside, part = mask[top:bottom, left:right], picture[top:bottom, left:right]
        colour, hatched = Look(colour_of(track)) if look is None else look
        edge = _outline(inside, self._line)
        points = np.argwhere(edge)[:: -(-np.count_nonzero(edge) // POINTS)] + np.array((top, left))
        if hatched:
            along = np.add.outer(np.arange(top, bottom), np.arange(left, right)) // (3 * self._line)
            part[edge & (along % 2 == 1)] = 255
            inside, edge = inside & (along % 2 == 0), edge & (along % 2 == 0)
        part[inside] = part[inside] // 2 + np.array(colour, np.uint8) // 2
        part[edge] = colour
        return Label(text, (left, top, right, bottom), colour, points)

    def edge(self, mask: NDArray[np.bool_], width: int) -> NDArray[np.bool_]:
        """The pixels (H', W') of a mask (H, W) that are at most ``width`` from one outside of it."""
        if self.size != self._own:
            mask = mask[self._rows[:, None], self._columns]
        return _outline(mask, width)

    def write(
        self,
        picture: Picture,
        labels: list[Label],
        letters: int | None = None,
        kept: NDArray[np.bool_] | None = None,
    ) -> Picture:
        """The picture with its labels, none of them over another where there is room.

        Args:
            letters: their size in pixels; by default one that suits a screen.
            kept: (H', W'), pixels that labels cover only where there is no other room near their track: they
                may then stand on any side of it.
        """
        image = Image.fromarray(picture)
        draw, font = ImageDraw.Draw(image), lettering(letters or max(11, min(self.size) // 30))
        taken: list[Box] = []
        hidden = None if kept is None else np.pad(kept.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
        for label in labels:
            text = draw.textbbox((0, 0), label.text, font)
            if hidden is None:
                place = _free_place(label, text, self.size, taken)
            else:
                place = _side_place(label, text, hidden, taken)
            taken.append(place)
            dark = (
                sum(part * share for part, share in zip(label.colour, (299, 587, 114), strict=True)) < 128000
            )
            draw.rectangle((place[0], place[1], place[2] - 1, place[3] - 1), fill=label.colour)
            middle = ((place[0] + place[2]) / 2, (place[1] + place[3]) / 2)
            draw.text(middle, label.text, "white" if dark else "black", font, anchor="mm")
        return np.array(image)


def _outline(mask: NDArray[np.bool_], width: int) -> NDArray[np.bool_]:
    """The pixels of a mask that are at most ``width`` from one outside of it."""
    padded = np.pad(mask, width)
    inner = mask
    for step in range(1, width + 1):
        for axis in (0, 1):
            for shift in (-step, step):
                rows, columns = ((width + shift * (axis == side)) for side in (0, 1))
                inner = inner & padded[rows : rows + mask.shape[0], columns : columns + mask.shape[1]]
    return mask & ~inner


def _free_place(label: Label, text: tuple[float, ...], size: tuple[int, int], taken: list[Box]) -> Box:
    """Above the track, else lower, down to the picture's end; always inside the picture."""
    width, height = round(text[2] - text[0]) + 6, round(text[3] - text[1]) + 6
    left = max(0, min(label.at[0], size[1] - width))
    highest = max(0, min(label.at[1] - height, size[0] - height))
    for top in range(highest, max(highest, size[0] - height) + 1, max(1, height // 2)):
        place = (left, top, left + width, top + height)
        if not any(_meet(place, other) for other in taken):
            return place
    return (left, highest, left + width, highest + height)


def _side_place(label: Label, text: tuple[float, ...], hidden: Places, taken: list[Box]) -> Box:
    """Where little of what is kept is hid, near the track; over another label only where all places are.

    Args:
        hidden: (H' + 1, W' + 1), of what is kept the pixels above and left of each corner.
    """
    width, height = round(text[2] - text[0]) + 6, round(text[3] - text[1]) + 6
    left, top, right, bottom = label.at
    middle, centre = (left + right - width) // 2, (top + bottom - height) // 2
    # All over the picture, and exactly beside the track.
    step = max(1, height // 5)
    xs = _starts(width, hidden.shape[1] - 1, step, (left - width, left, middle, right - width, right))
    ys = _starts(height, hidden.shape[0] - 1, step, (top - height, top, centre, bottom - height, bottom))
    ends, floors = np.minimum(xs + width, hidden.shape[1] - 1), np.minimum(ys + height, hidden.shape[0] - 1)
    inside = hidden[np.ix_(floors, ends)] - hidden[np.ix_(floors, xs)]
    inside = inside - hidden[np.ix_(ys, ends)] + hidden[np.ix_(ys, xs)]
    edge = np.array([(top, left), (bottom - 1, right - 1)]) if label.edge is None else label.edge
    down, across = (
        _gap(starts[:, None], length, points, points + 1).astype(np.float32) ** 2
        for starts, length, points in ((ys, height, edge[:, 0]), (xs, width, edge[:, 1]))
    )
    away = np.sqrt((down[:, None] + across[None]).min(-1))
    cost = HIDING * inside / (width * height) + away / height
    # The median: a speck far from the rest of a mask would move the middle of its box.
    y, x = np.median(edge, 0) - (height / 2, width / 2)
    cost += (ASIDE * abs(xs - x) + ALONG * abs(ys - y)[:, None]) / height + BELOW * (ys > y)[:, None]
    for other in taken:
        shared = np.outer(_shared(ys, height, other[1], other[3]), _shared(xs, width, other[0], other[2])) / (
            width * height
        )
        cost = cost + np.where(shared > 0, OVER_ANOTHER * (1 + shared), 0.0)
    row, column = np.unravel_index(int(cost.argmin()), cost.shape)
    place = int(xs[column]), int(ys[row])
    return (*place, place[0] + width, place[1] + height)


def _starts(length: int, room: int, step: int, others: tuple[int, ...]) -> Places:
    """Where something of a length may begin in a room of so many pixels, in order; 0 where it is too long."""
    last = max(0, room - length)
    steps = np.arange(0, last + 1, max(1, step))
    return np.unique(np.concatenate([steps, np.clip(others, 0, last)]))


def _gap(starts: Places, length: int, low: Places, high: Places) -> Places:
    """Pixels between [start, start + length) and [low, high), along one axis."""
    gap: Places = np.maximum(0, np.maximum(low - (starts + length), starts - high))
    return gap


def _shared(starts: Places, length: int, low: int, high: int) -> Places:
    """Pixels that [start, start + length) and [low, high) have in common."""
    shared: Places = np.maximum(0, np.minimum(starts + length, high) - np.maximum(starts, low))
    return shared


def _meet(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


@cache
def lettering(size: int) -> ImageFont.FreeTypeFont:
    """A font of this size in pixels."""
    import matplotlib  # late: it brings a font with the letters of most languages

    return ImageFont.truetype(str(Path(matplotlib.get_data_path(), "fonts/ttf/DejaVuSans.ttf")), size)


# Where pictures go


class Pictures(Protocol):
    """Takes the pictures of a video in order."""

    path: Path

    def add(self, picture: Picture) -> None:
        """The next picture."""

    def close(self) -> None:
        """What was added so far becomes a valid file."""


class PictureFolder:
    """``000000.jpg`` and so on, by the number of the frame."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(exist_ok=True)
        self._count = 0

    def add(self, picture: Picture) -> None:
        """The next picture, whole or not at all."""
        with whole_file(self.path / f"{self._count:06d}.jpg") as draft:
            Image.fromarray(picture).save(draft, "JPEG", quality=JPEG_QUALITY)
        self._count += 1

    def close(self) -> None:
        """Nothing is left to do."""


def video_writer(option: str) -> tuple[Any, str]:
    """The module ``av`` and the name of a codec; raises :class:`InputError` where either is missing."""
    av = import_av(f"--{option}: a mp4")
    codec = next((name for name in CODECS if name in av.codecs_available), None)
    if codec is None:
        raise InputError(f"--{option}: FFmpeg has neither {' nor '.join(CODECS)} here; use --no-{option}")
    return av, codec


def video_lacks(option: str) -> str | None:
    """Why no mp4 can be written here; None where one can."""
    try:
        video_writer(option)
    except InputError as error:
        return str(error)
    return None


class PictureVideo:
    """A mp4, which has its name when it is closed; before it is a hidden draft."""

    def __init__(
        self, path: Path, size: tuple[int, int], rate: Fraction | None, option: str = "overlay"
    ) -> None:
        """``size``: (H', W'); odd sides get a row or column more, since most players take even ones only.

        ``option``: the one that asks for the video.
        """
        self._av, codec = video_writer(option)
        self.path = path
        self._odd = (size[0] % 2, size[1] % 2)
        self._draft = path.with_name(f".{path.name}")
        self._file = self._av.open(str(self._draft), "w", format="mp4")
        rate = min(max(rate or USUAL_RATE, Fraction(1)), Fraction(240)).limit_denominator(1001)
        self._stream: Any = self._file.add_stream(codec, rate=rate, options=CODECS[codec])
        self._stream.height, self._stream.width = size[0] + self._odd[0], size[1] + self._odd[1]
        self._stream.pix_fmt = "yuv420p"
        self._count = 0

    def add(self, picture: Picture) -> None:
        """The next picture."""
        even = np.pad(picture, ((0, self._odd[0]), (0, self._odd[1]), (0, 0)), mode="edge")
        frame = self._av.VideoFrame.from_ndarray(even, format="rgb24")
        frame.pts = self._count
        self._mux(frame)
        self._count += 1

    def close(self) -> None:
        """Give the video its name; one without pictures is no file."""
        try:
            if self._count:
                self._mux(None)
            self._file.close()
            if self._count:
                self._draft.replace(self.path)
        finally:
            self._draft.unlink(missing_ok=True)

    def discard(self) -> None:
        """Leave no file, since what was added is not all of it."""
        try:
            with suppress(self._av.error.FFmpegError):
                self._file.close()
        finally:
            self._draft.unlink(missing_ok=True)

    def _mux(self, frame: Any) -> None:
        try:
            self._file.mux(self._stream.encode(frame))
        except self._av.error.FFmpegError as error:
            raise InputError(f"{self.path}: cannot be written ({error.strerror})") from None
