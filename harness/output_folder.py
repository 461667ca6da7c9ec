"""What ``--out`` and the like name: new, empty, or what an earlier run left and ``--force`` gives up.

Everything that can be refused is refused before the work, and nothing is given up before the work is done.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from model.errors import InputError


@contextmanager
def output_folder(
    out: Path, force: bool, left: Iterable[Path], sources: Iterable[Path]
) -> Iterator[Callable[[], None]]:
    """Make the folder; what is called before the first new file is written removes what an earlier run left.

    Nothing else in it is touched. A folder that was made here and is still empty at the end is removed again.

    Args:
        left: the files that a run writes, in the folder or below.
        sources: what is read, and therefore must not be among them; of a folder all that lies directly in it.

    Raises:
        InputError: a file, a folder with content and no ``--force``, one that cannot be written, or an
            input that would be replaced.
    """
    if out.exists() and not out.is_dir():
        raise InputError(f"--out: {out}: a file; allowed: a folder")
    files = list(left)
    made: list[Path] = []
    with written_in(out):
        if not force and out.is_dir() and any(out.iterdir()):
            raise InputError(
                f"--out: {out}: not empty; choose another folder, or --force to replace what an earlier run "
                "left"
            )
        source = first_replaced(files, sources)
        if source is not None:
            raise InputError(f"--out: {out}: {source} is among what would be replaced")
        for file in files:
            if file.is_dir() and not file.is_symlink():
                raise InputError(f"--out: {file}: a folder, where a file would be written")
        made = _make(out)
    try:
        with written_in(out):
            tempfile.TemporaryFile(dir=out).close()
        yield lambda: _remove(out, files)
    finally:
        for folder in made:
            with suppress(OSError):  # it has content, or somebody else removed it
                folder.rmdir()


def check_new_file(option: str, path: Path, force: bool, sources: Iterable[Path]) -> None:
    """Refuse a file that cannot be written, is there already without ``--force``, or is an input.

    Raises:
        InputError: one of these; the line opens with ``option``.
    """
    if not path.parent.is_dir():
        raise InputError(
            f"{option}: {path}: no folder {path.parent}; allowed: a file in a folder that is there"
        )
    if path.exists() and not path.is_file():
        raise InputError(f"{option}: {path}: no file; allowed: a new file")
    if first_replaced([path], sources) is not None:
        raise InputError(f"{option}: {path}: is read by this command; allowed: another file")
    if path.exists() and not force:
        raise InputError(f"{option}: {path}: is there already; allowed: a new file, or --force to replace it")
    try:
        tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as error:
        raise InputError(f"{option}: {path}: cannot be written ({error.strerror})") from None


def first_replaced(files: Iterable[Path], sources: Iterable[Path]) -> Path | None:
    """The first source that is one of the files, lies below one, or is the folder of one, however spelt."""
    named = {_real(source): source for source in reversed(list(sources))}
    above = {folder: source for real, source in named.items() for folder in real.parents}
    for file in files:
        real = _real(file)
        for found in (named.get(real), named.get(_real(file.parent)), above.get(real)):
            if found is not None:
                return found
    return None


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))  # unlike resolve, it says nothing of loops: reading does


def _make(out: Path) -> list[Path]:
    """The folders that were made, innermost first."""
    missing = []
    for folder in (out, *out.parents):
        if folder.exists():
            break
        missing.append(folder)
    out.mkdir(parents=True, exist_ok=True)
    return missing


def _remove(out: Path, files: Iterable[Path]) -> None:
    """Remove the files, and folders below ``out`` that are empty then."""
    with written_in(out):
        for file in files:
            if not file.is_symlink() and not file.exists():
                continue
            file.unlink(missing_ok=True)
            for folder in file.parents:
                if folder == out:
                    break
                with suppress(OSError):
                    folder.rmdir()


@contextmanager
def written_in(out: Path) -> Iterator[None]:
    """A full disk and the like, while the folder is written, are an :class:`InputError` of one line."""
    try:
        yield
    except OSError as error:
        # Of a draft the folder is what the user named.
        named = error.filename if error.filename and Path(error.filename).parent != out else out
        raise InputError(f"--out: {named}: cannot be read or written ({error.strerror or error})") from None
