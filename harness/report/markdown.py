"""A table as Markdown, in GitHub's format."""

from __future__ import annotations

from collections.abc import Sequence

from tabulate import tabulate

from harness.report import escape
from harness.report.table import Table
from harness.report.table_spec import Place, metric_name


def markdown_table(table: Table) -> str:
    """A heading, the table and its caption."""
    head = [table.stub]
    for _, labels in table.columns:
        head += [f"{', '.join(labels)} {metric_name(metric)}".strip() for metric in table.metrics]
    lines = []
    for key, label in table.rows:
        lines.append([escape.markdown(label), *[_number(table, where) for where in table.places(key)]])
        if table.paper:
            lines.append([table.paper_row, *[_papers(table, where) for where in table.places(key)]])
    title = escape.markdown(f"{table.name}: {table.title}")
    return f"### {title}\n\n{github(head, lines)}\n\n{markdown_caption(table)}\n"


def markdown_caption(table: Table) -> str:
    """The caption as one paragraph, warnings in bold."""
    texts = [(escape.markdown(sentence.text), sentence.loud) for sentence in table.caption]
    return " ".join(f"**{text}**" if loud else text for text, loud in texts)


def github(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table of ready texts below a head that is still to be escaped."""
    escaped = [escape.markdown(text) for text in head]
    return tabulate(lines, escaped, tablefmt="github", disable_numparse=True)


def plain(table: Table, where: Place) -> str:
    """A cell as text: ``59.3 ± 1.2 (1/2)``."""
    deviation, seeds = table.deviation(where), table.seeds(where)
    return table.number(where) + (f" ± {deviation}" if deviation else "") + (f" ({seeds})" if seeds else "")


def _number(table: Table, where: Place) -> str:
    text = plain(table, where)
    return f"**{text}**" if where in table.best else text


def _papers(table: Table, where: Place) -> str:
    return f"{table.papers(where)} {table.marks.get(where, '')}".strip()
