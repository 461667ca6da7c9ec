"""Measure how long a training waits for its clips, and how fast clips are read.

``python -m benchmarks.loading``; nothing else may use the machine meanwhile. On embedded videos:

- trainings as ``harness/train.py`` does them, in turns: without a cache; with an empty one, which is a first
  epoch; with the one that this left, which is any later epoch if the cache holds the data set. The first step
  is told apart: nothing could be read ahead of it.
- the reader alone, without a step beside it, by one and by two threads, with the same three caches.

The files' own bytes are in the system's memory throughout: discs are not measured.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import statistics
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import torch
from tabulate import tabulate

from harness.allocator import freed_memory_kept
from harness.config import SyntheticConfig, TrialConfig
from harness.data.clips import ClipSampler
from harness.data.frame_cache import FrameCache
from harness.data.synthetic import write_dataset
from harness.data.ytvis import VideoDataset, load_dataset
from harness.memory_budget import default_frame_cache, parse_frame_cache, spelled
from harness.provenance import git_state, machine, now
from harness.train import LOSSES, WAITED, train
from model.errors import InputError

CACHES = ("none", "empty", "warm")
READERS = (1, 2)


class Setting(NamedTuple):
    """What is measured."""

    backbones: str = "resnet50,tiny"
    size: str = "360x640"
    short_sides: str = "360"
    """Of a clip; others than the videos' own are resized"""
    videos: int = 24
    """One epoch of clips: an empty cache finds nothing in it"""
    length: int = 20
    frames: int = 5
    clips: int = 1
    steps: int = 8
    passes: int = 3
    device: str = "cpu"
    threads: int | None = None
    frame_cache: str | None = None


class Waiting(NamedTuple):
    """One training."""

    first: float
    """Seconds until the first batch was there"""
    seconds: list[float]
    """Of each later step"""
    waited: float
    """Seconds of all later steps"""


def main(arguments: list[str]) -> int:
    """Print the tables."""
    own = Setting()
    parser = argparse.ArgumentParser(prog="python -m benchmarks.loading", description=__doc__)
    parser.add_argument("--backbones", default=own.backbones, help="with commas between them")
    parser.add_argument("--size", default=own.size, help="HxW of the videos")
    parser.add_argument("--short-sides", default=own.short_sides, help="of a clip, with commas between them")
    parser.add_argument("--videos", type=int, default=own.videos)
    parser.add_argument("--length", type=int, default=own.length, help="frames of a video")
    parser.add_argument("--frames", type=int, default=own.frames, help="of a clip")
    parser.add_argument("--clips", type=int, default=own.clips, help="of a step")
    parser.add_argument("--steps", type=int, default=own.steps, help="of a training")
    parser.add_argument("--passes", type=int, default=own.passes)
    parser.add_argument("--device", default=own.device)
    parser.add_argument("--threads", type=int, help="of torch")
    parser.add_argument("--frame-cache", help="such as 2GB; by default what a training here would take")
    setting = Setting(**vars(parser.parse_args(arguments)))
    try:
        _check(setting)
        print(report(setting))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _check(setting: Setting) -> None:
    if setting.steps < 2:
        raise InputError(f"--steps: {setting.steps}: allowed: 2 or more, the first of which is told apart")
    if setting.steps * setting.clips > setting.videos:
        raise InputError(
            f"--videos: {setting.videos}: allowed: at least the {setting.steps * setting.clips} clips of a "
            "training, so that an empty cache holds none of them"
        )


def report(setting: Setting) -> str:
    """Both tables, under what they were measured on."""
    if setting.threads is not None:
        torch.set_num_threads(setting.threads)
    limit = default_frame_cache() if setting.frame_cache is None else parse_frame_cache(setting.frame_cache)
    with tempfile.TemporaryDirectory() as work:
        dataset = _videos(setting, Path(work))
        trainings = [
            line
            for backbone in setting.backbones.split(",")
            for line in _trainings(_config(setting, backbone), setting, dataset, limit, Path(work))
        ]
        reading = _reading(_config(setting, "tiny"), setting, dataset, limit)
    here, state = machine(), git_state()
    on = f"{here['cpu']}, {here['cpu_count']} cores; {setting.device}, {torch.get_num_threads()} threads"
    what = (
        f"{setting.videos} videos of {setting.length} frames {setting.size}; clips of {setting.frames} frames"
        f", short sides {setting.short_sides}, {setting.clips} a step; {setting.steps} steps; "
        f"cache {spelled(limit) if limit else 'none'}; medians of {setting.passes} passes"
    )
    names = ("backbone", "cache", "s a step", "waited", "s for the first batch")
    return "\n\n".join(
        (
            f"{on}; commit {state['git_commit']}; {now()}",
            what,
            tabulate(trainings, names, tablefmt="github"),
            tabulate(reading, ("readers", "cache", "clips/s", "frames/s"), tablefmt="github"),
        )
    )


