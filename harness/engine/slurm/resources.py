"""``--resources`` for Slurm: ``partition=gpu,time=1440,mem=64GB`` as what ``sbatch`` is asked for."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from harness.engine.plan import Options
from model.errors import InputError

NUMBERS = (
    "time",
    "gpus_per_node",
    "cpus_per_task",
    "cpus_per_gpu",
    "array_parallelism",
    "signal_delay_s",
    "max_num_timeout",
)
MEMORY = ("mem", "mem_per_cpu", "mem_per_gpu")
LISTS = ("partition", "nodelist", "exclude", "gres", "mail_type")
"""Their values may hold commas themselves"""
TEXTS = ("account", "qos", "constraint", "comment", "reservation", "mail_user", *LISTS)
EXCLUSIVE = ("true", "time")
KEYS = (*NUMBERS, *MEMORY, *TEXTS, "exclusive")
DAY_MINUTES = 1440
TIMEOUTS = 20
"""Jobs of one trial that may run into their time limit, each going on from the last one's checkpoint"""


@dataclass(frozen=True)
class Resources:
    """What every job of a sweep asks for."""

    values: dict[str, Any] = field(default_factory=dict)
    """What the person has said, typed, and what follows from the other options"""

    @property
    def timeouts(self) -> int:
        """Time limits that a trial may run into."""
        return int(self.values.get("max_num_timeout", TIMEOUTS))

    def parameters(self, name: str, alone: bool) -> dict[str, Any]:
        """Parameters of ``submitit`` for one array of jobs.

        Args:
            alone: the jobs measure time.
        """
        values = {
            key: value for key, value in self.values.items() if key not in ("max_num_timeout", "exclusive")
        }
        as_they_are = {
            key.replace("_", "-"): values.pop(key) for key in (*MEMORY, "reservation") if key in values
        }
        exclusive = self.values.get("exclusive")
        if exclusive == "true" or (exclusive == "time" and alone):
            values["exclusive"] = True
        values = {"time": DAY_MINUTES, "nodes": 1, "ntasks_per_node": 1, "job_name": name, **values}
        return {**values, "additional_parameters": {"requeue": True, **as_they_are}}


def resources_of(options: Options, threads: int | None) -> Resources:
    """Read ``--resources``; one task a job, and what its processes need where nothing is said.

    Args:
        threads: of one training process, None where the recipe leaves it open.

    Raises:
        InputError: an unknown key, a value that it cannot have, too few GPUs for ``--processes``.
    """
    values = {key: _value(key, text) for key, text in _pairs(options.resources or "").items()}
    if ":" in options.device:
        raise InputError(f"--device: {options.device!r}: Slurm chooses the GPU; allowed: auto, cpu, cuda")
    if options.device == "cuda" and "gres" not in values:
        values.setdefault("gpus_per_node", options.processes)
    gpus = int(values.get("gpus_per_node", options.processes))
    if gpus < options.processes:
        raise InputError(
            f"--resources: gpus_per_node: {gpus}: --processes {options.processes} needs as many or more"
        )
    if threads is not None and "cpus_per_gpu" not in values:
        values.setdefault("cpus_per_task", threads * options.processes)
    if options.workers is not None:
        values.setdefault("array_parallelism", options.workers)
    return Resources(values)


def _pairs(text: str) -> dict[str, str]:
    """Key -> value; a part without ``=`` goes on with the list before it."""
    found: dict[str, str] = {}
    last = ""
    for part in text.split(",") if text.strip() else ():
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals and last in LISTS and key:
            found[last] += f",{key}"
            continue
        if not equals:
            raise InputError(f"--resources: {part!r}: expected key=value, such as partition=gpu,time=1440")
        if key not in KEYS:
            raise InputError(
                f"--resources: {key!r}: unknown to slurm here; allowed: {', '.join(sorted(KEYS))}"
            )
        if key in found:
            raise InputError(f"--resources: {key}: given twice")
        found[key], last = value, key
    return found


def _value(key: str, text: str) -> int | str:
    if key in NUMBERS:
        if re.fullmatch(r"[1-9]\d*", text) is None:
            unit = {"time": " of minutes", "signal_delay_s": " of seconds"}.get(key, "")
            raise InputError(f"--resources: {key}: {text!r}: expected a whole number{unit}, 1 or more")
        return int(text)
    if key in MEMORY and re.fullmatch(r"\d+[KMGT]B?", text) is None:
        raise InputError(f"--resources: {key}: {text!r}: expected an amount such as 64GB or 4000MB")
    if key == "exclusive" and text not in EXCLUSIVE:
        raise InputError(
            f"--resources: exclusive: {text!r}: allowed: true (all jobs), time (those that measure speed)"
        )
    if not text:
        raise InputError(f"--resources: {key}: '': expected a value")
    return text
