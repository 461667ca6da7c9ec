"""Training: the same result for the same seed, interrupted or not, and honest ends."""

from __future__ import annotations

import csv
import math
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from harness import train as training
from harness.config import SyntheticConfig, TrainConfig, TrialConfig
from harness.data.clips import ClipSampler
from harness.data.frame_cache import FrameCache
from harness.data.synthetic import write_dataset
from harness.data.ytvis import VideoDataset, load_dataset
from harness.stages import _seconds_of_steps
from harness.train import (
    CHECKPOINT,
    LOSSES,
    WEIGHTS,
    Step,
    TrainingDivergedError,
    TrialInterruptedError,
    learning_rate_factor,
    train,
)
from model import InputError, build_model
from model.checkpoint import load_weights, save_weights
from model.clip_model import ClipModel
from model.losses import SetCriterion

DATA = SyntheticConfig(
    train_videos=4, valid_videos=2, length=6, height=32, width=48, min_size=8, max_size=16, categories=4
)
MODEL: dict[str, Any] = {
    "backbone": "tiny",
    "memory_tokens": 2,
    "num_classes": 4,
    "num_queries": 5,
    "hidden_dim": 16,
    "attention_heads": 2,
    "ffn_dim": 24,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "dropout": 0.2,
}
RECIPE: dict[str, Any] = {
    "steps": 6,
    "clips_per_batch": 2,
    "frames_per_clip": 3,
    "short_sides": (32, 24),
    "learning_rate": 1e-3,
    "backbone_learning_rate": 1e-3,
    "schedule": "one_cycle",
    "checkpoint_every": 2,
}
CPU = torch.device("cpu")


class InterruptError(Exception):
    """Somebody stopped the training."""


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> VideoDataset:
    root = tmp_path_factory.mktemp("train") / "data"
    write_dataset(DATA, root)
    return load_dataset(root, "train")


def config(encoder: str = "ifc", **recipe: Any) -> TrialConfig:
    return TrialConfig(
        model={**MODEL, "encoder": encoder},
        data={"kind": "synthetic", "synthetic": DATA.model_dump()},
        train={**RECIPE, **recipe},
    )


def run(config: TrialConfig, dataset: VideoDataset, folder: Path, seed: int = 0, stop: int = 0) -> ClipModel:
    """Train into ``folder``; raise after step ``stop``."""
    folder.mkdir(exist_ok=True)

    def progress(step: Step) -> None:
        if step.done == stop:
            raise InterruptError

    return train(config, seed, dataset, folder, "this", CPU, progress)


def losses(folder: Path) -> list[list[str]]:
    """All lines of the loss history without the seconds, every line complete."""
    with (folder / LOSSES).open(newline="") as file:
        lines = list(csv.reader(file))
    assert lines[0] == ["step", "total", "loss_ce", "loss_dice", "loss_mask", "seconds", "waited"]
    assert all(len(line) == 7 and 0 < float(line[6]) < float(line[5]) for line in lines[1:])
    return [line[:5] for line in lines]


def same_weights(one: ClipModel, other: ClipModel) -> bool:
    theirs = other.state_dict()
    return all(torch.equal(value, theirs[name]) for name, value in one.state_dict().items())


@pytest.mark.parametrize("encoder", ["ifc", "full_thw"])
@pytest.mark.parametrize("stop", [1, 2, 3, 5])
def test_an_interrupted_training_ends_where_an_uninterrupted_one_does(
    encoder: str, stop: int, dataset: VideoDataset, tmp_path: Path
) -> None:
    whole = run(config(encoder), dataset, tmp_path / "whole")
    with pytest.raises(InterruptError):
        run(config(encoder), dataset, tmp_path / "parts", stop=stop)
    assert (tmp_path / "parts" / CHECKPOINT).is_file() == (stop >= 2)
    assert not (tmp_path / "parts" / WEIGHTS).exists()
    parts = run(config(encoder), dataset, tmp_path / "parts")
    assert same_weights(whole, parts)
    assert losses(tmp_path / "whole") == losses(tmp_path / "parts")
    assert [line[0] for line in losses(tmp_path / "parts")] == ["step", *"123456"]


