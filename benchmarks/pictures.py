"""Measure strips and galleries against their targets, on made-up videos under made-up methods.

``python -m benchmarks.pictures``; nothing else may use the machine meanwhile.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from tabulate import tabulate

from benchmarks.made_methods import write_methods
from harness.compare import run
from harness.compare.methods import load_videos, read_methods
from harness.compare.scenes import Scenes
from harness.compare.strips import strip_of
from harness.config import SyntheticConfig
from harness.data.synthetic import write_dataset
from harness.named_files import named_files
from harness.provenance import git_state, machine, now

VIDEOS, FRAMES, HEIGHT, WIDTH = 20, 36, 360, 640
STRIP_S, GALLERY_S, GALLERY_MB = 5.0, 60.0, 20.0
DATA = SyntheticConfig(
    train_videos=1, valid_videos=VIDEOS, length=FRAMES, height=HEIGHT, width=WIDTH, min_size=60, max_size=150
)


@contextmanager
def _timed(seconds: list[float]) -> Iterator[None]:
    """Adds the seconds that pass, then those of all threads on a CPU."""
    begin, worked = time.perf_counter(), time.process_time()
    yield
    seconds += [time.perf_counter() - begin, time.process_time() - worked]


def _told(seconds: list[float]) -> str:
    return f"{seconds[0]:.1f} s ({seconds[1]:.1f} s of CPU)"


def main() -> int:
    """Print the table; exit status 1 when a target is missed."""
    strip: list[float] = []
    page: list[float] = []
    whole: list[float] = []
    with tempfile.TemporaryDirectory() as work:
        data, files = Path(work, "data"), Path(work)
        write_dataset(DATA, data)
        truth = json.loads((data / "valid.json").read_text())
        methods = tuple(f"{name}={path}" for name, path in write_methods(files, truth).items())
        dataset = load_videos(data, "valid")
        scenes = Scenes(dataset, read_methods(named_files(methods), truth), 0.3, 10)
        scene = scenes.of(dataset.videos[0])
        with _timed(strip):
            strip_of(scene, dataset, list(range(0, FRAMES, FRAMES // 8))[:8], "").write(Path(work, "strip"))
        request = run.Request(data, "valid", methods, Path(work, "gallery"), video=False)
        with _timed(page):
            run.compare(request, print)
        size = sum(
            file.stat().st_size
            for file in [request.out / "index.html", *(request.out / "frames").rglob("*.webp")]
        )
        with _timed(whole):
            run.compare(replace(request, out=Path(work, "with_videos"), video=True), print)
    what = f"{VIDEOS} videos of {FRAMES} frames: page, strips, scores"
    lines = [
        ("strip, 8 frames x 5 rows, PDF and PNG", _told(strip), f"{STRIP_S:g} s", strip[0] <= STRIP_S),
        (what, _told(page), f"{GALLERY_S:g} s", page[0] <= GALLERY_S),
        ("page and its frames", f"{size / 1e6:.1f} MB", f"{GALLERY_MB:g} MB", size <= GALLERY_MB * 1e6),
        ("the same with a mp4 of each video", _told(whole), "", True),
    ]  # fmt: skip
    shown = [
        (what, found, target, ("met" if met else "MISSED") if target else "")
        for what, found, target, met in lines
    ]
    here, commit = machine(), git_state()["git_commit"]
    print(f"\n{here['cpu']}, {here['cpu_count']} cores; commit {commit}; {now()}\n")
    print(tabulate(shown, ("what", "measured", "target", ""), tablefmt="github"))
    return int(not all(met for *_, met in lines))


if __name__ == "__main__":
    sys.exit(main())