def _videos(setting: Setting, work: Path) -> VideoDataset:
    height, width = (int(number) for number in setting.size.split("x"))
    small = min(height, width)
    config = SyntheticConfig(
        train_videos=setting.videos,
        valid_videos=1,
        length=setting.length,
        height=height,
        width=width,
        min_size=max(8, small // 6),
        max_size=max(8, small // 2),
    )
    write_dataset(config, work / "data")
    return load_dataset(work / "data", "train")


def _config(setting: Setting, backbone: str) -> TrialConfig:
    return TrialConfig.model_validate(
        {
            "model": {"backbone": backbone},
            "train": {
                "steps": setting.steps,
                "clips_per_batch": setting.clips,
                "frames_per_clip": setting.frames,
                "short_sides": [int(side) for side in setting.short_sides.split(",")],
            },
        }
    )


def _trainings(
    config: TrialConfig, setting: Setting, dataset: VideoDataset, limit: int, work: Path
) -> list[tuple[str, ...]]:
    """(backbone, cache, seconds a step, share of waiting, seconds for the first batch) of each cache."""
    found: dict[str, list[Waiting]] = {cache: [] for cache in CACHES}
    for number in range(setting.passes):
        filled = FrameCache(limit)  # `empty` fills it for `warm`
        caches = {"none": FrameCache(0), "empty": filled, "warm": filled}
        # In turns, so that a machine that slows down slows all; `warm` comes after `empty` in any case.
        for cache in CACHES if number % 2 == 0 else (*CACHES[1:], CACHES[0]):
            folder = Path(tempfile.mkdtemp(dir=work))
            with freed_memory_kept():
                device = torch.device(setting.device)
                train(config, 0, dataset, folder, "loading", device, cache=caches[cache])
            found[cache].append(_waiting(folder / LOSSES))
    lines = []
    for cache, passes in found.items():
        shares = [each.waited / sum(each.seconds) for each in passes]
        steps = statistics.median(itertools.chain.from_iterable(each.seconds for each in passes))
        first = statistics.median(each.first for each in passes)
        share = f"{statistics.median(shares):.2%} [{min(shares):.2%}, {max(shares):.2%}]"
        lines.append((config.model.backbone, cache, f"{steps:.3f}", share, f"{first:.3f}"))
    return lines


def _waiting(losses: Path) -> Waiting:
    with losses.open(newline="") as file:
        steps = [(float(line["seconds"]), float(line[WAITED])) for line in csv.DictReader(file)]
    seconds, waited = zip(*steps[1:], strict=True)
    return Waiting(steps[0][1], list(seconds), sum(waited))


def _reading(
    config: TrialConfig, setting: Setting, dataset: VideoDataset, limit: int
) -> list[tuple[int, str, str, str]]:
    """(readers, cache, clips a second, frames a second) of an epoch, with nothing else to do."""
    seconds: dict[tuple[int, str], list[float]] = {key: [] for key in itertools.product(READERS, CACHES)}
    ClipSampler(dataset, config.train, 0).clip(0)  # what the first call of all takes is no reading
    for _ in range(setting.passes):
        for readers in READERS:
            filled = FrameCache(limit)
            caches = {"none": FrameCache(0), "empty": filled, "warm": filled}
            for cache in CACHES:
                sampler = ClipSampler(dataset, config.train, 0, caches[cache])
                with ThreadPoolExecutor(readers) as pool:
                    begun = time.perf_counter()
                    for _ in pool.map(sampler.clip, range(setting.videos)):
                        pass
                    seconds[readers, cache].append(time.perf_counter() - begun)
    rates = {key: setting.videos / statistics.median(times) for key, times in seconds.items()}
    return [(*key, f"{rate:.1f}", f"{setting.frames * rate:.1f}") for key, rate in rates.items()]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
