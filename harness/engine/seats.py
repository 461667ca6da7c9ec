"""Seats on this machine: which GPUs or processors a trial's process gets, told apart from other runners'.

A seat is held by a lock on a file of this machine, which the system gives back when the runner ends,
however it ends.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from threading import Event
from typing import IO

from model.errors import InputError


@dataclass(frozen=True)
class Seat:
    """Where one trial at a time runs."""

    device: str
    """``cpu`` or ``cuda``"""
    gpus: tuple[str, ...] = ()
    """What ``CUDA_VISIBLE_DEVICES`` is to name; empty: as it is"""
    cores: frozenset[int] | None = None
    """Processors it is pinned to; None: not pinned"""

    def environment(self, threads: int) -> dict[str, str]:
        """Variables of a process that sits here."""
        found = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
        return found | ({"CUDA_VISIBLE_DEVICES": ",".join(self.gpus)} if self.gpus else {})


class Seats:
    """The seats of one runner, held until it lets them go."""

    def __init__(self, device: str, workers: int | None, threads: int, processes: int = 1) -> None:
        """Take seats for ``workers`` trials at a time (None: what the machine carries).

        Args:
            device: ``auto``, ``cpu``, ``cuda`` or ``cuda:<number>``.
            threads: of one process on the CPU.
            processes: of one trial; each has a GPU, or ``threads`` processors, of its own.
        """
        self._held: list[IO[str]] = []
        chosen = device_of(device)
        if chosen == "cpu":
            self.all = self._cpu_seats(workers, threads * processes)
        else:
            self.all = self._gpu_seats(device, workers, processes)

    def close(self) -> None:
        """Let the seats go."""
        for lock in self._held:
            lock.close()

    def _cpu_seats(self, workers: int | None, size: int) -> list[Seat]:
        count = workers or max(1, cores() // size)
        seats = []
        if hasattr(os, "sched_getaffinity") and count * size <= cores():
            free = [core for core in sorted(os.sched_getaffinity(0)) if self._take(f"core-{core}")]
            parts = [free[start : start + size] for start in range(0, len(free), size)]
            seats = [Seat("cpu", cores=frozenset(part)) for part in parts if len(part) == size]
        # Processors that another runner holds, or too few for all: the system shares them out.
        return [*seats, *[Seat("cpu")] * count][:count]

    def _gpu_seats(self, device: str, workers: int | None, size: int) -> list[Seat]:
        found = [device.partition(":")[2]] if ":" in device else visible_gpus()
        if not found:
            return [Seat("cuda")] * (workers or 1)  # the trial will say what is missing
        if size > len(found):
            raise InputError(f"--processes: {size}: this machine has {len(found)} GPUs for a trial")
        free = [gpu for gpu in found if self._take(f"gpu-{gpu}")]
        most = max(1, len(free) // size) if workers is None else workers
        parts = [tuple(free[start : start + size]) for start in range(0, len(free), size)]
        seats = [Seat("cuda", part) for part in parts if len(part) == size]
        if not seats:  # all are taken by other runners; share them rather than wait for days
            seats = [Seat("cuda", tuple(found[:size]))]
        return [seats[number % len(seats)] for number in range(most)]

    def _take(self, name: str) -> bool:
        lock = _lock_file(name)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            return False
        self._held.append(lock)
        return True


@contextmanager
def on_this_machine(results: Path, alone: bool, stop: Event) -> Iterator[bool]:
    """Work beside other trials of these results on this machine, or with none beside.

    Timing wants to be alone: it waits for the trainings of all runners here, and they for it. Gives whether
    the place was had before ``stop`` was set.
    """
    name = f"results-{sha256(str(results.resolve()).encode()).hexdigest()[:16]}"
    with _lock_file(name) as lock:
        had = False
        while not had and not stop.is_set():
            try:
                fcntl.flock(lock, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
                had = True
            except OSError:
                time.sleep(0.2)
        yield had


def device_of(wanted: str) -> str:
    """``cpu`` or ``cuda``: what ``auto`` comes to, for planning; the trial asks torch itself."""
    if wanted != "auto":
        return wanted.partition(":")[0]
    # An NVIDIA driver shows itself here; asking torch would cost this process seconds.
    return "cuda" if Path("/proc/driver/nvidia/version").is_file() else "cpu"


def visible_gpus() -> list[str]:
    """The GPUs this process may use, as ``CUDA_VISIBLE_DEVICES`` would name them."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [part.strip() for part in named.split(",") if part.strip()]
    return [str(number) for number in range(len(list(Path("/proc/driver/nvidia/gpus").glob("*"))))]


def cores() -> int:
    """Processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _lock_file(name: str) -> IO[str]:
    """A file of this machine and user to lock; never removed, always empty."""
    user = os.getuid() if hasattr(os, "getuid") else 0
    folder = Path(tempfile.gettempdir()) / f"ifc-ablations-{user}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return (folder / name).open("a")


def timing_seat(seats: Sequence[Seat]) -> Seat:
    """Where cells are timed, one at a time: all processors, or the first GPU."""
    return Seat(seats[0].device, seats[0].gpus[:1])
