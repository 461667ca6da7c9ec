"""Optional loggers of a trial: TensorBoard, Weights & Biases, MLflow. No number depends on them.

Each works in a thread of its own, so that a slow server delays no step. One that fails is switched off for
the rest of the trial: standard error (the trial's log) says so once, and so does ``trial.json``.

Steps count from 1. A training that went on from a checkpoint shows every step once: TensorBoard hides what
follows the checkpoint in older files, the others keep what they have.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

from model.errors import InputError

LoggerName = Literal["tensorboard", "wandb", "mlflow"]
PIP_NAMES: dict[LoggerName, str] = {
    "tensorboard": "tensorboard",
    "wandb": "wandb",
    "mlflow": "mlflow-skinny",
}
"""The package that brings the module of the same name"""
PROJECT_NAME = "ifc-ablations"
"""Project (W&B) and experiment (MLflow) of the runs, unless the services' own variables say otherwise"""
CLOSE_SECONDS = 30.0
"""Longest wait for all loggers at the end of a trial"""


class Logger(Protocol):
    """Takes the numbers of one trial."""

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Numbers of one training step."""

    def result(self, step: int, values: Mapping[str, float]) -> None:
        """Numbers of the trained model, such as its AP."""

    def close(self) -> None:
        """Bring everything to disk, or to the server."""


def check_names(text: str) -> tuple[LoggerName, ...]:
    """The loggers of ``--log tensorboard,wandb``; raises :class:`InputError` for others."""
    names: list[LoggerName] = []
    for word in text.split(","):
        known: list[LoggerName] = [name for name in get_args(LoggerName) if name == word.strip()]
        if not known:
            raise InputError(f"--log: {word.strip()!r}: allowed: {', '.join(get_args(LoggerName))}")
        names += [name for name in known if name not in names]
    return tuple(names)


def check_installed(names: Sequence[LoggerName]) -> None:
    """Raise :class:`InputError` for a logger whose package is not there. Imports none of them."""
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise InputError(
                f"--log: {name!r}: not installed; `pip install {PIP_NAMES[name]}`, or leave it out of --log"
            )


def training_scalars(event: Mapping[str, Any]) -> dict[str, float]:
    """What a ``step`` event says, by the names that loggers show.

    Read: ``loss``; ``losses``, a dictionary of its parts; ``learning_rate``; ``seconds`` of the step.
    """
    parts = {f"train/{name}": value for name, value in event.get("losses", {}).items()}
    names = {
        "loss": "train/loss",
        "learning_rate": "train/learning_rate",
        "seconds": "train/seconds_per_step",
    }
    whole = {shown: event[name] for name, shown in names.items() if event.get(name) is not None}
    return {name: float(value) for name, value in {**whole, **parts}.items()}


class TensorBoard:
    """Event files in ``folder``, for ``tensorboard --logdir results/trials``."""

    def __init__(self, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._make: Callable[[int | None], SummaryWriter] = lambda purge: SummaryWriter(
            str(folder), purge_step=purge
        )
        self._writer: SummaryWriter | None = None

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """One point a curve."""
        # What an earlier try logged from here on was after its last checkpoint, and comes again.
        self._add(step, values, purge=step)

    def result(self, step: int, values: Mapping[str, float]) -> None:
        """One point at the last step."""
        self._add(step, values, purge=None)

    def _add(self, step: int, values: Mapping[str, float], purge: int | None) -> None:
        if self._writer is None:
            self._writer = self._make(purge)
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Flush."""
        if self._writer is not None:
            self._writer.close()


class WandB:
    """A run of Weights & Biases whose id is the trial's key: a resumed training is the same run."""

    def __init__(self, folder: Path, trial: str, run_name: str, config: Mapping[str, Any]) -> None:
        wandb = importlib.import_module("wandb")
        folder.mkdir(parents=True, exist_ok=True)
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT_NAME),
            id=trial,
            name=run_name,
            config=dict(config),
            dir=str(folder),
            resume="allow",
            # The trial's log and events are the engine's; nothing here may answer a question on a terminal.
            settings=wandb.Settings(console="off", silent=True, disable_code=True, disable_git=True),
        )

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """One row of the run's history; W&B drops steps that it has."""
        self._run.log(dict(values), step=step)

    def result(self, step: int, values: Mapping[str, float]) -> None:
        """Final numbers are the run's summary: its history may be past this step."""
        self._run.summary.update(dict(values))

    def close(self) -> None:
        """Finish the run."""
        self._run.finish()


class MLflow:
    """A run of MLflow with the tag ``trial``: on ``MLFLOW_TRACKING_URI``, or files of the trial's folder."""

    def __init__(self, folder: Path, trial: str, run_name: str, config: Mapping[str, Any]) -> None:
        place = os.environ.get("MLFLOW_TRACKING_URI")
        if place is None:
            place = folder.resolve().as_uri()
            # Its default, a database, does not bear several machines on one network file system.
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        entities = importlib.import_module("mlflow.entities")
        self._metric, parameter = entities.Metric, entities.Param
        self._client = importlib.import_module("mlflow").MlflowClient(tracking_uri=place)
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT_NAME)
        found = self._client.get_experiment_by_name(name)
        experiment = found.experiment_id if found else self._client.create_experiment(name)
        runs = self._client.search_runs([experiment], f"tags.trial = '{trial}'")
        if runs:
            self._run = runs[0].info.run_id
            self._last = max((point.step for point in self._history("train/loss")), default=0)
        else:
            run = self._client.create_run(experiment, tags={"trial": trial}, run_name=run_name)
            self._run, self._last = run.info.run_id, 0
            parameters = [parameter(key, str(value)[:500]) for key, value in flat(config)]
            for start in range(0, len(parameters), 100):  # as many as a server takes at once
                self._client.log_batch(self._run, params=parameters[start : start + 100])

    def _history(self, name: str) -> list[Any]:
        return list(self._client.get_metric_history(self._run, name))

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """One point a metric, of steps that the run does not have."""
        if step > self._last:
            self.result(step, values)
            self._last = step

    def result(self, step: int, values: Mapping[str, float]) -> None:
        """One point a metric."""
        at = time.time_ns() // 1_000_000
        self._client.log_batch(self._run, [self._metric(name, v, at, step) for name, v in values.items()])

    def close(self) -> None:
        """The run is finished."""
        self._client.set_terminated(self._run)


def flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of every value of a nested configuration."""
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


class Guarded:
    """A logger in a thread of its own, which fails alone."""

    def __init__(self, name: str, make: Callable[[], Logger]) -> None:
        self.name = name
        self.ended: str | None = None
        """Why it was switched off; None while it works"""
        self._make = make
        self._waiting: queue.SimpleQueue[tuple[str, int, dict[str, float]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=f"logger {name}", daemon=True)
        self._thread.start()

    def send(self, kind: str, step: int, values: Mapping[str, float]) -> None:
        """Leave numbers for the thread."""
        if self.ended is None:
            self._waiting.put((kind, step, dict(values)))

    def finish(self) -> None:
        """Nothing more comes."""
        self._waiting.put(None)

    def wait(self, seconds: float) -> None:
        """Wait until everything is written, but no longer than this."""
        self._thread.join(max(0.0, seconds))
        if self._thread.is_alive():
            self._end(f"did not finish within {CLOSE_SECONDS:g} s")

    def _work(self) -> None:
        try:
            logger = self._make()
            while (item := self._waiting.get()) is not None:
                kind, step, values = item
                (logger.scalars if kind == "scalars" else logger.result)(step, values)
            logger.close()
        except (Exception, SystemExit) as error:  # whatever a foreign package raises ends that logger alone
            self._end(f"{type(error).__name__}: {' '.join(str(error).split())}"[:500])

    def _end(self, why: str) -> None:
        if self.ended is None:
            self.ended = why
            print(f"logger {self.name} switched off: {why}", file=sys.stderr, flush=True)


class Loggers:
    """All loggers of a trial; none at all is fine."""

    def __init__(self, loggers: Sequence[Guarded]) -> None:
        self._loggers = loggers

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Numbers of one training step, ``train/loss`` and others."""
        for logger in self._loggers:
            logger.send("scalars", step, values)

    def result(self, step: int, values: Mapping[str, float | None]) -> None:
        """Numbers of the trained model; those that are None are left out."""
        known = {name: value for name, value in values.items() if value is not None}
        for logger in self._loggers:
            logger.send("result", step, known)

    def states(self) -> dict[str, str]:
        """``on``, or why it ended, by name."""
        return {log.name: "on" if log.ended is None else f"ended: {log.ended}" for log in self._loggers}

    def close(self) -> None:
        """Close all, side by side."""
        deadline = time.monotonic() + CLOSE_SECONDS
        for logger in self._loggers:
            logger.finish()
        for logger in self._loggers:
            logger.wait(deadline - time.monotonic())


@contextmanager
def open_loggers(
    names: Sequence[LoggerName], folder: Path, trial: str, run_name: str, config: Mapping[str, Any]
) -> Iterator[Loggers]:
    """The named loggers, with files under ``folder/logs/<name>``; closed at the end of the block.

    Args:
        folder: the trial's.
        trial: its key, which a resumed training finds its run by.
        run_name: for people.
        config: nested configuration, for services that show it beside the numbers.
    """

    def maker(name: LoggerName) -> Callable[[], Logger]:
        place = folder / "logs" / name
        if name == "tensorboard":
            return lambda: TensorBoard(place)
        service = WandB if name == "wandb" else MLflow
        return lambda: service(place, trial, run_name, config)

    loggers = Loggers([Guarded(name, maker(name)) for name in names])
    try:
        yield loggers
    finally:
        loggers.close()
