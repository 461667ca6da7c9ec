"""Multiply-adds of an encoder, counted from its modules (paper Table 1, there "FLOPs (G)").

The encoder that the configuration names is built and run on torch's meta device, which knows shapes and
holds no numbers; every matrix product that it asks for is counted, whoever wrote the encoder.
Table 1's rule, found from its digits: matrix products, and 5 for each element that a layer norm
normalises; softmax, biases, positions and residuals count nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from model.backbone import build_backbone
from model.communication import build_encoder
from model.config import ModelConfig

LAYER_NORM = 5
"""Counted for each element of a layer norm"""
OPERATIONS = 2
"""torch counts a multiplication and an addition as two"""


def count_encoder(config: ModelConfig, frame_size: tuple[int, int], frames: int) -> int:
    """Multiply-adds of the encoder on one clip.

    Args:
        frame_size: (H0, W0) in pixels; the encoder sees ceil(H0 / s) x ceil(W0 / s) tokens of the backbone's
            coarsest stride s.
        frames: T.
    """
    with torch.device("meta"), torch.no_grad():
        stride = build_backbone(config.backbone).strides[-1]
        places = math.prod(math.ceil(side / stride) for side in frame_size)
        encoder = build_encoder(config).eval()
        tokens = torch.empty(1, frames, places, config.hidden_dim)
        positions = torch.empty(1, places, config.hidden_dim)
        norm = {torch.ops.aten.native_layer_norm: _layer_norm}
        # The plain attention is made of products that torch counts, whatever kernels this machine has.
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False, custom_mapping=norm) as counter:
            encoder(tokens, positions, None)
    return int(counter.get_total_flops()) // OPERATIONS


def _layer_norm(shape: Sequence[int], *_: Any, **__: Any) -> int:
    return OPERATIONS * LAYER_NORM * math.prod(shape)
