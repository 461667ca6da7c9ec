"""Scores of results that are there already: by situation, and by kind of error. No model is run.

Each measure is a stage of its own and leaves a record beside ``results.json``, with the version of the code
that made it: an evaluated cell computes what it lacks and nothing else.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from harness.data.ytvis import VideoDataset
from harness.provenance import now, score_versions
from harness.record_file import write_record
from model.errors import InputError

if TYPE_CHECKING:
    from harness.stages import Voice

Scored = Literal["situations", "errors"]
Results = list[dict[str, Any]]


def score_cell(measure: Scored, dataset: VideoDataset, folder: Path, voice: Voice) -> None:
    """Score a cell's ``results.json``; writes ``situations.json`` or ``errors.json`` beside it."""
    started, code = time.perf_counter(), score_versions()[measure]
    voice.emit("stage", name=measure)
    results = _read_results(folder / "results.json")
    scores = SCORES[measure](dataset, results)
    record = {
        **scores,
        f"{measure}_code": code,
        "scored": now(),
        "seconds": round(time.perf_counter() - started, 3),
    }
    write_record(folder / f"{measure}.json", record)


def _read_results(file: Path) -> Results:
    """What the evaluation has written; raises :class:`InputError` where it is gone or damaged."""
    try:
        found = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(f"delete {file.parent} to evaluate again: {file.name}: {error}") from None
    return list(found)


def _situations(dataset: VideoDataset, results: Results) -> dict[str, Any]:
    from harness.situations import situation_scores, tracks_of

    return {**situation_scores(dataset, results), "tracks": tracks_of(dataset)}


def _errors(dataset: VideoDataset, results: Results) -> dict[str, Any]:
    from harness.track_errors import find_errors, gain_columns

    found = find_errors(dataset.ground_truth(), results)
    return {**gain_columns(found), "counts": found.counts()}


SCORES: dict[Scored, Callable[[VideoDataset, Results], dict[str, Any]]] = {
    "situations": _situations,
    "errors": _errors,
}
