"""How the C library hands out large blocks while a process trains or segments on a CPU.

glibc maps each block above some size (at most 32 MiB, by its own rule) anew from the kernel, and gives it
back when it is freed. The maps of a training step, and of frames, are such blocks: every operation then waits
for the kernel to fill its pages with zeros. Told to keep them, the library hands the same pages out again.

It changes no number, only where memory comes from. What it gives is in ``docs/performance.md``.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

# From glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
# Setting a threshold ends glibc's own adjustment; large blocks had brought it to these values.
_LARGEST_MAPPED, _TRIMMED = 32 * 2**20, 64 * 2**20
_LARGEST = 2**31 - 1


@contextmanager
def freed_memory_kept() -> Iterator[bool]:
    """Freed memory stays with the process meanwhile, and goes back to the system at the end.

    Yields whether the C library can do it: glibc can; others are left as they are.
    """
    library = ctypes.CDLL(None)
    can = hasattr(library, "mallopt") and hasattr(library, "gnu_get_libc_version")
    if can:
        library.mallopt(_M_MMAP_THRESHOLD, _LARGEST)
        library.mallopt(_M_TRIM_THRESHOLD, _LARGEST)
        library.mallopt(_M_ARENA_MAX, 1)  # a thread's own cannot hold large blocks
    try:
        yield can
    finally:
        if can:
            library.mallopt(_M_MMAP_THRESHOLD, _LARGEST_MAPPED)
            library.mallopt(_M_TRIM_THRESHOLD, _TRIMMED)
            library.mallopt(_M_ARENA_MAX, 0)  # glibc's own limit
            library.malloc_trim(ctypes.c_size_t(0))
