"""Numbers and values as the page prints them: what is not there is ``--``."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

import pandas as pd

from harness.report.table_spec import canonical

MISSING = "--"
OUT_OF_MEMORY = "OOM"
SMALLEST_P = 0.001
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_COLOUR_CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def number(value: float | None, digits: int) -> str:
    """A number with so many digits behind the point."""
    return MISSING if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def signed(value: float | None, digits: int) -> str:
    """A difference: ``+1.2``, ``−0.3``."""
    text = number(value, digits)
    if text == MISSING or float(text) == 0:
        return text.lstrip("-") if text != MISSING else text
    return text.replace("-", "−") if text.startswith("-") else f"+{text}"


def interval(low: float, high: float, digits: int, sign: bool = True) -> str:
    """``[−0.3, +2.7]``."""
    form = signed if sign else number
    return f"[{form(low, digits)}, {form(high, digits)}]"


def p_value(p: float | None) -> str:
    """Three digits; smaller than they can show is ``< 0.001``."""
    if p is None or not math.isfinite(p):
        return MISSING
    return f"< {SMALLEST_P:g}" if p < SMALLEST_P else f"{p:.3f}"


def is_absent(value: object) -> bool:
    """Whether a row has nothing there."""
    if isinstance(value, float):
        return not math.isfinite(value)
    return value is None or value is pd.NaT or value is pd.NA or value == ""


def value_text(value: object) -> str:
    """Any value of a row on one line."""
    if isinstance(value, Iterable) and not isinstance(value, str | bytes | dict):
        return ", ".join(value_text(each) for each in value) or MISSING
    if is_absent(value):
        return MISSING
    if isinstance(value, float) and not float(value).is_integer():
        return f"{value:.6g}"
    if str(value) in ("True", "False"):  # numpy's are no bool
        return "yes" if str(value) == "True" else "no"
    return one_line(canonical(value))


def key_text(key: str) -> str:
    """A row's place or seed as it is written, but for values that the row does not have."""
    parts = [MISSING if part.lower() in ("nan", "none", "nat", "<na>") else part for part in key.split(" / ")]
    return " / ".join(parts)


def one_line(text: str) -> str:
    """White space and what cannot be printed become single spaces."""
    if not text.isprintable():
        text = "".join(character if character.isprintable() else " " for character in text)
    return " ".join(text.split())


def without_controls(text: str) -> str:
    """A page without the characters that HTML does not allow."""
    text = text.encode("utf-8", "replace").decode("utf-8")  # half a surrogate pair is no text
    return _CONTROLS.sub(" ", text)


def lines(text: str, most: int) -> str:
    """The end of a text of several lines, without colour codes: whole lines, ``most`` characters at most."""
    text = _COLOUR_CODES.sub("", text.replace("\r\n", "\n").replace("\r", "\n").replace("\t", "    "))
    text = text.rstrip("\n")
    end = text[-most:]
    end = "".join(character if character.isprintable() or character == "\n" else " " for character in end)
    if len(text) <= most:
        return end.strip("\n")
    return "[…]\n" + (end.split("\n", 1)[1] if "\n" in end else end)
