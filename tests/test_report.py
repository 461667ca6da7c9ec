"""Rows to tables: the numbers by hand, the bytes by golden files, the LaTeX by compiling it.

``python -m tests.test_report`` rewrites the fixture and the golden files; read the difference then.
"""

from __future__ import annotations

import json
import re
import shutil
import statistics
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.report import escape
from harness.report.report import write_report
from harness.report.selection import select
from harness.report.statistics import sigma_range, summarise
from harness.report.table_spec import Side
from harness.report.tables import (
    TableSpec,
    latex_table,
    markdown_table,
    mean_table,
    std_table,
    terminal_table,
)
from model.errors import InputError

FIXTURES = Path(__file__).parent / "fixtures"
GOLDEN = FIXTURES / "golden"
ROWS = FIXTURES / "rows_table3a.parquet"

ENCODERS = ("no_comm", "full_thw", "decomp_t_hw", "ifc")
WINDOWS = (5, 10, 15, 20)
LABELS = {
    "no_comm": "No Comm",
    "full_thw": "Full THW",
    "decomp_t_hw": "Decomp T-HW",
    "ifc": "IFC (M=8)",
}
SPEC = TableSpec(
    name="table3a",
    title="Various encoders taking clips of different lengths",
    rows=Side(("model.encoder",), tuple((encoder,) for encoder in ENCODERS)),
    columns=Side(("inference.window",), tuple((window,) for window in WINDOWS)),
    cells=("AP", "AP75", "fps"),
    paper="table3a_encoders",
    paper_std="table4a_std_of_3a",
    std_name="table4a",
    seeds=(0, 1, 2),
    scale="tiny",
    figures=("AP", "fps"),
)


def row(encoder: str, window: int, seed: int, **changes: Any) -> dict[str, Any]:
    """A finished row; the numbers are AP = 50, AP75 = 40, fps = 30 unless changed."""
    return {
        "sweep": "table3a",
        "scale": "tiny",
        "trial": f"{encoder}-{seed}",
        "status": "done",
        "error": None,
        "seed": seed,
        "model.encoder": encoder,
        "inference.window": window,
        "AP": 50.0,
        "AP75": 40.0,
        "fps": 30.0,
        "finished": "2026-01-02T03:04:05+00:00",
        "schema_version": 1,
        "config": json.dumps(
            {
                "model": {"encoder": encoder, "memory_tokens": 8, "backbone": "tiny"},
                "train": {"steps": 360, "clips_per_batch": 8, "frames_per_clip": 3},
            }
        ),
        "data_name": "synthetic-1a2b3c4d",
        "data_kind": "synthetic",
        "data_description": "embedded synthetic videos: 96x128, 20 frames, 4 categories",
        "data_checksum": "9f8e7d6c",
        "split": "valid",
        "code_version": "c0ffee",
        "git_commit": "0123456789abcdef",
        "git_dirty": False,
        "hardware": "AMD EPYC, 2 cores",
        "device": "cpu",
        "threads": 1,
        "torch_version": "2.13.0",
    } | changes


def frame(*rows: dict[str, Any]) -> pd.DataFrame:
    return pd.DataFrame(list(rows), columns=list(row("ifc", 5, 0)))


def fixture_rows() -> pd.DataFrame:
    """Three seeds; one trial failed (Full THW, seed 2), one row is lost (IFC, T=20, seed 1)."""
    draw = np.random.default_rng(3)
    rows = []
    for place, encoder in enumerate(ENCODERS):
        for seed in range(3):
            for window in WINDOWS:
                ap = 40 + 2 * place + window / 5 + draw.normal(0, 1)
                fps = 90 + 2 * window - 5 * place + draw.normal(0, 1)
                numbers = {"AP": ap, "AP75": ap + 4 + draw.normal(0, 0.5), "fps": fps}
                if (encoder, seed) == ("full_thw", 2):
                    numbers = dict.fromkeys(numbers, float("nan"))
                    numbers |= {"status": "failed", "error": "RuntimeError: 100% of memory_used & {gone} #1"}
                if (encoder, window, seed) != ("ifc", 20, 1):
                    rows.append(row(encoder, window, seed, **numbers))
    return frame(*rows)


def full_rows(**changes: Any) -> pd.DataFrame:
    return frame(*[row(e, w, s, **changes) for e in ENCODERS for w in WINDOWS for s in SPEC.seeds])


def both(spec: TableSpec, rows: pd.DataFrame) -> list[str]:
    """LaTeX and Markdown of the means and of the deviations."""
    selection = select(spec, rows)
    tables = [mean_table(spec, selection), std_table(spec, selection, "table4a")]
    return [form(table) for table in tables for form in (latex_table, markdown_table)]


def test_golden_files_byte_for_byte(tmp_path: Path) -> None:
    write_report(replace(SPEC, figures=()), pd.read_parquet(ROWS), tmp_path)
    for path in sorted(GOLDEN.iterdir()):
        assert (tmp_path / path.name).read_bytes() == path.read_bytes(), path.name


def test_printed_numbers_are_the_means_and_deviations_of_the_rows() -> None:
    rows = pd.read_parquet(ROWS)
    printed = markdown_cells(markdown_table(mean_table(SPEC, select(SPEC, rows))))
    for encoder in ENCODERS:
        for window in WINDOWS:
            for metric, name in (("AP", "AP"), ("AP75", "AP75"), ("fps", "FPS")):
                here = rows[(rows["model.encoder"] == encoder) & (rows["inference.window"] == window)]
                values = [float(v) for v in here[here["status"] == "done"][metric]]
                expected = f"{statistics.fmean(values):.1f} ± {statistics.stdev(values):.1f}"
                if len(values) < 3:
                    expected += f" ({len(values)}/3)"
                assert printed[LABELS[encoder]][f"T={window} {name}"] == expected


def markdown_cells(text: str) -> dict[str, dict[str, str]]:
    lines = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if "|" in line
    ]
    return {line[0]: dict(zip(lines[0][1:], line[1:], strict=True)) for line in lines[2:]}


def test_mean_and_deviation_by_hand() -> None:
    cell = summarise([1.0, 2.0, 6.0, float("nan"), float("inf")], planned=5)
    assert (cell.n, cell.planned, cell.mean, cell.low, cell.high) == (3, 5, 3.0, 1.0, 6.0)
    assert cell.sd == pytest.approx(7**0.5)  # (4 + 1 + 9) / (3 - 1)
    assert summarise([2.0], 1).sd is None
    assert summarise([], 2).mean is None


def test_sigma_range_from_chi_square_tables() -> None:
    # chi2(1 df): 2.5% point 0.000982, 97.5% point 5.0239; chi2(4 df): 0.4844 and 11.1433
    assert sigma_range(2) == pytest.approx((5.0239**-0.5, 0.000982069**-0.5), rel=1e-4)
    assert sigma_range(5) == pytest.approx(((4 / 11.1433) ** 0.5, (4 / 0.484419) ** 0.5), rel=1e-4)
    with pytest.raises(ValueError, match="n >= 2"):
        sigma_range(1)


def test_single_seed_prints_no_spread() -> None:
    spec = replace(SPEC, seeds=(0,))
    rows = full_rows()
    means_tex, means_md, deviations_tex, deviations_md = both(spec, rows)
    assert "pm" not in means_tex.split(r"\toprule")[1]
    assert "±" not in means_md
    assert "single runs" in means_md
    assert "0.0" not in deviations_tex + deviations_md
    assert markdown_cells(deviations_md)["No Comm"]["T=5 AP"] == "--"


def test_paper_numbers_stand_below_ours_and_are_called_not_comparable() -> None:
    means, _, deviations, _ = both(SPEC, full_rows())
    assert means.count("paper (not comparable)") == len(ENCODERS)
    assert "are not comparable: other data, scale and hardware." in means
    grey = [re.findall(r"\\textcolor\{black!60\}\{([\d.]+)\}", line) for line in means.splitlines()]
    assert [line for line in grey if line][3] == (
        ["39.0", "42.7", "36.3", "39.6", "43.0", "38.9", "39.8", "43.0", "43.7", "40.4", "43.4", "50.2"]
    )
    assert "FPS" not in deviations.split(r"\toprule")[1], "Table 4 has no FPS"


def test_caption_names_data_spread_and_code() -> None:
    for text in both(SPEC, full_rows(git_dirty=True)):
        assert "Synthetic data: embedded synthetic videos: 96x128" in text
        assert "ddof = 1" in text
        assert "n = 3 seeds" in text
        assert "commit 0123456 + uncommitted changes" in text
        assert "MIXED" not in text
    real = full_rows(
        data_kind="youtube_vis", data_name="ytvis_mini", data_description="YouTube-VIS, 4 videos"
    )
    assert "Synthetic" not in "".join(both(SPEC, real))


def test_small_n_says_how_little_a_deviation_is_worth() -> None:
    spec = replace(SPEC, seeds=(0, 1))
    assert "With n = 2 the true sigma lies within 0.45-31.9 times" in both(spec, full_rows())[2]


def test_speeds_of_two_machines_are_not_averaged() -> None:
    rows = full_rows()
    rows.loc[rows["seed"] == 1, "hardware"] = "NVIDIA V100"
    text = both(SPEC, rows)[1]
    cells = markdown_cells(text)["No Comm"]
    assert cells["T=5 FPS"] == "--"
    assert cells["T=5 AP"] == "50.0 ± 0.0"
    assert "**MIXED hardware, FPS left out" in text
    assert "NVIDIA V100" in text


@pytest.mark.parametrize(
    "column", ["git_commit", "code_version", "data_checksum", "data_name", "schema_version"]
)
def test_mixed_origins_are_loud(column: str) -> None:
    rows = full_rows()
    rows[column] = rows[column].astype(object)
    rows.loc[rows["seed"] == 1, column] = "another"
    assert re.search(r"\*\*[^*]*MIXED[^*]*another[^*]*\*\*", both(SPEC, rows)[1])


def test_failed_and_missing_runs_are_listed_and_never_averaged(tmp_path: Path) -> None:
    rows = full_rows()
    bad = (rows["model.encoder"] == "ifc") & (rows["seed"] == 1)
    rows.loc[bad, ["status", "error", "AP"]] = ["failed", "killed | by\nthe <kernel>", 0.0]
    write_report(replace(SPEC, figures=()), rows[rows["inference.window"] != 20], tmp_path)
    page = (tmp_path / "report.md").read_text()
    assert page.count(r"killed \| by the \<kernel\>") == 3
    assert "50.0 ± 0.0 (2/3)" in page
    assert re.search(r"\| IFC \(M=8\) +\| T=20 +\| 0, 1, 2 +\|", page)


def test_what_does_not_fit_is_a_result(tmp_path: Path) -> None:
    """All seeds too large: OOM. Some: their number is missing from n. Other failures: no number, no OOM."""
    rows = full_rows()
    too_large = (rows["model.encoder"] == "ifc") & (rows["inference.window"] == 20)
    one = (rows["model.encoder"] == "ifc") & (rows["inference.window"] == 15) & (rows["seed"] == 1)
    other = (rows["model.encoder"] == "no_comm") & (rows["inference.window"] == 20)
    rows.loc[too_large | one, ["status", "AP", "AP75", "fps"]] = ["oom", None, None, None]
    rows.loc[other, ["status", "AP", "AP75", "fps"]] = ["timeout", None, None, None]
    latex, text = both(SPEC, rows)[:2]
    cells = markdown_cells(text)
    assert [cells["IFC (M=8)"][f"T=20 {name}"] for name in ("AP", "AP75", "FPS")] == ["OOM"] * 3
    assert cells["IFC (M=8)"]["T=15 AP"] == "50.0 ± 0.0 (2/3)"
    assert cells["No Comm"]["T=20 AP"] == "--"
    assert latex.count("OOM &") + latex.count(r"OOM \\") == 3
    assert "OOM: did not fit in the memory of AMD EPYC, 2 cores (4 runs)." in text
    assert "3 trials did not finish (3 rows), never averaged." in text
    rows["trial_peak_memory_gb"] = 15.987
    write_report(replace(SPEC, figures=()), rows, tmp_path)
    assert (tmp_path / "report.md").read_text().count("| 15.99 ") == 7


def test_newest_row_of_a_run_stands() -> None:
    rows = full_rows()
    older = row("ifc", 5, 0, AP=10.0, finished="2025-12-31T23:59:59Z")
    newer = row("ifc", 5, 0, AP=56.0, finished="2026-01-02T04:00:00+00:00")
    text = both(SPEC, frame(newer, *rows.to_dict("records"), older))[1]
    assert markdown_cells(text)["IFC (M=8)"]["T=5 AP"] == "52.0 ± 3.5"  # 56, 50, 50
    assert "2 older rows superseded" in text
    failed = row("ifc", 5, 0, status="failed", AP=float("nan"), finished="2026-01-03T00:00:00Z")
    again = both(SPEC, frame(*rows.to_dict("records"), failed))[1]
    assert markdown_cells(again)["IFC (M=8)"]["T=5 AP"] == "50.0 ± 0.0 (2/3)"


def test_rows_outside_the_plan_are_counted() -> None:
    strangers = [row("ifc", 5, 9), row("ifc", 36, 0), row("ifc", 5, 0, scale="small", AP=0.0)]
    text = both(SPEC, frame(*full_rows().to_dict("records"), *strangers))[1]
    assert "3 rows outside the plan left out" in text
    assert markdown_cells(text)["IFC (M=8)"]["T=5 AP"] == "50.0 ± 0.0"


@pytest.mark.parametrize("rows", [pd.DataFrame(), frame()], ids=["no columns", "no rows"])
def test_no_rows_still_make_a_report(rows: pd.DataFrame, tmp_path: Path) -> None:
    paths = write_report(SPEC, rows, tmp_path)
    assert all(path.exists() for path in paths)
    page = (tmp_path / "table3a.md").read_text()
    assert "No finished run: every cell is missing." in page
    assert set(markdown_cells(page)["IFC"].values()) == {"--"}


def test_memory_table_finds_the_papers_numbers() -> None:
    spec = replace(
        SPEC,
        rows=Side(("model.memory_tokens",), ((1,), (8,))),
        cells=("AP",),
        paper="table3c_memory_tokens_AP",
        paper_std="table4b_std_of_3c_AP",
    )
    rows = pd.DataFrame(
        [row("ifc", w, s) | {"model.memory_tokens": 8.0} for w in WINDOWS for s in SPEC.seeds]
    )
    selection = select(spec, rows)
    table = mean_table(spec, selection)
    assert table.paper["8", "5", "AP"] == 39.0
    assert [label for _, label in table.rows] == ["M=1", "M=8"]
    assert r"\begin{table}" in latex_table(table), "four number columns fit one text column"
    assert std_table(spec, selection, "table4b").paper["1", "20", "AP"] == 1.3


def test_terminal_table_is_narrow_and_has_ours_only() -> None:
    text = terminal_table(SPEC, pd.read_parquet(ROWS))
    table = text.split("\n\n")[1]
    assert max(map(len, table.splitlines())) <= 100
    assert "NeurIPS" not in text
    assert "Synthetic data" in text


def test_errors_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no column 'seed'"):
        write_report(SPEC, full_rows().drop(columns="seed"), tmp_path)
    with pytest.raises(InputError, match="unknown metric 'APP'"):
        write_report(replace(SPEC, cells=("APP",)), full_rows(), tmp_path)
    with pytest.raises(InputError, match=r"paper\.yaml has no 'table9'"):
        write_report(replace(SPEC, paper="table9"), full_rows(), tmp_path)
    blocked = tmp_path / "file"
    blocked.touch()
    with pytest.raises(InputError, match="cannot write"):
        write_report(replace(SPEC, figures=()), full_rows(), blocked)


def test_the_same_rows_give_the_same_bytes_in_any_order(tmp_path: Path) -> None:
    rows = pd.read_parquet(ROWS)
    first = write_report(SPEC, rows, tmp_path / "a")
    second = write_report(SPEC, rows.sample(frac=1, random_state=1), tmp_path / "b")
    assert [path.name for path in first] == [path.name for path in second]
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes(), one.name
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == sorted(path.name for path in first)


ODD = st.text(alphabet="ab_%&#{}$\\^~<>|*`\"'[]\n\té±×中🙂. -", max_size=30)
ROW_SETS = st.lists(
    st.builds(
        lambda encoder, window, seed, status, ap, odd, day: row(
            encoder,
            window,
            seed,
            status=status,
            AP=ap,
            error=odd,
            data_name=odd,
            hardware=odd,
            git_commit=odd,
            finished=f"2026-01-0{day}T00:00:00Z",
        ),
        st.sampled_from(ENCODERS),
        st.sampled_from((*WINDOWS, float("nan"))),
        st.sampled_from((0, 1, 2, 3)),
        st.sampled_from(("done", "done", "done", "failed", "running")),
        st.one_of(st.floats(0, 100), st.sampled_from((None, float("nan"), float("inf")))),
        ODD,
        st.integers(1, 3),
    ),
    max_size=25,
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(ROW_SETS, ODD)
def test_any_rows_make_whole_tables(rows: list[dict[str, Any]], title: str) -> None:
    for text in both(replace(SPEC, title=title), frame(*rows)):
        assert not re.search(r"\b(nan|inf|None|NaT)\b", text)
        if "tabular" in text:
            bare = re.sub(r"\\[\\{}$%&#_]", "", text)
            assert bare.count("{") == bare.count("}")
            assert bare.count("$") % 2 == 0
            body = text.split(r"\midrule")[1].split(r"\bottomrule")[0]
            widths = {line.count("&") for line in body.splitlines() if line.endswith(r"\\")}
            assert len(widths) == 1
        else:
            lines = [line for line in text.splitlines() if line.startswith("|")]
            assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) == 1


def test_escapes_keep_every_character() -> None:
    assert escape.latex("50% of a_b & {c} #1") == r"50\% of a\_b \& \{c\} \#1"
    assert escape.latex("naïve 中\n") == "naïve [U+4E2D]"
    assert escape.markdown("a|b <c>") == r"a\|b \<c\>"


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
@pytest.mark.parametrize("columns", ["onecolumn", "twocolumn"])
def test_latex_compiles_without_overfull_boxes(columns: str, tmp_path: Path) -> None:
    rows = pd.read_parquet(ROWS)
    rows["data_name"] = "odd_%&#{}$\\^~<>|\"'é中"
    write_report(replace(SPEC, figures=()), rows, tmp_path)
    margin = r"\usepackage[margin=0.75in]{geometry}" if columns == "twocolumn" else ""
    (tmp_path / "page.tex").write_text(
        rf"\documentclass[{columns}]{{article}}{margin}\usepackage{{booktabs}}\usepackage{{xcolor}}"
        r"\begin{document}\input{table3a}\input{table4a}x\end{document}"
    )
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "page.tex"]
    result = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, errors="replace", check=False
    )
    assert result.returncode == 0, result.stdout[-2000:]
    assert "Overfull" not in result.stdout


def rewrite() -> None:
    """Make the fixture and the golden files anew."""
    GOLDEN.mkdir(parents=True, exist_ok=True)
    fixture_rows().to_parquet(ROWS, index=False)
    for path in write_report(replace(SPEC, figures=()), pd.read_parquet(ROWS), GOLDEN):
        print(path.name, file=sys.stderr)


if __name__ == "__main__":
    rewrite()
