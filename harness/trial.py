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
    cells/<cell>/situations.json  AP of the tracks that are fast, overlapped and the like
    cells/<cell>/errors.json   what AP50 gains where one kind of error is mended
    cells/<cell>/speed.json    FPS and its conditions
    cells/<cell>/model.json    speed and memory of the untrained model alone (needs no data either)
    cells/<cell>/flops.json    multiply-adds of the encoder (needs no training and no data)
    logs/<logger>/             of optional loggers
"""

from __future__ import annotations

import faulthandler
import json
import os
import select
import signal
import sys
import threading
import traceback
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import ValidationError

from harness.config import Closed, TrialConfig
from harness.data.splits import load_scored
from harness.distributed import Processes
from harness.loggers import LoggerName, open_loggers
from harness.memory import is_out_of_memory, peak_memory
from harness.memory_budget import ESTIMATED, OverBudgetError, cap_device, refuse_cell
from harness.provenance import code_versions, score_versions
from harness.record_file import read_training
from harness.result_scores import score_cell
from harness.stages import (
    Voice,
    code_state,
    count,
    evaluate_cell,
    load_trained,
    record_loggers,
    time_cell,
    time_model_cell,
    train_model,
)
from harness.train import TrialInterruptedError
from model.errors import InputError
from model.ready import Execution, ReadyModel

FAILED_STATUS = 1
INPUT_ERROR_STATUS = 2
INTERRUPTED_STATUS = 4


class CellJob(Closed):
    """A cell to evaluate or time."""

    key: str
    config: TrialConfig


class Job(Closed):
    """What one process is to do."""

    stage: Literal["train_evaluate", "situations", "errors", "time", "count", "model"]
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
    log: tuple[LoggerName, ...] = ()
    """Loggers of the training and of its AP"""
    memory_budget: int | None = None
    """Bytes of its device that this process may have"""
    frame_cache: int | None = None
    """Bytes of frames that a training process keeps; None: what its memory allows"""
    code: tuple[str, str] | None = None
    """Versions of the code for training and evaluation that the identities stand for"""
    score_code: dict[str, str] | None = None
    """Measure -> version of the code that scores results"""


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
    _check_code(job)
    code_state()  # now: the files may change while this process runs what it has loaded
    if job.threads is not None:
        torch.set_num_threads(job.threads)
    trains = job.stage == "train_evaluate" and read_training(job.folder) is None
    if processes.rank > 0 and not trains:
        return
    for folder in (job.folder / "cells" / cell.key for cell in job.cells):
        folder.mkdir(parents=True, exist_ok=True)
    voice = Voice(emit, stop.check)
    if job.stage == "count":
        for cell in job.cells:
            count(cell.config, job.folder / "cells" / cell.key, voice)
            emit("cell", cell=cell.key)
        return
    if job.memory_budget is not None:
        cap_device(device, job.memory_budget)
    if job.stage == "model":
        for cell in job.cells:
            time_model_cell(cell.config, job.folder / "cells" / cell.key, device, job.memory_budget, voice)
            emit("cell", cell=cell.key)
        return
    valid = load_scored(job.data, job.config.data)
    if job.stage in ("situations", "errors"):
        for cell in job.cells:
            stop.check()
            score_cell(job.stage, valid, job.folder / "cells" / cell.key, voice)
            emit("cell", cell=cell.key)
        return
    first = processes.rank == 0
    log = job.log if job.stage == "train_evaluate" and first else ()
    name = f"{job.config.model.encoder} seed {job.seed} {job.trial}"
    with open_loggers(log, job.folder, job.trial, name, job.config.model_dump(mode="json")) as loggers:
        if trains:
            identity = (job.trial, job.seed, job.config)
            start = (job.data, job.initial_weights)
            asked = lambda: stop.asked  # noqa: E731
            limits = (job.memory_budget, job.frame_cache)
            model = train_model(
                identity, start, job.folder, device, processes, loggers, voice, asked, *limits
            )
        else:
            model = load_trained(job.trial, job.config, job.folder, device)
        cells = job.cells if first else ()
        if cells:
            # What is refused is estimated for one frame, and one window, at a time.
            made_ready = ReadyModel(model, Execution(side_by_side=job.memory_budget is None))
        for cell in cells:
            stop.check()
            if job.memory_budget is not None:
                refuse_cell(cell.config, valid, device, job.memory_budget)
            folder = job.folder / "cells" / cell.key
            if job.stage == "train_evaluate":
                percent = evaluate_cell(made_ready, valid, cell.config, folder, device, voice)
                inference = cell.config.inference
                place = f"valid/T{inference.window}_S{inference.stride}_{cell.key}"
                loggers.result(job.config.train.steps, {f"{place}/{key}": percent[key] for key in percent})
            else:
                time_cell(made_ready, valid, cell.config, folder, device, voice)
            emit("cell", cell=cell.key)
    if log:
        record_loggers(job.folder / "trial.json", loggers.states())


def _check_code(job: Job) -> None:
    """The job's identities stand for the code as it was when the run began: other code is not that trial."""
    here = score_versions()
    scores = any(here[name] != version for name, version in (job.score_code or {}).items())
    if scores or (job.code is not None and job.code != code_versions()):
        raise InputError(
            f"trial {job.trial}: the code has changed since this run was planned; start the command again"
        )


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
    if isinstance(error, OverBudgetError):
        peak, peak_kind = error.peak_memory_gb, ESTIMATED
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
    faulthandler.enable()  # a crash of the interpreter leaves its stack in the log
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
