"""The clip model: shapes, gradients, who hears whom, padding, configuration."""

from __future__ import annotations

import math
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from model import InputError, ModelConfig, build_model
from model.backbone import build_backbone
from model.box_head import BoxHead
from model.clip_model import ClipModel
from model.communication import ENCODERS, Alone, Communication, Encoded, build_encoder, without_memory
from model.config import encoder_names
from model.fixed_convolution import DoubledConv
from model.inference import segment_video
from model.positions import sine_positions
from model.shared_spatial_decoder import SharedSpatialDecoder

ROOT = Path(__file__).parents[1]
TINY: dict[str, Any] = {
    "backbone": "tiny",
    "memory_tokens": 3,
    "num_classes": 4,
    "num_queries": 5,
    "hidden_dim": 16,
    "attention_heads": 2,
    "ffn_dim": 24,
}
every_encoder = pytest.mark.parametrize("encoder", list(ENCODERS))


def tiny(seed: int = 0, **keys: Any) -> ClipModel:
    torch.manual_seed(seed)
    return build_model({**TINY, **keys}).eval()


def encoder_of(seed: int = 0, **keys: Any) -> Communication:
    torch.manual_seed(seed)
    return build_encoder(ModelConfig(**{**TINY, **keys})).eval()


def video(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)


def tokens(batch: int, frames: int, places: int) -> tuple[Tensor, Tensor]:
    """Random tokens (B, T, N, C) and positions (B, N, C)."""
    generator = torch.Generator().manual_seed(1)
    return (
        torch.randn(batch, frames, places, 16, generator=generator),
        torch.randn(batch, places, 16, generator=generator),
    )


def assert_close(found: dict[str, Any], wanted: dict[str, Any]) -> None:
    for key in ("pred_logits", "pred_masks"):
        torch.testing.assert_close(found[key], wanted[key], rtol=1e-4, atol=1e-5)
    for one, other in zip(found["aux_outputs"], wanted["aux_outputs"], strict=True):
        assert_close({**one, "aux_outputs": []}, {**other, "aux_outputs": []})


@every_encoder
@pytest.mark.parametrize(("frames", "height", "width"), [(3, 32, 48), (1, 16, 16), (2, 37, 51), (2, 5, 90)])
@torch.no_grad()
def test_output_shapes(encoder: str, frames: int, height: int, width: int) -> None:
    out = tiny(encoder=encoder)(video(2, frames, 3, height, width))
    layers = [*out["aux_outputs"], out]
    assert len(layers) == 3
    for layer in layers:  # tiny halves all strides: masks at 4
        assert layer["pred_logits"].shape == (2, 5, 4 + 1)
        assert layer["pred_masks"].shape == (2, 5, frames, math.ceil(height / 4), math.ceil(width / 4))
        assert layer["pred_logits"].isfinite().all()
        assert layer["pred_masks"].isfinite().all()


@pytest.mark.parametrize("backbone", ["resnet18", "resnet50"])
@pytest.mark.parametrize(("height", "width"), [(64, 64), (50, 67)])
@torch.no_grad()
def test_masks_of_a_resnet_are_an_eighth_rounded_up(backbone: str, height: int, width: int) -> None:
    out = tiny(backbone=backbone)(video(1, 2, 3, height, width))
    assert out["pred_masks"].shape == (1, 5, 2, math.ceil(height / 8), math.ceil(width / 8))


@torch.no_grad()
def test_pyramids_have_the_strides_and_channels_they_name() -> None:
    for name in ("tiny", "resnet18"):
        backbone = build_backbone(name)
        maps = backbone(torch.zeros(1, 3, 45, 77))
        levels = zip(backbone.channels, backbone.strides, strict=True)
        sizes = [(channels, math.ceil(45 / s), math.ceil(77 / s)) for channels, s in levels]
        assert [tuple(m.shape[1:]) for m in maps] == sizes


