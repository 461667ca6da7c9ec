"""Measure a training step against the same step by the published operations.

``python -m benchmarks.training_step``; nothing else may use the machine meanwhile. Two fresh processes have
one model's weights and one batch; they take turns, a pass each, so that a machine that slows down slows both.
Each pass is some whole steps: forward, losses, backward, clipping, AdamW. Before the passes each process
computes losses and gradients once without dropout, which are compared.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from tabulate import tabulate

from harness.provenance import git_state, machine, now

PROJECT = Path(__file__).resolve().parent.parent
SIDES = ("published", "ours")
TARGET = 1.5
"""How many times as many steps a second, at least"""
NEAR = 1e-3
"""Largest relative difference of losses and of the whole gradient (float32, by other operations)"""
WARM = 2
INSTANCES = 3
"""Of each clip"""


class Setting(NamedTuple):
    """What is measured."""

    passes: int = 5
    steps: int = 2
    """Steps of a pass"""
    backbone: str = "resnet50"
    size: str = "360x640"
    frames: int = 5
    clips: int = 1
    threads: int | None = None
    memory: str = "ours"
    """Who trains with freed memory kept (``harness/allocator.py``): ``ours``, as trainings here do and the
    published code does not; ``both``; ``none``"""


PUBLISHED = Setting()
"""What the target is for"""


def main(arguments: list[str]) -> int:
    """Print the table; exit status 1 when a target is missed."""
    if arguments[:1] == ["--side"]:
        return _serve(arguments[1], Setting(**json.loads(arguments[2])), Path(arguments[3]))
    own = PUBLISHED
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training_step", description=__doc__)
    parser.add_argument("--passes", type=int, default=own.passes)
    parser.add_argument("--steps", type=int, default=own.steps, help="steps of a pass")
    parser.add_argument("--backbone", default=own.backbone)
    parser.add_argument("--size", default=own.size, help="HxW of a frame")
    parser.add_argument("--frames", type=int, default=own.frames)
    parser.add_argument("--clips", type=int, default=own.clips)
    parser.add_argument("--threads", type=int)
    parser.add_argument(
        "--memory", default=own.memory, choices=("ours", "both", "none"), help="who keeps freed memory"
    )
    lines = measure(Setting(**vars(parser.parse_args(arguments))))
    shown = [(what, found, target, "met" if met else "MISSED") for what, found, target, met in lines]
    here, commit = machine(), git_state()["git_commit"]
    print(f"{here['cpu']}, {here['cpu_count']} cores; commit {commit}; {now()}\n")
    print(tabulate(shown, ("what", "measured", "target", ""), tablefmt="github"))
    return int(not all(met for *_, met in lines))


def measure(setting: Setting = PUBLISHED) -> list[tuple[str, str, str, bool]]:
    """(what, measured, target, met) of each line."""
    with tempfile.TemporaryDirectory() as work:
        sides = {side: _Side(side, setting, Path(work, side)) for side in SIDES}
        try:
            for side in sides.values():
                side.ask("compare")
            for side in sides.values():
                side.ask("steps", WARM)
            seconds: dict[str, list[float]] = {side: [] for side in SIDES}
            for number in range(setting.passes):
                for name in SIDES if number % 2 == 0 else reversed(SIDES):
                    seconds[name].append(sides[name].ask("steps", setting.steps)["seconds"])
            peaks = {name: side.ask("memory")["peak_gb"] for name, side in sides.items()}
        finally:
            for side in sides.values():
                side.end()
        of_losses, of_gradient = _differences(*(Path(work, side) for side in SIDES))
    ratios = [a / b for a, b in zip(seconds["published"], seconds["ours"], strict=True)]
    what = f"training step, {setting.backbone}, T={setting.frames}, {setting.size}, CPU float32"
    ratio = statistics.median(ratios)
    memory = f"{peaks['ours']:.2f} GB, published {peaks['published']:.2f} GB"
    return [
        (
            f"{what}: ours {_spread(seconds['ours'])}, published {_spread(seconds['published'])}",
            f"{ratio:.2f}x {_quartiles(ratios, '.2f')}",
            f"{TARGET:g}x",
            ratio >= TARGET,
        ),
        ("peak memory of the process", memory, "no more", peaks["ours"] <= peaks["published"]),
        ("largest relative difference of a loss", f"{of_losses:.1e}", f"{NEAR:g}", of_losses <= NEAR),
        ("relative difference of the gradient", f"{of_gradient:.1e}", f"{NEAR:g}", of_gradient <= NEAR),
    ]


def _spread(seconds: list[float]) -> str:
    return f"{1 / statistics.median(seconds):.3f} steps/s ({_quartiles(seconds, '.2f')} s)"


def _quartiles(values: list[float], form: str) -> str:
    if len(values) < 2:
        return f"[{values[0]:{form}}]"
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return f"[{low:{form}}, {high:{form}}]"


class _Side:
    """A process that computes when it is asked to."""

    def __init__(self, side: str, setting: Setting, found: Path) -> None:
        command = [sys.executable, "-m", "benchmarks.training_step", "--side", side]
        command += [json.dumps(setting._asdict()), str(found)]
        self.process = subprocess.Popen(
            command, cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, *words: str | int) -> dict[str, Any]:
        """Send a line, wait for the answer."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(*words, file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError(f"{' '.join(self.process.args)} ended with status {self.process.wait()}")  # type: ignore[arg-type]
        return json.loads(answer)  # type: ignore[no-any-return]

    def end(self) -> None:
        """Close its input, at which it ends."""
        self.process.communicate()