@pytest.mark.parametrize("stop", [0, 1, 3, 5])
def test_a_training_that_is_asked_to_stop_saves_where_it_is(
    stop: int, dataset: VideoDataset, tmp_path: Path
) -> None:
    """Whatever ``checkpoint_every`` says, nothing is lost, and what goes on ends bit for bit the same."""
    told: list[Step] = []

    def part(after: int) -> ClipModel:
        (tmp_path / "parts").mkdir(exist_ok=True)
        told.clear()
        return train(
            config(checkpoint_every=100),
            0,
            dataset,
            tmp_path / "parts",
            "this",
            CPU,
            told.append,
            stop=lambda: len(told) == after,
        )

    with pytest.raises(TrialInterruptedError, match=f"after step {stop} of 6"):
        part(after=stop)
    state = torch.load(tmp_path / "parts" / CHECKPOINT, weights_only=True)
    assert state["step"] == len(state["history"]) == stop
    parts = part(after=-1)
    assert [step.done for step in told] == list(range(stop + 1, 7))
    assert same_weights(run(config(), dataset, tmp_path / "whole"), parts)
    assert losses(tmp_path / "whole") == losses(tmp_path / "parts")
    assert not (tmp_path / "parts" / CHECKPOINT).exists()


def test_a_checkpoint_from_before_waiting_was_measured_goes_on(dataset: VideoDataset, tmp_path: Path) -> None:
    """Its steps have no such column: ``nan`` in the file, an unknown waiting in the record."""
    with pytest.raises(InterruptError):
        run(config(), dataset, tmp_path, stop=5)
    state = torch.load(tmp_path / CHECKPOINT, weights_only=True)
    state["history"] = [row[:-1] for row in state["history"]]
    torch.save(state, tmp_path / CHECKPOINT)
    run(config(), dataset, tmp_path)
    with (tmp_path / LOSSES).open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [math.isnan(float(line["waited"])) for line in lines] == [True] * 4 + [False] * 2
    told = _seconds_of_steps(tmp_path / LOSSES)
    assert told["train_waited_seconds"] is None
    assert told["train_seconds"] == round(sum(float(line["seconds"]) for line in lines), 3)


