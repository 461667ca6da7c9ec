"""One training: a config, a seed and a data set to weights. One loop, read from top to bottom."""

from __future__ import annotations

import csv
import math
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from harness.config import TrainConfig, TrialConfig
from harness.data.clips import Batch, ClipSampler, batches
from harness.data.frame_cache import FrameCache
from harness.data.ytvis import VideoDataset
from harness.distributed import ALONE, Processes
from model import build_model
from model.backbone import ResNet
from model.checkpoint import Initialised, initialise, save_weights
from model.clip_model import ClipModel
from model.errors import InputError
from model.losses import Divisors, SetCriterion
from model.whole_file import whole_file

CHECKPOINT = "checkpoint.pt"
WEIGHTS = "weights.safetensors"
LOSSES = "losses.csv"
WAITED = "waited"
"""Column: seconds of a step that this process (of several: the first) waited for clips"""


class Step(NamedTuple):
    """What a step that is done tells."""

    done: int
    steps: int
    loss: float
    losses: dict[str, float]
    """The last layer's losses, unweighted"""
    learning_rate: float
    """Of all but the backbone"""


Progress = Callable[[Step], None]


class TrainingDivergedError(RuntimeError):
    """The loss is no longer finite."""


class TrialInterruptedError(Exception):
    """The trial was asked to stop. What it has saved goes on in another process."""


def train(
    config: TrialConfig,
    seed: int,
    dataset: VideoDataset,
    folder: Path,
    identity: str,
    device: torch.device,
    progress: Progress = lambda step: None,
    initial: Path | None = None,
    stop: Callable[[], bool] = lambda: False,
    processes: Processes = ALONE,
    cache: FrameCache | None = None,
) -> ClipModel:
    """Train from ``seed``, or go on from the checkpoint in ``folder``, and leave the weights there.

    Initialisation, data order and dropout draw from streams of their own, so that variants that share a
    seed share their clips. ``initial`` is a weights file to start from; what of the model it does not hold
    stays random and is listed in the weights' metadata (``start``). An interrupted training that goes on ends
    bit for bit where an uninterrupted one does (same machine, same threads).

    ``stop`` is asked between steps; when it says yes, a checkpoint is saved and
    :class:`TrialInterruptedError` raised.

    ``clips_per_batch`` counts the clips of all ``processes`` together, which have to have joined. Any number
    of them sees the same batches and has the same losses up to rounding, and may go on from the checkpoint
    of any other. Only dropout draws anew: with several processes from a stream for each step and process.
    Process 0 alone writes files; progress and weights are the same in all.

    ``cache`` keeps frames of ``dataset`` that clips share; without one each clip is read anew. Either way the
    clips are the same.

    Raises :class:`TrainingDivergedError` on a loss that is not finite, :class:`InputError` on a
    checkpoint of another training and on batches that cannot be shared out.
    """
    recipe = config.train
    processes.check_batch(recipe.clips_per_batch)
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
        step, history = _restore(folder / CHECKPOINT, identity, model, optimizer, device)
        # Rows of a checkpoint from before waiting was measured are one column short.
        columns = 4 + len(criterion.weights)
        history = [[*row, *[math.nan] * (columns - len(row))] for row in history]

    sampler = ClipSampler(dataset, recipe, stream(seed, "data"), cache)
    model.train()
    parallel = processes.wrap(model, unused_parameters=config.model.box_head and recipe.matching == "mask")
    started = time.perf_counter()
    coming = batches(sampler, step, recipe.steps, recipe.clips_per_batch, processes.rank, processes.count)
    for waited, share in _awaited(coming):
        own = criterion.divisors(share.targets, config.model.num_queries)
        batch, divisors, stopping = processes.agree(share, own, stop())
        if stopping:
            if processes.rank == 0:
                _save(folder / CHECKPOINT, identity, step, history, model, optimizer, device)
            processes.wait()
            raise TrialInterruptedError(f"stopped after step {step} of {recipe.steps}")
        if processes.count > 1:
            torch.manual_seed(stream(seed, f"dropout:{step}:{processes.rank}"))
        rate = learning_rate_factor(recipe, step)
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * rate
        losses = _losses(parallel, criterion, batch, divisors, device)
        total = criterion.total(losses)
        shown = torch.stack([total, *(losses[name] for name in criterion.weights)]).detach()
        loss, *parts = processes.add(shown)
        if not math.isfinite(loss):
            raise TrainingDivergedError(f"loss is {loss} at step {step + 1} of {recipe.steps}")
        optimizer.zero_grad(set_to_none=True)
        (processes.count * total).backward()  # the mean over processes makes it the sum of their shares
        norm = nn.utils.clip_grad_norm_(model.parameters(), recipe.clip_norm)
        if not math.isfinite(norm.item()):
            raise TrainingDivergedError(f"gradient norm is {norm.item()} at step {step + 1}")
        optimizer.step()
        step += 1
        started, seconds = time.perf_counter(), time.perf_counter() - started  # waiting for clips included
        history.append([step, loss, *parts, seconds, waited])
        if step % recipe.checkpoint_every == 0 and step < recipe.steps and processes.rank == 0:
            _save(folder / CHECKPOINT, identity, step, history, model, optimizer, device)
        named = dict(zip(criterion.weights, parts, strict=True))
        progress(Step(step, recipe.steps, loss, named, optimizer.param_groups[0]["lr"]))

    if processes.rank == 0:
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


def _awaited(coming: Iterable[Batch]) -> Iterator[tuple[float, Batch]]:
    """Each batch with the seconds from asking for it until it was there."""
    asked = time.perf_counter()
    for batch in coming:
        yield time.perf_counter() - asked, batch
        asked = time.perf_counter()


def _losses(
    model: nn.Module, criterion: SetCriterion, batch: Batch, divisors: Divisors | None, device: torch.device
) -> dict[str, Tensor]:
    padding = None if batch.padding is None else batch.padding.to(device)
    targets = [{key: value.to(device) for key, value in target.items()} for target in batch.targets]
    outputs = model(batch.frames.to(device), padding)
    return criterion(outputs, targets, *(divisors or ()))  # type: ignore[no-any-return]


def _save(
    path: Path,
    identity: str,
    step: int,
    history: list[list[float]],
    model: ClipModel,
    optimizer: torch.optim.Optimizer,
    device: torch.device,
) -> None:
    """Everything a resumed training needs, written beside and renamed: never half a checkpoint."""
    state = {
        "identity": identity,
        "step": step,
        "history": history,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "random": torch.get_rng_state(),
        "random_cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
    }
    with whole_file(path) as draft:
        torch.save(state, draft)


def _restore(
    path: Path, identity: str, model: ClipModel, optimizer: torch.optim.Optimizer, device: torch.device
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
    if state["random_cuda"] is not None and device.type == "cuda":
        torch.cuda.set_rng_state(state["random_cuda"], device)
    return state["step"], state["history"]


def _write_losses(path: Path, names: list[str], history: list[list[float]]) -> None:
    """One line a step: total, the last layer's unweighted losses, seconds; of these waited for its batch.

    ``nan`` where a step's waiting was not measured.
    """
    with whole_file(path) as draft, draft.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["step", "total", *names, "seconds", WAITED])
        writer.writerows(history)
