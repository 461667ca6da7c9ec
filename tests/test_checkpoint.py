"""Weights in and out: every layout, what does not fit, files that would run code."""

from __future__ import annotations

import fractions
import json
import os
import pickle
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from model import build_model
from model.backbone import build_backbone
from model.checkpoint import initialise, load_weights, read_weights, save_weights
from model.clip_model import ClipModel
from model.convert import convert
from model.weight_names import own_to_published
from tests.foreign_weights import (
    SHAPES,
    TINY,
    caffe2_blobs,
    caffe2_pyramid,
    hollow,
    hollow_backbone,
    hollow_of,
    on_paper,
    refusal,
    tiny,
    torchvision_file,
    torchvision_pyramid,
    torchvision_weights,
    write_python2_pickle,
)

pytestmark = pytest.mark.filterwarnings("ignore:.*to a meta parameter:UserWarning")


def snapshot(model: ClipModel) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def assert_refused(model: ClipModel, path: Path, *fragments: str) -> None:
    """One line that names the file and holds the fragments; the model is as it was."""
    before = snapshot(model)
    message = refusal(lambda: load_weights(model, path))
    for fragment in (str(path), *fragments):
        assert fragment in message, message
    after = model.state_dict()
    assert all(value.is_meta or torch.equal(after[name], value) for name, value in before.items())


# ---------------------------------------------------------------------- foreign layouts, by what they compute


@torch.no_grad()
def pyramid_of(model: ClipModel, frames: Tensor) -> list[Tensor]:
    """What the backbone makes of frames (N, 3, H0, W0), RGB 0..255, in the model's own pipeline."""
    caught: list[list[Tensor]] = []
    hook = model.backbone.register_forward_hook(lambda *call: caught.append(call[2]))
    model.frame_features(frames[:, None])
    hook.remove()
    return caught[0]


def assert_same_pyramids(found: list[Tensor], expected: list[Tensor]) -> None:
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.shape == theirs.shape
        assert float((ours - theirs).abs().max() / theirs.abs().max()) <= 1e-5


RGB_MEAN = torch.tensor([123.675, 116.28, 103.53])[:, None, None]
RGB_STD = torch.tensor([58.395, 57.12, 57.375])[:, None, None]


