"""One trial in one process: train, evaluate at every window, time. Results are files of the trial's folder.

Run by the engine as ``python -m harness.trial JOB.json``, or by ``torchrun`` as several processes that train
together. Events go to standard output as json lines; everything else a library prints goes to standard
error. The process ends when its standard input closes, so that no trial outlives the engine that started
it. On SIGTERM a training saves a checkpoint after its step, an evaluation ends at its next video.

Events::

    stage        name
    step         done, steps, loss, losses (unweighted), learning_rate
    video        done, of: evaluated
    pass         done: timed passes
    cell         cell: its result is on disk
    failed       error, kind (failed or oom), peak_memory_gb, peak_memory_kind
    interrupted  what was saved goes on in the next process
    input_error  error: what a person can mend

Of several processes the first tells; another one speaks only when it is the first to fail.

Files, each written whole or not at all::

    trial.json                 configuration, seed, identities, how the training ran; written last
    weights.safetensors        losses.csv        checkpoint.pt (while training)
    cells/<cell>/results.json  predictions in the benchmark's format
    cells/<cell>/metrics.json  AP and its conditions
    cells/<cell>/speed.json    FPS and its conditions
    cells/<cell>/flops.json    multiply-adds of the encoder (needs no training and no data)
"""

from __future__ import annotations

import dataclasses
import json
import os
import select
import signal
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import ValidationError

from harness.config import Closed, TrialConfig
from harness.data.clips import resize_frames
from harness.data.splits import load_scored, load_training
from harness.data.ytvis import VideoDataset
from harness.distributed import Processes
from harness.evaluation import encode_tracks, evaluate, write_results
from harness.flops import count_encoder
from harness.image_evaluation import evaluate_images
from harness.memory import is_out_of_memory, peak_memory
from harness.provenance import machine, now
from harness.speed import time_videos
from harness.train import WEIGHTS, Step, TrialInterruptedError, train
from model import build_model
from model.checkpoint import load_weights, weights_metadata
from model.clip_model import ClipModel
from model.errors import InputError
from model.inference import segment_video
from model.whole_file import whole_file

FAILED_STATUS = 1
INPUT_ERROR_STATUS = 2
INTERRUPTED_STATUS = 4


class CellJob(Closed):
    """A cell to evaluate or time."""

    key: str
    config: TrialConfig


class Job(Closed):
    """What one process is to do."""

    stage: Literal["train_evaluate", "time", "count"]
    trial: str
    seed: int
    folder: Path
    data: Path
    initial_weights: Path | None
    """What the training starts from; None: random weights"""
    config: TrialConfig
    cells: tuple[CellJob, ...]
    device: str
    threads: int | None


class StopRequest:
    """Whether SIGTERM has asked this process to end."""

    def __init__(self, processes: Processes) -> None:
        self.asked = False
        self._alone = processes.count == 1
        signal.signal(signal.SIGTERM, self._hear)

    def _hear(self, signum: int, frame: object) -> None:
        self.asked = True
        # A second one ends this process at once. torchrun passes on what may have come to all processes
        # already, and kills those that take too long by itself.
        if self._alone:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def check(self) -> None:
        """Raise :class:`TrialInterruptedError` if it has."""
        if self.asked:
            raise TrialInterruptedError


def run(job: Job, device: torch.device, processes: Processes, stop: StopRequest) -> None:
    """Do the job, skipping what is there already. Processes other than the first only help to train."""
    if job.threads is not None:
        torch.set_num_threads(job.threads)
    trains = job.stage == "train_evaluate" and not (job.folder / "trial.json").is_file()
    if processes.rank > 0 and not trains:
        return
    for folder in (job.folder / "cells" / cell.key for cell in job.cells):
        folder.mkdir(parents=True, exist_ok=True)
    if job.stage == "count":
        _count(job, stop)
        return
    valid = load_scored(job.data, job.config.data)
    model = _train(job, device, processes, stop) if trains else _load(job, device)
    if processes.rank > 0:
        return
    for cell in job.cells:
        stop.check()
        folder = job.folder / "cells" / cell.key
        window = cell.config.inference.window
        if job.stage == "train_evaluate":
            emit("stage", name=f"evaluate T={window}")
            _evaluate(model, valid, cell.config, folder, device, stop)
        else:
            emit("stage", name=f"time T={window}")
            speed = time_videos(
                model, valid, cell.config, device, lambda done: emit("pass", done=done), stop.check
            )
            write_json(folder / "speed.json", {**dataclasses.asdict(speed), **_conditions(device)})
        emit("cell", cell=cell.key)


