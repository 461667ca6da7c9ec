"""Result files as people name them on a command line: ``ours=results.json``."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from model.errors import InputError

LONGEST_NAME = 40


def named_file(text: str) -> tuple[str, Path]:
    """``ours=results.json`` to name and path; blanks around the name are none of it.

    Raises:
        InputError: another form, or a name that no table could print.
    """
    name, equals, path = text.partition("=")
    name = name.strip()
    if not equals or not name or not path:
        raise InputError(f"{text!r}: allowed: NAME=FILE, such as ours=results.json")
    if not name.isprintable() or len(name) > LONGEST_NAME:
        raise InputError(f"{name!r}: allowed: a name of at most {LONGEST_NAME} printable characters")
    return name, Path(path)


def named_files(arguments: Iterable[str], taken: str = "", bare: bool = False) -> dict[str, Path]:
    """Several of them, each with a name of its own.

    Args:
        taken: a name that is nobody's.
        bare: whether a file without a name will do; its path is its name.

    Raises:
        InputError: as :func:`named_file`, or a name that is there twice or taken.
    """
    found: dict[str, Path] = {}
    for text in arguments:
        name, path = (text, Path(text)) if bare and text and "=" not in text else named_file(text)
        if name == taken or name in found:
            why = "is the annotations' own" if name == taken else "is there twice"
            raise InputError(f"{text}: the name {name!r} {why}; allowed: each method with a name of its own")
        found[name] = path
    return found


def file_words(path: Path) -> str:
    """What a table or caption calls the file: its name, which a pipe has not."""
    return "a pipe" if path.is_fifo() else path.name
