"""One self-contained HTML page of all sweeps: opens from a file, without a network, in any browser.

Everything that comes from rows is text: jinja2 escapes it, and the panel's data stands in JSON blocks that
hold no ``<``. The page's own policy lets nothing run but the script below, and lets nothing be fetched.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any, Protocol
from urllib.parse import quote

import pandas as pd
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from harness.report.findings import Findings
from harness.report.html.claims import GAP_HEADS, PLOT_WIDTH, ClaimView, claim_views, definitions, tally
from harness.report.html.sections import (
    JUDGED_HEADS,
    Names,
    TableView,
    accounted,
    bare_views,
    failure_views,
    gap_views,
    judged_views,
    provenance_views,
    sweep_anchor,
    table_views,
)
from harness.report.html.trials import trial_data
from harness.report.html.wording import MISSING, interval, number, value_text, without_controls
from harness.report.selection import is_synthetic
from harness.report.table_spec import decimals, metric_name

Json = dict[str, Any]


class Figure(Protocol):
    """A picture with its words."""

    @property
    def name(self) -> str:
        """Unlike all others of its sweep."""

    @property
    def title(self) -> str:
        """A few words."""

    @property
    def caption(self) -> str:
        """Plain text."""

    @property
    def svg(self) -> str:
        """One ``<svg>`` element."""


@dataclass(frozen=True)
class SweepPage:
    """All that the page says of one sweep."""

    findings: Findings
    figures: Sequence[Figure] = ()
    commands: Mapping[str, str] = field(default_factory=dict)
    """Trial -> commands that repeat it, one a line"""
    logs: Mapping[str, str] = field(default_factory=dict)
    """Trial -> the last lines of its log"""


@dataclass(frozen=True)
class _FigureView:
    title: str
    caption: str
    source: str
    """A ``data:`` address"""
    is_wide: bool


@dataclass(frozen=True)
class _SweepView:
    anchor: str
    name: str
    title: str
    scale: str
    planned: int
    done: int
    failed: int
    claims: list[ClaimView]
    tally: list[Any]
    tables: list[TableView]
    figures: list[_FigureView]
    judged: list[Any]
    failures: list[Any]
    gaps: list[Any]
    bare: list[Any]
    provenance: list[Any]
    accounted: list[tuple[int, str]]
    data: Markup


WIDE_FIGURE = 300
"""Points; a wider figure takes the width of a page."""
_SYNTHETIC = (
    "Synthetic data: made-up videos, not those of the paper. No number here may be held against the paper's;"
    " what the page can show is how the variants differ on these videos."
)


def html_page(sweeps: Sequence[SweepPage], made: Mapping[str, str] | None = None) -> str:
    """The whole page. The same findings give the same text.

    Args:
        sweeps: in the order of the page.
        made: what the page was made with, as name -> value: printed in its head.
    """
    style, script = _own("page.css"), _own("page.js")
    taken: set[str] = {"verdicts", "claims", "sweeps", "top"}
    views = [_sweep(sweep, sweep_anchor(sweep.findings.spec.name, taken), taken) for sweep in sweeps]
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, auto_reload=False
    )
    text = environment.from_string(_own("page.html.j2")).render(
        style=Markup(style),
        script=Markup(script),
        policy=_policy(style, script),
        sweeps=views,
        facts=_facts([sweep.findings for sweep in sweeps]),
        made=dict(made or {}),
        warnings=_warnings([sweep.findings for sweep in sweeps], views),
        tally=tally(claim.badge.verdict for view in views for claim in view.claims),
        definitions=definitions(),
        gap_heads=GAP_HEADS,
        judged_heads=JUDGED_HEADS,
        plot_width=PLOT_WIDTH,
    )
    return without_controls(text)


def _own(name: str) -> str:
    return files("harness.report.html").joinpath(name).read_text(encoding="utf-8")


def _policy(style: str, script: str) -> str:
    """A Content-Security-Policy under which only this style and this script are in force."""
    allowed = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (style, script)]
    return (
        f"default-src 'none'; style-src 'sha256-{allowed[0]}'; script-src 'sha256-{allowed[1]}'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )


def _sweep(sweep: SweepPage, anchor: str, taken: set[str]) -> _SweepView:
    findings, selection = sweep.findings, sweep.findings.selection
    spec = findings.spec
    claims = claim_views(findings.claims, anchor)
    names = Names.of(findings)
    tables = table_views(findings, anchor, taken)
    return _SweepView(
        anchor=anchor,
        name=spec.name,
        title=spec.title,
        scale=spec.scale,
        planned=len(spec.rows.order) * len(spec.columns.order) * len(spec.seeds),
        done=len(selection.used),
        failed=len(selection.failed),
        claims=claims,
        tally=tally(claim.badge.verdict for claim in claims),
        tables=tables,
        figures=[_figure(figure) for figure in sweep.figures],
        judged=judged_views(findings, names),
        failures=failure_views(findings, names, anchor, sweep.commands),
        gaps=gap_views(findings, names),
        bare=bare_views(findings, names, anchor),
        provenance=provenance_views(selection),
        accounted=accounted(selection),
        data=embedded_json(_panel_data(sweep, names, [table.anchor for table in tables])),
    )


def _panel_data(sweep: SweepPage, names: Names, anchors: list[str]) -> Json:
    """What the script needs to open a cell; every text is ready to be shown."""
    findings, spec = sweep.findings, sweep.findings.spec
    return {
        "anchors": anchors,
        "name": spec.name,
        "title": spec.title,
        "rows": dict(names.rows),
        "columns": dict(names.columns),
        "metrics": {metric: metric_name(metric) for metric in findings.metrics},
        "seeds": [str(seed) for seed in spec.seeds],
        "cells": [
            {
                "place": [row, column],
                "metrics": [_metric_line(findings, row, column, metric) for metric in findings.metrics],
            }
            for row in names.rows
            for column in names.columns
        ],
        **trial_data(findings.selection, sweep.commands, sweep.logs),
    }


def _metric_line(findings: Findings, row: str, column: str, metric: str) -> Json:
    """One metric of a cell, beside the paper's."""
    where, digits = (row, column, metric), decimals(metric)
    cell, judged = findings.cells[where], findings.verdicts.get(where)
    reach = cell.interval()
    ours = number(cell.mean, digits) + ("" if cell.sd is None else f" ± {number(cell.sd, digits)}")
    paper, spread = findings.paper.get(where), findings.paper_sd.get(where)
    theirs = number(paper, digits) + ("" if spread is None else f" ± {number(spread, digits)}")
    return {
        "metric": metric,
        "ours": ours if cell.n or not cell.out_of_memory else "OOM",
        "n": f"{cell.n}/{cell.planned}",
        "interval": MISSING if reach is None else interval(*reach, digits, sign=False),
        "paper": theirs,
        "verdict": "" if judged is None else judged.verdict,
        "why": "" if judged is None else judged.why,
    }


