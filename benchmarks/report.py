"""Measure the report against its targets: nine sweeps, 1,000 rows of made-up numbers, whole processes.

``python -m benchmarks.report``; nothing else may use the machine meanwhile.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tabulate import tabulate

from benchmarks.made_results import make_results
from harness.provenance import git_state, machine, now

PROJECT = Path(__file__).resolve().parent.parent
TABLES = [f"table{name}" for name in ("1", "2a", "2b", "2c", "2d", "3a", "3b", "3c", "3d")]
SEEDS = 17
"""Of which the nine sweeps have 1,002 rows"""
TEXT_S, ALL_S, PAGE_MB = 10.0, 30.0, 5.0
RUNS = 3

TEXT_ONLY = """
import sys
from pathlib import Path
from harness.report.findings import examine
from harness.report.report import report_files
from harness.report.sources import find_sources
for source in find_sources([], None, Path(sys.argv[1])):
    report_files(examine(source.spec, source.rows), ())
"""


def main() -> int:
    """Print the table; exit status 1 when a target is missed."""
    with tempfile.TemporaryDirectory() as work:
        results, reports = (
            make_results(Path(work, "results"), *TABLES, seeds=range(SEEDS)),
            Path(work, "reports"),
        )
        rows = sum(1 for _ in results.glob("table*/*/*.parquet"))
        text = _median([sys.executable, "-c", TEXT_ONLY, str(results)])
        places = ["--results", str(results), "--reports", str(reports), "--allow-missing"]
        whole = _median([sys.executable, "-m", "harness", "report", *places])
        page = (reports / "index.html").stat().st_size / 1e6
    lines = [
        (
            f"{len(TABLES)} sweeps, {rows:,} rows: LaTeX, Markdown, CSV",
            f"{text:.1f} s",
            f"{TEXT_S:g} s",
            text <= TEXT_S,
        ),
        ("the same with figures and page", f"{whole:.1f} s", f"{ALL_S:g} s", whole <= ALL_S),
        ("index.html", f"{page:.2f} MB", f"{PAGE_MB:g} MB", page <= PAGE_MB),
    ]
    shown = [(what, found, target, "met" if met else "MISSED") for what, found, target, met in lines]
    here, commit = machine(), git_state()["git_commit"]
    print(f"{here['cpu']}, {here['cpu_count']} cores; commit {commit}; {now()}; median of {RUNS}\n")
    print(tabulate(shown, ("what", "measured", "target", ""), tablefmt="github"))
    return int(not all(met for *_, met in lines))


def _median(command: list[str]) -> float:
    """Seconds of a whole process, imports and reading included."""
    taken = []
    for _ in range(RUNS):
        begun = time.perf_counter()
        subprocess.run(command, cwd=PROJECT, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        taken.append(time.perf_counter() - begun)
    return sorted(taken)[RUNS // 2]


if __name__ == "__main__":
    sys.exit(main())
