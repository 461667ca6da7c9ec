"""Names of weights in the layouts we know, and what they are called here. Text in, text out.

Layouts
    own          the names of our modules; a backbone alone is ``backbone.*``
    published    IFC checkpoints, ``detr.*``
    detectron2   a backbone by detectron2's names, ``stem.*`` and ``res2.*`` .. ``res5.*``
    caffe2       a backbone of MSRA as detectron2 offers it, ``conv1_w``, ``res2_0_branch2a_w``
    torchvision  a backbone by torchvision's names, ``conv1.weight``, ``layer1.0.conv1.weight``
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Literal

Layout = Literal["own", "published", "detectron2", "caffe2", "torchvision"]

NO_OBJECT_NAME = "criterion.empty_weight"
"""The class weights of the published loss, (K+1,): in its checkpoints, no weights of the model."""

_OWN = re.compile(
    r"(backbone|projection|encoder|decoder|class_head|mask_weight_head|spatial_decoder|box_head)\..+"
)
_RESNET = r"(?:stem|res[2-5]\.\d+)\..+"

# Published beginning <-> our beginning; what follows is the same in both, but for parts of layers.
_PUBLISHED = (
    ("detr.transformer.memory_bus", "encoder.memory"),
    ("detr.transformer.memory_pos", "encoder.memory_positions"),
    ("detr.transformer.encoder.enc_layers.", "encoder.receive."),
    ("detr.transformer.encoder.bus_layers.", "encoder.communicate."),
    ("detr.transformer.clip_decoder.norm.", "decoder.norm."),
    ("detr.transformer.clip_decoder.layers.", "decoder.layers."),
    ("detr.query_embed.weight", "decoder.queries"),
    ("detr.class_embed.", "class_head."),
    ("detr.input_proj.", "projection."),
    ("detr.backbone.0.backbone.", "backbone."),
    ("detr.mask_head.convert_to_weight.", "mask_weight_head."),
    *((f"detr.mask_head.lay{i}.", f"spatial_decoder.conv{i}.") for i in (1, 2, 3)),
    *((f"detr.mask_head.gn{i}.", f"spatial_decoder.norm{i}.") for i in (1, 2, 3)),
    ("detr.mask_head.adapter1.", "spatial_decoder.adapter16."),
    ("detr.mask_head.adapter2.", "spatial_decoder.adapter8."),
    ("detr.mask_head.out_lay.depthwise.", "spatial_decoder.depthwise."),
    ("detr.mask_head.out_lay.pointwise.", "spatial_decoder.pointwise."),
)
_FEED_FORWARD = {"linear1": "feed_forward.linear1", "linear2": "feed_forward.linear2"}
_ENCODER_LAYER = {
    **_FEED_FORWARD,
    "self_attn": "self_attention",
    "norm1": "norm",
    "norm2": "feed_forward.norm",
}
_DECODER_LAYER = {
    **_FEED_FORWARD,
    "self_attn": "self_attention",
    "multihead_attn": "clip_attention",
    "norm1": "self_norm",
    "norm2": "clip_norm",
    "norm3": "feed_forward.norm",
}
_LAYERS = re.compile(r"(?:encoder\.(?:receive|communicate)|decoder\.layers)\.")

_NORM = r"(?:weight|bias|running_mean|running_var)"
_TORCHVISION = (
    (r"conv1\.weight", "stem.conv1.weight"),
    (rf"bn1\.({_NORM})", r"stem.conv1.norm.\1"),
    (r"layer(\d)\.(\d+)\.conv([123])\.weight", r"res\1.\2.conv\3.weight"),
    (rf"layer(\d)\.(\d+)\.bn([123])\.({_NORM})", r"res\1.\2.conv\3.norm.\4"),
    (r"layer(\d)\.(\d+)\.downsample\.0\.weight", r"res\1.\2.shortcut.weight"),
    (rf"layer(\d)\.(\d+)\.downsample\.1\.({_NORM})", r"res\1.\2.shortcut.norm.\3"),
)

_CAFFE2_CONV = re.compile(r"(?:conv1|res([2-5])_(\d+)_branch(1|2a|2b|2c))_(w|b)")
_CAFFE2_NORM = re.compile(
    r"(?:res_conv1|res([2-5])_(\d+)_branch(1|2a|2b|2c))_bn_(s|b|gamma|beta|rm|riv|running_mean|running_var)"
)
_CAFFE2_BRANCH = {"1": "shortcut", "2a": "conv1", "2b": "conv2", "2c": "conv3"}
_CAFFE2_PART = {"s": "weight", "gamma": "weight", "b": "bias", "beta": "bias"}
_CAFFE2_PART |= {"rm": "running_mean", "riv": "running_var"}  # a variance, whatever the name says

_NO_WEIGHTS: dict[Layout, re.Pattern[str]] = {
    "own": re.compile(r"(?!)"),
    "published": re.compile(rf"{re.escape(NO_OBJECT_NAME)}|pixel_(mean|std)|.*\.num_batches_tracked"),
    "detectron2": re.compile(r"(stem\.fc|fc|linear)\.(weight|bias)|.*\.num_batches_tracked"),
    "caffe2": re.compile(r"(fc1000|pred)_[wb]|.*_momentum"),
    "torchvision": re.compile(r"fc\.(weight|bias)|.*\.num_batches_tracked"),
}
"""Entries that are read over: ImageNet classifiers, counters, momenta, the published loss and its pixels."""


def layout_of(names: Collection[str]) -> Layout:
    """The layout that the names of a file belong to; ``own`` where no other does."""
    if any(name.startswith("detr.") for name in names):
        return "published"
    if any(re.fullmatch(_RESNET, name) for name in names):
        return "detectron2"
    if any(_CAFFE2_CONV.fullmatch(name) for name in names):
        return "caffe2"
    if any(re.match(r"layer[1-4]\.\d+\.", name) for name in names):
        return "torchvision"
    return "own"


def is_weight(layout: Layout, name: str) -> bool:
    """Whether an entry of a file belongs to the model at all."""
    return _NO_WEIGHTS[layout].fullmatch(name) is None


def is_own(name: str) -> bool:
    """Whether a name begins as the names of our modules do."""
    return _OWN.fullmatch(name) is not None


def to_own(layout: Layout, name: str) -> str:
    """Our name of an entry; a name that the layout does not know is returned as it is."""
    if layout == "published":
        return published_to_own(name)
    if layout == "detectron2":
        return f"backbone.{name}" if re.fullmatch(_RESNET, name) else name
    if layout == "caffe2":
        return _caffe2_to_own(name)
    if layout == "torchvision":
        return _torchvision_to_own(name)
    return name


def published_to_own(name: str) -> str:
    """Our name of a published parameter; unknown names are returned as they are."""
    for theirs, ours in _PUBLISHED:
        if _begins(name, theirs):
            return _layer_part(ours + name.removeprefix(theirs), published=True)
    return name


def own_to_published(name: str) -> str | None:
    """The published name of one of ours; None where the published model has no such parameter."""
    if name.startswith("backbone.") and own_to_detectron2(name) is None:
        return None
    renamed = _layer_part(name, published=False)
    for theirs, ours in _PUBLISHED:
        if _begins(renamed, ours):
            return theirs + renamed.removeprefix(ours)
    return None


def own_to_detectron2(name: str) -> str | None:
    """The name within detectron2's ResNet; None for what is no part of a ResNet."""
    inner = name.removeprefix("backbone.")
    return inner if inner != name and re.fullmatch(_RESNET, inner) else None


