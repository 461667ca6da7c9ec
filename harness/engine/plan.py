"""What a sweep comes to: its trials, its data, and where their results are. Nothing is run or written."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from harness.config import DataConfig, TrialConfig
from harness.data.benchmarks import BENCHMARKS
from harness.data.source import DataSource, NoDataNamedError, absent_data, find_data
from harness.engine.choice import choose
from harness.engine.initial_weights import InitialWeights, find_initial_weights
from harness.engine.states import FAILURES
from harness.engine.trial_files import Stage, TrialFiles
from harness.grid import OF_EMBEDDED_VIDEOS, Grid, Point
from harness.loggers import check_installed, check_names
from harness.memory_budget import spelled
from harness.metrics import ERROR_METRICS, SITUATION_METRICS
from harness.provenance import EVALUATION_CODE, PROJECT, TRAINING_CODE, code_version
from harness.row_schema import MODEL_COLUMNS
from harness.sweep import Cell, Identities, Trial, embedded_data, seeds_of, trials_of
from harness.sweep_file import (
    Measure,
    ScaleFile,
    SweepFile,
    load_scale,
    load_sweep,
    scale_file,
    seed_list,
)
from model.errors import InputError

EXECUTORS = ("local", "slurm", "ray")
MOST_SEEDS = 10_000
NEEDED = {
    "fps": "speed",
    "peak_memory_gb": "speed",
    "flops_g": "flops",
    **dict.fromkeys(MODEL_COLUMNS, "model"),
    **dict.fromkeys(SITUATION_METRICS, "situations"),
    **dict.fromkeys(ERROR_METRICS, "errors"),
}
"""Metric -> the measure that finds it; all others are found by scoring"""
OF_SCORED_WEIGHTS: dict[Measure, str] = {
    "speed": "trained weights",
    "situations": "evaluated results",
    "errors": "evaluated results",
}
"""Measures that need scoring, and what they look at"""
TAKEN = ("trials", "datasets", "runners", "probes", "reference")
"""Names of our own in the results folder"""


@dataclass(frozen=True)
class Options:
    """What the command line says."""

    sweep: Path
    scale: str
    results: Path
    reports: Path
    data: Path | None = None
    split: str | None = None
    """Score this split instead of the data's own."""
    weights: Path | None = None
    """Folder of the weights that trainings start from."""
    device: str = "auto"
    workers: int | None = None
    """Trials at a time; None: cores / threads of a training, or the GPUs."""
    processes: int = 1
    """Processes (GPUs) that share one training"""
    seeds: str | None = None
    """Instead of those of the files: how many (``5``), or which (``0,1,7``)"""
    only: str | None = None
    """Run this part of the sweep (:mod:`harness.engine.choice`)."""
    retry: str | None = None
    """Failures to try again, such as ``failed,oom``"""
    fail_fast: bool = False
    """End the run at the first failure."""
    timeout: float | None = None
    """Seconds that one process of a trial may take"""
    silence: float | None = None
    """Seconds without any sign of life after which a process is ended"""
    executor: str = "local"
    resources: str | None = None
    """What the executor's scheduler is asked for, such as ``partition=gpu,time=1440``"""
    log: str | None = None
    """Loggers, such as ``tensorboard,wandb``"""
    memory_budget: int | None = None
    """Bytes of its device that each process may have; None: all"""
    frame_cache: int | None = None
    """Bytes of frames that each training process keeps; None: what its memory allows"""

    def retried(self) -> frozenset[str]:
        """The failures to try again; raises :class:`InputError` for a name that is none."""
        wanted = [name.strip() for name in self.retry.split(",")] if self.retry is not None else []
        for name in wanted:
            if name not in FAILURES:
                raise InputError(
                    f"--retry: {name!r}: allowed: {', '.join(FAILURES)}, with commas between them"
                )
        return frozenset(wanted)


