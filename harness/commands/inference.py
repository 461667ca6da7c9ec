"""Options of a command that are settings of inference."""

from __future__ import annotations

from pydantic import ValidationError

from harness.config import InferenceConfig
from model.config import first_problem
from model.errors import InputError

OPTIONS = {"short_side": "short-side", "score_threshold": "score"}
"""Settings whose options have another name"""


def inference_settings(**settings: float) -> InferenceConfig:
    """The settings that options give, the rest as they are by default.

    Raises:
        InputError: one that cannot be; the line opens with its option.
    """
    try:
        return InferenceConfig.model_validate(settings)
    except ValidationError as error:
        key, colon, rest = first_problem(error, InferenceConfig).partition(":")
        named = f"--{OPTIONS.get(key, key)}" if key in settings else key
        raise InputError(f"{named}{colon}{rest}") from None
