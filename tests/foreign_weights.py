"""Weights as others write them: names, python 2 pickles, and plain ResNets that compute with them."""

from __future__ import annotations

import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from model import InputError, build_model
from model.backbone import build_backbone
from model.clip_model import ClipModel

FIXTURES = Path(__file__).parent / "fixtures"
SHAPES = {
    name: tuple(int(n) for n in shape.split("x"))
    for name, shape in (
        line.split("\t")
        for line in (FIXTURES / "official_state_dict.tsv").read_text().splitlines()
        if not line.startswith("#")
    )
}
PUBLISHED_BACKBONE = "detr.backbone.0.backbone."
PUBLISHED_LOSS = "criterion.empty_weight"

TINY = {
    "backbone": "tiny",
    "hidden_dim": 16,
    "ffn_dim": 16,
    "attention_heads": 2,
    "num_classes": 3,
    "num_queries": 4,
    "encoder_layers": 2,
    "decoder_layers": 2,
}


def tiny(**changes: Any) -> ClipModel:
    return build_model({**TINY, **changes}).eval()


def on_paper(**changes: Any) -> ClipModel:
    """A model of shapes without values: enough to be refused by, or to take the names of."""
    with torch.device("meta"):
        return tiny(**changes)


def hollow(shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Tensors of these shapes that take no room in a file: all elements are one zero."""
    return {name: torch.zeros(1).expand(shape) for name, shape in shapes.items()}


def hollow_of(model: ClipModel) -> dict[str, Tensor]:
    return hollow({name: tuple(value.shape) for name, value in model.state_dict().items()})


def hollow_backbone(name: str) -> dict[str, Tensor]:
    """By detectron2's names."""
    with torch.device("meta"):
        backbone = build_backbone(name)
    return hollow({entry: tuple(value.shape) for entry, value in backbone.state_dict().items()})


def refusal(call: Callable[[], object]) -> str:
    """The one line of an InputError."""
    with pytest.raises(InputError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    return message


def torchvision_file(depth: str) -> dict[str, Tensor]:
    names = {}
    for place, (outputs, inputs, kernel) in conv_shapes(depth).items():
        conv, norm = torchvision_names(*place)
        names[f"{conv}.weight"] = (outputs, inputs, kernel, kernel)
        for part in ("weight", "bias", "running_mean", "running_var"):
            names[f"{norm}.{part}"] = (outputs,)
    return hollow(names)


BLOCKS = {"resnet18": (2, 2, 2, 2), "resnet50": (3, 4, 6, 3), "resnet101": (3, 4, 23, 3)}
Unit = Callable[[Tensor, int, int, int, int], Tensor]
"""(x, stage 0..4, block, convolution 1..3 or 0 for the shortcut, stride) to the normalised convolution"""


def reference_pyramid(x: Tensor, depth: str, unit: Unit, stride_in_1x1: bool) -> list[Tensor]:
    """A plain ResNet that knows nothing of our modules."""
    x = F.max_pool2d(F.relu(unit(x, 0, 0, 1, 2)), 3, 2, 1)
    pyramid = []
    for stage, count in enumerate(BLOCKS[depth], start=1):
        for block in range(count):
            stride = 2 if stage > 1 and block == 0 else 1
            if depth == "resnet18":
                strides = [stride, 1]
            else:
                strides = [stride, 1, 1] if stride_in_1x1 else [1, stride, 1]
            y = x
            for index, each in enumerate(strides, start=1):
                y = unit(y, stage, block, index, each)
                y = F.relu(y) if index < len(strides) else y
            projected = block == 0 and not (depth == "resnet18" and stage == 1)
            x = F.relu(y + (unit(x, stage, block, 0, stride) if projected else x))
        pyramid.append(x)
    return pyramid


def conv_shapes(depth: str) -> dict[tuple[int, int, int], tuple[int, int, int]]:
    """(stage, block, convolution) to outputs, inputs, kernel."""
    shapes = {(0, 0, 1): (64, 3, 7)}
    inputs = 64
    for stage, count in enumerate(BLOCKS[depth], start=1):
        width = 32 * 2**stage
        for block in range(count):
            if depth == "resnet18":
                outputs, convs = width, [(width, inputs, 3), (width, width, 3)]
            else:
                outputs = 4 * width
                convs = [(width, inputs, 1), (width, width, 3), (outputs, width, 1)]
            for index, shape in enumerate(convs, start=1):
                shapes[stage, block, index] = shape
            if block == 0 and inputs != outputs:
                shapes[stage, block, 0] = (outputs, inputs, 1)
            inputs = outputs
    return shapes


def random_conv(outputs: int, inputs: int, kernel: int) -> Tensor:
    return torch.randn(outputs, inputs, kernel, kernel) / (inputs * kernel**2) ** 0.5


def torchvision_names(stage: int, block: int, index: int) -> tuple[str, str]:
    if stage == 0:
        return "conv1", "bn1"
    if index == 0:
        return f"layer{stage}.{block}.downsample.0", f"layer{stage}.{block}.downsample.1"
    return f"layer{stage}.{block}.conv{index}", f"layer{stage}.{block}.bn{index}"


def torchvision_weights(depth: str) -> dict[str, Tensor]:
    weights = {"fc.weight": torch.zeros(1000, 512), "fc.bias": torch.zeros(1000)}
    for place, (outputs, inputs, kernel) in conv_shapes(depth).items():
        conv, norm = torchvision_names(*place)
        weights[f"{conv}.weight"] = random_conv(outputs, inputs, kernel)
        weights[f"{norm}.weight"] = 1 + 0.3 * torch.rand(outputs)
        weights[f"{norm}.bias"] = 0.3 * torch.randn(outputs)
        weights[f"{norm}.running_mean"] = 0.3 * torch.randn(outputs)
        weights[f"{norm}.running_var"] = 0.5 + torch.rand(outputs)
        weights[f"{norm}.num_batches_tracked"] = torch.tensor(7)
    return weights


def torchvision_pyramid(x: Tensor, depth: str, weights: dict[str, Tensor]) -> list[Tensor]:
    def unit(x: Tensor, stage: int, block: int, index: int, stride: int) -> Tensor:
        conv, norm = torchvision_names(stage, block, index)
        kernel = weights[f"{conv}.weight"]
        x = F.conv2d(x, kernel, stride=stride, padding=kernel.shape[-1] // 2)
        mean, variance = weights[f"{norm}.running_mean"], weights[f"{norm}.running_var"]
        return F.batch_norm(x, mean, variance, weights[f"{norm}.weight"], weights[f"{norm}.bias"], eps=1e-5)

    return reference_pyramid(x, depth, unit, stride_in_1x1=False)


def caffe2_names(stage: int, block: int, index: int) -> tuple[str, str]:
    if stage == 0:
        return "conv1", "res_conv1_bn"
    branch = f"res{stage + 1}_{block}_branch" + ("1", "2a", "2b", "2c")[index]
    return branch, f"{branch}_bn"


def caffe2_blobs(depth: str, merged: bool) -> dict[str, Any]:
    """Numpy arrays by MSRA's names; ``merged``: the norms' statistics are part of scale and bias."""
    blobs: dict[str, Any] = {"fc1000_w": torch.zeros(10, 4), "fc1000_b": torch.zeros(10)}
    blobs["conv1_w_momentum"] = torch.zeros(64, 3, 7, 7)
    blobs["conv1_b"] = torch.randn(64)
    for place, (outputs, inputs, kernel) in conv_shapes(depth).items():
        conv, norm = caffe2_names(*place)
        blobs[f"{conv}_w"] = random_conv(outputs, inputs, kernel)
        blobs[f"{norm}_{'s' if merged else 'gamma'}"] = 1 + 0.3 * torch.rand(outputs)
        blobs[f"{norm}_{'b' if merged else 'beta'}"] = 0.3 * torch.randn(outputs)
        if not merged:
            blobs[f"{norm}_running_mean"] = 0.3 * torch.randn(outputs)
            blobs[f"{norm}_running_var"] = 0.5 + torch.rand(outputs)
    return {name: value.numpy() for name, value in blobs.items()}


def caffe2_pyramid(x: Tensor, depth: str, blobs: dict[str, Any], merged: bool) -> list[Tensor]:
    weights = {name: torch.from_numpy(value) for name, value in blobs.items()}

    def unit(x: Tensor, stage: int, block: int, index: int, stride: int) -> Tensor:
        conv, norm = caffe2_names(stage, block, index)
        kernel = weights[f"{conv}_w"]
        x = F.conv2d(x, kernel, weights.get(f"{conv}_b"), stride=stride, padding=kernel.shape[-1] // 2)
        if merged:
            return x * weights[f"{norm}_s"][:, None, None] + weights[f"{norm}_b"][:, None, None]
        mean, variance = weights[f"{norm}_running_mean"], weights[f"{norm}_running_var"]
        return F.batch_norm(x, mean, variance, weights[f"{norm}_gamma"], weights[f"{norm}_beta"], eps=1e-5)

    return reference_pyramid(x, depth, unit, stride_in_1x1=True)


class Python2Pickler(pickle._Pickler):
    """Writes text and bytes as python 2 did: both are its one kind of string."""

    dispatch: ClassVar[dict[Any, Any]] = dict(pickle._Pickler.dispatch)

    def save_text(self, value: str | bytes) -> None:
        data = value if isinstance(value, bytes) else value.encode("latin1")
        self.write(b"T" + struct.pack("<i", len(data)) + data)
        self.memoize(value)

    dispatch[bytes] = save_text
    dispatch[str] = save_text


def write_python2_pickle(content: Any, path: Path) -> None:
    with path.open("wb") as file:
        Python2Pickler(file, protocol=2).dump(content)
    text = path.read_bytes().replace(b"numpy._core.multiarray\n", b"numpy.core.multiarray\n")
    path.write_bytes(text)
    with pytest.raises(UnicodeDecodeError), path.open("rb") as file:  # as the real files
        pickle.load(file)
