"""``python -m harness attend`` as people type it."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.commands.inference import inference_settings
from harness.commands.interruption import InterruptedRunError, sigterm_as_ctrl_c, what_is_left
from harness.commands.numbers import how_many_or_which, which
from harness.commands.progress import Progress

if TYPE_CHECKING:
    from harness.attend.run import Attended

Source = Annotated[Path | None, typer.Argument(help="A video file, or a folder of images; else --data.")]
Weights = Annotated[Path, typer.Option(help="The weights of a model: a training's, or published ones.")]
Data = Annotated[Path | None, typer.Option(help="A data folder, whose masks are the foreground.")]
Split = Annotated[str | None, typer.Option(help="With --data: SPLIT.json of the folder; by default valid.")]
Video = Annotated[str | None, typer.Option(help="With --data: the name or id of a video.")]
Out = Annotated[Path | None, typer.Option(help="A new folder; by default attention/ and the video's name.")]
Window = Annotated[int, typer.Option(help="T, frames of a clip.")]
ShortSide = Annotated[int, typer.Option(help="Frames go into the model with a shorter side of this.")]
Frames = Annotated[str, typer.Option(help="So many, evenly spaced; or which, such as 0,4,9.")]
Layer = Annotated[int | None, typer.Option(help="Draw this layer, from 0; by default each.")]
Head = Annotated[int | None, typer.Option(help="Of this head, from 0; by default the mean of all.")]
Tokens = Annotated[str | None, typer.Option(help="Draw these, such as 2,5; by default all.")]
Best = Annotated[bool, typer.Option("--best", help="Draw the most foreground and most background token.")]
Score = Annotated[
    float, typer.Option(min=0, max=1, help="Predicted tracks of at least this probability are foreground.")
]
Film = Annotated[
    bool | None, typer.Option("--mp4/--no-mp4", help="Write the film; by default where PyAV is installed.")
]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ... or auto.")]
Force = Annotated[bool, typer.Option("--force", help="Replace what an earlier run left in the folder.")]


def attend(
    weights: Weights,
    source: Source = None,
    data: Data = None,
    split: Split = None,
    video: Video = None,
    out: Out = None,
    window: Window = 5,
    short_side: ShortSide = 360,
    frames: Frames = "8",
    layer: Layer = None,
    head: Head = None,
    tokens: Tokens = None,
    best: Best = False,
    score: Score = 0.3,
    mp4: Film = None,
    device: Device = "auto",
    force: Force = False,
) -> None:
    """Where memory tokens look in a video: a table, attention.json and .csv, strips, and a film.

    Tokens, layers, heads and frames are counted from 0. Exit status 1 when there is not enough memory.
    """
    inference = inference_settings(window=window, short_side=short_side)
    name = video if video is not None else source.resolve().stem if source is not None else ""

    from harness.attend.run import Request, attend  # late: torch takes seconds to import
    from harness.segment import NoMemoryError

    request = Request(
        weights=weights,
        out=out if out is not None else Path("attention", re.sub(r"[^\w.-]", "_", name) or "video"),
        source=source,
        data=data,
        split=split,
        video=video,
        inference=inference,
        frames=how_many_or_which("--frames", frames),
        layer=layer,
        head=head,
        tokens=None if tokens is None else which("--tokens", tokens),
        best=best,
        score=score,
        film=mp4,
        device=device,
        force=force,
    )
    try:
        with sigterm_as_ctrl_c():
            done = attend(request, Progress("looked at"))
    except NoMemoryError as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        raise InterruptedRunError(what_is_left(request.out)) from None
    print(*done.told, sep="\n")
    print()
    print(*_table(done), sep="\n")
    print()
    print(*(f"written: {file}" for file in done.files), sep="\n")


def _table(done: Attended) -> list[str]:
    """Layer by layer, the token that looks most at the foreground first."""
    lines = ["layer  token  on frames  on foreground    area   lift"]
    for layer, apart in enumerate(done.apart):
        ranked = sorted(
            (each for each in done.numbers if each.layer == layer), key=lambda each: -each.on_foreground
        )
        for place, each in enumerate(ranked):
            lift = "    -" if each.lift is None else f"{each.lift:5.2f}"
            line = (
                f"{each.layer:5d}  {each.token:5d}  {each.to_frame:9.1%}  {each.on_foreground:13.1%}  "
                f"{each.area:6.1%}  {lift}"
            )
            if len(ranked) > 1 and each.lift is not None:
                line += {0: "  most foreground", len(ranked) - 1: "  most background"}.get(place, "")
            lines.append(line)
        if apart is not None:
            lines.append(
                f"{layer:5d}  tokens are {apart:.2f} apart (0: all look alike, 1: at no common cell)"
            )
    return lines
