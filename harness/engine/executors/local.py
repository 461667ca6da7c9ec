"""Trials on this machine: a thread for each seat, a process for each trial."""

from __future__ import annotations

import queue
import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from harness.engine.plan import Options
from harness.engine.progress import TrialProgress
from harness.engine.runners import Observer, Runner
from harness.engine.seats import Seat, Seats, timing_seat
from harness.engine.states import FAILURES
from harness.engine.trial_files import Stage
from harness.engine.work import ALONE, LOOK_SECONDS, Station, Work, attempt_stage
from harness.sweep import Trial

TRIES = 3
"""Of one trial in one run, where something outside keeps ending it"""
Event = tuple[str, dict[str, Any]]


def make(options: Options) -> LocalExecutor:
    """The executor of this machine."""
    return LocalExecutor(options)


@dataclass
class LocalExecutor:
    """Runs trials here, as many at a time as there are seats."""

    options: Options

    def run(self, work: Work, progress: TrialProgress) -> None:
        """Run to the end. Ctrl-C asks the trials to save a checkpoint; a second one ends them at once."""
        results = work.ledger.plan.options.results
        seats = Seats(self.options.device, self.options.workers, work.threads, work.processes)
        try:
            with Runner(results) as runner:
                events: queue.Queue[Event] = queue.Queue()

                def tell(label: str, event: dict[str, Any]) -> None:
                    events.put((label, event))

                station = Station(runner, Observer(results), threading.Event(), tell)
                for stage in work.ledger.plan.stages:
                    at = [timing_seat(seats.all)] if stage in ALONE else seats.all
                    _Stage(work, stage, station, self.options.fail_fast).run(at, events, progress)
                    if station.stop.is_set():
                        return
        finally:
            seats.close()


@dataclass
class _Stage:
    """One stage of all trials, shared out among seats and other runners."""

    work: Work
    stage: Stage
    station: Station
    fail_fast: bool
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _at_work: set[str] = field(default_factory=set)
    _interrupted: Counter[str] = field(default_factory=Counter)
    _errors: list[BaseException] = field(default_factory=list)

    def run(self, seats: list[Seat], events: queue.Queue[Event], progress: TrialProgress) -> None:
        """Until nothing of the stage is left, here or with other runners."""
        threads = [threading.Thread(target=self._sit, args=(seat,), daemon=True) for seat in seats]
        for thread in threads:
            thread.start()
        try:
            self._show(threads, events, progress)
        except KeyboardInterrupt:
            self.station.stop.set()
            progress.say("stopping: trials save a checkpoint; once more to end them at once")
            self._show(threads, events, progress)
            raise
        if self._errors:
            raise self._errors[0]

    def _show(
        self, threads: list[threading.Thread], events: queue.Queue[Event], progress: TrialProgress
    ) -> None:
        """Pass events on until all seats are empty."""
        while any(thread.is_alive() for thread in threads) or not events.empty():
            try:
                label, event = events.get(timeout=0.1)
            except queue.Empty:
                continue
            progress.event(label, event)
            if event["event"] in ("start", "cell", "end"):
                progress.cells(*self.work.ledger.count())

    def _sit(self, seat: Seat) -> None:
        """Take one trial after another."""
        try:
            while not self.station.stop.is_set():
                trial = self._next()
                if trial is None:
                    if not self._wait_for_others():
                        return
                    continue
                state = attempt_stage(self.work, trial, self.stage, seat, self.station)
                with self._lock:
                    self._at_work.discard(trial.key)
                    self._interrupted[trial.key] += state == "interrupted"
                if self.fail_fast and state in FAILURES:
                    self.station.stop.set()
        except BaseException as error:  # raised again by the main thread
            self._errors.append(error)
            self.station.stop.set()

    def _next(self) -> Trial | None:
        """A trial that is left and free; those that were interrupted often come last."""
        ledger, observer = self.work.ledger, self.station.observer
        with self._lock:
            for trial in sorted(ledger.plan.chosen, key=lambda trial: self._interrupted[trial.key]):
                if trial.key in self._at_work or self._interrupted[trial.key] >= TRIES:
                    continue
                if ledger.left(trial, self.stage, observer) and not ledger.is_taken(trial, observer):
                    self._at_work.add(trial.key)
                    return trial
        return None

    def _wait_for_others(self) -> bool:
        """Wait a moment if another runner is at a trial whose cells are not done; False if there is none."""
        ledger, observer = self.work.ledger, self.station.observer
        unfinished = [t for t in ledger.plan.chosen if ledger.unfinished(t) and t.key not in self._at_work]
        elsewhere = [trial for trial in unfinished if ledger.is_taken(trial, observer)]
        for trial in unfinished:
            ledger.update(trial, observer)
        if elsewhere:
            self.station.stop.wait(LOOK_SECONDS)
        return bool(elsewhere)
