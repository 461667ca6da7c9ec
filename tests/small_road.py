"""A sweep small enough for tests, and the command on it in real processes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from harness.engine.plan import Options, Plan, make_plan

ROOT = Path(__file__).resolve().parent.parent
STEPS = 16
VIDEOS = {"train_videos": 6, "valid_videos": 2, "length": 8, "height": 32, "width": 48, "categories": 2}
VIDEOS |= {"max_instances": 1, "min_size": 12, "max_size": 20}
SCALE: dict[str, Any] = {
    "name": "micro",
    "description": "As small as it gets",
    "settings": {
        "data": {"kind": "synthetic", "synthetic": VIDEOS},
        "model": {
            "backbone": "tiny",
            "num_queries": 5,
            "hidden_dim": 32,
            "ffn_dim": 64,
            "attention_heads": 4,
            "encoder_layers": 1,
            "decoder_layers": 1,
            "dropout": 0.0,
        },
        "train": {
            "steps": STEPS,
            "clips_per_batch": 2,
            "frames_per_clip": 3,
            "frame_range": 4,
            "short_sides": [32],
            "learning_rate": 3.0e-3,
            "backbone_learning_rate": 3.0e-3,
            "clip_norm": 1.0,
            "schedule": "one_cycle",
            "checkpoint_every": 1,
            "threads": 1,
        },
        "inference": {"short_side": 32},
        "speed": {"videos": 1, "passes": 1, "min_seconds": 0},
    },
    "images": {"data": {"synthetic": {"length": 1}}},
    "stand_ins": {"model.backbone": {"resnet50": "tiny", "resnet101": "tiny_deep"}},
}
SWEEP: dict[str, Any] = {
    "name": "micro",
    "title": "A small table",
    "axes": {"model.encoder": ["no_comm", "ifc"], "inference.window": [3, 5]},
    "seeds": 2,
    "table": {"rows": "model.encoder", "columns": "inference.window", "cells": ["AP", "fps"]},
    "std_table": "micro_std",
    "figures": ["AP"],
}
# The same trainings without timing: one row of the table.
IFC_ONLY = {
    **{key: value for key, value in SWEEP.items() if key not in ("std_table", "figures")},
    "name": "ifc_only",
    "axes": {"model.encoder": ["ifc"], "inference.window": [3, 5]},
    "measure": ["ap"],
    "table": {**SWEEP["table"], "cells": ["AP"]},
}
# Threads that wait for each other by spinning crawl where other work shares the cores.
ENVIRONMENT = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"}
METRICS = ["AP", "AP50", "AP75", "AR1", "AR10"]
Done = subprocess.CompletedProcess[str]


@dataclass(frozen=True)
class Road:
    """A sweep file, and the command on it with folders of its own."""

    folder: Path
    sweep: Path
    extra: tuple[str, ...] = ()

    @property
    def results(self) -> Path:
        return self.folder / "results"

    @property
    def rows(self) -> pd.DataFrame:
        return pd.read_parquet(self.plan().rows)

    def plan(self) -> Plan:
        scale = str(self.folder / "scale.yaml")
        data = Path(self.extra[1]) if self.extra[:1] == ("--data",) else None
        return make_plan(Options(self.sweep, scale, self.results, self.folder / "reports", data))

    def command(self, *more: str) -> list[str]:
        places = ["--results", str(self.results), "--reports", str(self.folder / "reports")]
        scale = ["--scale", str(self.folder / "scale.yaml")]
        command = [sys.executable, "run_sweep.py", str(self.sweep), *scale, *places, "--device", "cpu"]
        return [*command, *self.extra, *more]

    def run(self, *more: str) -> Done:
        return subprocess.run(
            self.command(*more), cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, timeout=300
        )

    def start(self) -> subprocess.Popen[str]:
        log = (self.folder / "started.log").open("w")
        with log:
            return subprocess.Popen(
                self.command(),
                cwd=ROOT,
                env=ENVIRONMENT,
                stdout=log,
                stderr=log,
                text=True,
                start_new_session=True,
            )

    def files(self) -> dict[str, int]:
        """Every file of the results with its time of change."""
        found = (path for path in self.results.rglob("*") if path.is_file())
        return {path.relative_to(self.results).as_posix(): path.stat().st_mtime_ns for path in found}

    def children(self) -> list[int]:
        """Processes whose command names a file of these results."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                line = (process / "cmdline").read_bytes()
            except OSError:
                continue
            if str(self.results / "trials").encode() in line:
                found.append(int(process.name))
        return found


def make_road(folder: Path, sweep: dict[str, Any], *extra: str, scale: dict[str, Any] | None = None) -> Road:
    folder.mkdir(exist_ok=True)
    (folder / "scale.yaml").write_text(yaml.safe_dump({**SCALE, **(scale or {})}))
    file = folder / "sweep.yaml"
    file.write_text(yaml.safe_dump(sweep, sort_keys=False))
    return Road(folder, file, extra)


def wait_for(condition: Callable[[], object], what: str) -> None:
    for _ in range(60_000):
        if condition():
            return
        time.sleep(0.001)
    pytest.fail(f"waited in vain: {what}")


def check_refused(done: Done, *parts: str) -> None:
    """Exit status 2 and one line that holds all parts."""
    assert done.returncode == 2, done.stderr + done.stdout
    [line] = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert all(part in line for part in parts), line
    assert "Traceback" not in done.stdout
