"""Files of named tensors, in and out, without running code that a file holds.

``.safetensors``; ``.pkl``, a plain pickle of numpy arrays (python 2 and 3); anything else is a torch
checkpoint.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from model.errors import InputError
from model.whole_file import whole_file


class WeightFile(NamedTuple):
    """What a file holds."""

    entries: dict[str, Tensor]
    """by the names of the file"""
    remarks: dict[str, str]
    """texts beside the weights, such as ``__author__``; the metadata of a safetensors file"""


def read_file(path: Path) -> WeightFile:
    """Names and tensors of a file; weights may lie at the top or below ``model`` or ``blobs``.

    Raises :class:`InputError` for a file that is absent, damaged, or holds anything but plain data.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such weights file")
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as file:
                entries = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
                return WeightFile(entries, dict(file.metadata() or {}))
        if path.suffix == ".pkl":
            content = _arrays(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except SafetensorError as error:
        raise InputError(f"{path}: not a safetensors file ({' '.join(str(error).split())})") from None
    except _ForbiddenError as error:
        raise InputError(f"{path}: holds {error}, which could run code; refused") from None
    except Exception:  # torch raises many kinds here, with advice to load unsafely; all mean the same
        raise InputError(f"{path}: not a checkpoint of tensors alone, or damaged; refused") from None
    top = content if isinstance(content, dict) else {}
    below = [key for key in ("model", "blobs") if key in top]
    weights = top[below[0]] if below else top
    if not isinstance(weights, dict) or not weights:
        raise InputError(f"{path}: holds no dictionary of weights")
    remarks = {key: value for key, value in top.items() if isinstance(value, str)} if below else {}
    return WeightFile({str(name): _tensor(path, name, value) for name, value in weights.items()}, remarks)


class _ForbiddenError(pickle.UnpicklingError):
    """A pickle names something that is no array and no container."""


def _latin1(text: str, encoding: str) -> bytes:
    """Bytes in a pickle of protocol 2 stand as text and a call of ``_codecs.encode``: this one alone."""
    if encoding != "latin1":
        raise _ForbiddenError(f"text in {encoding}")
    return text.encode("latin1")


class _ArraysOnly(pickle.Unpickler):
    """Unpickles plain containers and numpy arrays; any other object is refused, so no code runs."""

    allowed = frozenset(
        {
            ("numpy", "ndarray"),
            ("numpy", "dtype"),
            *((f"numpy.{core}.multiarray", "_reconstruct") for core in ("core", "_core")),
            *((f"numpy.{core}.numeric", "_frombuffer") for core in ("core", "_core")),
            ("collections", "OrderedDict"),
        }
    )

    def find_class(self, module: str, name: str, /) -> Any:
        if (module, name) == ("_codecs", "encode"):
            return _latin1
        if (module, name) not in self.allowed:
            raise _ForbiddenError(f"{module}.{name}")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def _arrays(path: Path) -> Any:
    """The content of a plain pickle; python 2 wrote its text without saying in which encoding."""
    with path.open("rb") as file:
        return _ArraysOnly(file, encoding="latin1").load()


def _tensor(path: Path, name: object, value: object) -> Tensor:
    if isinstance(value, Tensor):
        return value.detach()
    if isinstance(value, np.ndarray):
        try:
            return torch.from_numpy(value.astype(value.dtype.newbyteorder("="), order="C"))
        except TypeError:  # arrays of text or of objects
            raise InputError(f"{path}: entry {name} is an array of {value.dtype}, not of numbers") from None
    raise InputError(f"{path}: entry {name} is a {type(value).__name__}, not a tensor")


def write_file(path: Path, entries: Mapping[str, Tensor], remarks: Mapping[str, Any]) -> None:
    """Write named tensors, whole or not at all, in the form that the suffix names.

    In ``.safetensors`` the remarks (texts) are metadata; otherwise they stand beside ``model``.
    """
    with whole_file(path) as draft:
        if path.suffix == ".safetensors":
            save_file({name: value.contiguous() for name, value in entries.items()}, draft, dict(remarks))
        elif path.suffix == ".pkl":
            arrays = {name: value.numpy() for name, value in entries.items()}
            draft.write_bytes(pickle.dumps({"model": arrays, **remarks}, protocol=4))
        else:
            torch.save({"model": dict(entries), **remarks}, draft)
