"""Figures: what is drawn is what the rows say, in the same bytes, at a size that can be read in print."""

from __future__ import annotations

import io
import json
import re
import xml.etree.ElementTree as ET
import zlib
from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D
from matplotlib.text import Text
from PIL import Image
from scipy import stats

from harness.report.figures import Losses, drawings, figures_of, read_losses
from harness.report.figures.curves import Curve, binned
from harness.report.figures.marks import log_numbers
from harness.report.figures.style import (
    COLUMN,
    PAGE,
    SMALL_TEXT,
    Drawing,
    house_style,
    look,
    saved,
    text_width,
    wrapped,
)
from harness.report.figures.tradeoff import Point, front
from harness.report.findings import Findings, examine
from harness.report.table_spec import Side, TableSpec
from harness.report.verdicts import CellVerdict

ENCODERS = ("no_comm", "full_thw", "decomp_t_hw", "ifc")
WINDOWS = (5, 10, 15, 20)
NONE = Side((), ((),))
LOST = Side(("data.synthetic.lost",), ((0.0,), (0.2,), (0.4,), (0.6,)))
SPEC = TableSpec(
    name="table3a",
    title="Various encoders taking clips of different lengths",
    rows=Side(("model.encoder",), tuple((encoder,) for encoder in ENCODERS)),
    columns=Side(("inference.window",), tuple((window,) for window in WINDOWS)),
    cells=("AP", "AP75", "fps"),
    paper="table3a_encoders",
    paper_std="table4a_std_of_3a",
    std_name="table4a",
    seeds=(0, 1, 2, 3, 4),
    scale="tiny",
    figures=("AP", "fps"),
)
TOKENS = replace(
    SPEC,
    name="table3c",
    rows=Side(("model.memory_tokens",), ((1,), (2,), (4,), (8,), (16,))),
    cells=("AP",),
    figures=("AP",),
    paper="table3c_memory_tokens_AP",
    paper_std="table4b_std_of_3c_AP",
)


def made_rows(spec: TableSpec, spread: float = 1.0) -> pd.DataFrame:
    """Every planned run, with numbers that differ from cell to cell."""
    draw = np.random.default_rng(3)
    rows = []
    for at, row in enumerate(spec.rows.order):
        for across, column in enumerate(spec.columns.order):
            for seed in spec.seeds:
                ap = 40 + 2 * at * spread + across + draw.normal(0, 1)
                rows.append(
                    dict(zip((*spec.rows.keys, *spec.columns.keys), (*row, *column), strict=True))
                    | {
                        "trial": f"{row}-{seed}",
                        "seed": seed,
                        "status": "done",
                        "scale": "tiny",
                        "AP": ap,
                        "AP75": ap + 4,
                        "fps": 90 - 5 * at * spread + 2 * across + draw.normal(0, 1),
                        "peak_memory_gb": 1 + 0.1 * across * (at + 1),
                        "finished": "2026-01-02T03:04:05+00:00",
                        "config": json.dumps({"model": {"memory_tokens": 8}}),
                        "data_name": "synthetic-1a2b3c4d",
                        "data_kind": "synthetic",
                        "hardware": "AMD EPYC, 2 cores",
                        "device": "cpu",
                        "threads": 1,
                    }
                )
    return pd.DataFrame(rows)


def lose(rows: pd.DataFrame, encoder: str, window: int, status: str) -> None:
    """All runs of a cell end so."""
    gone = (rows["model.encoder"] == encoder) & (rows["inference.window"] == window)
    rows.loc[gone, ["AP", "AP75", "fps", "peak_memory_gb"]] = None
    rows.loc[gone, "status"] = status


def made_losses(findings: Findings, steps: int = 120) -> Losses:
    draw = np.random.default_rng(1)
    x = np.arange(1, steps + 1.0)
    columns = findings.spec.columns
    trained = columns.places if columns == LOST else columns.places[:1]
    return Losses(
        tuple(
            Curve(
                f"{row}-{column}-{seed}",
                str(seed),
                row,
                column,
                x,
                2 + 7 * np.exp(-x / 50) + draw.uniform(0, 1, steps),
            )
            for row in findings.spec.rows.places
            for column in trained
            for seed in findings.spec.seeds
        )
    )


