"""The benchmarks' json files, checked: videos or images, categories, annotations and results.

Evaluation and ``python -m harness validate`` read through the same checks, so what one refuses the
other refuses. Two layouts: YouTube-VIS (``videos``, a list of masks for each track) and COCO
(``images``, one mask); an image is a video of one frame here.

Shapes:
    L frames of a video, (H, W) their size.
"""

from __future__ import annotations

import json
import math
import reprlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, TypeGuard

import numpy as np

from harness.data.polygons import checked_polygons
from harness.data.rle import Rle, checked_mask, checked_masks, read_masks
from model.errors import InputError

Masks = tuple[Rle | None, ...]
"""One compressed RLE a frame, None where the object is absent."""
Shape = tuple[int, tuple[int, int]]
"""Of a video: L and (H, W)."""
Report = Callable[[str], None]
"""Takes a problem, one line; it may raise."""


class Layout(NamedTuple):
    """The names that differ between videos and images."""

    unit: str
    one: str
    id_key: str
    masks_key: str


VIDEOS = Layout("video", "a video", "video_id", "segmentations")
IMAGES = Layout("image", "an image", "image_id", "segmentation")


class Header(NamedTuple):
    """What an annotation json says besides its annotations: shapes by video id, and category ids."""

    layout: Layout
    shapes: dict[int, Shape]
    categories: frozenset[int]


class Annotation(NamedTuple):
    """A checked annotation: ``where`` opens error messages, ``entry`` is the json's own object."""

    where: str
    video: int
    category: int
    crowd: bool
    masks: Masks
    entry: dict[str, Any]


class Result(NamedTuple):
    """A checked result; ``place`` is its index in the file. Results may share one tuple of masks."""

    place: int
    video: int
    category: int
    score: float
    masks: Masks


def json_content(source: Any, what: str) -> tuple[str, Any]:
    """A name for error messages, and the content: ``source`` itself, or the json at that path."""
    if not isinstance(source, str | Path):
        return what, source
    return str(source), parsed_json(file_bytes(Path(source)), str(source))


def file_bytes(path: Path) -> bytes:
    """All bytes of a file; raises :class:`InputError` where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None


def parsed_json(text: bytes | str, name: str) -> Any:
    """The content of a json text; raises :class:`InputError` where it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{name}: not a json file ({error})") from None


def is_finite_number(value: object) -> TypeGuard[float]:
    """Whether it is an int or float that counts: no bool, NaN, infinity, nor an int too long for a float."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _is_int(value: object) -> TypeGuard[int]:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


# Header


def read_header(truth: Any, name: str) -> Header:
    """Videos (or images) and categories of an annotation json; its annotations are not looked at.

    Raises:
        InputError: naming the file, the entry and the field.
    """
    if not isinstance(truth, dict):
        raise InputError(
            f"{name}: top level is a {type(truth).__name__}; allowed: a YouTube-VIS or COCO object"
        )
    layout = IMAGES if "images" in truth and "videos" not in truth else VIDEOS
    entries = _entries_by_id(truth, f"{layout.unit}s", name)
    shapes = {i: _shape(entry, f"{name}: {layout.unit} {i}", layout) for i, entry in entries.items()}
    return Header(layout, shapes, frozenset(_entries_by_id(truth, "categories", name)))


def _entries_by_id(truth: dict[str, Any], key: str, name: str) -> dict[int, dict[str, Any]]:
    out: dict[int, dict[str, Any]] = {}
    for place, entry in enumerate(_list(truth, key, name)):
        where = f"{name}: {key}[{place}]"
        if not isinstance(entry, dict):
            raise InputError(f"{where}: {type(entry).__name__}; allowed: an object")
        if not _is_int(entry.get("id")):
            raise InputError(f"{where}: id: {reprlib.repr(entry.get('id'))}; allowed: an integer")
        if entry["id"] in out:
            raise InputError(f"{where}: id: {entry['id']} appears twice")
        out[int(entry["id"])] = entry
    return out


def _list(truth: dict[str, Any], key: str, name: str, why: str = "") -> list[Any]:
    value = truth.get(key)
    if not isinstance(value, list):
        kind = type(value).__name__ if key in truth else "missing"
        raise InputError(f"{name}: {key}: {kind}; allowed: a list{why}")
    return value


def _shape(entry: dict[str, Any], where: str, layout: Layout) -> Shape:
    for key in ("height", "width"):
        if not _is_int(entry.get(key)) or entry[key] < 1:
            raise InputError(f"{where}: {key}: {reprlib.repr(entry.get(key))}; allowed: a positive integer")
    size = int(entry["height"]), int(entry["width"])
    return (1 if layout is IMAGES else _length(entry, where)), size


def _length(entry: dict[str, Any], where: str) -> int:
    """L, by ``length`` or by the number of ``file_names``; where both are there they must agree."""
    length, files = entry.get("length"), entry.get("file_names")
    if files is not None and not isinstance(files, list):
        raise InputError(f"{where}: file_names: {type(files).__name__}; allowed: a list of paths")
    if length is None and files is not None:
        return len(files)
    if not _is_int(length) or length < 0:
        raise InputError(f"{where}: length: {reprlib.repr(length)}; allowed: a number of frames")
    if files is not None and len(files) != length:
        raise InputError(f"{where}: length: {length}, but file_names has {len(files)} entries")
    return int(length)


# Annotations


def read_annotations(truth: dict[str, Any], name: str, header: Header) -> list[Annotation]:
    """The annotations, every field checked that a score depends on.

    Raises:
        InputError: naming the annotation by its id and its video, and the field.
    """
    out: list[Annotation] = []
    places: dict[int, int] = {}
    for place, entry in enumerate(_list(truth, "annotations", name, " (scoring needs annotations)")):
        where = f"{name}: annotations[{place}]"
        if not isinstance(entry, dict):
            raise InputError(f"{where}: {type(entry).__name__}; allowed: an object")
        if "id" in entry:
            if not _is_int(entry["id"]):
                raise InputError(f"{where}: id: {reprlib.repr(entry['id'])}; allowed: an integer")
            where = f"{name}: annotation {entry['id']}"
            if entry["id"] in places:
                first = places[entry["id"]]
                raise InputError(f"{where}: id: appears twice, annotations[{first}] and [{place}]")
            places[entry["id"]] = place
        out.append(_annotation(entry, where, header))
    return out


def _annotation(entry: dict[str, Any], where: str, header: Header) -> Annotation:
    layout = header.layout
    for problem in _unknown_ids(entry, header, layout):
        raise InputError(f"{where}: {problem}")
    video, category = int(entry[layout.id_key]), int(entry["category_id"])
    where = f"{where} ({layout.unit} {video})"
    crowd = entry.get("iscrowd", 0)
    if crowd not in (0, 1):
        raise InputError(f"{where}: iscrowd: {reprlib.repr(crowd)}; allowed: 0, 1")
    length, size = header.shapes[video]
    found = entry.get(layout.masks_key)
    masks: Masks
    if layout is IMAGES:
        masks = (_image_mask(found, size, f"{where}: {layout.masks_key}"),)
    else:
        masks = checked_masks(found, length, size, where, layout.masks_key)
    _check_areas(entry, where, length, layout)
    return Annotation(where, video, category, bool(crowd), masks, entry)


def _check_areas(entry: dict[str, Any], where: str, length: int, layout: Layout) -> None:
    """The json's own areas, where it has some: they decide what is small and large."""
    if layout is IMAGES:
        area = entry.get("area")
        if area is not None and (not is_finite_number(area) or area < 0):
            raise InputError(f"{where}: area: {area!r}; allowed: a finite number from 0")
        return
    areas = entry.get("areas")
    if areas is None:
        return
    if not isinstance(areas, list):
        raise InputError(f"{where}: areas: {type(areas).__name__}; allowed: a list of numbers and nulls")
    if len(areas) != length:
        raise InputError(f"{where}: areas: {len(areas)} entries; allowed: {length}, one a frame of the video")
    for frame, area in enumerate(areas):
        if area is not None and (not is_finite_number(area) or area < 0):
            raise InputError(f"{where}: areas[{frame}]: {area!r}; allowed: null or a finite number from 0")