def test_waiting_for_slow_clips_is_measured(
    dataset: VideoDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clip that comes 0.2 s late is waited for; those after it were read meanwhile."""
    plain = ClipSampler.clip

    def late(self: ClipSampler, index: int) -> Any:
        if index == 0:
            time.sleep(0.2)
        return plain(self, index)

    monkeypatch.setattr(ClipSampler, "clip", late)
    run(config(), dataset, tmp_path)
    with (tmp_path / LOSSES).open(newline="") as file:
        waited = [float(line["waited"]) for line in csv.DictReader(file)]
    assert waited[0] >= 0.2
    told = _seconds_of_steps(tmp_path / LOSSES)
    assert told["train_waited_seconds"] == pytest.approx(sum(waited), abs=1e-3)


@pytest.mark.parametrize("limit", [0, 10_000, 10**8])
def test_a_cache_of_frames_changes_no_loss(limit: int, dataset: VideoDataset, tmp_path: Path) -> None:
    run(config(), dataset, tmp_path / "plain")
    (tmp_path / "cached").mkdir()
    cache = FrameCache(limit)
    train(config(), 0, dataset, tmp_path / "cached", "this", CPU, cache=cache)
    assert losses(tmp_path / "cached") == losses(tmp_path / "plain")
    assert cache.bytes <= limit
    if limit in (0, 10**8):
        assert (cache.hits > 0) == (limit > 0)


def test_a_training_that_is_asked_after_its_last_step_is_finished(
    dataset: VideoDataset, tmp_path: Path
) -> None:
    told: list[Step] = []
    train(config(), 0, dataset, tmp_path, "this", CPU, told.append, stop=lambda: len(told) == 6)
    assert (tmp_path / WEIGHTS).is_file()


def test_a_step_tells_losses_and_rate(dataset: VideoDataset, tmp_path: Path) -> None:
    told: list[Step] = []
    recipe = config(backbone_learning_rate=1e-5)
    train(recipe, 0, dataset, tmp_path, "this", CPU, told.append)
    for step, line in zip(told, losses(tmp_path)[1:], strict=True):
        assert [step.done, step.steps] == [int(line[0]), 6]
        assert [step.loss, *step.losses.values()] == [float(value) for value in line[1:]]
        assert [*step.losses] == ["loss_ce", "loss_dice", "loss_mask"]
        rate = learning_rate_factor(recipe.train, step.done - 1)
        assert step.learning_rate == pytest.approx(1e-3 * rate)


def test_a_finished_training_leaves_weights_and_losses(dataset: VideoDataset, tmp_path: Path) -> None:
    trained = run(config(), dataset, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([LOSSES, WEIGHTS])
    assert not trained.training
    again = build_model(config().model)
    load_weights(again, tmp_path / WEIGHTS)
    assert same_weights(trained, again)


def test_the_seed_decides_everything(dataset: VideoDataset, tmp_path: Path) -> None:
    one, same, other = (
        run(config(), dataset, tmp_path / name, seed) for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert same_weights(one, same)
    assert losses(tmp_path / "a") == losses(tmp_path / "b") != losses(tmp_path / "c")
    assert not same_weights(one, other)


def test_global_random_state_does_not_matter(dataset: VideoDataset, tmp_path: Path) -> None:
    one = run(config(steps=2), dataset, tmp_path / "a")
    torch.manual_seed(99)
    torch.rand(5)
    assert same_weights(one, run(config(steps=2), dataset, tmp_path / "b"))


def test_encoders_that_share_a_seed_share_their_clips(
    dataset: VideoDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[int, Tensor] = {}  # several threads read: in no order
    plain = ClipSampler.clip

    def noted(self: ClipSampler, index: int) -> Any:
        clip = plain(self, index)
        seen[index] = clip.frames
        return clip

    monkeypatch.setattr(ClipSampler, "clip", noted)
    drawn = []
    for name, encoder, seed in (("a", "ifc", 0), ("b", "full_thw", 0), ("c", "ifc", 1)):
        seen.clear()
        run(config(encoder, steps=3), dataset, tmp_path / name, seed)
        drawn.append([seen[index] for index in sorted(seen)])
    assert len(drawn[0]) == 6
    assert all(torch.equal(a, b) for a, b in zip(drawn[0], drawn[1], strict=True))
    assert not all(a.shape == c.shape and torch.equal(a, c) for a, c in zip(drawn[0], drawn[2], strict=True))


def test_no_steps_leave_the_initial_weights(dataset: VideoDataset, tmp_path: Path) -> None:
    untrained = run(config(steps=0), dataset, tmp_path / "a")
    trained = run(config(steps=1), dataset, tmp_path / "b")
    assert len(losses(tmp_path / "a")) == 1
    assert not same_weights(untrained, trained)
    assert (tmp_path / "a" / WEIGHTS).is_file()


def test_training_lowers_the_loss(dataset: VideoDataset, tmp_path: Path) -> None:
    run(config(steps=40, clip_norm=1.0, learning_rate=3e-3), dataset, tmp_path)
    totals = [float(line[1]) for line in losses(tmp_path)[1:]]
    assert sum(totals[-8:]) < 0.95 * sum(totals[:8])


def test_training_by_boxes_lowers_their_losses(dataset: VideoDataset, tmp_path: Path) -> None:
    recipe: dict[str, Any] = {"steps": 40, "clip_norm": 1.0, "learning_rate": 3e-3, "matching": "box"}
    trained = run(config(**recipe), dataset, tmp_path)
    with (tmp_path / LOSSES).open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [*lines[0]][2:-2] == ["loss_ce", "loss_dice", "loss_mask", "loss_bbox", "loss_giou"]
    for name in ("total", "loss_bbox"):
        values = [float(line[name]) for line in lines]
        assert sum(values[-8:]) < 0.9 * sum(values[:8]), name
    again = build_model(config(**recipe).model)
    load_weights(again, tmp_path / WEIGHTS)
    assert same_weights(trained, again)
    with pytest.raises(InputError, match="box_head"):
        load_weights(build_model(config().model), tmp_path / WEIGHTS)


def test_an_interrupted_training_by_boxes_goes_on(dataset: VideoDataset, tmp_path: Path) -> None:
    whole = run(config(matching="box"), dataset, tmp_path / "whole")
    with pytest.raises(InterruptError):
        run(config(matching="box"), dataset, tmp_path / "parts", stop=3)
    assert same_weights(whole, run(config(matching="box"), dataset, tmp_path / "parts"))


def interrupted(dataset: VideoDataset, folder: Path) -> Path:
    with pytest.raises(InterruptError):
        run(config(), dataset, folder, stop=3)
    return folder / CHECKPOINT


def test_a_checkpoint_of_another_training_is_refused(dataset: VideoDataset, tmp_path: Path) -> None:
    interrupted(dataset, tmp_path)
    with pytest.raises(InputError, match="checkpoint of training this, not of that") as caught:
        train(config(), 0, dataset, tmp_path, "that", CPU)
    assert "\n" not in str(caught.value)
    assert (tmp_path / CHECKPOINT).is_file()


@pytest.mark.parametrize("kept", [0.0, 0.5, 0.99])
def test_a_truncated_checkpoint_is_refused(kept: float, dataset: VideoDataset, tmp_path: Path) -> None:
    checkpoint = interrupted(dataset, tmp_path)
    content = checkpoint.read_bytes()
    checkpoint.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(InputError, match="not a readable checkpoint") as caught:
        run(config(), dataset, tmp_path)
    assert str(checkpoint) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_failed_save_leaves_the_last_checkpoint(
    dataset: VideoDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = interrupted(dataset, tmp_path)
    before = checkpoint.read_bytes()

    def full(state: Any, path: Path) -> None:
        path.write_bytes(b"half a check")
        raise OSError("no space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="no space"):
        run(config(), dataset, tmp_path)
    assert checkpoint.read_bytes() == before


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_ends_the_training(
    bad: float, dataset: VideoDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, steps = SetCriterion.total, []

    def total(self: SetCriterion, parts: dict[str, Tensor]) -> Tensor:
        steps.append(1)
        return plain(self, parts) * (bad if len(steps) == 3 else 1)

    monkeypatch.setattr(SetCriterion, "total", total)
    with pytest.raises(TrainingDivergedError, match="at step 3 of 6"):
        run(config(), dataset, tmp_path)
    assert not (tmp_path / WEIGHTS).exists()


def test_a_learning_rate_far_too_high_ends_the_training(dataset: VideoDataset, tmp_path: Path) -> None:
    with pytest.raises(TrainingDivergedError, match="loss is nan at step 2"):
        run(config(learning_rate=1e30), dataset, tmp_path)


def test_the_backbone_has_a_rate_of_its_own() -> None:
    recipe = TrainConfig(learning_rate=1e-4, backbone_learning_rate=1e-5, weight_decay=0.5)
    model = build_model(MODEL)
    rest, backbone = training.build_optimizer(model, recipe).param_groups
    assert (rest["lr"], backbone["lr"]) == (1e-4, 1e-5)
    assert rest["weight_decay"] == backbone["weight_decay"] == 0.5
    wanted = {id(p) for p in model.backbone.parameters()}
    assert {id(p) for p in backbone["params"]} == wanted
    assert {id(p) for p in rest["params"]} == {id(p) for p in model.parameters()} - wanted


def test_a_frozen_backbone_stays(dataset: VideoDataset, tmp_path: Path) -> None:
    untrained = run(config(steps=0), dataset, tmp_path / "a")
    trained = run(config(steps=2, backbone_learning_rate=0.0), dataset, tmp_path / "b")
    assert same_weights(untrained.backbone, trained.backbone)
    assert not same_weights(untrained.encoder, trained.encoder)


def test_first_stages_keep_the_weights_they_start_from(dataset: VideoDataset, tmp_path: Path) -> None:
    keys: dict[str, Any] = {"backbone": "resnet18", "dropout": 0.0}
    recipe = {**RECIPE, "steps": 1, "initial": "model", "frozen_stages": 2, "backbone_learning_rate": 1e-3}
    trial = TrialConfig.model_validate({"model": {**MODEL, **keys}, "train": recipe})
    start = build_model({**MODEL, **keys})
    save_weights(start, tmp_path / "start.safetensors", {})
    (tmp_path / "run").mkdir()
    done = train(
        trial, 0, dataset, tmp_path / "run", "id", torch.device("cpu"), initial=tmp_path / "start.safetensors"
    )
    changed = {
        name.split(".")[0]
        for (name, before), after in zip(
            start.backbone.named_parameters(), done.backbone.parameters(), strict=True
        )
        if not torch.equal(before, after)
    }
    assert changed == {"res3", "res4", "res5"}


def test_a_backbone_is_no_pretrained_model(dataset: VideoDataset, tmp_path: Path) -> None:
    start = build_model(MODEL)
    alone = {f"backbone.{name}": value for name, value in start.backbone.state_dict().items()}
    torch.save({"model": alone}, tmp_path / "ifc-tiny.pth")
    trial = TrialConfig.model_validate({"model": MODEL, "train": {**RECIPE, "initial": "model"}})
    with pytest.raises(InputError, match=r"ifc-tiny\.pth: holds a backbone, but train\.initial is 'model'"):
        train(trial, 0, dataset, tmp_path, "id", torch.device("cpu"), initial=tmp_path / "ifc-tiny.pth")


def test_step_schedule() -> None:
    recipe = TrainConfig(steps=10, schedule="step", milestones=(4, 8))
    factors = [learning_rate_factor(recipe, step) for step in range(10)]
    assert factors == pytest.approx([1.0] * 4 + [0.1] * 4 + [0.01] * 2)


@pytest.mark.parametrize("steps", [1, 2, 7, 40, 1000])
def test_one_cycle_schedule(steps: int) -> None:
    recipe = TrainConfig(steps=steps, schedule="one_cycle")
    factors = [learning_rate_factor(recipe, step) for step in range(steps)]
    rise = max(1, steps // 10)
    assert factors[:rise] == pytest.approx([(step + 1) / rise for step in range(rise)])
    assert max(factors) == 1
    assert all(0 < factor <= 1 for factor in factors)
    falling = factors[rise:]
    assert falling == sorted(falling, reverse=True)
    if steps >= 40:
        assert factors[-1] < 0.01


def test_streams_are_apart() -> None:
    drawn = {training.stream(seed, purpose) for seed in range(50) for purpose in ("init", "data", "dropout")}
    assert len(drawn) == 150