def not_comparable(findings: Findings) -> Findings:
    why = "synthetic data, not YouTube-VIS 2019 valid"
    verdicts = {where: CellVerdict(where, "not comparable", why) for where in findings.paper}
    return replace(findings, verdicts=verdicts)


def drawn(findings: Findings, losses: Losses | None = None) -> dict[str, Drawing]:
    with house_style():
        return {drawing.name: drawing for drawing in (draw() for draw in drawings(findings, losses))}


def lines_of(axes: Axes, kind: str) -> dict[str, Line2D]:
    """Label -> line, of all of this kind: means with bars are containers, dots are lines."""
    bars = {str(bars.get_label()): bars.lines[0] for bars in axes.containers}
    found = bars | {str(line.get_label()): line for line in axes.lines}
    return {label: line for label, line in found.items() if label.startswith(kind)}


def labelled(axes: Axes, label: str) -> Line2D:
    return lines_of(axes, label)[label]


def words_in(drawing: Drawing) -> str:
    return "\n".join(text.get_text() for text in drawing.canvas.findobj(Text))


def caps(axes: Axes) -> list[tuple[float, float]]:
    """(x, y) of the ends of all vertical bars."""
    return [tuple(end) for bars in axes.collections for bar in bars.get_segments() for end in bar]


@pytest.fixture(scope="module")
def whole() -> tuple[Findings, dict[str, Drawing]]:
    findings = not_comparable(examine(SPEC, made_rows(SPEC)))
    return findings, drawn(findings, made_losses(findings))


def test_kinds_of_figures_follow_the_data(whole: tuple[Findings, dict[str, Drawing]]) -> None:
    names = ["AP", "fps", "peak_memory_gb", "tradeoff", "training", "paper"]
    assert list(whole[1]) == [f"table3a_{name}" for name in names]
    rows = made_rows(TOKENS).drop(columns=["fps", "peak_memory_gb"])
    assert list(drawn(examine(TOKENS, rows))) == [
        "table3c_AP",
        "table3c_AP_by_memory_tokens",
        "table3c_paper",
    ]
    strides = replace(
        SPEC,
        name="table2d",
        rows=Side(("inference.window", "inference.stride"), ((5, 3), (10, 5))),
        columns=NONE,
        figures=(),
        paper="table2d_strides",
        paper_std=None,
    )
    names = ["seeds", "tradeoff", "paper"]
    assert list(drawn(examine(strides, made_rows(strides)))) == [f"table2d_{name}" for name in names]


@pytest.mark.parametrize("metric", ["AP", "fps"])
def test_lines_show_means_intervals_and_seeds(
    whole: tuple[Findings, dict[str, Drawing]], metric: str
) -> None:
    findings, figures = whole
    axes = figures[f"table3a_{metric}"].canvas.axes[0]
    rows = findings.selection.used
    for index, encoder in enumerate(ENCODERS):
        values = [
            rows[(rows["model.encoder"] == encoder) & (rows["inference.window"] == window)][metric]
            for window in WINDOWS
        ]
        line = labelled(axes, f"_means {encoder}")
        assert line.get_ydata(orig=False) == pytest.approx([v.mean() for v in values])
        assert np.round(line.get_xdata(orig=False)).tolist() == [0, 1, 2, 3], "near its T"
        assert (line.get_color(), line.get_marker()) == (look(index).colour, look(index).marker)
        dots = labelled(axes, f"_seeds {encoder}")
        assert sorted(dots.get_ydata(orig=False)) == pytest.approx(sorted(pd.concat(values)))
        for x, value in zip(line.get_xdata(orig=False), values, strict=True):
            low, high = stats.t.interval(0.95, 4, value.mean(), stats.sem(value))
            ends = sorted(y for at, y in caps(axes) if at == pytest.approx(x))
            assert ends == pytest.approx([low, high])


def test_bars_and_dots_of_different_variants_do_not_share_a_place(
    whole: tuple[Findings, dict[str, Drawing]],
) -> None:
    axes = whole[1]["table3a_AP"].canvas.axes[0]
    lines = [*lines_of(axes, "_means").values(), *lines_of(axes, "_seeds").values()]
    places = [x for line in lines for x in set(np.round(line.get_xdata(orig=False), 6))]
    assert len(places) == len(set(places)) == 2 * 16


