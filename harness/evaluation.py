"""Average precision of tracks: the YouTube-VIS evaluator's protocol, and the results file it reads.

COCO's protocol with the video as the image (YouTube-VIS, ICCV 2019). The IoU of two tracks is the sum
over frames of their intersections over the sum of their unions; a missing frame is an empty mask.

Shapes:
    D results and G annotated tracks of one (video, category), L frames, H, W frame size,
    A area ranges, I IoU thresholds, R recall thresholds, N tracks to write.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco

from harness.benchmark_json import (
    VIDEOS,
    Annotation,
    Masks,
    Result,
    json_content,
    read_annotations,
    read_header,
    read_results,
)
from harness.data.rle import Rle
from model.errors import InputError
from model.whole_file import whole_file

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALL_THRESHOLDS = np.linspace(0, 1, 101)
MAX_RESULTS = (1, 10, 100)
"""Best results kept for each (video, category)."""
AREA_RANGES = {"": (0.0, 1e10), "s": (0.0, 128.0**2), "m": (128.0**2, 256.0**2), "l": (256.0**2, 1e10)}
"""By suffix of the metric, in pixels: bounds of a track's mean area over the frames where it has any."""

Key = tuple[int, int]
"""(video id, category id)."""
Floats = NDArray[np.float64]


class Tracks(NamedTuple):
    """The tracks of one (video, category): masks and mean areas; annotated ones have crowds and ids.

    Results have scores instead, best first.
    """

    masks: list[Masks]
    areas: list[float]
    crowds: list[bool]
    scores: list[float]
    ids: list[int | None]
    """Of the annotations; None where the json has none"""


class Pairs(NamedTuple):
    """What is scored: ids of videos and categories in order, and the tracks of each (video, category)."""

    videos: list[int]
    categories: list[int]
    annotated: dict[Key, Tracks]
    predicted: dict[Key, Tracks]

    def of(self, category: int) -> list[Key]:
        """The (video, category) of a category that have tracks or results, in the order of the videos."""
        keys = ((video, category) for video in self.videos)
        return [key for key in keys if key in self.annotated or key in self.predicted]


class Matches(NamedTuple):
    """One (video, category): scores (D,), best first; matched and ignored (A,I,D); counted tracks (A,)."""

    scores: Floats
    matched: NDArray[np.bool_]
    ignored: NDArray[np.bool_]
    counted: NDArray[np.int64]


def evaluate(
    ground_truth: dict[str, Any] | str | Path, results: Sequence[dict[str, Any]] | str | Path
) -> dict[str, float]:
    """Score ``results`` as YouTube-VIS does.

    Args:
        ground_truth: a YouTube-VIS json with annotations, or its path.
        results: ``[{video_id, category_id, score, segmentations: [RLE | None]}]``, or such a json's path.

    Returns:
        ``AP, AP50, AP75, AR1, AR10, AR100`` and, by mean area of the track, ``APs, APm, APl, ARs, ARm, ARl``
        (at 100 results), as fractions; -1 where no annotated track counts.

    Raises:
        InputError: input of another kind, naming the entry and the field.
    """
    pairs = read_pairs(ground_truth, results)
    by_category = [
        [_match(pairs.annotated[key], pairs.predicted[key]) for key in pairs.of(category)]
        for category in pairs.categories
    ]
    precision, recall = _accumulate(by_category)
    return _summarise(precision, recall)


# Input


def read_pairs(
    ground_truth: dict[str, Any] | str | Path, results: Sequence[dict[str, Any]] | str | Path
) -> Pairs:
    """The tracks and the results that :func:`evaluate` scores, checked.

    Of the results of one (video, category) the best hundred are kept, best first, the earlier one first
    among equals.
    """
    truth_name, truth = json_content(ground_truth, "ground truth")
    results_name, found = json_content(results, "results")
    header = read_header(truth, truth_name)
    if header.layout is not VIDEOS:
        raise InputError(f"{truth_name}: images instead of videos; allowed: a YouTube-VIS json")
    annotated = _annotated_tracks(read_annotations(truth, truth_name, header))
    predicted = _predicted_tracks(read_results(found, results_name, header, VIDEOS))
    return Pairs(sorted(header.shapes), sorted(header.categories), annotated, predicted)


