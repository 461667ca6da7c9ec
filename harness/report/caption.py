"""The words of a table: what was measured, on what, how often, where, and what must not be concluded."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pandas as pd

from harness.metrics import ERROR_METRICS
from harness.report.findings import Findings
from harness.report.paper_words import marks, said_of_deviations, said_of_means
from harness.report.selection import UNKNOWN, Selection, configured, is_synthetic
from harness.report.sentence import Sentence, count, listed, stop
from harness.report.statistics import Cell, sigma_range
from harness.report.table_spec import (
    HARDWARE_METRICS,
    MODEL_METRICS,
    TableSpec,
    decimals,
    is_counted,
    metric_name,
)
from harness.report.verdicts import LEVEL
from harness.sweep import is_evaluation_key

FPS_DEFINITION = "FPS = frames / total seconds from decoded frames to full-size masks, tracking included"
MEMORY_KINDS = {
    "process resident": "Memory is the peak resident size of the process, weights and libraries included",
    "cuda allocated": "Memory is the peak that torch allocated on the device",
}
NOISY_PASSES = 0.2
"""Passes of one cell that differ by more than this part of their median are worth a word."""
FEW_RUNS = 5
"""The paper's number of runs; below it the caption says how little an SD is worth."""


def mean_caption(findings: Findings, bold: str = "Bold") -> list[Sentence]:
    """Sentences of the table of means.

    Args:
        bold: what the printed form calls its mark for the best of a column.
    """
    spec, selection = findings.spec, findings.selection
    if is_counted(spec.cells):
        return _counted_caption(findings, bold)
    runs = len(spec.seeds)
    short = any(cell.short for cell in _printed(findings, spec.cells))
    if runs > 1:
        fewer = ", fewer where k/n says so" if short else ""
        what = f"Mean ± sample standard deviation (ddof = 1) over n = {runs} seeds a cell{fewer}."
    else:
        what = f"n = {runs} seed a cell: single runs, no spread is known."
    return [
        Sentence(stop(spec.title), note=False),
        *_made_up(findings),
        Sentence(what, note=False),
        *_best(findings, bold),
        *_short_cells(_printed(findings, spec.cells)),
        *_measured(spec, selection, spec.cells),
        *_origin(spec, selection),
        *_left_out(spec, selection, spec.cells),
        *said_of_means(findings, list(findings.paper)),
    ]


def _counted_caption(findings: Findings, bold: str) -> list[Sentence]:
    """Sentences under a table of counts: no seed, no data, no machine."""
    spec, selection, cells, paper = findings.spec, findings.selection, findings.cells, findings.paper
    said = [
        Sentence(stop(spec.title), note=False),
        Sentence(
            "Counted from the modules: every matrix product of the encoder, and 5 for each element of a layer"
            " norm; softmax, biases and the rest of the model count nothing."
        ),
        *([Sentence(f"{bold}: the least of its column.")] if findings.best else []),
        *_short_cells(_printed(findings, spec.cells)),
        *_origin(spec, selection),
        *_left_out(spec, selection, spec.cells),
    ]
    if paper:
        digits = {where: decimals(where[2]) for where in paper}
        ours = {where: cells[where].mean for where in paper}
        equal = sum(
            value is not None and f"{value:.{digits[where]}f}" == f"{paper[where]:.{digits[where]}f}"
            for where, value in ours.items()
        )
        said.append(Sentence(f"{equal} of the paper's {len(paper)} numbers are met to their last digit."))
        said += said_of_means(findings, list(paper)) if marks(findings, list(paper)) else []
    return said


def std_caption(findings: Findings, metrics: tuple[str, ...]) -> list[Sentence]:
    """Sentences of the table of standard deviations of ``metrics``."""
    spec, selection = findings.spec, findings.selection
    runs = len(spec.seeds)
    what = f"Sample standard deviations (ddof = 1) over n = {count(runs, 'seed')} a cell of {spec.name}."
    cells = _printed(findings, metrics)
    return [
        Sentence(stop(std_title(spec)), note=False),
        *_made_up(findings),
        Sentence(what, note=False),
        *_worth_of_sd(cells, runs),
        *_short_cells(cells),
        *_measured(spec, selection, metrics),
        *_origin(spec, selection),
        *_left_out(spec, selection, metrics),
        *said_of_deviations(findings, list(findings.paper_sd)),
    ]


def _made_up(findings: Findings) -> list[Sentence]:
    """What nobody who sees the table alone may miss."""
    if any(metric in MODEL_METRICS for metric in findings.spec.cells):
        return [Sentence(f"On random frames, scale {findings.spec.scale}.", note=False)]
    if not is_synthetic(findings.selection):
        return []
    return [Sentence(f"On synthetic data, scale {findings.spec.scale}.", note=False)]


