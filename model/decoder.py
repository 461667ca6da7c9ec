"""Object queries: one set for the whole clip (paper Sec. 3.2).

Shapes
    B, T, N, M  clips, frames, tokens of a frame, memory tokens of a frame
    Q           object queries
    C           width
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.attention import DecoderLayer
from model.communication import Encoded
from model.config import ModelConfig


class QueryDecoder(nn.Module):
    """DETR's decoder over all frame tokens and memory tokens of a clip."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(config.num_queries, config.hidden_dim))
        self.layers = nn.ModuleList(
            DecoderLayer(config.hidden_dim, config.attention_heads, config.ffn_dim, config.dropout)
            for _ in range(config.decoder_layers)
        )
        self.norm = nn.LayerNorm(config.hidden_dim)

    def forward(self, encoded: Encoded, positions: Tensor, padding: Tensor | None) -> list[Tensor]:
        """Each layer's normalised output (B, Q, C); positions (B, N, C) and padding (B, N) of one frame."""
        batch, frames, _, _ = encoded.frames.shape
        count = encoded.memory.shape[2]
        values = torch.cat([encoded.frames, encoded.memory], dim=2).flatten(1, 2)
        placed = torch.cat([positions, encoded.memory_positions.expand(batch, -1, -1)], dim=1)
        keys = values + placed.repeat(1, frames, 1)
        padded = None if padding is None else F.pad(padding, (0, count)).repeat(1, frames)
        queries = self.queries.expand(batch, -1, -1)
        x = torch.zeros_like(queries)
        outputs = []
        for layer in self.layers:
            x = layer(x, queries, keys, values, padded)
            outputs.append(self.norm(x))
        return outputs


class MLP(nn.Module):
    """Linear layers with ReLU between them."""

    def __init__(self, width: int, outputs: int, layers: int) -> None:
        super().__init__()
        widths = [width] * layers + [outputs]
        self.layers = nn.ModuleList(nn.Linear(i, o) for i, o in pairwise(widths))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
        return self.layers[-1](x)  # type: ignore[no-any-return]
