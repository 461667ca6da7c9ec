"""Live progress: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

LINE_EVERY_S = 20.0
WIDE = 120
"""Columns from which a terminal has room for long notes"""


class TrialProgress(Protocol):
    """What the engine tells whoever shows progress."""

    def __enter__(self) -> TrialProgress: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    def say(self, text: str) -> None: ...
    def event(self, label: str, event: dict[str, Any]) -> None: ...
    def cells(self, done: int, total: int) -> None: ...


class WorkLeft:
    """Time left, from the training steps and cells that this run has seen done."""

    def __init__(self, steps: int, cells: int, workers: int) -> None:
        self.steps_left = steps
        self.cells = self.cells_left = cells
        self.workers = workers
        self._step_seconds: list[float] = []
        self._cell_seconds: list[float] = []
        self._at: dict[str, float] = {}
        """When each job last told of a step, or of the start or end of a cell"""
        self._done: dict[str, int] = {}

    def event(self, label: str, event: dict[str, Any]) -> None:
        """Note one event of a job. The first step a job tells of has no start: it counts, untimed."""
        now = time.monotonic()
        kind = event["event"]
        if kind == "step":
            fresh = event["done"] - self._done.get(label, event["done"] - 1)
            if label in self._done and fresh > 0:
                self._step_seconds.append((now - self._at[label]) / fresh)
                del self._step_seconds[:-200]
            self._done[label] = event["done"]
            self.steps_left -= fresh
        elif kind == "cell":
            self._cell_seconds.append(now - self._at.get(label, now))
            self.cells_left -= 1
        if kind in ("step", "cell", "stage"):
            self._at[label] = now

    def text(self) -> str:
        """Such as ``about 3 min left``; nothing while there is no ground for a guess."""
        known = [(self.steps_left, self._step_seconds), (self.cells_left, self._cell_seconds)]
        if self.steps_left > 0 and not self._step_seconds:
            return ""
        if self.steps_left <= 0 and not self._cell_seconds:
            return ""
        total = sum(left * sum(seconds) / len(seconds) for left, seconds in known if left > 0 and seconds)
        total /= self.workers
        return f"about {total / 60:.0f} min left" if total >= 90 else f"about {total:.0f} s left"


class Numbers:
    """The last and the best number of what is measured now, with whose it is."""

    def __init__(self) -> None:
        self._column = ""
        self._last: tuple[float, str] | None = None
        self._best: tuple[float, str] | None = None

    def event(self, label: str, event: dict[str, Any]) -> None:
        """Note the number of a cell that is done."""
        number = event.get("number")
        if event["event"] != "cell" or number is None:
            return
        if event["column"] != self._column:
            self._column, self._best = event["column"], None
        self._last = (number, label)
        self._best = max(self._best or self._last, self._last)

    def text(self, narrow: bool = False) -> str:
        """Such as ``AP last 31.0 (ifc seed 1), best 42.0 (ifc seed 0)``; nothing before the first."""
        if self._last is None or self._best is None:
            return ""
        (last, whose), (best, theirs) = self._last, self._best
        if narrow:
            return f"{self._column} {last:.1f}, best {best:.1f}"
        name = {"fps": "FPS", "flops_g": "GMACs", "model_fps": "FPS of the model"}.get(
            self._column, self._column
        )
        return f"{name} last {last:.1f} ({whose}), best {best:.1f} ({theirs})"


class Lines:
    """Plain text: what starts and ends, and a line now and then between."""

    def __init__(self, console: Console, left: WorkLeft) -> None:
        self.console = console
        self.left = left
        self.numbers = Numbers()
        self._last_line = 0.0
        self._cells = ""

    def __enter__(self) -> Lines:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def say(self, text: str) -> None:
        """Print a line now."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def cells(self, done: int, total: int) -> None:
        """How many rows of the table are there."""
        self._cells = f"{done}/{total} cells"

    def event(self, label: str, event: dict[str, Any]) -> None:
        """One event of one job."""
        self.left.event(label, event)
        self.numbers.event(label, event)
        due = time.monotonic() - self._last_line > LINE_EVERY_S
        if event["event"] == "stage":
            self.say(f"{label}: {event['name']}")
        elif event["event"] in ("step", "video") and due:
            self._last_line = time.monotonic()
            parts = (f"{label}: {_where(event)}", self._cells, self.numbers.text(), self.left.text())
            self.say("; ".join(part for part in parts if part))
        elif event["event"] == "end":
            say_end(self, label, event)


class Bars:
    """One bar for the sweep, one for each running job."""

    def __init__(self, console: Console, left: WorkLeft) -> None:
        self.left = left
        self.numbers = Numbers()
        self.narrow = console.width < WIDE
        self.progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=8 if self.narrow else 24),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            TextColumn("{task.fields[note]}", markup=False),
            TimeElapsedColumn(),
            console=console,
        )
        self._all = self.progress.add_task("all", total=left.cells_left, note="")
        self._rows = ""
        self._jobs: dict[str, TaskID] = {}

    def __enter__(self) -> Bars:
        self.progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.progress.stop()

    def say(self, text: str) -> None:
        """Print a line above the bars."""
        self.progress.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def cells(self, done: int, total: int) -> None:
        """How many rows of the table are there."""
        self._rows = f"{done}/{total} cells"
        self._refresh()

    def event(self, label: str, event: dict[str, Any]) -> None:
        """One event of one job."""
        self.left.event(label, event)
        self.numbers.event(label, event)
        kind = event["event"]
        if kind == "start":
            self._jobs[label] = self.progress.add_task(label, total=1, note="starting")
            return
        job = self._jobs[label]
        if kind == "stage":
            self.progress.update(job, note=event["name"])
        elif kind == "step":
            note = f"train, loss {event['loss']:.3f}"
            self.progress.update(job, completed=event["done"], total=event["steps"], note=note)
        elif kind == "video":
            self.progress.update(job, completed=event["done"], total=event["of"])
        elif kind == "end":
            say_end(self, label, event)
            self.progress.remove_task(job)
        self._refresh()

    def _refresh(self) -> None:
        parts = (self._rows, self.numbers.text(self.narrow), self.left.text())
        note = "; ".join(part for part in parts if part)
        self.progress.update(self._all, completed=self.left.cells - self.left.cells_left, note=note)


def _where(event: dict[str, Any]) -> str:
    """How far a training or an evaluation is."""
    if event["event"] == "video":
        return f"video {event['done']}/{event['of']}"
    return f"step {event['done']}/{event['steps']} loss {event['loss']:.3f}"


def say_end(progress: TrialProgress, label: str, event: dict[str, Any]) -> None:
    """A line for a process that did not end well; those that did show in the table."""
    if event["state"] != "done":
        progress.say(f"{label}: {event['state'].upper()}" + (f": {event['error']}" if event["error"] else ""))


def show(console: Console, left: WorkLeft) -> TrialProgress:
    """Bars on a terminal, lines in a file or a CI log."""
    return Bars(console, left) if console.is_terminal else Lines(console, left)
