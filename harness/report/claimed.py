"""What a claim of a sweep file asks for: which cells are compared, and which way. Nothing is tested here.

Light on purpose: a dry run checks the claims of a sweep without importing anything numerical.
"""

from __future__ import annotations

from dataclasses import dataclass

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
        if claim.metric not in (*spec.cells, *spec.figures):
            shown = ", ".join(dict.fromkeys((*spec.cells, *spec.figures)))
            raise InputError(f"{file}: claims.{claim.id}: metric: {claim.metric!r}: allowed: {shown}")
    names = [claim.id for claim in spec.claims]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"{file}: claims: the id {name!r} stands twice")


def asked_of(spec: TableSpec, claim: Claim) -> list[Pair] | list[Trend]:
    """The comparisons of a claim; raises ValueError for what the table does not have."""
    if claim.form in ("rises", "falls"):
        return _trends(spec, claim)
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


def _columns(spec: TableSpec, at: str | None) -> list[Values]:
    """The columns that a claim speaks of."""
    keys, order = spec.columns.keys, list(spec.columns.order)
    if at is None:
        return order
    if at.startswith(EVERY):
        if at.removeprefix(EVERY) not in keys:
            raise ValueError(f"at: {at!r}: allowed: {' or '.join(f'every {key}' for key in keys) or 'no at'}")
        return order
    for part in at.split(","):
        key, _, value = (text.strip() for text in part.partition("="))
        if key not in keys:
            raise ValueError(
                f"at: {part.strip()!r}: allowed: every KEY or KEY=VALUE with {', '.join(keys) or 'no key'}"
            )
        number = keys.index(key)
        known = list(dict.fromkeys(canonical(values[number]) for values in spec.columns.order))
        if value not in known:
            raise ValueError(f"at: {part.strip()!r}: allowed values: {', '.join(known)}")
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
    return [row for row in (*named, *(claim.equal or ())) if row is not None]


def _label(spec: TableSpec, values: Values) -> str:
    return spec.rows.label(values)