def _begins(name: str, start: str) -> bool:
    """A start that ends in a dot leads to more; any other is a whole name."""
    return name.startswith(start) if start.endswith(".") else name == start


def _layer_part(name: str, published: bool) -> str:
    """Parts of a transformer layer by our names (``published``: given by theirs), or back."""
    start = _LAYERS.match(name)
    if start is None:
        return name
    index, _, rest = name[start.end() :].partition(".")
    parts = _DECODER_LAYER if name.startswith("decoder.") else _ENCODER_LAYER
    for theirs, ours in parts.items():
        known, wanted = (theirs, ours) if published else (ours, theirs)
        if rest.startswith(f"{known}."):
            return f"{start.group()}{index}.{wanted}{rest.removeprefix(known)}"
    return name


def _torchvision_to_own(name: str) -> str:
    for pattern, template in _TORCHVISION:
        found = re.fullmatch(pattern, name)
        if found is not None:
            inner = found.expand(template)
            # torchvision counts the stages from 1, detectron2 from 2
            return "backbone." + re.sub(r"^res(\d)", lambda stage: f"res{int(stage[1]) + 1}", inner)
    return name


def _caffe2_to_own(name: str) -> str:
    """``_b`` of a convolution becomes ``.bias``, which no module here has: the reader folds it away."""
    conv = _CAFFE2_CONV.fullmatch(name)
    norm = _CAFFE2_NORM.fullmatch(name)
    found = conv or norm
    if found is None:
        return name
    stage, block, branch, part = found.groups()
    place = "stem.conv1" if stage is None else f"res{stage}.{block}.{_CAFFE2_BRANCH[branch]}"
    if conv is not None:
        return f"backbone.{place}.{'weight' if part == 'w' else 'bias'}"
    return f"backbone.{place}.norm.{_CAFFE2_PART.get(part, part)}"
