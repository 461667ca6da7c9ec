"""Average precision of masks on images: COCO's protocol, by pycocotools' own evaluator.

An image is a video of one frame here, in results as everywhere else in the harness.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from pycocotools import mask as coco
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from harness.benchmark_json import (
    IMAGES,
    VIDEOS,
    Annotation,
    Header,
    Result,
    read_annotations,
    read_header,
    read_results,
)
from harness.data.rle import Rle
from model.errors import InputError

METRICS = {"AP": 0, "AP50": 1, "AP75": 2, "AR1": 6, "AR10": 7, "AR100": 8}
"""By name: the place in ``COCOeval.stats``. By area there are none: COCO's ranges are not YouTube-VIS'."""


def evaluate_images(ground_truth: dict[str, Any], results: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Score ``results`` as COCO does (masks).

    Args:
        ground_truth: a COCO instances json, with polygons or RLE.
        results: videos of one frame: ``[{video_id (the image's id), category_id, score,
            segmentations: [RLE | None]}]``.

    Returns:
        ``AP, AP50, AP75, AR1, AR10, AR100`` as fractions; -1 where no annotation counts.

    Raises:
        InputError: input of another kind, naming the entry and the field.
    """
    truth_name = "ground truth"
    header = read_header(ground_truth, truth_name)
    if header.layout is not IMAGES:
        raise InputError(f"{truth_name}: no images; allowed: a COCO instances json")
    annotations = read_annotations(ground_truth, truth_name, header)
    found = read_results(results, "results", header, VIDEOS)
    if not header.shapes or not header.categories:  # nothing to score, and COCOeval trips over it
        return dict.fromkeys(METRICS, -1.0)
    # It prints as it goes; standard output may belong to someone who reads json lines there.
    with contextlib.redirect_stdout(io.StringIO()):
        truth_index = _index(header, _annotated(annotations))
        scoring = COCOeval(truth_index, _index(header, _found(found, header)), "segm")
        scoring.evaluate()
        scoring.accumulate()
        scoring.summarize()
    return {name: float(scoring.stats[place]) for name, place in METRICS.items()}


def _index(header: Header, annotations: list[dict[str, Any]]) -> Any:
    """pycocotools' index of checked annotations or results: its own reader fails on an empty list."""
    index = COCO()
    index.dataset = {
        "images": [{"id": i, "height": H, "width": W} for i, (_, (H, W)) in header.shapes.items()],
        "categories": [{"id": category} for category in sorted(header.categories)],
        # Numbered anew from 1: to COCOeval a match with the annotation 0 is none.
        "annotations": [{"id": i, **annotation} for i, annotation in enumerate(annotations, 1)],
    }
    index.createIndex()
    return index


def _annotated(annotations: Iterable[Annotation]) -> list[dict[str, Any]]:
    out = []
    for annotation in annotations:
        [mask] = annotation.masks
        area = annotation.entry.get("area")
        out.append(
            {
                "image_id": annotation.video,
                "category_id": annotation.category,
                "iscrowd": int(annotation.crowd),
                "segmentation": mask,
                "area": _area(mask) if area is None else area,
            }
        )
    return out


def _found(results: Iterable[Result], header: Header) -> list[dict[str, Any]]:
    out = []
    for result in results:
        mask = result.masks[0] or _empty(header.shapes[result.video][1])
        out.append(
            {
                "image_id": result.video,
                "category_id": result.category,
                "score": result.score,
                "segmentation": mask,
                "area": _area(mask),
            }
        )
    return out


def _area(mask: Rle | None) -> float:
    return float(coco.area(mask)) if mask is not None else 0.0


def _empty(size: tuple[int, int]) -> Rle:
    code: Rle = coco.encode(np.zeros(size, np.uint8, order="F"))
    return code
