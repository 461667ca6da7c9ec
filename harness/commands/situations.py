"""``python -m harness situations`` as people type it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer


def situations(
    data: Annotated[Path, typer.Option(help="A folder laid out like YouTube-VIS 2019 or 2021, or OVIS.")],
    files: Annotated[
        list[str] | None, typer.Argument(help="Result files to score, as name=results.json or results.json.")
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="This json of the folder, or its hold-out by name; by default valid.")
    ] = None,
    to_csv: Annotated[Path | None, typer.Option("--csv", help="Write the tags of every track.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one json object.")] = False,
    intervals: Annotated[
        bool, typer.Option("--intervals", help="95 % intervals, by resampling videos.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace the file that --csv names.")] = False,
) -> None:
    """How fast, hidden, look-alike, blurred, absent, changing each annotated track is; AP by it.

    docs/situations.md says how each is measured, and what an AP of a part of the tracks means.
    """
    from harness.named_files import named_files
    from harness.situations import listing
    from harness.situations.run import list_situations

    found = list_situations(data, split, named_files(files or [], bare=True), intervals, to_csv, force)
    print(listing.as_json(found) if as_json else listing.text(found))
    for name, each in found.scored.items():
        for note in each.notes:
            print(f"{name}: {note}", file=sys.stderr)
    if to_csv is not None and not as_json:
        print(f"written: {to_csv}")
