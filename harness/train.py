"""One training: a config, a seed and a data set to weights. One loop, read from top to bottom."""

from __future__ import annotations

import csv
import math
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from harness.config import TrainConfig, TrialConfig
from harness.data.clips import Batch, ClipSampler, batches
from harness.data.ytvis import VideoDataset
from model import build_model
from model.backbone import ResNet
from model.checkpoint import Initialised, initialise, save_weights
from model.clip_model import ClipModel
from model.errors import InputError
from model.losses import SetCriterion
from model.whole_file import whole_file

CHECKPOINT = "checkpoint.pt"
WEIGHTS = "weights.safetensors"
LOSSES = "losses.csv"

Progress = Callable[[int, int, float], None]
"""Called after every step with (steps done, steps in all, loss)."""


class TrainingDivergedError(RuntimeError):
    """The loss is no longer finite."""


def train(
    config: TrialConfig,
    seed: int,
    dataset: VideoDataset,
    folder: Path,
    identity: str,
    device: torch.device,
    progress: Progress = lambda done, steps, loss: None,
    initial: Path | None = None,
) -> ClipModel:
    """Train from ``seed``, or go on from the checkpoint in ``folder``, and leave the weights there.

    Initialisation, data order and dropout draw from streams of their own, so that variants that share a
    seed share their clips. ``initial`` is a weights file to start from; what of the model it does not hold
    stays random and is listed in the weights' metadata (``start``). An interrupted training that goes on ends
    bit for bit where an uninterrupted one does (same machine, same threads).

    Raises :class:`TrainingDivergedError` on a loss that is not finite, :class:`InputError` on a
    checkpoint of another training.
    """
    recipe = config.train
    torch.manual_seed(stream(seed, "init"))
    model = build_model(config.model)
    start = None if initial is None else start_from(model, initial, recipe)
    if start is not None and start.kind != recipe.initial:
        raise InputError(f"{initial}: holds a {start.kind}, but train.initial is {recipe.initial!r}")
    model = model.to(device)
    criterion = build_criterion(config.model.num_classes, recipe).to(device)
    optimizer = build_optimizer(model, recipe)
    torch.manual_seed(stream(seed, "dropout"))
    step = 0
    history: list[list[float]] = []
    if (folder / CHECKPOINT).is_file():
        step, history = _restore(folder / CHECKPOINT, identity, model, optimizer)

    sampler = ClipSampler(dataset, recipe, stream(seed, "data"))
    model.train()
    for batch in batches(sampler, step, recipe.steps, recipe.clips_per_batch):
        started = time.perf_counter()
        rate = learning_rate_factor(recipe, step)
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * rate
        losses = _losses(model, criterion, batch, device)
        total = criterion.total(losses)
        if not math.isfinite(total.item()):
            raise TrainingDivergedError(f"loss is {total.item()} at step {step + 1} of {recipe.steps}")
        optimizer.zero_grad(set_to_none=True)
        total.backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), recipe.clip_norm)
        if not math.isfinite(norm.item()):
            raise TrainingDivergedError(f"gradient norm is {norm.item()} at step {step + 1}")
        optimizer.step()
        step += 1
        parts = [losses[name].item() for name in criterion.weights]
        history.append([step, total.item(), *parts, time.perf_counter() - started])
        if step % recipe.checkpoint_every == 0 and step < recipe.steps:
            _save(folder / CHECKPOINT, identity, step, history, model, optimizer)
        progress(step, recipe.steps, total.item())

    _write_losses(folder / LOSSES, [*criterion.weights], history)
    metadata = {"config": config.model.model_dump(), "identity": identity}
    if start is not None:
        metadata["start"] = start._asdict()
    save_weights(model, folder / WEIGHTS, metadata)
    (folder / CHECKPOINT).unlink(missing_ok=True)
    return model.eval()


def stream(seed: int, purpose: str) -> int:
    """A generator seed for one purpose, so that drawing more for one never shifts another."""
    return zlib.crc32(f"{purpose}:{seed}".encode())


