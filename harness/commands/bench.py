"""``python -m harness bench`` as people type it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer


def bench(
    weights: Annotated[Path | None, typer.Option(help="Trained weights; by default untrained ones.")] = None,
    data: Annotated[Path | None, typer.Option(help="Videos to time on; by default embedded ones.")] = None,
    split: Annotated[str | None, typer.Option(help="Split of --data; by default valid.")] = None,
    encoder: Annotated[str, typer.Option(help="Without --weights: no_comm, full_thw, ...")] = "ifc",
    backbone: Annotated[str, typer.Option(help="Without --weights: resnet50, tiny, ...")] = "resnet50",
    size: Annotated[str, typer.Option(help="Frames; of --data only the short side counts.")] = "360x640",
    length: Annotated[int, typer.Option(min=1, help="Frames of an embedded video.")] = 36,
    videos: Annotated[int, typer.Option(min=1, help="How many videos.")] = 1,
    window: Annotated[int, typer.Option(min=1, help="T, frames of a window.")] = 5,
    stride: Annotated[int, typer.Option(min=1, help="S, frames between windows.")] = 1,
    kept: Annotated[int, typer.Option(min=1, help="Queries that untrained weights keep.")] = 10,
    region: Annotated[str, typer.Option(help="What is timed, with commas.")] = "model,video,e2e",
    passes: Annotated[int, typer.Option(min=1, help="Timed passes, at least.")] = 5,
    min_seconds: Annotated[float, typer.Option(min=0, help="Seconds of timed passes, at least.")] = 10.0,
    against: Annotated[str | None, typer.Option(help="published-ops: side by side with these.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ... or auto.")] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; by default torch's own.")] = None,
    precision: Annotated[str, typer.Option(help="float32, or autocast to bfloat16 or float16.")] = "float32",
    compiled: Annotated[bool, typer.Option("--compile", help="torch.compile; see warm-up.")] = False,
    cuda_graphs: Annotated[bool, typer.Option("--cuda-graphs", help="Compiled and replayed.")] = False,
    memory: Annotated[str, typer.Option(help="Who keeps freed memory: ours, both or none.")] = "ours",
    to_json: Annotated[Path | None, typer.Option("--json", help="Every pass, as json.")] = None,
) -> None:
    """Frames per second by the protocol of docs/fps.md, in fresh processes that take turns."""
    typed = dict(locals())
    from harness.bench import command
    from model.errors import InputError

    if to_json is not None:
        try:
            to_json.open("a", encoding="utf-8").close()  # before minutes of timing, not after them
        except OSError as error:
            raise InputError(f"--json: {to_json}: cannot be written ({error.strerror})") from None

    found = command.bench(
        command.BenchOptions(**{name: value for name, value in typed.items() if name != "to_json"}),
        lambda line: print(line, file=sys.stderr),
    )
    print(command.bench_table(found), "", *command.remarks(found), sep="\n")
    if to_json is not None:
        to_json.write_text(command.bench_json(found), encoding="utf-8")
