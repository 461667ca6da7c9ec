"""``python -m harness errors`` as people type it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer


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
        Path | None, typer.Option(help="Write errors.csv, errors.tex, error_kinds.pdf and .png there.")
    ] = None,
) -> None:
    """Which errors cost AP: class, location, class and location, duplicates, identity switches ...

    Any author's result files will do; what they name differently is mapped where that is certain.
    docs/errors.md says what each kind is, and what its points of AP mean.
    """
    from harness.error_tables import find_all, write_all  # late: scipy and pycocotools take a second
    from harness.report.escape import not_in_latex

    found = find_all(files, data, split)
    for name, path, note in found.notes:
        print(f"{name}: {path}: {note}", file=sys.stderr)
    print(found.text())
    if out is not None:
        if shown := not_in_latex(each.name for each in found.methods):
            print(f"errors.tex: {shown}", file=sys.stderr)
        for path in write_all(found, out):
            print(f"written: {path}")
