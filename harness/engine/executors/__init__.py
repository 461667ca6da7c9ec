"""Where trials run: on this machine, as Slurm jobs, as Ray tasks. The same sweep, the same results."""

from __future__ import annotations

import importlib
from typing import Protocol, cast

from harness.engine.plan import Options
from harness.engine.progress import TrialProgress
from harness.engine.work import Work


class Executor(Protocol):
    """Runs every stage of every chosen trial that is left; comes back when nothing more can be done."""

    def run(self, work: Work, progress: TrialProgress) -> None: ...


def make_executor(options: Options) -> Executor:
    """The executor that the options name; only then are its packages imported.

    Raises :class:`InputError` when a package or the cluster is missing.
    """
    module = importlib.import_module(f"harness.engine.executors.{options.executor}")
    return cast(Executor, module.make(options))
