"""Whether the kernel kills for want of memory: counters before and after tell, the signal alone does not."""

from __future__ import annotations

from pathlib import Path

GROUPS = Path("/sys/fs/cgroup")
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
    try:
        lines = Path(f"/proc/{pid}/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            found.append(GROUPS / path.lstrip("/") / "memory.events")
        elif "memory" in controllers.split(","):
            found.append(GROUPS / "memory" / path.lstrip("/") / "memory.oom_control")
    return found


def _count(file: Path) -> int | None:
    """The ``oom_kill`` line; None where there is none."""
    try:
        lines = file.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), None)
