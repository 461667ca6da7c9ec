"""Rows in, a folder of tables and figures out: the last step of a sweep, repeatable at any time."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from tabulate import tabulate

from harness.report import escape
from harness.report.selection import Selection, select
from harness.report.statistics import Cell
from harness.report.table_spec import TableSpec, canonical, decimals, metric_name, place
from harness.report.tables import (
    MISSING,
    Table,
    latex_table,
    markdown_table,
    mean_table,
    row_label,
    std_table,
    table_cells,
)
from model.errors import InputError
from model.whole_file import whole_file

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
"""Columns whose values the report lists with how many rows have them."""


def write_report(spec: TableSpec, rows: pd.DataFrame, out: Path) -> list[Path]:
    """Write tables (``.tex``, ``.md``), figures (``.pdf``, ``.png``) and ``report.md``; return their paths.

    The same rows give the same bytes. Each file is replaced as a whole or not at all.

    Raises:
        InputError: a needed column is not in ``rows``, ``paper.yaml`` lacks a named table, or
            ``out`` cannot be written.
    """
    selection = select(spec, rows)
    tables = [mean_table(spec, selection)]
    if spec.std_name is not None:
        tables.append(std_table(spec, selection, spec.std_name))

    contents: dict[str, bytes] = {}
    for table in tables:
        contents[f"{table.name}.tex"] = latex_table(table).encode()
        contents[f"{table.name}.md"] = markdown_table(table).encode()
    if spec.figures:
        from harness.report.figures import draw  # matplotlib takes a second to import

        for metric in spec.figures:
            for suffix, picture in draw(spec, selection, metric).items():
                contents[f"{spec.name}_{metric}.{suffix}"] = picture
    contents["report.md"] = _page(spec, selection, tables).encode()
    return [write_whole(out / name, content) for name, content in contents.items()]


def _page(spec: TableSpec, selection: Selection, tables: list[Table]) -> str:
    """``report.md``: everything on one page, failures and gaps included."""
    parts = [f"# {escape.markdown(f'{spec.name}: {spec.title}')}\n"]
    parts += [markdown_table(table) for table in tables]
    for metric in spec.figures:
        name = f"{spec.name}_{metric}"
        parts.append(
            f"### {metric_name(metric)}\n\n![{metric_name(metric)}]({name}.png) ([PDF]({name}.pdf))\n"
        )
    parts += [
        _section("Failed rows", _failures(spec, selection), "None."),
        _section("Missing runs", _gaps(spec, selection), "None: every planned run has finished."),
        _section("Every cell", _details(spec, selection), "None."),
        _section("Where the numbers come from", _provenance(selection), "No finished run."),
    ]
    return "\n".join(parts)


def _section(title: str, lines: list[dict[str, str]], empty: str) -> str:
    if not lines:
        return f"### {title}\n\n{empty}\n"
    cells = [[escape.markdown(text) for text in line.values()] for line in lines]
    rendered = tabulate(cells, list(lines[0]), tablefmt="github", disable_numparse=True)
    return f"### {title}\n\n{rendered}\n"


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
    names = {place(values): row_label(spec, values, selection) for values in spec.rows.order}
    heads = {place(values): spec.columns.label(values) for values in spec.columns.order}
    return [
        {**_sides(spec, names[row], heads[column]), "seeds": ", ".join(map(str, seeds))}
        for row, column, seeds in selection.missing
    ]


def _sides(spec: TableSpec, row: str, column: str) -> dict[str, str]:
    """Row and, if the table has columns, column of a listed cell."""
    named = {", ".join(spec.rows.keys): row}
    return {**named, ", ".join(spec.columns.keys): column} if spec.columns.keys else named


def _details(spec: TableSpec, selection: Selection) -> list[dict[str, str]]:
    """Mean, deviation, n and range of each cell, one a line."""
    cells = table_cells(spec, selection, spec.cells)
    lines = []
    for row in spec.rows.order:
        for column in spec.columns.order:
            for metric in spec.cells:
                lines.append(
                    {
                        **_sides(spec, row_label(spec, row, selection), spec.columns.label(column)),
                        "metric": metric_name(metric),
                        **_numbers(cells[place(row), place(column), metric], decimals(metric)),
                    }
                )
    return lines


def _numbers(cell: Cell, digits: int) -> dict[str, str]:
    named = {"mean": cell.mean, "SD (ddof=1)": cell.sd, "min": cell.low, "max": cell.high}
    shown = {name: MISSING if value is None else f"{value:.{digits}f}" for name, value in named.items()}
    return {**shown, "n": f"{cell.n}/{cell.planned}"}


def _provenance(selection: Selection) -> list[dict[str, str]]:
    if selection.used.empty:
        return []
    lines = []
    for column in PROVENANCE:
        if column in selection.used:
            counts = selection.used[column].map(_text).value_counts().sort_index()
            lines += [{"column": column, "value": str(value), "rows": str(n)} for value, n in counts.items()]
    return lines


def _gigabytes(value: object) -> str:
    known = isinstance(value, float) and value == value  # NaN differs from itself
    return f"{value:.2f}" if known else MISSING


def _text(value: object) -> str:
    absent = value is None or value is pd.NaT or value is pd.NA or value != value  # NaN differs from itself
    return MISSING if absent else escape.one_line(canonical(value))


def write_whole(path: Path, content: bytes) -> Path:
    """Put a file in place as a whole, so that a reader never meets half of one."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as draft:
            draft.write_bytes(content)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from error
    return path
