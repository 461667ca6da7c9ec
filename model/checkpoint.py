"""Weights in and out, without running code from the file.

Three layouts are read: our own (safetensors, or a ``model`` entry of a training checkpoint), published
IFC checkpoints (``{"model": {...}}``, names ``detr.*``), and detectron2 backbone files (names ``stem.*``,
``res2.*``). Entries that are missing, extra or misshapen are errors that list them.
"""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from model.errors import InputError
from model.whole_file import whole_file

# Published name (regular expression) -> ours. Order matters: the first that matches is used.
_PUBLISHED = [
    (r"detr\.backbone\.0\.backbone\.", "backbone."),
    (r"detr\.transformer\.memory_bus$", "encoder.memory"),
    (r"detr\.transformer\.memory_pos$", "encoder.memory_positions"),
    (r"detr\.transformer\.encoder\.enc_layers\.", "encoder.receive."),
    (r"detr\.transformer\.encoder\.bus_layers\.", "encoder.communicate."),
    (r"detr\.transformer\.clip_decoder\.norm\.", "decoder.norm."),
    (r"detr\.transformer\.clip_decoder\.layers\.", "decoder.layers."),
    (r"detr\.query_embed\.weight$", "decoder.queries"),
    (r"detr\.class_embed\.", "class_head."),
    (r"detr\.input_proj\.", "projection."),
    (r"detr\.mask_head\.convert_to_weight\.", "mask_weight_head."),
    (r"detr\.mask_head\.lay([123])\.", r"spatial_decoder.conv\1."),
    (r"detr\.mask_head\.gn([123])\.", r"spatial_decoder.norm\1."),
    (r"detr\.mask_head\.adapter1\.", "spatial_decoder.adapter16."),
    (r"detr\.mask_head\.adapter2\.", "spatial_decoder.adapter8."),
    (r"detr\.mask_head\.out_lay\.", "spatial_decoder."),
]
_ENCODER_LAYER = {"self_attn": "self_attention", "norm1": "norm", "norm2": "feed_forward.norm"}
_DECODER_LAYER = {
    "self_attn": "self_attention",
    "multihead_attn": "clip_attention",
    "norm1": "self_norm",
    "norm2": "clip_norm",
    "norm3": "feed_forward.norm",
}
_FEED_FORWARD = {"linear1": "feed_forward.linear1", "linear2": "feed_forward.linear2"}
_LAYER = re.compile(r"((?:encoder\.(?:receive|communicate)|decoder\.layers)\.\d+\.)(\w+)(\..+)")

_NO_BACKBONE = re.compile(r"(stem\.)?fc|.*\.num_batches_tracked$")
"""The ImageNet classifier and batch counters that detectron2 backbone files carry along."""


def load_weights(model: nn.Module, path: str | Path) -> None:
    """Put the weights of ``path`` into ``model``, in place.

    A detectron2 backbone file fills the backbone alone. Raises :class:`InputError` when the file
    cannot be read safely or does not fit the model; the model is then unchanged.
    """
    path = Path(path)
    weights = read_weights(path)
    own = model.state_dict()
    if any(name.startswith("stem.") for name in weights):
        weights = {f"backbone.{n}": value for n, value in weights.items() if not _NO_BACKBONE.match(n)}
        own = {name: value for name, value in own.items() if name.startswith("backbone.")}
    elif any(name.startswith("detr.") for name in weights):
        weights = from_published(weights)
    _check_fit(path, own, weights)
    model.load_state_dict(weights, strict=False)


def from_published(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The published IFC names to ours; tensors of the criterion and pixel statistics are not weights."""
    renamed = {}
    for name, value in weights.items():
        if name.startswith(("criterion.", "pixel_")):
            continue
        renamed[published_to_own(name)] = value
    return renamed


def published_to_own(name: str) -> str:
    """Our name of a published parameter; unknown names are returned as they are."""
    for pattern, replacement in _PUBLISHED:
        renamed, count = re.subn(f"^{pattern}", replacement, name)
        if count:
            break
    else:
        return name
    layer = _LAYER.fullmatch(renamed)
    if layer is None:
        return renamed
    parts = _DECODER_LAYER if renamed.startswith("decoder.") else _ENCODER_LAYER
    start, part, rest = layer.groups()
    return start + {**parts, **_FEED_FORWARD}.get(part, part) + rest


def read_weights(path: Path) -> dict[str, Tensor]:
    """Name -> tensor of a safetensors file or a torch checkpoint, unpickled with weights-only rules."""
    if not path.is_file():
        raise InputError(f"{path}: no such weights file")
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as file:
                return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        if path.suffix == ".pkl":  # detectron2's own backbone files
            with path.open("rb") as pickled:
                content = _ArraysOnly(pickled).load()
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except SafetensorError as error:
        raise InputError(f"{path}: not a safetensors file ({' '.join(str(error).split())})") from None
    except Exception:  # torch raises many kinds here, with advice to load unsafely; all mean the same
        raise InputError(f"{path}: not a checkpoint of tensors alone, or damaged; refused") from None
    weights = content.get("model", content) if isinstance(content, dict) else None
    if not isinstance(weights, dict) or not weights:
        raise InputError(f"{path}: holds no dictionary of weights")
    return {str(name): _tensor(path, name, value) for name, value in weights.items()}


class _ArraysOnly(pickle.Unpickler):
    """Unpickles plain containers and numpy arrays; any other object is refused, so no code runs."""

    allowed = frozenset(
        {
            ("numpy", "ndarray"),
            ("numpy", "dtype"),
            ("numpy.core.multiarray", "_reconstruct"),
            ("numpy._core.multiarray", "_reconstruct"),
            ("collections", "OrderedDict"),
        }
    )

    def find_class(self, module: str, name: str, /) -> Any:
        if (module, name) not in self.allowed:
            raise pickle.UnpicklingError(f"{module}.{name} is not a numpy array")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def _tensor(path: Path, name: str, value: Any) -> Tensor:
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value)
    if isinstance(value, Tensor):
        return value
    raise InputError(f"{path}: entry {name} is a {type(value).__name__}, not a tensor")


def _check_fit(path: Path, own: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> None:
    missing = sorted(own.keys() - weights.keys())
    extra = sorted(weights.keys() - own.keys())
    misshapen = [
        f"{name} {tuple(weights[name].shape)} for {tuple(own[name].shape)}"
        for name in sorted(own.keys() & weights.keys())
        if own[name].shape != weights[name].shape
    ]
    found = [("missing", missing), ("extra", extra), ("misshapen", misshapen)]
    problems = [f"{len(names)} {kind}: {', '.join(names)}" for kind, names in found if names]
    if problems:
        raise InputError(f"{path}: weights of another model: {'; '.join(problems)}")


def weights_metadata(path: Path) -> dict[str, Any]:
    """What :func:`save_weights` stored in the header of one of our own files."""
    with safe_open(path, framework="pt") as file:
        metadata: dict[str, Any] = json.loads((file.metadata() or {}).get("ifc", "{}"))
    return metadata


def save_weights(model: nn.Module, path: Path, metadata: Mapping[str, Any]) -> None:
    """Write our own safetensors layout, atomically; ``metadata`` is stored as json in its header."""
    weights = {name: value.contiguous() for name, value in model.state_dict().items()}
    with whole_file(path) as draft:
        save_file(weights, draft, metadata={"ifc": json.dumps(metadata, sort_keys=True)})
