"""Trials as tasks of a Ray cluster: several machines without Slurm."""

from __future__ import annotations

import importlib
import itertools
import logging
import os
import signal
import socket
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness.engine.executors.local import TRIES
from harness.engine.plan import Options
from harness.engine.progress import TrialProgress
from harness.engine.ray.resources import Resources, read_resources
from harness.engine.ray.task import STOP_SECONDS, Task, perform
from harness.engine.runners import Observer, Runner
from harness.engine.seats import cores, device_of, visible_gpus
from harness.engine.states import FAILURES
from harness.engine.trial_files import Stage
from harness.engine.watch import Watcher
from harness.engine.work import ALONE, LOOK_SECONDS, Work
from harness.sweep import Trial
from model.errors import InputError

OURS = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is sent to the makers of Ray
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",  # of dead workers the display tells in a line, Ray in dozens
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # its other setting comes with a warning
    "RAY_task_oom_retries": "2",  # for ever, if it were left alone; once may be a neighbour's fault
}
"""Ray's own variables, where nobody has set them"""
REACH_SECONDS = 10.0
ACCELERATOR = "accelerator_type:"
"""Before a GPU's name: Ray's resource of nodes that have such GPUs"""


def make(options: Options) -> RayExecutor:
    """The executor of a Ray cluster; it is reached when there is something to run."""
    resources = read_resources(options.resources)
    _check_gpus(options, resources)
    for name, value in OURS.items():
        os.environ.setdefault(name, value)
    try:
        ray = importlib.import_module("ray")
    except ImportError:
        raise InputError("--executor: 'ray': not installed; do so with: pip install -e '.[ray]'") from None
    return RayExecutor(options, resources, ray)


def _check_gpus(options: Options, resources: Resources) -> None:
    asked, given = options.device, resources.num_gpus
    if ":" in asked:
        raise InputError(f"--device: {asked!r}: Ray chooses the GPU; allowed with ray: auto, cpu, cuda")
    if given is None:
        return
    if (asked == "cpu" and given) or (asked == "cuda" and not given):
        raise InputError(f"--resources: num_gpus: {given:g}: does not go with --device {asked}")
    if given and options.processes > 1 and given != options.processes:
        raise InputError(f"--resources: num_gpus: {given:g}: --processes {options.processes} need one each")


