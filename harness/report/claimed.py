"""What a claim of a sweep file asks for: which cells are compared, and which way. Nothing is tested here.

Light on purpose: a dry run checks the claims of a sweep without importing anything numerical.
"""

from __future__ import annotations

from dataclasses import dataclass

from harness.metrics import ERROR_METRICS, SITUATION_METRICS
from harness.report.table_spec import (
    LESS_IS_BETTER,
    Place,
    TableSpec,
    Value,
    Values,
    canonical,
    metric_name,
    place,
)
from harness.sweep_file import Claim
from model.errors import InputError

EVERY = "every "


@dataclass(frozen=True)
class Pair:
    """``sign * a - factor * sign * b + offset`` is positive where the claim is right."""

    where: str
    a: Place
    b: Place
    sign: float = 1.0
    factor: float = 1.0
    offset: float = 0.0
    less: tuple[Place, Place] | None = None
    """What is taken from ``a`` and from ``b`` first, seed by seed: two leads are compared, not two cells"""

    @property
    def places(self) -> tuple[Place, ...]:
        """The cells that it needs."""
        return (self.a, self.b, *(self.less or ()))


@dataclass(frozen=True)
class Trend:
    """The slope of ``sign *`` the metric along ``points`` is positive where the claim is right."""

    where: str
    points: tuple[tuple[float, Place], ...]
    sign: float


def check_claims(spec: TableSpec, file: str) -> None:
    """Refuse, before anything runs, claims of rows and columns that the table does not have.

    Raises:
        InputError: names the file, the claim, the key and what is allowed.
    """
    for claim in spec.claims:
        try:
            asked_of(spec, claim)
        except ValueError as error:
            raise InputError(f"{file}: claims.{claim.id}: {error}") from None
        for key, metric in (("metric", claim.metric), ("against", claim.against)):
            if metric is None or metric in (*spec.cells, *spec.figures, *SITUATION_METRICS, *ERROR_METRICS):
                continue
            shown = ", ".join(dict.fromkeys((*spec.cells, *spec.figures)))
            raise InputError(f"{file}: claims.{claim.id}: {key}: {metric!r}: allowed: {shown}")
    names = [claim.id for claim in spec.claims]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"{file}: claims: the id {name!r} stands twice")


def asked_of(spec: TableSpec, claim: Claim) -> list[Pair] | list[Trend]:
    """The comparisons of a claim; raises ValueError for what the table does not have."""
    if claim.form in ("rises", "falls"):
        return _trends(spec, claim)
    if claim.form == "widens":
        return _leads(spec, claim)
    columns = _columns(spec, claim.at)
    sign = -1.0 if claim.metric in LESS_IS_BETTER else 1.0
    pairs: list[Pair] = []
    for values in columns:
        at = f" at {spec.columns.label(values)}" if values else ""
        for a, b, factor, offset, turn in _rivals(spec, claim, sign):
            better, than = (a, b) if sign * turn > 0 else (b, a)
            what = f"{_label(spec, better)} - {_label(spec, than)}{_allowance(claim)}{at}"
            if place(a) == place(b):
                raise ValueError(f"{place(a)!r} is held against itself; name two rows")
            places = [(place(row), place(values), claim.metric) for row in (a, b)]
            pairs.append(Pair(what, places[0], places[1], sign * turn, factor, offset))
    return pairs


def _rivals(spec: TableSpec, claim: Claim, sign: float) -> list[tuple[Values, Values, float, float, float]]:
    """(a, b, factor, offset, turn) of each comparison at one column; ``turn`` -1 asks for the opposite."""
    if claim.form == "better":
        return [(_row(spec, claim.better, "better"), _row(spec, claim.worse, "worse"), 1.0, 0.0, 1.0)]
    if claim.form == "best":
        best = _row(spec, claim.best, "best")
        return [(best, other, 1.0, 0.0, 1.0) for other in spec.rows.order if place(other) != place(best)]
    share, amount = _within(claim)
    if claim.form == "near":
        a, b = _row(spec, claim.near, "near"), _row(spec, claim.to, "to")
        return [(a, b, 1 - sign * share, amount, 1.0)]
    assert claim.equal is not None
    a, b = (_row(spec, value, "equal") for value in claim.equal)
    return [(a, b, 1 - sign * share, amount, 1.0), (a, b, 1 + sign * share, amount, -1.0)]


def _within(claim: Claim) -> tuple[float, float]:
    """(as a share of what it is compared with, in the metric's unit)"""
    if isinstance(claim.within, str):
        return float(claim.within.rstrip("%")) / 100, 0.0
    return 0.0, float(claim.within or 0.0)


def _allowance(claim: Claim) -> str:
    return "" if claim.within is None else f", room within {claim.within}"


