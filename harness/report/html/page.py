"""One self-contained HTML page of all sweeps: opens from a file, without a network, in any browser.

Everything that comes from rows is text: jinja2 escapes it, and the panel's data stands in JSON blocks that
hold no ``<``. The page's own policy lets nothing run but the script below, and lets nothing be fetched.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import quote

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from harness.report.findings import Findings
from harness.report.html.claims import MEANINGS, PLOT_WIDTH, Badge, ClaimView, claim_views, definitions, tally
from harness.report.html.head import (
    COUNTS_STAND,
    ONLY_THESE_VIDEOS,
    SYNTHETIC,
    facts,
    ground_of,
    measured_on_synthetic,
    warnings,
)
from harness.report.html.links import section_anchor
from harness.report.html.runs import FailureView, Outcomes, accounted, bare_views, failure_views, gap_views
from harness.report.html.sections import (
    JUDGED_HEADS,
    Names,
    TableView,
    judged_views,
    provenance_views,
    table_views,
)
from harness.report.html.self_contained import embedded_json, own_text, policy
from harness.report.html.trials import trial_data
from harness.report.html.wording import MISSING, interval, number, without_controls
from harness.report.paper_words import whose_claims
from harness.report.selection import finite
from harness.report.table_spec import HARDWARE_METRICS, Place, decimals, is_counted, metric_name

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
    outcomes: Outcomes
    ground: str
    """What its claims were judged on"""
    is_synthetic: bool
    whose: str
    """Heading of its claims"""
    claims: list[ClaimView]
    tally: list[Any]
    tables: list[TableView]
    figures: list[_FigureView]
    judged: list[Any]
    too_large: list[FailureView]
    failures: list[FailureView]
    gaps: list[Any]
    bare: list[Any]
    provenance: list[Any]
    accounted: list[tuple[int, str]]
    data: Markup


WIDE_FIGURE = 300
"""Points; a wider figure takes the width of a page."""


def html_page(sweeps: Sequence[SweepPage], made: Mapping[str, str] | None = None) -> str:
    """The whole page. The same findings give the same text.

    Args:
        sweeps: in the order of the page.
        made: what the page was made with, as name -> value: printed in its head.
    """
    style, script = own_text("page.css"), own_text("page.js")
    taken: set[str] = {"verdicts", "claims", "sweeps", "top"}
    views = [_sweep(sweep, section_anchor(sweep.findings.spec.name, taken), taken) for sweep in sweeps]
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, auto_reload=False
    )
    text = environment.from_string(own_text("page.html.j2")).render(
        style=Markup(style),
        script=Markup(script),
        policy=policy(style, script, "data:"),
        sweeps=views,
        facts=facts([sweep.findings for sweep in sweeps]),
        made=dict(made or {}),
        warnings=_warnings([sweep.findings for sweep in sweeps], views),
        grounds=_grounds(views),
        only_these_videos=ONLY_THESE_VIDEOS,
        definitions=definitions(),
        meanings=MEANINGS,
        judged_heads=JUDGED_HEADS,
        plot_width=PLOT_WIDTH,
    )
    return without_controls(text)


def _sweep(sweep: SweepPage, anchor: str, taken: set[str]) -> _SweepView:
    findings, selection = sweep.findings, sweep.findings.selection
    spec = findings.spec
    tables = table_views(findings, anchor, taken)
    claims = claim_views(findings.claims, anchor, taken)
    names = Names.of(findings)
    failures = failure_views(findings, names, anchor, sweep.commands)
    return _SweepView(
        anchor=anchor,
        name=spec.name,
        title=spec.title,
        scale=spec.scale,
        outcomes=Outcomes.of(findings),
        ground=ground_of(findings),
        is_synthetic=measured_on_synthetic(findings),
        whose=whose_claims(spec).replace("'", "’"),
        claims=claims,
        tally=tally(claim.badge.verdict for claim in claims),
        tables=tables,
        figures=[_figure(figure) for figure in sweep.figures],
        judged=judged_views(findings, names),
        too_large=[each for each in failures if each.is_out_of_memory],
        failures=[each for each in failures if not each.is_out_of_memory],
        gaps=gap_views(findings, names),
        bare=bare_views(findings, names, anchor),
        provenance=provenance_views(selection),
        accounted=accounted(selection),
        data=embedded_json(_panel_data(sweep, names, [table.anchor for table in tables])),
    )


def _panel_data(sweep: SweepPage, names: Names, anchors: list[str]) -> Json:
    """What the script needs to open a cell; every text is ready to be shown."""
    findings, spec, withheld = sweep.findings, sweep.findings.spec, _withheld(sweep.findings)
    return {
        "anchors": anchors,
        "name": spec.name,
        "title": spec.title,
        "rows": dict(names.rows),
        "columns": dict(names.columns),
        "metrics": {metric: metric_name(metric) for metric in findings.metrics},
        "ofMachine": list(HARDWARE_METRICS) if findings.selection.mixed_hardware() else [],
        "seeds": [str(seed) for seed in spec.seeds],
        "cells": [
            {
                "place": [row, column],
                "metrics": [
                    _metric_line(findings, (row, column, metric), withheld) for metric in findings.metrics
                ],
            }
            for row in names.rows
            for column in names.columns
        ],
        **trial_data(findings.selection, sweep.commands, sweep.logs),
    }


def _metric_line(findings: Findings, where: Place, withheld: frozenset[Place]) -> Json:
    """One metric of a cell, beside the paper's."""
    metric = where[2]
    digits = decimals(metric)
    cell, judged = findings.cells[where], findings.verdicts.get(where)
    reach = cell.interval()
    ours = number(cell.mean, digits) + ("" if cell.sd is None else f" ± {number(cell.sd, digits)}")
    paper, spread = findings.paper.get(where), findings.paper_sd.get(where)
    theirs = number(paper, digits) + ("" if spread is None else f" ± {number(spread, digits)}")
    return {
        "metric": metric,
        "ours": "withheld" if where in withheld else ours if cell.n or not cell.out_of_memory else "OOM",
        "n": MISSING if where in withheld else f"{cell.n}/{cell.planned}",
        "interval": MISSING if reach is None else interval(*reach, digits, sign=False),
        "paper": theirs,
        "verdict": "" if judged is None else judged.verdict,
        "why": "" if judged is None else judged.why,
    }


