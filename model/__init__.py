"""Video instance segmentation with inter-frame communication transformers, and three encoders to compare.

Reading order: ``clip_model.py`` (the model, top to bottom), ``communication.py`` (the ablation axis),
then ``backbone``, ``decoder``, ``mask_head``; ``matching`` and ``losses`` train it; ``tracking`` and
``inference`` run it over a video.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from model.config import ModelConfig
from model.errors import InputError

if TYPE_CHECKING:
    from model.clip_model import ClipModel

__all__ = ["InputError", "ModelConfig", "build_model"]


def build_model(config: dict[str, Any] | ModelConfig) -> ClipModel:
    """The clip model that ``config`` describes, freshly initialised from torch's global generator.

    Raises :class:`InputError` for unknown keys and impossible values.
    """
    from model.clip_model import ClipModel  # torch takes seconds to import: only whoever builds pays

    return ClipModel(ModelConfig.parse(config))
