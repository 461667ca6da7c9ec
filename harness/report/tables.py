"""A sweep's table as LaTeX, as Markdown and for the terminal. Numbers have one decimal and are never cut.

The paper's Table 3(a) is the model: one row a variant, a group of metrics for each window, and here
below each row, in grey, what the paper prints in its place.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import groupby

import pandas as pd
from tabulate import tabulate

from harness.report import escape
from harness.report.caption import Sentence, mean_caption, std_caption, std_title
from harness.report.paper import paper_cells
from harness.report.selection import Selection, configured, select
from harness.report.statistics import Cell, Place, grid
from harness.report.table_spec import (
    HARDWARE_METRICS,
    TableSpec,
    Values,
    decimals,
    is_counted,
    metric_name,
    place,
)

__all__ = [
    "Table",
    "TableSpec",
    "latex_table",
    "markdown_table",
    "mean_table",
    "row_label",
    "std_table",
    "table_cells",
    "terminal_table",
]

MISSING = "--"
OUT_OF_MEMORY = "OOM"
PAPER_ROW = "paper (not comparable)"
COUNTED_PAPER_ROW = "paper"
"""A count is the same count anywhere."""
WIDE = 5
"""More number columns than this take the width of the page."""


@dataclass(frozen=True)
class Table:
    """A table ready to be printed in any format."""

    name: str
    title: str
    stub: str
    """Head of the first column."""
    rows: tuple[tuple[str, str], ...]
    """(key in ``cells``, printed name), top to bottom."""
    columns: tuple[tuple[str, tuple[str, ...]], ...]
    """(key in ``cells``, printed name of each of its values), left to right."""
    metrics: tuple[str, ...]
    cells: dict[Place, Cell]
    paper: dict[Place, float]
    spread: bool
    """True prints standard deviations alone; False prints means with their deviations."""
    caption: tuple[Sentence, ...]

    def places(self, row: str) -> list[Place]:
        """The cells of a row, left to right."""
        return [(row, column, metric) for column, _ in self.columns for metric in self.metrics]

    @property
    def paper_row(self) -> str:
        """What stands before the paper's numbers."""
        return COUNTED_PAPER_ROW if is_counted(self.metrics) else PAPER_ROW


def mean_table(spec: TableSpec, selection: Selection) -> Table:
    """Means with deviations, as the paper's Tables 3(a), (c), (d).

    Raises:
        InputError: ``spec.paper`` is no key of ``paper.yaml``.
    """
    cells = table_cells(spec, selection, spec.cells)
    paper = paper_cells(spec.paper, spec)
    caption = mean_caption(spec, selection, cells, paper)
    return _table(spec, selection, spec.name, spec.cells, cells, paper, False, caption)


def std_table(spec: TableSpec, selection: Selection, name: str) -> Table:
    """Deviations alone, as the paper's Table 4, with ``spec.paper_std`` of the metrics printed there.

    Raises:
        InputError: ``spec.paper_std`` is no key of ``paper.yaml``.
    """
    paper = paper_cells(spec.paper_std, spec)
    printed = {metric for _, _, metric in paper}
    metrics = tuple(metric for metric in spec.cells if metric in printed or not paper)
    cells = table_cells(spec, selection, metrics)
    caption = std_caption(spec, selection, cells, metrics, paper)
    return _table(spec, selection, name, metrics, cells, paper, True, caption)


def table_cells(spec: TableSpec, selection: Selection, metrics: tuple[str, ...]) -> dict[Place, Cell]:
    """Statistics of every cell. Speeds of several machines are not one quantity: withheld (n = 0)."""
    cells = grid(spec, selection.used, metrics, selection.out_of_memory())
    if not selection.mixed_hardware():
        return cells
    return {
        place: Cell(0, cell.planned) if place[2] in HARDWARE_METRICS and cell.n else cell
        for place, cell in cells.items()
    }