@pytest.mark.parametrize(("depth", "suffix"), [("resnet18", ".safetensors"), ("resnet50", ".pth")])
def test_torchvision_weights_compute_the_same(depth: str, suffix: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    weights = torchvision_weights(depth)
    path = tmp_path / f"resnet{suffix}"
    if suffix == ".pth":
        torch.save({name: torch.nn.Parameter(v, v.is_floating_point()) for name, v in weights.items()}, path)
    else:
        save_file(weights, path)
    frames = torch.randint(0, 256, (2, 3, 32, 40)).float()
    model = tiny(backbone=depth)
    head = model.projection.weight.clone()
    load_weights(model, path)
    expected = torchvision_pyramid((frames - RGB_MEAN) / RGB_STD, depth, weights)
    assert_same_pyramids(pyramid_of(model, frames), expected)
    assert torch.equal(model.projection.weight, head)


@pytest.mark.parametrize(
    ("depth", "backbone", "merged"), [("resnet50", "resnet50_bgr", True), ("resnet101", "resnet101", False)]
)
def test_msra_weights_compute_the_same(depth: str, backbone: str, merged: bool, tmp_path: Path) -> None:
    torch.manual_seed(2)
    blobs = caffe2_blobs(depth, merged)
    path = tmp_path / f"{depth}.pkl"
    write_python2_pickle({"blobs": blobs} if merged else blobs, path)
    frames = torch.randint(0, 256, (2, 3, 32, 40)).float()
    model = tiny(backbone=backbone)
    load_weights(model, path)
    expected = caffe2_pyramid((frames - RGB_MEAN).flip(1), depth, blobs, merged)
    assert_same_pyramids(pyramid_of(model, frames), expected)


def test_merged_norms_are_scale_and_bias(tmp_path: Path) -> None:
    scale, bias = torch.rand(64) * 3, torch.randn(64)
    blobs = {"conv1_w": torch.zeros(64, 3, 7, 7), "res_conv1_bn_s": scale, "res_conv1_bn_b": bias}
    write_python2_pickle({name: value.numpy() for name, value in blobs.items()}, tmp_path / "stem.pkl")
    found = read_weights(tmp_path / "stem.pkl").entries
    norm = build_backbone("resnet18").stem.conv1.norm  # type: ignore[union-attr]
    norm.load_state_dict({part: found[f"backbone.stem.conv1.norm.{part}"] for part in norm.state_dict()})
    x = torch.randn(5, 64, 3, 3)
    torch.testing.assert_close(norm(x), x * scale[:, None, None] + bias[:, None, None], rtol=1e-6, atol=1e-6)
    x.requires_grad_()
    assert torch.equal(norm(x), x * scale[:, None, None] + bias[:, None, None]), "no rounding in training"


# ------------------------------------------------------------------------------------ weights of other pixels


def published_weights(backbone: str) -> dict[str, Tensor]:
    """A hollow checkpoint of a whole small model."""
    found = hollow_of(on_paper(backbone=backbone, memory_tokens=2))
    return {own_to_published(name) or "": value for name, value in found.items()}


@pytest.mark.parametrize(
    ("make", "right", "wrong"),
    [
        (lambda: torchvision_file("resnet50"), "resnet50", "resnet50_bgr"),
        (lambda: torchvision_file("resnet101"), "resnet101_rgb", "resnet101"),
        (
            lambda: {"model": hollow_backbone("resnet50"), "__author__": "torchvision"},
            "resnet50",
            "resnet50_bgr",
        ),
        (lambda: {"model": hollow_backbone("resnet101"), "__author__": "MSRA"}, "resnet101", "resnet101_rgb"),
        (lambda: {"model": published_weights("resnet50")}, "resnet50", "resnet50_bgr"),
        (lambda: {"model": published_weights("resnet101")}, "resnet101", "resnet101_rgb"),
    ],
    ids=["tv50", "tv101", "d2 torchvision", "d2 msra", "published50", "published101"],
)
def test_weights_for_other_pixels_are_refused(
    make: Callable[[], Any], right: str, wrong: str, tmp_path: Path
) -> None:
    path = tmp_path / "weights.pth"
    torch.save(make(), path)
    load_weights(on_paper(backbone=right, memory_tokens=2), path)
    model = on_paper(backbone=wrong, memory_tokens=2)
    order = "RGB" if right in ("resnet50", "resnet101_rgb") else "BGR"
    place = "3x3" if order == "RGB" else "1x1"
    kind = f"its backbone is of {'torchvision' if order == 'RGB' else 'MSRA'}'s kind ({order} pixels, "
    assert_refused(model, path, f"{kind}stride in the {place})", "backbones of the file's kind: ", right)
    assert kind in refusal(lambda: initialise(model, path))


def test_half_of_the_statistics_is_not_filled_up(tmp_path: Path) -> None:
    path = tmp_path / "R.pkl"
    blobs = {"conv1_w": np.zeros((64, 3, 7, 7), np.float32)}
    blobs |= {f"res_conv1_bn_{part}": np.ones(64, np.float32) for part in ("s", "b", "rm")}
    path.write_bytes(pickle.dumps(blobs))
    norms = {name.rpartition(".")[2] for name in read_weights(path).entries if ".norm." in name}
    assert norms == {"weight", "bias", "running_mean"}


def test_msra_pickles_are_for_bgr(tmp_path: Path) -> None:
    path = tmp_path / "R-50.pkl"
    path.write_bytes(pickle.dumps({"conv1_w": np.zeros((64, 3, 7, 7), np.float32)}))
    assert read_weights(path).pixels == "BGR"


# ---------------------------------------------------------------------------------------------- our own files


@pytest.mark.parametrize("memory_tokens", [0, 2])
def test_saved_weights_come_back(memory_tokens: int, tmp_path: Path) -> None:
    one, other = (build_model({**TINY, "memory_tokens": memory_tokens}) for _ in range(2))
    path = tmp_path / "weights.safetensors"
    save_weights(one, path, {"seed": 3})
    load_weights(other, path)
    restored = other.state_dict()
    assert all(torch.equal(restored[name], value) for name, value in one.state_dict().items())
    with safe_open(path, framework="pt") as file:
        assert json.loads(file.metadata()["ifc"]) == {"seed": 3}
        assert file.metadata()["pixels"] == "RGB"
    assert [p.name for p in tmp_path.iterdir()] == ["weights.safetensors"]


@pytest.mark.parametrize("backbone", ["tiny", "resnet18"])
def test_our_own_backbone_alone(backbone: str, tmp_path: Path) -> None:
    one, other = tiny(backbone=backbone), tiny(backbone=backbone)
    path = tmp_path / "backbone.safetensors"
    save_file({f"backbone.{name}": value for name, value in one.backbone.state_dict().items()}, path)
    before = snapshot(other)
    load_weights(other, path)
    for name, value in other.state_dict().items():
        wanted = one.state_dict() if name.startswith("backbone.") else before
        assert torch.equal(value, wanted[name]), name


def test_training_checkpoint(tmp_path: Path) -> None:
    one, other = tiny(), tiny()
    optimizer = torch.optim.AdamW(one.parameters())
    path = tmp_path / "checkpoint.pt"
    torch.save({"model": one.state_dict(), "optimizer": optimizer.state_dict(), "identity": "x"}, path)
    load_weights(other, path)
    assert all(torch.equal(other.state_dict()[name], value) for name, value in one.state_dict().items())


def test_saved_weights_of_another_width_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_weights(build_model({**TINY, "num_queries": 5}), path, {})
    assert_refused(build_model(TINY), path, "misshapen: decoder.queries (5, 16) for (4, 16)")


# ------------------------------------------------------------------------------------------ what does not fit


def test_published_names_that_do_not_fit_are_listed(tmp_path: Path) -> None:
    weights = hollow(SHAPES)
    del weights["detr.query_embed.weight"]
    weights["detr.transformer.memory_bus"] = torch.zeros(4, 256)
    weights["detr.surprise.weight"] = torch.zeros(2)
    weights["detr.class_embed.layers.1.bias"] = torch.zeros(41, dtype=torch.int64)
    path = tmp_path / "other.pth"
    torch.save({"model": weights}, path)
    with torch.device("meta"):
        model = build_model({})
    assert_refused(
        model,
        path,
        "1 missing: decoder.queries;",
        "1 extra: detr.surprise.weight;",
        "2 misshapen: class_head.layers.1.bias (41,) of int64 for (41,), ",
        "encoder.memory (4, 256) for (8, 256)",
    )


def test_long_lists_are_cut_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "long.pth"
    for count in (8, 9, 30):
        more = {f"extra{index:02}": torch.zeros(1) for index in range(count)}
        torch.save({**tiny().state_dict(), **more}, path)
        rest = f" and {count - 8} more" if count > 8 else ""
        message = refusal(lambda: load_weights(tiny(), path))
        names = ", ".join(f"extra{index:02}" for index in range(8))
        assert message == f"{path}: weights of another model: {count} extra: {names}{rest}"


@pytest.mark.parametrize("suffix", [".pth", ".pkl"])
def test_detectron2_backbone_file(suffix: str, tmp_path: Path) -> None:
    backbone = {name: torch.randn(value.shape) for name, value in hollow_backbone("resnet18").items()}
    extras = {"stem.fc.weight": torch.zeros(10, 2048), "stem.conv1.norm.num_batches_tracked": torch.tensor(7)}
    path = tmp_path / f"R-18{suffix}"
    if suffix == ".pkl":  # numpy arrays in a plain pickle, as detectron2 publishes them
        arrays = {name: value.numpy() for name, value in {**backbone, **extras}.items()}
        path.write_bytes(pickle.dumps({"model": arrays, "__author__": "torchvision"}))
    else:
        torch.save({**backbone, **extras}, path)
    model = tiny(backbone="resnet18")
    before = snapshot(model)
    load_weights(model, path)
    for name, value in model.state_dict().items():
        own = name.removeprefix("backbone.")
        assert torch.equal(value, backbone[own] if name.startswith("backbone.") else before[name]), name

    few = {name: value for name, value in backbone.items() if "res3.1" not in name}
    torch.save(few | {"stem.fc2.weight": torch.zeros(1)}, tmp_path / "b.pth")
    missing = "10 missing: backbone.res3.1.conv1.norm.bias, "
    assert_refused(model, tmp_path / "b.pth", missing, "1 extra: backbone.stem.fc2.weight")


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_every_pickle_protocol_of_arrays(protocol: int, tmp_path: Path) -> None:
    path = tmp_path / "R.pkl"
    arrays = {"stem.conv1.weight": np.arange(6, dtype=">f4").reshape(2, 3).T}
    path.write_bytes(pickle.dumps({"model": arrays}, protocol))
    [value] = read_weights(path).entries.values()
    assert torch.equal(value, torch.arange(6.0).reshape(2, 3).T)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@given(
    st.sampled_from(["?", "i1", "<i2", ">i4", "<i8", "u1", ">f2", "<f2", ">f4", "<f4", ">f8", "<f8"]),
    st.lists(st.integers(0, 3), max_size=4),
    st.randoms(use_true_random=False),
)
@settings(max_examples=30, deadline=None)
def test_arrays_of_numpy_come_back_bit_for_bit(
    tmp_path_factory: Any, protocol: int, kind: str, shape: list[int], random: Any
) -> None:
    """In every order of the axes (C, Fortran, others), with empty sides and without any axis."""
    path = tmp_path_factory.mktemp("arrays") / "R.pkl"
    dtype = np.dtype(kind)
    data = random.randbytes(int(np.prod(shape)) * dtype.itemsize)
    if kind == "?":
        data = bytes(byte % 2 for byte in data)
    axes = random.sample(range(len(shape)), len(shape))
    array = np.frombuffer(data, dtype).reshape(shape).transpose(axes)
    array = array.copy(order="K") if random.random() < 0.5 else array  # bytearray, or bytes
    path.write_bytes(pickle.dumps({"model": {"a": array}}, protocol))
    [value] = read_weights(path).entries.values()
    assert value.shape == array.shape
    assert str(value.dtype).removeprefix("torch.") == dtype.newbyteorder("=").name
    assert value.numpy().tobytes() == array.astype(dtype.newbyteorder("=")).tobytes()


class State:
    """Pickled as a call and a state of one's choice."""

    def __init__(self, call: Any, arguments: tuple[Any, ...], state: Any = None) -> None:
        self.parts = (call, arguments) if state is None else (call, arguments, state)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.parts


def crafted(dtype: Any, shape: Any = (1,), data: Any = b"A" * 8, version: int = 1) -> State:
    """An array whose state numpy would take as it is."""
    empty = (np.ndarray, (0,), b"b")
    return State(np.zeros(0).__reduce__()[0], empty, (version, shape, dtype, False, data))


PLAIN = (None, None, None, -1, -1, 0)
OBJECTS = State(np.dtype, ("O8", False, True))
FIELD = State(np.dtype, ("V8", False, True), (3, "|", None, ("f",), {"f": (OBJECTS, 0)}, 8, 1, 0))
BEYOND = State(
    np.dtype, ("V8", False, True), (3, "|", None, ("f",), {"f": (np.dtype("f8"), 1 << 30)}, 8, 1, 0)
)


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (crafted(State(np.dtype, ("O8", False, True), (3, "|", *PLAIN))), "an array of O8, not of numbers"),
        (crafted(FIELD), "an array of V8, not of numbers"),
        (crafted(BEYOND), "an array of V8, not of numbers"),
        (crafted(State(np.dtype, ("f8", False, True), FIELD.parts[2])), "an array of no plain type"),
        (crafted(State(np.dtype, ("f8", False, True), (3, "!", *PLAIN))), "an array of no known byte order"),
        (crafted(State(np.dtype, ("f8", False, True), (4, "<", *PLAIN))), "an array of no plain type"),
        (crafted(State(np.dtype, ("f8" * 99,))), "an array of f8f8"),
        (crafted("f8"), "an array of no type"),
        (crafted(np.dtype("f8"), version=2), "an array of unknown make"),
        (crafted(np.dtype("f8"), (2,)), "an array whose bytes do not fill its shape"),
        (crafted(np.dtype("f8"), (-1, -1)), "an array whose bytes do not fill its shape"),
        (crafted(np.dtype("f8"), (10**30, 0), b""), "an array whose bytes do not fill its shape"),
        (crafted(np.dtype("f8"), (2**39, 2**39, 0), b""), "an array whose bytes do not fill its shape"),
        (crafted(np.dtype("f8"), [1]), "an array whose bytes do not fill its shape"),
        (crafted(np.dtype("f8"), data=[None]), "an array whose bytes do not fill its shape"),
        (np.dtype("f8"), "a DtypeRecord, not a tensor"),
    ],
)
@pytest.mark.parametrize("protocol", [2, 5])
def test_crafted_state_does_not_reach_numpy(array: Any, said: str, protocol: int, tmp_path: Path) -> None:
    path = tmp_path / "R.pkl"
    path.write_bytes(pickle.dumps({"model": {"stem.conv1.weight": array}}, protocol))
    message = refusal(lambda: read_weights(path))
    assert message.startswith(f"{path}: entry stem.conv1.weight is {said}")