def test_a_single_seed_has_no_bar() -> None:
    spec = replace(SPEC, seeds=(0,))
    drawing = drawn(examine(spec, made_rows(spec)))["table3a_AP"]
    axes = drawing.canvas.axes[0]
    assert all(np.isnan(y) for _, y in caps(axes))
    assert not lines_of(axes, "_seeds")
    assert "single runs (n = 1), no interval" in words_in(drawing)
    assert "interval" not in drawing.caption.replace("no interval", "")


def test_cells_without_a_number_are_marked_or_named() -> None:
    rows = made_rows(SPEC)
    lose(rows, "full_thw", 20, "oom")
    lose(rows, "ifc", 10, "failed")
    rows = rows[~((rows["model.encoder"] == "no_comm") & (rows["seed"] == 4))]
    figures = drawn(examine(SPEC, rows))
    for name in ("AP", "fps", "peak_memory_gb"):
        drawing = figures[f"table3a_{name}"]
        axes = drawing.canvas.axes[0]
        assert np.isnan(labelled(axes, "_means full_thw").get_ydata(orig=False)[3])
        assert np.isnan(labelled(axes, "_means ifc").get_ydata(orig=False)[1])
        mark = labelled(axes, "_oom")
        assert (round(mark.get_xdata(orig=False)[0]), mark.get_marker()) == (3, look(1).marker)
        [word] = [text for text in axes.texts if text.get_text() == "OOM"]
        assert word.get_position()[0] == 3
        floor = axes.transAxes.inverted().transform(axes.transData.transform((0, min(finite_y(axes)))))[1]
        assert floor > 0.12, "data stay above the word"
        assert "OOM, did not fit in memory: Full THW at T=20." in drawing.caption
        assert "Missing: IFC (M=8) at T=10." in drawing.caption
        assert "Fewer seeds than planned: No Comm at T=5 (4/5);" in drawing.caption
        assert "n = 4 to 5 seeds" in words_in(drawing)
    for word in ("OOM", "missing"):
        assert words_in(figures["table3a_paper"]).split("\n").count(word) == 3, "one a panel"


def finite_y(axes: Axes) -> list[float]:
    lines = [*lines_of(axes, "_means").values(), *lines_of(axes, "_seeds").values()]
    points = [y for line in lines for y in line.get_ydata(orig=False)] + [y for _, y in caps(axes)]
    return [float(y) for y in points if np.isfinite(y)]


def test_speeds_of_different_machines_are_not_drawn() -> None:
    rows = made_rows(SPEC)
    rows.loc[rows["seed"] == 1, "hardware"] = "NVIDIA V100"
    figures = drawn(examine(SPEC, rows))
    for name in ("fps", "peak_memory_gb", "tradeoff"):
        drawing = figures[f"table3a_{name}"]
        assert "not drawn: mixed hardware" in words_in(drawing)
        assert "NVIDIA V100" in drawing.caption
        assert all(not np.isfinite(line.get_ydata(orig=False)).any() for line in drawing.canvas.axes[0].lines)
    assert len(finite_y(figures["table3a_AP"].canvas.axes[0])) > 0
    assert len(figures["table3a_paper"].canvas.axes) == 2, "AP and AP75, no FPS"


@pytest.mark.parametrize("spec", [SPEC, TOKENS, replace(SPEC, columns=NONE, figures=())])
def test_no_rows_make_no_crash(spec: TableSpec) -> None:
    figures = figures_of(examine(spec, pd.DataFrame()), Losses())
    assert [figure.name for figure in figures][: len(spec.figures)] == [
        f"{spec.name}_{metric}" for metric in spec.figures
    ]
    for figure in figures:
        assert "no finished run" in figure.svg
        assert "Missing: every cell." in figure.caption
        assert figure.caption.startswith("(no data, scale tiny)")


@pytest.mark.parametrize("spec", [SPEC, replace(SPEC, columns=NONE, paper=None, paper_std=None)])
def test_a_metric_that_finished_runs_lack_was_not_measured(spec: TableSpec) -> None:
    figures = drawn(examine(spec, made_rows(spec).drop(columns="fps")))
    drawing = figures["table3a_fps" if spec.columns.keys else "table3a_seeds"]
    for said in (words_in(drawing), drawing.caption):
        assert "FPS was not measured" in said
    assert "no finished run" not in words_in(drawing)
    assert "Missing: every cell" not in drawing.caption


