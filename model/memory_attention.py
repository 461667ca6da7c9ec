"""Where memory tokens look: the attention weights of Encode-Receive (paper Sec. 3.2, Fig. 2).

The model's attention is fused and its weights never exist. Here they are computed again, for the memory
tokens alone, from what each layer was given; the model's own path is untouched.

Shapes
    B, T  sequences; frames of a clip
    L, G  Encode-Receive layers; heads of a layer
    N     tokens of a frame, N = H * W
    M     memory tokens of a frame
    C     width
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from model.attention import Attention
from model.clip_model import ClipModel
from model.communication import IFC


@dataclass(frozen=True)
class MemoryAttention:
    """The attention of the memory tokens of a clip; each row sums to one over frame and memory tokens."""

    weights: Tensor
    """(L, T, G, M, N + M) float32 on the CPU: keys are the frame's tokens, then its memory tokens"""
    grid: tuple[int, int]
    """(H, W)"""
    deviation: float
    """Largest difference between the memory tokens' output computed from ``weights`` and the layers' own"""

    @property
    def to_frame(self) -> Tensor:
        """(L, T, G, M, H, W); exactly 0 on padding."""
        return self.weights[..., : self.grid[0] * self.grid[1]].unflatten(-1, self.grid)  # type: ignore[no-any-return]

    @property
    def to_memory(self) -> Tensor:
        """(L, T, G, M, M): to the memory tokens of the same frame, its own included."""
        return self.weights[..., self.grid[0] * self.grid[1] :]


def reads_memory(model: ClipModel) -> bool:
    """Whether the model has memory tokens."""
    return isinstance(model.encoder, IFC) and model.config.memory_tokens > 0


@torch.inference_mode()
def memory_attention(model: ClipModel, frames: Tensor, padding: Tensor | None = None) -> MemoryAttention:
    """Attention of every memory token of one clip in every Encode-Receive layer.

    Args:
        model: in evaluation mode, with memory tokens (:func:`reads_memory`).
        frames: (T, 3, H0, W0), RGB in 0..255; one window.
        padding: (H0, W0), True outside the picture.
    """
    encoder = model.encoder
    if not isinstance(encoder, IFC) or not reads_memory(model):
        raise ValueError(f"encoder {model.config.encoder!r} has no memory tokens")
    if model.training:
        raise ValueError("the model must be in evaluation mode: dropout would hide weights")
    with _captured(encoder) as layers:
        features = model.frame_features(frames[None], None if padding is None else padding[None])
        encoder.together(features.alone, features.positions, features.padding)
    weights, deviations = zip(*layers, strict=True)
    return MemoryAttention(torch.stack(weights), features.grid, max(deviations))


def attention_weights(attention: Attention, query: Tensor, key: Tensor, padding: Tensor | None) -> Tensor:
    """query (B, N, C), key (B, S, C) and padding (B, S) to the weights (B, G, N, S) of every head."""
    q, k = (_of_heads(attention, x, part) for part, x in enumerate((query, key)))
    logits = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
    if padding is not None:
        logits = logits.masked_fill(padding[:, None, None], -torch.inf)
    return logits.softmax(-1)  # type: ignore[no-any-return]


def attended(attention: Attention, weights: Tensor, value: Tensor) -> Tensor:
    """Weights (B, G, N, S) and value (B, S, C) to what the attention puts out (B, N, C)."""
    y = weights @ _of_heads(attention, value, 2)
    return attention.out_proj(y.transpose(1, 2).flatten(-2))  # type: ignore[no-any-return]


def _of_heads(attention: Attention, x: Tensor, part: int) -> Tensor:
    """(B, N, C) to queries (part 0), keys (1) or values (2) of the heads (B, G, N, C / G)."""
    weight, bias = attention.in_proj_weight.chunk(3)[part], attention.in_proj_bias.chunk(3)[part]
    return F.linear(x, weight, bias).unflatten(-1, (attention.heads, -1)).transpose(1, 2)  # type: ignore[no-any-return]


@contextmanager
def _captured(encoder: IFC) -> Iterator[list[tuple[Tensor, float]]]:
    """While the block runs: weights (T, G, M, N + M) and deviation of each layer, in the layers' order."""
    layers: list[tuple[Tensor, float]] = []
    count = len(encoder.memory)

    def look(attention: Any, given: tuple[Any, ...], output: Tensor) -> None:
        query, key, value, *rest = given
        weights = attention_weights(attention, query[:, -count:], key, rest[0] if rest else None)
        difference = attended(attention, weights, value) - output[:, -count:]
        layers.append((weights.float().cpu(), float(difference.abs().max())))

    handles = [layer.self_attention.register_forward_hook(look) for layer in encoder.receive]  # type: ignore[union-attr]
    try:
        yield layers
    finally:
        for handle in handles:
            handle.remove()
