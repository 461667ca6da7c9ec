"""Independent work side by side on a CPU: each worker runs whole frames, or whole windows, on few threads.

An operation that is split among threads waits for the slowest of them, and what cannot be split runs on one
thread; frames and windows that need nothing of each other wait for nobody (docs/performance.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TypeVar

import torch

MOST_WORKERS = 4
"""So many frames are in memory at once"""

Item = TypeVar("Item")
Result = TypeVar("Result")


class SideBySide:
    """Workers with even parts of so many threads (by default torch's own); they start when two are needed."""

    def __init__(self, threads: int | None = None) -> None:
        self._threads = threads or torch.get_num_threads()
        self.workers = min(self._threads, MOST_WORKERS)
        self._pool: ThreadPoolExecutor | None = None

    def map(self, work: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
        """The work on each item, without gradients; one alone gets all threads. Raises what it raises."""
        given = list(items)
        if self.workers == 1 or len(given) < 2:
            return [work(item) for item in given]
        if self._pool is None:
            self._pool = self._started()
        return list(self._pool.map(torch.inference_mode()(work), given))

    def _started(self) -> ThreadPoolExecutor:
        pool = ThreadPoolExecutor(self.workers, "side-by-side", _take, (self._threads // self.workers,))
        all_begun = Barrier(self.workers + 1)
        try:
            for _ in range(self.workers):
                pool.submit(all_begun.wait)
            all_begun.wait()
        except BaseException:  # nobody may wait for one that does not come
            all_begun.abort()
            raise
        # Threads that others start later take the number that was set last.
        torch.set_num_threads(self._threads)
        return pool


def _take(threads: int) -> None:
    """So many threads for this one."""
    torch.get_num_threads()  # at the first use in a thread torch takes the number that another one set last
    torch.set_num_threads(threads)