def test_a_trade_off_needs_cells_with_both() -> None:
    rows = made_rows(SPEC)
    early = rows["inference.window"] == 5
    rows.loc[early, "fps"] = None
    rows.loc[~early, "AP"] = None
    assert "no cell has both AP and FPS" in words_in(drawn(examine(SPEC, rows))["table3a_tradeoff"])


def test_a_caption_goes_on_from_its_title(whole: tuple[Findings, dict[str, Drawing]]) -> None:
    for drawing in whole[1].values():
        assert drawing.caption.startswith("(synthetic data, scale tiny, n = 5"), drawing.name
        assert drawing.title not in drawing.caption


def test_tradeoff_has_both_intervals_and_the_front(whole: tuple[Findings, dict[str, Drawing]]) -> None:
    findings, figures = whole
    axes = figures["table3a_tradeoff"].canvas.axes[0]
    for encoder in ENCODERS:
        line = labelled(axes, f"_points {encoder}")
        for metric, data in (("fps", line.get_xdata(orig=False)), ("AP", line.get_ydata(orig=False))):
            means = [findings.cells[encoder, str(window), metric].mean for window in WINDOWS]
            assert data == pytest.approx(means)
    assert len(caps(axes)) == 2 * 2 * 16
    assert sorted(text.get_text() for text in axes.texts) == sorted(["5", "10", "15", "20"] * 4)
    points = [
        Point(n, "", fps, ap, 0, 0)
        for n, fps, ap in (("a", 10, 50), ("b", 20, 40), ("c", 15, 39), ("d", 20, 38), ("e", 5, 50))
    ]
    assert [point.row for point in front(points)] == ["a", "b"]


def test_a_front_of_one_point_is_no_line() -> None:
    rows = made_rows(SPEC)
    highest = (rows["model.encoder"] == "ifc") & (rows["inference.window"] == 20)
    rows.loc[highest, ["AP", "fps"]] += 100
    drawing = drawn(examine(SPEC, rows))["table3a_tradeoff"]
    assert "Pareto front" not in words_in(drawing)
    assert "grey steps" not in drawing.caption
    assert not lines_of(drawing.canvas.axes[0], "_front")


def test_rows_that_are_numbers_have_an_axis_of_their_own() -> None:
    findings = examine(TOKENS, made_rows(TOKENS))
    axes = drawn(findings)["table3c_AP_by_memory_tokens"].canvas.axes[0]
    assert axes.get_xscale() == "log"
    assert [text.get_text() for text in axes.get_xticklabels()] == ["1", "2", "4", "8", "16"]
    for window in ("5", "20"):
        line = labelled(axes, f"_means {window}")
        assert np.round(np.log2(line.get_xdata(orig=False))).tolist() == [0, 1, 2, 3, 4]
        means = [findings.cells[m, window, "AP"].mean for m in ("1", "2", "4", "8", "16")]
        assert line.get_ydata(orig=False) == pytest.approx(means)


def test_a_value_of_zero_stands_before_one() -> None:
    spec = replace(
        TOKENS, rows=Side(("model.memory_tokens",), ((0,), (1,), (8,))), paper=None, paper_std=None
    )
    axes = drawn(examine(spec, made_rows(spec)))["table3c_AP_by_memory_tokens"].canvas.axes[0]
    places = [axes.transData.transform((x, 0))[0] for x in (0, 1, 8)]
    assert places[1] - places[0] == pytest.approx((places[2] - places[1]) / 3, rel=0.01)


def test_paper_and_ours_stand_side_by_side_and_say_what_may_be_compared(
    whole: tuple[Findings, dict[str, Drawing]],
) -> None:
    findings, figures = whole
    drawing = figures["table3a_paper"]
    said = "not comparable: synthetic data, not YouTube-VIS 2019 valid"
    assert said in words_in(drawing)
    assert said in drawing.caption.replace("Not", "not")
    for axes, metric in zip(drawing.canvas.axes, ("AP", "AP75", "fps"), strict=True):
        cells = [(encoder, str(window), metric) for encoder in ENCODERS for window in WINDOWS]
        paper, ours = (bars.lines[0] for bars in axes.containers)
        assert paper.get_xdata(orig=False) == pytest.approx([findings.paper[where] for where in cells])
        assert ours.get_xdata(orig=False) == pytest.approx([findings.cells[where].mean for where in cells])
        assert (
            np.round(paper.get_ydata(orig=False)).tolist()
            == np.round(ours.get_ydata(orig=False)).tolist()
            == [*range(16)]
        )
    legend = [text.get_text() for text in drawing.canvas.legends[0].get_texts()]
    theirs = "published (NeurIPS 2021): mean, 95% t interval (n = 5)"
    assert legend == ["ours: mean, 95% t interval", theirs]
    unjudged = drawn(replace(findings, verdicts={}))["table3a_paper"]
    assert "not judged whether comparable: AP, AP75, FPS" in words_in(unjudged)


