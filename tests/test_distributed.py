"""Training by two processes: what one process does with the same batches, and one voice to the engine."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file

from harness import trial
from harness.config import TrialConfig
from harness.data.clips import ClipSampler, batches, collate, pad
from harness.data.synthetic import write_dataset
from harness.data.ytvis import VideoDataset, load_dataset
from harness.distributed import ALONE, Processes
from harness.train import CHECKPOINT, LOSSES, WEIGHTS, TrialInterruptedError
from model import InputError
from model.losses import SetCriterion
from tests.two_processes import DATA, EXACT, RECIPE, STOP_AFTER, config, run

ROOT = Path(__file__).resolve().parent.parent
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("distributed")
    write_dataset(DATA, folder / "data")
    return folder


@pytest.fixture(scope="module")
def dataset(root: Path) -> VideoDataset:
    return load_dataset(root / "data", "train")


@pytest.fixture(scope="module")
def trained(root: Path, dataset: VideoDataset) -> Path:
    """A folder with what one process and what two processes have trained."""
    with pytest.raises(TrialInterruptedError):
        run("masks", dataset, root / "one, then two", stop=lambda done: done == STOP_AFTER)
    done = subprocess.run(
        [*TORCHRUN, str(ROOT / "tests" / "two_processes.py"), str(root)],
        cwd=ROOT,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr
    assert (root / "0.ended").exists()
    assert (root / "1.ended").exists()
    for case in ("masks", "full attention", "boxes", "unused boxes"):
        run(case, dataset, root / case)
    return root


def curve(folder: Path) -> torch.Tensor:
    """Steps and all losses of a training (steps, 2 + losses), without the seconds."""
    with (folder / LOSSES).open(newline="") as file:
        rows = [[float(x) for x in line[:-2]] for line in list(csv.reader(file))[1:]]
    return torch.tensor(rows, dtype=torch.float64)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / WEIGHTS)


def assert_same_training(one: Path, other: Path, rtol: float = 1e-9) -> None:
    torch.testing.assert_close(curve(one), curve(other), rtol=rtol, atol=0.0)
    torch.testing.assert_close(weights(one), weights(other), rtol=rtol, atol=rtol)


@pytest.mark.slow
@pytest.mark.parametrize("case", ["masks", "full attention", "boxes", "unused boxes"])
def test_two_processes_train_as_one_does(case: str, trained: Path) -> None:
    assert len(curve(trained / case)) == config(case).train.steps
    assert_same_training(trained / case, trained / f"{case} by two", 1e-9 if case in EXACT else 1e-5)
    assert not (trained / f"{case} by two" / CHECKPOINT).exists()


@pytest.mark.slow
@pytest.mark.parametrize("case", ["masks", "unused boxes", "dropout"])
def test_both_processes_end_with_the_same_weights(case: str, trained: Path) -> None:
    first, second = (torch.load(trained / f"{case} {rank}.pt", weights_only=True) for rank in (0, 1))
    assert all(torch.equal(value, second[name]) for name, value in first.items())


@pytest.mark.slow
def test_two_go_on_where_one_stopped_and_the_other_way_round(trained: Path, dataset: VideoDataset) -> None:
    assert_same_training(trained / "masks", trained / "one, then two")
    assert not (trained / "one, then two" / CHECKPOINT).exists()
    folder = trained / "two, then one"
    state = torch.load(folder / CHECKPOINT, weights_only=True)
    assert state["step"] == STOP_AFTER, "all stop after the step in which one of them was asked"
    assert not (folder / WEIGHTS).exists()
    run("masks", dataset, folder)
    assert_same_training(trained / "masks", folder)


@pytest.mark.slow
def test_dropout_of_two_processes_goes_on_too(trained: Path) -> None:
    assert torch.equal(curve(trained / "dropout by two"), curve(trained / "two, then two"))
    one, other = weights(trained / "dropout by two"), weights(trained / "two, then two")
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_shares_make_up_the_batch(dataset: VideoDataset) -> None:
    """Padded to one size they are its clips, in order; their divisors add up to its own."""
    sampler = ClipSampler(dataset, TrialConfig(train=RECIPE).train, 3)
    criterion, grown = SetCriterion(4), 0
    whole = batches(sampler, 0, 12, 4)
    shares = zip(*(batches(sampler, 0, 12, 4, rank, 2) for rank in range(2)), strict=True)
    for batch, parts in zip(whole, shares, strict=True):
        size = tuple(batch.frames.shape[-2:])
        grown += any(part.frames.shape[-2:] != size for part in parts)
        padded = [pad(part, *size) for part in parts]
        assert torch.equal(torch.cat([part.frames for part in padded]), batch.frames)
        outside = [
            torch.zeros(2, *size, dtype=torch.bool) if part.padding is None else part.padding
            for part in padded
        ]
        assert batch.padding is not None
        assert torch.equal(torch.cat(outside), batch.padding)
        for one, other in zip([t for part in padded for t in part.targets], batch.targets, strict=True):
            assert all(torch.equal(value, other[name]) for name, value in one.items())
        sums = [
            sum(column) for column in zip(*(criterion.divisors(p.targets, 4) for p in parts), strict=True)
        ]
        assert sums == pytest.approx(list(criterion.divisors(batch.targets, 4)))
    assert grown > 2, "some share is smaller than its batch"


def test_padding_to_the_own_size_changes_nothing(dataset: VideoDataset) -> None:
    sampler = ClipSampler(dataset, TrialConfig(train={**RECIPE, "crop": 0.0}).train, 0)
    batch = collate([sampler.clip(0)])
    assert pad(batch, *batch.frames.shape[-2:]) is batch


def test_a_batch_that_cannot_be_shared_out_is_refused(dataset: VideoDataset, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        run("masks", dataset, tmp_path / "three", Processes(0, 3))
    assert str(caught.value) == ("train.clips_per_batch: 4: must be a multiple of the number of processes, 3")
    assert not list((tmp_path / "three").iterdir())


def test_one_process_has_nothing_to_agree_about() -> None:
    values = torch.tensor([1.5, 2.5])
    assert ALONE.add(values) == [1.5, 2.5]
    assert ALONE.largest(7.0) == 7.0
    assert ALONE.first_to_tell()
    model = torch.nn.Linear(1, 1)
    assert ALONE.wrap(model, False) is model
    assert not dist.is_initialized()


def test_only_the_first_to_fail_tells() -> None:
    store, found = dist.HashStore(), []
    for rank in (1, 0, 2):
        processes = Processes(rank, 3)
        processes._store = store
        found.append(processes.first_to_tell())
    assert found == [True, False, False]


def test_half_of_an_environment_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    for name in ("RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(InputError, match="WORLD_SIZE is set without RANK, LOCAL_RANK, LOCAL_WORLD_SIZE"):
        Processes.started()
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert Processes.started().count == 1


@pytest.mark.parametrize(
    ("device", "error"),
    [("cuda:0", "2 processes take auto, cpu or cuda"), ("cuda", "1 CUDA devices that torch can use for 2")],
)
def test_each_process_has_a_gpu_of_its_own(
    device: str, error: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = job(root, root, "masks", device=device)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(InputError, match=error):
        trial._device(asked, Processes(0, 2, 0, 2))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    if device == "cuda":
        found = [trial._device(asked, Processes(rank, 2, rank, 2)) for rank in range(2)]
        assert found == [torch.device("cuda:0"), torch.device("cuda:1")]


def job(root: Path, folder: Path, case: str, **keys: Any) -> trial.Job:
    fields: dict[str, Any] = {
        "stage": "train_evaluate",
        "trial": case,
        "seed": 3,
        "folder": folder,
        "data": root / "data",
        "initial_weights": None,
        "config": config(case).model_dump(),
        "cells": (),
        "device": "cpu",
        "threads": 1,
    }
    return trial.Job.model_validate({**fields, **keys})


def start(job: trial.Job) -> subprocess.Popen[str]:
    file = job.folder / "job.json"
    file.write_text(job.model_dump_json())
    with (job.folder / "log").open("w") as log:
        return subprocess.Popen(
            [*TORCHRUN, "-m", "harness.trial", str(file)],
            cwd=ROOT,
            env=ENVIRONMENT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )


@pytest.mark.slow
def test_sigterm_to_torchrun_saves_a_checkpoint_that_goes_on(
    root: Path, dataset: VideoDataset, tmp_path: Path
) -> None:
    asked = job(root, tmp_path, "full attention")
    process = start(asked)
    events: list[dict[str, Any]] = []
    assert process.stdout is not None
    for line in process.stdout:
        events.append(json.loads(line))
        if events[-1]["event"] == "step" and events[-1]["done"] == 2:
            process.send_signal(signal.SIGTERM)
    assert process.wait(60) != 0
    names = [event["event"] for event in events]
    steps = names.count("step")
    assert names == ["stage", *["step"] * steps, "interrupted"], "one process speaks"
    assert torch.load(tmp_path / CHECKPOINT, weights_only=True)["step"] == steps < 8
    run("full attention", dataset, tmp_path)
    run("full attention", dataset, tmp_path / "whole")
    assert_same_training(tmp_path / "whole", tmp_path, 1e-5)


LAUNCHER = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", sys.argv[1]])
print(child.pid, flush=True)
child.wait()
"""
PROCESS = (
    "import os; from harness import trial; print('here', flush=True); trial._end_with_engine({launcher})"
)


def test_no_process_outlives_its_launcher() -> None:
    """The engine is there all the while: its end of standard input stays open."""
    launcher = subprocess.Popen(
        [
            sys.executable,
            "-c",
            LAUNCHER,
            "launcher = __import__('os').getppid(); " + PROCESS.format(launcher="launcher"),
        ],
        cwd=ROOT,
        env=ENVIRONMENT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert launcher.stdout is not None
    pid = int(launcher.stdout.readline())
    assert launcher.stdout.readline() == "here\n"
    os.kill(pid, 0)
    launcher.kill()
    assert launcher.stdout.read() == "", "the end of its output: it has ended"
    launcher.communicate()