def _annotated_tracks(annotations: Iterable[Annotation]) -> dict[Key, Tracks]:
    out: dict[Key, Tracks] = defaultdict(_no_tracks)
    for annotation in annotations:
        tracks = out[annotation.video, annotation.category]
        tracks.masks.append(annotation.masks)
        tracks.areas.append(_annotated_area(annotation))
        tracks.crowds.append(annotation.crowd)
        tracks.ids.append(annotation.entry.get("id"))
    return out


def _annotated_area(annotation: Annotation) -> float:
    """Mean of the json's own areas, as in the original evaluator; without them, of the masks' areas."""
    areas = annotation.entry.get("areas")
    return _mean_mask_area(annotation.masks) if areas is None else _mean_area(areas)


def _predicted_tracks(results: Iterable[Result]) -> dict[Key, Tracks]:
    """The results of each (video, category), best score first, the earlier one first among equals."""
    out: dict[Key, Tracks] = defaultdict(_no_tracks)
    areas: dict[int, float] = {}  # by identity: results of several classes share their masks
    for result in sorted(results, key=lambda result: -result.score):
        tracks = out[result.video, result.category]
        if len(tracks.scores) < MAX_RESULTS[-1]:
            if id(result.masks) not in areas:
                areas[id(result.masks)] = _mean_mask_area(result.masks)
            tracks.scores.append(result.score)
            tracks.masks.append(result.masks)
            tracks.areas.append(areas[id(result.masks)])
    return out


def _mean_mask_area(masks: Masks) -> float:
    present = [mask for mask in masks if mask is not None]
    return _mean_area(coco.area(present).tolist() if present else [])


def _no_tracks() -> Tracks:
    return Tracks([], [], [], [], [])


def _mean_area(areas: Sequence[float | None]) -> float:
    """Mean over the frames with any area, as the original evaluator has it; 0 if there is none."""
    positive = [area for area in areas if area]
    return float(np.mean(positive)) if positive else 0.0


# Protocol


def _match(truth: Tracks, results: Tracks) -> Matches:
    """Match results to tracks greedily, best score first, in each area range and at each threshold.

    As in COCO: a crowd may take any number of results, and results taken by crowds or by tracks
    outside the area range are ignored, as are unmatched results outside of it.
    """
    D, G, A, I = len(results.scores), len(truth.masks), len(AREA_RANGES), len(IOU_THRESHOLDS)  # noqa: E741
    ious = track_ious(results.masks, truth.masks)
    matched, ignored = np.zeros((2, A, I, D), np.bool_)
    counted = np.zeros(A, np.int64)
    crowds, areas = np.array(truth.crowds, np.bool_), np.array(truth.areas)
    sizes = np.array(results.areas)
    for a, (low, high) in enumerate(AREA_RANGES.values()):
        skipped = crowds | (areas < low) | (areas > high)
        counted[a] = G - int(skipped.sum())
        for i, threshold in enumerate(IOU_THRESHOLDS):
            taken = matched_tracks(ious, threshold, crowds, skipped)
            matched[a, i] = taken >= 0
            ignored[a, i, matched[a, i]] = skipped[taken[matched[a, i]]]
        outside = (sizes < low) | (sizes > high)
        ignored[a] |= ~matched[a] & outside
    return Matches(np.array(results.scores), matched, ignored, counted)


