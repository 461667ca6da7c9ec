"""Run-length masks of a track, checked before any C code sees them.

pycocotools trusts its input: runs that do not add up to the frame make it read past its buffers, or
never return. So masks from files are checked here first, all frames of a track in one numpy pass.
"""

from __future__ import annotations

import reprlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco

from model.errors import InputError

Rle = dict[str, Any]
"""COCO's compressed run-length code of one mask: ``{"size": [H, W], "counts": str}``."""

LONGEST_CODE = 7
"""Characters of the longest run that fits the 32 bits of COCO's runs."""


def checked_masks(
    masks: object, length: int, size: tuple[int, int], where: str, key: str = "segmentations"
) -> tuple[Rle | None, ...]:
    """The masks of a track as one compressed RLE a frame, None where absent; uncompressed ones are converted.

    Args:
        masks: the list found in the json.
        length: L, frames of the video.
        size: (H, W) of the video.
        where: opening of the error message: file and entry.

    Raises:
        InputError: not a list of L entries, a polygon or anything else that is no RLE, another size,
            or runs that do not add up to H*W.
    """
    read, problems = read_masks(masks, length, size, key)
    if problems:
        raise InputError(f"{where}: {problems[0]}")
    return read


def read_masks(
    masks: object, length: int, size: tuple[int, int], key: str
) -> tuple[tuple[Rle | None, ...], list[str]]:
    """As :func:`checked_masks`, and everything that is wrong with them, frame by frame; those are None."""
    if not isinstance(masks, list | tuple):
        return (), [f"{key}: {type(masks).__name__}; allowed: a list with one RLE or null a frame"]
    if len(masks) != length:
        return (), [f"{key}: {len(masks)} entries; allowed: {length}, one a frame of the video"]
    out: list[Rle | None] = [None] * length
    problems: dict[int, str] = {}
    for frame, mask in enumerate(masks):
        try:
            out[frame] = None if mask is None else _compressed(mask, size, f"{key}[{frame}]")
        except InputError as error:
            problems[frame] = str(error)
    present = [(frame, mask) for frame, mask in enumerate(out) if mask is not None]
    totals = run_totals([_code(mask) for _, mask in present])
    for (frame, _), total in zip(present, totals.tolist(), strict=True):
        if total != size[0] * size[1]:
            problems[frame] = f"{key}[{frame}]: {_wrong_total(total, size)}"
            out[frame] = None
    return tuple(out), [problems[frame] for frame in sorted(problems)]


def checked_mask(mask: object, size: tuple[int, int], where: str) -> Rle:
    """The one mask of an image, checked and converted as :func:`checked_masks` does; null is refused."""
    if mask is None:
        raise InputError(f"{where}: null; allowed: an RLE with size and counts")
    code = _compressed(mask, size, where)
    [total] = run_totals([_code(code)]).tolist()
    if total != size[0] * size[1]:
        raise InputError(f"{where}: {_wrong_total(total, size)}")
    return code


def _code(mask: Rle) -> bytes:
    code: str = mask["counts"]
    return code.encode("ascii") if code.isascii() else b""  # no code; "?" in its place would be one


def _wrong_total(total: int, size: tuple[int, int]) -> str:
    found = "not a compressed RLE" if total < 0 else f"runs of {total} pixels"
    return f"counts: {found}; allowed: runs of all {size[0] * size[1]} pixels"


def _compressed(mask: object, size: tuple[int, int], where: str) -> Rle:
    counts = mask.get("counts") if isinstance(mask, dict) else None
    if not isinstance(mask, dict) or not isinstance(counts, str | bytes | list):
        kind = "a polygon or other list" if isinstance(mask, list) else type(mask).__name__
        raise InputError(f"{where}: {kind}; allowed: null or an RLE with size and counts")
    found = mask.get("size")
    if not isinstance(found, list | tuple) or tuple(found) != size or bool in map(type, found):
        raise InputError(
            f"{where}: size: {reprlib.repr(found)}; allowed: the video's [height, width] {list(size)}"
        )
    if isinstance(counts, list):
        if not all(isinstance(run, int) and 0 <= run <= size[0] * size[1] for run in counts):
            raise InputError(f"{where}: counts: not all runs are integers from 0 to {size[0] * size[1]}")
        counts = coco.frPyObjects({"size": list(size), "counts": counts}, *size)["counts"]
    if isinstance(counts, bytes):
        counts = counts.decode("ascii", "replace")
    return {"size": list(size), "counts": counts}


def run_totals(codes: Sequence[bytes]) -> NDArray[np.int64]:
    """Pixels that each compressed code (n of them) covers; -1 where it is no valid code.

    COCO's code: a character holds five bits of a number, low bits first, bit 5 says that more follow,
    the last one's bit 4 is the sign. From the fourth run on, a number is the difference to the run two
    places before.
    """
    n = len(codes)
    data = np.frombuffer(b"".join(codes), np.uint8).astype(np.int64) - 48
    if not len(data):
        return np.full(n, -1, np.int64)
    sizes = np.array([len(code) for code in codes])
    owner = np.repeat(np.arange(n), sizes)
    last = np.cumsum(sizes)[sizes > 0] - 1
    wrong = (data < 0) | (data > 63)
    wrong[last] |= (data[last] & 32) > 0
    stop = (data & 32) == 0
    stop[last] = True
    ends = np.flatnonzero(stop)
    widths = np.diff(ends, prepend=-1)
    starts = ends - widths + 1
    wrong[ends] |= widths > LONGEST_CODE
    place = np.minimum(np.arange(len(data)) - np.repeat(starts, widths), LONGEST_CODE)
    runs = np.add.reduceat((data & 31) << (5 * place), starts)
    runs -= np.where(data[ends] & 16, 1 << (5 * np.minimum(widths, LONGEST_CODE)), 0)
    of = owner[ends]
    rank = np.arange(len(of)) - np.searchsorted(of, of)
    for parity in (0, 1):
        chain = np.flatnonzero((rank > 0) & (rank % 2 == parity))
        if len(chain):
            sums = np.cumsum(runs[chain])
            heads = np.flatnonzero(np.diff(of[chain], prepend=-1))
            before = np.concatenate([[0], sums[heads[1:] - 1]])
            runs[chain] = sums - np.repeat(before, np.diff(heads, append=len(chain)))
    wrong[ends] |= runs < 0
    totals = np.bincount(of, weights=runs, minlength=n).astype(np.int64)
    totals[np.bincount(owner, weights=wrong, minlength=n) > 0] = -1
    totals[sizes == 0] = -1
    return totals
