"""The model that a file's entries are of, by their names and shapes (ours), to compare them with."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor

from model.backbone import build_backbone
from model.clip_model import ClipModel
from model.config import ModelConfig

_MOST_LAYERS = 64
_WIDEST = 2**16
_ENCODERS = (("ifc", "receive"), ("decomp_t_hw", "spatial"), ("no_comm", "layers"))
"""Encoders and the names of their layers; ``full_thw`` has the entries of ``no_comm``."""


def implied_places(entries: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The entries, without values, that the model or the backbone alone has which these are of.

    Parts that are missing have their defaults. Raises :class:`model.errors.InputError` for sizes that no
    model has.
    """
    with torch.device("meta"):
        if all(name.startswith("backbone.") for name in entries):
            backbone = build_backbone(_backbone(entries))
            return {f"backbone.{name}": value for name, value in backbone.state_dict().items()}
        own: dict[str, Tensor] = ClipModel(implied_config(entries)).state_dict()
        return own


def implied_config(entries: Mapping[str, Tensor]) -> ModelConfig:
    """The configuration of the model, as far as names and shapes tell.

    They do not tell pixels, heads, dropout, ``full_thw`` from ``no_comm``, ``unified`` from ``decomposed``.
    """
    encoder, layers = next(
        ((name, part) for name, part in _ENCODERS if _count(entries, rf"encoder\.{part}")), ("ifc", "receive")
    )
    sizes: dict[str, Any] = {
        "hidden_dim": _size(entries, "projection.bias") or _size(entries, "decoder.queries", side=1),
        "encoder_layers": _count(entries, rf"encoder\.{layers}"),
        "decoder_layers": _count(entries, r"decoder\.layers"),
        "mask_weight_layers": _count(entries, r"mask_weight_head\.layers"),
        "num_queries": _size(entries, "decoder.queries"),
        "ffn_dim": next((_size(entries, n) for n in entries if n.endswith(".linear1.bias")), None),
    }
    known = {key: value for key, value in sizes.items() if value is not None}
    classes = _size(entries, "class_head.layers.1.bias")
    if classes is not None:
        known["num_classes"] = classes - 1
    if encoder == "ifc":
        memory = _size(entries, "encoder.memory")
        known["memory_tokens"] = _size(entries, "encoder.memory_positions") if memory is None else memory
        if known["memory_tokens"] is None:
            del known["memory_tokens"]
    boxes = any(name.startswith("box_head.") for name in entries)
    config = {"backbone": _backbone(entries), "encoder": encoder, "attention_heads": 1, "box_head": boxes}
    return ModelConfig.parse({**config, **known})


def _backbone(names: Collection[str]) -> str:
    """A backbone of these blocks; which pixels it is for makes no difference to names and shapes."""
    pairs = _count(names, r"backbone\.levels\.1\.pairs")
    if any(name.startswith("backbone.levels.") for name in names):
        return "tiny" if pairs is None or pairs <= 1 else "tiny_deep"
    if not any(re.match(r"backbone\.res\d\.\d+\.conv3\.", name) for name in names):
        return "resnet18"
    blocks = _count(names, r"backbone\.res4")
    return "resnet50" if blocks is None or blocks <= 6 else "resnet101"


def _count(names: Collection[str], place: str) -> int | None:
    """How many layers lie at a place, by the highest index; None where there is none."""
    found = [re.match(rf"{place}\.(\d{{1,6}})\.", name) for name in names]
    highest = max((int(index[1]) for index in found if index is not None), default=None)
    return None if highest is None else min(highest + 1, _MOST_LAYERS)


def _size(entries: Mapping[str, Tensor], name: str, side: int = 0) -> int | None:
    """A side of an entry; None where there is no such entry or side."""
    shape = entries[name].shape if name in entries else ()
    return min(shape[side], _WIDEST) if len(shape) > side else None
