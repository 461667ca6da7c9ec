"""``python -m harness segment`` as people type it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from harness.commands.inference import inference_settings
from harness.commands.interruption import InterruptedRunError, sigterm_as_ctrl_c
from harness.commands.progress import Progress

Source = Annotated[Path, typer.Argument(help="A video file, or a folder of images.")]
Weights = Annotated[Path, typer.Option(help="The weights of a model: a training's, or published ones.")]
Out = Annotated[Path | None, typer.Option(help="A new folder; by default segmented/ and the source's name.")]
Window = Annotated[int, typer.Option(help="T, frames of a clip.")]
Stride = Annotated[int, typer.Option(help="S, frames between the starts of neighbouring windows.")]
ShortSide = Annotated[int, typer.Option(help="Frames go into the model with a shorter side of this.")]
Score = Annotated[float, typer.Option(help="Classes with a higher probability give a result each.")]
Overlay = Annotated[bool, typer.Option("--overlay/--no-overlay", help="Paint tracks over the frames.")]
OverlayScore = Annotated[
    float, typer.Option(min=0, max=1, help="Paint tracks whose best class has at least this probability.")
]
Categories = Annotated[
    Path | None, typer.Option(help="An annotation json, for ids and names of the classes: valid.json.")
]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ... or auto.")]
Force = Annotated[bool, typer.Option("--force", help="Replace what an earlier run left in the folder.")]


def segment(
    source: Source,
    weights: Weights,
    out: Out = None,
    window: Window = 5,
    stride: Stride = 1,
    short_side: ShortSide = 360,
    score: Score = 0.01,
    overlay: Overlay = True,
    overlay_score: OverlayScore = 0.3,
    categories: Categories = None,
    device: Device = "auto",
    force: Force = False,
) -> None:
    """Find, segment and track objects in SOURCE; writes frames.jsonl, results.json and overlays.

    Frames appear in frames.jsonl as soon as they are final. Exit status 1 when there is not enough memory.
    """
    inference = inference_settings(window=window, stride=stride, short_side=short_side, score_threshold=score)
    folder = out if out is not None else Path("segmented", source.resolve().stem)

    from harness.segment import NoMemoryError, Request, segment  # late: torch takes seconds to import

    request = Request(source, weights, folder, inference, device, overlay, overlay_score, categories, force)
    progress = Progress("final")
    try:
        with sigterm_as_ctrl_c():
            done = segment(request, progress)
    except NoMemoryError as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        raise InterruptedRunError(f"{folder} holds the {progress.done} frames that were final") from None
    print(f"{done.frames} frames, {done.tracks} tracks, {done.results} results")
    print(*(f"written: {file}" for file in done.files), sep="\n")
