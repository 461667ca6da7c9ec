"""Errors and situations in a report: figures that say what the rows say, and a table of errors."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.container import BarContainer
from matplotlib.text import Text

from harness.metrics import ERROR_KINDS, ERROR_METRICS, LEVELS, SITUATION_METRICS, SITUATIONS
from harness.report.figures import drawings
from harness.report.figures.style import SMALL_TEXT, Drawing, house_style
from harness.report.findings import Findings, examine
from harness.report.report import report_files, write_report
from harness.report.statistics import summarise
from harness.report.table_spec import Side, TableSpec

ENCODERS = ("no_comm", "full_thw", "decomp_t_hw", "ifc")
NONE = Side((), ((),))


def spec_of(**changes: Any) -> TableSpec:
    layout: dict[str, Any] = {
        "name": "situations",
        "title": "Which communication helps where",
        "rows": Side(("model.encoder",), tuple((encoder,) for encoder in ENCODERS)),
        "columns": NONE,
        "cells": ("AP", "AP_speed_high"),
        "paper": None,
        "paper_std": None,
        "std_name": None,
        "seeds": (0, 1, 2, 3, 4),
        "scale": "tiny",
        "figures": (),
    }
    return TableSpec(**layout | changes)


def rows_of(seeds: int = 5, windows: tuple[int, ...] = (5,), without: tuple[str, ...] = ()) -> pd.DataFrame:
    """Made-up numbers around 40 AP and 0 to 12 points."""
    rng = np.random.default_rng(7)
    rows = [
        {
            "trial": f"{encoder}-{seed}",
            "status": "done",
            "scale": "tiny",
            "seed": seed,
            "model.encoder": encoder,
            "inference.window": window,
            "AP": rng.normal(40, 2),
            **{name: rng.normal(30 + 5 * (name[-3:] == "low"), 3) for name in SITUATION_METRICS},
            **{name: rng.uniform(0, 2 + 2 * place) for place, name in enumerate(ERROR_METRICS)},
            "finished": "2026-01-02T03:04:05+00:00",
            "data_checksum": "9f",
            "data_name": "made-up",
            "data_kind": "synthetic",
            "hardware": "one",
        }
        for encoder in ENCODERS
        for window in windows
        for seed in range(seeds)
    ]
    return pd.DataFrame(rows).assign(**dict.fromkeys(without, np.nan))


def drawn(findings: Findings) -> dict[str, Drawing]:
    with house_style():
        return {found.name: found for found in (draw() for draw in drawings(findings))}


def test_bars_are_the_means() -> None:
    rows = rows_of()
    findings = examine(spec_of(), rows)
    figure = drawn(findings)["situations_error_kinds"]
    [axes] = figure.canvas.axes
    bars = [each for each in axes.containers if isinstance(each, BarContainer)]
    assert len(bars) == len(ENCODERS)
    for encoder, group in zip(ENCODERS, bars, strict=True):
        mine = rows[rows["model.encoder"] == encoder]
        heights = [patch.get_height() for patch in group.patches]
        assert heights == pytest.approx([mine[name].mean() for name in ERROR_METRICS])
    hatches = [group.patches[0].get_hatch() or "" for group in bars]
    assert len(set(hatches)) == len(ENCODERS), "told apart without colours"
    assert axes.get_ylim()[0] == 0
    assert axes.get_ylim()[1] <= 105, "no interval beyond what there is"
    assert len(axes.get_xticklabels()) == len(ERROR_KINDS)
    assert "do not add up" in figure.caption
    assert "95% t intervals" in figure.caption
    assert "n = 5 seeds" in figure.caption


def test_lines_are_the_means_of_each_third() -> None:
    rows = rows_of(without=("AP_blur_low", "AP_blur_mid", "AP_blur_high"))
    figure = drawn(examine(spec_of(), rows))["situations_situations"]
    panels = [axes for axes in figure.canvas.axes if axes.get_visible()]
    assert [axes.get_xlabel() for axes in panels] == [
        "speed",
        "overlap",
        "look-alikes",
        "absence",
        "size change",
    ]
    assert "Too few tracks for: blur" in figure.caption
    left = [name for name in SITUATIONS if name != "blur"]
    for axes, situation in zip(panels, left, strict=True):
        assert [text.get_text() for text in axes.get_xticklabels()] == list(LEVELS)
        lines = [each.lines[0] for each in axes.containers]
        for encoder, line in zip(ENCODERS, lines, strict=True):
            mine = rows[rows["model.encoder"] == encoder]
            means = [mine[f"AP_{situation}_{level}"].mean() for level in LEVELS]
            assert np.asarray(line.get_ydata()) == pytest.approx(means)


def test_a_third_without_any_number() -> None:
    spec = spec_of(cells=("AP", "AP_blur_high"))
    findings = examine(spec, rows_of(without=("AP_blur_high",)).assign(situations_code="c0de"))
    figure = drawn(findings)["situations_situations"]
    assert len([axes for axes in figure.canvas.axes if axes.get_visible()]) == len(SITUATIONS)
    assert "Too few tracks for: blur (high)." in figure.caption
    page = report_files(findings, [])["report.md"].decode()
    assert "AP (blur high): too few annotated tracks for a number." in page
    assert "AP (blur high) was not measured" not in page


def test_columns_have_panels_or_figures_of_their_own() -> None:
    spec = spec_of(columns=Side(("inference.window",), ((5,), (20,))))
    found = drawn(examine(spec, rows_of(windows=(5, 20))))
    assert {"situations_situations_5", "situations_situations_20"} <= set(found)
    assert [axes.get_title() for axes in found["situations_error_kinds"].canvas.axes] == ["T=5", "T=20"]


@pytest.mark.parametrize("seeds", [1, 5])
@pytest.mark.parametrize("stem", ["situations_error_kinds", "situations_situations"])
def test_readable(stem: str, seeds: int) -> None:
    canvas = drawn(examine(spec_of(seeds=tuple(range(seeds))), rows_of(seeds)))[stem].canvas
    canvas.draw_without_rendering()
    texts = [text for text in canvas.findobj(Text) if text.get_text().strip() and text.get_visible()]
    assert min(text.get_fontsize() for text in texts) >= SMALL_TEXT
    boxes = [text.get_window_extent() for text in canvas.axes[0].get_xticklabels()]
    assert all(one.x1 <= two.x0 for one, two in itertools.pairwise(boxes)), "names do not touch"
    page = canvas.bbox
    assert all(page.x0 - 1 <= b.x0 and b.x1 <= page.x1 + 1 for b in (t.get_window_extent() for t in texts))


def test_a_table_where_the_sweeps_own_shows_none(tmp_path: Path) -> None:
    rows = rows_of()
    names = {path.name for path in write_report(spec_of(), rows, tmp_path)}
    assert {"situations_errors.tex", "situations_errors.md", "situations_errors.csv"} <= names
    assert {"situations_error_kinds.pdf", "situations_situations.png"} <= names
    text = (tmp_path / "situations_errors.md").read_text(encoding="utf-8")
    for encoder in ENCODERS:
        cell = summarise(rows.loc[rows["model.encoder"] == encoder, "dAP_missed"], 5)
        assert f"{cell.mean:.1f}" in text
        assert f"{cell.sd:.1f}" in text
    assert "situations_errors.tex" not in report_files(examine(spec_of(cells=("AP", "dAP_missed")), rows), [])
    plain = rows.drop(columns=[*ERROR_METRICS, *SITUATION_METRICS])
    findings = examine(spec_of(cells=("AP",)), plain)
    assert not [name for name in report_files(findings, []) if "error" in name]
    assert not [
        name for name in drawn(findings) if "error" in name or name.startswith("situations_situations")
    ]
