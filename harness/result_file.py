"""A result file, checked before it is sent to a server, and the upload made of it."""

from __future__ import annotations

import zipfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.benchmark_json import (
    VIDEOS,
    Layout,
    Masks,
    Report,
    Result,
    file_bytes,
    json_content,
    parsed_json,
    read_header,
    read_results,
    refuse,
)
from harness.data.layouts import annotation_file
from harness.data.named_split import is_holdout, load_split, split_name
from model.errors import InputError
from model.whole_file import whole_file

MEMBER = "results.json"
"""The only file of an upload: the YouTube-VIS servers look for this name at the root of the zip."""
LONGEST_LIST = 20
"""Videos without results that a summary names."""


@dataclass(frozen=True)
class ResultFile:
    """What a checked result file holds."""

    name: str
    layout: Layout
    """Videos or images; "video" below stands for both."""
    per_video: dict[int, int]
    """Results of every video of the annotation json, 0 included."""
    categories: tuple[int, ...]
    """Ids that results point at."""
    known_categories: int
    scores: tuple[float, float] | None
    """Lowest and highest; None without results."""
    other_keys: dict[str, int]
    """Keys that no server asks for, and how many results have them."""

    @property
    def results(self) -> int:
        """Number of results."""
        return sum(self.per_video.values())

    @property
    def videos_without(self) -> tuple[int, ...]:
        """Ids of the videos without any result."""
        return tuple(video for video, count in self.per_video.items() if not count)

    def summary(self) -> list[str]:
        """The lines that the command prints."""
        unit, videos, without = self.layout.unit, len(self.per_video), self.videos_without
        lines = [
            f"{self.name}: {self.results} results for {videos - len(without)} of {videos} {unit}s, "
            f"at most {max(self.per_video.values(), default=0)} for one",
            f"categories: {len(self.categories)} of {self.known_categories}",
        ]
        if self.scores is None:
            lines.append("no results: the benchmarks' own evaluators end with an error on an empty list")
        else:
            lines.append("scores: {:g} to {:g}".format(*self.scores))
        if without:
            named = ", ".join(map(str, without[:LONGEST_LIST]))
            more = f" and {len(without) - LONGEST_LIST} more" if len(without) > LONGEST_LIST else ""
            lines.append(f"{unit}s without any result: {named}{more}")
        if self.other_keys:
            keys = ", ".join(f"{key} ({count})" for key, count in self.other_keys.items())
            lines.append(f"other keys, in so many results: {keys}")
        return lines


def validate(
    ground_truth: dict[str, Any],
    results: Any,
    name: str,
    truth_name: str = "annotation json",
    report: Report = refuse,
) -> ResultFile:
    """Check results as the evaluation does, and for what only a server minds: copies, uncompressed masks.

    Args:
        ground_truth: an annotation json; its videos (or images) and categories are enough.
        results: the content of the result file.
        name: of the result file, and ``truth_name`` of the annotation json, for error messages.
        report: what to do with a problem of a result; such results are left out of the summary.

    Raises:
        InputError: without ``report`` the first problem: file, place, video, field, value, what is
            allowed; always for an annotation json that cannot be used and results that are no list.
    """
    header = read_header(ground_truth, truth_name)
    layout = header.layout
    read = read_results(results, name, header, layout, report)
    counts = Counter(result.video for result in read)
    _refuse_uncompressed(results, read, name, layout, report)
    _refuse_copies(read, name, layout, report)
    asked = {layout.id_key, "category_id", "score", layout.masks_key}
    scores = [result.score for result in read]
    return ResultFile(
        name,
        layout,
        {video: counts[video] for video in header.shapes},
        tuple(sorted({result.category for result in read})),
        len(header.categories),
        (min(scores), max(scores)) if scores else None,
        dict(Counter(key for result in read for key in results[result.place] if key not in asked)),
    )


