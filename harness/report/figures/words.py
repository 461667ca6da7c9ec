"""What a figure says in words: data, scale, n, what its marks are, and what is not there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from harness.metrics import ERROR_METRICS
from harness.report.findings import Findings
from harness.report.selection import is_synthetic
from harness.report.statistics import Cell
from harness.report.table import row_label
from harness.report.table_spec import (
    HARDWARE_METRICS,
    MODEL_METRICS,
    Place,
    axis_title,
    is_counted,
    metric_name,
    place,
)

UNITS = {
    "fps": "FPS (frames/s)",
    "peak_memory_gb": "Peak memory (GB)",
    "flops_g": "GMACs (10⁹ multiply-adds)",
    "model_fps": "FPS of the model (frames/s)",
    "encoder_ms": "Encoder (ms a clip)",
    "model_memory_gb": "Memory beyond weights (GB)",
}
WITH_SPREAD = "bars: 95% t interval, dots: seeds"


def axis_name(metric: str) -> str:
    """A metric with its unit."""
    unit = "points" if metric in ERROR_METRICS else "%"
    return UNITS.get(metric, f"{metric_name(metric)} ({unit})")


def long_name(metric: str) -> str:
    """A metric in a sentence."""
    return "Peak memory" if metric == "peak_memory_gb" else metric_name(metric)


def data_and_scale(findings: Findings) -> str:
    """``Synthetic data, scale tiny``; counts and untrained models have no data."""
    selection = findings.selection
    if is_counted(findings.spec.cells):
        return f"Counted, scale {findings.spec.scale}"
    if any(metric in MODEL_METRICS for metric in findings.spec.cells):
        return f"Untrained, scale {findings.spec.scale}"
    names = selection.distinct("data_name")
    data = "Synthetic data" if is_synthetic(selection) else "; ".join(names) or "No data"
    mixed = " (MIXED)" if len(names) > 1 and selection.mixed_data() else ""
    return f"{data}{mixed}, scale {findings.spec.scale}"


def runs(cells: Iterable[Cell]) -> str:
    """``n = 5 seeds``, over the cells that have a number; empty where none has."""
    sizes = sorted({cell.n for cell in cells if cell.n})
    if not sizes:
        return ""
    if sizes == [1]:
        return "single runs (n = 1), no interval"
    return f"n = {sizes[0]} seeds" if len(sizes) == 1 else f"n = {sizes[0]} to {sizes[-1]} seeds"


def above(findings: Findings, cells: Iterable[Cell], marks: str = WITH_SPREAD) -> str:
    """Two lines for the top of a picture."""
    said = runs(cells)
    if said.startswith("n ="):
        said += f"; {marks}"
    return f"{data_and_scale(findings)}\n{said}".rstrip()


def caption(data: str, clauses: Sequence[str], gaps: str) -> str:
    """What stands after a figure's title and goes on from there: ``(data): clause; clause. Gaps.``"""
    said = "; ".join(filter(None, clauses))
    return f"({data}){': ' if said else ''}{said}.{gaps}"


def of_data(findings: Findings, cells: Iterable[Cell]) -> str:
    """For a caption: ``synthetic data, scale tiny, n = 5 seeds``; only a data set's name is a capital."""
    data = data_and_scale(findings)
    counted = is_counted(findings.spec.cells)
    if counted or is_synthetic(findings.selection) or not findings.selection.distinct("data_name"):
        data = data[0].lower() + data[1:]
    return ", ".join(filter(None, (data, "" if counted else runs(cells))))


def marks(cells: Iterable[Cell], joined: bool = True) -> str:
    """For a caption: what lines, bars and dots are; nothing where there is no number."""
    numbers = [cell for cell in cells if cell.n]
    if not numbers:
        return ""
    if all(cell.sd is None for cell in numbers):
        return "lines join the runs" if joined else "markers are the runs"
    means = "lines join the means, bars are" if joined else "markers are means, bars"
    return f"{means} their 95% t intervals, small dots the single seeds"


def why_empty(findings: Findings, metrics: Iterable[str]) -> str:
    """Why a picture of all these metrics has nothing in it."""
    asked = tuple(metrics)
    if _is_withheld(findings, asked):
        return "not drawn: mixed hardware"
    if findings.selection.used.empty:
        return "no finished run"
    return unmeasured(findings, asked) or f"no cell has both {' and '.join(map(long_name, asked))}"


def unmeasured(findings: Findings, metrics: Iterable[str]) -> str:
    """``FPS was not measured``: what no finished run has; empty where each has been measured or none ran."""
    asked = tuple(metrics)
    measured = findings.selection.measured(asked)
    lacking = [metric for metric in asked if metric not in measured]
    if findings.selection.used.empty or not lacking:
        return ""
    verb = "were" if len(lacking) > 1 or is_counted((lacking[0],)) else "was"
    how = "counted" if is_counted(tuple(lacking)) else "measured"
    return f"{' and '.join(map(long_name, lacking))} {verb} not {how}"


def _is_withheld(findings: Findings, metrics: Iterable[str]) -> bool:
    return findings.selection.mixed_hardware() and any(metric in HARDWARE_METRICS for metric in metrics)


def gaps(findings: Findings, metrics: Iterable[str]) -> str:
    """Sentences on the cells that have no number or fewer than planned, with a blank before; or nothing."""
    asked = tuple(metrics)
    if _is_withheld(findings, asked):
        names = "; ".join(findings.selection.hardware())
        return f" Not drawn, because speed and memory of different machines must not be compared: {names}."
    too_large: list[Place] = []
    missing: list[Place] = []
    short: list[tuple[Place, Cell]] = []
    for row in findings.spec.rows.places:
        for column in findings.spec.columns.places:
            cells = [findings.cells[row, column, metric] for metric in asked]
            least = min(cells, key=lambda cell: cell.n)
            where = (row, column, "")
            if least.n == 0:
                (too_large if least.out_of_memory else missing).append(where)
            elif least.short:
                short.append((where, least))
    said = ""
    if too_large:
        said += f" OOM, did not fit in memory: {_named(findings, too_large)}."
    never = unmeasured(findings, asked)
    if never:
        said += f" {never}."
    elif missing:
        said += f" Missing: {_named(findings, missing)}."
    if short:
        counts = "; ".join(f"{_named(findings, [where])} ({cell.n}/{cell.planned})" for where, cell in short)
        said += f" Fewer seeds than planned: {counts}."
    return said


def _named(findings: Findings, places: list[Place]) -> str:
    """``IFC at T=5, T=20; No Comm``: the columns of a row, none said where all are meant."""
    spec = findings.spec
    parts = []
    for values in spec.rows.order:
        label = row_label(spec, values, findings.selection)
        here = [column for row, column, _ in places if row == place(values)]
        heads = [spec.columns.label(each) for each in spec.columns.order if place(each) in here]
        if len(here) == len(spec.columns.order):
            parts.append(label)
        elif here:
            parts.append(f"{label} at {', '.join(heads)}")
    return "every cell" if len(places) == len(spec.rows.order) * len(spec.columns.order) else "; ".join(parts)


def in_a_sentence(key: str) -> str:
    """``window T (frames)``."""
    title = axis_title(key)
    return title[0].lower() + title[1:]