def row_label(spec: TableSpec, values: Values, selection: Selection) -> str:
    """Printed name of a row; IFC carries its number of memory tokens, the paper's M."""
    label = spec.rows.label(values)
    ifc = spec.rows.keys == ("model.encoder",) and values == ("ifc",)
    if ifc and "model.memory_tokens" not in spec.columns.keys:
        used = selection.used if len(selection.used) else selection.failed
        tokens = configured(used[used["row_key"] == "ifc"], "model", "memory_tokens")
        return label if tokens is None else f"{label} (M={tokens})"
    return label


def latex_table(table: Table) -> str:
    """A complete float; a document needs the packages booktabs and xcolor."""
    width = len(table.columns) * len(table.metrics)
    body: list[str] = []
    for key, label in table.rows:
        body += _latex_row(table, key, label)
    float_name = "table*" if width > WIDE else "table"
    return "\n".join(
        [
            r"% Needs \usepackage{booktabs} and \usepackage{xcolor}.",
            r"% Generated from result rows; edits will be lost.",
            rf"\begin{{{float_name}}}[tp]",
            r"\centering",
            r"\setlength{\belowcaptionskip}{5pt}",
            rf"\caption[{{{escape.latex(table.title)}}}]{{%",
            *[_latex_sentence(sentence) for sentence in table.caption],
            "}",
            rf"\label{{tab:{table.name}}}",
            r"\footnotesize",
            r"\setlength{\tabcolsep}{1.5pt}",
            rf"\begin{{tabular*}}{{\linewidth}}{{@{{}}l@{{\extracolsep{{\fill}}}}{'c' * width}@{{}}}}",
            r"\toprule",
            *_latex_head(table),
            r"\midrule",
            *body[:-1],  # no gap below the last row
            r"\bottomrule",
            r"\end{tabular*}",
            rf"\end{{{float_name}}}",
            "",
        ]
    )


def markdown_table(table: Table) -> str:
    """A heading, the table in GitHub's format and its caption."""
    head = [table.stub]
    for _, labels in table.columns:
        head += [f"{', '.join(labels)} {metric_name(metric)}".strip() for metric in table.metrics]
    lines = []
    for key, label in table.rows:
        lines.append([label, *[_plain(table, place) for place in table.places(key)]])
        if table.paper:
            lines.append([table.paper_row, *[_printed(table, where) for where in table.places(key)]])
    rendered = tabulate(
        [[escape.markdown(text) for text in line] for line in lines],
        [escape.markdown(text) for text in head],
        tablefmt="github",
        disable_numparse=True,
    )
    return (
        f"### {escape.markdown(f'{table.name}: {table.title}')}\n\n{rendered}\n\n{markdown_caption(table)}\n"
    )


def markdown_caption(table: Table) -> str:
    """The caption as one paragraph, warnings in bold."""
    texts = [(escape.markdown(sentence.text), sentence.loud) for sentence in table.caption]
    return " ".join(f"**{text}**" if loud else text for text, loud in texts)


def terminal_table(spec: TableSpec, rows: pd.DataFrame) -> str:
    """Our means for the end of a sweep, at most 100 columns wide for the usual four windows.

    Raises:
        InputError: a column that the table needs is not in ``rows``.
    """
    table = mean_table(replace(spec, paper=None), select(spec, rows))
    lines = []
    for key, label in table.rows:
        for metric in table.metrics:
            cells = [_plain(table, (key, column, metric)) for column, _ in table.columns]
            lines.append([label if metric == table.metrics[0] else "", metric_name(metric), *cells])
    head = [table.stub, "", *[", ".join(labels) for _, labels in table.columns]]
    rendered = tabulate(lines, head, tablefmt="simple", disable_numparse=True)
    notes = [sentence.text for sentence in table.caption[1:]]  # the first is the title
    return "\n".join([f"{spec.name}: {spec.title}", "", rendered, "", *map(escape.one_line, notes)])


def _table(
    spec: TableSpec,
    selection: Selection,
    name: str,
    metrics: tuple[str, ...],
    cells: dict[Place, Cell],
    paper: dict[Place, float],
    spread: bool,
    caption: list[Sentence],
) -> Table:
    return Table(
        name=name,
        title=std_title(spec) if spread else spec.title,
        stub=spec.rows.title,
        rows=tuple((place(values), row_label(spec, values, selection)) for values in spec.rows.order),
        columns=tuple((place(values), spec.columns.labels(values)) for values in spec.columns.order),
        metrics=metrics,
        cells=cells,
        paper=paper,
        spread=spread,
        caption=tuple(caption),
    )


