"""The commands as people type them: arguments in, exit status out.

Exit status: 0 done (of a sweep: every cell has its number); 1 a trial failed, a cell is missing, or a video
did not fit in memory; 2 the input has to be mended (one line says what); 130 interrupted.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from harness.commands.attend import attend
from harness.commands.bench import bench
from harness.commands.compare import compare
from harness.commands.convert import convert_weights
from harness.commands.errors import errors
from harness.commands.interruption import InterruptedRunError
from harness.commands.memory import memory
from harness.commands.segment import segment
from harness.commands.situations import situations
from model.errors import InputError

INTERRUPTED = 130

Sweep = Annotated[Path, typer.Argument(help="A sweep file, such as sweeps/table3a.yaml.")]
Scale = Annotated[
    str, typer.Option(help="How much: a file of sweeps/scales. 'tiny' and 'sanity' need no data and no GPU.")
]
Data = Annotated[
    Path | None,
    typer.Option(help="A folder laid out like YouTube-VIS 2019 or 2021, OVIS or COCO."),
]
Split = Annotated[str | None, typer.Option(help="Score this json of the folder, or its hold-out by name.")]
Weights = Annotated[
    Path | None,
    typer.Option(help="Folder of the weights that trainings start from, such as ifc-resnet50.pth."),
]
Results = Annotated[Path, typer.Option(help="Where trainings and parquet rows are kept.")]
Reports = Annotated[Path, typer.Option(help="Where tables and figures are written.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print what would run, and stop.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ... or auto.")]
Workers = Annotated[
    int | None, typer.Option(min=1, help="Trials at a time; by default what the cores carry.")
]
Seeds = Annotated[
    str | None,
    typer.Option(help="How many seeds, such as 5, or which, such as 0,1,7; by default the files'."),
]
ReportOnly = Annotated[bool, typer.Option("--report-only", help="Tables and figures of the rows there are.")]
Retry = Annotated[
    str | None, typer.Option(help="Run these failures again: failed, oom, timeout, with commas between them.")
]
Only = Annotated[str | None, typer.Option(help="Run this part of the sweep, such as encoder=ifc,seed=0.")]
FailFast = Annotated[bool, typer.Option("--fail-fast", help="End the run at the first failure.")]
Timeout = Annotated[
    str | None, typer.Option(help="End a trial's process after this long, such as 90s, 30m, 8h, 2d.")
]
Silence = Annotated[
    str, typer.Option(help="End a trial's process that shows no sign of life for this long, or never.")
]
ExecutorName = Annotated[str, typer.Option("--executor", help="Where trials run: local, slurm or ray.")]
Resources = Annotated[
    str | None, typer.Option(help="What slurm or ray is asked for, such as partition=gpu,time=1440.")
]
Log = Annotated[
    str | None,
    typer.Option(help="Loggers of trainings: tensorboard, wandb, mlflow (with commas)."),
]
Processes = Annotated[int, typer.Option(min=1, help="Processes (GPUs) that share one training.")]
StepSeconds = Annotated[
    float | None, typer.Option(help="With --dry-run: seconds of a training step, for the estimate.")
]
EvaluationSeconds = Annotated[
    float | None, typer.Option(help="With --dry-run: seconds of an evaluated cell, for the estimate.")
]
MemoryBudget = Annotated[
    str | None,
    typer.Option(help="Let each process have so much memory of its device, such as 16GB or 32GiB."),
]
FrameCacheSize = Annotated[
    str | None,
    typer.Option(
        "--frame-cache",
        help="Let each training process keep so much of its frames, such as 2GB; 0: none. "
        "By default an eighth of its memory, at most 2GB.",
    ),
]
Probe = Annotated[
    bool, typer.Option("--probe", help="With --dry-run: time some steps of what is left, on this machine.")
]


def run_sweep(
    sweep: Sweep,
    scale: Scale = "paper",
    data: Data = None,
    split: Split = None,
    weights: Weights = None,
    results: Results = Path("results"),
    reports: Reports = Path("reports"),
    dry_run: DryRun = False,
    device: Device = "auto",
    workers: Workers = None,
    processes: Processes = 1,
    seeds: Seeds = None,
    executor: ExecutorName = "local",
    resources: Resources = None,
    only: Only = None,
    retry: Retry = None,
    fail_fast: FailFast = False,
    timeout: Timeout = None,
    silence: Silence = "30m",
    log: Log = None,
    memory_budget: MemoryBudget = None,
    frame_cache: FrameCacheSize = None,
    report_only: ReportOnly = False,
    step_seconds: StepSeconds = None,
    evaluation_seconds: EvaluationSeconds = None,
    probe: Probe = False,
) -> None:
    """Train, evaluate and time every trial of SWEEP, then write its tables and figures.

    Run the same command again to go on after an interruption: nothing that is done is done twice.
    """
    from harness.engine.plan import Options, make_plan
    from harness.engine.timings import CostOptions
    from harness.memory_budget import parse_frame_cache, parse_memory
    from harness.report.claimed import check_claims
    from harness.report.sweep_report import report_plan, table_spec

    console = Console(highlight=False, soft_wrap=True)
    costs = CostOptions(step_seconds, evaluation_seconds, probe)
    costs.check(dry_run)
    options = Options(
        sweep=sweep,
        scale=scale,
        results=results,
        reports=reports,
        data=data,
        split=split,
        weights=weights,
        device=device,
        workers=workers,
        processes=processes,
        seeds=seeds,
        only=only,
        retry=retry,
        fail_fast=fail_fast,
        timeout=None if timeout is None else seconds("--timeout", timeout),
        silence=None if silence == "never" else seconds("--silence", silence),
        executor=executor,
        resources=resources,
        log=log,
        memory_budget=None if memory_budget is None else parse_memory(memory_budget),
        frame_cache=None if frame_cache is None else parse_frame_cache(frame_cache),
    )
    plan = make_plan(options, lacking=dry_run)
    check_claims(table_spec(plan), str(sweep))
    if dry_run:
        from harness.engine.preview import preview
        from harness.engine.preview_cost import this_machine
        from harness.engine.run import default_workers
        from harness.engine.seats import cores, device_of

        machine = this_machine(device_of(device), cores(), default_workers(plan))
        preview(plan, console, costs, machine)
        return
    from harness.engine.run import is_complete, run

    complete = is_complete(plan, console) if report_only else run(plan, console)
    report_plan(plan, console, anew=report_only)
    if not complete:
        raise typer.Exit(1)


def seconds(option: str, text: str) -> float:
    """A duration as people type it: a number of seconds, or with s, m, h or d behind it."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhd]?)", text)
    value = float(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}[found[2]] if found else 0.0
    if value <= 0:
        raise InputError(f"{option}: {text!r}: allowed: a time such as 90s, 30m, 8h, 2d")
    return value