def start_from(model: ClipModel, weights: Path, recipe: TrainConfig) -> Initialised:
    """Put ``weights`` into the model and freeze the backbone's first stages."""
    start = initialise(model, weights)
    if isinstance(model.backbone, ResNet):
        model.backbone.freeze(recipe.frozen_stages)
    return start


def build_criterion(num_classes: int, recipe: TrainConfig) -> SetCriterion:
    """The criterion of a recipe."""
    return SetCriterion(
        num_classes,
        recipe.no_object_weight,
        recipe.dice_weight,
        recipe.mask_weight,
        recipe.matching,
        recipe.box_weight,
        recipe.giou_weight,
    )


def build_optimizer(model: ClipModel, recipe: TrainConfig) -> torch.optim.AdamW:
    """AdamW with a learning rate of its own for the backbone; frozen stages are left out."""
    backbone = [p for p in model.backbone.parameters() if p.requires_grad]
    ours = {id(p) for p in model.backbone.parameters()}
    rest = [p for p in model.parameters() if id(p) not in ours]
    groups = [
        {"params": rest, "lr": recipe.learning_rate, "initial_lr": recipe.learning_rate},
        {
            "params": backbone,
            "lr": recipe.backbone_learning_rate,
            "initial_lr": recipe.backbone_learning_rate,
        },
    ]
    return torch.optim.AdamW(groups, weight_decay=recipe.weight_decay, fused=True)


def learning_rate_factor(recipe: TrainConfig, step: int) -> float:
    """What multiplies the learning rates at a step (counted from 0).

    ``step``: x0.1 at each milestone (paper Sec. 4.1). ``one_cycle``: linear rise over the first tenth,
    then cosine to nearly nothing; for short CPU trainings.
    """
    if recipe.schedule == "step":
        return 0.1 ** sum(step >= milestone for milestone in recipe.milestones)
    rise = max(1, recipe.steps // 10)
    if step < rise:
        return (step + 1) / rise
    done = (step - rise) / max(1, recipe.steps - rise)
    return 0.5 * (1 + math.cos(math.pi * done))


def _losses(
    model: ClipModel, criterion: SetCriterion, batch: Batch, device: torch.device
) -> dict[str, Tensor]:
    padding = None if batch.padding is None else batch.padding.to(device)
    targets = [{key: value.to(device) for key, value in target.items()} for target in batch.targets]
    return criterion(model(batch.frames.to(device), padding), targets)  # type: ignore[no-any-return]


def _save(
    path: Path,
    identity: str,
    step: int,
    history: list[list[float]],
    model: ClipModel,
    optimizer: torch.optim.Optimizer,
) -> None:
    """Everything a resumed training needs, written beside and renamed: never half a checkpoint."""
    state = {
        "identity": identity,
        "step": step,
        "history": history,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "random": torch.get_rng_state(),
        "random_cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }
    with whole_file(path) as draft:
        torch.save(state, draft)


def _restore(
    path: Path, identity: str, model: ClipModel, optimizer: torch.optim.Optimizer
) -> tuple[int, list[list[float]]]:
    """Load a checkpoint in place; returns (step, history)."""
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        found = state["identity"]
    except Exception:  # torch raises many kinds here; all mean the same
        raise InputError(f"{path}: not a readable checkpoint; delete it to start over") from None
    if found != identity:
        raise InputError(
            f"{path}: checkpoint of training {found}, not of {identity}; delete it to start over"
        )
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    torch.set_rng_state(state["random"])
    if state["random_cuda"]:
        torch.cuda.set_rng_state_all(state["random_cuda"])
    return state["step"], state["history"]


def _write_losses(path: Path, names: list[str], history: list[list[float]]) -> None:
    """One line a step: total, the last layer's unweighted losses, seconds."""
    with whole_file(path) as draft, draft.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["step", "total", *names, "seconds"])
        writer.writerows(history)
