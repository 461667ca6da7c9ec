"""A table as LaTeX, with booktabs: a float for a paper's body that also compiles on its own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import groupby

from harness.metrics import ERROR_METRICS, SITUATION_METRICS
from harness.report import escape
from harness.report.sentence import Sentence
from harness.report.table import Table
from harness.report.table_spec import Place, metric_name

WIDE = 5
"""More number columns than this take the width of the page."""
NARROW = 3
"""Up to so many number columns stand together; more are spread over the width."""

_ALONE = r"""% Made from result rows; edits will be lost. Packages: booktabs and xcolor, no other.
% \input this file in the body of a document, or run pdflatex on it alone: \@nodocument is \relax in a
% body and nowhere else, and where there is no body the lines down to \fi bring one.
\let\tableend\relax
\expandafter\ifx\csname @nodocument\endcsname\relax\else
\documentclass{article}
\usepackage{booktabs,xcolor}
\pagestyle{empty}
\renewcommand{\thetable}{@number@}
\def\tableend{\end{document}}
\begin{document}
\fi"""

_ALL = r"""% Made from result rows; edits will be lost.
\documentclass[twocolumn]{article}
\usepackage[margin=0.75in]{geometry}
\usepackage{booktabs,xcolor}
% Floats fill their pages from the top.
\makeatletter
\setlength{\@fptop}{0pt}
\setlength{\@dblfptop}{0pt}
\makeatother
\begin{document}"""


def latex_table(table: Table) -> str:
    """A file with one float, for ``\\input`` or for pdflatex as it is."""
    width = len(table.columns) * len(table.metrics)
    float_name = "table*" if width > WIDE else "table"
    head = [sentence for sentence in table.caption if not sentence.note]
    notes = [sentence for sentence in table.caption if sentence.note]
    return "\n".join(
        [
            _ALONE.replace("@number@", _papers_count(table.name)),
            rf"\begin{{{float_name}}}[tp]",
            r"\centering",
            r"\setlength{\abovecaptionskip}{0pt}",
            r"\setlength{\belowcaptionskip}{5pt}",
            rf"\caption[{{{escape.latex(table.title)}}}]{{%",
            *map(_sentence, head),
            "}",
            rf"\label{{tab:{table.name}}}",
            r"\footnotesize",
            *_grid(table, width),
            r"\par\smallskip",
            r"\begin{minipage}{\linewidth}\raggedright\scriptsize",
            *map(_sentence, notes),
            r"\end{minipage}",
            rf"\end{{{float_name}}}",
            r"\tableend",
            "",
        ]
    )


def latex_list(name: str, title: str, head: Sequence[str], lines: Sequence[Sequence[str]], note: str) -> str:
    """A float of the page's width with plain texts under a head, in the form of :func:`latex_table`."""
    number = _papers_count(name)
    body = [_line(escape.latex(line[0]), [escape.latex(text) for text in line[1:]]) for line in lines]
    return "\n".join(
        [
            _ALONE.replace("@number@", number),
            r"\begin{table*}[tp]",
            r"\centering",
            rf"\caption{{{escape.latex(title)}.}}",
            rf"\label{{tab:{name}}}",
            r"\scriptsize",
            r"\setlength{\tabcolsep}{3pt}",
            rf"\begin{{tabular}}{{@{{}}{'l' * len(head)}@{{}}}}",
            r"\toprule",
            _line(escape.latex(head[0]), [escape.latex(text) for text in head[1:]]),
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            r"\par\smallskip",
            r"\begin{minipage}{\linewidth}\raggedright\scriptsize",
            escape.latex(note),
            r"\end{minipage}",
            r"\end{table*}",
            r"\tableend",
            "",
        ]
    )


def all_tables_document(names: Sequence[str]) -> str:
    """A two-column document of all tables.

    Args:
        names: paths of the tables' files from the document's folder, with or without ``.tex``.
    """
    lines = []
    for name in names:
        path = name.removesuffix(".tex")
        lines += [rf"\renewcommand{{\thetable}}{{{_papers_count(path)}}}", rf"\input{{{path}}}"]
    return "\n".join([_ALL, *lines, r"\end{document}", ""])


def _papers_count(path: str) -> str:
    """``3(a)`` for ``.../table3a``: the paper's number; LaTeX's own for a table that is not the paper's."""
    found = re.search(r"(?:^|/)table(\d+)([a-z]?)$", path)
    if found is None:
        return r"\arabic{table}"
    return found[1] + (f"({found[2]})" if found[2] else "")


