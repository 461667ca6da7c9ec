"""Masks as COCO writes most of them: outlines, kept as they are until a mask is asked for."""

from __future__ import annotations

import math
from array import array
from dataclasses import dataclass
from typing import Any

import numpy as np
from pycocotools import mask as codes

from model.errors import InputError


@dataclass(frozen=True, slots=True)
class Polygons:
    """One mask: the union of closed outlines, each x0, y0, x1, y1, ... in pixels."""

    outlines: tuple[array[float], ...]

    def rle(self, height: int, width: int) -> dict[str, Any]:
        """Compressed run-length code of the mask on an image of this size, as pycocotools draws it."""
        outlines = [np.frombuffer(outline) for outline in self.outlines]
        code: dict[str, Any] = codes.merge(codes.frPyObjects(outlines, height, width))
        return {"size": [height, width], "counts": code["counts"].decode("ascii")}


def checked_polygons(found: list[Any], size: tuple[int, int], where: str) -> Polygons:
    """The outlines of one mask.

    Args:
        found: the list found in the json.
        size: (H, W) of the image.
        where: opening of the error message: file, entry and field.

    Raises:
        InputError: no outline, or one that is no list of an even count of 6 or more finite numbers,
            each at most twice the image's longer side (pycocotools' drawing trusts them).
    """
    if not found:
        raise InputError(f"{where}: empty list; allowed: at least one polygon, or an RLE")
    limit = 2.0 * max(size)
    return Polygons(tuple(_outline(points, limit, f"{where}[{place}]") for place, points in enumerate(found)))


def _outline(points: Any, limit: float, where: str) -> array[float]:
    if not isinstance(points, list):
        raise InputError(f"{where}: {type(points).__name__}; allowed: a list x0, y0, x1, y1, ...")
    if len(points) < 6 or len(points) % 2:
        raise InputError(f"{where}: {len(points)} numbers; allowed: an even count, at least 6")
    try:
        outline = array("d", points)
    except (TypeError, OverflowError):
        raise InputError(f"{where}: not all entries are numbers") from None
    # A NaN slips through comparisons, not through a sum.
    if not (-limit <= min(outline) and max(outline) <= limit and math.isfinite(sum(outline))):
        odd = next(value for value in outline if not abs(value) <= limit)
        raise InputError(f"{where}: {odd}; allowed: finite coordinates within ±{limit:g}")
    return outline
