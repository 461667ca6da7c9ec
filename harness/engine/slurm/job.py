"""What one Slurm job does: the stages of one trial, and what it leaves behind when it is sent away.

Slurm warns a job before it ends it: with SIGUSR2 (which ``submitit`` asks for) shortly before the time
limit and, on clusters that are set so, at preemption; with SIGTERM at preemption and at ``scancel``. The
trial works in a thread of its own, so that the main thread, which takes signals, can ask it to save a
checkpoint and wait.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from harness.engine.processes import GRACE_SECONDS
from harness.engine.seats import Seat, cores, device_of, visible_gpus
from harness.engine.trial_files import Stage
from harness.engine.work import Work, work_on
from harness.provenance import now
from harness.record_file import write_record
from harness.sweep import Trial
from model.errors import InputError

CLOSING_SECONDS = GRACE_SECONDS + 10.0
"""From the warning until the trial's process has ended and its attempt is closed"""
LINGER_SECONDS = 150.0
"""After SIGTERM: Slurm ends the job within this time, or had no wish to"""


def job_name() -> str:
    """This job as the queue calls it: ``120_4`` in an array, ``121`` alone."""
    array, task = (os.environ.get(f"SLURM_ARRAY_{part}_ID") for part in ("JOB", "TASK"))
    return f"{array}_{task}" if array else os.environ["SLURM_JOB_ID"]


@dataclass
class TrialJob:
    """Stages of a trial as a function for ``submitit``, which pickles it, and again at a requeue."""

    work: Work
    trial: Trial
    stages: tuple[Stage, ...]
    endings: Path
    """Folder where jobs say how they ended"""
    _stop: threading.Event | None = field(default=None, init=False, repr=False)
    _thread: threading.Thread | None = field(default=None, init=False, repr=False)

    def __call__(self) -> str:
        """Work to the end; the state it ended in, also written to :attr:`endings` under the job's name."""
        ending = self.endings / f"{job_name()}.json"
        ending.unlink(missing_ok=True)  # of the same job before an operator sent it back
        self._stop, told = threading.Event(), {"state": "failed", "error": "ended without a word"}
        # Daemonic: if it hangs, the requeue must not wait for it.
        self._thread = threading.Thread(target=self._work, args=(told,), daemon=True)
        signal.signal(signal.SIGTERM, self._asked_to_end)
        self._thread.start()
        while self._thread.is_alive():
            self._thread.join(1.0)  # signals are taken between two looks
        if told["state"] == "interrupted" and self._stop.is_set():
            _wait_for_the_end()
        write_record(ending, {**told, "ended": now()})
        return told["state"]

    def checkpoint(self) -> Any:
        """Called by ``submitit`` in the main thread at a warning: close the attempt, and come again."""
        import submitit

        if self._stop is not None and self._thread is not None:
            self._stop.set()
            self._thread.join(CLOSING_SECONDS)
        again = TrialJob(self.work, self.trial, self.stages, self.endings)
        return submitit.helpers.DelayedSubmission(again)

    def _asked_to_end(self, number: int, frame: FrameType | None) -> None:
        assert self._stop is not None
        self._stop.set()

    def _work(self, told: dict[str, str]) -> None:
        assert self._stop is not None
        # Slurm warns every process of a job; those of the trial would die of it. They inherit this mask.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2, signal.SIGUSR1})
        try:
            work, seat = self._here()
            told |= {"state": work_on(work, self.trial, self.stages, seat, self._stop), "error": ""}
        except InputError as error:
            told |= {"state": "input_error", "error": str(error)}
        except BaseException as error:
            told |= {"state": "failed", "error": f"{type(error).__name__}: {error}"}
            raise  # its traceback belongs into the job's log

    def _here(self) -> tuple[Work, Seat]:
        """The work and the seat on this node: Slurm has chosen the GPUs and pinned the processors."""
        plan = self.work.ledger.plan
        gpus = visible_gpus() if device_of(plan.options.device) == "cuda" else []
        device = plan.options.device
        if device == "auto":
            device = "cuda" if gpus else "cpu"
        if self.trial.config.train.threads is None:
            had = int(os.environ.get("SLURM_CPUS_PER_TASK", cores()))
            self.work.threads = max(1, had // self.work.processes)
        return self.work, Seat(device, tuple(gpus) if device == "cuda" else ())


def _wait_for_the_end() -> None:
    """SIGTERM may be followed by SIGUSR2, which requeues, or by Slurm's own end of the job.

    Ending first would count as done: a preempted job would not be requeued.
    """
    until = time.monotonic() + LINGER_SECONDS
    while time.monotonic() < until:
        time.sleep(0.5)
