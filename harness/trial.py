"""One trial in one process: train, evaluate at every window, time. Results are files of the trial's folder.

Run by the engine as ``python -m harness.trial JOB.json``. Events go to standard output as json lines;
everything else a library prints goes to standard error. The process ends when its standard input
closes, so that no trial outlives the engine that started it.

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
from harness.evaluation import encode_tracks, evaluate, write_results
from harness.flops import count_encoder
from harness.image_evaluation import evaluate_images
from harness.provenance import machine, now
from harness.speed import time_videos
from harness.train import WEIGHTS, train
from model import build_model
from model.checkpoint import load_weights, weights_metadata
from model.clip_model import ClipModel
from model.errors import InputError
from model.inference import segment_video
from model.whole_file import whole_file

INPUT_ERROR_STATUS = 2


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


def run(job: Job) -> None:
    """Do the job, skipping what is there already."""
    if job.threads is not None:
        torch.set_num_threads(job.threads)
    for folder in (job.folder / "cells" / cell.key for cell in job.cells):
        folder.mkdir(parents=True, exist_ok=True)
    if job.stage == "count":
        _count(job)
        return
    device = _device(job.device)
    valid = load_scored(job.data, job.config.data)
    model = _trained_model(job, device)
    for cell in job.cells:
        folder = job.folder / "cells" / cell.key
        window = cell.config.inference.window
        if job.stage == "train_evaluate":
            emit("stage", name=f"evaluate T={window}")
            _evaluate(model, valid, cell.config, folder, device)
        else:
            emit("stage", name=f"time T={window}")
            started = time.perf_counter()
            speed = dataclasses.asdict(time_videos(model, valid, cell.config, device))
            seconds = round(time.perf_counter() - started, 3)
            write_json(folder / "speed.json", {**speed, "seconds": seconds, **_conditions(device)})
        emit("cell", cell=cell.key)


def _count(job: Job) -> None:
    """Multiply-adds of every cell, on a device without memory: nothing is trained, no data is read."""
    for cell in job.cells:
        window = cell.config.inference.window
        emit("stage", name=f"count T={window}")
        multiply_adds = count_encoder(cell.config.model, cell.config.flops.size, window)
        record = {"flops_g": multiply_adds / 1e9, "multiply_adds": multiply_adds}
        folder = job.folder / "cells" / cell.key
        write_json(folder / "flops.json", {**record, "counted": now(), **_conditions(torch.device("cpu"))})
        emit("cell", cell=cell.key)


def _device(wanted: str) -> torch.device:
    """``auto`` is a GPU if torch can use one; the row records which it was."""
    devices = torch.cuda.device_count()
    if wanted == "auto":
        return torch.device("cuda" if devices else "cpu")
    device = torch.device(wanted)
    if device.type == "cuda" and (device.index or 0) >= devices:
        raise InputError(f"--device: {wanted!r}: this machine has {devices} CUDA devices that torch can use")
    return device


def _trained_model(job: Job, device: torch.device) -> ClipModel:
    """The trial's weights: loaded if the training is finished, trained otherwise."""
    if (job.folder / "trial.json").is_file():
        model = build_model(job.config.model).to(device)
        try:
            load_weights(model, job.folder / WEIGHTS)
            found = weights_metadata(job.folder / WEIGHTS).get("identity")
        except InputError as error:
            raise InputError(f"delete {job.folder} to train again: {error}") from None
        if found != job.trial:
            raise InputError(f"delete {job.folder} to train again: {WEIGHTS} is of training {found}")
        return model.eval()
    emit("stage", name="train")
    started, started_at = time.perf_counter(), now()
    dataset = load_training(job.data, job.config.data)

    def progress(done: int, steps: int, loss: float) -> None:
        emit("step", done=done, steps=steps, loss=round(loss, 4))

    model = train(job.config, job.seed, dataset, job.folder, job.trial, device, progress, job.initial_weights)
    record = {
        "trial": job.trial,
        "seed": job.seed,
        "config": job.config.model_dump(mode="json"),
        "train_started": started_at,
        "train_finished": now(),
        "train_seconds": round(time.perf_counter() - started, 3),
        "initial_weights": None if job.initial_weights is None else str(job.initial_weights),
        "start": weights_metadata(job.folder / WEIGHTS).get("start"),
        **_conditions(device),
    }
    write_json(job.folder / "trial.json", record)
    return model


def _evaluate(
    model: ClipModel, dataset: VideoDataset, config: TrialConfig, folder: Path, device: torch.device
) -> None:
    """Predict every video, write ``results.json``, score it."""
    started = time.perf_counter()
    results: list[dict[str, Any]] = []
    for video in dataset.videos:
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
        "seconds": round(time.perf_counter() - started, 3),
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


def _end_with_engine() -> None:
    """The engine holds the other end of standard input: when it is gone, so are we."""
    # The bare descriptor: a buffered reader's lock, held here at exit, would abort the interpreter.
    while os.read(0, 4096):
        pass
    os._exit(1)


def main(arguments: list[str]) -> int:
    """Exit status: 0 done, 2 for input a person can mend, 1 for a failure of the trial."""
    try:
        job = Job.model_validate_json(Path(arguments[0]).read_bytes())
    except (OSError, IndexError, ValidationError) as error:
        emit("input_error", error=f"not a job for harness.trial: {' '.join(str(error).split())}")
        return INPUT_ERROR_STATUS
    threading.Thread(target=_end_with_engine, daemon=True).start()
    try:
        run(job)
    except InputError as error:
        emit("input_error", error=str(error))
        return INPUT_ERROR_STATUS
    except Exception as error:  # the boundary of the process: whatever went wrong is this trial's result
        traceback.print_exc()
        emit("failed", error=f"{type(error).__name__}: {' '.join(str(error).split())}"[:500])
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
