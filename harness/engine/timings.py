"""Seconds of a training step and of an evaluated cell: stated, measured in the results, probed. No torch.

A time is of a *shape*: what of a configuration decides how long the work takes. Seeds, step counts and
learning rates do not.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import platform
import statistics
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from harness.engine.attempts import Attempt, attempts_of
from harness.engine.cost import UNKNOWN, Pace
from harness.provenance import EVALUATION_CODE, TRAINING_CODE, code_version
from harness.record_file import read_record, read_training
from model.errors import InputError

Kind = Literal["train", "train_evaluate", "time"]
"""A training step; a cell predicted and scored; a cell timed"""
ENOUGH = 3
"""Records of one shape after which no more are read."""
WARM_STEPS = 3
"""First steps of a training: they pay for what later ones find ready."""
TAIL_BYTES = 65536
"""Of ``losses.csv``: some hundreds of steps; the files of long trainings are large."""
FILES: dict[Kind, str] = {"train_evaluate": "metrics.json", "time": "speed.json"}
NO_MATTER = ("steps", "schedule", "milestones", "learning_rate", "backbone_learning_rate", "checkpoint_every")
"""Keys of ``train`` that no step takes longer for."""


@dataclass(frozen=True)
class CostOptions:
    """What the command line says of the estimate."""

    step_seconds: float | None = None
    evaluation_seconds: float | None = None
    probe: bool = False

    def check(self, dry_run: bool) -> None:
        """Refuse what makes no sense; raises :class:`InputError`."""
        seconds = {"--step-seconds": self.step_seconds, "--evaluation-seconds": self.evaluation_seconds}
        given = {name: value for name, value in seconds.items() if value is not None}
        for name in (*given, *(["--probe"] if self.probe else [])):
            if not dry_run:
                raise InputError(f"{name}: says what a dry run shall reckon with; add --dry-run")
        for name, value in given.items():
            if not (math.isfinite(value) and value > 0):
                raise InputError(f"{name}: {value:g}: allowed: seconds above 0")


@dataclass(frozen=True)
class Shape:
    """Work that takes the same time wherever it stands."""

    kind: Kind
    key: str

    def probe_name(self, hardware: str, data: str) -> str:
        """Stem of the file that keeps its probe: of this hardware and data, and of the code as it is."""
        code = code_version(TRAINING_CODE if self.kind == "train" else EVALUATION_CODE)
        return _hash([self.kind, self.key, hardware, data, code])


def training_shape(config: Mapping[str, Any]) -> Shape:
    """What of a dumped configuration decides the time of a step."""
    data = {key: value for key, value in config.get("data", {}).items() if key not in ("train", "valid")}
    videos = data.get("synthetic", {})
    data["synthetic"] = {
        key: value for key, value in videos.items() if key not in ("seed", "train_videos", "valid_videos")
    }
    recipe = {key: value for key, value in config.get("train", {}).items() if key not in NO_MATTER}
    return Shape("train", _hash([config.get("model"), data, recipe]))


def evaluation_shape(config: Mapping[str, Any], kind: Kind) -> Shape:
    """What of a dumped configuration decides the time of one stage of a cell."""
    threads = config.get("train", {}).get("threads")
    parts = [config.get("model"), config.get("data"), config.get("inference"), threads]
    return Shape(kind, _hash([*parts, config.get("speed") if kind == "time" else None]))


OwnTrial = tuple[str, Iterable[tuple[Shape, str | None]]]
"""A trial's key, and the shapes of its training (None) and of its cells (their keys)"""