def test_resnet101_takes_bgr_and_strides_in_the_first_convolution() -> None:
    backbone = build_backbone("resnet101")
    assert (backbone.pixels.order, backbone.pixels.mean) == ("BGR", (103.53, 116.28, 123.675))
    block = backbone.get_submodule("res3.0")
    assert (block.conv1.stride, block.conv2.stride) == ((2, 2), (1, 1))
    block = build_backbone("resnet50").get_submodule("res3.0")
    assert (block.conv1.stride, block.conv2.stride) == ((1, 1), (2, 2))


@every_encoder
def test_gradients_reach_every_parameter(encoder: str) -> None:
    model = tiny(encoder=encoder).train()
    with torch.no_grad():  # zero biases hide some paths from the first gradient
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    out = model(video(2, 3, 3, 32, 48))
    layers = [*out["aux_outputs"], out]
    sum((x["pred_logits"] ** 2).sum() + (x["pred_masks"] ** 2).sum() for x in layers).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        # Zero targets: the first self-attention averages equal values, as in DETR.
        assert parameter.grad.any() or name == "decoder.layers.0.self_attention.in_proj_weight", name


@every_encoder
@torch.no_grad()
def test_the_seed_decides_the_model(encoder: str) -> None:
    one, same, other = (tiny(seed, encoder=encoder).state_dict() for seed in (3, 3, 4))
    assert one.keys() == same.keys()
    assert all(torch.equal(value, same[name]) for name, value in one.items())
    assert not torch.equal(one["decoder.queries"], other["decoder.queries"])


@torch.no_grad()
def test_float_and_uint8_frames_agree() -> None:
    model, frames = tiny(), video(1, 2, 3, 32, 48)
    assert_close(model(frames.float()), model(frames))


@pytest.mark.parametrize("shape", [(2, 3, 32, 48), (1, 2, 4, 32, 48)])
def test_frames_of_another_layout_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="frames must be"):
        tiny()(video(*shape))


@every_encoder
@torch.no_grad()
def test_frames_hear_each_other_in_every_encoder_but_no_comm(encoder: str) -> None:
    module = encoder_of(encoder=encoder)
    x, positions = tokens(1, 4, 6)
    changed = x.clone()
    changed[:, 0] += 1
    before, after = module(x, positions, None).frames, module(changed, positions, None).frames
    heard = not torch.allclose(before[:, 1:], after[:, 1:], atol=1e-6)
    assert heard == (encoder != "no_comm")
    assert not torch.allclose(before[:, 0], after[:, 0], atol=1e-3)


@every_encoder
@torch.no_grad()
def test_a_clip_alone_equals_the_clip_in_a_batch(encoder: str) -> None:
    model, frames = tiny(encoder=encoder), video(3, 2, 3, 32, 48)
    batch, alone = model(frames), model(frames[1:2])
    for key in ("pred_logits", "pred_masks"):
        torch.testing.assert_close(batch[key][1:2], alone[key], rtol=1e-4, atol=1e-5)