def _refuse_uncompressed(
    results: Any, read: Iterable[Result], name: str, layout: Layout, report: Report
) -> None:
    """The original evaluators read lists of runs in annotations, but not in results."""
    for result in read:
        found = results[result.place][layout.masks_key]
        for frame, mask in enumerate(found if layout is VIDEOS else [found]):
            if mask is not None and isinstance(mask["counts"], list):
                key = f"{layout.masks_key}[{frame}]" if layout is VIDEOS else layout.masks_key
                report(
                    f"{_where(result, name, layout)}: {key}: counts: a list of runs; "
                    "allowed: the string of a compressed RLE (servers read no other)"
                )


def _refuse_copies(read: Iterable[Result], name: str, layout: Layout, report: Report) -> None:
    """A result that is there twice counts once as a find and once as a false alarm: surely a mistake."""
    first: dict[tuple[int, int, float, tuple[str | None, ...]], int] = {}
    for result in read:
        key = (result.video, result.category, result.score, _codes(result.masks))
        if first.setdefault(key, result.place) != result.place:
            report(
                f"{_where(result, name, layout)}: category_id {result.category}, score {result.score!r} "
                f"and masks are those of [{first[key]}]; allowed: each result once"
            )


def _codes(masks: Masks) -> tuple[str | None, ...]:
    return tuple(None if mask is None else mask["counts"] for mask in masks)


def _where(result: Result, name: str, layout: Layout) -> str:
    return f"{name}: [{result.place}]: {layout.unit} {result.video}"


# Files


def check_file(
    path: Path, data: Path, split: str | None = None, upload: Path | None = None
) -> tuple[ResultFile, list[str]]:
    """What the result file at ``path`` holds, and all its problems, one line each.

    Args:
        path: the result file.
        data: a data folder, or an annotation json itself.
        split: of the folder; without it ``valid``.
        upload: a zip to write if there are no problems; it must not be there yet.

    Raises:
        InputError: files or arguments that do not let it check, naming them.
    """
    if upload is not None:
        _check_target(upload)
    content, results, truth_name, truth = _read(path, data, split)
    problems: list[str] = []
    checked = validate(truth, results, str(path), truth_name, problems.append)
    if upload is not None and checked.layout is not VIDEOS:
        raise InputError(f"{upload}: image results; allowed: video results, whose servers take a zip")
    if upload is not None and not problems:
        write_upload(upload, content)
    return checked, problems


def _read(path: Path, data: Path, split: str | None) -> tuple[bytes, Any, str, Any]:
    """Bytes and content of the result file, name and content of the annotation json."""
    content = file_bytes(path)
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not a json file ({error})") from None
    return content, parsed_json(text, str(path)), *read_truth(data, split)


def read_truth(data: Path, split: str | None) -> tuple[str, Any]:
    """Name and content of an annotation json; of a hold-out, the part of training that it is."""
    named = split_name(split)
    if data.is_file():
        if split is not None:
            raise InputError(f"--split {split}: --data names the file {data}; allowed: --split with a folder")
        return json_content(data, "")
    if not is_holdout(split):
        return json_content(annotation_file(data, named), "")
    scored = load_split(data, split)
    return f"{scored.annotation_file} ({split})", scored.ground_truth()


def _check_target(upload: Path) -> None:
    if upload.exists() or upload.is_symlink():
        raise InputError(f"{upload}: is there already; allowed: the name of a new zip")
    if not upload.parent.is_dir():
        raise InputError(f"{upload}: no folder {upload.parent}; allowed: a zip in a folder that is there")


def write_upload(path: Path, content: bytes) -> None:
    """Write a zip of one file, ``results.json`` with ``content``: whole or not at all, no times in it."""
    _check_target(path)
    member = zipfile.ZipInfo(MEMBER)  # dated 1980: the same results make the same bytes
    member.compress_type = zipfile.ZIP_DEFLATED
    member.create_system = 3
    member.external_attr = 0o644 << 16
    try:
        with whole_file(path) as draft, zipfile.ZipFile(draft, "w") as archive:
            archive.writestr(member, content)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})") from None
