"""``python -m harness compare`` as people type it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from harness.commands.interruption import InterruptedRunError, sigterm_as_ctrl_c, what_is_left
from harness.commands.numbers import how_many_or_which
from model.errors import InputError

Methods = Annotated[list[str], typer.Argument(help="NAME=FILE: a method and its YouTube-VIS result file.")]
Data = Annotated[Path, typer.Option(help="The data folder; with --score-only also an annotation json.")]
Split = Annotated[str | None, typer.Option(help="The json of the folder, or its hold-out; by default valid.")]
Out = Annotated[Path, typer.Option(help="A new or empty folder.")]
Videos = Annotated[str | None, typer.Option(help="Names or ids of the videos to draw, with commas.")]
Count = Annotated[int | None, typer.Option(min=1, help="Draw so many videos.  [default: 20]")]
Frames = Annotated[
    str, typer.Option(help="Frames of a strip: how many, such as 8, or which, from 0: 3,7,9 (one: 3,).")
]
By = Annotated[str, typer.Option(help="Choose videos and frames by disagreement or by name.")]
Threshold = Annotated[float, typer.Option(help="Draw tracks with at least this score.")]
Tracks = Annotated[int, typer.Option(min=1, help="Draw so many tracks of a method in a video, at most.")]
MakeVideo = Annotated[
    bool | None,
    typer.Option("--video/--no-video", help="Write a mp4 of each; by default where PyAV is installed."),
]
ScoreOnly = Annotated[bool, typer.Option("--score-only", help="Print and write the tables alone.")]
Force = Annotated[bool, typer.Option("--force", help="Replace what an earlier run left in the folder.")]

BY = ("disagreement", "name")


def compare(
    methods: Methods,
    data: Data,
    split: Split = None,
    out: Out = Path("compared"),
    videos: Videos = None,
    count: Count = None,
    frames: Frames = "8",
    by: By = "disagreement",
    threshold: Threshold = 0.3,
    tracks: Tracks = 10,
    video: MakeVideo = None,
    score_only: ScoreOnly = False,
    force: Force = False,
) -> None:
    """Score METHODS side by side, and draw them: strips, videos, and a page with a slider (index.html).

    Any author's result files will do; what they name differently is mapped where that is certain.
    """
    if by not in BY:
        raise InputError(f"--by {by}: allowed: {', '.join(BY)}")
    if videos is not None and count is not None:
        raise InputError("--videos and --count: allowed: one of them")
    names = () if videos is None else tuple(name.strip() for name in videos.split(",") if name.strip())
    if videos is not None and not names:
        raise InputError("--videos: no name; allowed: names with commas between them")

    from harness.compare import run  # late: scipy and pycocotools take a second to import

    request = run.Request(
        data=data,
        split=split,
        methods=tuple(methods),
        out=out,
        videos=names,
        count=count or 20,
        frames=how_many_or_which("--frames", frames),
        by="name" if by == "name" else "disagreement",
        threshold=threshold,
        most=tracks,
        video=video,
        force=force,
    )
    try:
        with sigterm_as_ctrl_c():
            done = (run.score_only if score_only else run.compare)(request, _say)
    except KeyboardInterrupt:
        raise InterruptedRunError(what_is_left(out)) from None
    if done.table is None:
        print("no annotations: pictures only, no scores")
    else:
        print(*done.table.texts(), done.table.caption, sep="\n\n")
    print(*(f"written: {file}" for file in done.files), sep="\n")


def _say(line: str) -> None:
    print(line, file=sys.stderr)