def validate(
    results: Annotated[Path, typer.Argument(help="A result file, such as results.json.")],
    data: Annotated[Path, typer.Option(help="The data folder, or its annotation json itself.")],
    split: Annotated[
        str | None, typer.Option(help="Check against SPLIT.json of the folder instead of valid.json.")
    ] = None,
    upload: Annotated[Path | None, typer.Option("--zip", help="Write the upload to this new zip.")] = None,
    every: Annotated[bool, typer.Option("--all", help="List all problems, not only the first.")] = False,
) -> None:
    """Check a result file before it is sent anywhere; the data's images are not needed."""
    from harness.result_file import check_file

    checked, problems = check_file(results, data, split, upload)
    for problem in problems if every else problems[:1]:
        print(f"error: {problem}", file=sys.stderr)
    if problems:
        raise typer.Exit(2)
    print(*checked.summary(), sep="\n")
    if upload is not None:
        print(f"written: {upload}")


def show(
    trial: Annotated[
        str,
        typer.Argument(help="A trial's key or the beginning of it, a cell's key, or a label: 'ifc seed 0'."),
    ],
    results: Results = Path("results"),
    sweep: Annotated[
        str | None, typer.Option(help="Look in this sweep alone: table3a, or table3a/tiny.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one json object.")] = False,
) -> None:
    """All that is known of one trial: state, results, provenance, and the commands that repeat it."""
    import json

    from harness.engine.manifest import load_manifests
    from harness.show.find import find_trial
    from harness.show.record import gather
    from harness.show.text import print_trial

    manifests, spoilt = load_manifests(results)
    for line in spoilt:
        print(f"warning: {line}", file=sys.stderr)
    record = gather(find_trial(trial, results, manifests, sweep), results)
    if as_json:
        print(json.dumps(record, indent=1))
    else:
        print_trial(record, Console(highlight=False, soft_wrap=True))


