"""The stages of a trial: train, evaluate, time, count. Each leaves its files in the trial's folder.

A file is written whole or not at all, and says under which conditions its numbers came about.
"""

from __future__ import annotations

import csv
import dataclasses
import functools
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import torch

from harness.allocator import freed_memory_kept
from harness.config import InferenceConfig, TrialConfig
from harness.data.clips import resize_frames
from harness.data.frame_cache import FrameCache
from harness.data.splits import load_training
from harness.data.ytvis import Video, VideoDataset
from harness.distributed import Processes
from harness.encoded_tracks import EncodedTracks, batches
from harness.evaluation import evaluate, write_results
from harness.flops import count_encoder
from harness.image_evaluation import evaluate_images
from harness.loggers import Loggers, training_scalars
from harness.memory import peak_memory
from harness.memory_budget import default_frame_cache, refuse_training
from harness.model_speed import time_model
from harness.provenance import determinism, git_state, gpu_driver, machine, now, packages
from harness.record_file import read_record, write_record
from harness.speed import time_videos
from harness.train import LOSSES, WAITED, WEIGHTS, Step, train
from model import build_model
from model.checkpoint import load_weights, weights_metadata
from model.clip_model import ClipModel
from model.errors import InputError
from model.inference import VideoStream
from model.ready import ReadyModel, ready

SCORES_OF_RESULTS = ("situations.json", "errors.json")
"""What other stages make of a cell's ``results.json``"""


class Emit(Protocol):
    """Tells the engine of an event."""

    def __call__(self, event: str, **fields: Any) -> None: ...


@dataclasses.dataclass(frozen=True)
class Voice:
    """How a stage tells where it is, and hears that it must end."""

    emit: Emit
    check: Callable[[], None]
    """Raises :class:`harness.train.TrialInterruptedError` when the process is to end"""


def train_model(
    identity: tuple[str, int, TrialConfig],
    start: tuple[Path, Path | None],
    folder: Path,
    device: torch.device,
    processes: Processes,
    loggers: Loggers,
    voice: Voice,
    stop: Callable[[], bool],
    memory_budget: int | None = None,
    frame_cache: int | None = None,
) -> ClipModel:
    """Train, or go on with it; at the end ``trial.json`` tells how it went.

    Args:
        identity: key of the trial, seed, configuration.
        start: folder of the data, weights to start from (None: random).
        frame_cache: bytes of frames that this process keeps; None: what its memory allows.
    """
    trial, seed, config = identity
    data, initial_weights = start
    started, started_at = time.perf_counter(), now()

    def progress(step: Step) -> None:
        losses = {name: round(value, 6) for name, value in step.losses.items()}
        said = {**step._asdict(), "loss": round(step.loss, 4), "losses": losses}
        voice.emit("step", **said)
        loggers.scalars(step.done, training_scalars(step._asdict()))

    first = processes.rank == 0
    if first:
        voice.emit("stage", name="train")
    dataset = load_training(data, config.data)
    if memory_budget is not None:
        refuse_training(config, dataset, device, memory_budget, processes.count)
    processes.join(device)
    told = progress if first else lambda step: None
    if frame_cache is None:
        of_host = memory_budget if device.type == "cpu" else None
        frame_cache = default_frame_cache(of_host, processes.local_count)
    cache = FrameCache(frame_cache)
    with freed_memory_kept():
        model = train(
            config, seed, dataset, folder, trial, device, told, initial_weights, stop, processes, cache
        )
    peak, kind = peak_memory(device)
    if peak is not None:
        peak = processes.largest(peak)
    processes.leave()
    if not first:
        return model
    record = {
        "trial": trial,
        "seed": seed,
        "config": config.model_dump(mode="json"),
        "train_started": started_at,
        "train_finished": now(),
        **_seconds_of_steps(folder / LOSSES),
        "last_process_seconds": round(time.perf_counter() - started, 3),
        "train_processes": processes.count,
        "frame_cache_gb": frame_cache / 1e9,
        "trial_peak_memory_gb": peak,
        "trial_peak_memory_kind": kind,
        "memory_budget_gb": None if memory_budget is None else memory_budget / 1e9,
        "data_checksum": dataset.checksum(),
        "initial_weights": None if initial_weights is None else str(initial_weights),
        "start": weights_metadata(folder / WEIGHTS).get("start"),
        "packages": packages(),
        **conditions(device),
    }
    write_record(folder / "trial.json", record)
    return model


def _seconds_of_steps(losses: Path) -> dict[str, float | None]:
    """What all steps have taken, in whichever process they ran, and how much of it they waited for clips.

    The waiting is None where that of some steps was not measured.
    """
    with losses.open(newline="") as file:
        lines = list(csv.DictReader(file))
    seconds, waited = (sum(float(line[name]) for line in lines) for name in ("seconds", WAITED))
    return {
        "train_seconds": round(seconds, 3),
        "train_waited_seconds": round(waited, 3) if math.isfinite(waited) else None,
    }


