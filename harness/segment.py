"""A video file or a folder of images to tracks, while it is read: ``python -m harness segment``.

Memory does not grow with the video but by the class probabilities of its tracks and three numbers a mask:
features of the last T frames, masks of those that a window may still cover, and one mask of full size.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harness.allocator import freed_memory_kept
from harness.config import InferenceConfig
from harness.data.clips import resize_frames
from harness.data.rle import Rle
from harness.data.video_file import FrameSource, open_frames
from harness.devices import check_device
from harness.encoded_tracks import batches, encoded_masks
from harness.memory import is_out_of_memory
from harness.output_folder import output_folder
from harness.overlay import Label, Painter, Picture, PictureFolder, Pictures, PictureVideo
from harness.stored_model import Classes, classes_of, stored_model
from harness.track_writer import FRAMES, RESULTS, TrackWriter
from model.errors import InputError
from model.inference import VideoStream, results_of
from model.ready import ReadyModel
from model.tracking import FrameMasks

VIDEO_ID = 1
"""Of the one video in the result file"""
OVERLAY_VIDEO, OVERLAY_FOLDER = "overlay.mp4", "overlays"


@dataclass(frozen=True)
class Request:
    """What is asked for."""

    source: Path
    weights: Path
    out: Path
    inference: InferenceConfig = field(default_factory=InferenceConfig)
    device: str = "auto"
    overlay: bool = True
    overlay_score: float = 0.3
    """Tracks whose best class is less probable are not painted; result files have them."""
    categories: Path | None = None
    force: bool = False


@dataclass(frozen=True)
class Segmented:
    """What came out."""

    frames: int
    tracks: int
    """With at least one result"""
    results: int
    files: tuple[Path, ...]


class NoMemoryError(Exception):
    """The device or the machine has not enough memory; the message is one line and says what to lower."""


def segment(request: Request, told: Callable[[int, int | None], None] = lambda done, of: None) -> Segmented:
    """Segment ``request.source`` into the folder ``request.out``.

    ``frames.jsonl`` gets each frame when it is final, T frames after it was read (T + 4 on a GPU, which
    takes frames by fives), and so does the overlay; ``results.json`` comes at the end. Whatever ends this
    early, the files hold the frames that were final until then.

    Args:
        told: called as ``told(final frames, frames in all if known)``.

    Raises:
        InputError: something in the request cannot be used, or a frame cannot be decoded.
        NoMemoryError: see there.
    """
    with ExitStack() as open_files:
        try:
            source = open_frames(request.source)
            model, classes = _model(request)
            open_files.enter_context(_output(request))()  # it writes while it reads
            run = _Run(request, source, model, classes, open_files, told)
            return run.to_the_end()
        except OSError as error:
            if is_out_of_memory(error):
                raise _no_memory(request) from None
            named = error.filename or request.out
            raise InputError(f"{named}: cannot be read or written ({error.strerror or error})") from None
        except FloatingPointError as error:
            raise InputError(f"{request.weights}: {error}") from None
        except (RuntimeError, MemoryError) as error:
            if is_out_of_memory(error):
                raise _no_memory(request) from None
            raise


def _model(request: Request) -> tuple[ReadyModel, Classes]:
    device = check_device(request.device)
    model = stored_model(request.weights)
    classes = classes_of(request.weights, model.config.num_classes, request.categories)
    return ReadyModel(model.to(device)), classes


def _output(request: Request) -> AbstractContextManager[Callable[[], None]]:
    """The folder; what it gives removes what an earlier run left there, nothing else."""
    out = request.out
    left = [out / name for name in (FRAMES, RESULTS, OVERLAY_VIDEO, f".{OVERLAY_VIDEO}")]
    left += [file for file in (out / OVERLAY_FOLDER).glob("*.jpg") if re.fullmatch(r"\d{6,}", file.stem)]
    read = [path for path in (request.source, request.weights, request.categories) if path is not None]
    return output_folder(out, request.force, left, read)


def _no_memory(request: Request) -> NoMemoryError:
    settings = request.inference
    lower = [f"--short-side (now {settings.short_side})", f"--window (now {settings.window})"]
    cpu = "" if request.device == "cpu" else ", or use --device cpu"
    return NoMemoryError(f"--device {request.device}: out of memory; lower {' or '.join(lower)}{cpu}")


class _Run:
    """One video on its way."""

    def __init__(
        self,
        request: Request,
        source: FrameSource,
        model: ReadyModel,
        classes: Classes,
        open_files: ExitStack,
        told: Callable[[int, int | None], None],
    ) -> None:
        self._request, self._source, self._classes, self._told = request, source, classes, told
        self._size = (source.height, source.width)
        settings = request.inference
        self._stream = VideoStream(
            model, settings.window, settings.stride, settings.match_threshold, source.announced
        )
        self._at_once = model.frames_at_once
        self._tracks = TrackWriter(request.out)
        open_files.callback(self._tracks.close)
        self._painter, self._pictures = Painter(*self._size), None
        self._pending: deque[Picture] = deque()  # of the frames that are not final yet
        self._open: set[int] = set()  # tracks whose classes are not final yet
        self._known = 0
        if request.overlay:
            self._pictures = self._overlay()
            open_files.callback(self._pictures.close)

    @freed_memory_kept()
    def to_the_end(self) -> Segmented:
        """All frames."""
        for batch in batches(self._source, self._at_once):
            frames = []
            for frame in batch:
                if self._pictures is not None:
                    self._pending.append(self._painter.picture(frame))
                frames.append(self._resized(torch.from_numpy(frame)))
            self._take(self._stream.push(torch.cat(frames)))
        self._take(self._stream.finish(), last=True)
        threshold = self._request.inference.score_threshold
        scores, labels, tracks = (x.tolist() for x in results_of(self._stream.class_probs(), threshold))
        ids = [self._classes.ids[label] for label in labels]
        count = self._tracks.write_results(zip(ids, scores, tracks, strict=True), VIDEO_ID)
        files = [self._request.out / FRAMES, self._request.out / RESULTS]
        files += [self._pictures.path] if self._pictures is not None else []
        return Segmented(self._stream.length, len(set(tracks)), count, tuple(files))

    def _resized(self, frame: Tensor) -> Tensor:
        """(3, H, W) to (1, 3, H0, W0), a channel at a time: large frames as floats are larger by far."""
        resizing = self._request.inference.resizing()
        return torch.cat([resize_frames(channel[None, None], **resizing) for channel in frame], 1)

    def _overlay(self) -> Pictures:
        out = self._request.out
        if self._source.names:
            return PictureFolder(out / OVERLAY_FOLDER)
        return PictureVideo(out / OVERLAY_VIDEO, self._painter.size, self._source.rate)

    def _take(self, finals: list[FrameMasks], last: bool = False) -> None:
        """Write frames that have become final, and behind the last of them the tracks that have."""
        if not finals:
            return
        probabilities = self._stream.class_probs().cpu()
        self._open.update(range(self._known, len(probabilities)))
        self._known = len(probabilities)
        ended = sorted(self._open if last else self._open.difference(self._stream.live))
        self._open.difference_update(ended)
        for final in finals:
            name = self._source.names[final.frame] if self._source.names else None
            told = (
                [self._ended(track, probabilities[track]) for track in ended] if final is finals[-1] else []
            )
            self._tracks.add(self._painted(final, probabilities), told, name)
        self._told(finals[-1].frame + 1, self._source.announced)

    def _ended(self, track: int, probabilities: Tensor) -> dict[str, Any]:
        """A track that no later frame changes, with its results."""
        scores, labels, _ = results_of(probabilities[None], self._request.inference.score_threshold)
        results = [
            {"category_id": self._classes.ids[label], "category": self._classes.names[label], "score": score}
            for score, label in zip(scores.tolist(), labels.tolist(), strict=True)
        ]
        return {"track": track, "results": results}

    def _painted(self, final: FrameMasks, probabilities: Tensor) -> Iterator[tuple[int, Rle]]:
        """Track and code of each mask of a frame; on the way they are painted on its picture."""
        picture = self._pending.popleft() if self._pictures is not None else None
        labels: list[Label] = []
        for track, mask, code in encoded_masks(final, self._size):
            yield track, code
            best, label = probabilities[track, :-1].max(0)
            if picture is not None and best >= self._request.overlay_score:
                text = f"{track} {self._classes.names[int(label)]} {float(best):.2f}"
                painted = self._painter.paint(picture, mask, track, text)
                labels += [painted] if painted is not None else []
        if self._pictures is not None and picture is not None:
            self._pictures.add(self._painter.write(picture, labels))
