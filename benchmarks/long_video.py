"""Measure the memory of a long video against its target: 1,000 frames of 360p beside 100, whole processes.

``python -m benchmarks.long_video`` writes two mp4 files frame by frame (squares that move over noise),
segments each in a process of its own, overlay included, and compares the processes' peaks. The weights are
random: how much is found differs from trained ones, how memory grows does not. ``--backbone resnet50`` is
the paper's model; that takes long on a CPU. Needs the extra ``video``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from tabulate import tabulate

from harness.config import InferenceConfig
from harness.memory import peak_memory
from harness.overlay import PictureVideo
from harness.provenance import git_state, machine, now
from harness.segment import Request, check_device, segment
from model import build_model
from model.checkpoint import save_weights

PROJECT = Path(__file__).resolve().parent.parent
HEIGHT, WIDTH = 360, 640
SHORT, LONG = 100, 1000
MOST = 1.3
"""The longer video's peak over the shorter one's, at most"""
SQUARES = 4
SMALL = {"hidden_dim": 16, "attention_heads": 2, "ffn_dim": 32, "num_queries": 10, "num_classes": 4}
"""With the backbone tiny; other backbones have the paper's sizes."""

Line = tuple[str, str, str, bool]
"""What, measured, target, met"""


class Peak(NamedTuple):
    """What one process needed."""

    gigabytes: float
    """of 1e9 bytes"""
    kind: str
    seconds: float
    tracks: int


def main() -> int:
    """Print the table; exit status 1 when the target is missed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backbone", default="tiny")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)  # a folder: one video, in this process
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(_one(arguments.one, arguments.device)))
        return 0
    lines = measure(arguments.backbone, arguments.device)
    shown = [(what, found, target, "met" if met else "MISSED") for what, found, target, met in lines]
    here, commit = machine(), git_state()["git_commit"]
    print(f"{here['cpu']}, {here['cpu_count']} cores; commit {commit}; {now()}\n")
    print(tabulate(shown, ("what", "measured", "target", ""), tablefmt="github"))
    return int(not all(met for *_, met in lines))


def measure(backbone: str = "tiny", device: str = "cpu") -> list[Line]:
    """The line of the target, from two fresh processes."""
    with tempfile.TemporaryDirectory() as work:
        weights = Path(work, "weights.safetensors")
        _write_weights(weights, backbone)
        peaks = {}
        for frames in (SHORT, LONG):
            folder = Path(work, str(frames))
            folder.mkdir()
            _write_video(folder / "video.mp4", frames)
            command = [sys.executable, "-m", "benchmarks.long_video", "--one", str(folder)]
            done = subprocess.run(
                [*command, "--device", device], cwd=PROJECT, check=True, stdout=subprocess.PIPE, text=True
            )
            peaks[frames] = Peak(*json.loads(done.stdout.splitlines()[-1]))
    ratio = peaks[LONG].gigabytes / peaks[SHORT].gigabytes
    told = ", ".join(
        f"{frames:,} frames {peak.gigabytes:.3f} GB ({peak.tracks} tracks, {peak.seconds:.0f} s)"
        for frames, peak in peaks.items()
    )
    what = f"peak memory ({peaks[LONG].kind}), {WIDTH}x{HEIGHT}, {backbone}: {told}"
    return [(what, f"{ratio:.2f}x", f"{MOST:g}x", ratio <= MOST)]


def moving_squares(frames: int, height: int = HEIGHT, width: int = WIDTH) -> Iterator[NDArray[np.uint8]]:
    """Frames (H, W, 3), one at a time: squares that go to and fro over noise."""
    generator = np.random.default_rng(0)
    ground = generator.integers(0, 160, (height, width, 3), np.uint8)
    side = min(height, width) // 5
    speeds = generator.integers(2, 9, (SQUARES, 2))
    colours = generator.integers(120, 256, (SQUARES, 3))
    room = np.array([height - side, width - side])
    for frame in range(frames):
        picture = ground.copy()
        for speed, colour in zip(speeds, colours, strict=True):
            top, left = room - np.abs(frame * speed % (2 * room) - room)
            picture[top : top + side, left : left + side] = colour
        yield picture


def _write_video(path: Path, frames: int) -> None:
    video = PictureVideo(path, (HEIGHT, WIDTH), None)
    for picture in moving_squares(frames):
        video.add(picture)
    video.close()


def _write_weights(path: Path, backbone: str) -> None:
    sizes: dict[str, Any] = SMALL if backbone == "tiny" else {}
    torch.manual_seed(0)
    model = build_model({"backbone": backbone, **sizes})
    save_weights(model, path, {"config": model.config.model_dump()})


def _one(folder: Path, device: str) -> Peak:
    """Segment the video of a folder, and say what this process needed from its beginning."""
    begun = time.perf_counter()
    settings = InferenceConfig(score_threshold=0.1)
    weights = folder.parent / "weights.safetensors"
    done = segment(Request(folder / "video.mp4", weights, folder / "out", settings, device))
    peak, kind = peak_memory(check_device(device))
    if peak is None:
        raise SystemExit("this platform does not tell a process's peak memory")
    return Peak(peak, kind, time.perf_counter() - begun, done.tracks)


if __name__ == "__main__":
    sys.exit(main())