def _unknown_ids(entry: dict[str, Any], header: Header, layout: Layout) -> list[str]:
    known = ((layout.id_key, layout.one, header.shapes), ("category_id", "a category", header.categories))
    return [
        f"{key}: {reprlib.repr(entry.get(key))}; allowed: the id of {kind} that the annotation json lists"
        for key, kind, ids in known
        if not _is_int(entry.get(key)) or entry[key] not in ids
    ]


def _image_mask(found: object, size: tuple[int, int], where: str) -> Rle:
    """COCO's mask of one object: polygons that together cover it, or an RLE."""
    if isinstance(found, list):
        return checked_polygons(found, size, where).rle(*size)
    return checked_mask(found, size, where)


# Results


def refuse(problem: str) -> NoReturn:
    """The :data:`Report` that ends at the first problem."""
    raise InputError(problem)


def read_results(
    results: Any, name: str, header: Header, layout: Layout, report: Report = refuse
) -> list[Result]:
    """The results in the order of the file; those with a problem are reported and left out.

    Args:
        results: ``[{video_id, category_id, score, segmentations: [RLE | None]}]``, or with ``layout``
            ``IMAGES`` ``[{image_id, category_id, score, segmentation: RLE}]``.
        name: opening of the error messages.
        header: what the results may point at.
        layout: the names that the results use; those of the header may be others.
        report: what to do with a problem; without it :class:`InputError` is raised.
    """
    if not isinstance(results, list | tuple):
        raise InputError(f"{name}: top level is a {type(results).__name__}; allowed: a list of results")
    # Results of several classes may share one list of masks: those are checked once, by the list's
    # identity and the video.
    known: dict[tuple[int, int], tuple[Masks, list[str]]] = {}
    out: list[Result] = []
    for place, entry in enumerate(results):
        where = f"{name}: [{place}]"
        if not isinstance(entry, dict):
            report(f"{where}: {type(entry).__name__}; allowed: an object")
            continue
        problems = _unknown_ids(entry, header, layout)
        video, found = entry.get(layout.id_key), entry.get(layout.masks_key)
        if not is_finite_number(entry.get("score")):
            problems.append(f"score: {reprlib.repr(entry.get('score'))}; allowed: a finite number")
        masks: Masks = ()
        if _is_int(video) and video in header.shapes:
            where = f"{where}: {layout.unit} {video}"
            key = int(video), id(found)
            if key not in known:
                known[key] = _result_masks(found, header.shapes[key[0]], layout)
            masks, wrong = known[key]
            problems += wrong
        for problem in problems:
            report(f"{where}: {problem}")
        if not problems:
            category, score = int(entry["category_id"]), float(entry["score"])
            out.append(Result(place, int(entry[layout.id_key]), category, score, masks))
    return out


def _result_masks(found: object, shape: Shape, layout: Layout) -> tuple[Masks, list[str]]:
    length, size = shape
    if layout is VIDEOS:
        return read_masks(found, length, size, layout.masks_key)
    try:
        return (checked_mask(found, size, layout.masks_key),), []
    except InputError as error:
        return (), [str(error)]
