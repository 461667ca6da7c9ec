"""Pictures in rows and columns as papers print them: labels are vector text, pictures keep their own pixels.

Shapes
    R, F    rows and columns
    H', W'  size of every picture
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from harness.overlay import Picture
from harness.report.figures.style import PAGE, SMALL_TEXT, house_style, text_height, text_width, wrapped
from model.whole_file import whole_file

FORMATS = ("pdf", "png")
PNG_DPI = 300
JPEG_QUALITY = 90
GAP = 0.02
"""Inches between pictures"""
BESIDE = 0.05
"""Inches between pictures and what is written beside them"""
WIDEST_PICTURE = 2.2
"""Inches; one picture alone need not fill a page"""
WIDEST_LABEL = 1.1
"""Inches; longer labels of rows get more lines"""
BAR = 0.07
"""Inches, width of a colour bar"""

Inches = tuple[float, float, float, float]
"""left, top, width, height, from the upper left corner"""


@dataclass(frozen=True)
class Scale:
    """A colour bar at the right of a row."""

    colours: NDArray[np.uint8]
    """(n, 3) RGB, lowest first"""
    low: str
    high: str


class Text(NamedTuple):
    """A text and the point, in inches from the upper left corner, that it is aligned to."""

    text: str
    x: float
    y: float
    across: str
    """left, center or right"""
    down: str
    """top, center or bottom"""


@dataclass(frozen=True)
class Strip:
    """A grid of pictures of one size with a label for each row and column."""

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    pictures: list[list[Picture]]
    """R rows of F pictures"""
    scales: tuple[Scale | None, ...] = ()
    """None at all, or one for each row that may be None"""
    caption: str = ""
    """Written below, in as many lines as it takes"""
    width: float = PAGE
    """Inches at most: no picture is wider than ``WIDEST_PICTURE``"""

    def __post_init__(self) -> None:
        """Raise ValueError where numbers of rows, columns and pictures, or sizes of pictures, disagree."""
        if not self.rows or not self.columns:
            raise ValueError("a strip has a row and a column")
        if [len(row) for row in self.pictures] != [len(self.columns)] * len(self.rows):
            raise ValueError(f"pictures must be {len(self.rows)} rows of {len(self.columns)}")
        if len(self.scales) not in (0, len(self.rows)):
            raise ValueError(f"scales must be none or {len(self.rows)}, got {len(self.scales)}")
        sizes = {picture.shape for row in self.pictures for picture in row}
        if len(sizes) > 1 or len(next(iter(sizes))) != 3:
            raise ValueError(f"pictures must be (H', W', 3) of one size, got {sorted(sizes)}")

    @property
    def size(self) -> tuple[float, float]:
        """Width and height in inches."""
        return _Layout(self).size

    def write(self, stem: Path, formats: Sequence[str] = FORMATS) -> list[Path]:
        """Write ``stem.pdf`` and ``stem.png``, each whole or not at all; equal strips give equal bytes.

        Args:
            formats: some of ``FORMATS``; a PDF holds the pictures as JPEG at their own size.
        """
        if unknown := set(formats) - set(FORMATS):
            raise ValueError(f"format {min(unknown)!r}; allowed: {', '.join(FORMATS)}")
        written = []
        for name in formats:
            path = stem.with_name(f"{stem.name}.{name}")
            content = self._pdf() if name == "pdf" else self._png()
            with whole_file(path) as draft:
                draft.write_bytes(content)
            written.append(path)
        return written

    def sheet(self, dpi: float = PNG_DPI) -> Sheet:
        """The labels alone, to be filled with one set of pictures after the other."""
        layout = _Layout(self)
        image = Image.open(io.BytesIO(_drawn(layout, "png", dpi))).convert("RGB")
        bars = [_bar(scale) for scale in self.scales if scale is not None]
        for bar, box in zip(bars, layout.bars, strict=True):
            _paste(image, bar, box, dpi)
        return Sheet(np.array(image), tuple(layout.cells), dpi)

    def _png(self) -> bytes:
        buffer = io.BytesIO()
        picture = self.sheet().filled([picture for row in self.pictures for picture in row])
        Image.fromarray(picture).save(buffer, "PNG", dpi=(PNG_DPI, PNG_DPI))
        return buffer.getvalue()

    def _pdf(self) -> bytes:
        bars = [_bar(scale) for scale in self.scales if scale is not None]
        pictures = [picture for row in self.pictures for picture in row]
        return _with_jpegs(_drawn(_Layout(self), "pdf", 72), pictures + bars)


@dataclass(frozen=True)
class Sheet:
    """A strip without its pictures, such as all frames of a video share it."""

    blank: Picture
    cells: tuple[Inches, ...]
    """Where each picture goes, row by row"""
    dpi: float

    def filled(self, pictures: Sequence[Picture]) -> Picture:
        """The sheet with R * F pictures, row by row; each is resized to its place."""
        image = Image.fromarray(self.blank)
        for picture, box in zip(pictures, self.cells, strict=True):
            _paste(image, picture, box, self.dpi)
        return np.array(image)


class _Layout:
    """Where everything goes, in inches."""

    def __init__(self, strip: Strip) -> None:
        labels = [wrapped(label, WIDEST_LABEL) for label in strip.rows]
        left = max(map(_width, labels))
        left += 2 * BESIDE if left else 0.0
        ends = [f"{text}" for scale in strip.scales if scale for text in (scale.low, scale.high)]
        right = BAR + 3 * BESIDE + max(map(text_width, ends)) if ends else 0.0
        height, width = strip.pictures[0][0].shape[:2]
        gaps = GAP * (len(strip.columns) - 1)
        cell = min(WIDEST_PICTURE, (strip.width - left - right - gaps) / len(strip.columns))
        across = left + len(strip.columns) * cell + gaps + right
        tall = cell * height / width
        heads = [wrapped(label, cell) for label in strip.columns]
        top = max(map(text_height, heads))
        lines = [max(tall, text_height(label)) for label in labels]
        starts = [top + sum(lines[:row]) + GAP * row for row in range(len(lines))]
        bottom = starts[-1] + lines[-1]
        caption = wrapped(strip.caption, across)
        below = text_height(caption)
        self.size = (across, bottom + (below + BESIDE if caption else 0.0))
        self.cells: list[Inches] = []
        self.bars: list[Inches] = []
        self.texts: list[Text] = []
        for column, head in enumerate(heads):
            self.texts.append(Text(head, left + (cell + GAP) * column + cell / 2, top, "center", "bottom"))
        for row, (label, start, line) in enumerate(zip(labels, starts, lines, strict=True)):
            middle = start + line / 2
            self.texts.append(Text(label, max(0.0, left - BESIDE), middle, "right", "center"))
            self.cells += [
                (left + (cell + GAP) * column, middle - tall / 2, cell, tall) for column in range(len(heads))
            ]
            scale = strip.scales[row] if strip.scales else None
            if scale is not None:
                bar = across - right + BESIDE
                self.bars.append((bar, middle - tall / 2, BAR, tall))
                self.texts += [
                    Text(scale.high, bar + BAR + BESIDE / 2, middle - tall / 2, "left", "top"),
                    Text(scale.low, bar + BAR + BESIDE / 2, middle + tall / 2, "left", "bottom"),
                ]
        if caption:
            self.texts.append(Text(caption, 0.0, self.size[1], "left", "bottom"))


def _width(label: str) -> float:
    return max((text_width(line) for line in label.splitlines()), default=0.0)


def _bar(scale: Scale) -> Picture:
    """The highest colour on top."""
    return np.repeat(scale.colours[::-1, None], 8, axis=1)


def _paste(image: Image.Image, picture: Picture, box: Inches, dpi: float) -> None:
    left, top, right, bottom = (
        round(edge * dpi) for edge in (box[0], box[1], box[0] + box[2], box[1] + box[3])
    )
    size = (max(1, right - left), max(1, bottom - top))
    image.paste(Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS), (left, top))


def _drawn(layout: _Layout, suffix: str, dpi: float) -> bytes:
    """The labels; in a PDF also an empty image for each picture, the i-th of them i + 1 pixels wide."""
    import matplotlib as mpl  # late: a second to import
    from matplotlib.figure import Figure as Canvas

    metadata = {"CreationDate": None, "Creator": None, "Producer": None}
    if suffix != "pdf":
        metadata = {"Software": None}
    width, height = layout.size
    buffer = io.BytesIO()
    with house_style(), mpl.rc_context({"image.composite_image": False}):
        canvas = Canvas(figsize=layout.size)
        axes = canvas.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(0, height))
        axes.set_axis_off()
        for text, x, y, across, down in layout.texts:
            axes.text(x, height - y, text, size=SMALL_TEXT, ha=across, va=down, linespacing=1.1)
        for index, box in enumerate([*layout.cells, *layout.bars] if suffix == "pdf" else []):
            empty = np.zeros((1, index + 1, 3), np.uint8)
            extent = (box[0], box[0] + box[2], height - box[1] - box[3], height - box[1])
            axes.imshow(empty, extent=extent, origin="lower", aspect="auto", interpolation="none")
        axes.set(xlim=(0, width), ylim=(0, height))
        canvas.savefig(buffer, format=suffix, dpi=dpi, metadata=metadata)
    return buffer.getvalue()


def _with_jpegs(pdf: bytes, pictures: Sequence[Picture]) -> bytes:
    """The PDF with its i-th image, the one that is i + 1 pixels wide, replaced by the i-th picture.

    Matplotlib packs images without loss, which makes photographs ten times as large. Replaced objects are
    appended behind the file's end with a second table of offsets (ISO 32000-1, 7.5.6).
    """
    head = rb"(\d+) 0 obj\n<<(?=[^>]*/Subtype /Image)[^>]*?/Width (\d+)"
    objects = {int(found[2]) - 1: int(found[1]) for found in re.finditer(head, pdf)}
    if sorted(objects) != list(range(len(pictures))):
        raise RuntimeError(f"the PDF has {len(objects)} images for {len(pictures)} pictures")
    before = re.findall(rb"startxref\s+(\d+)", pdf)[-1]
    root, size = (re.findall(pattern, pdf)[-1] for pattern in (rb"/Root \d+ 0 R", rb"/Size \d+"))
    parts, offset, table = [pdf], len(pdf), [b"xref\n"]
    for index, picture in enumerate(pictures):
        jpeg = io.BytesIO()
        Image.fromarray(picture).save(jpeg, "JPEG", quality=JPEG_QUALITY)
        height, width = picture.shape[:2]
        content = jpeg.getvalue()
        part = (
            f"{objects[index]} 0 obj\n<< /Type /XObject /Subtype /Image /Width {width} /Height {height} "
            "/ColorSpace /DeviceRGB /BitsPerComponent 8 /Filter /DCTDecode "
            f"/Length {len(content)} >>\nstream\n"
        ).encode() + content
        part += b"\nendstream\nendobj\n"
        table.append(f"{objects[index]} 1\n{offset:010d} 00000 n \n".encode())
        parts.append(part)
        offset += len(part)
    trailer = b"trailer\n<< " + size + b" " + root + b" /Prev " + before + b" >>\n"
    return b"".join([*parts, *table, trailer, f"startxref\n{offset}\n%%EOF\n".encode()])


def evenly_spread(length: int, count: int) -> list[int]:
    """``count`` of ``length`` frames (all where there are fewer) from the first to the last, for a strip."""
    count = min(count, length)
    if count < 2:
        return [0] * count
    return [round(place * (length - 1) / (count - 1)) for place in range(count)]
