"""Transformer layers on fused attention: post-norm, ReLU, as in DETR.

Shapes
    B     sequences
    N, S  queries and keys of a sequence
    C     width, split into ``heads``
    padding masks are (B, S), True where a key is padding
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class Attention(nn.Module):
    """Multi-head attention by ``scaled_dot_product_attention``; the weights are never materialised.

    Parameters are laid out as in ``torch.nn.MultiheadAttention``: query, key and value projections are
    stacked in ``in_proj_weight``.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.in_proj_weight = nn.Parameter(nn.init.xavier_uniform_(_empty(3 * width, width)))
        self.in_proj_bias = nn.Parameter(nn.init.zeros_(_empty(3 * width)))
        self.out_proj = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.out_proj.weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, padding: Tensor | None = None) -> Tensor:
        """query (B, N, C), key and value (B, S, C), padding (B, S) to (B, N, C)."""
        weights = self.in_proj_weight.chunk(3)
        biases = self.in_proj_bias.chunk(3)
        q, k, v = (
            F.linear(x, weight, bias).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for x, weight, bias in zip((query, key, value), weights, biases, strict=True)
        )
        attend = None if padding is None else ~padding[:, None, None, :]
        dropout = self.dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=attend, dropout_p=dropout)
        return self.out_proj(y.transpose(1, 2).flatten(-2))  # type: ignore[no-any-return]


def _empty(*shape: int) -> Tensor:
    return nn.Parameter().new_empty(shape)


class FeedForward(nn.Module):
    """The two linear layers and the residual norm that end every transformer layer."""

    def __init__(self, width: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.linear1 = nn.Linear(width, hidden)
        self.linear2 = nn.Linear(hidden, width)
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)
        for linear in (self.linear1, self.linear2):
            nn.init.xavier_uniform_(linear.weight)

    def forward(self, x: Tensor) -> Tensor:
        y = self.linear2(self.dropout(self.linear1(x).relu_()))
        return self.norm(x + self.dropout(y))  # type: ignore[no-any-return]


class EncoderLayer(nn.Module):
    """Self-attention and feed-forward. Positions are added to queries and keys, not to values."""

    def __init__(self, width: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.self_attention = Attention(width, heads, dropout)
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)
        self.feed_forward = FeedForward(width, hidden, dropout)

    def forward(self, x: Tensor, positions: Tensor | None = None, padding: Tensor | None = None) -> Tensor:
        """x (B, N, C), positions (B, N, C), padding (B, N) to (B, N, C)."""
        placed = x if positions is None else x + positions
        y = self.self_attention(placed, placed, x, padding)
        return self.feed_forward(self.norm(x + self.dropout(y)))  # type: ignore[no-any-return]


class DecoderLayer(nn.Module):
    """Self-attention among queries, then attention to the clip, then feed-forward."""

    def __init__(self, width: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.self_attention = Attention(width, heads, dropout)
        self.self_norm = nn.LayerNorm(width)
        self.clip_attention = Attention(width, heads, dropout)
        self.clip_norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)
        self.feed_forward = FeedForward(width, hidden, dropout)

    def forward(
        self, x: Tensor, queries: Tensor, keys: Tensor, values: Tensor, padding: Tensor | None
    ) -> Tensor:
        """x and queries (B, Q, C), keys (placed) and values (B, S, C), padding (B, S) to (B, Q, C)."""
        placed = x + queries
        x = self.self_norm(x + self.dropout(self.self_attention(placed, placed, x)))
        y = self.clip_attention(x + queries, keys, values, padding)
        x = self.clip_norm(x + self.dropout(y))
        return self.feed_forward(x)  # type: ignore[no-any-return]
