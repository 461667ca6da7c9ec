"""Memory of this process and its device: the peak, and which errors mean that there was not enough."""

from __future__ import annotations

import errno
import sys
from pathlib import Path

import torch

NO_MEMORY = ("out of memory", "can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED")
"""What torch and the libraries below it say, as plain ``RuntimeError``, when there is no memory left"""


def reset_peak_memory(device: torch.device) -> None:
    """Peaks are counted anew from here."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif sys.platform == "linux":
        # 5 resets the high-water mark of the resident set, so that each cell has a peak of its own.
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_memory(device: torch.device) -> tuple[float | None, str]:
    """GB of 1e9 bytes since the last reset, and ``cuda allocated``, ``process resident`` or ``unknown``."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9, "cuda allocated"
    if sys.platform == "linux":
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e9, "process resident"
    return None, "unknown"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the error says that the device or the host has no memory left."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, RuntimeError) and any(text in str(error) for text in NO_MEMORY)
