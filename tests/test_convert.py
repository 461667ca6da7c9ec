"""Conversions between layouts, and the command that makes them."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

from harness.command_line import harness_command
from model import build_model
from model.checkpoint import load_weights, read_weights, save_weights, weights_metadata
from model.convert import convert
from model.implied_config import implied_places
from model.weight_names import own_to_published, published_to_own
from tests.foreign_weights import (
    PUBLISHED_BACKBONE,
    PUBLISHED_LOSS,
    SHAPES,
    hollow,
    hollow_backbone,
    hollow_of,
    on_paper,
    refusal,
    tiny,
    torchvision_file,
    torchvision_weights,
)

pytestmark = pytest.mark.filterwarnings("ignore:.*to a meta parameter:UserWarning")


# ------------------------------------------------------------------------------------------------ conversions

NAMES = st.sampled_from(sorted(SHAPES.keys() - {PUBLISHED_LOSS}))


@given(NAMES, st.integers(0, 40))
def test_published_names_go_there_and_back(name: str, index: int) -> None:
    """Also in deeper models: the first number after a list of layers is any."""
    for start in ("enc_layers.", "bus_layers.", "clip_decoder.layers.", "res4.", "convert_to_weight.layers."):
        head, found, tail = name.partition(start)
        if found:
            name = f"{head}{found}{index}.{tail.partition('.')[2]}"
    own = published_to_own(name)
    assert own != name
    assert own_to_published(own) == name


def test_our_names_are_the_model_s() -> None:
    with torch.device("meta"):
        own = {name: tuple(value.shape) for name, value in build_model({}).state_dict().items()}
    assert {published_to_own(name): shape for name, shape in SHAPES.items() if name != PUBLISHED_LOSS} == own


VALUES = st.lists(st.floats(width=32), min_size=1, max_size=4)  # infinities, nan and -0 as well


def bits(weights: dict[str, Tensor]) -> dict[str, bytes]:
    return {name: value.numpy().tobytes() for name, value in weights.items()}


def published(**changes: Any) -> dict[str, Tensor]:
    """A hollow published model with a small backbone."""
    weights = hollow_of(on_paper(**{"backbone": "resnet18", "memory_tokens": 2, **changes}))
    return {own_to_published(name) or "": value for name, value in weights.items()}


@settings(max_examples=2, deadline=None, phases=[Phase.generate])
@given(st.lists(VALUES, min_size=3, max_size=3), st.integers(1, 90))
def test_conversions_keep_every_bit(tmp_path_factory: Any, values: list[list[float]], classes: int) -> None:
    folder = tmp_path_factory.mktemp("round")
    weights = {
        name: torch.tensor(values[i % 3]).repeat(value.numel())[: value.numel()].view(value.shape)
        for i, (name, value) in enumerate(published(num_classes=classes).items())
    }
    torch.save({"model": weights, "iteration": 5999}, folder / "a.pth")
    convert(folder / "a.pth", folder / "b.safetensors")
    convert(folder / "b.safetensors", folder / "c.pth", "published")
    back = torch.load(folder / "c.pth", weights_only=True)["model"]
    loss = back.pop(PUBLISHED_LOSS)
    assert bits(back) == bits(weights)
    assert loss.tolist() == pytest.approx([1.0] * classes + [0.1])

    backbone = {
        name.removeprefix(PUBLISHED_BACKBONE): value
        for name, value in weights.items()
        if name.startswith(PUBLISHED_BACKBONE)
    }
    for suffix in (".pkl", ".pth"):
        done = convert(folder / "b.safetensors", folder / f"d{suffix}", "detectron2")
        assert (done.entries, len(done.left_out)) == (len(backbone), len(weights) - len(backbone))
        convert(folder / f"d{suffix}", folder / f"e{suffix}.safetensors", "own")
        found = read_weights(folder / f"e{suffix}.safetensors")
        assert bits(found.entries) == bits({f"backbone.{n}": value for n, value in backbone.items()})
        assert (found.kind, found.pixels) == ("backbone", "RGB")


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"encoder_layers": 1, "decoder_layers": 3, "ffn_dim": 24, "hidden_dim": 32, "num_queries": 7},
        {"memory_tokens": 0},
        {"memory_tokens": 5, "mask_weight_layers": 2, "num_classes": 90},
        {"encoder": "no_comm", "backbone": "tiny_deep"},
        {"encoder": "full_thw", "box_head": True},
        {"encoder": "decomp_t_hw", "encoder_layers": 1},
        {"encoder": "decomp_t_hw", "backbone": "resnet50_bgr"},
        {"backbone": "resnet18", "memory_mixing": "unified"},
        {"backbone": "resnet101_rgb"},
    ],
)
def test_entries_imply_their_model(changes: dict[str, Any]) -> None:
    def shapes(entries: dict[str, Tensor]) -> dict[str, tuple[int, ...]]:
        return {name: tuple(value.shape) for name, value in entries.items()}

    weights = on_paper(**changes).state_dict()
    assert shapes(implied_places(weights)) == shapes(weights)
    backbone = {name: value for name, value in weights.items() if name.startswith("backbone.")}
    assert shapes(implied_places(backbone)) == shapes(backbone)


def test_an_incomplete_model_is_not_converted(tmp_path: Path) -> None:
    weights = published()
    for name in [n for n in weights if ".norm." not in n and ".res5." in n][:3]:
        del weights[name]
    del weights["detr.query_embed.weight"]
    weights["detr.input_proj.bias"] = torch.zeros(20)
    weights["encoder.receive.0.more"] = torch.zeros(1)
    path = tmp_path / "broken.pth"
    torch.save({"model": weights}, path)
    message = refusal(lambda: convert(path, tmp_path / "x.safetensors"))
    assert message.startswith(f"{path}: weights of another model: ")
    assert "decoder.queries" in message
    assert "1 extra: encoder.receive.0.more; " in message
    assert " misshapen: class_head.layers.0.bias (16,) for (20,), " in message
    assert [file.name for file in tmp_path.iterdir()] == ["broken.pth"]

    few = torchvision_file("resnet18")
    del few["layer2.1.conv1.weight"]
    torch.save(few, path)
    message = refusal(lambda: convert(path, tmp_path / "x.pkl", "detectron2"))
    assert message == f"{path}: weights of another model: 1 missing: backbone.res3.1.conv1.weight"


def test_sizes_of_no_model_are_refused(tmp_path: Path) -> None:
    weights = hollow(
        {"encoder.memory": (999, 16), "projection.bias": (10**12,), "decoder.layers.999999.x": (1,)}
    )
    torch.save(weights, tmp_path / "odd.pth")
    message = refusal(lambda: convert(tmp_path / "odd.pth", tmp_path / "x.safetensors"))
    assert "sizes of no model here: model config: memory_tokens: 999" in message


def test_a_published_model_without_memory_has_layers_that_never_run(tmp_path: Path) -> None:
    weights = published()
    for name in ("detr.transformer.memory_bus", "detr.transformer.memory_pos"):
        weights[name] = torch.zeros(0, 16)
    loss = {PUBLISHED_LOSS: torch.ones(4), "pixel_mean": torch.zeros(3, 1, 1)}
    torch.save({"model": {**weights, **loss}}, tmp_path / "a.pth")
    done = convert(tmp_path / "a.pth", tmp_path / "b.safetensors")
    dead = {name for name in weights if ".bus_layers." in name}
    assert dead
    assert set(done.left_out) == dead | loss.keys()
    load_weights(on_paper(backbone="resnet18", memory_tokens=0), tmp_path / "b.safetensors")


def test_a_detectron2_pickle_is_what_detectron2_reads(tmp_path: Path) -> None:
    """Arrays below ``model``, an author (without one it is taken for caffe2), matching by ends of names."""
    torch.save(torchvision_file("resnet18"), tmp_path / "tv.pth")
    convert(tmp_path / "tv.pth", tmp_path / "R-18.pkl", "detectron2")
    with (tmp_path / "R-18.pkl").open("rb") as file:
        content = pickle.load(file, encoding="latin1")
    assert set(content["model"]) == set(hollow_backbone("resnet18"))
    assert all(isinstance(value, np.ndarray) for value in content["model"].values())
    assert content["__author__"] not in ("", "Caffe2")
    assert content["matching_heuristics"] is True


def test_conversion_of_our_own_keeps_the_header(tmp_path: Path) -> None:
    save_weights(tiny(), tmp_path / "a.safetensors", {"identity": "abc"})
    convert(tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    assert weights_metadata(tmp_path / "b.safetensors") == {"identity": "abc"}


@pytest.mark.parametrize(
    ("source", "target", "layout", "fragment"),
    [
        ("tv.pth", "x.pth", "published", "tv.pth: a backbone alone; layout published holds whole models"),
        ("tiny.safetensors", "x.pth", "published", "the published model has no backbone.levels.0."),
        ("tiny.safetensors", "x.pkl", "detectron2", "no ResNet backbone, which layout detectron2 holds: "),
        ("full.safetensors", "x.pth", "published", "the published model has no encoder.layers.0."),
        ("boxes.safetensors", "x.pth", "published", "the published model has no box_head.bias"),
        ("headless.safetensors", "x.pth", "published", "headless.safetensors: no class head"),
        ("headless.safetensors", "x.pkl", "detectron2", "no ResNet backbone, which layout detectron2 holds"),
        ("half.safetensors", "x.pkl", "detectron2", "numpy has no bfloat16"),
        ("foreign.pth", "x.safetensors", "own", "1 entries of no known layout: vgg.weight"),
        ("strange.pth", "x.safetensors", "own", "1 entries of no known layout: layer1.0.se.weight"),
        ("tv.pth", "x.pth", None, "--layout: not given, and {folder}/x.pth does not tell it; allowed: own, "),
        ("tv.pth", "x.pth", "caffe2", "--layout: 'caffe2': allowed: own, published, detectron2"),
        ("tv.pth", "x.pth", "own", "x.pth: layout own is written as .safetensors"),
        ("tv.pth", "x.safetensors", "detectron2", "layout detectron2 is written as .pkl or .pth"),
        ("tv.pth", "tv.pth", "detectron2", "tv.pth: exists already; choose another name, or --force"),
        ("tv.pth", "no/x.pth", "detectron2", "no/x.pth: there is no folder {folder}/no"),
        ("absent.pth", "x.safetensors", None, "absent.pth: no such weights file"),
    ],
)
def test_conversions_that_are_refused(
    source: str, target: str, layout: str | None, fragment: str, tmp_path: Path
) -> None:
    torch.save({"conv1.weight": torch.zeros(1), "layer1.0.conv1.weight": torch.zeros(1)}, tmp_path / "tv.pth")
    torch.save({"vgg.weight": torch.zeros(1)}, tmp_path / "foreign.pth")
    torch.save({"layer1.0.se.weight": torch.zeros(1)}, tmp_path / "strange.pth")
    names = {
        "tiny": tiny().state_dict(),
        "full": {"encoder.layers.0.norm.weight": torch.zeros(2), "class_head.layers.1.bias": torch.zeros(2)},
        "boxes": {"box_head.bias": torch.zeros(2), "class_head.layers.1.bias": torch.zeros(2)},
        "headless": {"projection.bias": torch.zeros(2)},
        "half": {"backbone.stem.conv1.weight": torch.zeros(2, dtype=torch.bfloat16)},
    }
    for name, weights in names.items():
        save_file(weights, tmp_path / f"{name}.safetensors")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    message = refusal(lambda: convert(tmp_path / source, tmp_path / target, layout))
    assert fragment.format(folder=tmp_path) in message
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_failed_write_leaves_the_target_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(*args: Any, **kwargs: Any) -> None:
        Path(args[1]).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    torch.save({"model": hollow_backbone("resnet18")}, tmp_path / "a.pth")
    (tmp_path / "b.pth").write_bytes(b"mine")
    monkeypatch.setattr("model.weight_files.torch.save", full_disk)
    message = refusal(lambda: convert(tmp_path / "a.pth", tmp_path / "b.pth", "detectron2", force=True))
    assert "b.pth: cannot be written ([Errno 28] No space left on device)" in message
    assert (tmp_path / "b.pth").read_bytes() == b"mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.pth", "b.pth"]


@pytest.mark.parametrize("backbone", ["resnet101", "resnet101_rgb"])
@pytest.mark.parametrize("layout", ["own", "published", "detectron2"])
def test_converted_files_remember_their_pixels(backbone: str, layout: str, tmp_path: Path) -> None:
    own, target = tmp_path / "own.pt", tmp_path / "target"
    model = on_paper(backbone=backbone, memory_tokens=2)
    order = model.backbone.pixels.order
    torch.save({"model": hollow_of(model), "pixels": order}, own)
    target = target.with_suffix(".safetensors" if layout == "own" else ".pth")
    assert convert(own, target, layout).pixels == order
    assert read_weights(target).pixels == order


def test_unknown_pixels_stay_unknown(tmp_path: Path) -> None:
    """A training checkpoint does not tell, so what is made of it must not pretend to."""
    source = tmp_path / "checkpoint.pt"
    torch.save({"model": hollow_of(on_paper(backbone="resnet101_rgb", memory_tokens=2)), "step": 5}, source)
    assert convert(source, tmp_path / "published.pth", "published").pixels is None
    for backbone in ("resnet101", "resnet101_rgb"):
        load_weights(on_paper(backbone=backbone, memory_tokens=2), tmp_path / "published.pth")


# ------------------------------------------------------------------------------------------------ the command


def run_convert(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[object, str, str]:
    with pytest.raises(SystemExit) as ended:
        harness_command(["convert", *arguments])
    printed = capsys.readouterr()
    return ended.value.code, printed.out, printed.err


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, own, back = tmp_path / "r18.pth", tmp_path / "r18.safetensors", tmp_path / "r18.pkl"
    torch.save(torchvision_weights("resnet18"), source)
    left = ", ".join(["bn1.num_batches_tracked", "fc.bias", "fc.weight"])
    left += "".join(f", layer1.{block}.bn{index}.num_batches_tracked" for block in (0, 1) for index in (1, 2))
    left += ", layer2.0.bn1.num_batches_tracked and 14 more"
    line = f"{own}: 100 entries, backbone for RGB pixels; 22 entries left out: {left}\n"
    done = (0, line, "")
    assert run_convert([str(source), str(own)], capsys) == done
    status, out, err = run_convert([str(source), str(own)], capsys)
    assert (status, out) == (2, "")
    assert err == f"error: {own}: exists already; choose another name, or --force to replace a file\n"
    assert run_convert([str(source), str(own), "--force"], capsys) == done
    assert run_convert([str(own), str(back), "--layout", "detectron2"], capsys)[0] == 0
    model = tiny(backbone="resnet18")
    load_weights(model, back)
    assert torch.equal(model.backbone.stem.conv1.weight, torch.load(source)["conv1.weight"])  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "arguments", [[], ["convert"], ["convert", "a"], ["konvert"], ["convert", "a", "b", "c"]]
)
def test_bad_arguments_of_the_command(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        harness_command(arguments)
    assert ended.value.code == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")


def test_help_needs_no_torch() -> None:
    script = (
        "import runpy, sys\n"
        "sys.argv = ['harness', 'convert', '--help']\n"
        "try:\n    runpy.run_module('harness', run_name='__main__')\n"
        "except SystemExit as ended:\n    assert not ended.code\n"
        "print('LOADED', {'torch', 'numpy', 'pandas'} & set(sys.modules))\n"
    )
    root = Path(__file__).resolve().parent.parent
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=root, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "--layout" in done.stdout
    assert done.stdout.splitlines()[-1] == "LOADED set()"
