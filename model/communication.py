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


class Alone(NamedTuple):
    """Frames as they are before the first of them hears of another: the same in every window."""

    frames: Tensor
    """(B, T, N, C)"""
    memory: Tensor
    """(B, T, M, C), each frame's memory tokens; M = 0 for encoders without memory"""


class Communication(nn.Module):
    """The signature all encoders share: what each frame does alone, then what they do together.

    Inference computes the first part once a frame and the second once a window. Positions (B, N, C) and
    padding (B, N) or None are those of one frame: all frames of a clip have the same size.
    """

    communicates = True
    """Whether :meth:`together` changes anything"""

    def forward(self, tokens: Tensor, positions: Tensor, padding: Tensor | None) -> Encoded:
        """tokens (B, T, N, C) to what the query decoder attends to."""
        return self.together(self.alone(tokens, positions, padding), positions, padding)

    def alone(self, tokens: Tensor, positions: Tensor, padding: Tensor | None) -> Alone:
        """All that a frame's tokens (B, T, N, C) go through before frames communicate."""
        return Alone(tokens, no_memory(tokens))

    def together(self, alone: Alone, positions: Tensor, padding: Tensor | None) -> Encoded:
        """The rest, which needs all frames of a clip."""
        raise TypeError("an encoder defines together")


def encoder_layer(config: ModelConfig) -> EncoderLayer:
    """A layer of the width that the configuration names."""
    return EncoderLayer(config.hidden_dim, config.attention_heads, config.ffn_dim, config.dropout)


def encoder_layers(config: ModelConfig, count: int) -> nn.ModuleList:
    """``count`` of them."""
    return nn.ModuleList(encoder_layer(config) for _ in range(count))


def per_frame(x: Tensor, frames: int) -> Tensor:
    """(B, ...) to (B * T, ...): every frame of a clip gets the clip's own."""
    return x.repeat_interleave(frames, dim=0)


def no_memory(tokens: Tensor) -> Tensor:
    """The memory (B, T, 0, C) of an encoder without memory tokens."""
    batch, frames, _, width = tokens.shape
    return tokens.new_zeros(batch, frames, 0, width)


def without_memory(tokens: Tensor) -> Encoded:
    """Encoded frames of an encoder that has no memory tokens."""
    return Encoded(tokens, no_memory(tokens), tokens.new_zeros(0, tokens.shape[-1]))


class NoComm(Communication):
    """Every frame alone: what a clip model gains from its queries only."""

    communicates = False

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.layers = encoder_layers(config, config.encoder_layers)

    def alone(self, tokens: Tensor, positions: Tensor, padding: Tensor | None) -> Alone:
        """Everything."""
        batch, frames = tokens.shape[:2]
        x = tokens.flatten(0, 1)
        placed = per_frame(positions, frames)
        padded = None if padding is None else per_frame(padding, frames)
        for layer in self.layers:
            x = layer(x, placed, padded)
        return Alone(x.unflatten(0, (batch, frames)), no_memory(tokens))

    def together(self, alone: Alone, positions: Tensor, padding: Tensor | None) -> Encoded:
        """Nothing is left to do."""
        return without_memory(alone.frames)


