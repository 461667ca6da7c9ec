"""Frames of video files and of folders of images, and every way in which they cannot be read."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from harness.data.video_file import _natural, open_frames
from model.errors import InputError


def pictures(count: int, height: int = 32, width: int = 48) -> NDArray[np.uint8]:
    return np.random.default_rng(count).integers(0, 256, (count, height, width, 3), np.uint8)


def write_images(folder: Path, frames: NDArray[np.uint8], names: list[str] | None = None) -> Path:
    folder.mkdir(exist_ok=True)
    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / (names[number] if names else f"{number}.png"))
    return folder


def write_video(path: Path, frames: NDArray[np.uint8], **options: str) -> Path:
    """Lossless, each frame alone."""
    av = pytest.importorskip("av", reason="the extra video")
    with av.open(str(path), "w", options=options) as file:
        stream: Any = file.add_stream("ffv1" if path.suffix == ".mkv" else "libx264", rate=10)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "bgr0" if path.suffix == ".mkv" else "yuv444p"
        stream.options = {} if path.suffix == ".mkv" else {"qp": "1", "bf": "0", "g": "5"}
        for frame in frames:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        file.mux(stream.encode())
    return path


# ------------------------------------------------------------------------------------------------- folders


def test_images_come_in_the_order_people_count(tmp_path: Path) -> None:
    frames = pictures(12)
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "._1.png").write_bytes(b"what another system leaves")
    source = open_frames(write_images(tmp_path, frames))
    assert source.names == tuple(f"{number}.png" for number in range(12))
    assert (source.height, source.width, source.announced, source.rate) == (32, 48, 12, None)
    for _ in range(2):  # it can be read again
        found = list(source)
        assert [frame.dtype for frame in found] == [np.uint8] * 12
        np.testing.assert_array_equal(np.stack(found), frames.transpose(0, 3, 1, 2))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 10**6)), min_size=2, unique=True))
def test_numbers_in_names_count_as_numbers(numbers: list[tuple[int, int]]) -> None:
    names = [f"shot{shot}_frame{frame}.jpg" for shot, frame in numbers]
    assert sorted(names, key=_natural) == [f"shot{a}_frame{b}.jpg" for a, b in sorted(numbers)]


@given(st.lists(st.text(max_size=8), max_size=8), st.data())
def test_any_names_have_one_order(names: list[str], data: st.DataObject) -> None:
    mixed = data.draw(st.permutations(names))
    assert sorted(names, key=_natural) == sorted(mixed, key=_natural)


def test_an_image_alone_is_a_video_of_one_frame(tmp_path: Path) -> None:
    file = write_images(tmp_path, pictures(1, 37, 51)) / "0.png"
    [frame] = open_frames(file)
    assert frame.shape == (3, 37, 51)


def test_images_on_their_side_are_turned(tmp_path: Path) -> None:
    frame = pictures(1)[0]
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown a quarter turn clockwise
    Image.fromarray(frame).save(tmp_path / "a.png", exif=exif)
    source = open_frames(tmp_path)
    assert (source.height, source.width) == (48, 32)
    np.testing.assert_array_equal(next(iter(source)).transpose(1, 2, 0), np.rot90(frame, -1))


def test_a_large_image_brings_no_warning(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    Image.fromarray(np.zeros((9000, 10000), np.uint8)).save(tmp_path / "a.png")
    source = open_frames(tmp_path)
    assert (source.height, source.width) == (9000, 10000)
    assert not [each for each in recwarn if "Decompression" in str(each.category)]


def empty_folder(folder: Path) -> Path:
    (folder / "sub").mkdir()
    return folder


def mixed_sizes(folder: Path) -> Path:
    write_images(folder, pictures(2))
    return write_images(folder, pictures(1, 20, 48), ["10.png"])


def no_image(folder: Path) -> Path:
    (folder / "1.jpg").write_bytes(b"hello")
    return folder


def sixteen_bits(folder: Path) -> Path:
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(folder / "1.png")
    return folder


def text(folder: Path) -> Path:
    (folder / "notes.txt").write_text("a line of text\n" * 100)
    return folder / "notes.txt"


def random_bytes(folder: Path) -> Path:
    (folder / "a.mp4").write_bytes(np.random.default_rng(0).bytes(20_000))
    return folder / "a.mp4"


def empty_file(folder: Path) -> Path:
    (folder / "a.mp4").touch()
    return folder / "a.mp4"


def playlist(folder: Path) -> Path:
    lines = ["#EXTM3U", "#EXT-X-TARGETDURATION:1", "#EXTINF:1,", "http://127.0.0.1:9/a.ts", "#EXT-X-ENDLIST"]
    (folder / "a.m3u8").write_text("\n".join(lines))
    return folder / "a.m3u8"


def sound_alone(folder: Path) -> Path:
    import wave

    with wave.open(str(folder / "a.wav"), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(bytes(8000))
    return folder / "a.wav"


def cut_short(folder: Path) -> Path:
    path = write_video(folder / "a.mp4", pictures(20), movflags="faststart")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def without_its_end(folder: Path) -> Path:
    path = write_video(folder / "a.mp4", pictures(20))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


BAD: dict[str, tuple[Callable[[Path], Path], str]] = {
    "nothing there": (lambda folder: folder / "none.mp4", "none.mp4: no such file or folder"),
    "a folder without images": (empty_folder, "no images directly in this folder; allowed: .bmp, "),
    "images of two sizes": (mixed_sizes, "10.png: 20x48 (height x width), but the first frame has 32x48"),
    "an image that is none": (no_image, "1.jpg: cannot be decoded ("),
    "16 bits a pixel": (sixteen_bits, "1.png: pixels of more than 8 bits (I;16)"),
    "an empty file": (empty_file, "a.mp4: an empty file"),
    "a device": (lambda folder: Path("/dev/null"), "/dev/null: neither a file nor a folder"),
    "text": (text, "notes.txt: not a video file; allowed: a video or a folder of images"),
    "random bytes": (random_bytes, "a.mp4: not a video file, or damaged (Invalid data found"),
    "a playlist of another machine": (playlist, "a.m3u8: "),
    "sound alone": (sound_alone, "a.wav: holds no video (WAV"),
    "a video cut short": (cut_short, "a.mp4: cut short: "),
    "a video without its end": (without_its_end, "a.mp4: not a video file, or damaged (Invalid data found"),
}
WITHOUT_AV = list(BAD)[:7]


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_read_is_one_line(
    case: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    if case not in WITHOUT_AV:
        pytest.importorskip("av", reason="the extra video")
    make, expected = BAD[case]
    with pytest.raises(InputError) as found:
        list(open_frames(make(tmp_path)))
    assert expected in str(found.value)
    assert "\n" not in str(found.value)
    assert capfd.readouterr().err == ""


def test_a_damaged_image_is_named_when_it_is_reached(tmp_path: Path) -> None:
    folder = write_images(tmp_path, pictures(3))
    whole = (folder / "1.png").read_bytes()
    (folder / "1.png").write_bytes(whole[: len(whole) // 2])
    frames = iter(open_frames(folder))
    next(frames)
    with pytest.raises(InputError, match=r"1\.png: cannot be decoded \("):
        next(frames)


# -------------------------------------------------------------------------------------------- video files


@pytest.mark.parametrize(("length", "height", "width"), [(1, 32, 48), (7, 37, 51)])
def test_frames_of_a_video_file(length: int, height: int, width: int, tmp_path: Path) -> None:
    frames = pictures(length, height, width)
    source = open_frames(write_video(tmp_path / "a.mkv", frames))
    assert (source.height, source.width, source.names, source.rate) == (height, width, (), 10)
    for _ in range(2):
        np.testing.assert_array_equal(np.stack(list(source)), frames.transpose(0, 3, 1, 2))


def test_a_mp4_says_how_many_frames_it_has(tmp_path: Path) -> None:
    source = open_frames(write_video(tmp_path / "http:odd %d name.mp4", pictures(6)))
    assert source.announced == 6
    assert sum(1 for _ in source) == 6


@pytest.mark.parametrize("quarter_turns_clockwise", [1, 2, 3])
def test_videos_of_a_phone_held_upright_are_turned(quarter_turns_clockwise: int, tmp_path: Path) -> None:
    frames = np.repeat(np.repeat(pictures(2, 4, 6), 8, 1), 8, 2)
    path = write_video(tmp_path / "a.mp4", frames)
    upright = next(iter(open_frames(path)))
    content = bytearray(path.read_bytes())
    one, minus = (1 << 16).to_bytes(4, "big"), (2**32 - (1 << 16)).to_bytes(4, "big")
    none = bytes(4)
    turn = {1: (none, one, minus, none), 2: (minus, none, none, minus), 3: (none, minus, one, none)}
    a, b, c, d = turn[quarter_turns_clockwise]
    at = content.index(b"tkhd") + 4 + 40  # version, times, ids, length, layer and volume come first
    content[at : at + 36] = a + b + none + c + d + none + none + none + (1 << 30).to_bytes(4, "big")
    path.write_bytes(content)
    source = open_frames(path)
    turned = next(iter(source))
    assert turned.shape[1:] == (source.height, source.width)
    np.testing.assert_array_equal(turned, np.rot90(upright, -quarter_turns_clockwise, (1, 2)))


def test_a_damaged_frame_is_named_when_it_is_reached(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", pictures(20))
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 8000] = bytes(8000)
    path.write_bytes(content)
    frames = iter(open_frames(path))
    seen = [next(frames)]
    with pytest.raises(InputError, match=r"a\.mp4: frame \d+: cannot be decoded \(Invalid data"):
        seen += frames


def test_without_the_extra_one_line_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    (tmp_path / "a.mp4").write_bytes(b"any")
    with pytest.raises(InputError, match=r"a\.mp4: a video file: needs the package av: pip install 'ifc-abl"):
        open_frames(tmp_path / "a.mp4")
    assert open_frames(write_images(tmp_path / "images", pictures(1))).announced == 1
