"""Measure the whole road against its targets: seconds, and whether models learn.

``python -m benchmarks.road`` runs the sweep of Table 3(a) at the scales ``sanity`` and ``tiny`` in a new
results folder (about a quarter of an hour on two cores), runs the finished one again, evaluates the same
models untrained, and prints every figure beside its target. ``--finished RESULTS`` judges a sweep that
is there.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
import yaml
from tabulate import tabulate

from harness.sweep_file import SCALES

SWEEP = "sweeps/table3a.yaml"
PROJECT = Path(__file__).resolve().parent.parent
SANITY_S, TINY_S = 240, 900
TINY_AP50, UNTRAINED_AP50, SANITY_AP50 = 25.0, 2.0, 10.0
AGAIN_S, LIGHT_S = 5.0, 2.0

Line = tuple[str, str, str, str]
"""What, measured, target, verdict"""


def main() -> int:
    """Print the table; exit status 1 when a target is missed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--finished", type=Path, help="a results folder: judge its AP50 only, run nothing")
    parser.add_argument("--scale", default="tiny", choices=("sanity", "tiny"), help="with --finished")
    parser.add_argument("--work", type=Path, help="keep results and reports in this new folder")
    arguments = parser.parse_args()
    if arguments.finished:
        lines = learned(arguments.finished, arguments.scale)
    elif arguments.work:
        lines = measure(arguments.work)
    else:
        with tempfile.TemporaryDirectory() as work:
            lines = measure(Path(work))
    print(tabulate(lines, ("what", "measured", "target", ""), tablefmt="github"))
    return int(any(line[3] != "met" for line in lines))


def measure(work: Path) -> list[Line]:
    """Run everything in ``work``."""
    results, reports = work / "results", work / "reports"
    folders = ["--results", str(results), "--reports", str(reports)]
    lines = []
    for what, arguments in (
        ("--help", ["--help"]),
        ("--dry-run", [SWEEP, "--scale", "tiny", "--dry-run", *folders]),
    ):
        lines.append(
            _at_most(f"{what}, median of 5", _median([_seconds(arguments) for _ in range(5)]), LIGHT_S)
        )
    for scale, limit in (("sanity", SANITY_S), ("tiny", TINY_S)):
        command = [SWEEP, "--scale", scale, *folders]
        lines.append(_at_most(f"{scale}, from nothing (without installing)", _seconds(command), limit))
        lines += learned(results, scale)
        again = _median([_seconds(command) for _ in range(3)])
        lines.append(_at_most(f"{scale}, finished, run again, median of 3", again, AGAIN_S))
    return lines + untrained(work)


def learned(results: Path, scale: str) -> list[Line]:
    """Mean AP50 (percent) of each encoder at each T; the worst T is held against the target."""
    rows = pd.read_parquet(results / "table3a" / scale)
    means = rows.groupby(["model.encoder", "inference.window"])["AP50"].mean().unstack()
    lines = []
    for encoder, values in means.iterrows():
        target = TINY_AP50 if scale == "tiny" else SANITY_AP50
        shown = ", ".join(f"T={window}: {value:.1f}" for window, value in values.items())
        if scale == "tiny" or encoder == "ifc":
            verdict = "met" if values.min() >= target else "MISSED"
            lines.append((f"{scale}, {encoder}, mean AP50", shown, f"at least {target:g}", verdict))
    return lines


def untrained(work: Path) -> list[Line]:
    """AP50 of the tiny scale's models before any step."""
    scale = yaml.safe_load((SCALES / "tiny.yaml").read_text(encoding="utf-8"))
    scale["name"] = "untrained"
    scale["settings"]["train"]["steps"] = 0
    scale["settings"]["speed"] = {"videos": 1, "passes": 1, "min_seconds": 0}
    file = work / "untrained.yaml"
    file.write_text(yaml.safe_dump(scale), encoding="utf-8")
    _seconds(
        [SWEEP, "--scale", str(file), "--results", str(work / "results"), "--reports", str(work / "reports")]
    )
    worst = pd.read_parquet(work / "results" / "table3a" / "untrained")["AP50"].max()
    verdict = "met" if worst < UNTRAINED_AP50 else "MISSED"
    return [("tiny, untrained, largest AP50", f"{worst:.2f}", f"under {UNTRAINED_AP50:g}", verdict)]


def _seconds(arguments: list[str]) -> float:
    started = time.perf_counter()
    command = [sys.executable, "run_sweep.py", *arguments]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}: exit status {done.returncode}\n{done.stderr}")
    return time.perf_counter() - started


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


def _at_most(what: str, seconds: float, limit: float) -> Line:
    return (what, f"{seconds:.1f} s", f"at most {limit:g} s", "met" if seconds <= limit else "MISSED")


if __name__ == "__main__":
    sys.exit(main())
