"""One trial's process: start it on its seat, listen to it, and end it when it has to end."""

from __future__ import annotations

import json
import os
import queue
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from harness.engine.kernel_kills import KillCounter

PROJECT = Path(__file__).resolve().parents[2]
TICK_SECONDS = 0.2
MAXRSS_BYTES = 1 if sys.platform == "darwin" else 1024
GRACE_SECONDS = 30.0
"""From the request to end (time for a checkpoint) to the end by force"""

LAUNCHER_VARIABLES = frozenset({"WORLD_SIZE", "RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK"})

Listener = Callable[[dict[str, Any]], None]
"""Called with each event of the process, in the thread that supervises it."""


@dataclass(frozen=True)
class Command:
    """What to start, and where."""

    arguments: tuple[str, ...]
    """After the interpreter, such as ``-m harness.trial job.json``"""
    log: Path
    """Takes standard error"""
    environment: Mapping[str, str]
    """Over our own"""
    cores: frozenset[int] | None = None
    """Processors it is pinned to; None: all of ours"""


@dataclass(frozen=True)
class Limits:
    """When to give up, in seconds; None: never."""

    timeout: float | None = None
    """From start to end"""
    silence: float | None = None
    """Without any event"""


@dataclass(frozen=True)
class Ended:
    """How a process ended."""

    status: int
    """Exit status; negative: the signal that ended it"""
    reported: dict[str, Any] | None
    """Its last event among ``failed``, ``input_error`` and ``interrupted``"""
    ended_by_us: str | None
    """Why we ended it: ``stop``, or the limit in words; None when it ended by itself"""
    killed_by_kernel: bool
    """Whether the kernel has killed for want of memory meanwhile, in its control group"""
    seconds: float
    peak_memory_gb: float
    """Largest resident set of its processes, GB of 1e9 bytes"""


def supervise(
    command: Command, listen: Listener, stop: Callable[[], bool], limits: Limits, grace: float = GRACE_SECONDS
) -> Ended:
    """Run a process to its end and tell how it ended. Whatever ends this function ends the process too.

    Args:
        stop: when it says yes, the process is asked to end (SIGTERM), and ended by force after ``grace`` s.
    """
    events: queue.Queue[dict[str, Any] | None] = queue.Queue()
    started = time.monotonic()
    process = _start(command)
    try:
        kills = KillCounter(process.pid)
        assert process.stdout is not None
        threading.Thread(target=_read_events, args=(process.stdout, events), daemon=True).start()
        reported, reason, (wait_status, peak) = _follow(process, events, listen, stop, limits, grace)
        status = os.waitstatus_to_exitcode(wait_status)
        by_kernel = status != 0 and reason is None and kills.has_risen()
        return Ended(status, reported, reason, by_kernel, time.monotonic() - started, peak / 1e9)
    finally:
        if process.returncode is None:
            _kill(process)
            process.wait()


def _start(command: Command) -> subprocess.Popen[str]:
    command.log.parent.mkdir(parents=True, exist_ok=True)
    with command.log.open("a", encoding="utf-8") as log:
        process = subprocess.Popen(
            [sys.executable, *command.arguments],
            stdin=subprocess.PIPE,  # kept open and never written: the process ends when we do
            stdout=subprocess.PIPE,
            stderr=log,
            encoding="utf-8",
            errors="replace",  # noise from a library must not end the listener
            env={**_inherited(), **command.environment},
            cwd=PROJECT,
            # Ctrl-C reaches us alone; we end the process. Its group holds what it starts.
            start_new_session=True,
        )
    if command.cores is not None and hasattr(os, "sched_setaffinity"):
        with suppress(OSError):  # it has ended already: how, we shall hear
            os.sched_setaffinity(process.pid, command.cores)  # threads that it starts later inherit this
    return process


def _inherited() -> dict[str, str]:
    """Our own variables, but for those of a launcher of several processes that may have started us."""
    return {name: value for name, value in os.environ.items() if name not in LAUNCHER_VARIABLES}