class FullTHW(Communication):
    """One self-attention over all T*H*W tokens of the clip (VisTR)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.layers = encoder_layers(config, config.encoder_layers)

    def together(self, alone: Alone, positions: Tensor, padding: Tensor | None) -> Encoded:
        """Everything: from the first layer on, each token sees all others."""
        frames = alone.frames.shape[1]
        x = alone.frames.flatten(1, 2)
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

    def alone(self, tokens: Tensor, positions: Tensor, padding: Tensor | None) -> Alone:
        """The first spatial layer."""
        x = self._within_frames(self.spatial[0], tokens, positions, padding)
        return Alone(x, no_memory(tokens))

    def together(self, alone: Alone, positions: Tensor, padding: Tensor | None) -> Encoded:
        """A temporal layer before each further spatial one."""
        x = alone.frames
        for temporal, spatial in zip(self.temporal, self.spatial[1:], strict=True):
            x = self._within_frames(spatial, self._along_time(temporal, x), positions, padding)
        return without_memory(x)

    @staticmethod
    def _within_frames(layer: nn.Module, x: Tensor, positions: Tensor, padding: Tensor | None) -> Tensor:
        batch, frames = x.shape[:2]
        padded = None if padding is None else per_frame(padding, frames)
        y: Tensor = layer(x.flatten(0, 1), per_frame(positions, frames), padded)
        return y.unflatten(0, (batch, frames))  # type: ignore[no-any-return]

    @staticmethod
    def _along_time(layer: nn.Module, x: Tensor) -> Tensor:
        # A padded place is padded in all frames and seen by no other place: no mask is needed.
        column: Tensor = layer(x.transpose(1, 2).flatten(0, 1))
        return column.unflatten(0, (x.shape[0], x.shape[2])).transpose(1, 2)  # type: ignore[no-any-return]


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
        self.communicates = config.memory_tokens > 0

    def alone(self, tokens: Tensor, positions: Tensor, padding: Tensor | None) -> Alone:
        """The first Encode-Receive: it sees the same memory in every window."""
        alone = Alone(tokens, self.memory.expand(*tokens.shape[:2], -1, -1))
        for receive in self.receive if not self.communicates else self.receive[:1]:
            alone = self._encode_receive(receive, alone, positions, padding)
        return alone

    def together(self, alone: Alone, positions: Tensor, padding: Tensor | None) -> Encoded:
        """Gather-Communicate, then Encode-Receive and Gather-Communicate again."""
        frames, memory = alone
        if self.communicates:
            memory = self._gather_communicate(self.communicate[0], memory)
            for receive, communicate in zip(self.receive[1:], self.communicate[1:], strict=True):
                frames, memory = self._encode_receive(receive, Alone(frames, memory), positions, padding)
                memory = self._gather_communicate(communicate, memory)
        return Encoded(frames, memory, self.memory_positions)

    def _encode_receive(
        self, layer: nn.Module, state: Alone, positions: Tensor, padding: Tensor | None
    ) -> Alone:
        """One layer over the tokens and the memory of each frame."""
        batch, frames, places, _ = state.frames.shape
        memory_positions = self.memory_positions.expand(batch * frames, -1, -1)
        placed = torch.cat([per_frame(positions, frames), memory_positions], dim=1)
        padded = None
        if padding is not None:
            seen = padding.new_zeros(batch * frames, len(self.memory))
            padded = torch.cat([per_frame(padding, frames), seen], dim=1)
        joined: Tensor = layer(torch.cat(state, dim=2).flatten(0, 1), placed, padded)
        return Alone(*joined.unflatten(0, (batch, frames)).split([places, len(self.memory)], dim=2))

    def _gather_communicate(self, layer: nn.Module, memory: Tensor) -> Tensor:
        """Self-attention of memory (B, T, M, C) across frames; no positions are added."""
        batch, frames, count, _ = memory.shape
        if self.unified:
            mixed: Tensor = layer(memory.flatten(1, 2))
            return mixed.unflatten(1, (frames, count))  # type: ignore[no-any-return]
        same_token: Tensor = layer(memory.transpose(1, 2).flatten(0, 1))
        return same_token.unflatten(0, (batch, count)).transpose(1, 2)  # type: ignore[no-any-return]


ENCODERS: dict[str, type[Communication]] = {
    "no_comm": NoComm,
    "full_thw": FullTHW,
    "decomp_t_hw": DecompTHW,
    "ifc": IFC,
}


def build_encoder(config: ModelConfig) -> Communication:
    """The encoder that ``config.encoder`` names; its class takes the model config."""
    return ENCODERS[config.encoder](config)