def test_both_bars_beside_the_paper_are_t_intervals(whole: tuple[Findings, dict[str, Drawing]]) -> None:
    findings = whole[0]
    where = ("ifc", "20", "AP")
    assert where in findings.paper_sd
    less = replace(findings, paper_sd={where: findings.paper_sd[where]})
    drawing = drawn(less)["table3a_paper"]
    bars, _ = drawing.canvas.axes[0].containers
    [widths] = bars.lines[2]
    ends = [segment[:, 0] for segment in widths.get_segments() if len(segment)]  # none where there is no bar
    mean, error = findings.paper[where], findings.paper_sd[where] / np.sqrt(5)
    assert ends == [pytest.approx(stats.t.interval(0.95, 4, mean, error))]
    assert "only a point where it prints none" in drawing.caption
    bare = drawn(replace(findings, paper_sd={}))["table3a_paper"]
    assert "interval (n = 5)" not in words_in(bare)
    assert "it prints no standard deviation" in bare.caption


def test_curves_are_means_of_steps_and_of_seeds() -> None:
    rows = made_rows(SPEC)
    draw = np.random.default_rng(0)
    trials = sorted(set(rows["trial"]))[:-1]  # one has no curve
    written = {trial: list(enumerate(draw.uniform(1, 9, 130), 1)) for trial in trials}
    written[trials[0]][40] = (41, float("nan"))
    findings = examine(SPEC, rows)
    losses = read_losses(written | {"of another sweep": [(1, 2.0)]}, findings.selection)
    assert len(losses.curves[0].steps) == 129, "a loss that is no number is left out"
    losses = Losses(losses.curves[1:])
    del written[trials[0]]
    assert {curve.trial for curve in losses.curves} == set(written)
    axes = drawn(findings, losses)["table3a_training"].canvas.axes[0]
    means = [line for line in axes.lines if line.get_label() == "_mean"]
    thin = [line for line in axes.lines if line.get_label() == "_seed"]
    assert (len(means), len(thin)) == (4, 18)
    x, y = binned(losses.curves[0], 3)
    assert x.tolist() == [*range(3, 130, 3)], "the last step is no full bin"
    assert y == pytest.approx(losses.curves[0].losses[:129].reshape(43, 3).mean(axis=1))
    first = [binned(curve, 3)[1] for curve in losses.curves if curve.row == "no_comm"]
    assert means[0].get_ydata(orig=False) == pytest.approx(np.mean(first, axis=0))
    assert read_losses({}, findings.selection) == Losses()


def test_curves_of_different_data_have_panels_and_means_of_their_own() -> None:
    spec = replace(SPEC, columns=LOST, figures=(), paper=None, paper_std=None)
    findings = examine(spec, made_rows(spec))
    losses = made_losses(findings)
    drawing = drawn(findings, losses)["table3a_training"]
    panels = [axes for axes in drawing.canvas.axes if axes.get_visible()]
    assert [axes.get_title() for axes in panels] == [f"lost={lost}" for lost in (0, 0.2, 0.4, 0.6)]
    for axes, column in zip(panels, LOST.places, strict=True):
        first = [curve for curve in losses.curves if (curve.row, curve.column) == ("no_comm", column)]
        mean = next(line for line in axes.lines if line.get_label() == "_mean")
        assert len(first) == 5
        expected = np.mean([binned(curve, 6)[1] for curve in first], axis=0)
        assert mean.get_ydata(orig=False) == pytest.approx(expected)
    assert "n = 5 seeds (thin) and their mean (thick)" in words_in(drawing)
    assert ", n = 5): " in drawing.caption
    assert drawing.caption.endswith("a panel for each setting of the data.")


