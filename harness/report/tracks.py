"""Predicted tracks on real pixels: one video, frames across; ground truth and each row of the table down.

Reads the frames, the annotations and the cells' ``results.json``; no model and no device is needed.
"""

from __future__ import annotations

import io
import json
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as rle

from harness.data.ytvis import Video, VideoDataset
from model.whole_file import whole_file

FRAMES_ACROSS = 5
MAX_TRACKS = 8
CHARACTERS = 13
"""Of the heading, on an inch"""
COLOURS = np.array(
    [
        (230, 159, 0),
        (86, 180, 233),
        (0, 158, 115),
        (240, 228, 66),
        (0, 114, 178),
        (213, 94, 0),
        (204, 121, 167),
        (255, 255, 255),
    ],
    dtype=np.uint8,
)
"""Okabe and Ito's colour-blind safe palette, and white."""

Masks = NDArray[np.bool_]


@dataclass(frozen=True)
class DrawnTrack:
    """One track on the frames that are shown."""

    label: str
    """Category, and the score of a prediction"""
    masks: Masks
    """(F, H, W)"""


@dataclass(frozen=True)
class Prediction:
    """One row of the picture."""

    name: str
    results: Path
    """The cell's results.json"""


def draw_tracks(
    dataset: VideoDataset, predictions: list[Prediction], title: str, out: Path, min_score: float = 0.3
) -> Path:
    """Write ``out`` (PNG): the video with the most ground-truth tracks, frames evenly spread.

    A prediction is drawn when it is the best-scored class of its track and scores at least ``min_score``;
    it has the colour of the ground-truth track that it overlaps most, unless a better one took it.
    """
    video = max(dataset.videos, key=lambda v: (v.length > 0, len(v.tracks), v.length))
    shown = [round(i) for i in np.linspace(0, video.length - 1, min(FRAMES_ACROSS, video.length))]
    frames = dataset.frames(video, shown).transpose(0, 2, 3, 1)
    truth = [
        DrawnTrack(dataset.categories[track.category].name, masks)
        for track, masks in zip(video.tracks, dataset.masks(video, shown), strict=True)
    ]
    rows: list[tuple[str, list[DrawnTrack]]] = [("Ground truth", truth)]
    for prediction in predictions:
        rows.append((prediction.name, _predicted(dataset, prediction.results, video, shown, min_score)))
    picture = _figure(title, frames, shown, rows, truth, min_score)
    with whole_file(out) as draft:
        draft.write_bytes(picture)
    return out


def _predicted(
    dataset: VideoDataset, results: Path, video: Video, shown: list[int], min_score: float
) -> list[DrawnTrack]:
    """The best class of each track of this video, best score first."""
    names = {category.id: category.name for category in dataset.categories}
    entries: list[dict[str, Any]] = json.loads(results.read_text(encoding="utf-8"))
    best: dict[str, dict[str, Any]] = {}
    for entry in entries:
        if entry["video_id"] == video.video_id and entry["score"] >= min_score:
            masks = json.dumps(entry["segmentations"])  # results of one track share their masks
            if masks not in best or entry["score"] > best[masks]["score"]:
                best[masks] = entry
    ranked = sorted(best.values(), key=lambda entry: -entry["score"])[:MAX_TRACKS]
    return [
        DrawnTrack(
            f"{names[entry['category_id']]} {entry['score']:.2f}",
            np.stack([_decoded(entry["segmentations"][i], video) for i in shown]),
        )
        for entry in ranked
    ]


def _decoded(segmentation: dict[str, Any] | None, video: Video) -> Masks:
    if segmentation is None:
        return np.zeros((video.height, video.width), dtype=np.bool_)
    return np.asarray(rle.decode(segmentation), dtype=np.bool_)


def _figure(
    title: str,
    frames: NDArray[np.uint8],
    shown: list[int],
    rows: list[tuple[str, list[DrawnTrack]]],
    truth: list[DrawnTrack],
    min_score: float,
) -> bytes:
    from matplotlib.figure import Figure  # late: a second to import
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    height, width = frames.shape[1:3]
    cell = 1.9
    across = cell * len(shown) + 0.3
    heading = textwrap.wrap(title, int(CHARACTERS * across))  # one image alone is narrow
    figure = Figure(
        figsize=(across, (cell * height / width + 0.03) * len(rows) + 0.35 + 0.15 * len(heading)),
        layout=ConstrainedLayoutEngine(w_pad=0.01, h_pad=0.03, wspace=0.01, hspace=0.01),
    )
    axes = figure.subplots(len(rows), len(shown), squeeze=False)
    for line, (name, tracks) in zip(axes, rows, strict=True):
        colours = _colours(tracks, truth)
        for column, (axis, frame) in enumerate(zip(line, frames, strict=True)):
            axis.imshow(_painted(frame, [track.masks[column] for track in tracks], colours), aspect="equal")
            axis.set_xticks([])
            axis.set_yticks([])
            for track, colour in zip(tracks, colours, strict=True):
                _write_label(axis, track, column, colour)
        line[0].set_ylabel(name, fontsize=8)
        if not tracks:
            text = f"no track scores {min_score:g}"
            line[0].text(0.03, 0.05, text, transform=line[0].transAxes, fontsize=6, color="white")
    for axis, index in zip(axes[0], shown, strict=True):
        axis.set_title(f"frame {index}", fontsize=8)
    figure.suptitle("\n".join(heading), fontsize=9)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150, metadata={"Software": None})
    return buffer.getvalue()


def _colours(tracks: list[DrawnTrack], truth: list[DrawnTrack]) -> list[NDArray[np.uint8]]:
    """Best score first: the colour of the free ground-truth track that each overlaps most, or a spare one."""
    chosen = []
    free = dict(enumerate(truth))
    spare = len(truth)
    for track in tracks:
        overlaps = {index: _iou(track.masks, true.masks) for index, true in free.items()}
        index = max(overlaps, key=lambda i: overlaps[i], default=spare)
        if overlaps.get(index, 0.0) > 0.1:
            del free[index]
        else:
            index, spare = spare, spare + 1
        chosen.append(COLOURS[index % len(COLOURS)])
    return chosen


def _iou(a: Masks, b: Masks) -> float:
    union = np.logical_or(a, b).sum()
    return float(np.logical_and(a, b).sum() / union) if union else 0.0


def _painted(
    frame: NDArray[np.uint8], masks: list[Masks], colours: list[NDArray[np.uint8]]
) -> NDArray[np.uint8]:
    """The frame with half-transparent masks and their solid outlines."""
    picture = frame.astype(np.float32)
    for mask, colour in zip(masks, colours, strict=True):
        picture[mask] = 0.5 * picture[mask] + 0.5 * colour
        picture[_outline(mask)] = colour
    return picture.round().astype(np.uint8)


def _outline(mask: Masks) -> Masks:
    inner = mask.copy()
    for axis in (0, 1):
        for step in (-1, 1):
            inner &= np.roll(mask, step, axis)
    return mask & ~inner


def _write_label(axis: Any, track: DrawnTrack, column: int, colour: NDArray[np.uint8]) -> None:
    """Category and score above the mask, on the first shown frame where the track is visible."""
    visible = track.masks.any((1, 2))
    if not visible.any() or int(np.argmax(visible)) != column:
        return
    ys, xs = np.nonzero(track.masks[column])
    axis.text(
        xs.mean(),
        max(ys.min() - 1, 4),
        track.label,
        fontsize=5,
        color="black",
        ha="center",
        va="bottom",
        clip_on=True,
        bbox={"facecolor": tuple(colour / 255), "edgecolor": "none", "pad": 0.8, "alpha": 0.85},
    )
