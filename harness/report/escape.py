"""Any text into LaTeX or Markdown without changing what it says."""

from __future__ import annotations

import re
from collections.abc import Iterable

_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"$<$",
    ">": r"$>$",
    "|": r"$|$",
    '"': "''",  # \textquotedbl needs T1 fonts, which a paper's class may lack
    "`": r"\textasciigrave{}",
    "±": r"$\pm$",
    "×": r"$\times$",
    "÷": r"$\div$",
    "°": r"$^{\circ}$",
    "µ": r"$\mu$",
    "σ": r"$\sigma$",
    "–": "--",
    "—": "---",
    "‘": "`",
    "’": "'",
    "“": "``",
    "”": "''",
    "…": r"\ldots{}",
}
_LATEX_LETTERS = re.compile(r"[À-ÖØ-öø-ÿ]")
"""Letters that every LaTeX knows ..."""
_NOT_IN_OT1 = "ÐÞðþ"
"""... but for these, which its default fonts lack."""


def latex(text: str) -> str:
    r"""Text for the body of a LaTeX document; what plain pdflatex cannot set is shown as ``[U+4E2D]``."""
    return "".join(map(_latex_character, one_line(text)))


def _latex_character(character: str) -> str:
    if character in _LATEX:
        return _LATEX[character]
    if character.isascii() or (_LATEX_LETTERS.match(character) and character not in _NOT_IN_OT1):
        return character
    return _by_number(character)


def not_in_latex(texts: Iterable[str]) -> str:
    """One line on what :func:`latex` shows by its number in the texts; empty where it can set all of them."""
    shown = [
        f"{text!r} is written {latex(text)}"
        for text in texts
        if any(_latex_character(each) == _by_number(each) for each in one_line(text))
    ]
    return f"pdflatex lacks letters: {', '.join(shown)}" if shown else ""


def _by_number(character: str) -> str:
    return f"[U+{ord(character):04X}]"


def markdown(text: str) -> str:
    """Text for a Markdown paragraph or table cell."""
    return re.sub(r"([\\|`*\[\]<>])", r"\\\1", one_line(text))


def one_line(text: str) -> str:
    """All white space and control characters become single spaces; nothing is cut."""
    printable = "".join(character if character.isprintable() else " " for character in text)
    return " ".join(printable.split())