def _grid(table: Table, width: int) -> list[str]:
    """Head and body between booktabs' rules."""
    if width > NARROW:
        space, name = r"\setlength{\tabcolsep}{1.5pt}", "tabular*"
        spread = r"@{\hspace{5pt}\extracolsep{\fill}}"
        begin = rf"\begin{{tabular*}}{{\linewidth}}{{@{{}}l{spread}{'c' * width}@{{}}}}"
    else:
        space, name = r"\setlength{\tabcolsep}{6pt}", "tabular"
        begin = rf"\begin{{tabular}}{{@{{}}l{'c' * width}@{{}}}}"
    body = [line for key, label in table.rows for line in _row(table, key, label)]
    return [
        space,
        begin,
        r"\toprule",
        *_head(table),
        r"\midrule",
        *body[:-1],  # no gap below the last row
        r"\bottomrule",
        rf"\end{{{name}}}",
    ]


def _head(table: Table) -> list[str]:
    """One line a key of the columns, equal neighbours joined, above the metrics."""
    lines = []
    for level in range(len(table.columns[0][1])):
        groups = [list(group) for _, group in groupby(table.columns, key=lambda c: c[1][: level + 1])]
        heads, rules, start = [""], [], 2
        for group in groups:
            width = len(group) * len(table.metrics)
            heads.append(rf"\multicolumn{{{width}}}{{c}}{{{escape.latex(group[0][1][level])}}}")
            if width > 1:
                rules.append(rf"\cmidrule(lr){{{start}-{start + width - 1}}}")
            start += width
        lines += [" & ".join(heads) + r" \\", *(["".join(rules)] if rules else [])]
    metrics = [_metric(metric) for metric in table.metrics] * len(table.columns)
    return [*lines, _line(escape.latex(table.stub), metrics)]


def _metric(metric: str) -> str:
    """AP75 with its threshold below the line, as the paper sets it; what AP is of stands word under word."""
    of = re.fullmatch(r"(\w+) \((.+)\)", metric_name(metric))
    if of and metric in (*SITUATION_METRICS, *ERROR_METRICS):
        stacked = r"\\".join(map(escape.latex, [of[1], *of[2].split()]))
        return rf"\shortstack{{{stacked}}}"
    return re.sub(r"^(AP|AR)(\d+)$", r"\1$_{\2}$", escape.latex(metric_name(metric)))


def _row(table: Table, key: str, label: str) -> list[str]:
    """Lines of one variant: means, deviations, counts where seeds lack, the paper's numbers, a gap."""
    places = table.places(key)
    lines = [_line(escape.latex(label), [_number(table, where) for where in places])]
    deviations = [table.deviation(where) for where in places]
    if any(deviations):
        lines.append(_line("", [rf"\scriptsize$\pm${text}" if text else "" for text in deviations]))
    # On a line of its own, since marks beside the numbers would make every column wider.
    if any(table.seeds(where) for where in places):
        cells = [table.cells[where] for where in places]
        counts = [rf"\scriptsize {cell.n}/{cell.planned}" if cell.n else "" for cell in cells]
        lines.append(_line(r"\scriptsize seeds", counts))
    if table.paper:
        # The long form would make the table wider than a column; the caption spells n.c. out.
        short = table.paper_row.replace("not comparable", "n.c.")
        name = _grey(rf"\scriptsize {short}")
        lines.append(_line(name, [_papers(table, where) for where in places]))
    return [*lines, r"\addlinespace"]


def _line(first: str, others: list[str]) -> str:
    # After the end of a line, and after a rule, LaTeX reads a bracket or a star as an option.
    first = f"{{}}{first}" if first.startswith(("[", "*")) else first
    return " & ".join([first, *others]) + r" \\"


def _number(table: Table, where: Place) -> str:
    text = table.number(where)
    return rf"\textbf{{{text}}}" if where in table.best else text


def _papers(table: Table, where: Place) -> str:
    """The paper's number; the letter takes no width, so that columns stay as they are."""
    mark = table.marks.get(where, "")
    return _grey(table.papers(where) + (rf"\rlap{{$^{{\mathrm{{{mark}}}}}$}}" if mark else ""))


def _grey(text: str) -> str:
    return rf"\textcolor{{black!60}}{{{text}}}"


def _sentence(sentence: Sentence) -> str:
    text = escape.latex(sentence.text)
    return rf"\textbf{{{text}}}" if sentence.loud else text
