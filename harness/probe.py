"""Time some training steps, or the evaluation of a video, in a process of its own.

Run by a dry run as ``python -m harness.probe JOB.json``. What is found goes to standard output as json
lines; a lack of memory is an answer, not a failure.
"""

from __future__ import annotations

import os
import sys
import tempfile
import threading
import time
import traceback
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from harness.config import Closed, TrainConfig, TrialConfig
from harness.data.clips import resize_frames
from harness.data.splits import load_scored, load_training
from harness.data.ytvis import Video, VideoDataset, load_dataset
from harness.evaluation import encode_tracks
from harness.train import Step, train
from harness.trial import emit
from model import build_model
from model.checkpoint import initialise, save_weights
from model.clip_model import ClipModel
from model.inference import segment_video

WARM_STEPS = 3
TIMED_STEPS = 3
TIMED_S = 3.0
"""At least so many steps are timed, and for so long."""
PATIENCE_S = 60.0
"""Where steps are slow, warming up ends after this, and so does timing; one step of each there always is."""
MANY = 10**9
KEPT_QUERIES = 0.1
"""Share of queries that find something: an untrained model's find everything at once, and take its time."""


class ProbeJob(Closed):
    """What one process is to time."""

    kind: Literal["train", "evaluate"]
    configs: tuple[TrialConfig, ...]
    stages: tuple[Literal["train_evaluate", "time"], ...] = ()
    """Of each configuration, where cells are evaluated"""
    data: Path
    stand_in: bool
    """Whether the data stands for another, whose number of frames nobody knows"""
    initial_weights: Path | None
    device: str
    threads: int


class _EnoughError(Exception):
    """Ends a training that was only to be timed."""


class StepClock:
    """Called after each step of a training; ends it once the steps that count are timed."""

    def __init__(self) -> None:
        self.started = self.warm_at = time.perf_counter()
        self.warm = self.steps = 0

    def __call__(self, step: Step) -> None:
        """Note a step that is done."""
        now, done = time.perf_counter(), step.done
        if not self.warm and done < WARM_STEPS and now - self.started < PATIENCE_S:
            return
        if not self.warm:
            self.warm, self.warm_at = done, now
            return
        self.steps, took = done - self.warm, now - self.warm_at
        if (self.steps >= TIMED_STEPS and took >= TIMED_S) or took >= PATIENCE_S:
            self.seconds = took / self.steps
            raise _EnoughError


def probe_training(job: ProbeJob, device: torch.device) -> dict[str, Any]:
    """Seconds of a step, waiting for its batch included."""
    [config] = job.configs
    # Rates so small that no weight moves: a probe shall not diverge.
    still = {"learning_rate": 1e-12, "backbone_learning_rate": 0.0, "steps": MANY, "checkpoint_every": MANY}
    recipe = TrainConfig.model_validate({**config.train.model_dump(), **still})
    clock = StepClock()
    with tempfile.TemporaryDirectory(prefix="probe-") as folder:
        initial = job.initial_weights or _random_weights(config, Path(folder) / "initial.safetensors")
        changed = config.model_copy(update={"train": recipe})
        dataset = load_dataset(job.data, "train") if job.stand_in else load_training(job.data, config.data)
        try:
            train(changed, 0, dataset, Path(folder), "probe", device, clock, initial)
        except _EnoughError:
            found = {"seconds": clock.seconds, "timed_steps": clock.steps}
            if device.type == "cuda":
                found["peak_memory_gb"] = torch.cuda.max_memory_allocated(device) / 1e9
            return found
    raise RuntimeError("the training ended before its steps were timed")


def _random_weights(config: TrialConfig, path: Path) -> Path | None:
    """A file of random weights: a training that starts from one freezes stages, and is faster for it."""
    if config.train.initial == "random":
        return None
    model: nn.Module = build_model(config.model)
    if config.train.initial == "backbone":
        model = nn.ModuleDict({"backbone": model.get_submodule("backbone")})
    save_weights(model, path, {"config": config.model.model_dump()})
    return path


