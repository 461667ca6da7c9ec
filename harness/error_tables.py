"""Errors of several methods side by side: printed, as CSV, as LaTeX and as a figure."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tabulate import tabulate

from harness.benchmark_json import read_annotations, read_header
from harness.data.named_split import split_name
from harness.foreign_results import read_foreign
from harness.metrics import ERROR_KINDS, ERROR_NAMES
from harness.named_files import file_words, named_file
from harness.output_folder import written_in
from harness.report.latex import latex_list
from harness.report.statistics import Cell, summarise
from harness.result_file import read_truth
from harness.track_errors import FOUND_IOU, TOUCHED_IOU, TrackErrors, find_errors
from model.errors import InputError
from model.whole_file import whole_file

NONE = "--"
TABLE, LATEX, PDF, PNG = WRITTEN = ("errors.csv", "errors.tex", "error_kinds.pdf", "error_kinds.png")


@dataclass(frozen=True)
class Method:
    """The runs of one method."""

    name: str
    files: tuple[Path, ...]
    runs: tuple[TrackErrors, ...]

    @cached_property
    def _of_runs(self) -> list[dict[str, float | None]]:
        return [each.gains() for each in self.runs]

    def gain(self, kind: str) -> Cell:
        """Points of AP50 that mending a kind alone gains, over the runs."""
        return summarise(self.gains(kind), len(self.runs))

    def gains(self, kind: str) -> list[float]:
        """The same of each run."""
        found = (gains[kind] for gains in self._of_runs)
        return [gain for gain in found if gain is not None]

    def ap50(self) -> Cell:
        """AP50 in percent, over the runs."""
        found = (each.ap50() for each in self.runs)
        return summarise([value for value in found if value is not None], len(self.runs))

    def count(self, kind: str) -> float:
        """Errors of a kind, the mean of the runs."""
        return sum(each.counts()[kind] for each in self.runs) / len(self.runs)


@dataclass(frozen=True)
class FoundErrors:
    """The errors of all methods on one split."""

    data: str
    split: str
    videos: int
    tracks: int
    methods: tuple[Method, ...]
    notes: tuple[tuple[str, Path, str], ...]
    """(method, file, what was mapped or is missing)"""

    @property
    def caption(self) -> str:
        """What the numbers are of, and what they are not."""
        files = [f"{each.name}: {', '.join(map(file_words, each.files))}" for each in self.methods]
        many = any(len(each.runs) > 1 for each in self.methods)
        spread = " Mean ± sample standard deviation of the runs." if many else ""
        return (
            "AP50 (%), and the points of AP50 gained where one kind of error alone is mended, on all "
            f"{self.videos} videos ({self.tracks} annotated tracks, crowds aside) of split {self.split} of "
            f"{self.data}. Found: space-time IoU {FOUND_IOU:g}; background: below {TOUCHED_IOU:g}. The gains "
            f"do not add up.{spread} {'; '.join(files)}."
        )

    def text(self) -> str:
        """Tables for a terminal: gains, then counts."""
        head = ["", "AP50", *(ERROR_NAMES[kind] for kind in ERROR_KINDS)]
        gains = [[each.name, *_numbers(each)] for each in self.methods]
        counts = [[each.name, *(f"{each.count(kind):g}" for kind in ERROR_KINDS)] for each in self.methods]
        sides = ["left"] + ["right"] * (len(head) - 1)
        return "\n".join(
            [
                f"{self.data}, {self.split}: {self.videos} videos, {self.tracks} annotated tracks",
                "",
                "points of AP50 gained where one kind alone is mended (they do not add up)",
                tabulate(gains, head, tablefmt="simple", disable_numparse=True, colalign=sides),
                "",
                "errors: results, of missed tracks",
                tabulate(
                    counts,
                    [head[0], *head[2:]],
                    tablefmt="simple",
                    disable_numparse=True,
                    colalign=sides[1:],
                ),
            ]
        )

    def csv(self) -> str:
        """One line a method, run and kind; no number is an empty field."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(["method", "run", "file", "kind", "dAP", "count", "AP50", "data", "split"])
        for method in self.methods:
            for run, (path, each) in enumerate(zip(method.files, method.runs, strict=True), 1):
                gains, counts, ap50 = each.gains(), each.counts(), _field(each.ap50())
                for kind in ERROR_KINDS:
                    numbers = [_field(gains[kind]), counts[kind], ap50]
                    writer.writerow(
                        [method.name, run, file_words(path), kind, *numbers, self.data, self.split]
                    )
        return out.getvalue()

    def latex(self) -> str:
        """A float with the gains."""
        head = ["Method", "AP50", *(ERROR_NAMES[kind] for kind in ERROR_KINDS)]
        lines = [[each.name, *_numbers(each)] for each in self.methods]
        return latex_list("errors", f"Errors on {self.split} of {self.data}", head, lines, self.caption)


