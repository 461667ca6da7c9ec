"""Measure how long the tags of a data set take.

``python -m benchmarks.situations``; nothing else may use the machine meanwhile. The data set is made first,
in a temporary folder, from a seed: textured shapes that move over coloured noise, as JPEG files and
run-length masks. Discs are not measured: files that were just written are in the system's memory.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from harness.data.ytvis import load_dataset
from harness.evaluation import encode_mask
from harness.provenance import cpu_name
from harness.situations import tag_tracks

TARGET_SECONDS = 60.0
"""300 videos of 20 frames of 360x640 on two cores"""
TRACKS = (1, 2, 2, 3)
"""Of the videos, in turn"""


def main(arguments: list[str]) -> int:
    """Print seconds; exit status 1 above the target at its own setting."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.situations", description=__doc__)
    parser.add_argument("--videos", type=int, default=300)
    parser.add_argument("--length", type=int, default=20)
    parser.add_argument("--size", default="360x640", help="HxW")
    asked = parser.parse_args(arguments)
    height, width = (int(side) for side in asked.size.split("x"))
    with tempfile.TemporaryDirectory() as folder:
        made = time.perf_counter()
        write_videos(Path(folder), asked.videos, asked.length, height, width)
        what = f"{asked.videos} videos of {asked.length} frames of {asked.size}"
        print(f"{what}, made in {time.perf_counter() - made:.1f} s")
        started, used = time.perf_counter(), time.process_time()
        dataset = load_dataset(Path(folder), "valid")
        loaded = time.perf_counter() - started
        tags = tag_tracks(dataset)
        seconds, processor = time.perf_counter() - started, time.process_time() - used
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    load = os.getloadavg()[0]
    print(f"{cpu_name()}, {cores} cores, load {load:.1f} (about {cores} of it from this command)")
    print(f"{len(tags)} tracks tagged in {seconds:.1f} s, {loaded:.1f} s of it reading the json")
    frames = asked.videos * asked.length
    print(f"{processor:.1f} s of processor time, {1000 * processor / frames:.1f} ms a frame")
    if (asked.videos, asked.length, asked.size) != (300, 20, "360x640"):
        return 0
    print(f"target: at most {TARGET_SECONDS:.0f} s on two cores")
    return int(seconds > TARGET_SECONDS)


def write_videos(root: Path, videos: int, length: int, height: int, width: int) -> None:
    """A YouTube-VIS folder with the split ``valid``."""
    content: dict[str, list[dict[str, Any]]] = {
        "videos": [],
        "annotations": [],
        "categories": [{"id": i + 1, "name": f"thing {i + 1}"} for i in range(3)],
    }
    for index in range(videos):
        rng = np.random.default_rng([0, index])
        name = f"{index:05d}"
        frames, masks = draw_video(rng, TRACKS[index % len(TRACKS)], length, height, width)
        (root / "valid" / "JPEGImages" / name).mkdir(parents=True)
        files = [f"{name}/{frame:05d}.jpg" for frame in range(length)]
        for file, pixels in zip(files, frames, strict=True):
            Image.fromarray(pixels).save(root / "valid" / "JPEGImages" / file, quality=90)
        content["videos"].append(
            {"id": index + 1, "height": height, "width": width, "length": length, "file_names": files}
        )
        for track in masks:
            content["annotations"].append(
                {
                    "id": len(content["annotations"]) + 1,
                    "video_id": index + 1,
                    "category_id": 1 + int(rng.integers(3)),
                    "iscrowd": 0,
                    "segmentations": [encode_mask(mask) for mask in track],
                }
            )
    (root / "valid.json").write_text(json.dumps(content), encoding="utf-8")


def draw_video(
    rng: np.random.Generator, tracks: int, length: int, height: int, width: int
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Frames (L,H,W,3) and masks (n,L,H,W); later discs are in front."""
    ground, cloth = (_noise(rng, height, width) for _ in range(2))
    frames = np.repeat(ground[None], length, 0)
    masks = np.zeros((tracks, length, height, width), np.bool_)
    rows, columns = np.ogrid[:height, :width]
    for track in range(tracks):
        radius = rng.uniform(0.1, 0.3) * height
        start, step = rng.uniform(0.2, 0.8, 2) * (height, width), rng.normal(size=2) * 0.01 * height
        tint = rng.integers(0, 256, 3)
        for frame in range(length):
            y, x = start + frame * step
            disc = (rows - y) ** 2 + (columns - x) ** 2 <= radius**2
            masks[:, frame, disc] = False
            masks[track, frame] = disc
            frames[frame][disc] = cloth[disc] // 2 + (tint // 2).astype(np.uint8)
    return frames, masks


def _noise(rng: np.random.Generator, height: int, width: int) -> NDArray[np.uint8]:
    """A picture (H,W,3) with detail at several scales, as compressible as a photograph."""
    total = np.zeros((height, width, 3), np.float32)
    for cell, strength in ((64, 40.0), (16, 20.0), (4, 10.0)):
        small = rng.normal(size=(-(-height // cell), -(-width // cell), 3)) * strength
        picture = Image.fromarray(np.clip(small + 128, 0, 255).astype(np.uint8))
        total += np.asarray(picture.resize((width, height), Image.Resampling.BICUBIC), np.float32) - 128
    return np.clip(total + 128, 0, 255).astype(np.uint8)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