def matched_tracks(
    ious: Floats, threshold: float, crowds: NDArray[np.bool_], skipped: NDArray[np.bool_]
) -> NDArray[np.intp]:
    """The track that each result takes, (D,), -1 if none: greedily, best score first.

    Args:
        ious: (D,G), results by falling score.
        threshold: of the IoU.
        crowds: (G,), tracks that may be taken any number of times.
        skipped: (G,), tracks that do not count: taken only where none that counts can be.
    """
    order = np.argsort(skipped, kind="stable")
    taken = np.zeros(len(crowds), np.bool_)
    out = np.full(len(ious), -1, np.intp)
    for d, row in enumerate(ious):
        g = _best_track(row, threshold, order, taken, crowds, skipped)
        if g >= 0:
            taken[g] = True
            out[d] = g
    return out


def _best_track(
    ious: Floats,
    threshold: float,
    order: NDArray[np.intp],
    taken: NDArray[np.bool_],
    crowds: NDArray[np.bool_],
    skipped: NDArray[np.bool_],
) -> int:
    """The free track with the highest IoU at or above ``threshold``, -1 if none; the last of equals."""
    best, match = min(threshold, 1 - 1e-10), -1
    for g in order:
        if taken[g] and not crowds[g]:
            continue
        # Tracks that count come first in ``order``: one of those is never given up for one that does not.
        if match >= 0 and not skipped[match] and skipped[g]:
            break
        if ious[g] >= best:
            best, match = ious[g], int(g)
    return match


def track_ious(results: list[Masks], truth: list[Masks]) -> Floats:
    """Space-time IoU (D,G) of tracks; 0 where both are empty."""
    D, G = len(results), len(truth)
    intersection, total = np.zeros((2, D, G))
    if not D or not G:
        return intersection
    for frame in range(len(truth[0])):
        shared, ours, theirs = frame_overlaps(results, truth, frame)
        intersection += shared
        total += ours[:, None] + theirs
    union = total - intersection
    return np.divide(intersection, union, out=np.zeros((D, G)), where=union > 0)


def frame_overlaps(results: list[Masks], truth: list[Masks], frame: int) -> tuple[Floats, Floats, Floats]:
    """Pixels of one frame: of intersections (D,G), of results (D,) and of tracks (G,)."""
    D, G = len(results), len(truth)
    shared, ours, theirs = np.zeros((D, G)), np.zeros(D), np.zeros(G)
    rows = [d for d in range(D) if results[d][frame] is not None]
    columns = [g for g in range(G) if truth[g][frame] is not None]
    row_masks, column_masks = [results[d][frame] for d in rows], [truth[g][frame] for g in columns]
    if rows:
        ours[rows] = coco.area(row_masks)
    if columns:
        theirs[columns] = coco.area(column_masks)
    if rows and columns:
        # Against a "crowd" COCO's C code returns intersection / area of the result, and skips
        # pairs whose boxes are apart: the quickest way to exact intersections.
        share = np.asarray(coco.iou(row_masks, column_masks, [1] * len(columns)))
        shared[np.ix_(rows, columns)] = np.rint(share * ours[rows][:, None])
    return shared, ours, theirs


def _accumulate(by_category: list[list[Matches]]) -> tuple[Floats, Floats]:
    """Precision (I,R,K,A,M) and recall (I,K,A,M) over all videos; M are the ``MAX_RESULTS``, -1 undefined."""
    shape = (len(by_category), len(AREA_RANGES), len(MAX_RESULTS))
    precision = -np.ones((len(IOU_THRESHOLDS), len(RECALL_THRESHOLDS), *shape))
    recall = -np.ones((len(IOU_THRESHOLDS), *shape))
    for k, videos in enumerate(by_category):
        for m, limit in enumerate(MAX_RESULTS):
            if not videos:
                continue
            scores = np.concatenate([video.scores[:limit] for video in videos])
            order = np.argsort(-scores, kind="stable")
            matched = np.concatenate([video.matched[..., :limit] for video in videos], -1)[..., order]
            ignored = np.concatenate([video.ignored[..., :limit] for video in videos], -1)[..., order]
            counted = np.sum([video.counted for video in videos], 0)
            for a in np.flatnonzero(counted):
                hits = np.cumsum(matched[a] & ~ignored[a], -1, dtype=np.float64)
                misses = np.cumsum(~matched[a] & ~ignored[a], -1, dtype=np.float64)
                recall[:, k, a, m] = hits[:, -1] / counted[a] if len(order) else 0
                precision[:, :, k, a, m] = [
                    interpolated_precision(*row, int(counted[a])) for row in zip(hits, misses, strict=True)
                ]
    return precision, recall


