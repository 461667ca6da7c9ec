"""The published implementation, by its outputs on seeded weights, and reading its files."""

from __future__ import annotations

import json
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import Tensor
from torch.nn import functional as F

from model import InputError, build_model
from model.checkpoint import from_published, load_weights, save_weights
from model.clip_model import ClipModel
from model.inference import segment_video
from model.losses import SetCriterion
from model.tracking import ClipTracker

FIXTURES = Path(__file__).parent / "fixtures"
sys.path.insert(0, str(FIXTURES))
from criterion_inputs import criterion_inputs  # noqa: E402
from seeded_weights import seeded_value, seeded_video  # noqa: E402
from tracker_windows import tracker_windows  # noqa: E402

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


def fixture(name: str) -> Any:
    return np.load(FIXTURES / f"{name}.npz")


def relative_error(found: Tensor, expected: np.ndarray) -> float:
    assert tuple(found.shape) == expected.shape
    return float(np.abs(found.numpy() - expected).max() / np.abs(expected).max())


@pytest.fixture(scope="module")
def published() -> dict[str, Tensor]:
    """A whole state dict by the published names."""
    lines = (FIXTURES / "official_state_dict.tsv").read_text().splitlines()
    shapes = dict(line.split("\t") for line in lines if not line.startswith("#"))
    return {
        name: torch.from_numpy(seeded_value(name, tuple(int(n) for n in shape.split("x"))))
        for name, shape in shapes.items()
    }


