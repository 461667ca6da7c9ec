"""``python -m harness bench``: from options to a table."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tabulate import tabulate

from harness.bench.job import REGIONS, WHAT, BenchJob, Precision, Region, Side
from harness.bench.run import Bench, Measured, run_bench
from harness.data.named_split import split_name
from model.config import ModelConfig
from model.errors import InputError

KEEPERS = ("ours", "both", "none")
"""Who may keep freed memory"""


@dataclass(frozen=True)
class BenchOptions:
    """What was typed."""

    weights: Path | None = None
    data: Path | None = None
    split: str | None = None
    encoder: str = "ifc"
    backbone: str = "resnet50"
    size: str = "360x640"
    length: int = 36
    videos: int = 1
    window: int = 5
    stride: int = 1
    kept: int = 10
    region: str = "model,video,e2e"
    passes: int = 5
    min_seconds: float = 10.0
    against: str | None = None
    device: str = "auto"
    threads: int | None = None
    precision: Precision = "float32"
    compiled: bool = False
    cuda_graphs: bool = False
    memory: str = "ours"


def bench(options: BenchOptions, told: Callable[[str], None]) -> Bench:
    """Time what the options name; ``told`` hears in a line what is being done.

    Raises :class:`model.errors.InputError`, and what :func:`harness.bench.run.run_bench` raises.
    """
    regions, size = _regions(options.region), _size(options.size)
    if options.against not in (None, "published-ops"):
        raise InputError(f"--against: {options.against!r}: allowed: published-ops")
    if options.stride > options.window:
        raise InputError(f"--stride: {options.stride}: must not be above --window {options.window}")
    if options.precision not in ("float32", "bfloat16", "float16"):
        raise InputError(f"--precision: {options.precision!r}: allowed: float32, bfloat16, float16")
    if options.memory not in KEEPERS:
        raise InputError(f"--memory: {options.memory!r}: allowed: {', '.join(KEEPERS)}")
    from harness.devices import check_device  # late: what was typed is checked before torch is loaded

    device = str(check_device(options.device))
    if options.cuda_graphs and not device.startswith("cuda"):
        raise InputError(f"--cuda-graphs: on {device}: allowed: on CUDA devices")
    with tempfile.TemporaryDirectory() as work:
        jobs = _jobs(options, min(size), device, *_subject(options, size, Path(work), told))
        return run_bench(jobs, regions, options.passes, options.min_seconds, told)


def _subject(
    options: BenchOptions, size: tuple[int, int], work: Path, told: Callable[[str], None]
) -> tuple[ModelConfig, Path, Path]:
    """Configuration, weights and data; what was not given is made in ``work``."""
    from harness.bench.subject import write_videos, write_weights
    from harness.stored_model import stored_model

    data = options.data
    if data is None:
        data = work / "videos"
        told(f"making {options.videos} videos of {options.length} frames, {options.size}")
        write_videos(data, size, options.length, options.videos)
    if options.weights is not None:
        return stored_model(options.weights).config, options.weights, data
    weights, split = work / "weights.safetensors", split_name(options.split)
    model = (options.backbone, options.encoder)
    return write_weights(weights, *model, data, split, options.window, options.kept), weights, data


def _jobs(
    options: BenchOptions, short_side: int, device: str, config: ModelConfig, weights: Path, data: Path
) -> list[BenchJob]:
    ours = BenchJob(
        side="ours",
        model=config,
        weights=weights,
        data=data,
        split=split_name(options.split),
        videos=options.videos,
        short_side=short_side,
        window=options.window,
        stride=options.stride,
        device=device,
        threads=options.threads,
        precision=options.precision,
        compiled=options.compiled,
        cuda_graphs=options.cuda_graphs,
        keeps_memory=options.memory in ("ours", "both"),
    )
    if options.against is None:
        return [ours]
    published: Side = "published-ops"
    as_published = {"precision": "float32", "compiled": False, "cuda_graphs": False}
    as_published["keeps_memory"] = options.memory == "both"
    return [ours, ours.model_copy(update={"side": published, **as_published})]


def bench_table(found: Bench) -> str:
    """A line for each side and region; with two sides also how much faster the first is."""
    lines = []
    for number, side in enumerate(found.sides):
        for place, measured in enumerate(side):
            faster = ""
            if number == 0 and len(found.sides) == 2:
                faster = f"{measured.fps.median / found.sides[1][place].fps.median:.2f}x"
            lines.append([*_cells(measured), faster])
    headers = ["side", "region", "FPS", "quartiles", "ms/frame p50", "p90", "warm-up s", "peak GB", "faster"]
    return tabulate(lines, headers, tablefmt="github", disable_numparse=True)


def _cells(measured: Measured) -> list[str]:
    fps, memory = measured.fps, measured.peak_memory_gb
    return [
        measured.label,
        measured.region,
        f"{fps.median:.2f}",
        f"{fps.low:.2f}-{fps.high:.2f} of {len(measured.passes)}",
        f"{measured.milliseconds(0.5):.1f}",
        f"{measured.milliseconds(0.9):.1f}",
        f"{measured.warm_up_seconds:.1f}",
        "--" if memory is None else f"{memory:.2f}",
    ]


def remarks(found: Bench) -> list[str]:
    """What has to be known beside the table."""
    conditions = found.conditions
    threads, torch_version = conditions["threads"], conditions["torch_version"]
    said = [f"{conditions['hardware']}, {threads} threads, torch {torch_version}, {conditions['device']}"]
    said += [f"{name}: {WHAT[name]}" for name in REGIONS if any(m.region == name for m in found.sides[0])]
    if conditions["device"] == "cpu":
        how = {True: "uses it again", False: "takes it from the system anew, as any process does"}
        of_sides = zip(found.sides, found.keeps_memory, strict=True)
        said.append("freed memory: " + "; ".join(f"{side[0].label} {how[kept]}" for side, kept in of_sides))
    said.append(f"tracks of the first video: {found.tracks}")
    if found.parity is not None:
        said.append(f"parity: {found.parity.text()}")
    for measured in (m for side in found.sides for m in side):
        said += [f"careful: {measured.label}, {measured.region}: {x}" for x in sorted(measured.warnings)]
    return said


def bench_json(found: Bench) -> str:
    """Everything, pass by pass."""
    sides = [
        [{**vars(m), "warnings": sorted(m.warnings), "fps": m.fps._asdict()} for m in side]
        for side in found.sides
    ]
    parity = None if found.parity is None else found.parity._asdict()
    content = {
        "sides": sides,
        "parity": parity,
        "tracks": found.tracks,
        "conditions": found.conditions,
        "keeps_memory": found.keeps_memory,
    }
    return json.dumps(content, indent=1) + "\n"


def _regions(text: str) -> list[Region]:
    asked = text.split(",")
    found = [region for region in REGIONS if region in asked]
    if len(found) != len(asked):
        raise InputError(f"--region: {text!r}: allowed: {', '.join(REGIONS)}, each once, with commas between")
    return found


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text)
    if match is None:
        raise InputError(f"--size: {text!r}: allowed: HEIGHTxWIDTH in pixels, such as 360x640")
    return int(match[1]), int(match[2])