def load_trained(trial: str, config: TrialConfig, folder: Path, device: torch.device) -> ClipModel:
    """The weights of a finished training; raises :class:`InputError` where they are another's."""
    model = build_model(config.model).to(device)
    try:
        load_weights(model, folder / WEIGHTS)
        found = weights_metadata(folder / WEIGHTS).get("identity")
    except InputError as error:
        raise InputError(f"delete {folder} to train again: {error}") from None
    if found != trial:
        raise InputError(f"delete {folder} to train again: {WEIGHTS} is of training {found}")
    return model.eval()


def evaluate_cell(
    model: ClipModel | ReadyModel,
    dataset: VideoDataset,
    config: TrialConfig,
    folder: Path,
    device: torch.device,
    voice: Voice,
) -> dict[str, float | None]:
    """Predict every video, write ``results.json``, score it; returns AP and the like, in percent."""
    started = time.perf_counter()
    voice.emit("stage", name=f"evaluate T={config.inference.window}")
    results: list[dict[str, Any]] = []
    made_ready = ready(model)
    with freed_memory_kept():
        for done, video in enumerate(dataset.videos, 1):
            voice.check()
            try:
                results += video_results(made_ready, dataset, video, config.inference)
            except FloatingPointError as error:
                raise FloatingPointError(f"video {video.video_id}: {error}") from None
            voice.emit("video", done=done, of=len(dataset.videos))
    for name in SCORES_OF_RESULTS:
        (folder / name).unlink(missing_ok=True)  # they would be those of other results
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
        **conditions(device),
    }
    write_record(folder / "metrics.json", record)
    return percent


def video_results(
    model: ReadyModel, dataset: VideoDataset, video: Video, settings: InferenceConfig
) -> list[dict[str, Any]]:
    """The entries of one video in ``results.json``; neither frames nor masks are ever all in memory."""
    stream = VideoStream(model, settings.window, settings.stride, settings.match_threshold, video.length)
    tracks = EncodedTracks((video.height, video.width))
    for indices in batches(range(video.length), model.frames_together):
        frames = torch.from_numpy(dataset.frames(video, indices))
        tracks.add(stream.push(resize_frames(frames, **settings.resizing())))
    tracks.add(stream.finish())
    ids = [category.id for category in dataset.categories]
    return tracks.results(video.video_id, stream.class_probs(), settings.score_threshold, ids)


def time_cell(
    model: ClipModel | ReadyModel,
    dataset: VideoDataset,
    config: TrialConfig,
    folder: Path,
    device: torch.device,
    voice: Voice,
) -> None:
    """Frames per second by the protocol of :mod:`harness.speed`."""
    started = time.perf_counter()
    voice.emit("stage", name=f"time T={config.inference.window}")
    speed = time_videos(
        model, dataset, config, device, lambda done: voice.emit("pass", done=done), voice.check
    )
    seconds = {"seconds": round(time.perf_counter() - started, 3)}
    write_record(folder / "speed.json", {**dataclasses.asdict(speed), **seconds, **conditions(device)})


def count(config: TrialConfig, folder: Path, voice: Voice) -> None:
    """Multiply-adds of the encoder, on a device without memory: nothing is trained, no data is read."""
    voice.check()
    window = config.inference.window
    voice.emit("stage", name=f"count T={window}")
    multiply_adds = count_encoder(config.model, config.flops.size, window)
    record = {"flops_g": multiply_adds / 1e9, "multiply_adds": multiply_adds}
    write_record(folder / "flops.json", {**record, "counted": now(), **conditions(torch.device("cpu"))})


def time_model_cell(
    config: TrialConfig, folder: Path, device: torch.device, budget: int | None, voice: Voice
) -> None:
    """The model region alone, untrained, by :mod:`harness.model_speed`: no data is read."""
    window = config.inference.window
    voice.emit("stage", name=f"time the model T={window} {config.clip.resolution}")
    found = time_model(config, device, budget, voice.check)
    write_record(
        folder / "model.json", {**dataclasses.asdict(found), "model_timed": now(), **conditions(device)}
    )


def record_loggers(path: Path, states: dict[str, str]) -> None:
    """Add to ``trial.json`` how each logger fared; what failed in an earlier process stays on record."""
    record = read_record(path)
    failed = {name: state for name, state in record.get("loggers", {}).items() if state != "on"}
    write_record(path, {**record, "loggers": {**record.get("loggers", {}), **states, **failed}})


@functools.cache
def code_state() -> dict[str, Any]:
    """The checkout as it was when this process first asked."""
    return git_state()


def conditions(device: torch.device) -> dict[str, Any]:
    """Code, device, threads and packages of this process."""
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
        "gpu_driver": gpu_driver() if cuda else None,
        "determinism": determinism(),
        **code_state(),
        **host,
    }