def test_counts_stand_on_a_logarithmic_axis_one_panel_a_frame_size() -> None:
    sizes = ("360x640", "720x1280")
    spec = replace(
        SPEC,
        name="table1",
        columns=Side(("flops.resolution", "inference.window"), tuple((s, t) for s in sizes for t in (5, 36))),
        cells=("flops_g",),
        figures=(),
        seeds=(0,),
        paper="table1_encoder_flops_g",
        paper_std=None,
    )
    rows = made_rows(spec).assign(flops_g=10.0, AP=None, fps=None, peak_memory_gb=None)
    drawing = drawn(examine(spec, rows))["table1_flops_g"]
    assert [axes.get_title() for axes in drawing.canvas.axes] == list(sizes)
    assert drawing.canvas.axes[0].get_yscale() == "log"
    assert "Synthetic" not in words_in(drawing) + drawing.caption
    assert drawing.caption.startswith("(counted, scale tiny): ")


@given(
    low=st.floats(1e-3, 1e4),
    decades=st.floats(0.02, 5),
)
def test_a_logarithmic_axis_has_numbers_that_stand_apart(low: float, decades: float) -> None:
    """In an axis of 1.4 inches, the least that a figure leaves it."""
    high = low * 10**decades
    numbers = log_numbers(low, high)
    assert len(numbers) >= 2
    assert all(low <= number <= high for number in numbers)
    inches = np.diff(np.log10(numbers)) / decades * 1.4
    assert inches.min() > SMALL_TEXT / 72
    assert [float(f"{number:g}") for number in numbers] == pytest.approx(numbers, rel=1e-9)


def test_the_plainest_numbers_that_are_enough() -> None:
    assert log_numbers(4, 2000) == [10, 100, 1000]
    assert log_numbers(1.5, 40) == [2, 5, 10, 20]
    assert log_numbers(2.1, 9.9) == [3, 5, 7]
    assert log_numbers(5.1, 6.9) == [5.5, 6, 6.5]


def hard_cases() -> Iterator[tuple[str, TableSpec, pd.DataFrame]]:
    gaps = made_rows(SPEC)
    for encoder in ENCODERS:
        lose(gaps, encoder, 20, "oom")
    yield "out of memory", SPEC, gaps
    yield "five almost equal", TOKENS, made_rows(TOKENS, spread=0.02)
    odd = tuple(
        (f"${n} a very long % name_of {{a}} variant 中 that says all about its settings",) for n in range(5)
    )
    spec = replace(SPEC, rows=Side(("model.encoder",), odd), paper=None, paper_std=None)
    yield "odd long names", spec, made_rows(spec)
    many = Side(("model.encoder",), tuple((f"variant {n}",) for n in range(16)))
    spec = replace(SPEC, rows=many, paper=None, paper_std=None)
    yield "sixteen", spec, made_rows(spec)
    spec = replace(spec, columns=NONE, figures=())
    yield "sixteen without columns", spec, made_rows(spec)
    spec = replace(SPEC, columns=LOST, figures=(), paper=None, paper_std=None)
    yield "trainings on four data sets", spec, made_rows(spec)
    counted = replace(SPEC, cells=("flops_g",), figures=(), paper=None, paper_std=None)
    for name, least, most in (("narrow", 5.2, 6.1), ("half a decade", 2.2, 8.9), ("wide", 5.0, 1800.0)):
        rows = made_rows(counted).assign(AP=None, fps=None, peak_memory_gb=None)
        yield f"counts, {name}", counted, rows.assign(flops_g=np.geomspace(least, most, len(rows)))
    yield "nothing", SPEC, pd.DataFrame()


def texts_of(canvas: Canvas) -> list[Text]:
    """All words that are drawn: an axis also keeps numbers that lie outside of it."""
    hidden = {text for axes in canvas.axes if not axes.get_visible() for text in axes.findobj(Text)}
    for axes in canvas.axes:
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
                if not low <= tick.get_loc() <= high:
                    hidden |= {tick.label1, tick.label2}
    texts = [text for text in canvas.findobj(Text) if text.get_visible() and text.get_text().strip()]
    return [text for text in texts if text not in hidden]


