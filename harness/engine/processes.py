"""Jobs as processes: start some, listen to all, end them with us."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any


@dataclass(frozen=True)
class ProcessJob:
    """One child process: ``python -m module file``."""

    name: str
    module: str
    file: Path
    log: Path
    """What the child prints on standard error"""
    threads: int
    """CPU threads that its numeric libraries may use"""


@dataclass(frozen=True)
class Outcome:
    """How a job ended."""

    status: int
    """Exit status; negative: the signal that ended it"""
    error: str | None
    """One line, None when the job did what it should"""


Listener = Callable[[ProcessJob, dict[str, Any]], None]
"""Called in the engine's thread with each event of a job; ``start`` and ``end`` are ours."""


def run_jobs(jobs: Sequence[ProcessJob], workers: int, listen: Listener) -> dict[str, Outcome]:
    """Run all jobs, ``workers`` at a time, in order; returns how each ended, by name.

    A job that reports an ``input_error`` stops the rest: the user has to mend something first. Whatever
    ends this function early (an exception, Ctrl-C), ends the children too.
    """
    waiting = list(jobs)
    running: dict[str, tuple[ProcessJob, subprocess.Popen[str]]] = {}
    outcomes: dict[str, Outcome] = {}
    reported: dict[str, dict[str, Any]] = {}
    events: queue.Queue[tuple[str, dict[str, Any] | None]] = queue.Queue()
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                job = waiting.pop(0)
                running[job.name] = (job, _start(job, events))
                listen(job, {"event": "start"})
            name, event = events.get()
            job, process = running[name]
            if event is not None:
                if event["event"] in ("failed", "input_error"):
                    reported[name] = event
                listen(job, event)
                continue
            del running[name]
            outcomes[name] = _outcome(process.wait(), reported.get(name))
            listen(job, {"event": "end", "status": outcomes[name].status, "error": outcomes[name].error})
            if reported.get(name, {}).get("event") == "input_error":
                return outcomes
    finally:
        for _, process in running.values():
            process.terminate()
        for _, process in running.values():
            process.wait()
    return outcomes


def _start(job: ProcessJob, events: queue.Queue[tuple[str, dict[str, Any] | None]]) -> subprocess.Popen[str]:
    job.log.parent.mkdir(parents=True, exist_ok=True)
    threads = {name: str(job.threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    with job.log.open("w", encoding="utf-8") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", job.module, str(job.file.resolve())],
            stdin=subprocess.PIPE,  # kept open and never written: the child ends when we do
            stdout=subprocess.PIPE,
            stderr=log,
            encoding="utf-8",
            errors="replace",  # noise from a library must not end the listener
            env={**os.environ, **threads},
            cwd=Path(__file__).resolve().parents[2],
            # Ctrl-C reaches us alone; we end the children.
            start_new_session=True,
        )
    assert process.stdout is not None
    threading.Thread(target=_listen, args=(job.name, process.stdout, events), daemon=True).start()
    return process


def _listen(name: str, lines: IO[str], events: queue.Queue[tuple[str, dict[str, Any] | None]]) -> None:
    """Queue every event of one child, then None when it closes its output."""
    for line in lines:
        try:
            event = json.loads(line)
        except json.JSONDecodeError:
            continue  # a library that prints to the file descriptor; its text is no event
        if isinstance(event, dict) and "event" in event:
            events.put((name, event))
    events.put((name, None))


def _outcome(status: int, reported: dict[str, Any] | None) -> Outcome:
    if status == 0:
        return Outcome(0, None)
    if reported is not None:
        return Outcome(status, str(reported["error"]))
    if status < 0:
        return Outcome(status, f"ended by signal {signal.Signals(-status).name}")
    return Outcome(status, f"exit status {status} without a word")
