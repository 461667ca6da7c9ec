"""The whole road in real processes, small: train, evaluate, time, rows, report; and all that can go wrong on it."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import yaml

from harness.config import SyntheticConfig
from harness.data.synthetic import write_dataset
from harness.engine.plan import Options, Plan, make_plan
from harness.evaluation import evaluate
from harness.provenance import PACKAGES

pytestmark = pytest.mark.slow

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
        "speed": {"videos": 1, "passes": 2},
    },
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
        return subprocess.run(self.command(*more), cwd=ROOT, capture_output=True, text=True, timeout=300)

    def start(self) -> subprocess.Popen[str]:
        log = (self.folder / "started.log").open("w")
        with log:
            return subprocess.Popen(
                self.command(), cwd=ROOT, stdout=log, stderr=log, text=True, start_new_session=True
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


def make_road(folder: Path, sweep: dict[str, Any], *extra: str) -> Road:
    folder.mkdir(exist_ok=True)
    (folder / "scale.yaml").write_text(yaml.safe_dump(SCALE))
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


@dataclass(frozen=True)
class Undisturbed:
    """The one full run that the tests here share."""

    road: Road
    status: int
    output: str
    intruder: Done
    """A second runner, started on the same results while the first was at work."""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    road = make_road(tmp_path_factory.mktemp("undisturbed"), SWEEP)
    first = road.start()
    try:
        wait_for(lambda: (road.results / "trials").is_dir() or first.poll() is not None, "the first runner")
        intruder = road.run()
        status = first.wait(300)
    finally:
        first.kill()
        first.wait()
    return Undisturbed(road, status, (road.folder / "started.log").read_text(), intruder)


def test_every_cell_has_its_row(undisturbed: Undisturbed) -> None:
    assert undisturbed.status == 0, undisturbed.output
    rows = undisturbed.road.rows
    assert len(rows) == 8
    assert sorted(zip(rows["model.encoder"], rows["seed"], rows["inference.window"], strict=True)) == [
        (encoder, seed, window) for encoder in ("ifc", "no_comm") for seed in (0, 1) for window in (3, 5)
    ]
    assert set(rows["status"]) == {"done"}
    assert rows["error"].isna().all()
    assert rows["trial"].nunique() == 4
    assert rows["cell"].nunique() == 8
    assert rows[METRICS].ge(0).all(axis=None)
    assert rows[METRICS].le(100).all(axis=None)
    assert rows[["fps", "peak_memory_gb"]].gt(0).all(axis=None)
    assert set(rows["sweep"]) == {"micro"}


def test_every_row_says_where_it_comes_from(undisturbed: Undisturbed) -> None:
    rows = undisturbed.road.rows
    versions = [f"{name}_version" for name in (*PACKAGES, "python")]
    told = ["code_version", "hardware", "cpu", "platform", "threads", "finished", "train_seconds", "data_name"]
    for column in (*versions, *told, "config", "train_data", "valid_data", "train_started", "train_hardware"):
        assert rows[column].notna().all(), column
    assert set(rows["torch_version"]) == {torch.__version__}
    assert rows[["git_commit", "git_dirty", "cuda_version"]].shape == (8, 3), "columns, whatever they hold"
    for _, row in rows.iterrows():
        config = json.loads(row["config"])
        assert config["model"]["encoder"] == row["model.encoder"]
        assert config["inference"]["window"] == row["inference.window"]
        assert config["data"]["synthetic"]["train_videos"] == 6


def test_each_variant_and_seed_is_trained_once(undisturbed: Undisturbed) -> None:
    assert len(list((undisturbed.road.results / "trials").iterdir())) == 4
    assert len(list((undisturbed.road.results / "trials").glob("*/weights.safetensors"))) == 4
    assert undisturbed.output.count(": train\n") == 4
    assert list(undisturbed.road.results.rglob("checkpoint.pt")) == []
    assert list(undisturbed.road.results.rglob("*.partial")) == []


def test_report(undisturbed: Undisturbed) -> None:
    report = undisturbed.road.plan().report
    names = {path.name for path in report.iterdir()}
    assert {"micro.tex", "micro.md", "micro_std.tex", "report.md", "micro_AP.pdf", "micro_AP.png"} <= names
    text, rows = (report / "micro.tex").read_text(), undisturbed.road.rows
    for place, cell in rows.groupby(["model.encoder", "inference.window"]):
        assert f"{cell['AP'].mean():.1f}" in text, place
        assert f"{cell['fps'].mean():.1f}" in text, place
    assert re.search(r"No Comm", text)


def test_results_score_as_the_row_says(undisturbed: Undisturbed) -> None:
    plan = undisturbed.road.plan()
    truth = plan.source.root(undisturbed.road.results / "datasets") / "valid.json"
    rows = undisturbed.road.rows.set_index("cell")
    for trial in plan.trials:
        for cell in trial.cells:
            scored = evaluate(truth, plan.cell_file(trial, cell, "results.json"))
            for metric in METRICS:
                assert rows.loc[cell.key, metric] == pytest.approx(100 * scored[metric], abs=1e-9)
    assert rows["AR10"].max() > 0, "a table of zeros compares nothing"


def test_the_second_runner_is_sent_away(undisturbed: Undisturbed) -> None:
    check_refused(undisturbed.intruder, f"--results {undisturbed.road.results}: another run works in this folder")


def test_the_same_command_again_does_nothing(undisturbed: Undisturbed) -> None:
    road = undisturbed.road
    before = road.files()
    tables = {path: path.read_bytes() for path in road.plan().report.iterdir() if path.suffix != ".pdf"}
    done = road.run()
    assert (done.returncode, done.stderr) == (0, "")
    assert road.files() == before
    assert ": train" not in done.stdout
    assert all(path.read_bytes() == content for path, content in tables.items())


def test_another_sweep_takes_the_trainings_it_finds(undisturbed: Undisturbed, tmp_path: Path) -> None:
    """One process at most would be needed for timing; the trainings and evaluations are there."""
    road = make_road(tmp_path, IFC_ONLY)
    shutil.copytree(undisturbed.road.results / "trials", road.results / "trials")
    before = road.files()
    done = road.run()
    assert done.returncode == 0, done.stderr
    assert ": train" not in done.stdout
    assert {name: time for name, time in road.files().items() if name in before} == before
    assert len(road.rows) == 4


def losses(road: Road, trial: str) -> list[list[str]]:
    """``losses.csv`` without the seconds."""
    with (road.results / "trials" / trial / "losses.csv").open(newline="") as file:
        return [line[:-1] for line in csv.reader(file)]


def test_killed_and_run_again_ends_at_the_same_numbers(undisturbed: Undisturbed, tmp_path: Path) -> None:
    road = make_road(tmp_path, IFC_ONLY)
    engine = road.start()
    try:
        keys = [trial.key for trial in road.plan().trials]
        checkpoints = [road.results / "trials" / key / "checkpoint.pt" for key in keys]
        wait_for(lambda: any(file.is_file() for file in checkpoints), "a checkpoint")
        os.killpg(engine.pid, signal.SIGKILL)
        engine.wait(20)
        wait_for(lambda: road.children() == [], "the children end with their engine")
    finally:
        engine.kill()
        engine.wait()
    assert any(file.is_file() for file in checkpoints), "killed in the middle of a training"
    assert not all((file.parent / "trial.json").exists() for file in checkpoints)

    done = road.run()
    assert done.returncode == 0, done.stderr
    rows, expected = road.rows, undisturbed.road.rows
    assert len(rows) == rows["cell"].nunique() == 4
    both = rows.merge(expected, on=["cell", "trial", "seed", "inference.window"], suffixes=("", "_expected"))
    assert len(both) == 4
    for metric in METRICS:
        assert both[metric].tolist() == both[f"{metric}_expected"].tolist()
    for key in keys:
        assert len(losses(road, key)) == STEPS + 1
        assert losses(road, key) == losses(undisturbed.road, key)


def test_a_trial_that_fails_is_a_row_and_the_rest_goes_on(tmp_path: Path) -> None:
    sweep = {
        **IFC_ONLY,
        "axes": {"train.learning_rate": [1e30, 1e-3], "inference.window": [3, 5]},
        "table": {"rows": "train.learning_rate", "columns": "inference.window", "cells": ["AP"]},
        "seeds": 1,
    }
    road = make_road(tmp_path, sweep)
    done = road.run()
    assert done.returncode == 1
    assert done.stderr == ""
    rows = road.rows.set_index(["train.learning_rate", "inference.window"])
    assert len(rows) == 4
    for window in (3, 5):
        good, bad = rows.loc[(1e-3, window)], rows.loc[(1e30, window)]
        assert (good["status"], bad["status"]) == ("done", "failed")
        assert pd.isna(good["error"])
        assert bad["error"].startswith("TrainingDivergedError: loss is ")
        assert pd.notna(good["AP"])
        assert pd.isna(bad["AP"])
        for column in ("config", "code_version", "torch_version", "hardware", "seed", "train_data"):
            assert bad[column] == good[column] or column == "config", column
            assert bad[column] is not None
    assert "TrainingDivergedError" in (road.plan().report / "report.md").read_text()

    before = road.files()
    again = road.run()
    assert again.returncode == 1
    assert road.files() == before

    retried = road.run("--retry")
    assert retried.returncode == 1
    trials = {trial.config.train.learning_rate: trial.key for trial in road.plan().trials}
    changed = {name for name, changed in road.files().items() if before.get(name) != changed}
    assert f"trials/{trials[1e30]}/train_evaluate.job.json" in changed
    assert not any(trials[1e-3] in name for name in changed)
    assert len(road.rows) == 4


def test_a_truncated_picture_stops_the_sweep(tmp_path: Path) -> None:
    data = tmp_path / "videos"
    write_dataset(SyntheticConfig.model_validate(VIDEOS), data)
    frames = sorted((data / "train" / "JPEGImages").glob("*/*.jpg"))
    for frame in frames:  # whichever is drawn first
        frame.write_bytes(frame.read_bytes()[:200])
    road = make_road(tmp_path / "road", {**IFC_ONLY, "seeds": 1}, "--data", str(data))
    check_refused(road.run(), str(data / "train" / "JPEGImages"), ".jpg: cannot be decoded (")
    assert not road.plan().rows.exists()


def test_a_foreign_checkpoint_is_named(tmp_path: Path) -> None:
    road = make_road(tmp_path, {**IFC_ONLY, "seeds": 1})
    [trial] = road.plan().trials
    checkpoint = road.plan().trial_folder(trial) / "checkpoint.pt"
    checkpoint.parent.mkdir(parents=True)
    torch.save({"identity": "ffffffffffff", "step": 1}, checkpoint)
    before = checkpoint.read_bytes()
    check_refused(road.run(), f"{checkpoint}: checkpoint of training ffffffffffff, not of {trial.key}")
    assert checkpoint.read_bytes() == before
    assert not road.plan().rows.exists()
