"""Table 1: counted from the modules, held against the paper's digits and against closed formulas."""

from __future__ import annotations

import math
from importlib.resources import files

import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from harness.flops import count_encoder
from model import communication
from model.communication import Communication, Encoded, without_memory
from model.config import ModelConfig

PAPER = yaml.safe_load(files("harness").joinpath("paper.yaml").read_text())["table1_encoder_flops_g"]
CELLS = [
    (encoder, size, frames, number)
    for size in ("360x640", "720x1280")
    for frames in (5, 36)
    for encoder, number in PAPER[f"resolution_{size}"][f"T={frames}"].items()
]


@pytest.mark.parametrize(("encoder", "size", "frames", "printed"), CELLS)
def test_every_cell_of_table_1(encoder: str, size: str, frames: int, printed: float) -> None:
    height, width = map(int, size.split("x"))
    config = ModelConfig(encoder=encoder.removesuffix("_m8"))
    found = count_encoder(config, (height, width), frames)
    assert f"{found / 1e9:.2f}" == f"{printed:.2f}"


def layer(tokens: int, keys: int, C: int, F: int) -> int:
    """One encoder layer: four projections, two attention products, the FFN, 5 an element of two norms."""
    return tokens * (4 * C * C + 2 * keys * C + 2 * C * F) + 2 * 5 * tokens * C


def formula(config: ModelConfig, T: int, N: int) -> int:
    """Closed count of the encoders, as Table 1's complexities have it."""
    C, F, depth, M = config.hidden_dim, config.ffn_dim, config.encoder_layers, config.memory_tokens
    if config.encoder == "no_comm":
        return depth * T * layer(N, N, C, F)
    if config.encoder == "full_thw":
        return depth * layer(T * N, T * N, C, F)
    if config.encoder == "decomp_t_hw":
        return depth * T * layer(N, N, C, F) + (depth - 1) * N * layer(T, T, C, F)
    mixed = layer(M * T, M * T, C, F) if config.memory_mixing == "unified" else M * layer(T, T, C, F)
    return depth * (T * layer(N + M, N + M, C, F) + mixed)


@given(
    encoder=st.sampled_from(sorted(communication.ENCODERS)),
    mixing=st.sampled_from(["unified", "decomposed"]),
    M=st.integers(1, 16),
    depth=st.integers(1, 4),
    T=st.integers(1, 40),
    height=st.integers(16, 900),
    width=st.integers(16, 1400),
    heads=st.sampled_from([1, 4, 8]),
)
@settings(max_examples=25, deadline=None)
def test_counts_are_the_closed_formulas(
    encoder: str, mixing: str, M: int, depth: int, T: int, height: int, width: int, heads: int
) -> None:
    config = ModelConfig.model_validate(
        {
            "encoder": encoder,
            "memory_mixing": mixing,
            "memory_tokens": M,
            "encoder_layers": depth,
            "hidden_dim": 64,
            "ffn_dim": 96,
            "attention_heads": heads,
        }
    )
    places = math.ceil(height / 32) * math.ceil(width / 32)
    assert count_encoder(config, (height, width), T) == formula(config, T, places)


def test_a_new_encoder_is_counted_too(monkeypatch: pytest.MonkeyPatch) -> None:
    class Mean(Communication):
        """A convolution and a product: nothing that the counter was told about."""

        def __init__(self, config: ModelConfig) -> None:
            super().__init__()
            self.mix = nn.Conv1d(config.hidden_dim, config.hidden_dim, 1)

        def forward(self, tokens: Tensor, positions: Tensor, padding: Tensor | None) -> Encoded:
            mixed = self.mix(tokens.flatten(0, 1).transpose(1, 2)).transpose(1, 2)
            return without_memory(mixed.view_as(tokens))

    monkeypatch.setitem(communication.ENCODERS, "mean", Mean)
    config = ModelConfig.model_validate({"encoder": "mean", "hidden_dim": 64})
    assert count_encoder(config, (64, 96), 5) == 5 * 2 * 3 * 64 * 64


def test_counting_holds_no_numbers() -> None:
    """720x1280 with T=36 attends 33,120 tokens to each other: 35 GB of weights if they were made."""
    before = torch.get_default_device()
    assert count_encoder(ModelConfig(encoder="full_thw"), (720, 1280), 36) > 1e12
    assert torch.get_default_device() == before