def test_a_pickle_cannot_change_the_stand_ins(tmp_path: Path) -> None:
    """State for a class or a function would otherwise be set on it, for all files to come."""
    path = tmp_path / "R.pkl"
    for name in (b"numpy\nndarray", b"numpy\ndtype", b"_codecs\nencode", b"collections\nOrderedDict"):
        path.write_bytes(b"\x80\x02c" + name + b"\nN}X\x01\x00\x00\x00aK\x01s\x86b.")
        assert "refused" in refusal(lambda: read_weights(path))
    path.write_bytes(pickle.dumps({"a": State(np.ndarray, ((10**13,), "u1"))}, 2))
    assert REFUSED.format("numpy.ndarray, called") in refusal(lambda: read_weights(path))


def test_what_a_caffe2_pickle_may_not_be(tmp_path: Path) -> None:
    path = tmp_path / "R.pkl"

    def message(**blobs: Any) -> str:
        path.write_bytes(pickle.dumps({"conv1_w": np.zeros((64, 3, 7, 7), np.float32), **blobs}))
        return refusal(lambda: load_weights(on_paper(backbone="resnet50_bgr"), path))

    flat = np.zeros(64, np.float32)
    assert "backbone.stem.conv1.bias (64,) has no norm to be folded into" in message(conv1_b=flat)
    twice = message(res_conv1_bn_s=flat, res_conv1_bn_gamma=flat)
    assert "res_conv1_bn_gamma: backbone.stem.conv1.norm.weight is given twice" in twice
    assert "1 extra: res6_0_branch1_w" in message(res6_0_branch1_w=flat)
    text = message(res_conv1_bn_s=np.array(["x"]))
    assert "entry res_conv1_bn_s is an array of U1, not of numbers" in text


