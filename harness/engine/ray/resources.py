"""``--resources`` of the Ray executor: which cluster, and what of it a trial needs."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from model.errors import InputError


@dataclass(frozen=True)
class Resources:
    """What ``--resources`` says; None: what the trial comes to."""

    address: str | None = None
    """``auto``, ``local`` (a cluster of this machine alone, for this run) or HOST:PORT"""
    num_cpus: float | None = None
    """Of a training, for all its processes"""
    num_gpus: float | None = None
    memory_gb: float | None = None
    """GB of 1e9 bytes that Ray sets aside; it counts, it does not limit"""
    accelerator_type: str | None = None
    """Ray's name of a GPU, such as A100"""
    max_retries: int = 5
    """How many nodes or workers one task may lose"""


def read_resources(text: str | None) -> Resources:
    """Read ``key=value,...``. Raises :class:`InputError` for a key or a value that means nothing."""
    found: dict[str, Any] = {}
    for part in text.split(",") if text is not None else ():
        key, _, value = (piece.strip() for piece in part.partition("="))
        if key not in READERS:
            raise InputError(f"--resources: {key!r}: not known to ray; allowed: {', '.join(READERS)}")
        if key in found:
            raise InputError(f"--resources: {key}: given twice")
        read, allowed = READERS[key]
        try:
            found[key] = read(value)
        except ValueError:
            raise InputError(f"--resources: {key}: {value!r}: allowed: {allowed}") from None
    return Resources(**found)


def _address(text: str) -> str:
    if text in ("auto", "local") or re.fullmatch(r"[^\s:/]+:\d{1,5}", text):
        return text
    raise ValueError


def _amount(text: str) -> float:
    value = float(text)
    if not 0 < value < math.inf:
        raise ValueError
    return value


def _cpus(text: str) -> float:
    value = _amount(text)
    if value > 1 and value != int(value):
        raise ValueError
    return value


def _gpus(text: str) -> float:
    return 0.0 if float(text) == 0 else _cpus(text)


def _count(text: str) -> int:
    if int(text) < 0:
        raise ValueError
    return int(text)


def _name(text: str) -> str:
    if not text:
        raise ValueError
    return text


READERS: dict[str, tuple[Callable[[str], Any], str]] = {
    "address": (_address, "auto, local or HOST:PORT"),
    "num_cpus": (_cpus, "a whole number of processors, or part of one such as 0.5"),
    "num_gpus": (_gpus, "a whole number of GPUs, or part of one such as 0.5"),
    "memory_gb": (_amount, "a number above 0"),
    "accelerator_type": (_name, "Ray's name of a GPU, such as A100"),
    "max_retries": (_count, "a whole number, 0 or more"),
}
