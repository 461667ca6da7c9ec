"""``--dry-run --probe``: time a little of what is left, each in a process of its own, and keep the times.

Neither a crash nor a lack of memory in a probe reaches the dry run. Torch is not needed here.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from harness.config import DataConfig, SyntheticConfig, TrialConfig
from harness.data.benchmarks import BENCHMARKS
from harness.data.synthetic import cached_dataset
from harness.engine.cost import Machine
from harness.engine.plan import Plan
from harness.engine.preview_cost import Shapes, needed_shapes, own_trials, timings_for, training_name
from harness.engine.timings import CostOptions, Shape, Timings
from harness.provenance import PROJECT, now
from harness.record_file import write_record
from harness.sweep import Trial, initial_stem

LIMIT_S = 600.0
"""A probe that takes longer is ended; its pace stays unknown."""
STAND_IN_NOTE = "on embedded videos"


def run_probes(
    plan: Plan,
    left: Mapping[str, Sequence[str]],
    trained: Collection[str],
    options: CostOptions,
    machine: Machine,
    console: Console,
) -> None:
    """Probe what neither was stated nor is known from the results; one training configuration at a time."""
    shapes = Shapes()
    timings = timings_for(plan, options, machine)
    needed = needed_shapes(plan, left, trained, shapes)
    timings.read(needed, own_trials(plan, shapes))
    lacking = {shape: at for shape, at in needed.items() if not timings.is_settled(shape)}
    if not lacking:
        return
    with _data(plan, console) as data:
        for shape, (trial, config) in lacking.items():
            if shape.kind == "train":
                job = {"kind": "train", "configs": [_dump(config)]}
                _say(console, plan, trial, "training steps", _is_stand_in(plan))
                [record] = _run(plan, trial, job, data(trial), machine)
                _keep(timings, shape, record, plan)
        for trial, cells in _by_trial(lacking).values():
            _say(console, plan, trial, "evaluation of a video", _is_stand_in(plan))
            _probe_cells(plan, trial, cells, data(trial), machine, timings)


def _by_trial(
    lacking: Mapping[Shape, tuple[Trial, TrialConfig]],
) -> dict[str, tuple[Trial, list[tuple[Shape, TrialConfig]]]]:
    """The cells to probe, together where they share a model."""
    groups: dict[str, tuple[Trial, list[tuple[Shape, TrialConfig]]]] = {}
    cells: dict[str, list[tuple[Shape, TrialConfig]]] = defaultdict(list)
    for shape, (trial, config) in lacking.items():
        if shape.kind != "train":
            cells[trial.key].append((shape, config))
            groups[trial.key] = (trial, cells[trial.key])
    return groups


def _probe_cells(
    plan: Plan,
    trial: Trial,
    cells: list[tuple[Shape, TrialConfig]],
    data: Path,
    machine: Machine,
    timings: Timings,
) -> None:
    """Probe cells in one process; one that ends it early is set down as that, and the rest goes on anew."""
    while cells:
        configs = [{"kind": shape.kind, **_dump(config)} for shape, config in cells]
        job = {
            "kind": "evaluate",
            "stages": [found.pop("kind") for found in configs],
            "configs": configs,
        }
        records = _run(plan, trial, job, data, machine)
        for (shape, _), record in zip(cells, records, strict=False):
            _keep(timings, shape, record, plan)
        cells = cells[len(records) :]


def _run(plan: Plan, trial: Trial, job: dict[str, Any], data: Path, machine: Machine) -> list[dict[str, Any]]:
    """What a probe found of each of its configurations; the last one may say how the process ended."""
    config = trial.config
    threads = config.train.threads or machine.cores
    stem = initial_stem(config)
    weights = None if stem is None else plan.weights.files.get(stem)
    content = job | {
        "data": str(data.resolve()),
        "stand_in": _is_stand_in(plan),
        "initial_weights": None if weights is None else str(weights.resolve()),
        "device": "cpu" if machine.unit == "core" else _cuda(plan.options.device),
        "threads": threads,
    }
    status, output, last = _child(content)
    records = list(_events(output))
    if (status == 0 and records) or (records and records[-1].get("status") in ("oom", "failed")):
        return records
    return [*records, _end(status, last)]


def _child(content: dict[str, Any]) -> tuple[int | None, str, str]:
    """Exit status (None: it took too long), standard output, and the last line of standard error."""
    threads = str(content["threads"])
    with tempfile.TemporaryDirectory(prefix="probe-") as folder:
        file = Path(folder) / "job.json"
        file.write_text(json.dumps(content), encoding="utf-8")
        with (Path(folder) / "log").open("w+", encoding="utf-8", errors="replace") as log:
            theirs, ours = os.pipe()  # never written to: the probe ends when we do
            process = subprocess.Popen(
                [sys.executable, "-m", "harness.probe", str(file)],
                stdin=theirs,
                stdout=subprocess.PIPE,
                stderr=log,
                encoding="utf-8",
                errors="replace",
                env={**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads},
                cwd=PROJECT,
                start_new_session=True,
            )
            os.close(theirs)
            status, output = _wait(process)
            os.close(ours)
            log.seek(0)
            return status, output, (log.read().strip().splitlines() or [""])[-1]


def _wait(process: subprocess.Popen[str]) -> tuple[int | None, str]:
    """Exit status and what was printed; the process is gone afterwards in any case."""
    try:
        output, _ = process.communicate(timeout=LIMIT_S)
        return process.returncode, output
    except subprocess.TimeoutExpired:
        process.kill()
        return None, process.communicate()[0]
    finally:
        process.kill()
        process.wait()


def _events(output: str) -> Iterator[dict[str, Any]]:
    for line in output.splitlines():
        with contextlib.suppress(ValueError):  # what a library prints is no event
            event = json.loads(line)
            if isinstance(event, dict) and event.get("event") == "probed":
                yield {key: value for key, value in event.items() if key != "event"}


def _end(status: int | None, last_line: str) -> dict[str, Any]:
    """The record of work that ended its process."""
    if status is None:
        return {"status": "timeout", "note": f"probe not done after {LIMIT_S:.0f} s"}
    if status == -signal.SIGKILL:  # nobody else ends it so
        return {"status": "oom", "note": "ended by the kernel, in all likelihood for want of memory"}
    return {"status": "failed", "note": f"probe failed: {last_line or f'exit status {status}'}"[:200]}


def _keep(timings: Timings, shape: Shape, record: dict[str, Any], plan: Plan) -> None:
    """Write the probe's file, so that the next dry run knows."""
    if record.get("status", "done") == "done" and _is_stand_in(plan):
        record["note"] = record.get("note") or STAND_IN_NOTE
    path = timings.probe_file(shape)
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"status": "done", **record, "kind": shape.kind, "hardware": timings.hardware, "probed": now()}
    write_record(path, content)


