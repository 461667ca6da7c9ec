"""``report.md``: a sweep on one page, with its verdicts, its failures and its gaps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pandas as pd

from harness.report import escape
from harness.report.comparison import Comparison
from harness.report.figures.style import Figure
from harness.report.findings import Findings
from harness.report.growth_table import growth_lines, growth_markdown
from harness.report.markdown import github, markdown_table
from harness.report.paper_words import judged_on, whose_claims
from harness.report.selection import Selection
from harness.report.statistics import Cell
from harness.report.table import MISSING, OUT_OF_MEMORY, Table, printed, row_label
from harness.report.table_spec import TableSpec, canonical, decimals, metric_name, place
from harness.report.verdicts import OF_A_CELL, OF_A_CLAIM

PROVENANCE = (
    "data_name",
    "data_kind",
    "data_description",
    "data_checksum",
    "split",
    "initial_weights",
    "hardware",
    "device",
    "threads",
    "torch_version",
    "git_commit",
    "git_dirty",
    "code_version",
    "schema_version",
)
"""Columns whose values the page lists with how many rows have them."""

_TESTED = (
    "gap",
    "95% interval",
    "p",
    "test",
    "permutation p",
    "sign-flip p",
    "P(A>B)",
    "n",
    "gap found in 80%",
    "seeds needed",
)
"""Heads of a comparison's numbers"""


def page(findings: Findings, tables: Sequence[Table], figures: Sequence[Figure] = ()) -> str:
    """Everything on one page: what is missing stands there as well as what was found."""
    spec, selection = findings.spec, findings.selection
    parts = [f"# {escape.markdown(f'{spec.name}: {spec.title}')}\n"]
    parts += [markdown_table(table) for table in tables]
    for figure in figures:
        title, caption = escape.markdown(figure.title), escape.markdown(figure.caption)
        parts.append(
            f"### {title}\n\n![{title}]({figure.name}.png) ([PDF]({figure.name}.pdf))\n\n{caption}\n"
        )
    grown = growth_lines(findings)
    parts += [growth_markdown(findings, grown)] if grown else []
    parts += [
        _section(
            f"{whose_claims(spec)}, {judged_on(findings)}",
            _claims(findings),
            "The sweep file names no claim of the paper.",
        ),
        _section("Comparisons of the claims", _comparisons(findings), "None."),
        _section("Against the paper", _against(findings), "No cell was judged against the paper."),
        _section("What the words mean", _words(), ""),
        _section("Failed rows", _failures(spec, selection), "None."),
        _section("Missing runs", _gaps(spec, selection), "None: every planned run has finished."),
        _section("Finished runs without a number", _bare(spec, selection), "None."),
        _section("Every cell", _details(findings), "None."),
        _section("Where the numbers come from", _provenance(selection), "No finished run."),
    ]
    return "\n".join(parts)


def _section(title: str, lines: list[dict[str, str]], empty: str) -> str:
    if not lines:
        return f"### {title}\n\n{empty}\n"
    cells = [[escape.markdown(text) for text in line.values()] for line in lines]
    return f"### {title}\n\n{github(list(lines[0]), cells)}\n"


def _claims(findings: Findings) -> list[dict[str, str]]:
    """What the paper, or the sweep itself, says of the table, in the order of the sweep file."""
    return [
        {
            "claim": found.claim.id,
            "the sweep says" if findings.spec.paper is None else "the paper says": found.claim.says,
            "verdict": found.verdict,
            "p": _probability(found.p),
            "why": found.why,
        }
        for found in findings.claims
    ]


def _comparisons(findings: Findings) -> list[dict[str, str]]:
    """The numbers behind the claims; a positive gap points the claim's way."""
    return [
        {
            "claim": found.claim.id,
            "comparison": gap.where,
            "metric": metric_name(found.claim.metric),
            **_tested(gap.tests, decimals(found.claim.metric) + 1),
        }
        for found in findings.claims
        for gap in found.gaps
    ]


def _tested(tests: Comparison | None, digits: int) -> dict[str, str]:
    if tests is None:
        return dict.fromkeys(_TESTED, MISSING)
    if tests.counted:
        return dict.fromkeys(_TESTED, MISSING) | {"gap": f"{tests.gap:+.{digits}f}"}
    shown = (
        f"{tests.gap:+.{digits}f}",
        _interval(tests.low, tests.high, digits),
        _probability(tests.p),
        "paired t" if tests.paired else "Welch",
        _probability(tests.p_permutation),
        _probability(tests.p_sign_flip),
        f"{tests.probability:.2f}",
        f"{tests.n[0]}, {tests.n[1]}",
        printed(tests.minimal_effect, digits),
        MISSING if tests.seeds_needed is None else str(tests.seeds_needed),
    )
    return dict(zip(_TESTED, shown, strict=True))