def _read_events(lines: IO[str], events: queue.Queue[dict[str, Any] | None]) -> None:
    """Queue every event, then None when the output is closed."""
    for line in lines:
        try:
            event = json.loads(line)
        except json.JSONDecodeError:
            continue  # a library that prints to the file descriptor; its text is no event
        if isinstance(event, dict) and "event" in event:
            events.put(event)
    events.put(None)


def _follow(
    process: subprocess.Popen[str],
    events: queue.Queue[dict[str, Any] | None],
    listen: Listener,
    stop: Callable[[], bool],
    limits: Limits,
    grace: float,
) -> tuple[dict[str, Any] | None, str | None, tuple[int, int]]:
    """Listen until the process has ended: (what it reported, why we ended it, (wait status, peak bytes))."""
    reported: dict[str, Any] | None = None
    reason: str | None = None
    talks = True  # its output is not closed yet
    running = silent = asked = 0.0
    seen_peak = 0

    def hear(event: dict[str, Any]) -> None:
        nonlocal reported
        if event["event"] in ("failed", "input_error", "interrupted"):
            reported = event
        listen(event)

    while True:
        before = time.monotonic()
        event = _next(events, TICK_SECONDS)
        # A machine that slept, or a stopped engine, is no silence of the trial: a tick counts little.
        tick = min(time.monotonic() - before, 5 * TICK_SECONDS)
        running, silent, asked = running + tick, silent + tick, asked + tick if reason else 0.0
        seen_peak = _resident_peak(process.pid) or seen_peak
        if event:
            silent = 0.0
            hear(event)
        else:
            talks = talks and event is not None
            ended = _wait(process, about_to_end=not talks)
            if ended is not None:
                _kill(process)  # what it has left behind
                while talks and (event := _next(events, 5.0)):  # what it said last
                    hear(event)
                status, peak = ended
                # The system's number begins with our own size, which the process had before it became itself.
                return reported, reason, (status, peak if peak > _own_peak() else seen_peak or peak)
        # Also between events that come without a pause.
        if reason is None:
            reason = _reason_to_end(running, silent, stop, limits)
            if reason is not None:
                process.terminate()
        elif asked > grace:
            _kill(process)


def _next(events: queue.Queue[dict[str, Any] | None], seconds: float) -> dict[str, Any] | None:
    """The next event; empty if none came in time, None when there will be no more."""
    try:
        return events.get(timeout=seconds)
    except queue.Empty:
        return {}


def _reason_to_end(running: float, silent: float, stop: Callable[[], bool], limits: Limits) -> str | None:
    if stop():
        return "stop"
    if limits.timeout is not None and running > limits.timeout:
        return f"not done after {duration(limits.timeout)} (--timeout)"
    if limits.silence is not None and silent > limits.silence:
        return f"no sign of life for {duration(limits.silence)} (--silence)"
    return None


def _wait(process: subprocess.Popen[str], about_to_end: bool) -> tuple[int, int] | None:
    """(wait status, largest resident set in bytes) of a process that has ended, None while it runs.

    Args:
        about_to_end: its output is closed: look for a moment longer.
    """
    for _ in range(100 if about_to_end else 1):
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            process.returncode = os.waitstatus_to_exitcode(status)
            return status, usage.ru_maxrss * MAXRSS_BYTES
        if about_to_end:
            time.sleep(0.002)
    return None


def _own_peak() -> int:
    """Our own largest resident set, bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * MAXRSS_BYTES


def _resident_peak(pid: int) -> int:
    """The largest resident set of a running process so far, bytes; 0 where the system does not tell."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), 0)


def _kill(process: subprocess.Popen[str]) -> None:
    """End a process's group by force, and close its input: what it has started elsewhere ends at that."""
    with suppress(ProcessLookupError, PermissionError):  # nobody is left in it
        os.killpg(process.pid, signal.SIGKILL)
    if process.stdin is not None:
        process.stdin.close()


def duration(seconds: float) -> str:
    """Such as ``90 s``, ``30 min``, ``2 h``."""
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= 2 * length or seconds == length:
            return f"{seconds / length:g} {unit}"
    return f"{seconds:g} s"