@dataclass(frozen=True)
class Plan(TrialFiles):
    """A sweep at a scale on a data set: its trials, and where their results are."""

    options: Options
    sweep: SweepFile
    scale: ScaleFile
    sources: tuple[DataSource, ...]
    """The data; several where the sweep varies embedded data"""
    weights: InitialWeights
    trials: tuple[Trial, ...]
    chosen: tuple[Trial, ...]
    """The trials, and those of their cells, that ``--only`` leaves; all without it"""
    absent: tuple[str, ...] = ()
    """What a run still lacks (data, weights), one line each; only a dry run goes on without"""

    @property
    def source(self) -> DataSource:
        """The data, or the first of them."""
        return self.sources[0]

    def source_of(self, config: TrialConfig) -> DataSource:
        """The data of a configuration."""
        for source in self.sources[1:]:
            if source.config.synthetic == config.data.synthetic:
                return source
        return self.source

    def roots(self, progress: Callable[[int, int], None]) -> dict[str, Path]:
        """Folder of each data set by its name; embedded ones are written below the results unless they are
        there."""
        cache = self.options.results / "datasets"
        if not self.trains:
            return {self.source.name: cache}
        return {source.name: source.root(cache, progress) for source in self.sources}

    @property
    def results(self) -> Path:
        """The results folder."""
        return self.options.results

    @property
    def measures(self) -> tuple[Measure, ...]:
        """What the sweep measures."""
        return self.sweep.measure

    @property
    def varied(self) -> frozenset[str]:
        """The dotted keys that the sweep varies."""
        return frozenset(self.sweep.varied_keys())

    @property
    def memory_budget(self) -> int | None:
        """Bytes of its device that each process may have."""
        return self.options.memory_budget

    @property
    def folder_name(self) -> str:
        """Scale; data and split where a real folder is used; the memory budget if there is one."""
        name = self.scale.name
        if self.source.folder is not None:
            name += f"-{self.source.name}-{self.source.config.valid}"
        return name if self.memory_budget is None else f"{name}-memory-{spelled(self.memory_budget)}"

    @property
    def rows(self) -> Path:
        """Folder of the parquet rows."""
        return self.options.results / self.sweep.name / self.folder_name

    @property
    def report(self) -> Path:
        """Folder of tables and figures."""
        return self.options.reports / self.sweep.name / self.folder_name

    def without(self, trial: Trial, stage: Stage) -> list[Cell]:
        """The trial's cells that lack a stage's record, or have a damaged one."""
        return [cell for cell in trial.cells if self.record(trial, cell, stage) is None]


def make_plan(options: Options, lacking: bool = False) -> Plan:
    """Read the sweep, the scale and the data's description; nothing is run or written.

    Args:
        lacking: go on without data and weights that were not named (a dry run); the plan says what is absent.
    """
    _check_places(options)
    _check_choices(options)
    if re.fullmatch(r"auto|cpu|cuda(:\d+)?", options.device) is None:
        raise InputError(f"--device: {options.device!r}: allowed: auto, cpu, cuda, cuda:<number>")
    sweep = load_sweep(options.sweep)
    scale = load_scale(options.scale)
    files = (str(options.sweep), scale_file(options.scale))
    _check_report(sweep, files[0])
    overrides: dict[str, Any] = {}
    if options.data is not None:
        overrides["data.kind"] = "folder"
    if options.split is not None:
        overrides["data.valid"] = options.split
    grid, seeds = Grid(sweep, scale, *files), _seeds(options, sweep, scale, files)
    config = grid.points(overrides)[0].config
    _check_split(options, config.data)
    _check_videos(sweep, config.data, files[0])
    absent: list[str] = []
    source = _source(sweep, config.data, options, lacking, absent)
    overrides["model.num_classes"] = source.num_classes
    _check_classes(sweep, scale, source, files)
    overrides["data.train"], overrides["data.valid"] = source.config.train, source.config.valid
    points = grid.points(overrides)
    sources = _sources(sweep, source, points, files[0])
    _check_shares(options, (point.config for point in points))
    configs = (point.config for point in points)
    weights = find_initial_weights(configs, options.weights, files[0], absent if lacking else None)
    identities = Identities(
        source.train_identity,
        source.valid_identity,
        code_version(TRAINING_CODE),
        code_version(EVALUATION_CODE),
        weights.checksums,
        options.memory_budget,
        {each.config.synthetic: each.train_identity for each in sources} if len(sources) > 1 else {},
    )
    trials = tuple(trials_of(points, seeds, identities))
    chosen = choose(trials, options.only)
    return Plan(options, sweep, scale, sources, weights, trials, chosen, tuple(absent))