def _latex_head(table: Table) -> list[str]:
    """One line a key of the columns, equal neighbours joined, above the metrics."""
    lines = []
    for level in range(len(table.columns[0][1])):
        groups = [list(group) for _, group in groupby(table.columns, key=lambda c: c[1][: level + 1])]
        heads, rules, start = [""], [], 2
        for group in groups:
            width = len(group) * len(table.metrics)
            heads.append(rf"\multicolumn{{{width}}}{{c}}{{{escape.latex(group[0][1][level])}}}")
            rules.append(rf"\cmidrule(lr){{{start}-{start + width - 1}}}")
            start += width
        lines += [" & ".join(heads) + r" \\", "".join(rules)]
    metrics = [_latex_metric(metric) for metric in table.metrics] * len(table.columns)
    return [*lines, " & ".join([escape.latex(table.stub), *metrics]) + r" \\"]


def _latex_metric(metric: str) -> str:
    """AP75 with its threshold below the line, as the paper sets it."""
    return re.sub(r"^(AP|AR)(\d+)$", r"\1$_{\2}$", escape.latex(metric_name(metric)))


def _latex_row(table: Table, key: str, label: str) -> list[str]:
    """Lines of one variant: means, deviations, counts where seeds lack, the paper's numbers, a gap."""
    cells = [table.cells[where] for where in table.places(key)]
    digits = [decimals(metric) for _, _, metric in table.places(key)]
    value: Callable[[Cell], float | None] = (
        (lambda cell: cell.sd) if table.spread else (lambda cell: cell.mean)
    )
    numbers = [_shown(cell, value(cell), count) for cell, count in zip(cells, digits, strict=True)]
    lines = [_latex_line(escape.latex(label), numbers)]
    if not table.spread and any(cell.sd is not None for cell in cells):
        spreads = [
            "" if cell.sd is None else rf"\scriptsize$\pm${_number(cell.sd, count)}"
            for cell, count in zip(cells, digits, strict=True)
        ]
        lines.append(_latex_line("", spreads))
    # On a line of its own, since marks beside the numbers would make every column wider.
    if any(cell.short for cell in cells):
        counts = [rf"\scriptsize {cell.n}/{cell.planned}" if cell.n else "" for cell in cells]
        lines.append(_latex_line(r"\scriptsize seeds", counts))
    if table.paper:
        printed = [_grey(_printed(table, where)) for where in table.places(key)]
        lines.append(_latex_line(_grey(rf"\fontsize{{6}}{{7}}\selectfont {table.paper_row}"), printed))
    return [*lines, r"\addlinespace"]


def _latex_line(first: str, others: list[str]) -> str:
    return " & ".join([first, *others]) + r" \\"


def _grey(text: str) -> str:
    return rf"\textcolor{{black!60}}{{{text}}}"


def _latex_sentence(sentence: Sentence) -> str:
    text = escape.latex(sentence.text)
    return rf"\textbf{{{text}}}" if sentence.loud else text


def _plain(table: Table, where: Place) -> str:
    """A cell as text: ``59.3 ± 1.2 (1/2)``."""
    cell, digits = table.cells[where], decimals(where[2])
    text = _shown(cell, cell.sd if table.spread else cell.mean, digits)
    if not table.spread and cell.sd is not None:
        text += f" ± {_number(cell.sd, digits)}"
    return f"{text} ({cell.n}/{cell.planned})" if cell.short else text


def _printed(table: Table, where: Place) -> str:
    """The paper's number."""
    return _number(table.paper.get(where), decimals(where[2]))


def _shown(cell: Cell, value: float | None, digits: int) -> str:
    """The number; where no run gave one since it did not fit, that is the result."""
    return OUT_OF_MEMORY if cell.n == 0 and cell.out_of_memory else _number(value, digits)


def _number(value: float | None, digits: int) -> str:
    return MISSING if value is None else f"{value:.{digits}f}"