def _count(job: Job, stop: StopRequest) -> None:
    """Multiply-adds of every cell, on a device without memory: nothing is trained, no data is read."""
    for cell in job.cells:
        stop.check()
        window = cell.config.inference.window
        emit("stage", name=f"count T={window}")
        multiply_adds = count_encoder(cell.config.model, cell.config.flops.size, window)
        record = {"flops_g": multiply_adds / 1e9, "multiply_adds": multiply_adds}
        folder = job.folder / "cells" / cell.key
        write_json(folder / "flops.json", {**record, "counted": now(), **_conditions(torch.device("cpu"))})
        emit("cell", cell=cell.key)


def _device(job: Job, processes: Processes) -> torch.device:
    """``auto`` is a GPU if torch can use one; the row records which it was. Each process has its own GPU."""
    if job.stage == "count":
        return torch.device("cpu")
    devices = torch.cuda.device_count()
    wanted = job.device
    if wanted == "auto":
        wanted = "cuda" if devices else "cpu"
    device = torch.device(wanted)
    if device.type != "cuda":
        return device
    if processes.count > 1 and device.index is not None:
        raise InputError(f"--device: {job.device!r}: {processes.count} processes take auto, cpu or cuda")
    if max(device.index or 0, processes.local_count - 1) >= devices:
        for_whom = f" for {processes.local_count} processes" if processes.count > 1 else ""
        raise InputError(
            f"--device: {job.device!r}: this machine has {devices} CUDA devices that torch can use{for_whom}"
        )
    return torch.device("cuda", processes.local_rank) if processes.count > 1 else device


def _load(job: Job, device: torch.device) -> ClipModel:
    """The weights of a finished training."""
    model = build_model(job.config.model).to(device)
    try:
        load_weights(model, job.folder / WEIGHTS)
        found = weights_metadata(job.folder / WEIGHTS).get("identity")
    except InputError as error:
        raise InputError(f"delete {job.folder} to train again: {error}") from None
    if found != job.trial:
        raise InputError(f"delete {job.folder} to train again: {WEIGHTS} is of training {found}")
    return model.eval()


def _train(job: Job, device: torch.device, processes: Processes, stop: StopRequest) -> ClipModel:
    """Train, or go on with it; at the end ``trial.json`` tells how it went."""
    started, started_at = time.perf_counter(), now()

    def progress(step: Step) -> None:
        losses = {name: round(value, 6) for name, value in step.losses.items()}
        emit("step", **{**step._asdict(), "loss": round(step.loss, 4), "losses": losses})

    first = processes.rank == 0
    if first:
        emit("stage", name="train")
    dataset = load_training(job.data, job.config.data)
    processes.join(device)
    model = train(
        job.config,
        job.seed,
        dataset,
        job.folder,
        job.trial,
        device,
        progress if first else lambda step: None,
        job.initial_weights,
        lambda: stop.asked,
        processes,
    )
    peak, kind = peak_memory(device)
    if peak is not None:
        peak = processes.largest(peak)
    processes.leave()
    if not first:
        return model
    record = {
        "trial": job.trial,
        "seed": job.seed,
        "config": job.config.model_dump(mode="json"),
        "train_started": started_at,
        "train_finished": now(),
        "train_seconds": round(time.perf_counter() - started, 3),
        "train_processes": processes.count,
        "trial_peak_memory_gb": peak,
        "trial_peak_memory_kind": kind,
        "initial_weights": None if job.initial_weights is None else str(job.initial_weights),
        "start": weights_metadata(job.folder / WEIGHTS).get("start"),
        **_conditions(device),
    }
    write_json(job.folder / "trial.json", record)
    return model