@every_encoder
@torch.no_grad()
def test_encoder_and_decoder_ignore_padded_tokens(encoder: str) -> None:
    model = tiny(encoder=encoder, memory_tokens=2)
    x, positions = tokens(2, 3, 10)
    padding = torch.zeros(2, 10, dtype=torch.bool)
    padding[:, 7:] = True
    inside = model.encoder(x[:, :, :7], positions[:, :7], None)
    padded = model.encoder(x, positions, padding)
    torch.testing.assert_close(padded.frames[:, :, :7], inside.frames, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(padded.memory, inside.memory, rtol=1e-4, atol=1e-5)
    wanted = model.decoder(inside, positions[:, :7], None)
    found = model.decoder(padded, positions, padding)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_positions_of_a_padded_frame_are_those_without_padding() -> None:
    padding = torch.ones(2, 6, 8, dtype=torch.bool)
    padding[0, :4, :5] = False
    padding[1] = False
    found = sine_positions(padding, 16)
    torch.testing.assert_close(found[0, :4, :5], sine_positions(torch.zeros(1, 4, 5) > 0, 16)[0])
    torch.testing.assert_close(found[1], sine_positions(torch.zeros(1, 6, 8) > 0, 16)[0])
    assert len({tuple(row) for row in found[1].reshape(-1, 16).tolist()}) == 48  # all places differ
    rows, columns = found[1, ..., :8], found[1, ..., 8:]
    assert all(torch.equal(one, other) for one, other in pairwise(rows.unbind(1)))  # y first, then x
    assert all(torch.equal(one, other) for one, other in pairwise(columns.unbind(0)))


@every_encoder
@torch.no_grad()
def test_what_lies_in_the_padding_does_not_matter(encoder: str) -> None:
    model, frames = tiny(encoder=encoder), video(2, 2, 3, 48, 64)
    padding = torch.zeros(2, 48, 64, dtype=torch.bool)
    padding[0, 32:], padding[0, :, 40:] = True, True
    garbage = frames.clone()
    garbage[0, :, :, 32:] = 255
    garbage[0, :, :, :, 40:] = 7
    assert_close(model(garbage, padding), model(frames, padding))
    garbage[0, :, :, :8] = 0
    found, wanted = model(garbage, padding), model(frames, padding)
    assert not torch.allclose(found["pred_logits"][0], wanted["pred_logits"][0])


@torch.no_grad()
def test_an_unpadded_clip_beside_a_padded_one_is_as_without_padding() -> None:
    model, frames = tiny(), video(2, 2, 3, 32, 48)
    padding = torch.zeros(2, 32, 48, dtype=torch.bool)
    padding[0, :, 16:] = True
    found, wanted = model(frames, padding), model(frames)
    torch.testing.assert_close(found["pred_masks"][1], wanted["pred_masks"][1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("height", "width"), [(17, 33), (30, 46), (16, 32)])
@torch.no_grad()
def test_a_padded_clip_counts_the_token_cells_it_has_alone(height: int, width: int) -> None:
    """What lies in the padding's own cells does not count, what lies in a half-filled cell does."""
    model, frames = tiny(), video(1, 2, 3, 41, 59)
    padding = torch.ones(1, 41, 59, dtype=torch.bool)
    padding[:, :height, :width] = False
    rows, columns = -(-height // 16), -(-width // 16)
    outside = torch.ones(1, 3, 4, dtype=torch.bool)
    outside[:, :rows, :columns] = False
    assert torch.equal(model.frame_features(frames, padding).padding, outside.flatten(1))


@pytest.mark.parametrize("mixing", ["decomposed", "unified"])
@pytest.mark.parametrize("memory", [0, 1, 3])
@torch.no_grad()
def test_ifc_with_any_number_of_memory_tokens(memory: int, mixing: str) -> None:
    module = encoder_of(encoder="ifc", memory_tokens=memory, memory_mixing=mixing)
    x, positions = tokens(2, 3, 6)
    out = module(x, positions, None)
    assert out.frames.shape == (2, 3, 6, 16)
    assert out.memory.shape == (2, 3, memory, 16)
    assert out.memory_positions.shape == (memory, 16)
    if memory == 0:  # nothing is left to communicate with
        alone = encoder_of(encoder="no_comm")
        alone.layers.load_state_dict(module.receive.state_dict())
        torch.testing.assert_close(out.frames, alone(x, positions, None).frames)


@pytest.mark.parametrize("memory", [1, 3])
@torch.no_grad()
def test_unified_equals_decomposed_for_one_memory_token_only(memory: int) -> None:
    decomposed = encoder_of(memory_tokens=memory, memory_mixing="decomposed")
    unified = encoder_of(memory_tokens=memory, memory_mixing="unified")
    unified.load_state_dict(decomposed.state_dict())
    x, positions = tokens(1, 4, 6)
    one, other = decomposed(x, positions, None), unified(x, positions, None)
    assert torch.allclose(one.frames, other.frames, atol=1e-5) == (memory == 1)


# ------------------------------------------------------------------------------------------------- boxes


@every_encoder
@pytest.mark.parametrize(("frames", "height", "width"), [(3, 32, 48), (1, 16, 16), (2, 37, 51)])
@torch.no_grad()
def test_boxes_of_every_query_layer_and_frame(encoder: str, frames: int, height: int, width: int) -> None:
    model = tiny(encoder=encoder, box_head=True)
    out = model(video(2, frames, 3, height, width))
    for layer in (out, *out["aux_outputs"]):
        assert layer["pred_boxes"].shape == (2, 5, frames, 4)
        assert ((layer["pred_boxes"] > 0) & (layer["pred_boxes"] < 1)).all()


@every_encoder
@torch.no_grad()
def test_a_box_head_changes_nothing_else(encoder: str) -> None:
    with_boxes = tiny(7, encoder=encoder, box_head=True)
    plain = tiny(7, encoder=encoder)
    after = torch.rand(1)
    assert torch.equal(after, (tiny(7, encoder=encoder, box_head=False), torch.rand(1))[1])
    own = with_boxes.state_dict()
    assert [name for name in own if not name.startswith("box_head.")] == [*plain.state_dict()]
    assert all(torch.equal(own[name], value) for name, value in plain.state_dict().items())
    found, wanted = with_boxes(video(1, 2, 3, 32, 48)), plain(video(1, 2, 3, 32, 48))
    assert found.keys() - wanted.keys() == {"pred_boxes"}
    assert all(torch.equal(found[key], wanted[key]) for key in ("pred_logits", "pred_masks"))


def test_inference_never_runs_the_box_head(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any) -> Tensor:
        raise AssertionError("boxes are for training")

    model = tiny(box_head=True)
    monkeypatch.setattr(BoxHead, "forward", refuse)
    segment_video(model, video(5, 3, 32, 48), 3, 1, (32, 48))


@torch.no_grad()
def test_boxes_of_a_frame_come_from_query_and_frame_alone() -> None:
    torch.manual_seed(0)
    head = BoxHead(ModelConfig(**TINY)).eval()
    (x, positions), queries = tokens(2, 5, 6), torch.randn(2, 4, 16)
    whole = head(queries, x, positions, None)
    for chosen in ([0], [1, 4], [4, 3, 2, 1, 0], [2] * 36):
        torch.testing.assert_close(head(queries, x[:, chosen], positions, None), whole[:, :, chosen])
    torch.testing.assert_close(head(queries[:, 1:3], x, positions, None), whole[:, 1:3])
    torch.testing.assert_close(head(queries[1:], x[1:], positions[1:], None), whole[1:])
    assert not torch.allclose(whole[:, :, 0], whole[:, :, 1], atol=1e-3), "frames differ, boxes do"
    moved = head(queries, x, positions.flip(1), None)
    assert not torch.allclose(moved, whole, atol=1e-3), "and where the tokens are matters"
    blank = [head(queries, torch.zeros_like(x), places, None) for places in (positions, positions + 1)]
    assert not torch.allclose(*blank, atol=1e-3), "even if they are all the same"


@every_encoder
@torch.no_grad()
def test_a_padded_clip_has_the_boxes_it_has_unpadded(encoder: str) -> None:
    model = tiny(encoder=encoder, box_head=True)
    small, large = video(2, 3, 3, 32, 48), video(2, 3, 3, 48, 64, seed=1)
    padding = torch.zeros(2, 48, 64, dtype=torch.bool)
    padding[:, 32:], padding[:, :, 48:] = True, True
    wanted = model(small)
    # The backbone's own norms see the padding; what follows it must not.
    garbage = model.backbone(large.flatten(0, 1).float())
    inside = model.backbone(((small.float() - model.pixel_mean) / model.pixel_std).flatten(0, 1))
    for part, whole in zip(inside, garbage, strict=True):
        whole[..., : part.shape[-2], : part.shape[-1]] = part
    model.backbone.forward = lambda frames: garbage
    found, seen = model(large, padding), model(large)
    for one, other in zip((found, *found["aux_outputs"]), (wanted, *wanted["aux_outputs"]), strict=True):
        torch.testing.assert_close(one["pred_boxes"], other["pred_boxes"], rtol=0, atol=1e-4)
    assert not torch.allclose(seen["pred_boxes"], wanted["pred_boxes"], atol=1e-3)


class Shout(Communication):
    """Adds the clip's mean to every token."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.loudness = torch.nn.Parameter(torch.ones(config.hidden_dim))

    def together(self, alone: Alone, positions: Tensor, padding: Tensor | None) -> Encoded:
        return without_memory(alone.frames + self.loudness * alone.frames.mean((1, 2), keepdim=True))


def test_a_new_variant_needs_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="encoder"):
        tiny(encoder="shout")
    monkeypatch.setitem(ENCODERS, "shout", Shout)
    model = tiny(encoder="shout")
    model(video(1, 2, 3, 32, 48))["pred_masks"].sum().backward()
    assert model.encoder.loudness.grad is not None


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("memory_token", 3, "did you mean 'memory_tokens'?"),
        ("encoder", "ifcc", "allowed: no_comm, full_thw, decomp_t_hw, ifc"),
        ("backbone", "resnet34", "'resnet50'"),
        ("memory_mixing", "both", "'unified'"),
        ("memory_tokens", -1, "greater than or equal to 0"),
        ("num_queries", 0, "greater than or equal to 1"),
        ("num_classes", "40", "integer"),
        ("hidden_dim", 18, "multiple of 4"),
        ("attention_heads", 3, "attention_heads"),
        ("dropout", 1.0, "less than 1"),
        ("box_head", 1, "boolean"),
    ],
)
def test_impossible_configs_are_named_in_one_line(key: str, value: object, allowed: str) -> None:
    with pytest.raises(InputError) as caught:
        build_model({**TINY, key: value})
    message = str(caught.value)
    assert key in message
    assert allowed in message
    assert "\n" not in message


def test_encoder_names_from_source_are_the_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "model.communication")
    assert encoder_names() == tuple(ENCODERS)


def test_configuring_does_not_import_torch() -> None:
    code = "import sys, model; model.ModelConfig(encoder='ifc'); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


# --------------------------------------------------------------------------- what windows share


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 1), st.integers(0, 1), st.integers(1, 2))
@torch.no_grad()
def test_a_doubled_maps_convolution_is_computed_from_the_small_one(
    height: int, width: int, odd_height: int, odd_width: int, count: int
) -> None:
    torch.manual_seed(0)
    size = torch.Size((2 * height - odd_height, 2 * width - odd_width))
    x, weight = torch.randn(count, 3, height, width), torch.randn(5, 3, 3, 3)
    wanted = F.conv2d(F.interpolate(x, size=size, mode="nearest"), weight, padding=1)
    torch.testing.assert_close(DoubledConv(weight)(x, size), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("height", "width"), [(48, 64), (50, 75), (16, 16), (17, 100)])
@torch.no_grad()
def test_the_shared_spatial_decoder_is_the_spatial_decoder(height: int, width: int) -> None:
    model = tiny()
    shared = SharedSpatialDecoder(model.spatial_decoder)
    frames = video(1, 2, 3, height, width)
    one, other = (model.clip(model.frame_features(frames, spatial_decoder=d)) for d in (None, shared))
    torch.testing.assert_close(one["pred_masks"], other["pred_masks"], rtol=1e-4, atol=1e-5)
