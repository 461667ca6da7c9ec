"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A draft beside ``path`` to write to: it takes the place of ``path`` when the block ends well.

    When the block fails the draft is removed and ``path`` is as it was. A reader never meets half a file,
    not even after a power cut: the bytes are on the disk before the name is.
    The file is as open to others as the umask lets a new file be.
    """
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        draft.touch()
        mode = draft.stat().st_mode
        yield draft
        if draft.stat().st_mode != mode:  # some writers put a private temporary file in its place
            draft.chmod(stat.S_IMODE(mode))
        with draft.open("rb") as written:
            os.fsync(written.fileno())
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)
