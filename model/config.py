"""The closed, typed description of a model. Importing this file does not import torch."""

from __future__ import annotations

import ast
import difflib
import sys
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from model.errors import InputError

BACKBONES = ("tiny", "tiny_deep", "resnet18", "resnet50", "resnet50_bgr", "resnet101", "resnet101_rgb")


def encoder_names() -> tuple[str, ...]:
    """Names of the encoders, from the dictionary ``ENCODERS`` in ``model/communication.py``.

    That file needs torch, which takes seconds to import; a dry run must not pay for it. So unless
    the module is loaded already, the dictionary's keys are read from its source text.
    """
    loaded = sys.modules.get("model.communication")
    if loaded is not None and hasattr(loaded, "ENCODERS"):
        return tuple(loaded.ENCODERS)
    return _encoders_in_source()


@cache
def _encoders_in_source() -> tuple[str, ...]:
    source = Path(__file__).with_name("communication.py").read_text(encoding="utf-8")
    for node in ast.parse(source).body:
        if (
            isinstance(node, ast.AnnAssign)
            and isinstance(node.target, ast.Name)
            and node.target.id == "ENCODERS"
            and isinstance(node.value, ast.Dict)
        ):
            return tuple(ast.literal_eval(key) for key in node.value.keys if key is not None)
    raise RuntimeError("model/communication.py has no dictionary ENCODERS")


class ModelConfig(BaseModel):
    """Everything that decides the model's function. Defaults are the paper's ResNet-50 IFC (Sec. 4.1)."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    backbone: Literal[
        "tiny", "tiny_deep", "resnet18", "resnet50", "resnet50_bgr", "resnet101", "resnet101_rgb"
    ] = "resnet50"
    """``resnet50`` and ``resnet101`` are as published: the first takes torchvision's weights (RGB pixels,
    stride in the 3x3), the second MSRA's (BGR, stride in the 1x1); ``_bgr`` and ``_rgb`` are the reverse."""
    encoder: str = "ifc"
    """How frames communicate: a key of ``model.communication.ENCODERS``."""
    memory_tokens: int = Field(8, ge=0, le=256)
    """M, memory tokens per frame. Read by the encoder ``ifc`` alone."""
    memory_mixing: Literal["decomposed", "unified"] = "decomposed"
    """Gather-Communicate over the T copies of each token apart, or over all M*T tokens together."""
    num_classes: int = Field(40, ge=1)
    num_queries: int = Field(100, ge=1)
    hidden_dim: int = Field(256, ge=8)
    """C, the width of the transformer and of the mask features."""
    encoder_layers: int = Field(3, ge=1)
    decoder_layers: int = Field(3, ge=1)
    attention_heads: int = Field(8, ge=1)
    ffn_dim: int = Field(2048, ge=1)
    dropout: float = Field(0.1, ge=0, lt=1, strict=False)
    mask_weight_layers: int = Field(3, ge=1)
    """Layers of the MLP that gives each query's mask weights: 3 in the published code, 2 in the text."""
    box_head: bool = False
    """Whether training also predicts a box for each query and frame, for box-based matching."""

    @field_validator("encoder")
    @classmethod
    def _encoder_exists(cls, value: str) -> str:
        names = encoder_names()
        if value not in names:
            raise ValueError(f"allowed: {', '.join(names)}")
        return value

    @model_validator(mode="after")
    def _widths_divide(self) -> ModelConfig:
        if self.hidden_dim % self.attention_heads:
            raise ValueError(
                f"hidden_dim {self.hidden_dim} must be a multiple of attention_heads {self.attention_heads}"
            )
        if self.hidden_dim % 4:
            raise ValueError(f"hidden_dim {self.hidden_dim} must be a multiple of 4 (2-D sine positions)")
        return self

    @classmethod
    def parse(cls, config: dict[str, Any] | ModelConfig) -> ModelConfig:
        """``config`` itself, or a dict of this class's fields; raises :class:`InputError` in one line."""
        if isinstance(config, cls):
            return config
        try:
            return cls.model_validate(config)
        except ValidationError as error:
            raise InputError(f"model config: {first_problem(error, cls)}") from None


def first_problem(error: ValidationError, schema: type[BaseModel]) -> str:
    """The first problem of a pydantic error as ``key: value: what is allowed``, on one line."""
    problem = error.errors()[0]
    key = ".".join(str(part) for part in problem["loc"])
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "extra_forbidden":
        names = _field_names(schema, problem["loc"][:-1])
        near = difflib.get_close_matches(str(problem["loc"][-1]), names, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        return f"{key}: unknown key{hint}; allowed: {', '.join(names)}"
    if problem["type"] == "missing":
        return f"{key}: this key is required"
    shown = "" if isinstance(problem["input"], dict | BaseModel) else f" {problem['input']!r}:"
    return " ".join(f"{key}:{shown} {message}".split()) if key else " ".join(message.split())


def _field_names(schema: type[BaseModel], path: tuple[int | str, ...]) -> list[str]:
    """Field names of the (nested) schema that ``path`` leads to."""
    for part in path:
        field = schema.model_fields.get(str(part))
        annotation = field.annotation if field else None
        candidates = (annotation, *get_args(annotation))
        nested = [c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)]
        if not nested:
            return []
        schema = nested[0]
    return list(schema.model_fields)
