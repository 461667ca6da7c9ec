"""COCO's instances json in the form of a YouTube-VIS json: each image is a video of one frame.

So sampler, training, inference and scoring need no second road for images.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.data.polygons import Polygons, checked_polygons
from harness.data.rle import Rle, checked_mask
from model.errors import InputError


def is_image_json(content: dict[str, Any]) -> bool:
    """Whether this is COCO's form: ``images``, and no ``videos``."""
    return "images" in content and "videos" not in content


def as_videos(content: dict[str, Any], file: Path) -> dict[str, Any]:
    """``content`` in the form of a YouTube-VIS json: ``videos`` with the images' ids and one file each.

    The entries are changed in place: COCO has 860,000 annotations. ``segmentations`` holds one checked
    :class:`Polygons` or RLE; ``areas`` the json's own area, where it has one.

    Raises :class:`InputError` that names the image or annotation and the field.
    """
    images = _objects(content, "images", file)
    if not images:
        raise InputError(f"{file}: images: empty list; at least one is needed")
    sizes = {}
    for image in images:
        where = f"{file}: image {image['id']}"
        if image["id"] in sizes:
            raise InputError(f"{where}: id appears twice")
        sizes[image["id"]] = (_side(image, "height", where), _side(image, "width", where))
        name = image.get("file_name")
        if not isinstance(name, str) or not name:
            raise InputError(f"{where}: file_name: {name!r}; allowed: the path of a file")
        image["file_names"] = [name]
    annotations = _objects(content, "annotations", file) if content.get("annotations") is not None else []
    for entry in annotations:
        _turn_annotation(entry, sizes, f"{file}: annotation {entry['id']}")
    categories = {"categories": content["categories"]} if "categories" in content else {}
    return {**categories, "videos": images, "annotations": annotations}


def _objects(content: dict[str, Any], key: str, file: Path) -> list[dict[str, Any]]:
    """A list of objects with integer ids."""
    entries = content.get(key)
    if not isinstance(entries, list):
        raise InputError(f"{file}: {key}: {type(entries).__name__}; allowed: a list")
    for place, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise InputError(f"{file}: {key}[{place}]: {type(entry).__name__}; allowed: an object")
        if type(entry.get("id")) is not int:
            raise InputError(f"{file}: {key}[{place}]: id: {entry.get('id')!r}; allowed: an integer")
    return entries


def _side(image: dict[str, Any], key: str, where: str) -> int:
    value = image.get(key)
    if type(value) is not int or value < 1:
        raise InputError(f"{where}: {key}: {value!r}; allowed: a positive integer")
    return value


def _turn_annotation(entry: dict[str, Any], sizes: dict[int, tuple[int, int]], where: str) -> None:
    """Give an annotation of an image the fields of one of a video."""
    image = entry.pop("image_id", None)
    if type(image) is not int or image not in sizes:
        raise InputError(f"{where}: image_id: {image!r}; allowed: the id of an image in this file")
    entry["video_id"] = image
    found = entry.pop("segmentation", None)
    entry["segmentations"] = [_mask(found, sizes[image], f"{where} (image {image}): segmentation")]
    area = entry.pop("area", None)
    if area is not None:
        entry["areas"] = [area]


def _mask(found: object, size: tuple[int, int], where: str) -> Polygons | Rle:
    if isinstance(found, list):
        return checked_polygons(found, size, where)
    if not isinstance(found, dict):
        raise InputError(f"{where}: {type(found).__name__}; allowed: a list of polygons, or an RLE")
    return checked_mask(found, size, where)