def std_title(spec: TableSpec) -> str:
    """Title of the table of standard deviations."""
    return f"{spec.title}: standard deviations"


def _printed(findings: Findings, metrics: tuple[str, ...]) -> list[Cell]:
    return [cell for where, cell in findings.cells.items() if where[2] in metrics]


def _best(findings: Findings, bold: str) -> list[Sentence]:
    """What bold means; that nothing is bold is a finding too, where there was something to compare."""
    trained = any(not is_evaluation_key(key) for key in findings.spec.rows.keys)
    how = f"{'Welch' if trained else 'paired t over seeds'}, Holm over the table, {LEVEL:.0%}"
    if any(cell.n < 2 for cell in _printed(findings, findings.spec.cells)):
        how += "; not tested in columns where a row has fewer than two runs"
    if any(metric in findings.spec.cells for _, _, metric in findings.best):
        text = f"{bold}: better than every other of its column, established ({how})."
    elif len(findings.spec.rows.order) > 1 and any(cell.n for cell in findings.cells.values()):
        text = f"No best of a column is established ({how})."
    else:
        return []
    return [Sentence(text, note=False)]


def _measured(spec: TableSpec, selection: Selection, metrics: tuple[str, ...]) -> list[Sentence]:
    """Data, metrics and their definitions."""
    if any(metric in MODEL_METRICS for metric in metrics):
        return [*_untrained(selection, metrics), *_machines(selection, metrics)]
    scores = [metric for metric in metrics if metric not in HARDWARE_METRICS]
    said, split = [_data(selection)], f"on split {listed(_names(selection, 'split'))}"
    percent = [metric_name(metric) for metric in scores if metric not in ERROR_METRICS]
    if percent:
        said.append(Sentence(f"{listed(percent)} in percent {split}."))
    if len(percent) < len(scores):
        gains = "points of AP50 that mending one kind of error alone would gain (they do not add up)"
        said.append(Sentence(f"dAP: {gains}, {split}."))
    said.append(_trained(spec, selection))
    if any(metric in HARDWARE_METRICS for metric in metrics):
        if "fps" in metrics:
            said += _timing(selection)
        if "peak_memory_gb" in metrics:
            said += [
                Sentence(f"{MEMORY_KINDS.get(kind, kind)}.") for kind in _names(selection, "peak_memory_kind")
            ]
    return [*said, *_machines(selection, metrics)]


def _untrained(selection: Selection, metrics: tuple[str, ...]) -> list[Sentence]:
    """What was timed without any training, and what its memory is."""
    backbone, width = (configured(selection.used, "model", key) for key in ("backbone", "hidden_dim"))
    said = [
        Sentence("UNTRAINED weights, all queries kept: speeds of a model that finds nothing yet.", loud=True),
        Sentence(
            "FPS (model) = T / seconds from frames on the device to class logits and masks at the mask grid;"
            " nothing is tracked, upsampled or copied. Median over passes after a warm-up."
            f" Backbone {backbone or 'unknown'}, C = {width or 'unknown'}."
        ),
    ]
    if "encoder_ms" in metrics:
        said.append(Sentence("Encoder: the encoder alone, milliseconds a clip."))
    if "flops_g" in metrics:
        said.append(Sentence("GMACs: multiply-adds of the encoder alone, counted."))
    if "model_memory_gb" in metrics:
        kinds = {
            "cuda allocated": "the peak that torch allocated beyond the weights",
            "estimated tensors": "ESTIMATED from live tensors, not measured: there was no GPU",
        }
        found = _names(selection, "model_memory_kind")
        said.append(Sentence(f"Act. mem.: {listed([kinds.get(kind, kind) for kind in found] or ['none'])}."))
    return said