def middling(dataset: VideoDataset) -> Video:
    """A video of middling length."""
    videos = sorted((video for video in dataset.videos if video.length), key=lambda video: video.length)
    return videos[len(videos) // 2]


def probe_cell(
    model: ClipModel, dataset: VideoDataset, config: TrialConfig, stage: str, device: torch.device, part: bool
) -> dict[str, Any]:
    """Seconds of one stage of a cell, from one video of middling length.

    Args:
        part: the data is a stand-in; seconds of the whole are then left out.
    """
    video = middling(dataset)
    started = time.perf_counter()
    read, predicted = _video_seconds(model, dataset, video, config, device)
    if time.perf_counter() - started < PATIENCE_S:  # the first pass warmed up
        read, predicted = _video_seconds(model, dataset, video, config, device)
    each, passed = (read + predicted) / video.length, predicted / video.length
    found: dict[str, Any] = {"seconds_per_frame": each if stage == "train_evaluate" else passed}
    if part:
        return found | {
            "note": f"{found['seconds_per_frame']:.3g} s a frame; how many there are is not known"
        }
    if stage == "train_evaluate":
        return found | {"seconds": each * sum(video.length for video in dataset.videos)}
    frames = sum(video.length for video in [v for v in dataset.videos if v.length][: config.speed.videos])
    once = passed * frames
    return found | {"seconds": once + max(config.speed.passes * once, config.speed.min_seconds)}


@torch.no_grad()
def quiet(model: ClipModel, frames: Tensor) -> None:
    """Shift the class biases so that a few queries find one class each and the others nothing.

    Args:
        frames: (T, 3, H0, W0), what the biases are fitted on.
    """
    last = model.class_head.layers[-1]
    assert isinstance(last, nn.Linear)
    logits = model(frames[None].to(last.weight.device))["pred_logits"][0]
    lead = logits[:, 0] - logits[:, -1]  # of the first class over "no object"
    # 20: all other classes then have no probability to speak of.
    last.bias[0] += 20
    last.bias[-1] += 20 + lead.quantile(1 - KEPT_QUERIES)


def _video_seconds(
    model: ClipModel, dataset: VideoDataset, video: Video, config: TrialConfig, device: torch.device
) -> tuple[float, float]:
    """Seconds of reading and encoding a video, and of its prediction."""
    started = time.perf_counter()
    frames = torch.from_numpy(dataset.frames(video, range(video.length)))
    frames = resize_frames(frames, **config.inference.resizing())
    read = time.perf_counter()
    size = (video.height, video.width)
    tracks = segment_video(model, frames, output_size=size, **config.inference.arguments())
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    predicted = time.perf_counter()
    owners = tracks["tracks"].tolist()
    index = [owners.index(owner) for owner in owners]
    encode_tracks(
        video.video_id, tracks["scores"].tolist(), tracks["labels"].tolist(), tracks["masks"].numpy(), index
    )
    ended = time.perf_counter()
    return (read - started) + (ended - predicted), predicted - read


def run(job: ProbeJob) -> None:
    """Emit what each configuration takes; ends after the first that does not fit."""
    torch.set_num_threads(job.threads)
    device = torch.device(job.device)
    if job.kind == "train":
        emit("probed", **probe_training(job, device))
        return
    config = job.configs[0]
    model = build_model(config.model)
    if job.initial_weights is not None and config.train.initial == "model":
        initialise(model, job.initial_weights)
    model = model.to(device).eval()
    dataset = load_dataset(job.data, "valid") if job.stand_in else load_scored(job.data, config.data)
    video = middling(dataset)
    first = torch.from_numpy(dataset.frames(video, range(min(video.length, config.inference.window))))
    quiet(model, resize_frames(first, **config.inference.resizing()))
    for cell, stage in zip(job.configs, job.stages, strict=True):
        emit("probed", **probe_cell(model, dataset, cell, stage, device, job.stand_in))


def lacks_memory(error: BaseException) -> bool:
    """Whether an error says that memory has run out, on a GPU or beside it."""
    text = str(error)
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and ("can't allocate memory" in text or "out of memory" in text)
    )


def _end_with_parent() -> None:
    """Whoever started us holds the other end of standard input."""
    while os.read(0, 4096):
        pass
    os._exit(1)


def _volunteer() -> None:
    """Let the kernel end this process before any other where memory runs out."""
    score = Path("/proc/self/oom_score_adj")
    if score.is_file():
        score.write_text("1000", encoding="ascii")


def main(arguments: list[str]) -> int:
    """Exit status: 0 timed, or it does not fit; 1 for anything else."""
    job = ProbeJob.model_validate_json(Path(arguments[0]).read_bytes())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _volunteer()
    try:
        run(job)
    except Exception as error:  # the boundary of the process
        traceback.print_exc()
        line = f"{type(error).__name__}: {' '.join(str(error).split())}"[:200]
        status = "oom" if lacks_memory(error) else "failed"
        emit("probed", status=status, note="out of memory" if status == "oom" else f"probe failed: {line}")
        return int(status == "failed")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
