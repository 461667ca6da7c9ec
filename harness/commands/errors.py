"""``python -m harness errors`` as people type it."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from harness.commands.interruption import InterruptedRunError, sigterm_as_ctrl_c, what_is_left


def errors(
    files: Annotated[
        list[str],
        typer.Argument(help="NAME=FILE: a method and its result file; one name again and again: its seeds."),
    ],
    data: Annotated[Path, typer.Option(help="The data folder, or an annotation json.")],
    split: Annotated[
        str | None, typer.Option(help="The json of the folder, or its hold-out; by default valid.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="A new or empty folder for errors.csv, errors.tex, error_kinds.pdf and .png."),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace what an earlier run left in the folder.")
    ] = False,
) -> None:
    """Which errors cost AP: class, location, class and location, duplicates, identity switches ...

    Any author's result files will do; what they name differently is mapped where that is certain.
    docs/errors.md says what each kind is, and what its points of AP mean.
    """
    from harness.error_tables import WRITTEN, find_all, runs_of, write_all  # late: scipy takes a second
    from harness.output_folder import output_folder
    from harness.report.escape import not_in_latex

    runs = runs_of(files)
    try:
        with ExitStack() as ending:
            clear = None
            if out is not None:  # told before the work, not after it
                ending.enter_context(sigterm_as_ctrl_c())
                read = [path for paths in runs.values() for path in paths]
                read += [data] if data.is_file() else []  # of a folder json files alone are read
                left = [out / name for name in WRITTEN]
                clear = ending.enter_context(output_folder(out, force, left, read))
            found = find_all(runs, data, split)
            for name, path, note in found.notes:
                print(f"{name}: {path}: {note}", file=sys.stderr)
            print(found.text())
            if out is not None and clear is not None:
                if shown := not_in_latex(each.name for each in found.methods):
                    print(f"errors.tex: {shown}", file=sys.stderr)
                print(*(f"written: {path}" for path in write_all(found, out, clear)), sep="\n")
    except KeyboardInterrupt:
        raise InterruptedRunError("nothing was written" if out is None else what_is_left(out)) from None
