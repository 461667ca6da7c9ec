"""What each of two processes does for test_distributed.py: one start of torchrun, several trainings.

Run as ``torchrun tests/two_processes.py FOLDER``, where FOLDER holds ``data`` and perhaps checkpoints.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.config import SyntheticConfig, TrialConfig
from harness.data.ytvis import VideoDataset, load_dataset
from harness.distributed import ALONE, Processes
from harness.train import Step, TrainingDivergedError, TrialInterruptedError, train
from model.clip_model import ClipModel

DATA = SyntheticConfig(
    train_videos=5, valid_videos=1, length=5, height=32, width=48, min_size=8, max_size=16, categories=4
)
MODEL: dict[str, Any] = {
    "backbone": "tiny",
    "memory_tokens": 2,
    "num_classes": 4,
    "num_queries": 4,
    "hidden_dim": 16,
    "attention_heads": 2,
    "ffn_dim": 24,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "dropout": 0.0,
}
# Clips of many sizes, so that the shares of a batch have to be padded to a size that one of them lacks;
# crops so small that some show no instance, or more or fewer than the other share.
RECIPE: dict[str, Any] = {
    "steps": 8,
    "clips_per_batch": 4,
    "frames_per_clip": 2,
    "short_sides": (32, 24),
    "crop": 0.7,
    "crop_range": (16, 32),
    "learning_rate": 1e-3,
    "backbone_learning_rate": 1e-3,
    "schedule": "one_cycle",
    "checkpoint_every": 100,
}
CASES: dict[str, dict[str, Any]] = {
    "masks": {},
    "full attention": {"model": {"encoder": "full_thw"}},
    "boxes": {"train": {"matching": "box"}},
    "unused boxes": {"model": {"box_head": True}, "train": {"steps": 3}},
    "dropout": {"model": {"dropout": 0.2}, "train": {"steps": 4}},
    "diverged": {"train": {"learning_rate": 1e30}},
}
STOP_AFTER = 4
EXACT = ("masks", "boxes", "unused boxes")
"""Trained in float64: in float32 rounding may decide a match between queries that are still alike."""


@contextmanager
def double() -> Iterator[None]:
    """Models, frames and losses are float64."""
    plain = torch.Tensor.float
    torch.set_default_dtype(torch.float64)
    torch.Tensor.float = lambda self: self.to(torch.float64)  # type: ignore[assignment, method-assign]
    try:
        yield
    finally:
        torch.Tensor.float = plain  # type: ignore[method-assign]
        torch.set_default_dtype(torch.float32)


def config(case: str) -> TrialConfig:
    said = CASES[case]
    return TrialConfig(
        model={**MODEL, **said.get("model", {})},
        data={"kind": "synthetic", "synthetic": DATA.model_dump()},
        train={**RECIPE, **said.get("train", {})},
    )


def run(
    case: str,
    dataset: VideoDataset,
    folder: Path,
    processes: Processes = ALONE,
    stop: Callable[[int], bool] = lambda done: False,
) -> ClipModel:
    """Train into ``folder``; ``stop`` is asked with the steps that this call has done."""
    folder.mkdir(exist_ok=True)
    told: list[Step] = []
    with double() if case in EXACT else nullcontext():
        return train(
            config(case),
            3,
            dataset,
            folder,
            case,
            torch.device("cpu"),
            told.append,
            stop=lambda: stop(len(told)),
            processes=processes,
        )


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    dataset = load_dataset(folder / "data", "train")
    processes = Processes.started()
    processes.join(torch.device("cpu"))
    rank = processes.rank
    for case in ("masks", "full attention", "boxes", "unused boxes", "dropout"):
        model = run(case, dataset, folder / f"{case} by two", processes)
        torch.save(model.state_dict(), folder / f"{case} {rank}.pt")
    run("masks", dataset, folder / "one, then two", processes)
    for case, name in (("masks", "two, then one"), ("dropout", "two, then two")):
        after = 2 if case == "dropout" else STOP_AFTER
        with pytest.raises(TrialInterruptedError):  # one is asked, both stop
            run(case, dataset, folder / name, processes, lambda done, n=after: rank == 1 and done == n)
    run("dropout", dataset, folder / "two, then two", processes)
    with pytest.raises(TrainingDivergedError):
        run("diverged", dataset, folder / "diverged", processes)
    assert processes.largest(rank + 0.5) == 1.5
    processes.leave()
    (folder / f"{rank}.ended").touch()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
