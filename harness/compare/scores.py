"""AP of all methods side by side, over the whole split and by situation: printed, as CSV and as LaTeX."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tabulate import tabulate

from harness.compare.methods import Method
from harness.data.ytvis import VideoDataset
from harness.evaluation import evaluate
from harness.metrics import LEVELS, SITUATION_NAMES, SITUATIONS
from harness.named_files import file_words
from harness.report.latex import latex_list
from harness.situations import situation_scores

METRICS = ("AP", "AP50", "AP75", "AR1", "AR10")
NO_NUMBER = "--"
UNIT = "percent"

Scores = dict[str, float | None]
"""By metric, in percent; None where nothing counts"""


@dataclass(frozen=True)
class ScoredMethod:
    """A method's numbers and the file that they are of."""

    name: str
    file: str
    sha256: str
    metrics: Scores
    situations: Scores


@dataclass(frozen=True)
class ScoreTable:
    """The numbers of all methods on one split."""

    data: str
    split: str
    videos: int
    tracks: int
    methods: tuple[ScoredMethod, ...]
    why_no_situations: str = ""

    @property
    def caption(self) -> str:
        """What the numbers are of, and what they are not."""
        files = "; ".join(f"{each.name}: {each.file} (sha256 {each.sha256[:12]})" for each in self.methods)
        return (
            f"Percent on all {self.videos} videos ({self.tracks} annotated tracks, crowds aside) of split "
            f"{self.split} of {self.data}, by the YouTube-VIS protocol. One result file each, as it was "
            f"given: no seeds, hence no standard deviation, and no claim that a gap is significant. {files}."
        )

    @property
    def has_situations(self) -> bool:
        """Whether there are numbers by situation."""
        return any(each.situations for each in self.methods)

    @property
    def situation_caption(self) -> str:
        """What the terciles are."""
        return (
            "AP of the annotated tracks in each tercile (low, mid, high) of a situation, measured on the "
            f"annotations and frames of the same split. {NO_NUMBER}: too few tracks. " + self.caption
        )

    def texts(self) -> list[str]:
        """Tables for a terminal."""
        head = ["", *METRICS]
        lines = [[each.name, *(number_text(each.metrics[name]) for name in METRICS)] for each in self.methods]
        found = [tabulate(lines, head, tablefmt="simple", disable_numparse=True, colalign=_sides(head))]
        if self.has_situations:
            head = ["AP by situation", "", *(each.name for each in self.methods)]
            lines = self._situation_lines()
            found.append(tabulate(lines, head, tablefmt="simple", disable_numparse=True))
            if any(NO_NUMBER in line for line in lines):
                found.append(f"{NO_NUMBER}: too few tracks in this third")
        elif self.why_no_situations:
            found.append(self.why_no_situations)
        return found

    def csv(self) -> str:
        """One line a method and number; no number is an empty field."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(
            ["method", "metric", "value", "unit", "data", "split", "videos", "tracks", "file", "sha256"]
        )
        for each in self.methods:
            for metric, value in (each.metrics | each.situations).items():
                origin = (UNIT, self.data, self.split, self.videos, self.tracks, each.file, each.sha256)
                writer.writerow([each.name, metric, "" if value is None else value, *origin])
        return out.getvalue()

    def latex(self) -> str:
        """A float with the main metrics."""
        lines = [[each.name, *(number_text(each.metrics[name]) for name in METRICS)] for each in self.methods]
        title = f"Methods on {self.split} of {self.data}"
        return latex_list("methods", title, ["Method", *METRICS], lines, self.caption)

    def situation_latex(self) -> str:
        """A float with AP by situation."""
        title = f"AP by situation on {self.split} of {self.data}"
        head = ["Situation", "", *(each.name for each in self.methods)]
        return latex_list("situations", title, head, self._situation_lines(), self.situation_caption)

    def _situation_lines(self) -> list[list[str]]:
        return [
            [
                SITUATION_NAMES[situation] if level == LEVELS[0] else "",
                level,
                *(number_text(each.situations.get(f"AP_{situation}_{level}")) for each in self.methods),
            ]
            for situation in SITUATIONS
            for level in LEVELS
        ]


def score(
    truth: dict[str, Any], data: str, split: str, methods: Sequence[Method], dataset: VideoDataset | None
) -> ScoreTable:
    """The numbers of all methods.

    Args:
        truth: a YouTube-VIS json with annotations.
        data, split: their names, for captions.
        dataset: the same with frames; without it there is no AP by situation, since blur needs the frames.
    """
    scored = []
    for method in methods:
        found = evaluate(truth, method.results)
        by_situation = {} if dataset is None else situation_scores(dataset, method.results)
        scored.append(_scored(method, found, by_situation))
    tracks = sum(not annotation.get("iscrowd", 0) for annotation in truth["annotations"])
    why = "" if dataset is not None else "No AP by situation: that needs the folder with the frames."
    return ScoreTable(data, split, len(truth["videos"]), tracks, tuple(scored), why)


def _scored(method: Method, found: dict[str, float], by_situation: Scores) -> ScoredMethod:
    metrics: Scores = {name: None if found[name] < 0 else 100 * found[name] for name in METRICS}
    return ScoredMethod(method.name, file_words(method.path), method.sha256, metrics, by_situation)


def number_text(value: float | None) -> str:
    """One decimal, as the field prints AP."""
    return NO_NUMBER if value is None else f"{value:.1f}"


def _sides(head: Sequence[str]) -> list[str]:
    return ["left"] + ["right"] * (len(head) - 1)
