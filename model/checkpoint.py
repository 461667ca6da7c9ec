"""Weights into a model and out of it.

Every layout of ``model/weight_names.py`` is read; entries that are missing, extra or misshapen are errors
that list them. Which pixels a backbone's weights were trained on does not show in their shapes: it is
read from what a file says of itself, and weights of the other kind are refused.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import torch
from safetensors import safe_open
from torch import Tensor, nn

from model.backbone import NORM_EPS, RESNETS
from model.config import ModelConfig
from model.errors import InputError
from model.weight_files import WeightFile, read_file, short, write_file
from model.weight_names import Layout, is_weight, layout_of, published_to_own, to_own

PIXELS = "pixels"
"""The remark of a file that names the channel order (RGB, BGR) of its backbone; "unknown" is one as well."""

_CONVENTIONS = {
    "RGB": "torchvision's kind (RGB pixels, stride in the 3x3)",
    "BGR": "MSRA's kind (BGR pixels, stride in the 1x1)",
}
_AUTHORS = {"torchvision": "RGB", "MSRA": "BGR", "Caffe2": "BGR"}
_NAMES_SHOWN = 8


class Weights(NamedTuple):
    """The weights of a file by our names."""

    entries: dict[str, Tensor]
    kind: Literal["backbone", "model"]
    pixels: str | None
    """RGB or BGR; None where neither the layout nor the file tells"""
    layout: Layout
    remarks: dict[str, str]
    left_out: tuple[str, ...]
    """entries, by the file's names, that are known to be no weights of a model here"""


class Initialised(NamedTuple):
    """What :func:`initialise` did."""

    kind: Literal["backbone", "model"]
    """what the file held"""
    left_random: tuple[str, ...]
    """entries of the model that keep the value they had; for a backbone file, of the backbone: none"""
    unused: tuple[str, ...]
    """entries of the file, by our names, that the model has no place for"""


def load_weights(model: nn.Module, path: str | Path) -> None:
    """Put the weights of ``path`` into ``model``, in place.

    A backbone file fills the backbone alone. Raises :class:`InputError` when the file cannot be read
    safely, does not fit the model, or holds a backbone for other pixels; the model is then unchanged.
    Files that do not say which pixels they are for (detectron2's without an author) are taken as they are.
    """
    path = Path(path)
    weights = read_weights(path)
    check_fit(path, _places(model, weights), weights.entries)
    _check_communication(path, model, weights)
    _check_pixels(path, model, weights)
    model.load_state_dict(weights.entries, strict=False)


def initialise(model: nn.Module, path: str | Path) -> Initialised:
    """Start a training from the weights of ``path``, in place.

    As :func:`load_weights`, but a whole model may come from another task: the last layer of the class
    head (other classes), the memory tokens (other M) and a box head that only one of the two has may
    differ. They stay as they are, and are named in what is returned.
    """
    path = Path(path)
    weights = read_weights(path)
    _check_communication(path, model, weights)
    own = _places(model, weights)
    left_random = tuple(name for name in sorted(own) if _may_stay_random(name, own, weights.entries))
    unused = tuple(n for n in sorted(weights.entries.keys() - own.keys()) if n.startswith("box_head."))
    apart = {*left_random, *unused}
    used = {name: value for name, value in weights.entries.items() if name not in apart}
    check_fit(path, {name: value for name, value in own.items() if name not in apart}, used)
    _check_pixels(path, model, weights)
    model.load_state_dict(used, strict=False)
    return Initialised(weights.kind, left_random, unused)