def _against(findings: Findings) -> list[dict[str, str]]:
    """Each of the paper's cells with the verdict on ours, in the table's order."""
    spec, lines = findings.spec, []
    names = _names(spec, findings.selection)
    for row, column, metric in findings.cells:
        found = findings.verdicts.get((row, column, metric))
        if found is not None:
            paper, ours = findings.paper.get(found.place), findings.cells[found.place].mean
            lines.append(
                {
                    **_sides(spec, names[0][row], names[1][column]),
                    "metric": metric_name(metric),
                    "ours": printed(ours, decimals(metric)),
                    "paper": printed(paper, decimals(metric)),
                    "verdict": found.verdict,
                    "why": found.why,
                }
            )
    return lines


def _words() -> list[dict[str, str]]:
    return [
        {"verdict": verdict, "of a cell": OF_A_CELL[verdict], "of a claim": OF_A_CLAIM[verdict]}
        for verdict in OF_A_CELL
    ]


def _failures(spec: TableSpec, selection: Selection) -> list[dict[str, str]]:
    """Every row that did not finish, whether or not a newer one took its place."""
    return [
        {
            "trial": _text(row.get("trial")),
            **{key: _text(row.get(key)) for key in (*spec.rows.keys, *spec.columns.keys)},
            "seed": _text(row.get("seed")),
            "status": _text(row.get("status")) + (" (superseded)" if row["superseded"] else ""),
            "error": _text(row.get("error")),
            "peak memory (GB)": _gigabytes(row.get("trial_peak_memory_gb")),
        }
        for row in selection.failed.to_dict("records")
    ]


def _gaps(spec: TableSpec, selection: Selection) -> list[dict[str, str]]:
    names, heads = _names(spec, selection)
    return [
        {**_sides(spec, names[row], heads[column]), "seeds": ", ".join(map(str, seeds))}
        for row, column, seeds in selection.missing
    ]


def _bare(spec: TableSpec, selection: Selection) -> list[dict[str, str]]:
    """Runs that finished and lack a finite number that others have; the caption says what all lack."""
    names, heads = _names(spec, selection)
    lines = []
    for position, metrics in selection.without_number(selection.measured(spec.cells)).items():
        run = selection.used.iloc[position]
        lines.append(
            {
                "trial": _text(run["trial"]),
                **_sides(spec, names[run["row_key"]], heads[run["column_key"]]),
                "seed": _text(run["seed"]),
                "no number of": ", ".join(map(metric_name, metrics)),
            }
        )
    return lines


def _names(spec: TableSpec, selection: Selection) -> tuple[dict[str, str], dict[str, str]]:
    """Printed names of rows and of columns."""
    rows = {place(values): row_label(spec, values, selection) for values in spec.rows.order}
    return rows, {place(values): spec.columns.label(values) for values in spec.columns.order}


def _sides(spec: TableSpec, row: str, column: str) -> dict[str, str]:
    """Row and, if the table has columns, column of a listed cell."""
    named = {", ".join(spec.rows.keys): row}
    return {**named, ", ".join(spec.columns.keys): column} if spec.columns.keys else named


def _details(findings: Findings) -> list[dict[str, str]]:
    """Mean, deviation, interval, n and range of each cell, one a line."""
    spec = findings.spec
    names, heads = _names(spec, findings.selection)
    return [
        {
            **_sides(spec, names[row], heads[column]),
            "metric": metric_name(metric),
            **_numbers(findings.cells[row, column, metric], decimals(metric)),
        }
        for row in spec.rows.places
        for column in spec.columns.places
        for metric in spec.cells
    ]


def _numbers(cell: Cell, digits: int) -> dict[str, str]:
    low, high = cell.interval() or (None, None)
    return {
        "mean": OUT_OF_MEMORY if cell.n == 0 and cell.out_of_memory else printed(cell.mean, digits),
        "SD (ddof=1)": printed(cell.sd, digits),
        "95% t interval": _interval(low, high, digits),
        "min": printed(cell.low, digits),
        "max": printed(cell.high, digits),
        "n": f"{cell.n}/{cell.planned}",
    }


def _provenance(selection: Selection) -> list[dict[str, str]]:
    if selection.used.empty:
        return []
    lines = []
    for column in PROVENANCE:
        if column in selection.used:
            counts = Counter(selection.used[column].astype(object).tolist())
            texts: Counter[str] = Counter()
            for value, n in counts.items():
                texts[_text(value)] += n
            lines += [{"column": column, "value": text, "rows": str(texts[text])} for text in sorted(texts)]
    return lines


def _gigabytes(value: object) -> str:
    known = isinstance(value, float) and value == value  # NaN differs from itself
    return f"{value:.2f}" if known else MISSING


def _text(value: object) -> str:
    absent = value is None or value is pd.NaT or value is pd.NA or value != value  # NaN differs from itself
    return MISSING if absent else escape.one_line(canonical(value))


def _interval(low: float | None, high: float | None, digits: int) -> str:
    return MISSING if low is None or high is None else f"{low:.{digits}f} to {high:.{digits}f}"


def _probability(p: float | None) -> str:
    """Two digits that count; below 0.001 the order of size is all that is meant."""
    if p is None:
        return MISSING
    return "<0.001" if p < 0.001 else f"{p:.3f}"