def _source(
    sweep: SweepFile, config: DataConfig, options: Options, lacking: bool, absent: list[str]
) -> DataSource:
    """The data, or a stand-in without videos where a dry run or a count needs none."""
    if "ap" not in sweep.measure:
        _check_nothing_ignored(options, sweep.measure)
        return absent_data(config, "no data is needed")
    try:
        return find_data(config, options.data, str(options.sweep))
    except NoDataNamedError as error:
        if not lacking:
            raise
        absent.append(str(error))
        return absent_data(config, f"{BENCHMARKS[config.benchmark].title}, not there")


def _sources(
    sweep: SweepFile, first: DataSource, points: Iterable[Point], file: str
) -> tuple[DataSource, ...]:
    """All data of the sweep: where it varies embedded data, each set once, the first one first."""
    varied = [key for key in sweep.varied_keys() if key.startswith("data.")]
    if not varied:
        return (first,)
    if first.config.kind != "synthetic" or "ap" not in sweep.measure:
        raise InputError(f"{file}: axes.{varied[0]}: {OF_EMBEDDED_VIDEOS}")
    sources = tuple(
        find_data(first.config.model_copy(update={"synthetic": config}), None, file)
        for config in embedded_data(points)
    )
    if len({source.num_classes for source in sources}) > 1:
        raise InputError(f"{file}: axes.data.synthetic.categories: one number for a sweep; no axis")
    return sources


def _check_nothing_ignored(options: Options, measure: tuple[Measure, ...]) -> None:
    given: dict[str, Path | str | None] = {
        "--data": options.data,
        "--split": options.split,
        "--weights": options.weights,
    }
    if measure == ("flops",) and options.memory_budget is not None:
        given["--memory-budget"] = spelled(options.memory_budget)
    for option, value in given.items():
        if value is not None:
            raise InputError(f"{option}: {str(value)!r}: {options.sweep} only counts; it needs none")


def _seeds(options: Options, sweep: SweepFile, scale: ScaleFile, files: tuple[str, str]) -> tuple[int, ...]:
    """The files' seeds, or those of the command line."""
    if options.seeds is None:
        return seeds_of(sweep, scale, *files)
    if "ap" not in sweep.measure:
        raise InputError(f"--seeds: {options.seeds!r}: {options.sweep} only counts; it has none to vary")
    if re.fullmatch(r"\d+(,\d+)*", options.seeds) is None:
        raise InputError(f"--seeds: {options.seeds!r}: allowed: a count such as 5, or seeds such as 0,1,7")
    numbers = tuple(int(number) for number in options.seeds.split(","))
    if "," not in options.seeds and numbers[0] > MOST_SEEDS:
        raise InputError(f"--seeds: {options.seeds!r}: allowed: a count of at most {MOST_SEEDS:,}")
    return seed_list(numbers if "," in options.seeds else numbers[0], "--seeds")


