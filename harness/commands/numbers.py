"""Numbers of frames or tokens as people type them: ``0,4,9``."""

from __future__ import annotations

import re

from model.errors import InputError


def which(option: str, text: str) -> tuple[int, ...]:
    """``0,4,9`` as numbers, each once, in this order.

    Raises:
        InputError: something else; ``option`` opens the line.
    """
    parts = [part.strip() for part in text.removesuffix(",").split(",")]
    if not all(re.fullmatch(r"[0-9]{1,9}", part) for part in parts):
        raise InputError(f"{option}: {text!r}: allowed: numbers with commas between them, such as 0,4,9")
    return tuple(dict.fromkeys(map(int, parts)))


def how_many_or_which(option: str, text: str) -> int | tuple[int, ...]:
    """``8`` is how many, ``0,4,9`` are which, and so is ``8,``.

    Raises:
        InputError: something else, or none.
    """
    if not re.fullmatch(r"[0-9]{1,9}|[0-9 ]+,[0-9, ]*", text):
        raise InputError(f"{option}: {text!r}: allowed: how many, such as 8, or which, such as 0,4,9")
    numbers = which(option, text)
    if "," in text:
        return numbers
    if numbers == (0,):
        raise InputError(f"{option}: 0: allowed: 1 or more, or which, such as 0,4,9")
    return numbers[0]