def _is_stand_in(plan: Plan) -> bool:
    """Whether embedded videos take the place of data that nobody gave."""
    return plan.source.folder is None and plan.source.config.kind == "folder"


@contextlib.contextmanager
def _data(plan: Plan, console: Console) -> Iterator[Callable[[Trial], Path]]:
    """A trial's data; where nobody gave any, a few embedded videos with the data's own aspect ratio."""
    if not _is_stand_in(plan):
        roots = plan.roots(lambda done, of: None)
        yield lambda trial: roots[plan.source_of(trial.config).name]
        return
    with tempfile.TemporaryDirectory(prefix="probe-") as folder:
        videos = cached_dataset(_stand_in(plan.source.config, plan.trials[0].config), Path(folder))
        yield lambda trial: videos


def _stand_in(data: DataConfig, config: TrialConfig) -> SyntheticConfig:
    """16:9 as most of YouTube-VIS, or 4:3 as most of COCO; the recipe's resizing does the rest."""
    images = BENCHMARKS[data.benchmark].is_images
    size = {"height": 96, "width": 128, "length": 1} if images else {"height": 72, "width": 128}
    count = {"train_videos": config.train.clips_per_batch, "valid_videos": 1}
    return data.synthetic.model_copy(update={**size, **count})


def _dump(config: TrialConfig) -> dict[str, Any]:
    return config.model_dump(mode="json")


def _cuda(device: str) -> str:
    return "cuda" if device == "auto" else device


def _say(console: Console, plan: Plan, trial: Trial, what: str, stand_in: bool) -> None:
    on = ", on embedded videos of the recipe's frame sizes" if stand_in else ""
    console.print(f"probe: {training_name(plan, trial)}: {what}{on}", markup=False)
