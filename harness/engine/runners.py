"""Who works in a results folder: every runner keeps a beat, and others judge whether it still beats.

A runner is a process that runs trials: ``run_sweep.py`` itself, a Slurm job or a Ray task. Of a runner on
this machine its process is looked up. Of one elsewhere, or in another container, only the beat is known: a
file whose number it rewrites every few seconds. Clocks of different machines are never compared: a beat
that *this* observer has seen unchanged for long enough is dead.
"""

from __future__ import annotations

import functools
import json
import os
import platform
import re
import socket
import threading
import time
import uuid
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import Any

from harness.record_file import read_record

BEAT_SECONDS = 4.0
SILENCE_SECONDS = 60.0
"""A runner elsewhere whose beat stands still this long is dead; its trials are taken over."""
FOLDER = "runners"


@dataclass(frozen=True)
class RunnerId:
    """One process that runs trials, told from all others, also from a later one with its number."""

    runner: str
    """Unique name; also the name of its beat"""
    host: str
    place: str
    """Machine, boot and process namespace: in the same place, process numbers mean the same"""
    pid: int
    process_started: int
    """Clock ticks after boot; 0 where the system does not tell"""

    @classmethod
    def of_this_process(cls) -> RunnerId:
        """A new identity for the calling process."""
        host, pid = socket.gethostname(), os.getpid()
        name = f"{re.sub(r'[^A-Za-z0-9.-]', '-', host)}-{pid}-{uuid.uuid4().hex[:8]}"
        return cls(name, host, this_place(), pid, _process(pid)[1])

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> RunnerId:
        """From the fields of a json record; others are left alone. Raises KeyError."""
        return cls(**{field.name: record[field.name] for field in fields(cls)})


class Runner:
    """This process as a runner in a results folder: beats while the block runs."""

    def __init__(self, results: Path, beat_seconds: float = BEAT_SECONDS) -> None:
        self.id = RunnerId.of_this_process()
        self._folder = results / FOLDER
        self._file = self._folder / f"{self.id.runner}.json"
        self._beat_seconds = beat_seconds
        self._ended = threading.Event()
        self._beats = 0
        self._thread = threading.Thread(target=self._keep_beating, name="beat", daemon=True)

    def __enter__(self) -> Runner:
        self._folder.mkdir(parents=True, exist_ok=True)
        _bury_the_dead(self._folder)
        self._beat()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        self._file.unlink(missing_ok=True)
        _bury_the_dead(self._folder)

    def _keep_beating(self) -> None:
        while not self._ended.wait(self._beat_seconds):
            try:
                self._beat()
            except OSError:
                continue  # a full disk or a network away; whoever takes over is noticed by its attempt

    def _beat(self) -> None:
        self._beats += 1
        # In place: whoever reads half of it takes that for a change, which it is; and a kill leaves no draft.
        self._file.write_text(json.dumps({**asdict(self.id), "beat": self._beats}), encoding="utf-8")


class Observer:
    """Judges who is alive; keeps what it has seen of beats between calls."""

    def __init__(self, results: Path, silence_seconds: float = SILENCE_SECONDS) -> None:
        self._folder = results / FOLDER
        self._silence_seconds = silence_seconds
        self._seen: dict[str, tuple[int | None, float]] = {}
        """Runner -> its last beat, and when it was first seen on this machine's own clock"""

    def is_alive(self, runner: RunnerId) -> bool:
        """Whether a runner still works, as far as can be told from here."""
        if runner.place == this_place():
            running, started = _process(runner.pid)
            return running and started == runner.process_started
        beat = self._last_beat(runner.runner)
        now = time.monotonic()
        if runner.runner not in self._seen or self._seen[runner.runner][0] != beat:
            self._seen[runner.runner] = (beat, now)
        return now - self._seen[runner.runner][1] < self._silence_seconds

    def _last_beat(self, runner: str) -> int | None:
        beat = read_record(self._folder / f"{runner}.json").get("beat")
        return beat if isinstance(beat, int) else None


@functools.cache
def this_place() -> str:
    """Where process numbers mean what they mean here: host, boot and process namespace."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{socket.gethostname()} {boot} {Path('/proc/self/ns/pid').readlink().name}"
    except OSError:  # no Linux
        return f"{socket.gethostname()} {platform.system()}"


def _process(pid: int) -> tuple[bool, int]:
    """(running, start time in ticks after boot) of a process here; a zombie does not run."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        if Path("/proc/self/stat").exists():
            return False, 0
        return _answers(pid), 0
    after_name = stat.rpartition(")")[2].split()
    return after_name[0] not in "ZX", int(after_name[19])


def _answers(pid: int) -> bool:
    """Without ``/proc``: whether there is a process of this number."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _bury_the_dead(folder: Path) -> None:
    """Remove the beats that killed runners of this place left; nothing is judged by them."""
    for file in folder.glob("*.json"):
        try:
            runner = RunnerId.from_record(read_record(file))
        except KeyError:
            continue  # of another version, half written, or gone in the meantime
        if runner.place == this_place() and _process(runner.pid) != (True, runner.process_started):
            file.unlink(missing_ok=True)
