"""A results folder with the rows of real sweeps and made-up numbers: all that a report is made from."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from harness.grid import Grid
from harness.row_schema import SCHEMA_VERSION, Row
from harness.store import write_row
from harness.sweep_file import load_scale, load_sweep

SWEEPS = Path(__file__).resolve().parent.parent / "sweeps"
Change = Callable[[Row], Row | None]
"""Another row in the place of one, or none at all"""


def made_rows(table: str, seeds: Iterable[int] = range(5), scale: str = "tiny") -> list[Row]:
    """A finished row for each point and seed; numbers rise along the grid and differ between seeds."""
    sweep, amount = load_sweep(SWEEPS / f"{table}.yaml"), load_scale(scale)
    counts = "ap" not in sweep.measure
    rows: list[Row] = []
    for number, point in enumerate(Grid(sweep, amount).points()):
        training = "-".join(str(value) for key, value in point.varied if not key.startswith("inference"))
        for seed in (0,) if counts else seeds:
            level = 30.0 + 0.7 * number + 1.3 * ((seed * 7 + number) % 5)
            measured: dict[str, Any] = (
                {"flops_g": level} if counts else dict.fromkeys(("AP", "AP50", "AP75", "AR1", "AR10"), level)
            )
            if "speed" in sweep.measure:
                measured |= {
                    "fps": 2 * level,
                    "peak_memory_gb": 0.5 + number / 50,
                    "fps_passes": [2 * level] * 5,
                }
            rows.append(
                {
                    "schema_version": SCHEMA_VERSION,
                    "sweep": sweep.name,
                    "scale": scale,
                    "trial": f"{table}{training}{seed}".replace("_", ""),
                    "cell": f"{table}{number:03d}{seed}",
                    "status": "done",
                    "seed": seed,
                    **dict(point.varied),
                    **measured,
                    "config": point.config.model_dump_json(),
                    "data_name": "synthetic-1a2b",
                    "data_kind": "synthetic",
                    "data_description": "embedded synthetic videos",
                    "data_checksum": "9f8e",
                    "split": "valid",
                    "git_commit": "0123456789abcdef0123456789abcdef01234567",
                    "git_dirty": False,
                    "code_version": "a-b",
                    "hardware": "one machine",
                    "device": "cpu",
                    "threads": 1,
                    "train_processes": 1,
                    "peak_memory_kind": "process resident",
                    "finished": "2026-01-02T03:04:05+00:00",
                }
            )
    return rows


def make_results(
    folder: Path,
    *tables: str,
    seeds: Iterable[int] = range(5),
    scale: str = "tiny",
    change: Change | None = None,
) -> Path:
    """A results folder with these sweeps' rows, one file each, and losses of their trainings."""
    for table in tables:
        for made in made_rows(table, list(seeds), scale):
            row = made if change is None else change(made)
            if row is None:
                continue
            write_row(folder / table / scale, row)
            if table != "table1":
                _write_losses(folder / "trials" / row["trial"], row["seed"])
    return folder


def _write_losses(trial: Path, seed: int) -> None:
    trial.mkdir(parents=True, exist_ok=True)
    with (trial / "losses.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["step", "total", "seconds"])
        writer.writerows((step, 9.0 / step + seed / 10, 0.1) for step in range(1, 41))
