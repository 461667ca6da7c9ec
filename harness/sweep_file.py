"""What people write: sweep files (what varies) and scales (how much), closed and typed."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, BeforeValidator, Field, ValidationError, model_validator

from harness.config import Closed
from harness.metrics import METRICS, Metric
from model.config import first_problem
from model.errors import InputError

SCALES = Path(__file__).resolve().parent.parent / "sweeps" / "scales"
Measure = Literal["ap", "situations", "errors", "speed", "flops", "model"]
# YAML has lists; the files' types are strict otherwise.
Seeds = int | Annotated[tuple[int, ...], Field(strict=False)]
Keys = Annotated[
    tuple[str, ...], Field(strict=False), BeforeValidator(lambda x: [x] if isinstance(x, str) else x)
]


@dataclass(frozen=True)
class Axis:
    """One direction of the grid: a key and its values, or several keys that vary together."""

    name: str
    """As the file has it: one dotted key, or several with commas between them"""
    keys: tuple[str, ...]
    values: tuple[tuple[Any, ...], ...]
    """One value a key in each"""


class TableLayout(Closed):
    """Which keys run down, which across, and what each cell shows."""

    rows: Keys = Field(min_length=1)
    columns: Keys = ()
    """None: the metrics alone stand across."""
    cells: tuple[Metric, ...] = Field(min_length=1, strict=False)


Value = str | int | float | bool
Row = Value | Annotated[tuple[Value, ...], Field(strict=False)]
"""A row of the table: its value, or a list of one value for each of ``table.rows``"""


def _amount(said: Any) -> Any:
    """A number above 0, or a share above 0% and below 100%."""
    number = re.fullmatch(r"(\d+(?:\.\d+)?)%", said) if isinstance(said, str) else None
    share = float(number[1]) if number else 0.0
    plain = isinstance(said, int | float) and not isinstance(said, bool) and 0 < said < math.inf
    if not plain and not 0 < share < 100:
        raise ValueError(f"{said!r}: allowed: a number above 0, or a share such as 10%")
    return float(said) if plain else said


Amount = Annotated[str | float, BeforeValidator(_amount)]
"""In the metric's own unit, or ``10%`` of what it is compared with"""
FORMS: dict[str, tuple[str, ...]] = {
    "better": ("worse",),
    "best": (),
    "near": ("to", "within"),
    "equal": ("within",),
    "rises": ("along",),
    "falls": ("along",),
    "widens": (),
}
"""What a claim may say, and which keys belong to it"""


class Claim(Closed):
    """Something that the paper says of its table, so that it can be judged: one of :data:`FORMS`.

    More is better of AP, AR and FPS, less of memory and multiply-adds.
    """

    id: str = Field(pattern=r"^[a-z0-9-]+$")
    says: str
    """The claim in words"""
    metric: Metric
    at: str | None = None
    """Columns: ``every inference.window``, ``inference.window=20``; None: every column"""
    better: Row | None = None
    worse: Row | None = None
    """``better`` is better than ``worse``"""
    best: Row | None = None
    """better than every other row"""
    near: Row | None = None
    to: Row | None = None
    within: Amount | None = None
    """``near`` is at most so much worse than ``to``"""
    equal: Annotated[tuple[Row, Row], Field(strict=False)] | None = None
    """differ by at most ``within``, whichever is better"""
    rises: Row | None = None
    falls: Row | None = None
    along: str | None = None
    """the metric of this row grows, or shrinks, along the values of this key of the table's columns"""

    widens: Annotated[tuple[Row, Row], Field(strict=False)] | None = None
    """the lead of the first row over the second is larger in ``metric`` than in ``against``, or larger at the
    columns ``at`` than at those of ``against_at``"""
    against: Metric | None = None
    against_at: str | None = None
    """Columns, as ``at``"""

    @property
    def form(self) -> str:
        """Which of :data:`FORMS` it is."""
        return next(form for form in FORMS if getattr(self, form) is not None)

    @model_validator(mode="after")
    def _is_one_form(self) -> Claim:
        said = [form for form in FORMS if getattr(self, form) is not None]
        if len(said) != 1:
            names = ", ".join(said) or "none"
            raise ValueError(f"claim {self.id!r}: {names}: allowed: one of {', '.join(FORMS)}")
        given = {name for name in ("worse", "to", "within", "along") if getattr(self, name) is not None}
        needed = set(FORMS[said[0]])
        if given != needed:
            raise ValueError(
                f"claim {self.id!r}: {said[0]} takes {', '.join(sorted(needed)) or 'nothing else'},"
                f" not {', '.join(sorted(given)) or 'nothing'}"
            )
        if self.along is not None and self.at is not None:
            raise ValueError(f"claim {self.id!r}: at: {self.at!r}: a trend runs along all columns; no 'at'")
        return self

    @model_validator(mode="after")
    def _widens_against_one_thing(self) -> Claim:
        given = [name for name in ("against", "against_at") if getattr(self, name) is not None]
        if self.widens is None and given:
            raise ValueError(f"claim {self.id!r}: {given[0]}: only 'widens' has it")
        if self.widens is not None and len(given) != 1:
            names = ", ".join(given) or "neither"
            raise ValueError(f"claim {self.id!r}: widens takes one of against, against_at, not {names}")
        if self.against is not None and self.against == self.metric:
            raise ValueError(f"claim {self.id!r}: against: {self.against!r}: allowed: another metric")
        if self.against_at is not None and self.at is None:
            raise ValueError(
                f"claim {self.id!r}: against_at: {self.against_at!r}: needs 'at', the other side"
            )
        return self


