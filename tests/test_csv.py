"""The tables as data: every number as it was computed, and nothing that is no number."""

from __future__ import annotations

import csv
import io
import statistics

import pytest
from scipy import stats

from harness.report.csv_table import csv_claims, csv_comparisons, csv_deviations, csv_table
from harness.report.findings import Findings, examine
from harness.report.statistics import sigma_range
from tests.judged_by_hand import judged
from tests.report_rows import SPEC, drawn_rows, fixture_rows, spec_of


def lines_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def small() -> Findings:
    spec = spec_of("table2d")
    return judged(examine(spec, drawn_rows(spec)))


def test_one_line_a_cell_and_metric_with_the_numbers_in_full() -> None:
    findings = small()
    lines = lines_of(csv_table(findings))
    assert len(lines) == 4 * 3
    line = next(line for line in lines if line["inference.window"] == "20" and line["metric"] == "AP")
    rows = drawn_rows(findings.spec)
    values = [float(value) for value in rows[rows["inference.window"] == 20]["AP"]]
    low, high = stats.t.interval(0.95, 4, statistics.fmean(values), stats.sem(values))
    assert (line["inference.stride"], line["unit"], line["n"], line["planned"]) == ("10", "%", "5", "5")
    assert float(line["mean"]) == pytest.approx(statistics.fmean(values), rel=1e-14)
    assert float(line["sd"]) == pytest.approx(statistics.stdev(values), rel=1e-14)
    assert (float(line["ci_low"]), float(line["ci_high"])) == pytest.approx((low, high), rel=1e-11)
    assert (float(line["min"]), float(line["max"])) == (min(values), max(values))
    assert (line["out_of_memory"], line["best"], line["paper"], line["paper_sd"]) == ("0", "true", "42.4", "")
    place = ("20 / 10", "", "AP")
    assert (line["verdict"], line["why"]) == (findings.verdicts[place].verdict, findings.verdicts[place].why)
    assert [each["best"] for each in lines].count("true") == 1


def test_what_is_not_known_is_empty() -> None:
    rows = fixture_rows()
    rows.loc[(rows["model.encoder"] == "ifc") & (rows["seed"] != 0), ["status", "AP"]] = ["oom", None]
    rows.loc[rows["model.encoder"] == "full_thw", ["status", "AP"]] = ["failed", None]
    lines = lines_of(csv_table(examine(SPEC, rows)))
    one = next(line for line in lines if line["model.encoder"] == "ifc" and line["metric"] == "AP")
    assert (one["n"], one["out_of_memory"]) == ("1", "2")
    assert one["mean"] == one["min"] == one["max"] != ""
    assert (one["sd"], one["ci_low"], one["ci_high"], one["best"]) == ("", "", "", "false")
    assert one["verdict"] == "not comparable"
    assert one["why"].startswith("embedded synthetic data, not YouTube-VIS 2019 valid; another recipe (")
    none = next(line for line in lines if line["model.encoder"] == "full_thw")
    assert (none["n"], none["mean"], none["paper"], none["paper_sd"]) == ("0", "", "37.2", "0.4")


def test_deviations_stand_with_the_interval_of_sigma() -> None:
    findings = examine(SPEC, fixture_rows())
    lines = lines_of(csv_deviations(findings, ("AP", "AP75")))
    assert len(lines) == 4 * 4 * 2
    sd = findings.cells["no_comm", "5", "AP"].sd
    assert sd is not None
    assert float(lines[0]["sd"]) == sd
    low, high = sigma_range(3)
    sigma = float(lines[0]["sigma_low"]), float(lines[0]["sigma_high"])
    assert sigma == pytest.approx((sd * low, sd * high), rel=1e-11)
    assert lines[0]["paper_sd"] == "1.0"


def test_claims_and_their_comparisons() -> None:
    findings = small()
    claims = lines_of(csv_claims(findings))
    assert [(line["claim"], line["verdict"], line["p"]) for line in claims] == [
        ("last-wins", "consistent", "0.0625"),
        ("first-is-best", "inconclusive", ""),
    ]
    first, second = lines_of(csv_comparisons(findings))
    assert (first["comparison"], first["gap"], first["p_sign_flip"]) == ("last - first", "1.25", "")
    assert (first["seeds_needed"], first["n_a"], first["n_b"]) == ("9", "5", "4")
    assert second["gap"] == second["n_a"] == ""


def test_rfc_4180() -> None:
    findings = small()
    for text in (csv_table(findings), csv_claims(findings), csv_comparisons(findings)):
        assert text.endswith("\r\n")
        assert text.count("\r\n") == text.count("\n") == text.count("\r")
        assert len({len(line) for line in csv.reader(io.StringIO(text, newline=""))}) == 1
    assert ',"because of ""reproduced"", 100% & more"' in csv_table(findings)
