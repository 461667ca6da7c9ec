"""Results on disk while a video runs: a line a final frame, and the benchmark's result file at the end.

Only where each mask lies in the file of lines is kept in memory: frame, place and length.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

from harness.data.rle import Rle
from harness.evaluation import result_entry
from model.whole_file import whole_file

FRAMES = "frames.jsonl"
RESULTS = "results.json"


class TrackWriter:
    """Writes ``frames.jsonl`` and ``results.json`` in a folder.

    A line is one object: ``frame`` (from 0), ``file`` (of an image), ``masks``, each a ``track`` with its
    ``segmentation`` (COCO's compressed RLE), and ``final``, what :meth:`add` is given. Lines are complete
    as soon as their frame is: a line without an end was cut by a kill, and only the last one can be.
    """

    def __init__(self, folder: Path) -> None:
        self._path, self._folder = folder / FRAMES, folder
        # Without a buffer: each line reaches the system in one piece, and readers at once.
        self._file = self._path.open("wb", buffering=0)
        self._places: dict[int, array[int]] = {}
        self.length = 0
        """Lines written"""

    def add(self, masks: Iterable[tuple[int, Rle]], final: list[dict[str, Any]], file: str | None) -> None:
        """The next frame: track and code of each mask; what is final now of tracks; the image's name.

        Raises:
            OSError: the line does not fit on the disk; nothing of it stays there.
        """
        named = "" if file is None else f'"file": {json.dumps(file)}, '
        line = bytearray(f'{{"frame": {self.length}, {named}"masks": ['.encode("ascii"))
        begin = self._file.tell()
        for number, (track, code) in enumerate(masks):
            line += f'{", " * (number > 0)}{{"track": {track}, "segmentation": '.encode("ascii")
            text = json.dumps(code).encode("ascii")
            places = self._places.setdefault(track, array("q"))
            places.extend((self.length, begin + len(line), len(text)))
            line += text + b"}"
        line += f'], "final": {json.dumps(final)}}}\n'.encode("ascii")
        _write_whole(self._file, line)
        self.length += 1

    def write_results(self, results: Iterable[tuple[int, float, int]], video_id: int) -> int:
        """``results.json`` of (category id, score, track), whole or not at all; returns how many there are.

        The bytes are those that :func:`harness.evaluation.write_results` writes of the same tracks.
        """
        count = 0
        with (
            whole_file(self._folder / RESULTS) as draft,
            draft.open("wb") as out,
            self._path.open("rb") as lines,
        ):
            out.write(b"[")
            for category, score, track in results:
                head = json.dumps(result_entry(video_id, category, score, []))
                out.write(f"{', ' * (count > 0)}{head.removesuffix(']}')}".encode("ascii"))
                self._copy_masks(track, lines, out)
                out.write(b"]}")
                count += 1
            out.write(b"]")
        return count

    def _copy_masks(self, track: int, lines: BinaryIO, out: BinaryIO) -> None:
        places, following = self._places.get(track, array("q")), 0
        for at in range(0, len(places), 3):
            frame, begin, size = places[at : at + 3]
            out.write(b"null, " * (frame - following))
            lines.seek(begin)
            out.write(lines.read(size) + b", " * (frame + 1 < self.length))
            following = frame + 1
        out.write(b", ".join([b"null"] * (self.length - following)))

    def close(self) -> None:
        """No more lines."""
        self._file.close()


def _write_whole(file: Any, line: bytearray) -> None:
    begin = file.tell()
    try:
        rest = memoryview(line)
        while rest:  # a nearly full disk takes a part
            rest = rest[file.write(rest) :]
    except BaseException:
        file.truncate(begin)
        file.seek(begin)
        raise