def _evaluate(
    model: ClipModel,
    dataset: VideoDataset,
    config: TrialConfig,
    folder: Path,
    device: torch.device,
    stop: StopRequest,
) -> None:
    """Predict every video, write ``results.json``, score it."""
    results: list[dict[str, Any]] = []
    for done, video in enumerate(dataset.videos, 1):
        stop.check()
        frames = torch.from_numpy(dataset.frames(video, range(video.length)))
        frames = resize_frames(frames, **config.inference.resizing())
        size = (video.height, video.width)
        try:
            tracks = segment_video(model, frames, output_size=size, **config.inference.arguments())
        except FloatingPointError as error:
            raise FloatingPointError(f"video {video.video_id}: {error}") from None
        categories = [dataset.categories[label].id for label in tracks["labels"].tolist()]
        owners = tracks["tracks"].tolist()
        results += encode_tracks(
            video.video_id,
            tracks["scores"].tolist(),
            categories,
            tracks["masks"].numpy(),
            mask_index=[owners.index(owner) for owner in owners],  # results of a track share its masks
        )
        emit("video", done=done, of=len(dataset.videos))
    write_results(folder / "results.json", results)
    score = evaluate_images if dataset.is_images else evaluate
    metrics = score(dataset.ground_truth(), results)
    # The evaluator says -1 where nothing can be scored; that is no percentage.
    names = ("AP", "AP50", "AP75", "AR1", "AR10")
    percent = {name: 100 * metrics[name] if metrics[name] >= 0 else None for name in names}
    record = {
        **percent,
        "results": len(results),
        "scored_videos": len(dataset.videos),
        "data_checksum": dataset.checksum(),
        "evaluated": now(),
        **_conditions(device),
    }
    write_json(folder / "metrics.json", record)


def _conditions(device: torch.device) -> dict[str, Any]:
    """Device, threads and packages of this process."""
    cuda = device.type == "cuda"
    host = machine()
    return {
        "device": str(device),
        "hardware": torch.cuda.get_device_name(device)
        if cuda
        else f"{host['cpu']}, {host['cpu_count']} cores",
        "threads": torch.get_num_threads(),
        "cuda_version": torch.version.cuda if cuda else None,
        "tf32": torch.backends.cuda.matmul.allow_tf32 if cuda else None,
        **host,
    }


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a small json file, whole or not at all."""
    with whole_file(path) as draft:
        draft.write_text(json.dumps(content, indent=1, sort_keys=True), encoding="utf-8")


def emit(event: str, **fields: Any) -> None:
    """One event for the engine."""
    sys.__stdout__.write(json.dumps({"event": event, **fields}) + "\n")  # type: ignore[union-attr]
    sys.__stdout__.flush()  # type: ignore[union-attr]


def _end_with_engine(launcher: int | None) -> None:
    """The engine holds the other end of standard input: when it is gone, so are we.

    Of several processes none outlives their ``launcher`` either, which could be killed without the engine.
    """
    while launcher is None or os.getppid() == launcher:
        readable, _, _ = select.select([0], [], [], None if launcher is None else 1.0)
        # The bare descriptor: a buffered reader's lock, held here at exit, would abort the interpreter.
        if readable and not os.read(0, 4096):
            break
    os._exit(FAILED_STATUS)


def _failure(error: Exception, device: torch.device) -> dict[str, Any]:
    """What the engine is told of a failure, in one line and its numbers."""
    peak, peak_kind = peak_memory(device)
    return {
        "error": f"{type(error).__name__}: {' '.join(str(error).split())}"[:500],
        "kind": "oom" if is_out_of_memory(error) else "failed",
        "peak_memory_gb": peak,
        "peak_memory_kind": peak_kind,
    }


def main(arguments: list[str]) -> int:
    """Exit status: 0 done, 1 for a failure of the trial, 2 for input a person can mend, 4 interrupted."""
    try:
        job = Job.model_validate_json(Path(arguments[0]).read_bytes())
    except (OSError, IndexError, ValidationError) as error:
        emit("input_error", error=f"not a job for harness.trial: {' '.join(str(error).split())}")
        return INPUT_ERROR_STATUS
    launcher = None if Processes.launched() == 1 else os.getppid()
    threading.Thread(target=_end_with_engine, args=(launcher,), daemon=True).start()
    processes, device = Processes(), torch.device("cpu")
    try:
        processes = Processes.started()
        stop = StopRequest(processes)
        device = _device(job, processes)
        run(job, device, processes, stop)
    except InputError as error:
        if processes.first_to_tell():
            emit("input_error", error=str(error))
        return INPUT_ERROR_STATUS
    except TrialInterruptedError:
        if processes.rank == 0:
            emit("interrupted")
        return INTERRUPTED_STATUS
    except Exception as error:  # the boundary of the process: whatever went wrong is this trial's result
        traceback.print_exc()
        if processes.first_to_tell():
            emit("failed", **_failure(error, device))
        return FAILED_STATUS
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