def read_weights(path: Path) -> Weights:
    """The weights of a file of any layout, by our names; unknown names stay as they are."""
    file = read_file(path)
    layout = layout_of(file.entries)
    left_out = [name for name in file.entries if not is_weight(layout, name)]
    if layout == "published":
        left_out += _without_memory(file.entries)
    entries: dict[str, Tensor] = {}
    for name, value in file.entries.items():
        if name in left_out:
            continue
        renamed = to_own(layout, name)
        if renamed in entries:
            raise InputError(f"{path}: entry {short(name)}: {short(renamed)} is given twice")
        entries[renamed] = value
    if layout == "caffe2":
        entries = _complete_norms(path, entries)
    whole = layout == "published" or (
        layout == "own" and not all(name.startswith("backbone.") for name in entries)
    )
    pixels = _pixels(layout, file, entries)
    kind: Literal["backbone", "model"] = "model" if whole else "backbone"
    return Weights(entries, kind, pixels, layout, file.remarks, tuple(left_out))


def from_published(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The published IFC names to ours; tensors of the criterion and pixel statistics are not weights."""
    return {published_to_own(name): value for name, value in weights.items() if is_weight("published", name)}


def weights_metadata(path: Path) -> dict[str, Any]:
    """What :func:`save_weights` stored in the header of one of our own files."""
    with safe_open(path, framework="pt") as file:
        return _header(path, file.metadata() or {})


def save_weights(model: nn.Module, path: Path, metadata: Mapping[str, Any]) -> None:
    """Write our own safetensors layout, atomically; ``metadata`` is stored as json in its header."""
    remarks = {"ifc": json.dumps(metadata, sort_keys=True), PIXELS: _pixels_of(model) or "unknown"}
    write_file(path, model.state_dict(), remarks)


def listed(names: Collection[str], notes: Mapping[str, str] = MappingProxyType({})) -> str:
    """Names on one line, with notes behind them; of a long list the first few, and how many more."""
    shown = ", ".join(short(name) + notes.get(name, "") for name in sorted(names)[:_NAMES_SHOWN])
    more = len(names) - _NAMES_SHOWN
    return f"{shown} and {more} more" if more > 0 else shown


def _places(model: nn.Module, weights: Weights) -> dict[str, Tensor]:
    """The entries of the model that a file of this kind has to fill."""
    own: dict[str, Tensor] = model.state_dict()
    if weights.kind == "model":
        return own
    return {name: value for name, value in own.items() if name.startswith("backbone.")}


def _may_stay_random(name: str, own: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> bool:
    """Whether another task explains that the file has no value for this entry."""
    if name.startswith("box_head."):
        return not any(other.startswith("box_head.") for other in found)
    if name not in found or own[name].shape == found[name].shape:
        return False
    heads = [other for other in own if other.startswith("class_head.")]
    last = max((int(other.split(".")[2]) for other in heads), default=-1)
    memory = ("encoder.memory", "encoder.memory_positions")
    by_task = name in memory or name.startswith(f"class_head.layers.{last}.")
    return by_task and own[name].shape[1:] == found[name].shape[1:]


def _without_memory(published: Mapping[str, Tensor]) -> list[str]:
    """The layers that gather memory tokens, where a published model has none: they are never run."""
    memory = published.get("detr.transformer.memory_bus")
    if memory is None or memory.shape[:1] != (0,):
        return []
    return [name for name in published if name.startswith("detr.transformer.encoder.bus_layers.")]


def _complete_norms(path: Path, entries: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Caffe2's norms to the four tensors of ours.

    Some files have their statistics merged into scale and bias: then a mean of 0 and a variance of
    1 - eps leave exactly those. The bias of a convolution moves into the mean: (x + b) - m = x - (m - b).
    """
    complete = {name: value for name, value in entries.items() if not _is_conv_bias(name)}
    for name in [n for n in complete if n.endswith(".norm.weight")]:
        norm = name.removesuffix(".weight")
        if f"{norm}.running_mean" not in complete and f"{norm}.running_var" not in complete:
            complete[f"{norm}.running_mean"] = torch.zeros_like(complete[name])
            complete[f"{norm}.running_var"] = torch.ones_like(complete[name]) - NORM_EPS
    for name in entries.keys() - complete.keys():
        mean = f"{name.removesuffix('.bias')}.norm.running_mean"
        if mean not in complete or complete[mean].shape != entries[name].shape:
            raise InputError(f"{path}: {short(name)} {_form(entries[name])} has no norm to be folded into")
        complete[mean] = complete[mean] - entries[name]
    return complete


def _is_conv_bias(name: str) -> bool:
    return name.endswith(".bias") and not name.endswith(".norm.bias")


def _pixels(layout: Layout, file: WeightFile, entries: Mapping[str, Tensor]) -> str | None:
    """The channel order that the backbone of a file was trained on, if that can be told."""
    if layout == "torchvision":
        return "RGB"
    if layout == "caffe2":
        return "BGR"
    if PIXELS in file.remarks:
        said = file.remarks[PIXELS]
        return said if said in _CONVENTIONS else None
    if layout == "detectron2":
        return _AUTHORS.get(file.remarks.get("__author__", ""))
    if layout == "published":  # R50 began from torchvision's weights, R101 (23 blocks) from MSRA's
        return "BGR" if any(name.startswith("backbone.res4.22.") for name in entries) else "RGB"
    return None


def _pixels_of(model: nn.Module) -> str | None:
    """The channel order of a model's backbone."""
    pixels = getattr(getattr(model, "backbone", None), PIXELS, None)
    return getattr(pixels, "order", None)


def _header(path: Path, remarks: Mapping[str, str]) -> dict[str, Any]:
    """What one of our own files says of its training; nothing for any other file."""
    try:
        header = json.loads(remarks.get("ifc", "{}"))
    except (ValueError, RecursionError):
        header = None
    if not isinstance(header, dict):
        raise InputError(f"{path}: its header ifc is no json object")
    return header


def _check_communication(path: Path, model: nn.Module, weights: Weights) -> None:
    """Encoders that share their names of weights are told apart by the file's header, if it has one."""
    config = _header(path, weights.remarks).get("config")
    wanted = getattr(model, "config", None)
    if weights.kind == "backbone" or not isinstance(config, dict) or not isinstance(wanted, ModelConfig):
        return
    keys = ("encoder", "memory_mixing") if wanted.encoder == "ifc" and wanted.memory_tokens else ("encoder",)
    for key in keys:
        if key in config and config[key] != getattr(wanted, key):
            raise InputError(
                f"{path}: trained with {key} {short(config[key])}, the model has {getattr(wanted, key)}"
            )


def _check_pixels(path: Path, model: nn.Module, weights: Weights) -> None:
    wanted = _pixels_of(model)
    if weights.pixels is None or wanted is None or weights.pixels == wanted:
        return
    fitting = [name for name, (_, _, pixels) in RESNETS.items() if pixels.order == weights.pixels]
    raise InputError(
        f"{path}: its backbone is of {_CONVENTIONS[weights.pixels]}, the model's is of "
        f"{_CONVENTIONS[wanted]}; backbones of the file's kind: {', '.join(fitting)}"
    )


def check_fit(path: Path, own: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> None:
    """Refuse weights that do not fill these entries of a model exactly, and list what is wrong."""
    misshapen = {
        name: f" {_form(weights[name])} for {_form(own[name])}"
        for name in own.keys() & weights.keys()
        if own[name].shape != weights[name].shape or not weights[name].is_floating_point()
    }
    found: list[tuple[str, Collection[str]]] = [
        ("missing", own.keys() - weights.keys()),
        ("extra", weights.keys() - own.keys()),
        ("misshapen", misshapen),
    ]
    problems = [f"{len(names)} {kind}: {listed(names, misshapen)}" for kind, names in found if names]
    if problems:
        raise InputError(f"{path}: weights of another model: {'; '.join(problems)}")


def _form(value: Tensor) -> str:
    kind = "" if value.is_floating_point() else f" of {str(value.dtype).removeprefix('torch.')}"
    return f"{short(tuple(value.shape))}{kind}"
