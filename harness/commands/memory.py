"""``python -m harness memory`` as people type it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from model.config import ModelConfig
from model.errors import InputError


def memory(
    budget: Annotated[str, typer.Option(help="Amounts with commas, such as 16GB,32GB.")] = "16GB,32GB",
    backbone: Annotated[str, typer.Option(help="A backbone of the configuration.")] = "resnet50",
    windows: Annotated[str, typer.Option(help="Frames T of a window, with commas.")] = "5,10,15,20,36",
    size: Annotated[str, typer.Option(help="Frames HxW as the model gets them, with commas.")] = "360x640",
    train: Annotated[bool, typer.Option("--train", help="A training step, too.")] = False,
    batch: Annotated[int, typer.Option(min=1, help="Clips of that step on one device.")] = 2,
    device: Annotated[str, typer.Option(help="Attention as on cuda or on cpu.")] = "cuda",
    to_csv: Annotated[Path | None, typer.Option("--csv", help="Write every estimate to this file.")] = None,
) -> None:
    """Which encoder fits which T in how much memory, ours beside the published operations: estimated.

    Tensors are traced by their shapes: no GPU is needed and no memory is used. docs/memory.md says how far
    estimates are from measured peaks.
    """
    config = ModelConfig.parse({"backbone": backbone})
    if device not in ("cuda", "cpu"):
        raise InputError(f"--device: {device!r}: allowed: cuda, cpu")
    from harness import memory_table  # late: it needs torch

    question = memory_table.Question(
        config=config,
        windows=memory_table.whole_numbers("--windows", windows),
        sizes=memory_table.frame_sizes("--size", size),
        budgets=memory_table.budgets_of("--budget", budget),
        target="cuda" if device == "cuda" else "cpu",
        clips=batch if train else None,
    )
    lines = list(memory_table.lines_of(question))
    if to_csv is not None:
        from harness.report.report import write_whole

        write_whole(to_csv, memory_table.as_csv(question, lines).encode())
    print(memory_table.markdown(question, lines), end="")