def _check_report(sweep: SweepFile, file: str) -> None:
    """Refuse before the first training what would spoil the table after the last."""
    for key in sweep.varied_keys():
        if key not in (*sweep.table.rows, *sweep.table.columns):
            raise InputError(f"{file}: axes.{key}: neither among the table's rows nor its columns")
    if sweep.name in TAKEN:
        raise InputError(f"{file}: name: {sweep.name!r}: taken; allowed: any but {', '.join(TAKEN)}")
    if sweep.std_table == sweep.name:
        raise InputError(f"{file}: std_table: {sweep.std_table!r}: must differ from name")
    for measure, of in OF_SCORED_WEIGHTS.items():
        if measure in sweep.measure and "ap" not in sweep.measure:
            raise InputError(f"{file}: measure: {list(sweep.measure)}: {measure!r} is of {of}; add 'ap'")
    claimed = [metric for claim in sweep.claims for metric in (claim.metric, claim.against)]
    of_tracks = [metric for metric in claimed if metric in (*SITUATION_METRICS, *ERROR_METRICS)]
    for metric in (*sweep.table.cells, *sweep.figures, *of_tracks):
        needed = NEEDED.get(str(metric), "ap")
        if metric == "flops_g" and "model" in sweep.measure:
            continue  # counted with what is timed
        if needed not in sweep.measure:
            raise InputError(f"{file}: {metric}: shown but not measured; add {needed!r} to measure")
    if sweep.figures and not sweep.table.columns:
        raise InputError(f"{file}: figures: drawn against the table's columns, and it has none")
    tables = yaml.safe_load((PROJECT / "harness" / "paper.yaml").read_text(encoding="utf-8"))
    for key, name in (("paper", sweep.paper), ("paper_std", sweep.paper_std)):
        if name is not None and name not in tables:
            raise InputError(
                f"{file}: {key}: {name!r}: not in harness/paper.yaml; it has {', '.join(tables)}"
            )


def _check_videos(sweep: SweepFile, config: DataConfig, file: str) -> None:
    """Situations and errors are told of tracks, which images do not have."""
    of_tracks = [name for name in sweep.measure if name in ("situations", "errors")]
    if of_tracks and BENCHMARKS[config.benchmark].is_images:
        raise InputError(
            f"{file}: measure: {of_tracks[0]!r}: told of tracks, and {BENCHMARKS[config.benchmark].title} "
            "has images; leave it out"
        )


def _check_classes(sweep: SweepFile, scale: ScaleFile, source: DataSource, files: tuple[str, str]) -> None:
    """The number of classes is the data's: any other would train a class as "no object"."""
    if "model.num_classes" in sweep.varied_keys():
        raise InputError(f"{files[0]}: axes.model.num_classes: given by the data; no axis")
    for file, settings in zip(files, (sweep.settings, scale.settings), strict=True):
        said = settings.get("model", {}).get("num_classes", source.num_classes)
        if said != source.num_classes:
            raise InputError(
                f"{file}: model.num_classes: {said}: {source.name} has {source.num_classes}; leave it out"
            )


def _check_split(options: Options, config: DataConfig) -> None:
    if options.split is None:
        return
    if re.fullmatch(r"[\w.-]+", options.split) is None:
        raise InputError(f"--split: {options.split!r}: allowed: the name of a split, such as valid")
    if config.kind == "synthetic":
        raise InputError(
            f"--split: {options.split!r}: embedded data has the split 'valid' only; needs --data"
        )


def _check_choices(options: Options) -> None:
    """Refuse names that mean nothing before anything is read."""
    if options.executor not in EXECUTORS:
        raise InputError(f"--executor: {options.executor!r}: allowed: {', '.join(EXECUTORS)}")
    if options.executor == "local" and options.resources is not None:
        raise InputError(
            f"--resources: {options.resources!r}: the local executor asks nobody; give --executor"
        )
    if options.log is not None:
        check_installed(check_names(options.log))
    options.retried()


def _check_shares(options: Options, configs: Iterable[TrialConfig]) -> None:
    """Several processes share every batch evenly."""
    for config in configs:
        clips = config.train.clips_per_batch
        if clips % options.processes:
            raise InputError(
                f"--processes: {options.processes}: train.clips_per_batch of {options.sweep} is {clips}; "
                "allowed: its divisors"
            )


def _check_places(options: Options) -> None:
    """Refuse now what would otherwise end a run after hours."""
    for option, folder in (("--results", options.results), ("--reports", options.reports)):
        for place in (folder, *folder.parents):
            if place.exists() and not place.is_dir():
                raise InputError(f"{option} {folder}: {place} is a file; a folder is expected")