# ------------------------------------------------------------------------------------------ unsafe and broken


REFUSED = "holds objects that are no tensors ({}): loading them could run code; refused"


class Malicious:
    """Unpickling this writes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return (exec, (f"open({str(self.marker)!r}, 'w').close()",))


@pytest.mark.parametrize("suffix", [".pth", ".pkl"])
@pytest.mark.parametrize("plain", [True, False], ids=["pickle", "zip"])
@pytest.mark.parametrize("layout", ["detectron2", "caffe2", "torchvision", "published", "beside"])
def test_code_in_a_file_is_refused_and_does_not_run(
    layout: str, suffix: str, plain: bool, tmp_path: Path
) -> None:
    marker = tmp_path / "marker"
    path = tmp_path / f"weights{suffix}"
    bad = Malicious(marker)
    content: Any = {
        "detectron2": {"model": {"stem.conv1.weight": bad}},
        "caffe2": {"blobs": {"conv1_w": bad}},
        "torchvision": {"conv1.weight": np.zeros(2), "layer1.0.conv1.weight": bad},
        "published": {"model": {"detr.query_embed.weight": bad}},
        "beside": {"model": {"stem.conv1.weight": np.zeros(2)}, "__author__": bad},
    }[layout]
    if plain:
        path.write_bytes(pickle.dumps(content, protocol=2))
        with path.open("rb") as file:
            pickle.load(file)
        assert marker.exists()  # it would run
        marker.unlink()
    else:
        torch.save(content, path)
    assert_refused(build_model(TINY), path)
    assert "refused" in refusal(lambda: convert(path, tmp_path / "new.safetensors"))
    assert [file.name for file in tmp_path.iterdir()] == [path.name]  # neither marker nor target


@pytest.mark.parametrize(
    "name",
    ["builtins.eval", "os.system", "numpy.load", "numpy.testing.measure", "numpy.core.multiarray.scalar"],
)
def test_globals_of_a_pickle_are_named_and_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / "R.pkl"
    module, _, function = name.rpartition(".")
    path.write_bytes(f"c{module}\n{function}\n(V1\ntR.".encode())
    assert refusal(lambda: read_weights(path)) == f"{path}: {REFUSED.format(name)}"


def test_only_one_codec_is_run(tmp_path: Path) -> None:
    path = tmp_path / "R.pkl"
    path.write_bytes(b"c_codecs\nencode\n(Vabc\nVrot13\ntR.")
    assert REFUSED.format("text in rot13") in refusal(lambda: read_weights(path))


def test_unreadable_files(tmp_path: Path) -> None:
    model = build_model(TINY)
    assert_refused(model, tmp_path / "absent.pth", "no such weights file")
    for name in ("noise.pth", "noise.pkl", "noise.safetensors"):
        (tmp_path / name).write_bytes(b"noise" * 20)
        assert_refused(model, tmp_path / name)
    torch.save([1, 2], tmp_path / "list.pth")
    assert_refused(model, tmp_path / "list.pth", "no dictionary of weights")
    torch.save({"model": {"projection.weight": "text"}}, tmp_path / "text.pth")
    assert_refused(model, tmp_path / "text.pth", "projection.weight is a str")
    torch.save({"blobs": []}, tmp_path / "blobs.pth")
    assert_refused(model, tmp_path / "blobs.pth", "no dictionary of weights")


@pytest.mark.filterwarnings("ignore:.*quantiz.*", "ignore:.*[Ss]parse.*", "ignore:TypedStorage.*")
@pytest.mark.parametrize(
    ("form", "change"),
    [
        ("meta (without values)", lambda x: x.to("meta")),
        ("sparse", lambda x: x.to_sparse()),
        ("sparse", lambda x: x.to_sparse_csr()),
        ("quantised", lambda x: torch.quantize_per_tensor(x, 0.1, 0, torch.qint8)),
        ("complex", lambda x: x.to(torch.complex64)),
    ],
)
def test_tensors_of_odd_forms_are_named(
    form: str, change: Callable[[Tensor], Tensor], tmp_path: Path
) -> None:
    path = tmp_path / "odd.pth"
    weights = tiny().state_dict()
    torch.save({**weights, "projection.weight": change(weights["projection.weight"].flatten(1))}, path)
    said = f"entry projection.weight is a {form} tensor; allowed: dense tensors of real numbers"
    assert_refused(tiny(), path, said)
    assert said in refusal(lambda: convert(path, tmp_path / "new.safetensors"))


def test_code_and_damage_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save({"projection.weight": State(os.system, ("true",))}, path)
    said = refusal(lambda: read_weights(path))
    assert said == f"{path}: {REFUSED.format(f'{os.system.__module__}.system')}"
    torch.save({"projection.weight": State(fractions.Fraction, (1, 2))}, path)
    assert refusal(lambda: read_weights(path)) == f"{path}: {REFUSED.format('fractions.Fraction')}"
    torch.save(tiny().state_dict(), path)
    path.write_bytes(path.read_bytes()[:-100])
    assert refusal(lambda: read_weights(path)) == f"{path}: not a checkpoint, or damaged; refused"


def test_a_dictionary_in_a_dictionary_is_named(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save({"state_dict": tiny().state_dict()}, path)
    assert_refused(tiny(), path, "entry state_dict is a dictionary, not a tensor: weights lie at the top of ")


def test_long_names_are_cut(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    for value in (torch.zeros(1), torch.zeros(1, dtype=torch.complex64), "text", {}):
        torch.save({**tiny().state_dict(), "x" * 9999: value}, path)
        message = refusal(lambda: load_weights(tiny(), path))
        assert f"{'x' * 57}..." in message
        assert len(message) < len(str(path)) + 250


def test_files_are_as_open_as_the_umask_says(tmp_path: Path) -> None:
    """In a process of its own: the umask is the whole process's."""
    script = (
        "import os, sys, torch\nfrom pathlib import Path\nfrom model.weight_files import write_file\n"
        "for mask in (0o022, 0o077, 0o002):\n"
        "    os.umask(mask)\n"
        "    for suffix in ('safetensors', 'pth', 'pkl'):\n"
        "        write_file(Path(sys.argv[1]) / f'{mask}.{suffix}', {'x': torch.zeros(2)}, {})\n"
    )
    root = Path(__file__).resolve().parent.parent
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], cwd=root, check=True, timeout=60)
    paths = list(tmp_path.iterdir())
    assert len(paths) == 9
    for path in paths:
        assert oct(stat.S_IMODE(path.stat().st_mode)) == oct(0o666 & ~int(path.stem)), path.name