@pytest.fixture(scope="module")
def model(published: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> ClipModel:
    """ResNet-50 IFC, loaded from a checkpoint as the published code writes it."""
    path = tmp_path_factory.mktemp("published") / "model_final.pth"
    statistics = {"pixel_mean": torch.ones(3, 1, 1), "pixel_std": torch.ones(3, 1, 1)}
    torch.save({"model": {**published, **statistics}, "iteration": 5999}, path)
    model = build_model({}).eval()
    load_weights(model, path)
    return model


def test_every_published_tensor_lands_where_it_belongs(
    model: ClipModel, published: dict[str, Tensor]
) -> None:
    own = model.state_dict()
    renamed = from_published(published)
    assert len(renamed) == len(published) - 1 == len(own)  # criterion.empty_weight is no weight
    assert all(torch.equal(own[name], value) for name, value in renamed.items())


@pytest.mark.parametrize("case", ["a", "c"])
def test_one_clip(case: str, model: ClipModel) -> None:
    expected = fixture("forward")
    video = torch.from_numpy(seeded_video(*expected[f"{case}_spec"]))
    with torch.no_grad():
        found = model(video[None])
    assert relative_error(found["pred_logits"][0], expected[f"{case}_logits"]) <= 1e-4
    masks = found["pred_masks"][0][::9, :, ::3, ::3]
    assert relative_error(masks, expected[f"{case}_masks"]) <= 1e-4


@pytest.mark.parametrize("case", ["a", "c"])
def test_criterion_and_matches(case: str) -> None:
    expected = fixture("criterion")
    seed, batch, queries, frames, height, width, classes = expected[f"{case}_spec"].tolist()
    raw_layers, raw_targets = criterion_inputs(seed, batch, queries, frames, height, width, classes)
    layers = [{key: torch.from_numpy(value) for key, value in layer.items()} for layer in raw_layers]
    targets = [{key: torch.from_numpy(value) for key, value in target.items()} for target in raw_targets]
    criterion = SetCriterion(classes)
    losses = criterion({**layers[-1], "aux_outputs": layers[:-1]}, targets)
    assert set(losses) == {f"loss_{n}{s}" for n in ("ce", "dice", "mask") for s in ("", "_0", "_1")}
    for name, value in losses.items():
        assert float(value) == pytest.approx(float(expected[f"{case}_{name}"]), rel=1e-5), name
    for b, target in enumerate(targets):
        logits, masks = layers[-1]["pred_logits"][b], layers[-1]["pred_masks"][b]
        pairs = zip(*criterion.match(logits, masks, target["labels"], target["masks"]), strict=True)
        wanted = zip(*expected[f"{case}_match{b}"].tolist(), strict=True)
        assert {(int(q), int(n)) for q, n in pairs} == set(wanted)


@pytest.mark.parametrize("case", ["s1", "off"])
def test_clip_tracker(case: str) -> None:
    expected = fixture("tracker")
    seed, length, window, stride, n, height, width, classes = expected[f"{case}_spec"].tolist()
    tracker = ClipTracker(classes)
    for frames, probs, masks in tracker_windows(seed, length, window, stride, n, height, width, classes):
        tracker.update(frames, torch.from_numpy(probs), torch.from_numpy(masks))
    class_probs, logits = tracker.result(length)
    np.testing.assert_allclose(class_probs.numpy(), expected[f"{case}_cls"], rtol=1e-5, atol=1e-5)
    sampled = logits.numpy()[:, :, ::4, ::4]
    np.testing.assert_allclose(sampled, expected[f"{case}_logits"], rtol=1e-5, atol=1e-5)
    unseen = logits.isnan().flatten(2).all(2).numpy()
    assert np.array_equal(unseen, expected[f"{case}_nanframes"])
    upsampled = F.interpolate(logits, size=(2 * height, 2 * width), mode="bilinear", align_corners=False)
    assert np.array_equal(np.packbits((upsampled > 0).numpy().ravel()), expected[f"{case}_masks"])


def test_whole_video(published: dict[str, Tensor]) -> None:
    expected = fixture("video")
    length, height, width, window, stride, queries, *size, seed = expected["near_spec"].tolist()
    name = "detr.query_embed.weight"
    fewer = {**published, name: torch.from_numpy(seeded_value(name, (queries, 256)))}
    model = build_model({"num_queries": queries}).eval()
    model.load_state_dict(from_published(fewer))
    video = torch.from_numpy(seeded_video(length, height, width, seed))
    found = segment_video(model, video, window, stride, (size[0], size[1]))
    np.testing.assert_allclose(found["scores"].numpy(), expected["near_scores"], rtol=1e-4)
    assert found["labels"].tolist() == expected["near_labels"].tolist()
    # A few pixels of 49,152 have logits within rounding of 0, and rounding depends on the thread count.
    off = np.abs(found["masks"].sum((2, 3)).numpy() - expected["near_maskarea"])
    assert off.max() <= 3
    assert (off > 0).mean() < 0.2


def snapshot(model: ClipModel) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def assert_refused(model: ClipModel, path: Path, *fragments: str) -> None:
    """One line that names the file and holds the fragments; the model is as it was."""
    before = snapshot(model)
    with pytest.raises(InputError) as caught:
        load_weights(model, path)
    message = str(caught.value)
    assert "\n" not in message
    for fragment in (str(path), *fragments):
        assert fragment in message
    after = model.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_published_names_that_do_not_fit_are_listed(published: dict[str, Tensor], tmp_path: Path) -> None:
    weights = {name: value + 1 for name, value in published.items()}
    del weights["detr.query_embed.weight"]
    weights["detr.transformer.memory_bus"] = torch.zeros(4, 256)
    weights["detr.surprise.weight"] = torch.zeros(2)
    path = tmp_path / "other.pth"
    torch.save({"model": weights}, path)
    assert_refused(
        build_model({}),
        path,
        "1 missing: decoder.queries",
        "1 extra: detr.surprise.weight",
        "1 misshapen: encoder.memory (4, 256) for (8, 256)",
    )


@pytest.mark.parametrize("suffix", [".pth", ".pkl"])
def test_detectron2_backbone_file(suffix: str, published: dict[str, Tensor], tmp_path: Path) -> None:
    prefix = "detr.backbone.0.backbone."
    backbone = {n.removeprefix(prefix): v for n, v in published.items() if n.startswith(prefix)}
    extras = {"stem.fc.weight": torch.zeros(10, 2048), "stem.conv1.norm.num_batches_tracked": torch.tensor(7)}
    path = tmp_path / f"R-50{suffix}"
    if suffix == ".pkl":  # numpy arrays in a plain pickle, as detectron2 publishes them
        arrays = {name: value.numpy() for name, value in {**backbone, **extras}.items()}
        path.write_bytes(pickle.dumps({"model": arrays, "__author__": "torchvision"}))
    else:
        torch.save({**backbone, **extras}, path)
    model = build_model({})
    before = snapshot(model)
    load_weights(model, path)
    for name, value in model.state_dict().items():
        own = name.removeprefix("backbone.")
        assert torch.equal(value, backbone[own] if name.startswith("backbone.") else before[name]), name

    torch.save({name: value for name, value in backbone.items() if "res3.1" not in name}, tmp_path / "b.pth")
    assert_refused(model, tmp_path / "b.pth", "missing: backbone.res3.1.conv1.norm.bias")


class Malicious:
    """Unpickling this writes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return (exec, (f"open({str(self.marker)!r}, 'w').close()",))


@pytest.mark.parametrize("suffix", [".pth", ".pkl"])
@pytest.mark.parametrize("plain", [True, False], ids=["pickle", "zip"])
def test_code_in_a_file_is_refused_and_does_not_run(suffix: str, plain: bool, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    path = tmp_path / f"weights{suffix}"
    content = {"model": {"stem.conv1.weight": Malicious(marker)}}
    if plain:
        path.write_bytes(pickle.dumps(content, protocol=2))
        with path.open("rb") as file:
            pickle.load(file)
        assert marker.exists()  # it would run
        marker.unlink()
    else:
        torch.save(content, path)
    assert_refused(build_model(TINY), path)
    assert not marker.exists()


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
    assert [p.name for p in tmp_path.iterdir()] == ["weights.safetensors"]


def test_saved_weights_of_another_width_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_weights(build_model({**TINY, "num_queries": 5}), path, {})
    assert_refused(build_model(TINY), path, "misshapen: decoder.queries (5, 16) for (4, 16)")