@pytest.mark.parametrize(("spec", "rows"), [c[1:] for c in hard_cases()], ids=[c[0] for c in hard_cases()])
def test_words_are_readable_and_cover_nothing(spec: TableSpec, rows: pd.DataFrame) -> None:
    """No word below 7 points, none outside, none over another; the legend is clear of the axes."""
    findings = not_comparable(examine(spec, rows))
    for name, drawing in drawn(findings, made_losses(findings) if 0 < len(rows) < 300 else None).items():
        canvas = drawing.canvas
        assert canvas.get_figwidth() in (COLUMN, PAGE)
        canvas.draw_without_rendering()
        texts = texts_of(canvas)
        boxes = [(text.get_text(), text.get_window_extent()) for text in texts]
        assert min(t.get_fontsize() for t in texts) >= SMALL_TEXT, name
        edge = canvas.bbox.padded(1)
        for text, box in boxes:
            assert edge.x0 <= box.x0, (name, text)
            assert box.x1 <= edge.x1, (name, text)
            assert edge.y0 <= box.y0, (name, text)
            assert box.y1 <= edge.y1, (name, text)
        placed = {text.get_text() for axes in canvas.axes for text in axes.texts}  # numbers in the trade-off
        for (text, box), (other, its) in combinations([b for b in boxes if b[0] not in placed], 2):
            shared = min(box.x1, its.x1) - max(box.x0, its.x0), min(box.y1, its.y1) - max(box.y0, its.y0)
            assert min(shared) < 1.5, (name, text, other)
        for legend in canvas.legends:
            assert all(
                not legend.get_window_extent().overlaps(axes.get_window_extent()) for axes in canvas.axes
            )


def test_the_same_rows_give_the_same_bytes_in_any_order() -> None:
    spec = replace(SPEC, rows=Side(("model.encoder",), (("no_comm",), ("ifc",))), figures=("AP",))
    rows = made_rows(spec).drop(columns="peak_memory_gb")
    shuffled = rows.sample(frac=1, random_state=1)
    losses = made_losses(examine(spec, rows))
    first = figures_of(examine(spec, rows), losses)
    assert first == figures_of(examine(spec, shuffled), Losses(losses.curves[::-1]))


def test_files_are_what_a_paper_and_a_page_take(whole: tuple[Findings, dict[str, Drawing]]) -> None:
    """PDF: vectors, type 42 fonts. PNG: 200 dpi. SVG: one small element with words, ids of its own."""
    with house_style():
        figure = saved(drawn(whole[0])["table3a_AP"])
    inside = b"".join(
        zlib.decompress(stream)
        for stream in re.findall(rb"stream\r?\n(.*?)\r?\nendstream", figure.pdf, re.DOTALL)
        if stream[:1] == b"x"
    )
    everything = figure.pdf + inside
    assert b"/CIDFontType2" in everything or b"/TrueType" in everything, "type 42"
    assert b"/FontFile2" in everything
    assert b"/Type3" not in everything
    assert b"/Image" not in figure.pdf.replace(b"/ImageB", b"").replace(b"/ImageC", b"").replace(
        b"/ImageI", b""
    )
    assert b"CreationDate" not in figure.pdf
    with Image.open(io.BytesIO(figure.png)) as picture:
        assert picture.width == COLUMN * 200
    assert figure.svg.startswith("<svg ")
    root = ET.fromstring(figure.svg)
    assert "AP (%)" in "".join(root.itertext())
    assert len(figure.svg) < 60_000
    ids = re.findall(r'id="([^"]+)"', figure.svg)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:href="|url\()#([^")]+)', figure.svg)) == set(ids)
    assert "<style" not in figure.svg, "it would hold for the whole page"


def test_looks_differ_by_marker_alone() -> None:
    assert len({look(index).marker for index in range(11)}) == 11
    assert len({(look(n).colour, look(n).marker, str(look(n).dashes)) for n in range(60)}) == 60


def test_lines_fit_and_keep_every_letter() -> None:
    text = "a sentence with oneverylongwordthatfitsinnolineofthiswidth and $signs$ 中"
    lines = wrapped(text, 0.8).splitlines()
    assert all(text_width(line) <= 0.8 for line in lines)
    letters = "".join(lines).replace(" ", "").replace(r"\$", "$")
    assert letters == text.replace(" ", "").replace("中", "[U+4E2D]")
