"""The scaling sweep's report from made rows: exponents that are known, found again in every form."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest

from harness.report.figures import figures_of
from harness.report.figures.growth import draw
from harness.report.figures.words import data_and_scale
from harness.report.findings import Findings, examine
from harness.report.growth import complexity
from harness.report.growth_table import growth_lines
from harness.report.report import report_files
from harness.report.table_spec import TableSpec
from model.errors import InputError
from tests.report_rows import row, runs, spec_of
from tests.test_growth import FORMULAS

TOKENS = {"32x48": 6, "64x96": 24, "128x192": 96}


@pytest.fixture(scope="module")
def spec() -> TableSpec:
    return spec_of("scaling", seeds=1)


def made(spec: TableSpec, **changes: Any) -> Findings:
    """The encoder takes exactly the paper's complexity; the model T^1, memory T^2 x HW."""
    rows = []
    for (encoder,), (size, window), seed in runs(spec):
        tokens = TOKENS[str(size)]
        config = {"model": {"encoder": encoder, "memory_tokens": 8, "hidden_dim": 48, "backbone": "tiny"}}
        numbers = {
            "AP": None,
            "model_fps": 100.0,
            "encoder_ms": complexity(FORMULAS[encoder], 48, int(str(window)), tokens) / 1e6,
            "model_memory_gb": int(str(window)) ** 2 * tokens / 1e6,
            "flops_g": float(tokens),
            "frame_tokens": tokens,
            "model_memory_kind": "estimated tensors",
        }
        own = row(str(encoder), int(str(window)), seed) | {
            "sweep": spec.name,
            "scale": spec.scale,
            "fps": None,
        }
        varied = {"clip.resolution": size, "config": json.dumps({**config, "inference": {"window": window}})}
        rows.append(own | varied | numbers | changes)
    return examine(spec, pd.DataFrame(rows))


def test_known_exponents_are_found(spec: TableSpec) -> None:
    lines = growth_lines(made(spec))
    assert {line.along for line in lines} == {"T", "HW"}
    assert len(lines) == 4 * 4 * (3 + 5)
    for line in lines:
        whole, upper, formula, formula_upper = line.fits
        assert whole is not None
        assert upper is not None
        known = {
            "model_fps": {"T": 1, "HW": 0},
            "model_memory_gb": {"T": 2, "HW": 1},
            "flops_g": {"T": 0, "HW": 1},
        }
        if line.metric in known:
            assert whole.exponent == pytest.approx(known[line.metric][line.along], abs=1e-9)
        else:
            assert formula is not None
            assert formula_upper is not None
            assert whole.exponent == pytest.approx(formula.exponent)
            assert upper.exponent == pytest.approx(formula_upper.exponent)


def test_the_formula_bends_as_the_paper_says(spec: TableSpec) -> None:
    found = {(line.row, line.along): line for line in growth_lines(made(spec)) if line.metric == "encoder_ms"}
    no_comm, full = found["No Comm", "T"].fits[3], found["Full THW", "T"].fits[3]
    assert no_comm is not None
    assert full is not None
    assert no_comm.exponent == pytest.approx(1), "frames alone: linear in T"
    assert 1.8 < full.exponent < 2, "all tokens together: nearly quadratic"


def test_every_form_says_untrained_and_estimated(spec: TableSpec) -> None:
    findings = made(spec)
    files = report_files(findings, figures_of(findings))
    assert {"scaling_growth.tex", "scaling_growth.md", "scaling_growth.csv"} <= set(files)
    assert {"scaling_growth_T.png", "scaling_growth_HW.pdf"} <= set(files)
    for name in ("scaling.tex", "scaling.md", "scaling_growth.tex", "scaling_growth.md", "report.md"):
        assert "untrained" in files[name].decode().lower(), name
    assert "ESTIMATED from live tensors" in files["scaling.md"].decode()
    assert "trained once" not in files["report.md"].decode()
    assert "C = 48" in files["scaling_growth.md"].decode()
    tex = files["scaling_growth.tex"].decode()
    assert tex.count("{") == tex.count("}")
    table = list(csv.DictReader(io.StringIO(files["scaling_growth.csv"].decode())))
    assert len(table) == 4 * 4 * (3 + 5)
    assert files == report_files(findings, figures_of(findings)), "the same rows give the same bytes"


def test_sizes_that_nobody_recorded_are_not_fitted(spec: TableSpec) -> None:
    assert growth_lines(made(spec, frame_tokens=None)) == []


def test_growth_needs_complexities(spec: TableSpec) -> None:
    wrong = replace(spec, growth="table3a_encoders")
    with pytest.raises(InputError, match=r"'table3a_encoders' of paper\.yaml has no complexity"):
        growth_lines(made(wrong))


def test_memory_tokens_have_no_formula() -> None:
    spec = spec_of("scaling_memory", seeds=1)
    rows = []
    for (tokens,), (size, window), seed in runs(spec):
        config = {"model": {"encoder": "ifc", "memory_tokens": tokens, "hidden_dim": 48, "backbone": "tiny"}}
        numbers = {
            "model_fps": 9.0,
            "encoder_ms": float(str(tokens)) ** 0.5,
            "model_memory_gb": 1.0,
            "flops_g": 1.0,
        }
        varied = {"clip.resolution": size, "model.memory_tokens": tokens, "frame_tokens": 24}
        whole = {"config": json.dumps({**config, "inference": {"window": window}}), "sweep": spec.name}
        rows.append(row("ifc", int(str(window)), seed) | {"scale": spec.scale} | varied | numbers | whole)
    findings = examine(spec, pd.DataFrame(rows))
    lines = [line for line in growth_lines(findings) if (line.along, line.metric) == ("M", "encoder_ms")]
    assert [line.at for line in lines] == ["T=5, HW=24", "T=36, HW=24"]
    for line in lines:
        whole_fit, _, *formula = line.fits
        assert whole_fit is not None
        assert whole_fit.exponent == pytest.approx(0.5)
        assert formula == [None, None]
    assert "scaling_memory_growth.tex" in report_files(findings, figures_of(findings))


@pytest.mark.parametrize(
    ("along", "sizes"), [("T", ["5", "10", "15", "20", "36"]), ("HW", ["6", "24", "96"])]
)
def test_every_axis_of_growth_can_be_read(spec: TableSpec, along: str, sizes: list[str]) -> None:
    canvas = draw(made(spec), along).canvas
    assert len(canvas.axes) == 3
    for axes in canvas.axes:
        assert [label.get_text() for label in axes.get_xticklabels()] == sizes
        low, high = axes.get_ylim()
        assert sum(low <= tick <= high for tick in axes.get_yticks()) >= 2


def test_figures_of_untrained_models_name_no_data(spec: TableSpec) -> None:
    assert data_and_scale(made(spec)) == "Untrained, scale tiny"
