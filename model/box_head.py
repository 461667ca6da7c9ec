"""Boxes of a query, one a frame: for the ablation of box-based matching (paper Table 2c).

A query serves the whole clip, so what differs between its boxes has to come from the frames: it looks
at the encoded tokens of each frame apart. Nothing here depends on how many frames there are.

Shapes
    B, T, N  clips, frames of a clip, tokens of a frame
    Q        object queries
    C        width
"""

from __future__ import annotations

from torch import Tensor, nn

from model.attention import Attention
from model.communication import per_frame
from model.config import ModelConfig
from model.decoder import MLP


class BoxHead(nn.Module):
    """Attention to one frame, then DETR's box MLP (3 layers, sigmoid)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.frame_attention = Attention(config.hidden_dim, config.attention_heads, config.dropout)
        self.boxes = MLP(config.hidden_dim, 4, layers=3)

    def forward(
        self, queries: Tensor, frame_tokens: Tensor, positions: Tensor, padding: Tensor | None
    ) -> Tensor:
        """Centred boxes (B, Q, T, 4) as shares of the clip's own size.

        Args:
            queries: (B, Q, C) output of a decoder layer.
            frame_tokens: (B, T, N, C) encoded frames.
            positions, padding: (B, N, C) and (B, N), those of one frame.
        """
        batch, frames = frame_tokens.shape[:2]
        # Positions are part of the values too: where the query looks is what the box is made from.
        placed = frame_tokens.flatten(0, 1) + per_frame(positions, frames)
        padded = None if padding is None else per_frame(padding, frames)
        asking = per_frame(queries, frames)
        x = asking + self.frame_attention(asking, placed, placed, padded)
        boxes: Tensor = self.boxes(x).sigmoid()
        return boxes.view(batch, frames, *boxes.shape[1:]).transpose(1, 2)