def status(
    sweep: Annotated[
        str | None, typer.Argument(help="A sweep's name, name/scale or file; by default every sweep.")
    ] = None,
    results: Results = Path("results"),
    watch: Annotated[bool, typer.Option("--watch", help="Look again every two seconds.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one json list.")] = False,
) -> None:
    """Sweeps at a glance: what is done, who runs what, what failed and why.

    Exit status 1 when a cell is missing.
    """
    from harness.engine import status as engine_status
    from harness.engine.runners import Observer

    observer = Observer(results)
    manifests, spoilt = engine_status.find_sweeps(results, sweep)
    for line in spoilt:
        print(f"warning: {line}", file=sys.stderr)

    def look() -> list[engine_status.SweepStatus]:
        return [engine_status.look(manifest, results, observer) for manifest in manifests]

    console = Console(highlight=False, soft_wrap=True)
    found = engine_status.watch(look, console) if watch else look()
    if as_json:
        print(engine_status.as_json(found))
    elif not watch:
        engine_status.show_status(found, console)
    if not all(each.complete for each in found):
        raise typer.Exit(1)


def report(
    sweeps: Annotated[
        list[str] | None,
        typer.Argument(
            help="Sweep files, or names such as table3a; by default all of sweeps/ that have rows."
        ),
    ] = None,
    scale: Annotated[
        str | None, typer.Option(help="Rows of this scale alone; by default every one that has rows.")
    ] = None,
    results: Results = Path("results"),
    reports: Reports = Path("reports"),
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Exit status 0 even where something is missing.")
    ] = False,
) -> None:
    """Tables, figures, verdicts and a page (index.html) from the rows there are; nothing is run.

    Exit status 1 when something is missing: runs, seeds, numbers, or one origin for all rows.
    """
    from harness.report.book import write_book
    from harness.report.sources import find_sources
    from harness.report.terminal import terminal_claims

    book = write_book(find_sources(sweeps or [], scale, results), results, reports)
    for findings in book.findings:
        if findings.claims:
            print(terminal_claims(findings), end="\n\n")
    for gap in book.gaps:
        print(f"missing: {gap}", file=sys.stderr)
    print(f"{len(book.files)} files; open {reports / 'index.html'}")
    if book.gaps and not allow_missing:
        raise typer.Exit(1)


def archive(
    sweeps: Annotated[list[str], typer.Argument(help="Sweep files, or names such as table3a.")],
    to: Annotated[Path, typer.Option(help="Folder to keep them in: TO/<sweep>/<scale>/rows.parquet.")],
    scale: Annotated[
        str | None, typer.Option(help="Rows of this scale alone; by default every one that has rows.")
    ] = None,
    results: Results = Path("results"),
) -> None:
    """Pack each sweep's rows, plan and losses into small files, to be kept or sent; reports need no more."""
    from harness.archive import write_archive
    from harness.report.sources import find_sources

    for source in find_sources(sweeps, scale, results):
        target = to / source.spec.name / source.folder.name
        count = write_archive(source.folder, results / "trials", target)
        print(f"{source.name}: {count} rows in {target}")


def sweep_command(arguments: list[str] | None = None) -> None:
    """Entry point of ``run_sweep.py``."""
    app = _app()
    app.command()(run_sweep)
    sys.exit(_status_of(app, arguments))


def harness_command(arguments: list[str] | None = None) -> None:
    """Entry point of ``python -m harness``: a command is a function above and a line here."""
    app = _app()
    app.callback()(_beside_sweeps)
    app.command("convert")(convert_weights)
    app.command("validate")(validate)
    app.command("show")(show)
    app.command("status")(status)
    app.command("report")(report)
    app.command("archive")(archive)
    app.command("bench")(bench)
    app.command("segment")(segment)
    app.command("memory")(memory)
    app.command("attend")(attend)
    app.command("compare")(compare)
    app.command("situations")(situations)
    app.command("errors")(errors)
    sys.exit(_status_of(app, arguments))


def _beside_sweeps() -> None:
    """What goes with sweeps: trials, weights and result files."""


def _app() -> typer.Typer:
    return typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


def _status_of(app: typer.Typer, arguments: list[str] | None) -> int:
    """Run a command; errors that a person can mend become one line on standard error."""
    try:
        returned: Any = app(args=arguments, standalone_mode=False)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except InterruptedRunError as error:
        print(f"interrupted: {error}", file=sys.stderr)
        return INTERRUPTED
    except typer.Abort:  # the same from an older typer
        returned = INTERRUPTED
    except Exception as error:
        # typer's own usage errors carry their message and the exit status 2; anything else is a bug.
        if not hasattr(error, "format_message"):
            raise
        print(f"error: {error.format_message()}", file=sys.stderr)
        return 2
    if returned == INTERRUPTED:  # typer's own answer to Ctrl-C, without a word
        print("interrupted: run the same command to go on", file=sys.stderr)
    return returned if isinstance(returned, int) else 0