# -------------------------------------------------------------------------------- starting from other weights


def with_boxes(outputs: int = 4) -> Any:
    """A clip model that has a box head."""
    model: Any = tiny()
    model.box_head = torch.nn.Linear(16, outputs)
    return model


CLASS_HEAD = ("class_head.layers.1.bias", "class_head.layers.1.weight")
MEMORY = ("encoder.memory", "encoder.memory_positions")
BOXES = ("box_head.bias", "box_head.weight")


@pytest.mark.parametrize(
    ("layout", "changes", "left"),
    [
        ("own", {}, ()),
        ("own", {"num_classes": 5}, CLASS_HEAD),
        ("own", {"memory_tokens": 3}, MEMORY),
        ("own", {"num_classes": 5, "memory_tokens": 3}, CLASS_HEAD + MEMORY),
        ("published", {"num_classes": 5, "memory_tokens": 3}, CLASS_HEAD + MEMORY),
    ],
)
def test_a_training_starts_from_another_task(
    layout: str, changes: dict[str, Any], left: tuple[str, ...], tmp_path: Path
) -> None:
    backbone = "tiny" if layout == "own" else "resnet18"
    one, other = tiny(backbone=backbone), tiny(backbone=backbone, **changes)
    path = tmp_path / "coco.safetensors"
    save_weights(one, path, {})
    if layout == "published":
        convert(path, tmp_path / "coco.pth", "published")
        path = tmp_path / "coco.pth"
    before = snapshot(other)
    assert initialise(other, path) == ("model", left, ())
    for name, value in other.state_dict().items():
        assert torch.equal(value, before[name] if name in left else one.state_dict()[name]), name


