"""Attention maps over the frames they are of: strips (paper Fig. 2) and a film of the same layout.

Shapes
    F        frames of the video
    L, M     Encode-Receive layers, memory tokens
    h, w     token grid
    H', W'   size of a picture
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.attend.footage import Footage, TrackMasks
from harness.attend.foreground import Floats, TokenNumbers
from harness.overlay import IMAGES_RATE, Label, Painter, Picture, PictureVideo, colour_of
from harness.strip import Scale, Sheet, Strip

COLOURS = "inferno"
"""Perceptually even and from dark to bright: it reads in grey"""
HEAT = 0.7
"""Of a panel's pixels; the rest is the frame in grey"""
MEDIUM, CONTRAST = 128, 0.5
"""The grey frame keeps so much of its contrast around this grey: more looks like attention in grey print"""
EDGE = 120
"""Outlines are this part of the picture's width"""
FILM_COLUMN = 1.9
"""Inches"""
FILM_DPI, FILM_TALLEST = 150, 1920
WHITE = (255, 255, 255)


@dataclass(frozen=True)
class Drawn:
    """What is drawn."""

    footage: Footage
    masks: Callable[[int], TrackMasks]
    attention: NDArray[np.float32]
    """(F, L, M, h, w)"""
    edges: tuple[Floats, Floats]
    """Of the cells' rows and columns, in pixels of the frame"""
    numbers: Sequence[TokenNumbers]
    layers: tuple[int, ...]
    tokens: tuple[int, ...]
    best: bool
    """Not ``tokens`` but the most foreground and the most background one of each layer"""
    about: str
    """For the caption"""

    def tokens_of(self, layer: int) -> list[int]:
        """The tokens that a strip of this layer shows."""
        if not self.best:
            return list(self.tokens)
        ranked = sorted(
            (each for each in self.numbers if each.layer == layer), key=lambda each: -each.on_foreground
        )
        return list(dict.fromkeys((ranked[0].token, ranked[-1].token)))

    def lift(self, layer: int, token: int) -> str:
        """In words; nothing where there are no masks."""
        lift = next(each.lift for each in self.numbers if (each.layer, each.token) == (layer, token))
        return "" if lift is None else f"lift {lift:.2f}"


def draw_strips(drawn: Drawn, shown: Sequence[int], stem: Path) -> list[Path]:
    """A strip of each layer, ``stem_layer0.pdf`` and so on: frames ``shown`` across, tokens down."""
    panels = _Panels(drawn)
    frames = {}
    for index, frame in enumerate(drawn.footage.frames):
        if index in shown:
            frames[index] = panels.shown(frame, index)
        if len(frames) == len(set(shown)):
            break
    columns = tuple(f"frame {index}" for index in shown)
    files = []
    for layer in drawn.layers:
        tokens = drawn.tokens_of(layer)
        highest = {token: float(drawn.attention[:, layer, token].max()) for token in tokens}
        pictures = [[panels.outlined(frames[index]) for index in shown]]
        pictures += [
            [panels.heat(frames[index], layer, token, highest[token]) for index in shown] for token in tokens
        ]
        strip = Strip(
            ("frames", *(f"token {token}\n{drawn.lift(layer, token)}".strip() for token in tokens)),
            columns,
            pictures,
            (None, *(_scale(highest[token]) for token in tokens)),
            f"{drawn.footage.name}: attention of memory tokens in Encode-Receive layer {layer}, % of a "
            f"token's attention on each cell. {_sentence(drawn.about)}",
        )
        files += strip.write(stem.with_name(f"{stem.name}_layer{layer}"))
    return files


def draw_film(drawn: Drawn, path: Path) -> Path:
    """All frames in time: tokens down, layers across; a token has one scale for all its layers."""
    panels = _Panels(drawn)
    tokens = sorted({token for layer in drawn.layers for token in drawn.tokens_of(layer)})
    layers = list(drawn.layers)
    highest = {token: float(drawn.attention[:, layers, token].max()) for token in tokens}
    sheet, video = None, None
    try:
        for index, frame in enumerate(drawn.footage.frames):
            if index >= len(drawn.attention):
                break
            shown = panels.shown(frame, index)
            pictures = [[panels.outlined(shown, numbered=True)] * len(layers)]
            pictures += [
                [panels.heat(shown, layer, token, highest[token]) for layer in layers] for token in tokens
            ]
            if sheet is None or video is None:
                sheet = _film_sheet(drawn, tokens, pictures, highest)
                rate = drawn.footage.frames.rate or IMAGES_RATE
                height, width = sheet.blank.shape[:2]
                video = PictureVideo(path, (height, width), rate, "mp4")
            video.add(sheet.filled([each for row in pictures for each in row]))
    except BaseException:  # Ctrl-C, too: a film has its name only when it is whole
        if video is not None:
            video.discard()
        raise
    if video is not None:
        video.close()
    return path


