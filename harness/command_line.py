"""The commands as people type them: arguments in, exit status out.

Exit status: 0 done (of a sweep: every cell has its number); 1 a trial failed or a cell is missing; 2 the
input has to be mended (one line says what); 130 interrupted.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

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
ReportOnly = Annotated[bool, typer.Option("--report-only", help="Tables and figures of the rows there are.")]
Retry = Annotated[bool, typer.Option("--retry", help="Run failed trials again.")]
StepSeconds = Annotated[
    float | None, typer.Option(help="With --dry-run: seconds of a training step, for the estimate.")
]
EvaluationSeconds = Annotated[
    float | None, typer.Option(help="With --dry-run: seconds of an evaluated cell, for the estimate.")
]
Probe = Annotated[
    bool, typer.Option("--probe", help="With --dry-run: time some steps of what is left, on this machine.")
]
Source = Annotated[Path, typer.Argument(help="A weights file of any layout that load_weights reads.")]
Target = Annotated[Path, typer.Argument(help="Own: .safetensors; published: .pth; detectron2: .pkl or .pth.")]
TargetLayout = Annotated[
    str | None,
    typer.Option("--layout", help="own, published or detectron2; not needed for a .safetensors file."),
]
Force = Annotated[bool, typer.Option("--force", help="Replace the target if it exists.")]


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
    retry: Retry = False,
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

    console = Console(highlight=False, soft_wrap=True)
    costs = CostOptions(step_seconds, evaluation_seconds, probe)
    costs.check(dry_run)
    options = Options(sweep, scale, results, reports, data, split, weights, device, workers, retry)
    plan = make_plan(options, lacking=dry_run)
    if dry_run:
        from harness.engine.preview import preview
        from harness.engine.preview_cost import this_machine
        from harness.engine.run import cores, default_workers
        from harness.engine.run import device as device_of

        machine = this_machine(device_of(device), cores(), workers or default_workers(plan))
        preview(plan, console, costs, machine)
        return
    from harness.engine.run import Runner
    from harness.report.sweep_report import report_plan

    runner = Runner(plan, console)
    complete = runner.complete() if report_only else runner.run()
    report_plan(plan, console, anew=report_only)
    if not complete:
        raise typer.Exit(1)


def convert_weights(
    source: Source, target: Target, layout: TargetLayout = None, force: Force = False
) -> None:
    """Turn a weights file into one of another layout; the values stay the same, bit for bit.

    Read: our own files and training checkpoints, published IFC checkpoints, detectron2 backbones (its own
    and MSRA's caffe2 pickles), torchvision ResNets. The layout detectron2 holds the backbone alone.
    """
    from model.checkpoint import listed
    from model.convert import convert

    done = convert(source, target, layout, force)
    backbone = f"backbone for {done.pixels} pixels" if done.pixels else "pixels of the backbone not known"
    left = f"; {len(done.left_out)} entries left out: {listed(done.left_out)}" if done.left_out else ""
    print(f"{target}: {done.entries} entries, {backbone}{left}")


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
    sys.exit(_status_of(app, arguments))


def _beside_sweeps() -> None:
    """What goes with sweeps: weights and result files."""


def _app() -> typer.Typer:
    return typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


def _status_of(app: typer.Typer, arguments: list[str] | None) -> int:
    """Run a command; errors that a person can mend become one line on standard error."""
    try:
        returned: Any = app(args=arguments, standalone_mode=False)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
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
