"""The frames of any video file, or of a folder of images, as a stream: one frame in memory at a time.

Video files are read with PyAV, the optional extra ``video``; images need nothing more.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from model.errors import InputError

Frame = NDArray[np.uint8]
"""(3, H, W) RGB"""

IMAGES = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
"""How the names of images end, in small letters."""
ORIENTATION, ON_THEIR_SIDE = 0x0112, (5, 6, 7, 8)
"""The entry of Exif, and its values for images to be turned by a quarter"""
NO_VIDEO = ("tty", "bin", "adf", "idf", "xbin")
"""FFmpeg's formats that draw any text as pictures of a terminal."""


@dataclass(frozen=True)
class FrameSource:
    """A video that can be read from its beginning any number of times."""

    path: Path
    height: int
    width: int
    names: tuple[str, ...]
    """File names of the frames; none of a video file"""
    rate: Fraction | None
    """Frames per second, on average; None of images"""
    announced: int | None
    """How many frames there will be, if the source says so"""
    read: Callable[[], Iterator[Frame]]

    def __iter__(self) -> Iterator[Frame]:
        """All frames in order, (3, H, W) uint8 RGB, upright as players show them.

        Raises:
            InputError: a frame cannot be decoded, or has another size than the first.
        """
        return self.read()


def open_frames(source: Path) -> FrameSource:
    """A video file, a folder of images (those directly in it, ``2.png`` before ``10.png``), or one image.

    Raises:
        InputError: there is no such thing, it holds no frames, its images differ in size, or a video file
            is damaged. That a mp4 or mov is cut short is seen here; a damaged frame when it is reached. A
            cut file of another format may end early without a sign.
    """
    if source.is_dir():
        found = [file for file in source.iterdir() if _is_image(file)]
        if not found:
            raise InputError(f"{source}: no images directly in this folder; allowed: {', '.join(IMAGES)}")
        return _images(source, sorted(found, key=lambda file: _natural(file.name)))
    if not source.exists():
        raise InputError(f"{source}: no such file or folder")
    if not source.is_file():
        raise InputError(f"{source}: neither a file nor a folder")
    if not source.stat().st_size:
        raise InputError(f"{source}: an empty file")
    return _images(source, [source]) if _is_image(source) else _video(source)


# Images


def _is_image(file: Path) -> bool:
    return file.suffix.lower() in IMAGES and not file.name.startswith(".") and file.is_file()


def _natural(name: str) -> tuple[list[str | int], str]:
    parts = re.split(r"([0-9]+)", name.lower())
    return [int(part) if place % 2 else part for place, part in enumerate(parts)], name


def _images(source: Path, files: list[Path]) -> FrameSource:
    first = _size(files[0])
    for file in files:
        _check_size(file, _size(file), first)
    names = tuple(file.name for file in files)
    return FrameSource(source, *first, names, None, len(files), lambda: _decoded_images(files, first))


def _size(file: Path) -> tuple[int, int]:
    """(H, W) as shown; pixels are not read, as they were for remarks that follow them in a png."""
    with _opened_image(file) as image:
        told = "exif" in image.info or image.format != "PNG"
        turned = told and image.getexif().get(ORIENTATION) in ON_THEIR_SIDE
        return (image.width, image.height) if turned else (image.height, image.width)


def _decoded_images(files: list[Path], size: tuple[int, int]) -> Iterator[Frame]:
    for file in files:
        with _opened_image(file) as image:
            try:
                pixels = np.array(ImageOps.exif_transpose(image).convert("RGB"))
            except (OSError, SyntaxError, ValueError, EOFError) as error:
                raise _no_image(file, error) from None
        _check_size(file, pixels.shape[:2], size)
        yield pixels.transpose(2, 0, 1).copy()


def _check_size(what: Path | str, found: tuple[int, ...], first: tuple[int, ...]) -> None:
    if found != first:
        raise InputError(
            f"{what}: {found[0]}x{found[1]} (height x width), but the first frame has "
            f"{first[0]}x{first[1]}; the frames of a video have one size"
        )


def _opened_image(file: Path) -> Image.Image:
    try:
        with warnings.catch_warnings():  # of pixels by the hundred million, which are few here
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(file)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise _no_image(file, error) from None
    if image.mode.startswith(("I", "F")):
        raise InputError(f"{file}: pixels of more than 8 bits ({image.mode}); allowed: 8 bits a channel")
    return image


def _no_image(file: Path, error: Exception) -> InputError:
    return InputError(f"{file}: cannot be decoded ({' '.join(str(error).split())})")


# Video files


def import_av(what: str) -> Any:
    """The module ``av``; raises :class:`InputError` where the extra ``video`` is not installed."""
    try:
        import av
        import av.error
    except ModuleNotFoundError:
        raise InputError(f"{what}: needs the package av: pip install 'ifc-ablations[video]'") from None
    return av


def _video(path: Path) -> FrameSource:
    av = import_av(f"{path}: a video file")
    with _opened(av, path) as container:
        stream = _stream(path, container)
        _check_whole(path, container, stream)
        rate, announced = stream.average_rate, stream.frames or None
    first = next(_decoded_video(path), None)
    if first is None:
        raise InputError(f"{path}: a video without frames")
    height, width = first.shape[1:]
    return FrameSource(path, height, width, (), rate, announced, lambda: _decoded_video(path))


def _decoded_video(path: Path) -> Iterator[Frame]:
    av = import_av(f"{path}: a video file")
    count, size = 0, None
    with _opened(av, path) as container:
        frames = container.decode(_stream(path, container))
        while True:
            try:
                frame = next(frames, None)
                if frame is None:
                    return
                turns = frame.rotation // 90 if frame.rotation % 90 == 0 else 0
                pixels = np.rot90(frame.to_ndarray(format="rgb24"), turns)
            except av.error.FFmpegError as error:
                raise InputError(f"{path}: frame {count}: cannot be decoded ({error.strerror})") from None
            size = size or pixels.shape
            _check_size(f"{path}: frame {count}", pixels.shape, size)
            yield pixels.transpose(2, 0, 1).copy()
            count += 1


def _opened(av: Any, path: Path) -> Any:
    try:
        # A path, whatever its name looks like; and a playlist's entries are files of this machine.
        container = av.open(f"file:{path}", options={"protocol_whitelist": "file"})
    except av.error.FFmpegError as error:
        raise InputError(
            f"{path}: not a video file, or damaged ({error.strerror}); allowed: a video or a folder of images"
        ) from None
    if container.format.name in NO_VIDEO:
        container.close()
        raise InputError(f"{path}: not a video file; allowed: a video or a folder of images")
    return container


def _stream(path: Path, container: Any) -> Any:
    stream = container.streams.best("video")
    if stream is None:
        raise InputError(f"{path}: holds no video ({container.format.long_name})")
    return stream


def _check_whole(path: Path, container: Any, stream: Any) -> None:
    """Refuse a mp4 that lacks frames of its own index: FFmpeg would end early without a word."""
    if not container.format.name.startswith("mov"):
        return
    ends = [entry.pos + entry.size for entry in stream.index_entries]
    lacking = sum(end > container.size for end in ends)
    if lacking:
        raise InputError(f"{path}: cut short: {lacking} of its {len(ends)} frames are not in the file")
