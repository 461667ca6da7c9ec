"""Files of named tensors, in and out, without running code that a file holds.

``.safetensors``; ``.pkl``, a plain pickle of numpy arrays (python 2 and 3); anything else is a torch
checkpoint.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from model.array_pickles import ArrayRecord, ForbiddenError, NotAnArrayError, read_pickle
from model.errors import InputError
from model.whole_file import whole_file

_LONGEST_NAME = 60
_REFUSED_BY_TORCH = re.compile(r"GLOBAL (\S+) (?:was not an allowed global|whose module)")
"""How torch's weights-only loader says what it refused."""


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
                names = file.keys()
                entries = {name: _tensor(path, name, file.get_tensor(name)) for name in names}
                return WeightFile(entries, dict(file.metadata() or {}))
        if path.suffix == ".pkl":
            content = read_pickle(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except InputError:
        raise
    except SafetensorError as error:
        raise InputError(f"{path}: not a safetensors file ({' '.join(str(error).split())[:200]})") from None
    except ForbiddenError as error:
        raise _forbidden(path, str(error)) from None
    except Exception as error:  # torch raises many kinds here, with advice to load unsafely
        named = _REFUSED_BY_TORCH.search(str(error))
        if named is not None:
            raise _forbidden(path, named[1]) from None
        raise InputError(f"{path}: not a checkpoint, or damaged; refused") from None
    top = content if isinstance(content, dict) else {}
    below = [key for key in ("model", "blobs") if key in top]
    weights = top[below[0]] if below else top
    if not isinstance(weights, dict) or not weights:
        raise InputError(f"{path}: holds no dictionary of weights")
    remarks = {key: value for key, value in top.items() if isinstance(value, str)} if below else {}
    return WeightFile({str(name): _tensor(path, name, value) for name, value in weights.items()}, remarks)


def short(text: object) -> str:
    """A name that a file gives, for a message: a long one is cut."""
    name = str(text)
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 3]}..."


def _forbidden(path: Path, name: str) -> InputError:
    return InputError(
        f"{path}: holds objects that are no tensors ({short(name)}): loading them could run code; refused"
    )


def _tensor(path: Path, name: object, value: object) -> Tensor:
    """An entry as a dense tensor of real numbers in memory; anything else is refused."""
    entry = f"{path}: entry {short(name)}"
    if isinstance(value, ArrayRecord):
        try:
            array = value.array()
        except NotAnArrayError as error:
            raise InputError(f"{entry} is {error}") from None
        return torch.from_numpy(array.astype(array.dtype.newbyteorder("="), order="C"))
    if isinstance(value, dict):
        raise InputError(
            f"{entry} is a dictionary, not a tensor: weights lie at the top of a file, or below "
            "model or blobs; save that dictionary alone"
        )
    if not isinstance(value, Tensor):
        raise InputError(f"{entry} is a {type(value).__name__}, not a tensor")
    form = _odd_form(value)
    if form is not None:
        raise InputError(f"{entry} is a {form} tensor; allowed: dense tensors of real numbers")
    return value.detach()


def _odd_form(value: Tensor) -> str | None:
    """What keeps a tensor from being copied into a model, if anything does."""
    if value.is_meta:
        return "meta (without values)"
    if value.is_nested:
        return "nested"
    if value.is_quantized:
        return "quantised"
    if value.layout != torch.strided:
        return "sparse"
    return "complex" if value.is_complex() else None


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
