"""The reference mode: other operations, the same outputs; and what it cannot do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from model import build_model
from model.clip_model import ClipModel
from model.communication import ENCODERS
from model.inference import segment_video
from model.published.inference import segment_video_as_published
from model.published.operations import published_operations
from model.published.tracker import MAX_INSTANCES, SquareTracker
from model.tracking import ClipTracker
from tests.fixtures.tracker_windows import tracker_windows

SMALL: dict[str, Any] = {
    "memory_tokens": 3,
    "num_classes": 5,
    "num_queries": 12,
    "hidden_dim": 32,
    "ffn_dim": 64,
    "backbone": "resnet18",
}


def small(**keys: Any) -> ClipModel:
    torch.manual_seed(0)
    model = build_model({**SMALL, **keys}).eval()
    with torch.no_grad():
        model.class_head.layers[-1].bias[-1] = -0.5  # most queries are kept
        model.mask_weight_head.layers[-1].weight.mul_(20)  # masks that are told apart, whatever rounds
        for module in model.modules():
            if hasattr(module, "running_var"):  # norms that do something
                module.running_var.uniform_(0.5, 2.0)
                module.running_mean.normal_(0, 0.1)
    return model


def video(length: int, height: int = 64, width: int = 96) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (length, 3, height, width), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("encoder", list(ENCODERS))
@pytest.mark.parametrize(("window", "stride"), [(3, 1), (4, 3), (9, 1)])
def test_a_video_has_the_same_tracks(encoder: str, window: int, stride: int) -> None:
    model, frames = small(encoder=encoder), video(7, 50, 75)
    found = segment_video(model, frames, window, stride, (100, 150))
    wanted = segment_video_as_published(published_operations(model), frames, window, stride, (100, 150))
    assert len(wanted["scores"]) > 10
    assert torch.equal(found["labels"], wanted["labels"])
    torch.testing.assert_close(found["scores"], wanted["scores"], rtol=1e-4, atol=1e-5)
    differ = found["masks"] != wanted["masks"]
    assert differ.float().mean() < 1e-4, "but for pixels on the edge, where rounding decides"


@pytest.mark.parametrize("encoder", list(ENCODERS))
def test_gradients_agree(encoder: str) -> None:
    model = small(encoder=encoder, dropout=0.0)
    published = published_operations(model)
    for one in (model, published):
        out = one(video(2)[None])
        layers = [out, *out["aux_outputs"]]
        sum(
            layer["pred_logits"].square().mean() + layer["pred_masks"].square().mean() for layer in layers
        ).backward()
    ours, theirs = (dict(one.named_parameters()) for one in (model, published))
    assert [name for name in ours if ours[name].grad is None] == [
        name for name in theirs if theirs[name].grad is None
    ]
    whole = torch.cat([p.grad.flatten() for p in theirs.values() if p.grad is not None]).norm()
    for name, parameter in ours.items():
        if parameter.grad is not None:
            assert (parameter.grad - theirs[name].grad).norm() < 1e-3 * whole, name


@pytest.mark.parametrize(
    "case", [(0, 12, 4, 1, 5, 6, 8, 4), (1, 10, 5, 3, 7, 6, 8, 4), (2, 6, 6, 1, 3, 6, 8, 4)], ids=str
)
def test_square_buffers_give_the_streams_answer(case: tuple[int, ...]) -> None:
    seed, length, window, stride, count, height, width, classes = case
    square = SquareTracker(classes, length, (height, width), torch.device("cpu"))
    stream = ClipTracker(classes)
    for frames, probabilities, logits in tracker_windows(
        seed, length, window, stride, count, height, width, classes
    ):
        given = torch.from_numpy(np.asarray(probabilities)), torch.from_numpy(np.asarray(logits))
        square.update(range(frames[0], frames[-1] + 1), *given)
        stream.update(frames, *given)
    for one, other in zip(stream.result(length), square.result(), strict=True):
        torch.testing.assert_close(one, other, equal_nan=True)


def test_the_published_tracker_ends_at_fifty_instances() -> None:
    tracker = SquareTracker(1, 2, (1, 1), torch.device("cpu"))
    many = MAX_INSTANCES + 1
    with pytest.raises(ValueError, match="holds 50 instances"):
        tracker.update(range(2), torch.ones(many, 2), torch.ones(many, 2, 1, 1))


def test_a_box_head_is_not_published() -> None:
    with pytest.raises(ValueError, match="no box head"):
        published_operations(small(box_head=True))


def test_frozen_parameters_stay_frozen() -> None:
    model = small()
    model.backbone.freeze(2)
    published = published_operations(model)
    frozen = {name for name, p in published.named_parameters() if not p.requires_grad}
    assert frozen == {name for name, p in model.named_parameters() if not p.requires_grad} != set()