def runs_of(arguments: Sequence[str]) -> dict[str, list[Path]]:
    """``ours=results.json`` to paths by name, in the order of the names.

    Raises:
        InputError: an argument of another form, or a method that has a file twice, however it is spelt.
    """
    found: dict[str, list[Path]] = {}
    for text in arguments:
        name, path = named_file(text)
        if os.path.realpath(path) in map(os.path.realpath, found.get(name, [])):
            raise InputError(f"{text}: the file is there twice; allowed: each run of a method once")
        found.setdefault(name, []).append(path)
    return found


def find_all(files: Mapping[str, Sequence[Path]], data: Path, split: str | None) -> FoundErrors:
    """The errors of every result file; files of one name are runs of one method.

    Args:
        files: of each method, see :func:`runs_of`.
        data: a folder laid out like YouTube-VIS, or an annotation json.
        split: a json of the folder, or a hold-out; None: ``valid``.

    Raises:
        InputError: data without annotations, or a result file that cannot be mapped.
    """
    name, truth = read_truth(data, split)
    header = read_header(truth, name)
    annotated = read_annotations(truth, name, header) if truth.get("annotations") else []
    tracks = sum(not each.crowd for each in annotated)
    if not tracks:
        raise InputError(f"{name}: no annotated track to score against; allowed: an annotated split")
    methods, notes = [], []
    for method, paths in files.items():
        runs = []
        for path in paths:
            read = read_foreign(path, truth)
            notes += [(method, path, note) for note in read.notes]
            runs.append(find_errors(truth, read.results))
        methods.append(Method(method, tuple(paths), tuple(runs)))
    where = data.resolve()
    part = where.stem if where.is_file() else split_name(split)
    return FoundErrors(where.name, part, len(header.shapes), tracks, tuple(methods), tuple(notes))


def write_all(found: FoundErrors, folder: Path, clear: Callable[[], None]) -> list[Path]:
    """``errors.csv``, ``errors.tex``, the figure; raises :class:`InputError` where they cannot be written.

    Args:
        folder: is there.
        clear: removes what an earlier run left in it; called when all content is there.
    """
    contents: Mapping[str, bytes] = {
        TABLE: found.csv().encode(),
        LATEX: found.latex().encode(),
        **_figure(found),
    }
    clear()
    with written_in(folder):
        for name, content in contents.items():
            with whole_file(folder / name) as draft:
                draft.write_bytes(content)
    return [folder / name for name in contents]


def _figure(found: FoundErrors) -> dict[str, bytes]:
    from harness.report.figures.error_kinds import Bars, draw_bars  # matplotlib takes a second to import
    from harness.report.figures.style import house_style, saved

    bars = [
        Bars(
            each.name,
            {kind: each.gain(kind) for kind in ERROR_KINDS},
            {kind: each.gains(kind) for kind in ERROR_KINDS},
        )
        for each in found.methods
    ]
    most = max(len(each.runs) for each in found.methods)
    marks = f", up to {most} runs; whiskers: 95% t interval within 0 to 100, dots: runs" if most > 1 else ""
    above = f"{found.split} of {found.data}{marks}"
    with house_style():
        figure = saved(draw_bars("error_kinds", [("", bars)], above, found.caption))
    return {PDF: figure.pdf, PNG: figure.png}


def _numbers(method: Method) -> list[str]:
    return [_number(method.ap50()), *(_number(method.gain(kind)) for kind in ERROR_KINDS)]


def _number(cell: Cell) -> str:
    if cell.mean is None:
        return NONE
    return f"{cell.mean:.1f}" + ("" if cell.sd is None else f" ± {cell.sd:.1f}")


def _field(value: float | None) -> object:
    return "" if value is None else value
