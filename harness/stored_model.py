"""A model and the names of its classes, from a weights file alone."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

from harness.data.synthetic_cast import CATEGORY_NAMES
from harness.record_file import read_record
from model import ModelConfig, build_model
from model.checkpoint import Weights, load_weights, read_weights, weights_metadata
from model.clip_model import ClipModel
from model.errors import InputError
from model.implied_config import implied_config

PUBLISHED = {"hidden_dim": 256, "ffn_dim": 2048, "mask_weight_layers": 3, "encoder": "ifc"}
"""What tells a model of the published sizes; those have 8 heads, which no name or shape of an entry says."""
PUBLISHED_HEADS = 8


class Classes(NamedTuple):
    """The classes of a model, in order of their labels."""

    ids: tuple[int, ...]
    """category_id of each in a result file"""
    names: tuple[str, ...]
    """Where they are not known ``class 1``, ``class 2``, ..."""


def stored_model(path: Path) -> ClipModel:
    """The model of a weights file, in evaluation mode on the CPU.

    Our own files say which model they are of; files of the published layout and sizes need not.

    Raises:
        InputError: no weights, a backbone alone, or a model that the file does not describe.
    """
    weights = read_weights(path)
    if weights.kind == "backbone":
        raise InputError(f"{path}: a backbone alone; allowed: the weights of a whole model")
    header = weights_metadata(path) if path.suffix == ".safetensors" else {}
    try:
        config = ModelConfig.parse(header["config"]) if "config" in header else _published(weights)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    model = build_model(config)
    load_weights(model, path)
    return model.eval()


def _published(weights: Weights) -> ModelConfig:
    """The configuration of a file without one, if it has the published sizes."""
    implied = implied_config(weights.entries)
    if any(getattr(implied, key) != value for key, value in PUBLISHED.items()):
        raise InputError(
            "does not say which model it is of; allowed: .safetensors files of trainings here, "
            "published checkpoints and conversions of either"
        )
    backbone: str = implied.backbone
    if weights.pixels == "BGR" and backbone == "resnet50":
        backbone = "resnet50_bgr"
    if weights.pixels == "RGB" and backbone == "resnet101":
        backbone = "resnet101_rgb"
    return implied.model_copy(update={"attention_heads": PUBLISHED_HEADS, "backbone": backbone})


def classes_of(path: Path, count: int, annotations: Path | None) -> Classes:
    """The classes of the weights ``path``, ``count`` of them.

    They are known from ``annotations``, a json with ``categories``; without it from the training's own
    record beside the weights, if it was on embedded videos; else they have numbers.
    """
    if annotations is not None:
        return _annotated(annotations, count)
    names = _embedded(path) or [f"class {number}" for number in range(1, count + 1)]
    return Classes(tuple(range(1, count + 1)), tuple(names[:count]))


def _annotated(file: Path, count: int) -> Classes:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"--categories: {file}: not a json file ({' '.join(str(error).split())})") from None
    listed = content.get("categories") if isinstance(content, dict) else None
    if not isinstance(listed, list) or not all(_is_category(entry) for entry in listed):
        raise InputError(
            f"--categories: {file}: categories: missing, or not a list of {{id, name}}; "
            "allowed: an annotation json such as valid.json"
        )
    by_id: dict[int, str] = {entry["id"]: entry["name"] for entry in listed}
    if len(by_id) != len(listed) or len(listed) != count:
        raise InputError(
            f"--categories: {file}: {len(by_id)} categories with ids of their own among {len(listed)}; "
            f"allowed: {count}, as many as the weights have classes"
        )
    ids = sorted(by_id)  # the order of labels, as in harness/data/ytvis.py
    return Classes(tuple(ids), tuple(re.sub(r"\s+", " ", by_id[number]) for number in ids))


def _is_category(entry: Any) -> bool:
    return isinstance(entry, dict) and type(entry.get("id")) is int and isinstance(entry.get("name"), str)


def _embedded(path: Path) -> list[str] | None:
    """Names of the embedded data's shapes, if the record beside the weights says that they were learned."""
    if path.suffix != ".safetensors":
        return None
    record = read_record(path.parent / "trial.json")
    if not record or record.get("trial") != weights_metadata(path).get("identity"):
        return None
    data = (record.get("config") or {}).get("data") or {}
    return list(CATEGORY_NAMES) if data.get("kind") == "synthetic" else None
