"""Which video and which category an entry of a foreign result file means.

Names say what is meant, ids are numbers of somebody's list: where entries, or lists in their file, have
names, the names decide. Nothing is ever mapped by position.
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Mapping
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from model.errors import InputError

Entry = dict[str, Any]
IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
NAMES_SHOWN = 10


class Kind(NamedTuple):
    """What is named: a video or a category."""

    noun: str
    plural: str
    id_key: str
    name_keys: tuple[str, ...]
    """The first that holds a string (or a list that begins with one) is the entry's name of it."""
    folded: Callable[[str], str]
    """Names that are equal after it are one name."""


def _folder(name: str) -> str:
    """``camel`` of ``camel``, ``camel/00000.jpg`` and ``valid/JPEGImages/camel/00000.jpg``."""
    path = PurePosixPath(name)
    return path.parent.name if path.suffix.lower() in IMAGE_ENDINGS and path.parent.name else path.name


def _plain(name: str) -> str:
    return "".join(letter for letter in name.casefold() if letter not in " -_")


VIDEO = Kind(
    "video", "videos", "video_id", ("video_name", "file_name", "file_names", "video", "video_id"), _folder
)
CATEGORY = Kind("category", "categories", "category_id", ("category_name", "category", "category_id"), _plain)


def names_of(content: Entry, kind: Kind) -> dict[int, str]:
    """Name by id in an object with ``videos`` or ``categories``; those without a name are left out."""
    found = {}
    for entry in content.get(kind.plural) or []:
        name = entry.get("name")
        if kind is VIDEO:
            files = entry.get("file_names") or [None]
            name = str(PurePosixPath(files[0]).parent) if isinstance(files[0], str) else name
        if isinstance(name, str) and name not in ("", "."):
            found[int(entry["id"])] = name
    return found


def renumbered(
    entries: list[Any], kind: Kind, own: Mapping[int, str], known: Mapping[int, str], file: str
) -> tuple[list[Any], list[str]]:
    """The entries with the annotation json's ids wherever they have names, and what was mapped.

    Args:
        entries: of the result file; what is no object stays as it is, other checks refuse it.
        own: names by id in the lists that the result file brings; empty without one.
        known: names by id of the annotation json.
        file: opening of the error messages.

    Raises:
        InputError: a name has no counterpart or several, or entries without names stand beside others
            whose ids turned out to be of another numbering.
    """
    ids: dict[str, list[int]] = {}
    for known_id, known_name in known.items():
        ids.setdefault(kind.folded(known_name), []).append(known_id)
    names = [_name(entry, kind, own) for entry in entries]
    used = dict.fromkeys(name for name in names if name is not None)
    if not used:
        return entries, []
    _refuse_without_counterpart(list(used), ids, kind, known, file)
    out = list(entries)
    other: dict[str, Any] = {}
    unnamed: int | None = None
    for place, (entry, name) in enumerate(zip(entries, names, strict=True)):
        if name is None:
            unnamed = place if unnamed is None and isinstance(entry, dict) else unnamed
            continue
        [target] = ids[kind.folded(name)]
        before = entry.get(kind.id_key)
        if isinstance(before, bool) or before != target:
            out[place] = {**entry, kind.id_key: target}
            if before is not None and before != name:
                other.setdefault(name, before)
    if other and unnamed is not None:
        odd, number = next(iter(other.items()))
        raise InputError(
            f"{file}: [{unnamed}]: {kind.id_key} without a name, but elsewhere {kind.id_key} "
            f"{reprlib.repr(number)} is {odd!r}, {ids[kind.folded(odd)][0]} in the annotations; "
            "allowed: names in all entries, or the annotations' ids"
        )
    if all(old is new for old, new in zip(entries, out, strict=True)):
        return entries, []
    how = ": its ids are of another list" if other else ""
    return out, [f"{kind.plural} mapped by name ({len(used)} names){how}"]


def _name(entry: Any, kind: Kind, own: Mapping[int, str]) -> str | None:
    if not isinstance(entry, dict):
        return None
    for key in kind.name_keys:
        value = entry.get(key)
        if isinstance(value, list) and value:
            value = value[0]
        if isinstance(value, str):
            return value
    number = entry.get(kind.id_key)
    return own.get(number) if isinstance(number, int) and not isinstance(number, bool) else None


def _refuse_without_counterpart(
    used: list[str], ids: Mapping[str, list[int]], kind: Kind, known: Mapping[int, str], file: str
) -> None:
    unknown = [name for name in used if kind.folded(name) not in ids]
    if unknown:
        raise InputError(
            f"{file}: {kind.plural} without a counterpart in the annotations: {_listed(unknown)}; allowed: "
            f"{_listed(known.values()) or 'ids alone, since the annotations have no names'}"
        )
    for name in used:
        if len(ids[kind.folded(name)]) > 1:
            raise InputError(
                f"{file}: {kind.noun} {name!r}: may be any of the annotations' ids "
                f"{', '.join(map(str, ids[kind.folded(name)]))}; allowed: a name that only one of them has"
            )


def _listed(names: Any) -> str:
    names = list(names)
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return ", ".join(map(repr, names[:NAMES_SHOWN])) + more