def _film_sheet(
    drawn: Drawn, tokens: list[int], pictures: list[list[Picture]], highest: dict[int, float]
) -> Sheet:
    strip = Strip(
        ("frame", *(f"token {token}" for token in tokens)),
        tuple(f"layer {layer}" for layer in drawn.layers),
        pictures,
        (None, *(_scale(highest[token]) for token in tokens)),
        width=1.4 + FILM_COLUMN * len(drawn.layers),
    )
    return strip.sheet(min(FILM_DPI, FILM_TALLEST / strip.size[1]))


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _scale(highest: float) -> Scale:
    """The colours as they are over a medium grey."""
    colours = (HEAT * _colours() + (1 - HEAT) * MEDIUM).astype(np.uint8)
    return Scale(colours, "0", f"{100 * highest:.3g} %")


@cache
def _colours() -> NDArray[np.uint8]:
    """(256, 3), lowest first."""
    import matplotlib as mpl  # late: a second to import

    colours: NDArray[np.uint8] = mpl.colormaps[COLOURS](np.arange(256), bytes=True)[:, :3]
    return colours


@dataclass(frozen=True)
class _Shown:
    """A frame at the size of pictures, and what its panels share."""

    index: int
    picture: Picture
    grey: NDArray[np.float64]
    """(H', W', 1)"""
    edges: NDArray[np.bool_]
    """(H', W'): where masks are outlined on panels"""


class _Panels:
    """The pictures of one video."""

    def __init__(self, drawn: Drawn) -> None:
        self._drawn = drawn
        size = (drawn.footage.frames.height, drawn.footage.frames.width)
        self._painter = Painter(*size)
        self._edge = max(1, self._painter.size[1] // EDGE)
        # The cell that each row and column of a picture lies in: maps are drawn as they are, in cells.
        self._rows, self._columns = (
            np.searchsorted(edges[1:-1], (np.arange(new) + 0.5) * old / new, "right")
            for new, old, edges in zip(self._painter.size, size, drawn.edges, strict=True)
        )

    def shown(self, frame: NDArray[np.uint8], index: int) -> _Shown:
        """Make a frame (3, H, W) ready."""
        picture = self._painter.picture(frame)
        edges = np.zeros(self._painter.size, np.bool_)
        for mask in self._drawn.masks(index).values():
            edges |= self._painter.edge(mask, self._edge)
        grey = picture @ np.array([[0.299], [0.587], [0.114]])
        return _Shown(index, picture, MEDIUM + CONTRAST * (grey - MEDIUM), edges)

    def outlined(self, shown: _Shown, numbered: bool = False) -> Picture:
        """The frame with its masks outlined in the colours of its tracks; its number in the corner or not."""
        outlined = shown.picture.copy()
        for track, mask in self._drawn.masks(shown.index).items():
            outlined[self._painter.edge(mask, 2 * self._edge)] = colour_of(track)
        if not numbered:
            return outlined
        letters = max(11, min(self._painter.size) // 10)
        return self._painter.write(outlined, [Label(str(shown.index), (0, 0, 0, 0), WHITE)], letters)

    def heat(self, shown: _Shown, layer: int, token: int, highest: float) -> Picture:
        """The map of a token over the grey frame, thin outlines of masks on it."""
        attention = self._drawn.attention[shown.index, layer, token]
        steps = (255 * attention / highest if highest else attention).round().astype(int)
        heat = (HEAT * _colours()[steps]).astype(np.float32)
        mixed = heat[self._rows[:, None], self._columns] + (1 - HEAT) * shown.grey
        panel: Picture = mixed.astype(np.uint8)
        panel[shown.edges] = WHITE
        return panel