def interpolated_precision(hits: Floats, misses: Floats, counted: int, weight: float = 1.0) -> Floats:
    """Precision (R,) at the recall thresholds: the best reached at that recall or beyond, else 0.

    Args:
        hits: (D,), so many of the results up to each place found a track that counts, ``misses`` found none.
        counted: how many tracks count.
        weight: of a hit in the precision; recall is not weighted.
    """
    weighted = weight * hits
    precision = weighted / np.maximum(weighted + misses, np.spacing(1))
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    places = np.searchsorted(hits / counted, RECALL_THRESHOLDS, side="left")
    return np.append(envelope, 0.0)[places]


def _summarise(precision: Floats, recall: Floats) -> dict[str, float]:
    def mean(values: Floats) -> float:
        defined = values[values > -1]
        return float(defined.mean()) if defined.size else -1.0

    metrics = {"AP": mean(precision[..., 0, -1])}
    for percent in (50, 75):
        at = int(np.argmin(np.abs(IOU_THRESHOLDS - percent / 100)))
        metrics[f"AP{percent}"] = mean(precision[at, ..., 0, -1])
    for a, suffix in enumerate(AREA_RANGES):
        if suffix:
            metrics[f"AP{suffix}"] = mean(precision[..., a, -1])
    for m, limit in enumerate(MAX_RESULTS):
        metrics[f"AR{limit}"] = mean(recall[..., 0, m])
    for a, suffix in enumerate(AREA_RANGES):
        if suffix:
            metrics[f"AR{suffix}"] = mean(recall[..., a, -1])
    return metrics


# Output


def encode_tracks(
    video_id: int,
    scores: Sequence[float] | Floats,
    category_ids: Sequence[int] | NDArray[np.integer[Any]],
    masks: NDArray[np.bool_],
    mask_index: Sequence[int] | NDArray[np.integer[Any]] | None = None,
) -> list[dict[str, Any]]:
    """Entries of ``results.json``: the RLE of each frame, None where the mask is empty.

    Args:
        scores: (R,), one a result.
        category_ids: (R,), ids of the annotation json (not labels).
        masks: (N,L,H,W) bool.
        mask_index: (R,), the row of ``masks`` of each result, so that results that share masks cost one
            encoding; without it N = R, in order.
    """
    rows = range(len(masks)) if mask_index is None else [int(row) for row in mask_index]
    encoded = {row: [encode_mask(mask) for mask in masks[row]] for row in sorted(set(rows))}
    return [
        result_entry(video_id, category, score, encoded[row])
        for score, category, row in zip(scores, category_ids, rows, strict=True)
    ]


def result_entry(
    video_id: int, category_id: int, score: float, segmentations: list[Rle | None]
) -> dict[str, Any]:
    """One entry of ``results.json``; ``segmentations`` has a code a frame, None where the mask is empty."""
    return {
        "video_id": int(video_id),
        "category_id": int(category_id),
        "score": float(score),
        "segmentations": segmentations,
    }


def encode_mask(mask: NDArray[np.bool_]) -> Rle | None:
    """The code of one mask (H,W), None where it is empty."""
    if not mask.any():
        return None
    [code] = coco.encode(np.asfortranarray(mask, np.uint8)[:, :, None])
    return {"size": list(code["size"]), "counts": code["counts"].decode("ascii")}


def write_results(path: str | Path, results: Sequence[dict[str, Any]]) -> None:
    """Write ``results.json`` in the benchmark's format, whole or not at all."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as draft, draft.open("w", encoding="utf-8") as file:
        json.dump(list(results), file)
