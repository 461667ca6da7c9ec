"""One trial on a node of a Ray cluster: what the driver sends there, and what it hears back."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from harness.engine.processes import GRACE_SECONDS
from harness.engine.runners import FOLDER as RUNNERS
from harness.engine.seats import Seat, visible_gpus
from harness.engine.trial_files import Stage
from harness.engine.work import Work, work_on
from harness.provenance import PROJECT, code_versions
from harness.sweep import Trial
from model.errors import InputError

STOP_SECONDS = GRACE_SECONDS + 10
"""For a checkpoint, and for what remains to be written after it"""
SHARED_SECONDS = 60.0
"""A network file system may show a new file this late"""

Answer = tuple[str, str]
"""(``done``, ``interrupted``, ``elsewhere``, ``refused`` or ``trouble``; one line for the last two).
Plain text: an exception would have to survive Ray's own pickling."""


@dataclass(frozen=True)
class Task:
    """Stages of one trial, as they travel."""

    work: Work
    trial: Trial
    stages: tuple[Stage, ...]
    device: str
    """``cpu`` or ``cuda``"""
    driver: str
    """The driver's name as a runner: its beat shows that a node sees the same folder"""
    folder: Path
    """Where the driver stands; relative paths start there"""


def perform(task: Task) -> Answer:
    """Do the stages in a process of their own. Cancelling the task lets it save a checkpoint first."""
    stop = threading.Event()
    answers: list[Answer | BaseException] = []
    worker = threading.Thread(target=lambda: answers.append(_answer(task, stop)), daemon=True)
    with _signals_heard(stop) as heard:
        worker.start()
        while worker.is_alive() and not stop.is_set():
            worker.join(0.2)
        worker.join(STOP_SECONDS)
    if signal.SIGTERM in heard:
        sys.exit(1)  # Ray's own way to go; it starts the task again on another node
    answer = answers[0] if answers else ("interrupted", "")
    if isinstance(answer, BaseException):
        raise answer
    return answer


@contextmanager
def _signals_heard(stop: threading.Event) -> Iterator[list[int]]:
    """Set ``stop`` at a signal; gives the list of those that came.

    Ray cancels a task by SIGINT, and again every two seconds: as an exception it would cut the waiting short.
    SIGTERM comes when the node leaves.
    """
    heard: list[int] = []

    def hear(number: int, frame: FrameType | None) -> None:
        heard.append(number)
        stop.set()

    before = {number: signal.signal(number, hear) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield heard
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _answer(task: Task, stop: threading.Event) -> Answer | BaseException:
    try:
        _check_node(task)
        seat = Seat(task.device, tuple(visible_gpus()) if task.device == "cuda" else ())
        return work_on(task.work, task.trial, task.stages, seat, stop), ""
    except InputError as error:
        return "refused", str(error)
    except OSError as error:
        return "trouble", f"{socket.gethostname()}: {type(error).__name__}: {' '.join(str(error).split())}"
    except BaseException as error:  # raised again where Ray hears it
        return error


def _check_node(task: Task) -> None:
    """Refuse a node that would work elsewhere, or do something else."""
    host, results = socket.gethostname(), task.work.ledger.plan.options.results
    if not task.folder.is_dir():
        raise InputError(
            f"--executor ray: node {host} has no folder {task.folder}; all nodes have to share it"
        )
    os.chdir(task.folder)
    if code_versions() != task.work.code:
        raise InputError(f"--executor ray: node {host} has another version of the code in {PROJECT}")
    beat = results / RUNNERS / f"{task.driver}.json"
    patience = time.monotonic() + SHARED_SECONDS
    while not beat.is_file():
        if time.monotonic() > patience:
            raise InputError(
                f"--results {results}: node {host} sees another folder there; all nodes have to share it"
            )
        time.sleep(1.0)