def _figure(figure: Figure) -> _FigureView:
    """As an image: nothing in it can run, and its ids are its own."""
    svg = figure.svg[max(0, figure.svg.find("<svg")) :]
    head = svg[: svg.find(">")]
    if not re.search(r"\sxmlns=", head):
        svg = svg.replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"', 1)
    box = re.search(r'viewBox="\S+ \S+ ([\d.]+) ', head)
    source = "data:image/svg+xml," + quote(svg.strip(), safe=" !()*+,-./:;=?@[]^_|~$")
    is_wide = box is not None and float(box[1]) > WIDE_FIGURE
    caption = figure.caption
    return _FigureView(figure.title, caption, source, is_wide)


def _warnings(all_findings: list[Findings], views: list[_SweepView]) -> list[tuple[str, list[_SweepView]]]:
    """What must be known before a number is read, and of which sweeps; of none named: of all."""
    said: dict[str, list[_SweepView]] = {}
    for findings, view in zip(all_findings, views, strict=True):
        loud = [sentence.text for table in view.tables for sentence in table.caption if sentence.loud]
        for text in warnings(findings, loud):
            said.setdefault(text, []).append(view)
    has_counts = any(is_counted(findings.spec.cells) and findings.verdicts for findings in all_findings)
    if has_counts and SYNTHETIC in said:
        said = {text + (COUNTS_STAND if text == SYNTHETIC else ""): of for text, of in said.items()}
    return [(text, [] if len(of) == len(views) > 1 else of) for text, of in said.items()]


def _grounds(views: list[_SweepView]) -> list[tuple[str, list[tuple[Badge, int]]]]:
    """(what claims were judged on, their tally): verdicts on different data are not one sum."""
    grounds = dict.fromkeys(view.ground for view in views if view.claims)
    judged = [(view.ground, claim.badge.verdict) for view in views for claim in view.claims]
    return [(ground, tally(verdict for on, verdict in judged if on == ground)) for ground in grounds]


def _withheld(findings: Findings) -> frozenset[Place]:
    """Cells with numbers that belong to several machines, so that no mean of them is shown."""
    used = findings.selection.used
    if not findings.selection.mixed_hardware():
        return frozenset()
    return frozenset(
        (row, column, metric)
        for metric in HARDWARE_METRICS
        for row, column, value in zip(used["row_key"], used["column_key"], finite(used, metric), strict=True)
        if value is not None
    )
