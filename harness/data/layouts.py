"""Where the annotations and the images of a split lie, in every published folder layout.

::

    YouTube-VIS 2019   train.json, train/JPEGImages/<video>/<frame>.jpg
    YouTube-VIS 2021   train/instances.json, train/JPEGImages/<video>/<frame>.jpg
    OVIS               annotations_train.json, train/<video>/<frame>.jpg
    COCO               annotations/instances_train2017.json, train2017/<image>.jpg

Annotations may also lie in ``annotations/``. A split without images of its own takes those of the name
before its first underscore: the frames of ``valid_seen.json`` lie in ``valid/``.
"""

from __future__ import annotations

from pathlib import Path

from model.errors import InputError

ANNOTATION_FILES = (
    "{split}.json",
    "annotations/{split}.json",
    "{split}/instances.json",
    "annotations_{split}.json",
    "annotations/annotations_{split}.json",
    "annotations/instances_{split}.json",
    "annotations/instances_{split}_sub.json",
)
"""Below the data folder; the first that is there is taken."""
IMAGE_FOLDERS = ("{split}/JPEGImages", "{split}")
"""Likewise; file names in the json are relative to it."""


def find_annotation_file(root: Path, split: str) -> Path | None:
    """The json of a split, None where there is none."""
    places = (root / name.format(split=split) for name in ANNOTATION_FILES)
    return next((place for place in places if place.is_file()), None)


def annotation_file(root: Path, split: str) -> Path:
    """The json of a split. Raises :class:`InputError` that says every place it looked."""
    found = find_annotation_file(root, split)
    if found is not None:
        return found
    if not root.is_dir():
        state = "no such folder" if not root.exists() else "not a folder"
    else:
        state = "the folder is empty" if not any(root.iterdir()) else f"no annotations of split {split!r}"
    looked = ", ".join(name.format(split=split) for name in ANNOTATION_FILES)
    raise InputError(f"{root}: {state}; looked for {looked}")


def image_folder(root: Path, split: str) -> Path:
    """The folder that the file names of a split's json are relative to.

    Raises :class:`InputError` that says every place it looked.
    """
    splits = dict.fromkeys((split, split.split("_")[0]))
    names = [name.format(split=one) for one in splits for name in IMAGE_FOLDERS]
    for name in names:
        if (root / name).is_dir():
            return root / name
    raise InputError(f"{root}: no images of split {split!r}; looked for the folders {', '.join(names)}")
