"""``python -m harness compare``: result files in; tables, strips, videos and a page out."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from harness.benchmark_json import read_annotations, read_header
from harness.compare.disagreement import most_disputed
from harness.compare.gallery import FRAMES, PAGE, STRIPS, VIDEOS, Gallery
from harness.compare.methods import GROUND_TRUTH, Method, load_videos, read_methods
from harness.compare.scenes import Scene, Scenes
from harness.compare.scores import ScoreTable, score
from harness.compare.strips import strip_caption, strip_of, write_video
from harness.data.named_split import find_video, paths_of
from harness.data.ytvis import Video, VideoDataset
from harness.named_files import file_words, named_files
from harness.output_folder import output_folder, written_in
from harness.overlay import video_lacks
from harness.report.escape import not_in_latex
from harness.result_file import read_truth
from harness.strip import FORMATS, evenly_spread
from model.errors import InputError
from model.whole_file import whole_file

By = Literal["disagreement", "name"]
Say = Callable[[str], None]
"""Takes a line for the person who waits."""
SCORES, LATEX, SITUATIONS = "scores.csv", "scores.tex", "situations.tex"


@dataclass(frozen=True)
class Request:
    """What is asked for."""

    data: Path
    split: str | None
    methods: tuple[str, ...]
    """``NAME=FILE`` each"""
    out: Path
    videos: tuple[str, ...] = ()
    """Names or ids; without them :attr:`count` are chosen"""
    count: int = 20
    frames: int | tuple[int, ...] = 8
    """How many frames of a strip, or which"""
    by: By = "disagreement"
    threshold: float = 0.3
    most: int = 10
    """Tracks of a method that are drawn in a video, at most"""
    video: bool | None = None
    """A mp4 of each video drawn; None: where it can be written"""
    force: bool = False


@dataclass(frozen=True)
class Compared:
    """What came out."""

    table: ScoreTable | None
    """None where the split has no annotations"""
    files: tuple[Path, ...]


def compare(request: Request, say: Say) -> Compared:
    """Score all methods and draw the chosen videos.

    Raises:
        InputError: data, a result file or an option has to be mended.
    """
    files = named_files(request.methods, GROUND_TRUTH)
    if math.isnan(request.threshold):
        raise InputError("--threshold nan: allowed: a number")
    lacks = None if request.video is False else video_lacks("video")
    if request.video and lacks:
        raise InputError(lacks)
    request = replace(request, video=request.video is not False and lacks is None)
    dataset = load_videos(request.data, request.split)
    named = _named(request.videos, dataset)
    truth, has_truth = dataset.ground_truth(), any(video.tracks for video in dataset.videos)
    _check_frames(request.frames, named)
    with _output(request, (*files.values(), *paths_of(dataset))) as clear:
        methods = read_methods(files, truth)
        _tell(methods, say)
        _tell_silent(methods, request.threshold, say)
        scenes = Scenes(dataset, methods, request.threshold, request.most)
        table = None
        if has_truth:
            table = score(truth, dataset.root.resolve().name, dataset.split, methods, dataset)
        chosen = [scenes.of(video) for video in named] or _chosen(dataset, scenes, request)
        if lacks:
            say(f"skipped: {VIDEOS} ({lacks})")
        clear()
        with written_in(request.out):
            written = [] if table is None else _write_scores(request.out, table, say)
            written += _draw(request, dataset, methods, chosen, table, say)
    return Compared(table, tuple(written))


def score_only(request: Request, say: Say) -> Compared:
    """The tables alone; ``request.data`` may be an annotation json itself.

    Raises:
        InputError: as :func:`compare`; also where there are no annotations.
    """
    files = named_files(request.methods, GROUND_TRUTH)
    dataset: VideoDataset | None = None
    if request.data.is_file():
        name, truth = read_truth(request.data, request.split)
        data, split = request.data.name, request.data.stem
        read: tuple[Path, ...] = (request.data,)
    else:
        dataset = load_videos(request.data, request.split)
        name, truth = str(dataset.annotation_file), dataset.ground_truth()
        data, split = dataset.root.resolve().name, dataset.split
        read = paths_of(dataset)
    header = read_header(truth, name)
    if not truth.get("annotations"):
        raise InputError(
            f"{name}: no annotations to score against; allowed with --score-only: an annotated split"
        )
    read_annotations(truth, name, header)
    with _output(request, (*files.values(), *read)) as clear:
        methods = read_methods(files, truth)
        _tell(methods, say)
        table = score(truth, data, split, methods, dataset)
        clear()
        with written_in(request.out):
            return Compared(table, tuple(_write_scores(request.out, table, say)))


# What is asked for


def _named(names: Sequence[str], dataset: VideoDataset) -> list[Video]:
    """The videos of these names or ids, in the order asked for, each once."""
    found = [find_video(dataset, name, "--videos") for name in names]
    return list({video.video_id: video for video in found}.values())


def _check_frames(frames: int | tuple[int, ...], named: Sequence[Video]) -> None:
    if isinstance(frames, int):
        return
    if not named:
        raise InputError(
            "--frames: numbers of frames; allowed: with --videos NAME, or how many frames instead"
        )
    for video in named:
        if max(frames) >= video.length:
            raise InputError(
                f"--frames {max(frames)}: video {video.name!r} has {video.length} frames; "
                f"allowed: 0 to {video.length - 1}"
            )


def _chosen(dataset: VideoDataset, scenes: Scenes, request: Request) -> list[Scene]:
    """``count`` videos with frames: the first by name, or those with the largest disagreement first."""
    videos = sorted((video for video in dataset.videos if video.length), key=lambda v: (v.name, v.video_id))
    if request.by == "name":
        return [scenes.of(video) for video in videos[: request.count]]
    ranked = sorted(map(scenes.of, videos), key=lambda scene: -float(scene.disagreement.mean()))
    return ranked[: request.count]


def _frames_of(scene: Scene, request: Request) -> tuple[list[int], str]:
    """Which frames the strip has, and why."""
    if not isinstance(request.frames, int):
        return list(request.frames), "frames as asked for"
    if request.by == "name":
        return evenly_spread(scene.video.length, request.frames), "frames evenly spread"
    chosen = most_disputed(scene.disagreement, request.frames)
    return chosen, f"of {len(chosen)} equal parts of the video the frames on which the rows disagree most"


# Files


def _output(request: Request, read: Iterable[Path]) -> AbstractContextManager[Callable[[], None]]:
    """The folder; what it gives removes what an earlier run left: files of names that docs/compare.md lists.

    A video is known by its frames of the page; all other files stay.
    """
    out = request.out
    for name in (FRAMES, STRIPS, VIDEOS):
        if (out / name).exists() and not (out / name).is_dir():
            raise InputError(f"--out: {out / name}: a file; allowed: a folder")
    left = [out / name for name in (PAGE, SCORES, LATEX, SITUATIONS)]
    stems = {first.parent.name for first in (out / FRAMES).glob("*/0000.webp")}
    for stem in stems:
        frames = (out / FRAMES / stem).glob("*.webp")
        left += [file for file in frames if re.fullmatch(r"\d{4,}", file.stem)]
        left += [out / STRIPS / f"{stem}.{suffix}" for suffix in FORMATS]
        left.append(out / VIDEOS / f"{stem}.mp4")
    return output_folder(out, request.force, left, read)


def _write_scores(out: Path, table: ScoreTable, say: Say) -> list[Path]:
    _tell_letters(table, say)
    texts = {SCORES: table.csv(), LATEX: table.latex()}
    if table.has_situations:
        texts[SITUATIONS] = table.situation_latex()
    for name, text in texts.items():
        with whole_file(out / name) as draft:
            draft.write_text(text, encoding="utf-8")
    return [out / name for name in texts]


def _draw(
    request: Request,
    dataset: VideoDataset,
    methods: Sequence[Method],
    scenes: Sequence[Scene],
    table: ScoreTable | None,
    say: Say,
) -> list[Path]:
    out, gallery = request.out, Gallery(request.out, dataset)
    (out / STRIPS).mkdir(exist_ok=True)
    if request.video:
        (out / VIDEOS).mkdir(exist_ok=True)
    # Encoders need no interpreter: a video and a page's frames are written beside the strip.
    with ThreadPoolExecutor(2) as beside:
        for number, scene in enumerate(scenes, 1):
            started = [beside.submit(gallery.add, scene, bool(request.video))]
            if request.video:
                started.append(beside.submit(write_video, scene, dataset, out / VIDEOS / f"{scene.stem}.mp4"))
            frames, why = _frames_of(scene, request)
            caption = strip_caption(scene, why, request.threshold, request.most)
            strip_of(scene, dataset, frames, caption).write(out / STRIPS / scene.stem)
            for each in started:
                each.result()
            say(f"{number} of {len(scenes)} videos: {scene.title}")
    page = gallery.write(_facts(request, dataset, methods, len(scenes)), list(scenes[0].rows), table)
    folders = [out / STRIPS, *([out / VIDEOS] if request.video else [])]
    return [*folders, page]


def _facts(
    request: Request, dataset: VideoDataset, methods: Sequence[Method], shown: int
) -> list[tuple[str, list[str]]]:
    """The head of the page."""
    order = "by name" if request.by == "name" else "those on which the rows disagree most come first"
    if request.videos:
        order = "as asked for"
    drawn = f"tracks with a score of at least {request.threshold:g}, at most {request.most} a method"
    facts = [
        ("Data", [f"split {dataset.split} of {dataset.root.resolve().name}"]),
        ("Videos", [f"{shown} of {len(dataset.videos)}, {order}"]),
        ("Files", [f"{each.name}: {file_words(each.path)}, {len(each.results)} results" for each in methods]),
        ("Notes", [f"{each.name}: {note}" for each in methods for note in each.notes]),
        ("Drawn", [drawn]),
    ]
    return [(name, lines) for name, lines in facts if lines]


# Words


def _tell(methods: Sequence[Method], say: Say) -> None:
    for method in methods:
        for note in method.notes:
            say(f"{method.name}: {note}")


def _tell_letters(table: ScoreTable, say: Say) -> None:
    """What pdflatex cannot set is no error: the page and the pictures have it."""
    if shown := not_in_latex(each.name for each in table.methods):
        say(f"{LATEX}: {shown}")


def _tell_silent(methods: Sequence[Method], threshold: float, say: Say) -> None:
    for method in methods:
        best: Any = max((result["score"] for result in method.results), default=None)
        if best is None or best < threshold:
            found = "it has no result" if best is None else f"its best score is {best:.3g}"
            say(f"{method.name}: nothing to draw at --threshold {threshold:g}: {found}")
