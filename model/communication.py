"""How frames talk to each other: the paper's ablation axis (Sec. 3.2, Tables 1 and 3).

A variant is one class with the signature of :class:`Communication` and one line in ``ENCODERS``.

Shapes
    B, T  clips, frames of a clip
    N     tokens of a frame, N = H * W at the coarsest stride
    M     memory tokens of a frame
    C     width
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from model.attention import EncoderLayer
from model.config import ModelConfig


class Encoded(NamedTuple):
    """What the query decoder attends to."""

    frames: Tensor
    """(B, T, N, C)"""
    memory: Tensor
    """(B, T, M, C); M = 0 for encoders without memory"""
    memory_positions: Tensor
    """(M, C), the same on every frame"""


class Communication(nn.Module):
    """The signature all encoders share."""

    def forward(self, tokens: Tensor, positions: Tensor, padding: Tensor | None) -> Encoded:
        """tokens (B, T, N, C), positions (B, N, C), padding (B, N) or None.

        Positions and padding are those of one frame: all frames of a clip have the same size.
        """
        raise TypeError("an encoder defines forward")


def encoder_layer(config: ModelConfig) -> EncoderLayer:
    """A layer of the width that the configuration names."""
    return EncoderLayer(config.hidden_dim, config.attention_heads, config.ffn_dim, config.dropout)


def encoder_layers(config: ModelConfig, count: int) -> nn.ModuleList:
    """``count`` of them."""
    return nn.ModuleList(encoder_layer(config) for _ in range(count))


def per_frame(x: Tensor, frames: int) -> Tensor:
    """(B, ...) to (B * T, ...): every frame of a clip gets the clip's own."""
    return x.repeat_interleave(frames, dim=0)


def without_memory(tokens: Tensor) -> Encoded:
    """Encoded frames of an encoder that has no memory tokens."""
    batch, frames, _, width = tokens.shape
    return Encoded(tokens, tokens.new_zeros(batch, frames, 0, width), tokens.new_zeros(0, width))


class NoComm(Communication):
    """Every frame alone: what a clip model gains from its queries only."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.layers = encoder_layers(config, config.encoder_layers)

    def forward(self, tokens: Tensor, positions: Tensor, padding: Tensor | None) -> Encoded:
        batch, frames = tokens.shape[:2]
        x = tokens.flatten(0, 1)
        placed = per_frame(positions, frames)
        padded = None if padding is None else per_frame(padding, frames)
        for layer in self.layers:
            x = layer(x, placed, padded)
        return without_memory(x.unflatten(0, (batch, frames)))


class FullTHW(Communication):
    """One self-attention over all T*H*W tokens of the clip (VisTR)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.layers = encoder_layers(config, config.encoder_layers)

    def forward(self, tokens: Tensor, positions: Tensor, padding: Tensor | None) -> Encoded:
        frames = tokens.shape[1]
        x = tokens.flatten(1, 2)
        placed = positions.repeat(1, frames, 1)
        padded = None if padding is None else padding.repeat(1, frames)
        for layer in self.layers:
            x = layer(x, placed, padded)
        return without_memory(x.unflatten(1, (frames, -1)))


class DecompTHW(Communication):
    """Spatial layers with temporal layers between them: H*W within each frame, T at each place.

    The count (one temporal layer fewer than spatial ones) is the one that gives the FLOPs of Table 1.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.spatial = encoder_layers(config, config.encoder_layers)
        self.temporal = encoder_layers(config, config.encoder_layers - 1)

    def forward(self, tokens: Tensor, positions: Tensor, padding: Tensor | None) -> Encoded:
        batch, frames, places, _ = tokens.shape
        x = tokens.flatten(0, 1)
        placed = per_frame(positions, frames)
        padded = None if padding is None else per_frame(padding, frames)
        for depth, spatial in enumerate(self.spatial):
            x = spatial(x, placed, padded)
            if depth < len(self.temporal):
                # A padded place is padded in all frames and seen by no other place: no mask is needed.
                column = x.unflatten(0, (batch, frames)).transpose(1, 2).flatten(0, 1)
                column = self.temporal[depth](column)
                x = column.unflatten(0, (batch, places)).transpose(1, 2).flatten(0, 1)
        return without_memory(x.unflatten(0, (batch, frames)))


class IFC(Communication):
    """Inter-frame communication: memory tokens read each frame, then talk across frames (Sec. 3.2)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.unified = config.memory_mixing == "unified"
        shape = (config.memory_tokens, config.hidden_dim)
        self.memory = nn.Parameter(torch.randn(shape) * (2 / max(1, config.memory_tokens)) ** 0.5)
        self.memory_positions = nn.Parameter(torch.randn(shape) * (2 / max(1, config.memory_tokens)) ** 0.5)
        self.receive = encoder_layers(config, config.encoder_layers)
        # Without memory tokens there is nothing to gather: M = 0 is NoComm.
        self.communicate = encoder_layers(config, config.encoder_layers if config.memory_tokens else 0)

    def forward(self, tokens: Tensor, positions: Tensor, padding: Tensor | None) -> Encoded:
        batch, frames, places, _ = tokens.shape
        x = tokens.flatten(0, 1)
        memory = self.memory.expand(batch * frames, -1, -1)
        placed = torch.cat([per_frame(positions, frames), self.memory_positions.expand_as(memory)], dim=1)
        padded = None
        if padding is not None:
            seen = padding.new_zeros(batch * frames, memory.shape[1])
            padded = torch.cat([per_frame(padding, frames), seen], dim=1)
        for depth, receive in enumerate(self.receive):
            x, memory = receive(torch.cat([x, memory], dim=1), placed, padded).split(
                [places, memory.shape[1]], dim=1
            )
            if len(self.communicate):
                memory = self._gather_communicate(self.communicate[depth], memory, batch)
        return Encoded(
            x.unflatten(0, (batch, frames)), memory.unflatten(0, (batch, frames)), self.memory_positions
        )

    def _gather_communicate(self, layer: nn.Module, memory: Tensor, batch: int) -> Tensor:
        """Self-attention of memory (B*T, M, C) across frames; no positions are added."""
        clips = memory.unflatten(0, (batch, -1))
        frames, count = clips.shape[1:3]
        if self.unified:
            mixed: Tensor = layer(clips.flatten(1, 2))
            return mixed.view(batch * frames, count, -1)
        same_token: Tensor = layer(clips.transpose(1, 2).flatten(0, 1))
        return same_token.view(batch, count, frames, -1).transpose(1, 2).flatten(0, 1)


ENCODERS: dict[str, type[Communication]] = {
    "no_comm": NoComm,
    "full_thw": FullTHW,
    "decomp_t_hw": DecompTHW,
    "ifc": IFC,
}


def build_encoder(config: ModelConfig) -> Communication:
    """The encoder that ``config.encoder`` names; its class takes the model config."""
    return ENCODERS[config.encoder](config)
