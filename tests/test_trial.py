"""One trial as a process: what it tells, how it is stopped, and what it says when memory runs out."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harness import trial
from harness.config import SyntheticConfig, TrialConfig
from harness.data.synthetic import write_dataset
from harness.distributed import Processes
from harness.memory import is_out_of_memory, peak_memory
from harness.train import CHECKPOINT, WEIGHTS, TrialInterruptedError

ROOT = Path(__file__).resolve().parent.parent
CPU = torch.device("cpu")
DATA = SyntheticConfig(
    train_videos=2, valid_videos=3, length=4, height=32, width=48, min_size=8, max_size=16, categories=2
)
MODEL = {
    "backbone": "tiny",
    "num_classes": 2,
    "num_queries": 3,
    "hidden_dim": 16,
    "attention_heads": 2,
    "ffn_dim": 16,
    "encoder_layers": 1,
    "decoder_layers": 2,
    "memory_tokens": 2,
}
RECIPE: dict[str, Any] = {
    "steps": 4,
    "clips_per_batch": 2,
    "frames_per_clip": 2,
    "short_sides": (32,),
    "schedule": "one_cycle",
    "checkpoint_every": 1000,
}
Events = list[dict[str, Any]]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trial") / "data"
    write_dataset(DATA, folder)
    return folder


@pytest.fixture
def stop() -> Iterator[trial.StopRequest]:
    before = signal.getsignal(signal.SIGTERM)
    yield trial.StopRequest(Processes())
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> Events:
    told: Events = []
    monkeypatch.setattr(trial, "emit", lambda event, **fields: told.append({"event": event, **fields}))
    return told


def make_job(folder: Path, data: Path, stage: str = "train_evaluate", **recipe: Any) -> trial.Job:
    config = TrialConfig.model_validate(
        {
            "model": MODEL,
            "data": {"kind": "synthetic", "synthetic": DATA.model_dump()},
            "train": {**RECIPE, **recipe},
            "inference": {"window": 2, "short_side": 32},
            "speed": {"passes": 3, "min_seconds": 0},
        }
    )
    job = {
        "stage": stage,
        "trial": "this",
        "seed": 0,
        "folder": str(folder),
        "data": str(data),
        "initial_weights": None,
        "config": config.model_dump(mode="json"),
        "cells": [{"key": "cell", "config": config.model_dump(mode="json")}],
        "device": "cpu",
        "threads": 1,
    }
    return trial.Job.model_validate_json(json.dumps(job))


def names(events: Events) -> list[str]:
    return [event["event"] for event in events]


def test_a_trial_tells_each_step_and_each_video(
    data: Path, tmp_path: Path, events: Events, stop: trial.StopRequest
) -> None:
    trial.run(make_job(tmp_path, data), CPU, Processes(), stop)
    assert names(events) == ["stage", *["step"] * 4, "stage", *["video"] * 3, "cell"]
    steps = [event for event in events if event["event"] == "step"]
    assert [step["done"] for step in steps] == [1, 2, 3, 4]
    for step in steps:
        assert set(step) == {"event", "done", "steps", "loss", "losses", "learning_rate"}
        assert set(step["losses"]) == {"loss_ce", "loss_dice", "loss_mask"}
    videos = [(event["done"], event["of"]) for event in events if event["event"] == "video"]
    assert videos == [(1, 3), (2, 3), (3, 3)]
    record = json.loads((tmp_path / "trial.json").read_text())
    assert record["train_processes"] == 1
    assert record["trial_peak_memory_kind"] == peak_memory(CPU)[1]
    if sys.platform == "linux":
        assert 0.05 < record["trial_peak_memory_gb"] < 64

    events.clear()
    trial.run(make_job(tmp_path, data, "time"), CPU, Processes(), stop)
    assert names(events) == ["stage", *["pass"] * 4, "cell"]
    assert [event["done"] for event in events[1:-1]] == [0, 1, 2, 3]


@pytest.mark.parametrize(("word", "count"), [("step", 2), ("video", 1), ("pass", 2)])
def test_a_trial_that_is_stopped_goes_on_where_it_was(
    word: str,
    count: int,
    data: Path,
    tmp_path: Path,
    stop: trial.StopRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: Events = []

    def emit(event: str, **fields: Any) -> None:
        told.append({"event": event, **fields})
        stop.asked = names(told).count(word) == count

    monkeypatch.setattr(trial, "emit", emit)
    last = "time" if word == "pass" else "train_evaluate"
    if last == "time":
        trial.run(make_job(tmp_path, data), CPU, Processes(), stop)
    with pytest.raises(TrialInterruptedError):
        trial.run(make_job(tmp_path, data, last), CPU, Processes(), stop)
    assert names(told)[-1] == word
    assert names(told).count(word) == count
    assert (tmp_path / CHECKPOINT).is_file() == (word == "step")
    assert (tmp_path / "cells" / "cell" / "metrics.json").is_file() == (word == "pass")
    told.clear()
    stop.asked, word = False, "none"
    trial.run(make_job(tmp_path, data, last), CPU, Processes(), stop)
    assert names(told).count("step") == (2 if "step" in names(told) else 0)
    assert names(told)[-1] == "cell"
    assert (tmp_path / WEIGHTS).is_file()


@pytest.mark.parametrize(("processes", "kept"), [(1, False), (2, True)])
def test_a_second_sigterm_ends_a_process_that_is_alone(
    processes: int, kept: bool, stop: trial.StopRequest
) -> None:
    request = trial.StopRequest(Processes(0, processes))
    request.check()
    os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(TrialInterruptedError):
        request.check()
    assert (signal.getsignal(signal.SIGTERM) != signal.SIG_DFL) == kept


def start(job: trial.Job, *command: str) -> subprocess.Popen[str]:
    job.folder.mkdir(exist_ok=True)
    file = job.folder / "job.json"
    file.write_text(job.model_dump_json())
    return subprocess.Popen(
        [sys.executable, *command, str(file)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def test_sigterm_ends_a_training_with_a_checkpoint(data: Path, tmp_path: Path) -> None:
    process = start(make_job(tmp_path, data, steps=100_000), "-m", "harness.trial")
    told: Events = []
    assert process.stdout is not None
    for line in process.stdout:
        told.append(json.loads(line))
        if told[-1]["event"] == "step" and told[-1]["done"] == 2:
            process.send_signal(signal.SIGTERM)
    assert process.wait(60) == trial.INTERRUPTED_STATUS == 4
    steps = names(told).count("step")
    assert names(told) == ["stage", *["step"] * steps, "interrupted"]
    assert torch.load(tmp_path / CHECKPOINT, weights_only=True)["step"] == steps
    process.communicate()


LIMITED = """
import resource, sys
from pathlib import Path
from harness import trial
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 300_000_000,) * 2)
sys.exit(trial.main(sys.argv[1:]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS holds on Linux")
def test_a_trial_that_does_not_fit_says_so(data: Path, tmp_path: Path) -> None:
    job = make_job(tmp_path, data, short_sides=(3000,), max_long_side=None)
    process = start(job, "-c", LIMITED)
    assert process.stdout is not None
    output = process.stdout.read()  # its standard input stays open: closed, it would end the process
    assert process.wait(60) == 1
    process.communicate()
    stage, failed = (json.loads(line) for line in output.splitlines())
    assert stage["event"] == "stage"
    assert (failed["event"], failed["kind"]) == ("failed", "oom"), failed
    assert "\n" not in failed["error"]
    assert failed["peak_memory_kind"] == "process resident"
    assert 0.05 < failed["peak_memory_gb"] < 64
    assert not (tmp_path / WEIGHTS).exists()


def test_any_other_failure_is_none_of_memory(data: Path) -> None:
    failed = trial._failure(FloatingPointError("video 3: mask\nlogits"), CPU)
    assert failed["error"] == "FloatingPointError: video 3: mask logits"
    assert failed["kind"] == "failed"
    assert failed["peak_memory_kind"] == peak_memory(CPU)[1]


def allocate(bytes_by: str) -> None:
    size = 2**62
    if bytes_by == "torch":
        torch.empty(size, dtype=torch.uint8)
    elif bytes_by == "numpy":
        np.ones(size, dtype=np.uint8)
    else:
        bytearray(size)


@pytest.mark.parametrize("bytes_by", ["torch", "numpy", "python"])
def test_an_absurd_allocation_is_out_of_memory(bytes_by: str) -> None:
    with pytest.raises((MemoryError, RuntimeError)) as caught:
        allocate(bytes_by)
    assert is_out_of_memory(caught.value)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), True),
        (OSError(errno.ENOSPC, "No space left on device"), False),
        (RuntimeError("shape '[2]' is invalid for input of size 3"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_what_counts_as_out_of_memory(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) == expected