def _leads(spec: TableSpec, claim: Claim) -> list[Pair]:
    """The lead of one row over another, held against the same lead in another metric or at other columns."""
    assert claim.widens is not None
    a, b = (_row(spec, value, "widens") for value in claim.widens)
    if place(a) == place(b):
        raise ValueError(f"{place(a)!r} is held against itself; name two rows")
    against = claim.against or claim.metric
    signs = [-1.0 if metric in LESS_IS_BETTER else 1.0 for metric in (claim.metric, against)]
    if signs[0] != signs[1]:
        raise ValueError(
            f"against: {against!r}: of it and {claim.metric!r} less is better in one, more in the other; "
            "their leads do not compare"
        )
    better, than = (a, b) if signs[0] > 0 else (b, a)
    lead = f"{_label(spec, better)} - {_label(spec, than)}"
    pairs = []
    for values, others in _columns_against(spec, claim):
        here, there = (f" at {spec.columns.label(each)}" if each else "" for each in (values, others))
        if claim.against is not None:
            where = f"{lead} in {metric_name(claim.metric)}, less in {metric_name(against)}{here}"
        else:
            where = f"{lead}{here}, less{there}"
        first, second = (
            tuple((place(row), place(each), metric) for row in (a, b))
            for each, metric in ((values, claim.metric), (others, against))
        )
        pairs.append(Pair(where, first[0], first[1], signs[0], less=(second[0], second[1])))
    return pairs


def _columns_against(spec: TableSpec, claim: Claim) -> list[tuple[Values, Values]]:
    """Each column of the claim, and the one that it is held against: itself where ``against`` is a metric.

    Columns of ``at`` and ``against_at`` belong together where the keys that these do not name are the same.
    """
    columns = _columns(spec, claim.at)
    if claim.against_at is None:
        return [(values, values) for values in columns]
    others = _columns(spec, claim.against_at, "against_at")
    said = {part.partition("=")[0].strip() for part in f"{claim.at},{claim.against_at}".split(",")}
    free = [number for number, key in enumerate(spec.columns.keys) if key not in said]
    pairs = [
        (values, other) for values in columns for other in others if all(values[n] == other[n] for n in free)
    ]
    if len(pairs) != len(columns) or len(pairs) != len(others) or any(a == b for a, b in pairs):
        raise ValueError(
            f"against_at: {claim.against_at!r}: its columns do not match those of at: {claim.at!r} one to one"
        )
    return pairs


def _trends(spec: TableSpec, claim: Claim) -> list[Trend]:
    row = _row(spec, claim.rises if claim.form == "rises" else claim.falls, claim.form)
    if claim.along not in spec.columns.keys:
        raise ValueError(f"along: {claim.along!r}: allowed: {', '.join(spec.columns.keys) or 'a column key'}")
    number = spec.columns.keys.index(claim.along)
    groups: dict[Values, list[tuple[float, Place]]] = {}
    for values in spec.columns.order:
        x = values[number]
        if isinstance(x, bool) or not isinstance(x, int | float):
            raise ValueError(f"along: {claim.along!r}: its value {x!r} is no number")
        others = values[:number] + values[number + 1 :]
        groups.setdefault(others, []).append((float(x), (place(row), place(values), claim.metric)))
    if any(len(points) < 2 for points in groups.values()):
        raise ValueError(f"along: {claim.along!r}: has one value; a trend needs two")
    sign = 1.0 if claim.form == "rises" else -1.0
    word = f"{metric_name(claim.metric)} per unit of {claim.along.rsplit('.', 1)[-1]}"
    slope = "linear rise" if sign > 0 else "linear fall"
    named = ("" if not others else f" at {', '.join(map(canonical, others))}" for others in groups)
    return [
        Trend(f"{_label(spec, row)}: {slope} of {word}{at}", tuple(sorted(points)), sign)
        for at, points in zip(named, groups.values(), strict=True)
    ]


def _columns(spec: TableSpec, at: str | None, said: str = "at") -> list[Values]:
    """The columns that a claim speaks of; ``said`` is the claim's key, for errors."""
    keys, order = spec.columns.keys, list(spec.columns.order)
    if at is None:
        return order
    if at.startswith(EVERY):
        if at.removeprefix(EVERY) not in keys:
            raise ValueError(
                f"{said}: {at!r}: allowed: {' or '.join(f'every {key}' for key in keys) or 'no at'}"
            )
        return order
    for part in at.split(","):
        key, _, value = (text.strip() for text in part.partition("="))
        if key not in keys:
            raise ValueError(
                f"{said}: {part.strip()!r}: allowed: every KEY or KEY=VALUE with "
                f"{', '.join(keys) or 'no key'}"
            )
        number = keys.index(key)
        known = list(dict.fromkeys(canonical(values[number]) for values in spec.columns.order))
        if value not in known:
            raise ValueError(f"{said}: {part.strip()!r}: allowed values: {', '.join(known)}")
        order = [values for values in order if canonical(values[number]) == value]
    return order


def _row(spec: TableSpec, said: Value | tuple[Value, ...] | None, key: str) -> Values:
    """The row that a claim names, in the scale's own values (``tiny`` for ``resnet50``)."""
    parts = said if isinstance(said, tuple) else (said,)
    wanted = place(tuple(spec.stand_ins.get(canonical(part), part) for part in parts))
    for values in spec.rows.order:
        if place(values) == wanted:
            return values
    raise ValueError(f"{key}: {place(parts)!r}: allowed: {', '.join(spec.rows.places)}")


def rows_named(claim: Claim) -> list[Value | tuple[Value, ...]]:
    """The rows that a claim speaks of, as the sweep file writes them."""
    named = (claim.better, claim.worse, claim.best, claim.near, claim.to, claim.rises, claim.falls)
    return [row for row in (*named, *(claim.equal or ()), *(claim.widens or ())) if row is not None]


def _label(spec: TableSpec, values: Values) -> str:
    return spec.rows.label(values)