class SweepFile(Closed):
    """``sweeps/*.yaml``: what varies."""

    name: str = Field(pattern=r"^[a-z0-9_]+$")
    title: str
    axes: dict[str, Annotated[tuple[Any, ...], Field(strict=False)]] = Field(min_length=1)
    """Dotted configuration key -> its values; the grid is their product. ``key, other key`` -> pairs of
    values that belong together."""
    settings: dict[str, Any] = Field({})
    """Configuration that all trials share and no scale changes."""
    seeds: Seeds = 1
    """A count (0, 1, ...) or a list. A scale may say otherwise; a sweep that only counts has none."""
    measure: tuple[Measure, ...] = Field(("ap", "speed"), min_length=1, strict=False)
    table: TableLayout
    std_table: str | None = Field(None, pattern=r"^[a-z0-9_]+$")
    """Name of a second table, of the standard deviations."""
    figures: tuple[Metric, ...] = Field((), strict=False)
    """Metrics drawn against the columns' key."""
    paper: str | None = None
    """Key of the paper's numbers in ``harness/paper.yaml``."""
    paper_std: str | None = None
    growth: str | None = None
    """Key of ``harness/paper.yaml`` whose ``complexity`` stands beside fitted exponents of growth."""
    margins: dict[str, Amount] = Field({})
    """Metric -> how far a mean may be from the paper's and still count as equal."""
    claims: tuple[Claim, ...] = Field((), strict=False)
    """What the paper says of its table, to be judged on these runs."""

    def grid_axes(self) -> tuple[Axis, ...]:
        """The axes in the order of the file; of several keys each value is a list of one value a key."""
        made = []
        for name, values in self.axes.items():
            keys = tuple(key.strip() for key in name.split(","))
            rows = tuple(tuple(value) if len(keys) > 1 else (value,) for value in values)
            made.append(Axis(name, keys, rows))
        return tuple(made)

    def varied_keys(self) -> tuple[str, ...]:
        """Every dotted key that varies."""
        return tuple(key for axis in self.grid_axes() for key in axis.keys)

    @model_validator(mode="after")
    def _margins_are_of_metrics(self) -> SweepFile:
        for metric in self.margins:
            if metric not in METRICS:
                raise ValueError(f"margins: {metric!r}: allowed: {', '.join(METRICS)}")
        return self

    @model_validator(mode="after")
    def _axes_are_axes(self) -> SweepFile:
        for name, values in self.axes.items():
            count = name.count(",") + 1
            if not values:
                raise ValueError(f"axes.{name}: [] is empty; at least one value is needed")
            for value in values:
                if count > 1 and (not isinstance(value, list) or len(value) != count):
                    raise ValueError(f"axes.{name}: {value!r}: allowed: a list of {count} values, one a key")
            if _has_equals(values):
                raise ValueError(f"axes.{name}: {list(values)} names a value twice")
        keys = self.varied_keys()
        for place, key in enumerate(keys):
            if key in keys[:place]:
                raise ValueError(f"axes: {key!r} stands in two axes")
        return self

    @model_validator(mode="after")
    def _axes_make_a_table(self) -> SweepFile:
        keys = self.varied_keys()
        sides = (*self.table.rows, *self.table.columns)
        for key in sides:
            if key not in keys:
                raise ValueError(f"table: {key!r} is not an axis; allowed: {', '.join(keys)}")
        if len(set(sides)) < len(sides):
            raise ValueError(f"table: rows and columns name a key twice: {', '.join(sides)}")
        for axis in self.grid_axes():
            if len({key in self.table.rows for key in axis.keys}) > 1:
                raise ValueError(f"table: the keys of axes.{axis.name} vary together; put them on one side")
        return self