@dataclass
class Timings:
    """Looks up paces: stated ones, those of the results, probed ones, in this order of trust."""

    results: Path
    hardware: str
    device: str
    """``cpu``, ``cuda`` or ``cuda:1``"""
    train_data: str = ""
    valid_data: str = ""
    """Checksums of the data, where it is a folder"""
    options: CostOptions = CostOptions()
    _found: dict[Shape, list[float]] = field(default_factory=lambda: defaultdict(list))

    def read(self, needed: Iterable[Shape], own: Iterable[OwnTrial] = ()) -> None:
        """Read the times of these shapes: of the trials ``own``; where those have none, of all others."""
        lacking = {shape for shape in needed if self._stated(shape) is None}
        trials = self.results / "trials"
        if not lacking or not trials.is_dir():
            return
        names = set()
        for name, works in own:
            names.add(name)
            for shape, cell in works:
                if shape in lacking:
                    self._note(shape, self._seconds(trials / name, shape, cell), lacking)
        lacking = {shape for shape in lacking if shape not in self._found}
        for folder in trials.iterdir() if lacking else ():
            for shape, cell in self._works(folder, lacking) if folder.name not in names else ():
                self._note(shape, self._seconds(folder, shape, cell), lacking)

    def _note(self, shape: Shape, seconds: float | None, lacking: set[Shape]) -> None:
        if seconds is not None:
            self._found[shape].append(seconds)
            if len(self._found[shape]) >= ENOUGH:
                lacking.discard(shape)

    def pace(self, shape: Shape) -> Pace:
        """The pace of a shape; one of the results needs :meth:`read` before."""
        stated = self._stated(shape)
        if stated is not None:
            return Pace(stated, "stated")
        if found := self._found.get(shape):
            noun = "training" if shape.kind == "train" else "cell"
            return Pace(statistics.median(found), "measured", f"{len(found)} {noun}{'s' * (len(found) > 1)}")
        return self._probed(shape)

    def probe_file(self, shape: Shape) -> Path:
        """Where the probe of a shape is kept."""
        data = self.train_data if shape.kind == "train" else self.valid_data
        return self.results / "probes" / f"{shape.probe_name(self.hardware, data)}.json"

    def is_settled(self, shape: Shape) -> bool:
        """Whether a probe would tell nothing new."""
        record = read_record(self.probe_file(shape))
        return self.pace(shape).origin != "unknown" or record.get("status") == "done"

    def _stated(self, shape: Shape) -> float | None:
        if shape.kind == "train":
            return self.options.step_seconds
        return self.options.evaluation_seconds

    def _probed(self, shape: Shape) -> Pace:
        record = read_record(self.probe_file(shape))
        if not record:
            return UNKNOWN
        note = str(record.get("note", ""))
        if record.get("status") == "oom":
            return Pace(None, "does not fit", note)
        seconds = _positive(record.get("seconds"))
        return Pace(None, "unknown", note) if seconds is None else Pace(seconds, "probed", note)

    def _seconds(self, folder: Path, shape: Shape, cell: str | None) -> float | None:
        """What a trial's folder holds of a training step, or of a cell, on this hardware."""
        if shape.kind == "train":
            trained = read_training(folder)
            if trained is None:
                return self._interrupted(folder)
            return step_seconds(folder / "losses.csv") if trained.get("hardware") == self.hardware else None
        record = read_record(folder / "cells" / str(cell) / FILES[shape.kind])
        if record.get("hardware") != self.hardware:
            return None
        # Scored on other data, a cell takes another time.
        fits = str(record.get("data_checksum", self.valid_data)).startswith(self.valid_data)
        return _positive(record.get("seconds")) if fits else None

    def _interrupted(self, folder: Path) -> float | None:
        """The pace of the newest attempt at an unfinished training."""
        for attempt in reversed(attempts_of(folder)):
            seconds = _positive(attempt.progress().get("seconds_per_step"))
            if seconds is not None and self._is_here(attempt):
                return seconds
        return None

    def _works(self, folder: Path, wanted: Set[Shape]) -> Iterator[tuple[Shape, str | None]]:
        """The training and the cells of a trial that is not of this plan, by what its jobs were told."""
        jobs = [attempt.job() for attempt in attempts_of(folder)]
        configs = [found.get("config") for found in (read_training(folder) or {}, *jobs)]
        config = next((found for found in configs if isinstance(found, dict)), None)
        if config is not None and training_shape(config) in wanted:
            yield training_shape(config), None
        seen = set()
        for cell in (cell for job in jobs for cell in job.get("cells", ()) if isinstance(cell, dict)):
            key, config = cell.get("key"), cell.get("config")
            if isinstance(key, str) and isinstance(config, dict) and key not in seen:
                seen.add(key)
                shapes = [evaluation_shape(config, kind) for kind in FILES]
                yield from ((shape, key) for shape in shapes if shape in wanted)

    def _is_here(self, attempt: Attempt) -> bool:
        """Whether an attempt ran on this hardware, by its own word or on this very host and device."""
        owner = attempt.owner()
        if "hardware" in owner:
            return bool(owner["hardware"] == self.hardware)
        kind = str(attempt.job().get("device", "auto")).partition(":")[0]
        return owner.get("host") == platform.node() and kind in ("auto", self.device.partition(":")[0])


def step_seconds(losses: Path) -> float | None:
    """Median seconds of a step by ``losses.csv``, without the first steps; None where it does not say."""
    try:
        with losses.open("rb") as file:
            head = file.readline().decode()
            start = file.tell()
            size = file.seek(0, io.SEEK_END)
            file.seek(max(start, size - TAIL_BYTES))
            lines = file.read().decode().splitlines()
    except (OSError, UnicodeDecodeError):
        return None
    names = next(csv.reader([head]), [])
    if "seconds" not in names or "step" not in names:
        return None
    if size - TAIL_BYTES > start:
        del lines[:1]  # cut somewhere
    place, step = names.index("seconds"), names.index("step")
    found = []
    for row in csv.reader(lines):
        try:
            found.append((int(row[step]), float(row[place])))
        except (IndexError, ValueError):
            continue
    later = [seconds for number, seconds in found if number > WARM_STEPS]
    return _positive(statistics.median(later)) if later else None


def steps_kept(folder: Path, steps: int, checkpoint_every: int) -> int:
    """Steps of an unfinished training that its checkpoint surely holds, by what its attempts last told."""
    if not (folder / "checkpoint.pt").is_file():
        return 0
    told = [attempt.progress() for attempt in attempts_of(folder)]
    done = [found["done"] for found in told if found.get("steps") == steps and _is_count(found.get("done"))]
    kept = min(max(done, default=0), steps)
    return kept - kept % checkpoint_every


def train_device_seconds(record: dict[str, Any]) -> tuple[Literal["GPU", "core"], float]:
    """Device-seconds of a finished training, by its ``trial.json``."""
    seconds = _positive(record.get("train_seconds")) or 0.0
    seconds *= _whole(record.get("train_processes"))
    if str(record.get("device")).startswith("cuda"):
        return "GPU", seconds
    return "core", seconds * _whole(record.get("threads"))


def _whole(value: object) -> int:
    return value if isinstance(value, int) and value > 0 else 1


def _is_count(value: object) -> bool:
    return isinstance(value, int) and value >= 0


def _positive(value: object) -> float | None:
    """A number above 0, else None: a damaged file is no measurement."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    return float(value) if math.isfinite(value) and value > 0 else None


def _hash(content: Any) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
