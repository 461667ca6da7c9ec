"""One look for all figures: readable in print, in grey and by the colour-blind; equal rows, equal bytes."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape

from harness.report.figures import font

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.figure import Figure as Canvas

COLUMN, PAGE = 3.3, 6.8
"""Inches; a column of a two-column paper, and its page."""
TEXT = 7.5
SMALL_TEXT = 7.0
"""Points; nothing is smaller."""
DPI = 200
CROWDED = 6
"""More variants than this take the width of the page."""

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#000000", "#CC79A7", "#E69F00", "#56B4E9")
"""Okabe and Ito's palette without its yellow, which white paper swallows"""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", "p", ">", "h")
DASHES: tuple[Any, ...] = (
    "-",
    (0, (5, 2)),
    (0, (5, 1.5, 1, 1.5)),
    (0, (1, 1.2)),
    (0, (8, 2)),
    (0, (3, 1, 1, 1, 1, 1)),
)
GREY = "0.45"

_STYLE = {
    "pdf.fonttype": 42,  # text stays text; some venues refuse type 3 fonts
    "svg.fonttype": "none",  # text stays text here too, at a third of the size of outlines
    "font.size": TEXT,
    "axes.titlesize": TEXT,
    "axes.labelsize": TEXT,
    "xtick.labelsize": SMALL_TEXT,
    "ytick.labelsize": SMALL_TEXT,
    "legend.fontsize": SMALL_TEXT,
    "legend.frameon": False,
    "legend.handlelength": 3.2,
    "legend.columnspacing": 1.2,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.axisbelow": True,
    "axes.unicode_minus": False,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "grid.color": "0.9",
    "grid.linewidth": 0.5,
    "lines.linewidth": 1.1,
    "lines.markersize": 4,
}
_LINE = 1.25
"""Distance of lines, in letter heights"""
_HANDLE = 5.4 * SMALL_TEXT / 72
"""Inches of a legend's sample and the gaps beside it"""


@dataclass(frozen=True)
class Look:
    """How a variant is told apart: by any one of the three."""

    colour: str
    marker: str
    dashes: Any


@dataclass(frozen=True)
class Drawing:
    """A figure before it is saved."""

    name: str
    title: str
    caption: str
    canvas: Canvas


@dataclass(frozen=True)
class Figure:
    """A figure in its three formats."""

    name: str
    """Stem of its files, such as ``table3a_AP``"""
    title: str
    caption: str
    """Plain text that goes on from the title: which data and scale, n, what marks are, what is not there"""
    pdf: bytes
    png: bytes
    svg: str
    """One ``<svg>`` element to stand inside a page: no prolog, no ids but those it refers to itself"""


def look(index: int) -> Look:
    """The look of the variant of that number; the first eleven differ by marker alone."""
    return Look(COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)], DASHES[index % len(DASHES)])


@contextmanager
def house_style() -> Iterator[None]:
    """Matplotlib's defaults and ours, whatever this process or its user has set; undone at the end."""
    from matplotlib import style

    with style.context(["default", _STYLE, {"font.family": list(font.families())}]):
        yield


def wrapped(text: str, width: float) -> str:
    """The text in lines that fit into ``width`` inches; nothing is cut. Line breaks stay."""
    return "\n".join(line for part in printable(text).splitlines() for line in _lines(part, width))


def _lines(text: str, width: float) -> list[str]:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".lstrip()
        if text_width(longer) <= width:
            lines[-1] = longer
            continue
        lines += [word] if lines[-1] else []
        lines[-1] = lines[-1] or word
        while text_width(lines[-1]) > width and len(lines[-1]) > 1:  # a word that is longer than a line
            fits = max(1, sum(text_width(lines[-1][:end]) <= width for end in range(1, len(lines[-1]))))
            lines[-1:] = [lines[-1][:fits], lines[-1][fits:]]
    return lines


def printable(text: str) -> str:
    """The text with what the font lacks as ``[U+4E2D]``, and no formulas for matplotlib to read."""
    shown = (c if c.isspace() or font.has(c) else f"[U+{ord(c):04X}]" for c in text)
    return "".join(shown).replace("$", r"\$")


def text_width(text: str) -> float:
    """Inches of a line in the small size."""
    return font.width(text.replace(r"\$", "$"), SMALL_TEXT)


def text_height(text: str) -> float:
    """Inches that some lines of the small size need."""
    return (text.count("\n") + 1) * SMALL_TEXT * _LINE / 72 if text else 0.0


def new_canvas(width: float, height: float, text: str, loud: str = "") -> Canvas:
    """An empty figure without pyplot: no window, no global state.

    Args:
        height: inches below the head.
        text: lines above the axes, saying what is drawn.
        loud: lines above those, in a frame.
    """
    from matplotlib.figure import Figure as Canvas

    loud, text = wrapped(loud, width - 0.2), wrapped(text, width - 0.1)
    frame = text_height(loud) + 0.08 if loud else 0.0
    total = height + frame + text_height(text) + 0.06
    canvas = Canvas(figsize=(width, total), layout="constrained")
    engine = canvas.get_layout_engine()
    assert engine is not None
    engine.set(rect=(0, 0, 1, height / total), w_pad=0.03, h_pad=0.03)  # type: ignore[call-arg]
    common: dict[str, Any] = {"ha": "center", "va": "top", "size": SMALL_TEXT, "linespacing": _LINE}
    top = total - 0.04
    if loud:
        # A frame and not bold letters: a second font would double the time that a PDF takes.
        box = {"boxstyle": "square,pad=0.25", "facecolor": "0.93", "edgecolor": "0.3", "linewidth": 0.6}
        canvas.text(0.5, (top - 0.02) / total, loud, bbox=box, **common)
    canvas.text(0.5, (top - frame) / total, text, **common)
    return canvas


def legend(canvas: Canvas, handles: Sequence[Artist], labels: Sequence[str]) -> None:
    """A legend below everything, so that it covers nothing."""
    columns, texts = _legend_layout(canvas.get_figwidth(), labels)
    canvas.legend(handles, texts, loc="outside lower center", ncols=columns)


def legend_height(width: float, labels: Sequence[str]) -> float:
    """Inches that :func:`legend` takes."""
    columns, texts = _legend_layout(width, labels)
    rows = math.ceil(len(texts) / columns)
    # Columns are filled from the top: the tallest one counts.
    heights = [text_height(text) + 0.05 for text in texts]
    return max(sum(heights[at * rows : (at + 1) * rows]) for at in range(columns)) + 0.1


def _legend_layout(width: float, labels: Sequence[str]) -> tuple[int, list[str]]:
    """How many columns, and the labels in lines that fit."""
    texts = [wrapped(label, width - 0.2 - _HANDLE) for label in labels]
    longest = max(text_width(line) for text in texts for line in text.splitlines())
    columns = max(1, min(len(texts), int((width - 0.1) / (_HANDLE + longest))))
    return math.ceil(len(texts) / math.ceil(len(texts) / columns)), texts


def saved(drawing: Drawing) -> Figure:
    """The drawing in all formats. Times and versions in the files would make equal figures differ."""
    import matplotlib as mpl

    canvas = drawing.canvas
    pdf = _bytes(canvas, "pdf", {"CreationDate": None, "Creator": None, "Producer": None})
    canvas.set_layout_engine("none")  # the places are found, no need to find them again
    png = _bytes(canvas, "png", {"Software": None})
    with mpl.rc_context({"svg.hashsalt": drawing.name}):
        svg = _bytes(canvas, "svg", {"Date": None, "Creator": None, "Format": None, "Type": None})
    return Figure(
        drawing.name, drawing.title, drawing.caption, pdf, png, _embedded(svg.decode(), drawing.title)
    )


def _bytes(canvas: Canvas, suffix: str, metadata: dict[str, None]) -> bytes:
    buffer = io.BytesIO()
    canvas.savefig(buffer, format=suffix, dpi=DPI, metadata=metadata)
    return buffer.getvalue()


def _embedded(svg: str, title: str) -> str:
    """The svg element alone, made small, and named for those who cannot see it."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", svg, flags=re.DOTALL)
    # A style sheet would hold for the whole page that the figure stands in.
    svg = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", svg, flags=re.DOTALL)
    used = set(re.findall(r'(?:url\(|href=")#([^)"]+)', svg))
    svg = re.sub(r"<[^>]*>", lambda tag: _short_tag(tag[0], used), svg)
    svg = re.sub(r">\s+<", "><", svg)
    svg = svg.replace("xlink:href", "href").replace(' xmlns:xlink="http://www.w3.org/1999/xlink"', "")
    svg = re.sub(r'<use [^>]*?( style="[^"]*")/>(?:<use [^>]*?\1/>)+', _styled_once, svg)
    svg = re.sub(r"<g>((?:(?!</?g>|<g ).)*)</g>", r"\1", svg, flags=re.DOTALL)
    opening = (
        '<svg role="img" stroke-linejoin="round" stroke-linecap="butt"'
        " font-family=\"'DejaVu Sans', Verdana, Arial, sans-serif\""
    )
    start = svg.index(">") + 1
    return f"{opening}{svg[4:start]}<title>{escape(title)}</title>{svg[start:].strip()}\n"


def _styled_once(markers: re.Match[str]) -> str:
    """Equal markers in a row, their style said once."""
    return f"<g{markers[1]}>{markers[0].replace(markers[1], '')}</g>"


def _short_tag(tag: str, used: set[str]) -> str:
    """A tag without idle ids and with two digits behind the point: less than that is not seen."""
    tag = re.sub(r' id="([^"]*)"', lambda found: found[0] if found[1] in used else "", tag)
    tag = re.sub(r"font-family: [^;\"]*;? ?", "", tag)
    tag = re.sub(r' transform="rotate\(-?0 [^"]*"', "", tag)
    tag = re.sub(r"-?\d+\.\d{3,}", lambda number: _short_number(number[0]), tag)
    tag = re.sub(r"\s+", " ", tag).replace(' "', '"').replace("; ", ";").replace(": ", ":")
    return re.sub(r" ([MLQCz]) ?| (?=[MLQCz])", r"\1", tag) if tag.startswith("<path") else tag


def _short_number(number: str) -> str:
    return f"{float(number):.2f}".rstrip("0").rstrip(".")