def embedded_json(data: Json) -> Markup:
    """JSON that no HTML reader takes for markup, and no script reader for the end of a line."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def _figure(figure: Figure) -> _FigureView:
    """As an image: nothing in it can run, and its ids are its own."""
    svg = figure.svg[max(0, figure.svg.find("<svg")) :]
    head = svg[: svg.find(">")]
    if not re.search(r"\sxmlns=", head):
        svg = svg.replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"', 1)
    box = re.search(r'viewBox="\S+ \S+ ([\d.]+) ', head)
    source = "data:image/svg+xml," + quote(svg.strip(), safe=" !()*+,-./:;=?@[]^_|~$")
    is_wide = box is not None and float(box[1]) > WIDE_FIGURE
    caption = figure.caption.removeprefix(figure.title)  # which stands before it in bold
    return _FigureView(figure.title, caption, source, is_wide)


def _facts(all_findings: list[Findings]) -> list[tuple[str, list[str]]]:
    """What all sweeps have in common, or each value that occurs."""
    used = [findings.selection.used for findings in all_findings]
    rows = sum(map(len, used))
    seeds = sorted({len(findings.spec.seeds) for findings in all_findings})
    machines = {machine for findings in all_findings for machine in findings.selection.hardware()}
    facts = [
        ("Scale", sorted({findings.spec.scale for findings in all_findings})),
        ("Data", _distinct(used, "data_description") or ["none (counted)" if rows else "no finished run"]),
        ("Seeds", [f"n = {' or '.join(map(str, seeds))} a cell"] if seeds else []),
        ("Machine", sorted(machines)),
        ("Commit", _commits(used)),
        ("Runs", [f"{rows} finished, {sum(len(each.selection.failed) for each in all_findings)} not"]),
    ]
    return [(name, values) for name, values in facts if values]


def _distinct(used: list[pd.DataFrame], column: str) -> list[str]:
    found = {value_text(value) for rows in used if column in rows for value in rows[column].unique()}
    return sorted(found - {MISSING})


def _commits(used: list[pd.DataFrame]) -> list[str]:
    pairs = {
        (value_text(commit)[:12], value_text(dirty) == "yes")
        for rows in used
        if "git_commit" in rows and "git_dirty" in rows
        for commit, dirty in zip(rows["git_commit"], rows["git_dirty"], strict=True)
    }
    return sorted(commit + (" + uncommitted changes" if dirty else "") for commit, dirty in pairs)


def _warnings(all_findings: list[Findings], views: list[_SweepView]) -> list[tuple[str, list[_SweepView]]]:
    """What must be known before a number is read, and of which sweeps; of none named: of all."""
    said: dict[str, list[_SweepView]] = {}
    for findings, view in zip(all_findings, views, strict=True):
        if is_synthetic(findings.selection):
            said.setdefault(_SYNTHETIC, []).append(view)
        for sentence in dict.fromkeys(each for table in view.tables for each in table.caption if each.loud):
            said.setdefault(sentence.text, []).append(view)
    listed = [(text, [] if len(of) == len(views) > 1 else of) for text, of in said.items()]
    return [(text, list({view.anchor: view for view in of}.values())) for text, of in listed]