def _timing(selection: Selection) -> list[Sentence]:
    """What FPS is, on which videos, and whether the machine was quiet."""
    videos = configured(selection.used, "speed", "videos")
    which = ""
    if videos is not None:
        which = f", of {'all' if videos == 'None' else f'the first {videos}'} scored videos"
    said = [Sentence(f"{FPS_DEFINITION}{which}; median over passes after a warm-up.")]
    column = selection.used["fps_passes"].dropna() if "fps_passes" in selection.used else ()
    passes = [sorted(rates) for rates in column]
    noisy = sum((p[-1] - p[0]) / p[len(p) // 2] > NOISY_PASSES for p in passes)
    if noisy:
        what = f"in {noisy} of {count(len(passes), 'evaluation')} the passes differ by more than"
        said.append(Sentence(f"Timing was noisy: {what} {NOISY_PASSES:.0%} of their median."))
    return said


def _trained(spec: TableSpec, selection: Selection) -> Sentence:
    """The recipe's size, where all rows share it: what a scale changes is no footnote."""
    used = selection.used
    backbone, initial = configured(used, "model", "backbone"), configured(used, "train", "initial")
    sizes = [configured(used, "train", key) for key in ("steps", "clips_per_batch", "frames_per_clip")]
    parts = [f"backbone {backbone}"] if backbone is not None else []
    parts += [f"{there} in place of {named}" for named, there in spec.stand_ins.items()]
    if None not in sizes:
        steps, clips, frames = (int(size or 0) for size in sizes)
        parts.append(f"{steps} steps of {count(clips, 'clip')} of {count(frames, 'frame')}")
    if initial is not None:
        parts.append("from random weights" if initial == "random" else f"from {initial} weights")
    size = f" ({', '.join(parts)})" if parts else ""
    trained = any(not is_evaluation_key(key) for key in (*spec.rows.keys, *spec.columns.keys))
    each = "variant and seed" if trained else "seed"
    return Sentence(f"A model is trained once for each {each}{size}{_evaluated(spec, selection)}.")


def _evaluated(spec: TableSpec, selection: Selection) -> str:
    """The windows, and the memory where it is the same in all rows."""
    varied = (*spec.rows.keys, *spec.columns.keys)
    if "inference.window" in varied:
        then = " and evaluated at every window of T frames"
    else:
        window = configured(selection.used, "inference", "window")
        then = "" if window is None else f" and evaluated with windows of T = {count(int(window), 'frame')}"
    stride = spec.fixed.get("inference.stride", 1)
    if stride != 1:
        then += f" every S = {stride} frames"
    if spec.fixed.get("model.encoder") == "ifc" and "model.memory_tokens" in spec.fixed:
        then += f"; encoder IFC with M = {spec.fixed['model.memory_tokens']}"
    return then


def _data(selection: Selection) -> Sentence:
    if selection.used.empty:
        return Sentence("No finished run: every cell is missing.", loud=True)
    kinds = selection.distinct("data_name", "data_checksum")
    names = selection.distinct("data_name", "data_description")
    prefix = "Synthetic data" if is_synthetic(selection) else "Data"
    if len(kinds) > 1 and not selection.mixed_data("data_name", "data_checksum"):
        told = ", ".join(selection.distinct("data_name"))
        text = _in_common(selection.distinct("data_description"))
        return Sentence(f"{prefix}, {len(names)} sets that differ as the table says ({told}): {text}.")
    if len(kinds) > 1 or len(names) > 1:
        listed = "; ".join(kinds if len(kinds) >= len(names) else names)
        return Sentence(f"{prefix}, MIXED, cells are not comparable: {listed}.", loud=True)
    description, name = selection.distinct("data_description")[0], selection.distinct("data_name")[0]
    return Sentence(f"{prefix}: {description.rstrip('. ')} ({name}).")


def _in_common(descriptions: Sequence[str]) -> str:
    """The clauses that all descriptions share; the others are of what varies."""
    clauses = [re.split(r"[,;] ", text.rstrip(". ")) for text in descriptions]
    return ", ".join(clause for clause in clauses[0] if all(clause in others for others in clauses))


def _machines(selection: Selection, metrics: tuple[str, ...]) -> list[Sentence]:
    """Where the runs were evaluated and timed, and where they were trained if that was elsewhere."""
    machines, timed = selection.hardware(), [metric for metric in metrics if metric in HARDWARE_METRICS]
    if selection.mixed_hardware() and timed:
        names = listed([metric_name(metric) for metric in timed])
        text = (
            f"MIXED hardware, {names} left out because machines must not be compared: {'; '.join(machines)}."
        )
        said = [Sentence(text, loud=True)]
    else:
        said = [Sentence(f"Hardware: {'; '.join(machines) or 'none yet'}.")]
    trained = [name for name in selection.distinct("train_hardware") if name != UNKNOWN]
    if trained and trained != selection.distinct("hardware"):
        said.append(Sentence(f"Trained on {'; '.join(trained)}."))
    return said


def _budgets(selection: Selection) -> list[Sentence]:
    """The memory that processes were given, where it was not all there is."""
    rows = pd.concat(
        [part for part in (selection.used, selection.out_of_memory()) if len(part)] or [pd.DataFrame()]
    )
    budgets = sorted(set(rows["memory_budget_gb"].dropna())) if "memory_budget_gb" in rows else []
    if not budgets:
        return []
    told = listed([f"{budget:g} GB" for budget in budgets])
    without = int(rows["memory_budget_gb"].isna().sum())
    if len(budgets) > 1 or without:
        others = f" and {count(without, 'run')} without one" if without else ""
        return [Sentence(f"MIXED memory budgets: {told}{others}.", loud=True)]
    return [Sentence(f"Each process was given {told} of memory.")]


def _origin(spec: TableSpec, selection: Selection) -> list[Sentence]:
    """Scale and code of the numbers."""
    commits = sorted({_commit(*pair) for pair in _pairs(selection, "git_commit", "git_dirty")})
    said = [Sentence(f"Scale {spec.scale}{', ' + commits[0] if len(commits) == 1 else ''}.")]
    said += _budgets(selection)
    if len(commits) > 1:
        said.append(Sentence(f"MIXED commits: {'; '.join(commits)}.", loud=True))
    for column, name in (
        ("code_version", "code versions"),
        ("schema_version", "schema versions"),
        ("torch_version", "torch versions"),
    ):
        versions = selection.distinct(column)
        if len(versions) > 1:
            said.append(Sentence(f"MIXED {name}: {'; '.join(versions)}.", loud=True))
    return said


def _left_out(spec: TableSpec, selection: Selection, metrics: tuple[str, ...]) -> list[Sentence]:
    said = []
    planned = len(spec.rows.order) * len(spec.columns.order) * len(spec.seeds)
    missing = sum(len(seeds) for _, _, seeds in selection.missing)
    if missing:
        said.append(f"{missing} of {planned} planned evaluations are missing.")
    measured = selection.measured(metrics)
    few = [metric_name(name) for name in metrics if selection.too_few_tracks(name)]
    if few:
        said.append(f"{listed(few)}: too few annotated tracks for a number.")
    absent = [name for name in metrics if name not in measured]
    unmeasured = [metric_name(name) for name in absent if not selection.too_few_tracks(name)]
    if unmeasured and len(selection.used):
        said.append(f"{listed(unmeasured)} {'was' if len(unmeasured) == 1 else 'were'} not measured.")
    bare = selection.without_number(measured)
    if bare:
        lacking = [metric_name(name) for name in metrics if any(name in names for names in bare.values())]
        said.append(
            f"{count(len(bare), 'done run')} without a number ({listed(lacking)}), counted as missing."
        )
    standing = selection.failed[~selection.failed["superseded"].astype(bool)]
    too_large = selection.out_of_memory()
    if len(too_large):
        where = ", ".join(sorted(too_large["hardware"].dropna().astype(str).unique())) or "the machine used"
        said.append(f"OOM: did not fit in the memory of {where} ({count(len(too_large), 'run')}).")
        if "estimated tensors" in set(too_large.get("trial_peak_memory_kind", ())):
            said.append("On a CPU an estimate decides what does not fit; such runs were not started.")
    standing = standing[standing["status"] != "oom"]
    if len(standing):
        trials = standing["trial"].nunique()
        said.append(
            f"{count(trials, 'trial')} did not finish ({count(len(standing), 'row')}), never averaged."
        )
    if selection.superseded:
        said.append(f"{count(selection.superseded, 'older row')} superseded by a newer one for the same run.")
    if selection.unplanned:
        said.append(f"{count(selection.unplanned, 'row')} outside the plan left out.")
    return [Sentence(text) for text in said]


def _short_cells(cells: Sequence[Cell]) -> list[Sentence]:
    said = []
    if any(cell.short for cell in cells):
        said.append("k/n: only k of the n planned seeds gave a number.")
    if any(cell.n == 0 and not cell.out_of_memory for cell in cells):
        said.append("--: no number.")
    return [Sentence(text) for text in said]


def _worth_of_sd(cells: Sequence[Cell], planned: int) -> list[Sentence]:
    """How far the true sigma may lie from a printed SD, for each small n of the table."""
    sizes = sorted({cell.n for cell in cells if 2 <= cell.n < FEW_RUNS})
    ranges = [(n, *sigma_range(n)) for n in sizes]
    said = [
        Sentence(
            f"With n = {n} the true sigma lies within {low:.2f}-{high:.1f} times the printed one"
            " (95% interval, normal runs): hardly an estimate."
        )
        for n, low, high in ranges
    ]
    return said if planned > 1 else [Sentence("A single run has no standard deviation.")]


def _commit(commit: str, dirty: str) -> str:
    known = f"commit {commit[:7]}" if commit != "unknown" else "commit unknown"
    return known + {"True": " + uncommitted changes", "False": ""}.get(dirty, " (tree state unknown)")


def _pairs(selection: Selection, first: str, second: str) -> list[tuple[str, str]]:
    pairs = [text.rsplit(", ", 1) for text in selection.distinct(first, second)]
    return [(pair[0], pair[1]) for pair in pairs]


def _names(selection: Selection, column: str) -> list[str]:
    return selection.distinct(column) or ["(none)"]
