"""A weights file of one layout to a file of another.

Names alone decide where an entry goes. That none is missing or misshapen is seen by comparison with the
model that the entries imply, which is built without values.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from torch import Tensor

from model.checkpoint import PIXELS, Weights, check_fit, listed, read_weights
from model.errors import InputError
from model.implied_config import implied_places
from model.weight_files import write_file
from model.weight_names import NO_OBJECT_NAME, is_own, own_to_detectron2, own_to_published

SUFFIXES = {"own": (".safetensors",), "published": (".pth",), "detectron2": (".pkl", ".pth")}
"""The layouts that are written, and how their files end."""
NO_OBJECT_WEIGHT = 0.1
"""The weight of "no object" in the published loss, whose checkpoints hold it as a tensor."""


class Converted(NamedTuple):
    """What was written."""

    entries: int
    left_out: tuple[str, ...]
    """entries that the target has no place for by its nature: by our names, of a whole model all but the
    backbone; by the file's, what is no weight (a classifier of ImageNet, counters, the published loss)"""
    pixels: str | None
    """RGB or BGR, if it is known which the backbone was trained on"""


def convert(source: Path, target: Path, layout: str | None = None, force: bool = False) -> Converted:
    """Read ``source``, of any layout, and write ``target`` as ``own``, ``published`` or ``detectron2``.

    Without a layout, ``.safetensors`` means ``own``. Values are not changed: there and back again gives
    the same bits. ``detectron2`` takes the backbone of a whole model. Raises :class:`InputError`, and
    writes nothing, when the target exists (unless ``force``), the layout cannot hold the source, or the
    source is no complete model or backbone.
    """
    layout = _layout(target, layout)
    if target.is_dir() or (target.exists() and not force):
        raise InputError(f"{target}: exists already; choose another name, or --force to replace a file")
    if not target.parent.is_dir():
        raise InputError(f"{target}: there is no folder {target.parent}")
    weights = read_weights(source)
    unknown = [name for name in weights.entries if not is_own(name)]
    if not weights.entries:
        raise InputError(f"{source}: holds no weights of a model")
    if unknown:
        raise InputError(f"{source}: {len(unknown)} entries of no known layout: {listed(unknown)}")
    entries, left_out = _renamed(source, weights, layout)
    if target.suffix == ".pkl" and any(value.dtype == torch.bfloat16 for value in entries.values()):
        raise InputError(f"{target}: numpy has no bfloat16, which {source} holds; write a .pth instead")
    check_fit(source, _implied(source, weights), weights.entries)
    alone = {name: value.clone() for name, value in entries.items()}  # some share memory, or are views
    try:
        write_file(target, alone, _remarks(weights, layout))
    except (OSError, RuntimeError, SafetensorError) as error:  # each format has its own for a full disk
        raise InputError(f"{target}: cannot be written ({' '.join(str(error).split())})") from None
    # The published loss is made anew where it is wanted.
    no_weights = [name for name in weights.left_out if name not in entries]
    return Converted(len(entries), (*left_out, *no_weights), weights.pixels)


def _implied(source: Path, weights: Weights) -> dict[str, Tensor]:
    try:
        return implied_places(weights.entries)
    except InputError as error:
        raise InputError(f"{source}: sizes of no model here: {error}") from None


def _remarks(weights: Weights, layout: str) -> dict[str, Any]:
    """What stands beside the weights."""
    remarks: dict[str, Any] = {PIXELS: weights.pixels or "unknown"}
    if layout == "own" and "ifc" in weights.remarks:
        remarks["ifc"] = weights.remarks["ifc"]
    if layout == "detectron2":  # its loader wants an author, and this switch to match names by their ends
        remarks |= {"__author__": "ifc-ablations", "matching_heuristics": True}
    return remarks


def _renamed(source: Path, weights: Weights, layout: str) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The entries by the names of the layout, and what was left out."""
    if layout == "own":
        return weights.entries, ()
    name_of = own_to_published if layout == "published" else own_to_detectron2
    names = {name: name_of(name) for name in weights.entries}
    homeless = [name for name, renamed in names.items() if renamed is None]
    if layout == "published":
        if weights.kind == "backbone":
            raise InputError(
                f"{source}: a backbone alone; layout published holds whole models; allowed: own, detectron2"
            )
        if homeless:
            raise InputError(f"{source}: the published model has no {listed(homeless)}")
    elif not any(names.values()) or any(name.startswith("backbone.") for name in homeless):
        raise InputError(f"{source}: no ResNet backbone, which layout detectron2 holds: {listed(homeless)}")
    entries = {new: weights.entries[name] for name, new in names.items() if new is not None}
    if layout == "published":
        entries[NO_OBJECT_NAME] = _no_object(source, weights)
    return entries, tuple(homeless)


def _no_object(source: Path, weights: Weights) -> Tensor:
    """(K+1,): the class weights of the published loss."""
    layers = [name for name in weights.entries if re.fullmatch(r"class_head\.layers\.\d+\.bias", name)]
    if not layers:
        raise InputError(f"{source}: no class head; layout published holds whole models")
    last = max(layers, key=lambda name: int(name.split(".")[2]))
    class_weights = torch.ones_like(weights.entries[last])
    class_weights[-1] = NO_OBJECT_WEIGHT
    return class_weights


def _layout(target: Path, layout: str | None) -> str:
    allowed = f"allowed: {', '.join(SUFFIXES)}"
    if layout is None:
        if target.suffix not in SUFFIXES["own"]:
            raise InputError(f"--layout: not given, and {target} does not tell it; {allowed}")
        return "own"
    if layout not in SUFFIXES:
        raise InputError(f"--layout: {layout!r}: {allowed}")
    if target.suffix not in SUFFIXES[layout]:
        raise InputError(f"{target}: layout {layout} is written as {' or '.join(SUFFIXES[layout])}")
    return layout
