"""Where a model's memory tokens look in a video: numbers, strips and a film. ``python -m harness attend``.

The video is read twice: for attention and masks, then for its pictures. Kept of it are the maps of the tokens
and the codes of predicted masks.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from harness.attend.attention import VideoAttention, video_attention
from harness.attend.footage import Footage, open_footage
from harness.attend.foreground import TokenNumbers, on_masks, token_numbers, tokens_apart
from harness.attend.pictures import Drawn, draw_film, draw_strips
from harness.config import InferenceConfig
from harness.devices import check_device
from harness.memory import is_out_of_memory
from harness.output_folder import output_folder
from harness.overlay import video_lacks
from harness.segment import NoMemoryError
from harness.stored_model import stored_model
from harness.strip import evenly_spread
from model.clip_model import ClipModel
from model.errors import InputError
from model.memory_attention import reads_memory
from model.whole_file import whole_file

STEM = "attention"
STRIP_FILE = re.compile(rf"{STEM}_layer\d+\.(?:pdf|png)")
COLUMNS = ("layer", "token", "frame", "to_frame", "on_foreground", "area")


@dataclass(frozen=True)
class Request:
    """What is asked for; tokens, heads, layers and frames are counted from 0."""

    weights: Path
    out: Path
    source: Path | None = None
    data: Path | None = None
    split: str | None = None
    video: str | None = None
    inference: InferenceConfig = field(default_factory=InferenceConfig)
    frames: int | tuple[int, ...] = 8
    """How many, evenly spaced, or which"""
    layer: int | None = None
    """None: all"""
    head: int | None = None
    """None: the mean of all"""
    tokens: tuple[int, ...] | None = None
    """None: all"""
    best: bool = False
    """Instead of ``tokens`` the most foreground and the most background one of each layer"""
    score: float = 0.3
    """Predicted tracks whose best class is less probable are no foreground"""
    film: bool | None = None
    """None: where it can be written"""
    device: str = "auto"
    force: bool = False


@dataclass(frozen=True)
class Attended:
    """What came out."""

    numbers: list[TokenNumbers]
    apart: list[float | None]
    """See :func:`harness.attend.foreground.tokens_apart`"""
    told: tuple[str, ...]
    """What was looked at, line by line"""
    files: tuple[Path, ...]


def attend(request: Request, told: Callable[[int, int | None], None] = lambda done, of: None) -> Attended:
    """Measure and draw into the folder ``request.out``.

    Args:
        told: called as ``told(frames looked at, frames in all if known)``.

    Raises:
        InputError: something in the request cannot be used.
        NoMemoryError: the device or the machine has not enough memory.
    """
    try:
        footage = open_footage(request.source, request.data, request.split, request.video)
        model = stored_model(request.weights)
        _check(request, model, footage.frames.announced)
        lacks = None if request.film is False else video_lacks("mp4")
        if request.film and lacks:
            raise InputError(lacks)
        model = model.to(check_device(request.device))
        with _output(request, footage) as clear:
            looked = video_attention(model, footage, request.inference, request.head, request.score, told)
            return _written(request, model, footage, looked, lacks, clear)
    except OSError as error:
        named = error.filename or request.out
        raise InputError(f"{named}: cannot be read or written ({error.strerror or error})") from None
    except FloatingPointError as error:
        raise InputError(f"{request.weights}: {error}") from None
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        settings = request.inference
        raise NoMemoryError(
            f"--device {request.device}: out of memory; lower --short-side (now {settings.short_side}) "
            f"or --window (now {settings.window})"
        ) from None


def _check(request: Request, model: ClipModel, length: int | None) -> None:
    config = model.config
    if not reads_memory(model):
        count = " with memory_tokens 0" if config.encoder == "ifc" else ""
        raise InputError(
            f"{request.weights}: encoder {config.encoder}{count} has no memory tokens; allowed: ifc with some"
        )
    if request.best and request.tokens is not None:
        raise InputError("--best: beside --tokens; allowed: one of them")
    _check_numbers("--layer", [request.layer], config.encoder_layers)
    _check_numbers("--head", [request.head], config.attention_heads)
    _check_numbers("--tokens", request.tokens or [], config.memory_tokens)
    if length is not None:
        shown_frames(request.frames, length)


def _check_numbers(option: str, numbers: Any, count: int) -> None:
    for number in numbers:
        if number is not None and not 0 <= number < count:
            raise InputError(f"{option}: {number}: allowed: 0 to {count - 1}")


def shown_frames(frames: int | tuple[int, ...], length: int) -> list[int]:
    """The numbers of the frames that a strip shows: those asked for, or so many from first to last."""
    if isinstance(frames, tuple):
        _check_numbers("--frames", frames, length)
        return list(frames)
    return evenly_spread(length, frames)


def _output(request: Request, footage: Footage) -> AbstractContextManager[Callable[[], None]]:
    """The folder; what it gives removes what an earlier run left there, nothing else."""
    out = request.out
    left = [out / f"{STEM}.{suffix}" for suffix in ("json", "csv", "mp4")]
    left += [file for file in out.glob("*.*") if STRIP_FILE.fullmatch(file.name)]
    return output_folder(out, request.force, left, (request.weights, *footage.paths))


def _written(
    request: Request,
    model: ClipModel,
    footage: Footage,
    looked: VideoAttention,
    lacks: str | None,
    clear: Callable[[], None],
) -> Attended:
    numbers = token_numbers(looked.attention, looked.shares)
    if request.best and all(each.lift is None for each in numbers):
        raise InputError(
            f"--best: no foreground in {footage.name} ({looked.masks_are}), so no token looks most at it; "
            "allowed: annotated masks, or a lower --score"
        )
    apart = tokens_apart(looked.attention)
    shown = shown_frames(request.frames, len(looked.attention))
    config = model.config
    heads = f"mean of {config.attention_heads} heads" if request.head is None else f"head {request.head}"
    told: tuple[str, ...] = (
        f"{footage.name}: {len(looked.attention)} frames, {looked.spans()}",
        f"{config.memory_tokens} memory tokens, {config.encoder_layers} layers, {heads}, "
        f"{looked.attention.shape[-2]} x {looked.attention.shape[-1]} frame tokens",
        f"foreground: {looked.masks_are}",
    )
    record = {
        "weights": str(request.weights),
        "video": footage.name,
        "source": str(footage.frames.path),
        "frames": len(looked.attention),
        "shown": shown,
        "window": request.inference.window,
        "windows": [
            {"start": span.start, "stop": span.stop, "frames": [taken.start, taken.stop]}
            for span, taken in looked.windows
        ],
        "short_side": request.inference.short_side,
        "grid": list(looked.attention.shape[-2:]),
        "head": request.head,
        "foreground": looked.masks_are,
        "deviation": looked.deviation,
        "tokens_apart": apart,
        "tokens": [{**asdict(each), "to_memory": 1 - each.to_frame, "lift": each.lift} for each in numbers],
    }
    files = [request.out / f"{STEM}.json", request.out / f"{STEM}.csv"]
    texts = json.dumps(record, indent=1) + "\n", _table(looked)
    clear()  # nothing of the request can be refused any more
    for path, text in zip(files, texts, strict=True):
        with whole_file(path) as draft:
            draft.write_text(text, encoding="utf-8")
    drawn = Drawn(
        footage=footage,
        masks=looked.masks,
        attention=looked.attention,
        edges=looked.edges,
        numbers=numbers,
        layers=tuple(range(config.encoder_layers)) if request.layer is None else (request.layer,),
        tokens=request.tokens or tuple(range(config.memory_tokens)),
        best=request.best,
        about=f"{heads}; {looked.masks_are}; {looked.spans()}",
    )
    files += draw_strips(drawn, shown, request.out / STEM)
    if lacks is None and request.film is not False:
        files.append(draw_film(drawn, request.out / f"{STEM}.mp4"))
    elif lacks is not None:
        told += (f"skipped: {STEM}.mp4 ({lacks})",)
    return Attended(numbers, apart, told, tuple(files))


def _table(looked: VideoAttention) -> str:
    """A line for each layer, token and frame."""
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(COLUMNS)
    for frame, (maps, shares) in enumerate(zip(looked.attention, looked.shares, strict=True)):
        on, area = on_masks(maps, shares), float(np.nanmean(shares))
        for layer, token in np.ndindex(*on.shape):
            to_frame = float(maps[layer, token].sum(dtype=np.float64))
            lines.writerow([layer, token, frame, to_frame, float(on[layer, token]), area])
    return text.getvalue()
