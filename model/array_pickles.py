"""Plain pickles of numpy arrays (python 2 and 3), read without numpy's own unpickling.

numpy builds an array from whatever state a pickle gives it: crafted state (objects made of raw bytes, fields
beyond the end) corrupts memory. So the names of numpy stand for records here, which only keep what the pickle
says; an array is made from a record after its parts were looked at.
"""

from __future__ import annotations

import math
import pickle
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

NUMBERS = ("b1", "i1", "i2", "i4", "i8", "u1", "f2", "f4", "f8")
"""The types of elements that are read; in words: bool, int8..int64, uint8, float16, float32, float64."""
_MOST_DIMENSIONS = 16
_LONGEST_SIDE = 2**40


class ForbiddenError(pickle.UnpicklingError):
    """A pickle names something that is no array and no container."""


class NotAnArrayError(ValueError):
    """A record of which no array of numbers can be made; the message says what it is."""


class DtypeRecord:
    """What a pickle says of a dtype."""

    __slots__ = ("arguments", "state")

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def dtype(self) -> np.dtype[Any]:
        """A plain dtype of numbers; raises :class:`NotAnArrayError` for any other."""
        name = self.arguments[0] if self.arguments else None
        if not isinstance(name, str) or name not in NUMBERS:
            kind = name if isinstance(name, str) else "something"
            raise NotAnArrayError(f"an array of {kind[:60]}, not of numbers")
        # (version, byte order, sub-array, names, fields, size, alignment, flags): the last six say "plain"
        plain = (3, None, None, None, -1, -1, 0)
        state = self.state
        if not isinstance(state, tuple) or (*state[:1], *state[2:]) != plain:
            raise NotAnArrayError("an array of no plain type")
        if not isinstance(state[1], str) or state[1] not in tuple("<>=|"):
            raise NotAnArrayError("an array of no known byte order")
        return np.dtype(name).newbyteorder(state[1])  # type: ignore[arg-type]  # one of the four


class ArrayRecord:
    """What a pickle says of an array."""

    __slots__ = ("state",)

    def __init__(self, state: Any = None) -> None:
        self.state = state

    def __setstate__(self, state: Any) -> None:
        """(version, shape, dtype, whether in Fortran order, bytes), as numpy writes up to protocol 4."""
        self.state = ("?",)
        if isinstance(state, tuple) and len(state) == 5 and state[0] == 1:
            _, shape, dtype, fortran, data = state
            self.state = (data, dtype, shape, "F" if fortran else "C")

    def array(self) -> np.ndarray[Any, Any]:
        """The array; raises :class:`NotAnArrayError` where the parts do not make one of numbers."""
        if not isinstance(self.state, tuple) or len(self.state) not in (4, 5):
            raise NotAnArrayError("an array of unknown make")
        data, record, shape, order, axes = (*self.state, None)[:5]
        if not isinstance(record, DtypeRecord):
            raise NotAnArrayError("an array of no type")
        dtype = record.dtype()
        if isinstance(data, str):  # python 2
            data = data.encode("latin1")
        fits = isinstance(data, bytes | bytearray) and _is_shape(shape)
        if not fits or math.prod(shape) * dtype.itemsize != len(data):
            raise NotAnArrayError("an array whose bytes do not fill its shape")
        flat = np.frombuffer(data, dtype) if data else np.empty(0, dtype)
        if order == "K" and _is_permutation(axes, len(shape)):
            return flat.reshape(shape).transpose(axes)
        if order not in ("C", "F") or axes is not None:
            raise NotAnArrayError("an array of unknown order")
        return flat.reshape(shape, order=order)


def _is_shape(shape: object) -> bool:
    return (
        isinstance(shape, tuple)
        and len(shape) <= _MOST_DIMENSIONS
        and all(type(side) is int and 0 <= side < _LONGEST_SIDE for side in shape)
        and math.prod(side for side in shape if side) < 2**62
    )


def _is_permutation(axes: object, count: int) -> bool:
    integers = isinstance(axes, tuple) and all(type(axis) is int for axis in axes)
    return integers and sorted(axes) == list(range(count))  # type: ignore[call-overload]  # integers


class _Inert:
    """Stands for a name: it can be called, and a pickle can neither change it nor look into it."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def __call__(self, *arguments: Any) -> Any:
        return self._call(*arguments)

    def __setstate__(self, state: Any) -> None:
        raise ForbiddenError("state for a function")


def _no_call(*arguments: Any) -> Any:
    raise ForbiddenError("numpy.ndarray, called")


def _reconstructed(kind: Any, *arguments: Any) -> ArrayRecord:
    """numpy's way up to protocol 4: an empty array, whose state follows."""
    if kind is not _NDARRAY:
        raise ForbiddenError("an array of another class")
    return ArrayRecord()


def _from_buffer(*arguments: Any) -> ArrayRecord:
    """numpy's way from protocol 5 on: bytes, dtype, shape, order, and axes for order K."""
    return ArrayRecord(arguments)


def _latin1(text: str, encoding: str) -> bytes:
    """Bytes in a pickle of protocol 2 stand as text and a call of ``_codecs.encode``: this one alone."""
    if encoding != "latin1":
        raise ForbiddenError(f"text in {str(encoding)[:60]}")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    """Empty bytes, up to protocol 2, are a call of ``bytes`` without arguments."""
    return b""


_NDARRAY = _Inert(_no_call)
_STAND_INS: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _NDARRAY,
    ("numpy", "dtype"): _Inert(DtypeRecord),
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _Inert(_reconstructed) for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _Inert(_from_buffer) for core in ("core", "_core")},
    ("_codecs", "encode"): _Inert(_latin1),
    ("__builtin__", "bytes"): _Inert(_no_bytes),
    ("collections", "OrderedDict"): OrderedDict,
}


class _RecordsOnly(pickle.Unpickler):
    """Plain containers and records; any other object is refused, so no code runs."""

    def find_class(self, module: str, name: str, /) -> Any:
        if (module, name) not in _STAND_INS:
            raise ForbiddenError(f"{module}.{name}")
        return _STAND_INS[module, name]


def read_pickle(path: Path) -> Any:
    """The content, with :class:`ArrayRecord` for arrays. Python 2 did not say how it encoded its text."""
    with path.open("rb") as file:
        return _RecordsOnly(file, encoding="latin1").load()