class ScaleFile(Closed):
    """``sweeps/scales/*.yaml``: how much."""

    name: str = Field(pattern=r"^[a-z0-9_]+$")
    description: str
    seeds: Seeds | None = None
    settings: dict[str, Any] = Field({})
    images: dict[str, Any] = Field({})
    """Settings laid over the others for sweeps on images (``data.benchmark: coco``)."""
    stand_ins: dict[str, dict[str, Any]] = Field({})
    """Dotted key -> value of a sweep that is too large for this scale -> what takes its place."""


def load_sweep(path: Path) -> SweepFile:
    """Read a sweep file; raises :class:`InputError` that names the file and the key."""
    return _load(path, SweepFile, "a sweep file")


def load_scale(name: str) -> ScaleFile:
    """Read ``sweeps/scales/<name>.yaml``, or the file itself when ``name`` is a path that ends in .yaml."""
    allowed = sorted(file.stem for file in SCALES.glob("*.yaml"))
    if name not in allowed and not name.endswith(".yaml"):
        raise InputError(f"--scale: {name!r}: no such scale; allowed: {', '.join(allowed)}, or a .yaml file")
    return _load(Path(scale_file(name)), ScaleFile, "a scale")


def scale_file(name: str) -> str:
    """The file of a scale that the command line names."""
    return name if name.endswith(".yaml") else str(SCALES / f"{name}.yaml")


def seed_list(seeds: Seeds, source: str) -> tuple[int, ...]:
    """The seeds that a file means; ``source`` is the file, for errors."""
    listed = tuple(range(seeds)) if isinstance(seeds, int) else seeds
    if not listed or len(set(listed)) < len(listed) or min(listed) < 0:
        raise InputError(
            f"{source}: {seeds!r}: allowed: a count of at least 1, or a list of different numbers >= 0"
        )
    return listed


def _has_equals(values: tuple[Any, ...]) -> bool:
    """Whether two of an axis's values are equal, as 1 and 1.0 are."""
    try:
        return len({tuple(value) if isinstance(value, list) else value for value in values}) < len(values)
    except TypeError:  # mappings, lists of lists
        return any(value in values[:place] for place, value in enumerate(values))


File = TypeVar("File", bound=BaseModel)


def _load(path: Path, schema: type[File], what: str) -> File:
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeys)
    except OSError as error:
        raise InputError(f"{path}: cannot be read as {what} ({error.strerror})") from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: dates that are none, bytes that are no text
        raise InputError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: not {what}: a mapping is expected; keys: {', '.join(schema.model_fields)}")
    try:
        return schema.model_validate(content)
    except ValidationError as error:
        raise InputError(f"{path}: {first_problem(error, schema)}") from None


class _UniqueKeys(yaml.SafeLoader):
    """Safe YAML in which a key that stands twice is an error, not a silent choice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for index, key in enumerate(keys):
            if key in keys[:index]:
                where = node.value[index][0].start_mark.line + 1
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} stands twice, line {where}")
        return super().construct_mapping(node, deep=deep)


# YAML 1.1 reads 1e-3 as text for want of a point; people mean the number.
_UniqueKeys.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)
