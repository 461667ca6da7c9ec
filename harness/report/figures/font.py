"""The letters of all figures: DejaVu Sans, which comes with matplotlib, without the tables no figure needs.

A PDF holds the letters it uses. Picking these out of the whole font takes longer than drawing a figure.
"""

from __future__ import annotations

import atexit
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

WHOLE = "DejaVu Sans"
TRIMMED = "Report Sans"
"""Its own name, as the font's licence asks of a changed font"""
_LETTERS = (*range(0x20, 0x250), *range(0x370, 0x400), *range(0x2010, 0x2300))
"""Latin, Greek, signs; others come from the whole font"""
_TABLES = ["FFTM", "GSUB", "GPOS", "GDEF", "kern", "MATH"]


@cache
def families() -> tuple[str, str]:
    """Names for ``font.family``; the first call makes the small font and tells matplotlib of it."""
    from fontTools import subset
    from matplotlib.font_manager import findfont, fontManager

    folder = tempfile.TemporaryDirectory(prefix="report-font-")
    atexit.register(folder.cleanup)  # matplotlib reads the file whenever it draws
    options = subset.Options(drop_tables=_TABLES, hinting=False, glyph_names=True)
    options.name_IDs = ["*"]
    font = subset.load_font(str(findfont(WHOLE)), options)
    subsetter = subset.Subsetter(options)
    subsetter.populate(unicodes=_LETTERS)
    subsetter.subset(font)
    for record in font["name"].names:
        if record.nameID in (1, 3, 4, 6, 16):
            name = TRIMMED.replace(" ", "") if record.nameID in (3, 6) else TRIMMED
            font["name"].setName(name, record.nameID, record.platformID, record.platEncID, record.langID)
    path = Path(folder.name) / "ReportSans.ttf"
    subset.save_font(font, str(path), options)
    fontManager.addfont(path)
    return TRIMMED, WHOLE


def has(character: str) -> bool:
    """Whether the font can draw it."""
    return bool(_face().get_char_index(ord(character)))


@cache
def width(text: str, size: float) -> float:
    """Inches of a line of ``size`` points."""
    face = _face()
    face.set_size(size, 72)
    face.set_text(text)
    return float(face.get_width_height()[0]) / 64 / 72


@cache
def _face() -> Any:
    from matplotlib.font_manager import findfont
    from matplotlib.ft2font import FT2Font

    return FT2Font(str(findfont(WHOLE)))
