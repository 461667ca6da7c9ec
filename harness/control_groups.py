"""Linux control groups: which limit the memory of a process, and how much it may have."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

GROUPS = Path("/sys/fs/cgroup")


def memory_groups(pid: int | str) -> list[tuple[Path, int]]:
    """Folders of the groups that hold a process's memory, each with its version: 2, then 1.

    Empty where the system has no control groups, or the process is gone.
    """
    try:
        lines = Path(f"/proc/{pid}/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            found.append((GROUPS / path.lstrip("/"), 2))
        elif "memory" in controllers.split(","):
            found.append((GROUPS / "memory" / path.lstrip("/"), 1))
    return found


def memory_limit() -> int | None:
    """Bytes that this process may have at most: the machine's, or those of a group around it if less.

    None where the system tells neither.
    """
    found = []
    with contextlib.suppress(AttributeError, OSError, ValueError):
        found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    for folder, version in memory_groups("self"):
        name = "memory.max" if version == 2 else "memory.limit_in_bytes"
        # A group has no more than those around it. In a container the path may name a folder of the host's:
        # then only the outermost one is there, and it is the container's.
        for group in (folder, *folder.parents):
            if not group.is_relative_to(GROUPS):
                break
            limit = _number(group / name)
            if limit is not None:
                found.append(limit)
    return min((limit for limit in found if limit > 0), default=None)


def _number(file: Path) -> int | None:
    """None where there is no file, or no limit: ``max``."""
    try:
        text = file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None
    return int(text) if text.isdigit() else None
