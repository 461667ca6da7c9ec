"""A sweep file and a scale become the points of a grid: validated configurations, quickly.

Thousands of points differ in few values. Each section is validated and spelt out once for each combination of
what varies in it; a point puts sections together.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from harness.config import ClipConfig, SyntheticConfig, TrialConfig
from harness.sweep_file import ScaleFile, SweepFile
from model.config import first_problem
from model.errors import InputError

EVALUATION_SECTIONS = ("inference", "speed", "flops", "clip")
"""Sections of a configuration that no training depends on."""
LATER_SECTIONS = {"clip": ClipConfig()}
"""Sections that older identities do not know: no part of one where they say nothing but the default"""
OF_EMBEDDED_VIDEOS = (
    "describes embedded videos; allowed: a scale that trains on them, such as tiny, without --data"
)
"""Why a key is no axis here"""
NO_RESULT_DEPENDS_ON = {"train": ("threads", "checkpoint_every")}
"""Where and how often, not what"""


@dataclass(frozen=True)
class Point:
    """One point of the grid: a configuration, before data, code and seed are known."""

    config: TrialConfig
    varied: tuple[tuple[str, Any], ...]
    recipe: str
    """What of the configuration a training depends on, as JSON text"""
    evaluation: str
    """The same of an evaluation"""


class Grid:
    """The configurations of a sweep at a scale; other overrides cost only what they change."""

    def __init__(
        self, sweep: SweepFile, scale: ScaleFile, source: str = "sweep", scale_source: str = "scale"
    ) -> None:
        self.sweep, self.scale = sweep, scale
        self.source, self.scale_source = source, scale_source
        self._base = _base_settings(sweep, scale, scale_source)
        self._keys = sweep.varied_keys()
        self._validated: dict[tuple[str, str], dict[tuple[int, ...], Section]] = {}

    def points(self, overrides: Mapping[str, Any] | None = None) -> list[Point]:
        """All points in the order of the file; overrides and errors as in ``harness.sweep.expand``."""
        base = _merged(self._base, {})
        for key, value in (overrides or {}).items():
            _assign(base, key, value, self.source)
        axes = self.sweep.grid_axes()
        self._validate_whole(base, tuple(value for axis in axes for value in axis.values[0]))
        sections = {name: self._varied_section(name, base) for name in TrialConfig.model_fields}
        fixed = {name: section.at((), ()) for name, section in sections.items() if not section.axes}
        varied = {name: section for name, section in sections.items() if section.axes}
        points = []
        for places in itertools.product(*(range(len(axis.values)) for axis in axes)):
            chosen = (axis.values[place] for axis, place in zip(axes, places, strict=True))
            values = tuple(itertools.chain.from_iterable(chosen))
            try:
                made = fixed | {name: section.at(places, values) for name, section in varied.items()}
                config = TrialConfig.model_validate({name: part.config for name, part in made.items()})
            except (InputError, ValidationError):
                config = self._validate_whole(base, values)  # says what is wrong in the files' own terms
                made = {}
            points.append(self._point(config, made))
        _check_that_cells_differ(points, self.source, self.scale_source)
        return points

    def _varied_section(self, name: str, base: Mapping[str, Any]) -> _VariedSection:
        axes = self.sweep.grid_axes()
        owners = [number for number, axis in enumerate(axes) for _ in axis.keys]
        keys = [(place, key) for place, key in enumerate(self._keys) if key.split(".")[0] == name]
        settings = {name: base[name]} if name in base else {}
        validated = self._validated.setdefault((name, repr(settings)), {})
        touching = tuple(dict.fromkeys(owners[place] for place, _ in keys))
        return _VariedSection(name, settings, keys, touching, self.scale, self.source, validated)

    def _validate_whole(self, base: Mapping[str, Any], values: tuple[Any, ...]) -> TrialConfig:
        """One point without shortcuts; raises :class:`InputError` that blames the right file."""
        settings, said = _merged(base, {}), _merged(self.sweep.settings, {})
        for key, value in zip(self._keys, values, strict=True):
            _assign(settings, key, _stand_in(self.scale, key, value), self.source)
            _assign(said, key, value, self.source)
        try:
            return TrialConfig.model_validate(settings)
        except ValidationError as error:
            # The scale is to blame for what it alone says.
            place = error.errors()[0]["loc"]
            amount = _merged(self.scale.settings, self.scale.images)
            blamed = self.scale_source if _says(amount, place) and not _says(said, place) else self.source
            raise InputError(f"{blamed}: {first_problem(error, TrialConfig)}") from None

    def _point(self, config: TrialConfig, made: Mapping[str, Section]) -> Point:
        """``made``: sections whose dumps are known; a validator may have put another in the place of one."""
        sections = {}
        for name in TrialConfig.model_fields:
            part = getattr(config, name)
            known = made.get(name)
            sections[name] = known if known is not None and known.config is part else Section.of(name, part)
        varied = tuple((key, _value(sections, key, self.source)) for key in self._keys)
        recipe, evaluation = identity_texts(sections)
        return Point(config, varied, recipe, evaluation)


@dataclass(frozen=True)
class Section:
    """One validated section of a configuration."""

    config: BaseModel
    values: dict[str, Any]
    """As JSON has them"""
    text: str
    """What of it a result depends on, as JSON text"""

    @classmethod
    def of(cls, name: str, config: BaseModel) -> Section:
        """The section of this name, from what was validated."""
        values = config.model_dump(mode="json")
        kept = dict(values)
        for key in NO_RESULT_DEPENDS_ON.get(name, ()):
            kept.pop(key)
        return cls(config, values, as_json(kept))


@dataclass(frozen=True)
class _VariedSection:
    """A section of the settings and the axes that vary it."""

    name: str
    settings: Mapping[str, Any]
    """The section under its name; empty where no file says anything of it"""
    keys: list[tuple[int, str]]
    """(place among the varied keys, key) of what varies here"""
    axes: tuple[int, ...]
    """The axes of those keys"""
    scale: ScaleFile
    source: str
    validated: dict[tuple[int, ...], Section]
    """By the place on each of ``axes``: equal values such as 1 and True are not the same"""

    def at(self, places: tuple[int, ...], values: tuple[Any, ...]) -> Section:
        """The section at a point: ``places`` on all axes, ``values`` of all keys."""
        here = tuple(places[axis] for axis in self.axes)
        found = self.validated.get(here)
        if found is None:
            settings = _merged(self.settings, {})
            for place, key in self.keys:
                _assign(settings, key, _stand_in(self.scale, key, values[place]), self.source)
            schema = TrialConfig.model_fields[self.name].annotation
            assert isinstance(schema, type)
            found = Section.of(self.name, schema.model_validate(settings.get(self.name, {})))
            self.validated[here] = found
        return found


def identity_texts(sections: Mapping[str, Section]) -> tuple[str, str]:
    """Recipe and evaluation of a :class:`Point`, put together from the text of sections."""
    training = {name: part.text for name, part in sections.items() if name not in EVALUATION_SECTIONS}
    training["data"] = "null"  # its identity says more: it is of the bytes
    known = [name for name in EVALUATION_SECTIONS if sections[name].config != LATER_SECTIONS.get(name)]
    return _object(training), _object({name: sections[name].text for name in known})


def _object(texts: Mapping[str, str]) -> str:
    return "{" + ",".join(f'"{name}":{text}' for name, text in sorted(texts.items())) + "}"


def _value(sections: Mapping[str, Section], key: str, source: str) -> Any:
    """What the configuration holds at a dotted key, so that 1 and 1.0 have one type in all rows."""
    section, *path = key.split(".")
    value: Any = sections[section].values
    for part in path:
        value = value[part]
    if isinstance(value, dict):
        raise InputError(f"{source}: axes.{key}: a section; allowed: one of its keys ({', '.join(value)})")
    return value


def _check_that_cells_differ(points: list[Point], source: str, scale_source: str) -> None:
    """Refuse axes that lead twice to the same trial and evaluation, such as ``train.threads``."""
    seen: dict[tuple[str, str, SyntheticConfig | None], Point] = {}
    for point in points:
        data = point.config.data
        videos = data.synthetic if data.kind == "synthetic" else None
        first = seen.setdefault((point.recipe, point.evaluation, videos), point)
        if first is point:
            continue
        pairs = zip(first.varied, point.varied, strict=True)
        differ = [(key, a, b) for (key, a), (_, b) in pairs if a != b]
        if not differ:
            raise InputError(
                f"{source}: axes: two values come to {dict(point.varied)} by {scale_source}'s stand_ins"
            )
        key, one, other = differ[0]
        if videos is None and key.startswith("data.synthetic."):
            raise InputError(f"{source}: axes.{key}: {OF_EMBEDDED_VIDEOS}")
        raise InputError(
            f"{source}: axes.{key}: {one!r} and {other!r} come to the same result; "
            "an axis varies what a training or an evaluation depends on"
        )


def _base_settings(sweep: SweepFile, scale: ScaleFile, scale_source: str) -> dict[str, Any]:
    """The scale's settings, those for images where the sweep is on images, then the sweep's."""
    _check_stand_ins(scale, scale_source)
    data = sweep.settings.get("data")
    on_images = isinstance(data, dict) and data.get("benchmark") == "coco"
    amount = _merged(scale.settings, scale.images) if on_images else scale.settings
    return _merged(amount, sweep.settings)


def _stand_in(scale: ScaleFile, key: str, value: Any) -> Any:
    return scale.stand_ins.get(key, {}).get(str(value), value)


def _check_stand_ins(scale: ScaleFile, source: str) -> None:
    sections = set(TrialConfig.model_fields)
    for key in scale.stand_ins:
        if key.split(".")[0] not in sections or "." not in key:
            raise InputError(
                f"{source}: stand_ins.{key}: allowed: a dotted key of {', '.join(sorted(sections))}"
            )


def _says(settings: Mapping[str, Any], place: tuple[int | str, ...]) -> bool:
    """Whether these settings have the key at ``place``, or a value above it."""
    below: Any = settings
    for part in place:
        if not isinstance(below, Mapping):
            return True
        if part not in below:
            return False
        below = below[part]
    return True


def _merged(lower: Mapping[str, Any], upper: Mapping[str, Any]) -> dict[str, Any]:
    """A deep copy of ``lower`` with ``upper`` laid over it."""
    merged = {key: _merged(value, {}) if isinstance(value, dict) else value for key, value in lower.items()}
    for key, value in upper.items():
        below = merged.get(key)
        merged[key] = (
            _merged(below if isinstance(below, dict) else {}, value) if isinstance(value, dict) else value
        )
    return merged


def _assign(settings: dict[str, Any], key: str, value: Any, source: str) -> None:
    *sections, name = key.split(".")
    for section in sections:
        below = settings.setdefault(section, {})
        if not isinstance(below, dict):
            raise InputError(f"{source}: {key}: {section!r} is a value, not a section")
        settings = below
    settings[name] = value


as_json = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode
