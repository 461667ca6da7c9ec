"""One numeric thread a test process: the suite runs several processes at a time, and results repeat."""

import os

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")

LONGEST = ("test_fault_injection", "test_road", "test_slurm", "test_show", "test_loggers", "test_cost_road")
"""Files that take minutes begin first, so that no process is left alone with one of them at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow files first, each as a whole: its tests share what they have made."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}

    def rank(item: pytest.Item) -> tuple[int, bool]:
        name = item.path.stem
        return (LONGEST.index(name) if name in LONGEST else len(LONGEST), item.path not in slow)

    items.sort(key=rank)
