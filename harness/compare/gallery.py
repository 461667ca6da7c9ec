"""A page with a slider: one folder of frames, masks as run-length codes in the page, painted by its script.

Opens from a file, without a network. Frames are stored once for all methods, masks cost some hundred bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from PIL import Image

from harness.compare.identities import Shown
from harness.compare.scenes import Scene
from harness.compare.scores import METRICS, ScoreTable, number_text
from harness.data.rle import Rle
from harness.data.ytvis import VideoDataset
from harness.foreign_results import Scaling
from harness.metrics import LEVELS, SITUATION_NAMES
from harness.overlay import IMAGES_RATE
from harness.report.html.self_contained import embedded_json, own_text, policy
from harness.report.html.wording import without_controls
from model.whole_file import whole_file

PAGE = "index.html"
FRAMES, STRIPS, VIDEOS = "frames", "strips", "videos"
"""Folders beside the page"""
WIDEST = 480
"""Pixels of the longer side of stored frames; masks have their size"""
QUALITY = 60
EFFORT = 2
"""Of the WebP encoder, from 0 to 6"""
PACKAGE = "harness.compare"

Json = dict[str, Any]


@dataclass(frozen=True)
class _VideoView:
    key: str
    title: str
    length: int
    disagreement: str
    data: Markup
    strip: str
    video: str
    """Addresses of its strip and, if it has one, its mp4"""


class Gallery:
    """Takes scenes one by one; :meth:`write` makes the page of them."""

    def __init__(self, folder: Path, dataset: VideoDataset) -> None:
        self._folder, self._dataset = folder, dataset
        self._views: list[_VideoView] = []

    def add(self, scene: Scene, has_video: bool) -> None:
        """Store the scene's frames and keep its masks; its strip and, if it has one, its mp4 are linked."""
        size = stored_size(*scene.size)
        addresses = [quote(name) for name in self._store_frames(scene, size)]
        scaling = Scaling(size)
        data = {
            "title": scene.title,
            "size": list(size),
            "frames": addresses,
            "disagreement": [round(float(value), 3) for value in scene.disagreement],
            "rows": [
                {"name": name, "tracks": [_track(shown, size, scaling) for shown in row]}
                for name, row in scene.rows.items()
            ],
        }
        mean = float(scene.disagreement.mean()) if scene.video.length else 0.0
        self._views.append(
            _VideoView(
                scene.stem,
                scene.title,
                scene.video.length,
                f"{mean:.2f}",
                embedded_json(data),
                quote(f"{STRIPS}/{scene.stem}.pdf"),
                quote(f"{VIDEOS}/{scene.stem}.mp4") if has_video else "",
            )
        )

    def _store_frames(self, scene: Scene, size: tuple[int, int]) -> Iterator[str]:
        folder = self._folder / FRAMES / scene.stem
        folder.mkdir(parents=True, exist_ok=True)
        for index in range(scene.video.length):
            pixels = self._dataset.frames(scene.video, [index])[0].transpose(1, 2, 0)
            image = Image.fromarray(pixels)
            if image.size != size[::-1]:
                image = image.resize(size[::-1], Image.Resampling.BOX)
            path = folder / f"{index:04d}.webp"
            image.save(path, "WEBP", quality=QUALITY, method=EFFORT)
            yield path.relative_to(self._folder).as_posix()

    def write(
        self, facts: Sequence[tuple[str, Sequence[str]]], rows: Sequence[str], table: ScoreTable | None
    ) -> Path:
        """``index.html``, whole or not at all.

        Args:
            facts: what stands in its head, name and lines.
            rows: names of the rows, for the switches.
            table: the scores; None where the split has no annotations.
        """
        style = own_text("page.css") + own_text("gallery.css", PACKAGE)
        script = own_text("gallery.js", PACKAGE)
        environment = Environment(
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        text = environment.from_string(own_text("gallery.html.j2", PACKAGE)).render(
            style=Markup(style),
            script=Markup(script),
            policy=policy(style, script, "'self' file: data:"),
            facts=facts,
            rows=rows,
            videos=self._views,
            table=table,
            metrics=METRICS,
            situations=SITUATION_NAMES,
            levels=LEVELS,
            number=number_text,
            rate=float(IMAGES_RATE),
        )
        path = self._folder / PAGE
        with whole_file(path) as draft:
            draft.write_text(without_controls(text), encoding="utf-8")
        return path


def stored_size(height: int, width: int) -> tuple[int, int]:
    """(H, W) of a frame to its size in the gallery: never larger."""
    longest = max(height, width)
    if longest <= WIDEST:
        return height, width
    return max(1, round(height * WIDEST / longest)), max(1, round(width * WIDEST / longest))


def _track(shown: Shown, size: tuple[int, int], scaling: Scaling) -> Json:
    colour = "#{:02x}{:02x}{:02x}".format(*shown.look.colour)

    def code(mask: Rle | None) -> str | None:
        if mask is None:
            return None
        return str((mask if tuple(mask["size"]) == size else scaling(mask))["counts"])

    return {
        "words": shown.words,
        "colour": colour,
        "hatched": shown.look.hatched,
        "codes": [code(mask) for mask in shown.track.masks],
    }
