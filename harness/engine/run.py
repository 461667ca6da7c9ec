"""A run of one sweep: what is left of a plan is done by an executor, and the rows are kept true.

Nothing in the engine knows what a model is: a trial is a job file for a process, and a folder of results.
"""

from __future__ import annotations

import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from rich.console import Console

from harness.engine.executors import make_executor
from harness.engine.ledger import Ledger
from harness.engine.manifest import write_manifest
from harness.engine.plan import Options, Plan
from harness.engine.processes import Limits
from harness.engine.progress import WorkLeft, show
from harness.engine.runners import Observer
from harness.engine.seats import cores, device_of, visible_gpus
from harness.engine.states import FAILURES
from harness.engine.work import Work
from harness.loggers import check_names
from harness.store import set_aside
from model.errors import InputError

OLD_SECONDS = 3600.0


def run(plan: Plan, console: Console) -> bool:
    """Do what is left of the plan; True when every chosen cell has its number.

    Raises :class:`InputError` when a trial refuses its input, after asking the other trials to end.
    """
    options = plan.options
    observer = Observer(options.results)
    ledger = Ledger.open(plan, observer, options.retried())
    executor = make_executor(options)
    if is_anything_left(ledger, observer):
        _make_writable(options)
        remove_old_drafts(options.results, plan.rows)
        for odd in set_aside(plan.rows, {cell.key for trial in plan.trials for cell in trial.cells}):
            console.print(str(odd), markup=False)
        write_manifest(plan)
        for trial in plan.chosen:
            ledger.update(trial, observer)
        data = plan.roots(_generating(console))
        limits = Limits(options.timeout, options.silence)
        threads, loggers = stage_threads(plan), check_names(options.log) if options.log else ()
        work = Work(ledger, data, threads, options.processes, limits, options.executor, loggers)
        with _terminated_like_interrupted(), show(console, _work_left(ledger)) as progress:
            progress.cells(*ledger.count())
            try:
                executor.run(work, progress)
            finally:
                for trial in plan.chosen:
                    ledger.update(trial, observer)
                progress.cells(*ledger.count())
    return ledger.complete()


def is_complete(plan: Plan, console: Console) -> bool:
    """Whether every chosen cell of a plan has its number, by its rows alone; nothing is moved or written."""
    ledger = Ledger.open(plan, Observer(plan.options.results))
    for odd in ledger.odd:
        console.print(str(odd), markup=False)
    planned = {cell.key for trial in plan.trials for cell in trial.cells}
    others = sum(path.stem not in planned for path in plan.rows.glob("*.parquet"))
    of_others = f"{others} rows of other code, data or settings lie in {plan.rows}"
    if others and not ledger.status:
        raise InputError(
            f"--report-only: {of_others}, and none of what {plan.options.sweep} means with this code: check "
            "out the commit that the rows name, or run the sweep; the report that is there stays as it is"
        )
    if others:
        console.print(f"{of_others}: left out", markup=False)
    return ledger.complete()


def is_anything_left(ledger: Ledger, observer: Observer) -> bool:
    """Whether a chosen cell is to be done, is being done elsewhere, or lacks only its row."""
    for trial in ledger.plan.chosen:
        if any(ledger.status.get(key) not in FAILURES for key in ledger.unfinished(trial)):
            return True
        if any(state not in ("done", *FAILURES) for state in ledger.states(trial, observer).values()):
            return True
    return False


def stage_threads(plan: Plan) -> int:
    """Threads of one training process: the recipe's, all processors where it says none."""
    wanted = plan.trials[0].config.train.threads
    return wanted if wanted is not None else cores()


def default_workers(plan: Plan) -> int:
    """Trials at a time on this machine."""
    if plan.options.workers is not None:
        return plan.options.workers
    if device_of(plan.options.device) != "cpu":
        return max(1, len(visible_gpus()) // plan.options.processes)
    return max(1, cores() // (stage_threads(plan) * plan.options.processes))


def _work_left(ledger: Ledger) -> WorkLeft:
    plan = ledger.plan
    trials = [trial for trial in plan.chosen if ledger.unfinished(trial)]
    untrained = [trial for trial in trials if not plan.is_trained(trial)] if plan.trains else []
    steps = sum(trial.config.train.steps for trial in untrained)
    cells = sum(len(plan.without(trial, stage)) for trial in trials for stage in plan.stages)
    return WorkLeft(steps, cells, default_workers(plan))


def _make_writable(options: Options) -> None:
    try:
        options.results.mkdir(parents=True, exist_ok=True)
        (options.results / "trials").mkdir(exist_ok=True)
    except OSError as error:
        raise InputError(f"--results {options.results}: cannot be written to ({error.strerror})") from None


def remove_old_drafts(results: Path, rows: Path) -> None:
    """Remove what killed runs had begun to write; those of the last hour may still be written by others.

    Drafts of trials go as soon as somebody holds the trial.
    """
    for draft in (*(results / "datasets").glob(".synthetic-*"), *rows.glob(".*")):
        with suppress(FileNotFoundError):  # its writer, or another runner, was quicker
            if time.time() - draft.stat().st_mtime < OLD_SECONDS:
                continue
            shutil.rmtree(draft) if draft.is_dir() else draft.unlink()


def _generating(console: Console) -> Callable[[int, int], None]:
    """Progress of the generator: a line at the start and one at the end."""

    def say(done: int, total: int) -> None:
        if done in (1, total):
            console.print(f"embedded data: video {done} of {total}", highlight=False)

    return say


@contextmanager
def _terminated_like_interrupted() -> Iterator[None]:
    """SIGTERM, and a terminal that goes away, let trials save their checkpoints as Ctrl-C does."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    for number, handler in before.items():
        if handler != signal.SIG_IGN:  # nohup
            signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
