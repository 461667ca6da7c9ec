"""Loggers: what they write reads back, every step stands there once, and none can spoil a training."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from harness import loggers
from harness.config import SyntheticConfig
from harness.data.synthetic import write_dataset
from harness.loggers import (
    LoggerName,
    check_installed,
    check_names,
    open_loggers,
    training_scalars,
)
from model.errors import InputError
from tests.small_road import ENVIRONMENT, IFC_ONLY, ROOT, STEPS, VIDEOS, make_road

CONFIG = {"model": {"encoder": "ifc"}, "train": {"steps": 8, "short_sides": [32]}}
Points = dict[str, list[tuple[int, float]]]


def tensorboard_points(folder: Path) -> Points:
    """(step, value) of every curve, as TensorBoard shows it."""
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder)).Reload()
    return {
        name: [(point.step, point.value) for point in events.Scalars(name)]
        for name in events.Tags()["scalars"]
    }


def log_steps(
    folder: Path, name: LoggerName, first: int, last: int, results: Mapping[str, float] | None = None
) -> dict[str, str]:
    """One process of a training: its steps, and perhaps its AP."""
    with open_loggers([name], folder, "0123456789ab", "ifc seed 0", CONFIG) as opened:
        for step in range(first, last + 1):
            opened.scalars(step, {"train/loss": 1 / step})
        if results is not None:
            opened.result(last, results)
    return opened.states()


# --------------------------------------------------------------------------------------- what each writes


def test_tensorboard_shows_every_step_once(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    assert log_steps(tmp_path, "tensorboard", 1, 6) == {"tensorboard": "on"}
    log_steps(tmp_path, "tensorboard", 5, 8, {"valid/T5_S1/AP": 12.5})
    points = tensorboard_points(tmp_path / "logs" / "tensorboard")
    assert points["train/loss"] == [(step, pytest.approx(1 / step)) for step in range(1, 9)]
    assert points["valid/T5_S1/AP"] == [(8, 12.5)]


def test_an_evaluation_of_its_own_hides_no_step(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    log_steps(tmp_path, "tensorboard", 1, 8)
    log_steps(tmp_path, "tensorboard", 9, 8, {"valid/T5_S1/AP": 12.5})
    points = tensorboard_points(tmp_path / "logs" / "tensorboard")
    assert [step for step, _ in points["train/loss"]] == list(range(1, 9))
    assert points["valid/T5_S1/AP"] == [(8, 12.5)]


def test_mlflow_goes_on_in_the_same_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    assert log_steps(tmp_path, "mlflow", 1, 6) == {"mlflow": "on"}
    log_steps(tmp_path, "mlflow", 5, 8, {"valid/T5_S1/AP": 12.5})
    client = mlflow.MlflowClient(tracking_uri=(tmp_path / "logs" / "mlflow").as_uri())
    [experiment] = client.search_experiments(filter_string="name = 'ifc-ablations'")
    [run] = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.params == {
        "model.encoder": "ifc",
        "train.steps": "8",
        "train.short_sides": "[32]",
    }
    history = client.get_metric_history(run.info.run_id, "train/loss")
    assert sorted((point.step, point.value) for point in history) == [(s, 1 / s) for s in range(1, 9)]
    assert run.data.metrics["valid/T5_S1/AP"] == 12.5


@pytest.mark.slow
def test_wandb_keeps_a_run_without_a_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert log_steps(tmp_path, "wandb", 1, 6, {"valid/T5_S1/AP": 12.5}) == {"wandb": "on"}
    [run] = (tmp_path / "logs" / "wandb").rglob("run-0123456789ab.wandb")
    content = run.read_bytes()
    for word in (b"train/loss", b"valid/T5_S1/AP", b"ifc seed 0", b"ifc-ablations"):
        assert word in content, word


# --------------------------------------------------------------------------------------------- mishaps


class Spoilt:
    """A logger that fails where it is told to."""

    def __init__(self, place: str) -> None:
        self.place = place
        self.calls = 0

    def _call(self, place: str) -> None:
        self.calls += 1
        if place == self.place:
            raise ConnectionError("no\nserver")

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self._call("scalars")

    def result(self, step: int, values: Mapping[str, float]) -> None:
        self._call("result")

    def close(self) -> None:
        self._call("close")


@pytest.mark.parametrize("place", ["open", "scalars", "result", "close"])
def test_a_logger_fails_alone_and_once(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spoilt, sound = Spoilt(place), Spoilt("nowhere")

    def make_spoilt(*arguments: Any) -> Spoilt:
        spoilt._call("open")
        return spoilt

    monkeypatch.setattr(loggers, "WandB", make_spoilt)
    monkeypatch.setattr(loggers, "MLflow", lambda *arguments: sound)
    with open_loggers(["wandb", "mlflow"], tmp_path, "key", "name", CONFIG) as opened:
        for step in (1, 2, 3):
            opened.scalars(step, {"train/loss": 1.0})
        opened.result(3, {"AP": None})
    assert opened.states() == {"wandb": "ended: ConnectionError: no server", "mlflow": "on"}
    assert capsys.readouterr().err == "logger wandb switched off: ConnectionError: no server\n"
    assert sound.calls == 5, "three steps, the result, and the end"


def test_a_logger_that_hangs_is_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    let_go = threading.Event()

    class Hanging(Spoilt):
        def scalars(self, step: int, values: Mapping[str, float]) -> None:
            let_go.wait(60)

    monkeypatch.setattr(loggers, "CLOSE_SECONDS", 0.2)
    monkeypatch.setattr(loggers, "WandB", lambda *arguments: Hanging("nowhere"))
    started = time.monotonic()
    with open_loggers(["wandb"], tmp_path, "key", "name", CONFIG) as opened:
        opened.scalars(1, {"train/loss": 1.0})
    let_go.set()
    assert time.monotonic() - started < 30
    assert opened.states() == {"wandb": "ended: did not finish within 0.2 s"}
    assert "logger wandb switched off: did not finish" in capsys.readouterr().err


def diverge(folder: Path) -> None:
    with open_loggers(["tensorboard"], folder, "key", "name", {}) as opened:
        opened.scalars(1, {"train/loss": 2.0})
        raise RuntimeError("diverged")


def test_an_error_in_the_training_closes_the_loggers(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    with pytest.raises(RuntimeError, match="diverged"):
        diverge(tmp_path)
    assert tensorboard_points(tmp_path / "logs" / "tensorboard")["train/loss"] == [(1, 2.0)]


def test_without_loggers_nothing_is_written(tmp_path: Path) -> None:
    with open_loggers([], tmp_path, "key", "name", CONFIG) as opened:
        opened.scalars(1, {"train/loss": 1.0})
    assert opened.states() == {}
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------------------------------- what is chosen


def test_names() -> None:
    assert check_names("mlflow, tensorboard,mlflow") == ("mlflow", "tensorboard")
    with pytest.raises(InputError, match="--log: 'tensorbord': allowed: tensorboard, wandb, mlflow"):
        check_names("mlflow,tensorbord")


def test_a_package_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "mlflow" else object())
    check_installed(["tensorboard", "wandb"])
    with pytest.raises(InputError, match="--log: 'mlflow': not installed; `pip install mlflow-skinny`"):
        check_installed(["tensorboard", "mlflow"])


def test_the_check_imports_nothing_heavy() -> None:
    script = (
        "import sys\nfrom harness.loggers import check_installed, check_names\n"
        "from model.errors import InputError\n"
        "try:\n    check_installed(check_names('tensorboard,wandb,mlflow'))\nexcept InputError:\n    pass\n"
        "print({'torch', 'tensorboard', 'wandb', 'mlflow'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("set()\n", "")


def test_scalars_of_a_step() -> None:
    event = {
        "event": "step",
        "done": 3,
        "steps": 8,
        "loss": 2,
        "losses": {"loss_dice": 0.5},
        "learning_rate": 1e-4,
    }
    assert training_scalars({**event, "seconds": 0.25, "eta": 3}) == {
        "train/loss": 2.0,
        "train/loss_dice": 0.5,
        "train/learning_rate": 1e-4,
        "train/seconds_per_step": 0.25,
    }
    assert training_scalars({"loss": None}) == {}


# ------------------------------------------------------------------------------------------- a training


def run_trial(folder: Path, data: Path, log: list[str], path: str = "") -> subprocess.CompletedProcess[str]:
    """One trial of the small road in a process of its own."""
    road = make_road(
        folder,
        {**IFC_ONLY, "axes": {"model.encoder": ["ifc"]}, "table": {"rows": "model.encoder", "cells": ["AP"]}},
    )
    trial = road.plan().trials[0]
    job = {
        "stage": "train_evaluate",
        "trial": trial.key,
        "seed": trial.seed,
        "folder": str(folder / "trial"),
        "data": str(data),
        "initial_weights": None,
        "config": trial.config.model_dump(mode="json"),
        "cells": [{"key": cell.key, "config": cell.config.model_dump(mode="json")} for cell in trial.cells],
        "device": "cpu",
        "threads": 1,
        "log": log,
    }
    (folder / "job.json").write_text(json.dumps(job))
    environment = {**ENVIRONMENT, "PYTHONPATH": os.pathsep.join([path, *filter(None, sys.path)])}
    engine, trials_end = os.pipe()
    try:
        return subprocess.run(
            [sys.executable, "-m", "harness.trial", str(folder / "job.json")],
            cwd=ROOT,
            env=environment,
            stdin=engine,
            capture_output=True,
            text=True,
            timeout=300,
        )
    finally:
        os.close(engine)
        os.close(trials_end)


def losses(folder: Path) -> list[list[str]]:
    with (folder / "trial" / "losses.csv").open(newline="") as file:
        return [line[:-2] for line in csv.reader(file)]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training without loggers, and its data."""
    folder = tmp_path_factory.mktemp("plain")
    write_dataset(SyntheticConfig(**VIDEOS), folder / "data")
    done = run_trial(folder / "run", folder / "data", [])
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
def test_a_training_is_the_same_with_loggers_sound_or_not(plain: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    (tmp_path / "broken").mkdir()
    broken = "def init(**settings):\n    raise OSError('disk\\nfull')\nSettings = dict\n"
    (tmp_path / "broken" / "wandb.py").write_text(broken)
    run = tmp_path / "run"
    done = run_trial(run, plain / "data", ["tensorboard", "wandb"], str(tmp_path / "broken"))
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("logger wandb switched off: OSError: disk full") == 1

    lines = losses(run)
    assert lines == losses(plain / "run")
    assert len(lines) == STEPS + 1
    weights, expected = (load_file(place / "trial" / "weights.safetensors") for place in (run, plain / "run"))
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[name], expected[name]) for name in weights)
    record = json.loads((run / "trial" / "trial.json").read_text())
    assert record["loggers"] == {"tensorboard": "on", "wandb": "ended: OSError: disk full"}

    points = tensorboard_points(run / "trial" / "logs" / "tensorboard")
    assert [step for step, _ in points["train/loss"]] == list(range(1, STEPS + 1))
    logged = [value for _, value in points["train/loss"]]
    assert logged == pytest.approx([float(line[1]) for line in lines[1:]])
    [metrics] = (run / "trial" / "cells").glob("*/metrics.json")
    ap = json.loads(metrics.read_text())["AP"]
    assert points[f"valid/T5_S1_{metrics.parent.name}/AP"] == [(STEPS, pytest.approx(ap))]


@pytest.mark.slow
def test_a_trial_says_what_it_ran_on(plain: Path) -> None:
    record = json.loads((plain / "run" / "trial" / "trial.json").read_text())
    assert record["packages"]["torch"] == record["torch_version"]
    assert record["packages"]["pytest"] == pytest.__version__
    assert record["train_processes"] == 1
    assert 0 < record["train_seconds"] <= record["last_process_seconds"]
    assert len(record["data_checksum"]) == 64
    assert record["gpu_driver"] is None, "on a CPU"
    assert "loggers" not in record
    assert not (plain / "run" / "trial" / "logs").exists()
    [metrics] = (plain / "run" / "trial" / "cells").glob("*/metrics.json")
    for found in (record, json.loads(metrics.read_text())):
        assert {"git_commit", "git_dirty", "git_diff_hash"} <= set(found)
        assert found["host"]
        assert "deterministic_algorithms=" in found["determinism"]
    assert "packages" not in json.loads(metrics.read_text()), "it would be a column"