@dataclass
class RayExecutor:
    """Runs every trial as a task, wherever the cluster has room for it."""

    options: Options
    resources: Resources
    ray: Any

    def run(self, work: Work, progress: TrialProgress) -> None:
        """Run to the end. Ctrl-C asks the trials to save a checkpoint; a second one ends them at once."""
        ours = not self.ray.is_initialized()
        alone = self._connect(progress) if ours else False
        try:
            device = self._device()
            work = replace(work, threads=self._threads(work))
            with Runner(work.ledger.plan.options.results) as driver:
                for timed, group in itertools.groupby(work.ledger.plan.stages, key=lambda s: s in ALONE):
                    stages = tuple(group)
                    request = self._request(work, device, timed)
                    self._check_room(request, alone, progress)
                    retries = self.resources.max_retries
                    submit = Submit(self.ray, work, stages, device, driver.id.runner, request, retries)
                    if not Round(self.options, submit, progress).run():
                        return
        finally:
            if ours:
                self.ray.shutdown()

    def _connect(self, progress: TrialProgress) -> bool:
        """Find the cluster, or make one of this machine; whether it was made."""
        named = self.resources.address or os.environ.get("RAY_ADDRESS") or None
        if named != "local":
            try:
                self._init(named or "auto")
                return False
            except (OSError, RuntimeError, ValueError) as error:  # ConnectionError is an OSError
                if named is not None:
                    reason = _first_line(error).partition(". ")[0]
                    raise InputError(
                        f"--resources: address: {named!r}: no Ray cluster can be reached there ({reason}); "
                        "start one with: ray start --head, or leave the address out"
                    ) from None
        progress.say("ray: no cluster is named or running; starting one on this machine for this run")
        self._init(
            "local",
            num_cpus=cores(),
            num_gpus=len(visible_gpus()),
            object_store_memory=100 * 2**20,  # Ray's least is 75 MiB; nothing large is sent
            include_dashboard=False,
        )
        return True

    def _init(self, address: str, **more: Any) -> None:
        host, _, port = address.rpartition(":")
        if host:  # ours is the shorter patience
            socket.create_connection((host, int(port)), REACH_SECONDS).close()
        with _signals_kept():
            self.ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL, **more)

    def _device(self) -> str:
        """What ``auto`` comes to: a GPU if the cluster has one. The driver's own machine says little."""
        if self.options.device != "auto":
            return device_of(self.options.device)
        if self.resources.num_gpus is not None:
            return "cuda" if self.resources.num_gpus else "cpu"
        return "cuda" if self.ray.cluster_resources().get("GPU") else "cpu"

    def _threads(self, work: Work) -> int:
        """Threads of a training process: the recipe's; where it says none, what is asked for."""
        if work.ledger.plan.trials[0].config.train.threads is None and self.resources.num_cpus is not None:
            return max(1, int(self.resources.num_cpus) // work.processes)
        return work.threads

    def _request(self, work: Work, device: str, timed: bool) -> dict[str, float]:
        """Amounts of Ray's resources that a task asks for, under Ray's names."""
        given, processes = self.resources, 1 if timed else work.processes
        request: dict[str, float] = {"CPU": given.num_cpus or work.threads * processes}
        if device == "cuda":
            request["GPU"] = 1.0 if timed or given.num_gpus is None else given.num_gpus
            if not timed and given.num_gpus is None:
                request["GPU"] = processes
        if given.memory_gb is not None:
            request["memory"] = int(given.memory_gb * 1e9)
        if given.accelerator_type is not None:
            request[f"{ACCELERATOR}{given.accelerator_type}"] = 0.001  # of which a node has 1
        if timed:  # all processors of a node: no other task beside it
            whole = [node["CPU"] for node in self._nodes(request)]
            request["CPU"] = min(whole, default=request["CPU"])
        return request

    def _nodes(self, request: dict[str, float]) -> list[dict[str, float]]:
        """Resources of the nodes that could carry a request."""
        nodes = [node["Resources"] for node in self.ray.nodes() if node["Alive"]]
        return [
            node for node in nodes if all(node.get(name, 0) >= amount for name, amount in request.items())
        ]

    def _check_room(self, request: dict[str, float], alone: bool, progress: TrialProgress) -> None:
        if self._nodes(request):
            return
        text = ", ".join(f"{name} {amount:g}" for name, amount in request.items())
        if alone:
            raise InputError(f"--resources: a trial asks for {text}: this machine has less")
        progress.say(f"ray: a trial asks for {text}; no node has that now, waiting for one")


@dataclass
class Submit:
    """How a trial becomes a task."""

    ray: Any
    work: Work
    stages: tuple[Stage, ...]
    device: str
    driver: str
    request: dict[str, float]
    max_retries: int

    def __call__(self, trial: Trial) -> Any:
        """The reference of a new task's answer."""
        resources = dict(self.request)
        options = {
            "num_cpus": resources.pop("CPU"),
            "num_gpus": resources.pop("GPU", 0),
            "memory": resources.pop("memory", None),
            "resources": resources or None,
            "max_retries": self.max_retries,
            "name": f"{trial.label()} {trial.key}",
        }
        task = Task(self.work.part(trial), trial, self.stages, self.device, self.driver, Path.cwd())
        return self.ray.remote(perform).options(**options).remote(task)


class Round:
    """Some stages of all trials, until nothing of them is left here or with other runners."""

    def __init__(self, options: Options, submit: Submit, progress: TrialProgress) -> None:
        self.options, self.submit, self.ray, self.progress = options, submit, submit.ray, progress
        self.ledger, self.stages = submit.work.ledger, submit.stages
        self.observer = Observer(options.results)
        self.watcher = Watcher(self.ledger, self.observer, progress)
        self._tasks: dict[Any, Trial] = {}
        self._failed_before: dict[str, set[str]] = {}
        self._tries: Counter[str] = Counter()
        self._looked = 0.0

    def run(self) -> bool:
        """False if a failure has ended the run (``--fail-fast``)."""
        try:
            while True:
                self._submit_what_is_free()
                if not self._tasks and not self._is_work_elsewhere():
                    return True
                if not self._wait():
                    self._end_all()
                    return False
        except KeyboardInterrupt:
            self.progress.say("stopping: trials save a checkpoint; once more to end them at once")
            self._end_all()
            raise
        except BaseException:
            self._end_all()
            raise

    def _submit_what_is_free(self) -> None:
        """A task for every trial that is left, unless another runner is at it. Ray keeps the queue."""
        at_work = {trial.key for trial in self._tasks.values()}
        for trial in self.ledger.plan.chosen:
            if self.options.workers is not None and len(self._tasks) >= self.options.workers:
                return
            if trial.key in at_work or self._tries[trial.key] >= TRIES or not self._is_left(trial):
                continue
            if not self.ledger.is_taken(trial, self.observer):
                self._failed_before[trial.key] = self._failed(trial)
                self._tasks[self.submit(trial)] = trial

    def _is_left(self, trial: Trial) -> bool:
        return any(self.ledger.left(trial, stage, self.observer) for stage in self.stages)

    def _failed(self, trial: Trial) -> set[str]:
        states = self.ledger.states(trial, self.observer)
        return {cell for cell, state in states.items() if state in FAILURES}

    def _is_work_elsewhere(self) -> bool:
        unfinished = [trial for trial in self.ledger.plan.chosen if self.ledger.unfinished(trial)]
        return any(self.ledger.is_taken(trial, self.observer) for trial in unfinished)

    def _wait(self) -> bool:
        """Until a task ends, a moment at most; False if its failure is to end the run."""
        goes_on = True
        for reference in self._ready(LOOK_SECONDS):
            trial = self._tasks.pop(reference)
            self.hear(reference, trial)
            failed = self._failed(trial) - self._failed_before[trial.key]
            goes_on = goes_on and not (self.options.fail_fast and failed)
        return goes_on

    def _ready(self, seconds: float) -> list[Any]:
        """Tasks that have ended; the display is kept fresh meanwhile."""
        ready: list[Any] = []
        if self._tasks:
            ready, _ = self.ray.wait([*self._tasks], timeout=seconds)
        else:
            time.sleep(seconds)
        if ready or time.monotonic() - self._looked > LOOK_SECONDS / 2:
            self.watcher.look()
            self._looked = time.monotonic()
        return ready

    def hear(self, reference: Any, trial: Trial) -> None:
        """Take a task's answer, or note what became of it."""
        errors = self.ray.exceptions
        try:
            verdict, text = self.ray.get(reference)
        except errors.RayTaskError as error:
            raise _in_one_line(error) from None
        except errors.OutOfMemoryError as error:
            self._give_up(trial, error)
            self._close_as_oom(trial, _first_line(error))
            return
        except errors.RayError as error:  # workers or nodes died under it, again and again
            self._give_up(trial, error)
            return
        if verdict == "refused":
            raise InputError(text)
        self._tries[trial.key] += verdict in ("interrupted", "trouble")
        if verdict == "trouble":
            self.progress.say(f"{trial.label()}: {text}")

    def _give_up(self, trial: Trial, error: Exception) -> None:
        self._tries[trial.key] = TRIES
        self.progress.say(f"{trial.label()}: given up for this run: {_first_line(error)[:300]}")

    def _close_as_oom(self, trial: Trial, said: str) -> None:
        """Ray has ended the task again and again for want of memory on its node: a result."""
        attempt = self.ledger.unclosed(trial)
        if attempt is not None:
            self.ledger.close_for_memory(trial, attempt, f"ended by Ray: {said}"[:500], self.observer)

    def _end_all(self) -> None:
        """Ask every task to end and wait for it, not for ever."""
        try:
            self._cancel(force=False)
            patience = time.monotonic() + STOP_SECONDS
            while self._tasks and time.monotonic() < patience:
                for reference in self._ready(1.0):
                    self._tasks.pop(reference)
        finally:
            self._cancel(force=True)

    def _cancel(self, force: bool) -> None:
        for reference in self._tasks:
            with suppress(self.ray.exceptions.RayError, ValueError):
                self.ray.cancel(reference, force=force)


def _in_one_line(error: Any) -> Exception:
    """What a task raised: a node without our code is mended by a person, anything else is a bug."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, ImportError) or "failed to import" in str(cause):
        return InputError(
            f"--executor ray: a node cannot import the harness ({_first_line(cause)}); "
            "all nodes need its packages and this folder at the same path"
        )
    return error  # type: ignore[no-any-return]


def _first_line(error: Any) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Ray puts its own handler of SIGTERM in place of the caller's."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        with suppress(ValueError):  # not the main thread: nothing was replaced
            signal.signal(signal.SIGTERM, before)