def test_a_box_head_may_be_in_one_of_the_two(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_weights(tiny(), path, {})
    assert initialise(with_boxes(), path) == ("model", BOXES, ())
    assert_refused(with_boxes(), path, "2 missing: box_head.bias, box_head.weight")  # load_weights is strict
    save_weights(with_boxes(), path, {})
    assert initialise(tiny(), path) == ("model", (), BOXES)
    other = with_boxes()
    assert initialise(other, path) == ("model", (), ())
    assert torch.equal(other.box_head.bias, read_weights(path).entries["box_head.bias"])
    assert "misshapen: box_head.bias (4,) for (5,)" in refusal(lambda: initialise(with_boxes(5), path))


def test_a_backbone_starts_a_training(tmp_path: Path) -> None:
    path = tmp_path / "resnet18.pth"
    weights = torchvision_weights("resnet18")
    torch.save(weights, path)
    model = tiny(backbone="resnet18")
    before = snapshot(model)
    assert initialise(model, path) == ("backbone", (), ())
    assert torch.equal(model.backbone.stem.conv1.weight, weights["conv1.weight"])  # type: ignore[union-attr]
    assert torch.equal(model.class_head.layers[1].bias, before["class_head.layers.1.bias"])


@pytest.mark.parametrize(
    ("changes", "fragment"),
    [
        ({"num_queries": 5}, "1 misshapen: decoder.queries (4, 16) for (5, 16)"),
        ({"hidden_dim": 32, "num_classes": 5}, "class_head.layers.1.weight (4, 16) for (6, 32)"),
        ({"encoder_layers": 1}, "extra: encoder.communicate.1."),
        ({"decoder_layers": 3}, "missing: decoder.layers.2."),
        ({"encoder": "no_comm"}, "extra: encoder.communicate.0."),
        ({"memory_tokens": 0}, "extra: encoder.communicate.0."),
        ({"backbone": "resnet18"}, "missing: backbone.res2.0."),
    ],
)
def test_nothing_else_is_left_random(changes: dict[str, Any], fragment: str, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_weights(tiny(), path, {})
    model = tiny(**changes)
    before = snapshot(model)
    assert fragment in refusal(lambda: initialise(model, path))
    assert all(torch.equal(model.state_dict()[name], value) for name, value in before.items())


@pytest.mark.parametrize(
    ("trained", "wanted", "said"),
    [
        ({"encoder": "no_comm"}, {"encoder": "full_thw"}, "encoder no_comm, the model has full_thw"),
        ({"memory_mixing": "unified"}, {}, "memory_mixing unified, the model has decomposed"),
    ],
)
def test_the_header_tells_encoders_apart(
    trained: dict[str, Any], wanted: dict[str, Any], said: str, tmp_path: Path
) -> None:
    path = tmp_path / "weights.safetensors"
    one = tiny(**trained)
    save_weights(one, path, {"config": one.config.model_dump()})
    for load in (initialise, load_weights):
        other = tiny(**wanted)
        before = snapshot(other)
        assert refusal(lambda: load(other, path)) == f"{path}: trained with {said}"  # noqa: B023
        assert all(torch.equal(other.state_dict()[name], value) for name, value in before.items())
        load(tiny(**trained), path)
    save_weights(one, path, {})  # a header that does not tell
    initialise(tiny(**wanted), path)


def test_mixing_of_no_memory_does_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    one = tiny(memory_tokens=0, memory_mixing="unified")
    save_weights(one, path, {"config": one.config.model_dump()})
    initialise(tiny(memory_tokens=0), path)


def test_a_header_that_is_no_json_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file(tiny().state_dict(), path, {"ifc": "{"})
    assert "its header ifc is no json object" in refusal(lambda: initialise(tiny(), path))
