"""Strips of pictures: labels, sizes, and what is in the files."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from harness.overlay import Picture
from harness.strip import Scale, Strip

COLOURS = ((200, 30, 30), (30, 160, 30), (40, 40, 210), (230, 230, 20), (20, 200, 200), (120, 40, 140))


def flat(colour: tuple[int, int, int], height: int = 36, width: int = 64) -> Picture:
    """A picture of one colour, its lower half black: upside down would be seen."""
    picture = np.full((height, width, 3), colour, np.uint8)
    picture[height // 2 :] = 0
    return picture


def two_by_three() -> Strip:
    pictures = [[flat(COLOURS[3 * row + column]) for column in range(3)] for row in range(2)]
    return Strip(("IFC", "MaskTrack R-CNN"), ("0", "4", "9"), pictures)


def places(picture: Picture, strip: Strip) -> list[list[int]]:
    """The colours that the strip's pictures have in a picture of it, at a quarter of their height."""
    found = []
    for left, top, width, height in strip.sheet(100).cells:
        y, x = round((top + height / 4) * 100), round((left + width / 2) * 100)
        found.append([int(value) for value in picture[y, x]])
    return found


def test_pictures_stand_where_they_belong(tmp_path: Path) -> None:
    strip = two_by_three()
    paths = strip.write(tmp_path / "strip.of")
    assert [path.name for path in paths] == ["strip.of.pdf", "strip.of.png"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["strip.of.pdf", "strip.of.png"]
    with Image.open(paths[1]) as image:
        png = np.array(image.convert("RGB").resize([side // 3 for side in image.size]))
    assert np.abs(np.array(places(png, strip)) - COLOURS).max() < 4


@pytest.mark.skipif(shutil.which("pdftoppm") is None, reason="pdftoppm draws the PDF")
def test_the_pdf_shows_them_too(tmp_path: Path) -> None:
    strip = two_by_three()
    pdf, *_ = strip.write(tmp_path / "strip", ("pdf",))
    done = subprocess.run(
        ["pdftoppm", "-r", "100", "-png", "-singlefile", str(pdf), str(tmp_path / "drawn")],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    with Image.open(tmp_path / "drawn.png") as image:
        drawn = np.array(image.convert("RGB"))
    assert np.abs(np.array(places(drawn, strip)) - COLOURS).max() < 8


def test_a_pdf_holds_jpegs_of_the_pictures_own_size(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (120, 200, 3), np.uint8)
    strip = Strip(("a",), ("0", "1"), [[noise, flat(COLOURS[0], 120, 200)]])
    content = strip.write(tmp_path / "strip", ("pdf",))[0].read_bytes()
    jpegs = re.findall(
        rb"/Width 200 /Height 120 .*?/DCTDecode.*?stream\n(.*?)\nendstream", content, re.DOTALL
    )
    shown = [np.array(Image.open(io.BytesIO(jpeg))).astype(int) for jpeg in jpegs]
    assert [picture.shape for picture in shown] == [noise.shape] * 2
    assert np.abs(shown[1][5, 5] - COLOURS[0]).max() < 4
    # The second table says where each replaced object begins.
    end = int(re.findall(rb"startxref\n(\d+)", content)[-1])
    entries = re.findall(rb"(\d+) 1\n(\d{10}) 00000 n", content[end:])
    assert len(entries) == 2
    assert all(content[int(offset) :].startswith(number + b" 0 obj") for number, offset in entries)


def test_equal_strips_are_equal_bytes(tmp_path: Path) -> None:
    once, twice = (two_by_three().write(tmp_path / name) for name in ("once", "twice"))
    assert [path.read_bytes() for path in once] == [path.read_bytes() for path in twice]


def test_a_sheet_is_filled_again_and_again() -> None:
    strip = two_by_three()
    sheet = strip.sheet(100)
    pictures = [flat(colour) for colour in COLOURS]
    assert np.abs(np.array(places(sheet.filled(pictures), strip)) - COLOURS).max() < 2
    assert np.abs(np.array(places(sheet.filled(pictures[::-1]), strip)) - COLOURS[::-1]).max() < 2
    assert sheet.blank.shape == sheet.filled(pictures).shape


def test_a_scale_is_drawn_with_its_highest_colour_on_top() -> None:
    strip = two_by_three()
    grey = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)
    scaled = Strip(strip.rows, strip.columns, strip.pictures, (None, Scale(grey, "0", "0.31")), "Of one row")
    blank = scaled.sheet(100).blank.astype(int)
    right = max(left + width for left, _, width, _ in scaled.sheet(100).cells)
    bar = blank[:, round(100 * (right + 0.05 + 0.035))].mean(-1)
    drawn = np.flatnonzero(bar < 250)
    middle = (drawn[0] + drawn[-1]) // 2
    assert bar[drawn[0] + 6] > bar[middle] > bar[drawn[-1] - 1]


@given(st.integers(1, 9), st.integers(1, 9), st.integers(4, 60), st.integers(4, 60), st.text(max_size=40))
@settings(max_examples=6, deadline=None)
def test_cells_lie_inside_and_apart(rows: int, columns: int, height: int, width: int, label: str) -> None:
    picture = np.zeros((height, width, 3), np.uint8)
    strip = Strip((label,) * rows, tuple(map(str, range(columns))), [[picture] * columns] * rows)
    sheet = strip.sheet(40)
    tall, wide = (side / 40 for side in sheet.blank.shape[:2])
    for left, top, across, down in sheet.cells:
        assert -1e-6 <= left <= left + across <= wide + 0.05
        assert -1e-6 <= top <= top + down <= tall + 0.05
        assert down / across == pytest.approx(height / width)
    assert len({(round(box[0], 4), round(box[1], 4)) for box in sheet.cells}) == rows * columns


def test_strips_that_do_not_add_up_are_refused(tmp_path: Path) -> None:
    picture = flat(COLOURS[0])
    with pytest.raises(ValueError, match="1 rows of 2"):
        Strip(("a",), ("0", "1"), [[picture]])
    with pytest.raises(ValueError, match="of one size"):
        Strip(("a",), ("0", "1"), [[picture, picture[1:]]])
    with pytest.raises(ValueError, match="a row and a column"):
        Strip((), (), [])
    with pytest.raises(ValueError, match="scales must be"):
        Strip(("a",), ("0",), [[picture]], (None, None))
    with pytest.raises(ValueError, match="allowed: pdf, png"):
        Strip(("a",), ("0",), [[picture]]).write(tmp_path / "strip", ("svg",))
