"""Whether the kernel kills for want of memory: counters before and after tell, the signal alone does not."""

from __future__ import annotations

from pathlib import Path

from harness.control_groups import memory_groups

VMSTAT = Path("/proc/vmstat")


class KillCounter:
    """Out-of-memory kills around one process, counted from now."""

    def __init__(self, pid: int) -> None:
        self._files = [*_group_files(pid), VMSTAT]
        self._before = self._counts()

    def has_risen(self) -> bool:
        """Whether the kernel has killed since, in the process's group or, without one, on the machine."""
        after = self._counts()
        for file in self._files:
            if file in self._before and file in after:
                return after[file] > self._before[file]
        return False

    def _counts(self) -> dict[Path, int]:
        return {file: count for file in self._files if (count := _count(file)) is not None}


def _group_files(pid: int) -> list[Path]:
    """Where the process's control group counts kills (version 2, then 1)."""
    names = {2: "memory.events", 1: "memory.oom_control"}
    return [folder / names[version] for folder, version in memory_groups(pid)]


def _count(file: Path) -> int | None:
    """The ``oom_kill`` line; None where there is none."""
    try:
        lines = file.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), None)
