"""The folder that ``--out`` names: new, empty, or one that an earlier run filled and ``--force`` gives up."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from model.errors import InputError


def clear_output(out: Path, force: bool, left: Iterable[Path], source: Path | None = None) -> None:
    """Make the folder, without what an earlier run left there; nothing else in it is touched.

    Args:
        left: the files that a run writes; those that are there are removed.
        source: what is read, and therefore must not be among them, nor above or around them.

    Raises:
        InputError: a file, a folder with content and no ``--force``, or one that cannot be written.
    """
    if out.exists() and not out.is_dir():
        raise InputError(f"--out: {out}: a file; allowed: a folder")
    files = list(left)
    try:
        if not force and out.is_dir() and any(out.iterdir()):
            raise InputError(
                f"--out: {out}: not empty; choose another folder, or --force to replace what an earlier run "
                "left"
            )
        if source is not None and _touches(files, source.resolve()):
            raise InputError(f"--out: {out}: {source} is among what would be replaced")
        for file in files:
            file.unlink(missing_ok=True)
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        named = error.filename or out
        raise InputError(f"{named}: cannot be read or written ({error.strerror or error})") from None


def _touches(files: Iterable[Path], source: Path) -> bool:
    within = (source, *source.parents)
    return any(file.resolve() in within or file.parent.resolve() == source for file in files)