def _differences(*files: Path) -> tuple[float, float]:
    """The largest relative difference of a loss, and that of the gradient as one vector."""
    import torch

    (losses, gradient), (others, other) = (torch.load(file) for file in files)
    pairs = [(value, others[name]) for name, value in losses.items()]
    return max(abs(a - b) / abs(a) for a, b in pairs), float((gradient - other).norm() / gradient.norm())


def _serve(side: str, setting: Setting, found: Path) -> int:
    """Be one side: answer each line of standard input."""
    import torch

    from harness.allocator import freed_memory_kept
    from harness.memory import peak_memory

    if setting.threads is not None:
        torch.set_num_threads(setting.threads)
    training = Training(side, setting)
    keeps = setting.memory in ("both", side)
    with freed_memory_kept() if keeps else contextlib.nullcontext():
        for line in sys.stdin:
            word, *count = line.split()
            answer: dict[str, Any] = {}
            if word == "compare":
                torch.save(training.losses_and_gradient(), found)
            elif word == "steps":
                begun = time.perf_counter()
                for _ in range(int(count[0])):
                    training.step()
                answer["seconds"] = (time.perf_counter() - begun) / int(count[0])
                answer["cpu_seconds"] = time.process_time()
            else:
                answer["peak_gb"] = peak_memory(torch.device("cpu"))[0]
            print(json.dumps(answer), flush=True)
    return 0


class Training:
    """One model, one batch, one side's operations."""

    def __init__(self, side: str, setting: Setting) -> None:
        import torch

        from harness.config import TrainConfig
        from harness.train import build_criterion, build_optimizer
        from model import build_model
        from model.backbone import ResNet
        from model.published.criterion import PublishedCriterion
        from model.published.operations import published_operations

        torch.manual_seed(0)
        self.recipe = TrainConfig(initial="model")
        model = build_model({"backbone": setting.backbone})
        if isinstance(model.backbone, ResNet):
            model.backbone.freeze(self.recipe.frozen_stages)
        classes = model.config.num_classes
        ours = side == "ours"
        self.model = model.train() if ours else published_operations(model.train())
        self.criterion = (
            build_criterion(classes, self.recipe)
            if ours
            else PublishedCriterion(
                classes, self.recipe.no_object_weight, self.recipe.dice_weight, self.recipe.mask_weight
            )
        )
        self.optimizer = build_optimizer(self.model, self.recipe)
        height, width = (int(number) for number in setting.size.split("x"))
        shape = (setting.clips, setting.frames, 3, height, width)
        drawn = torch.Generator().manual_seed(1)  # of their own: making the published model draws too
        self.frames = torch.randint(0, 256, shape, generator=drawn, dtype=torch.uint8)
        self.targets = []
        for _ in range(setting.clips):
            masks = torch.zeros(INSTANCES, setting.frames, height, width, dtype=torch.bool)
            for i in range(INSTANCES):
                top, left = (i + 1) * height // 8, (i + 1) * width // 6
                masks[i, :, top : top + height // 3, left : left + width // 4] = True
            self.targets.append(
                {"labels": torch.randint(0, classes, (INSTANCES,), generator=drawn), "masks": masks}
            )

    def step(self) -> None:
        """One whole step."""
        from torch import nn

        total = self.criterion.total(self.criterion(self.model(self.frames), self.targets))
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip_norm)
        if not (total.isfinite() and norm.isfinite()):
            raise RuntimeError(f"loss {total.item()}, gradient norm {norm.item()}")
        self.optimizer.step()

    def losses_and_gradient(self) -> tuple[dict[str, float], Any]:
        """Of the weights as they are, without dropout; the gradient as one vector."""
        import torch

        self.model.eval()
        losses = self.criterion(self.model(self.frames), self.targets)
        self.criterion.total(losses).backward()
        self.model.train()
        gradients = [p.grad.flatten() for p in self.model.parameters() if p.grad is not None]
        self.optimizer.zero_grad(set_to_none=True)
        return {name: value.item() for name, value in losses.items()}, torch.cat(gradients)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
