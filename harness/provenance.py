"""Where a number came from: code, packages, machine."""

from __future__ import annotations

import ast
import functools
import hashlib
import io
import os
import platform
import subprocess
import tokenize
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent

# What a trained model depends on; anything else may change without a new training.
TRAINING_CODE = (
    "model/attention.py",
    "model/backbone.py",
    "model/box_head.py",
    "model/boxes.py",
    "model/checkpoint.py",
    "model/clip_model.py",
    "model/communication.py",
    "model/config.py",
    "model/decoder.py",
    "model/losses.py",
    "model/mask_head.py",
    "model/matching.py",
    "model/positions.py",
    "model/weight_names.py",
    "harness/data/clips.py",
    "harness/data/coco.py",
    "harness/data/layouts.py",
    "harness/data/polygons.py",
    "harness/data/rle.py",
    "harness/data/ytvis.py",
    "harness/distributed.py",
    "harness/train.py",
)
# What an AP or a FPS depends on besides the weights.
EVALUATION_CODE = (
    "model/inference.py",
    "model/tracking.py",
    "harness/data/benchmarks.py",
    "harness/data/splits.py",
    "harness/benchmark_json.py",
    "harness/evaluation.py",
    "harness/flops.py",
    "harness/image_evaluation.py",
    "harness/memory.py",
    "harness/speed.py",
    "harness/trial.py",
)
PACKAGES = (
    "torch",
    "numpy",
    "scipy",
    "pandas",
    "pyarrow",
    "pycocotools",
    "pillow",
    "pydantic",
    "safetensors",
)


@functools.cache
def code_version(files: Iterable[str]) -> str:
    """A hash of what the files do: comments, docstrings and blank lines do not count."""
    digest = hashlib.sha256()
    for name in files:
        digest.update(name.encode())
        digest.update(code_only((PROJECT / name).read_text(encoding="utf-8")).encode())
    return digest.hexdigest()[:12]


def code_only(source: str) -> str:
    """The source without comments, docstrings and blank lines; the same on every Python version."""
    lines = [line.removesuffix("\n") for line in io.StringIO(source)]
    in_string: set[int] = set()  # lines that a string runs on into: there, blanks are content
    starts: list[int] = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        kind = tokenize.tok_name[token.type]
        if kind == "COMMENT":
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column]
        elif kind == "FSTRING_START":  # Python 3.12 on; before, an f-string is a STRING
            starts.append(token.start[0])
        elif kind in ("STRING", "FSTRING_END"):
            start = starts.pop() if kind == "FSTRING_END" else token.start[0]
            in_string |= set(range(start, token.end[0]))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            if not isinstance(node.value.value, str) or node.end_lineno is None:
                continue
            first, last = lines[node.lineno - 1].encode(), lines[node.end_lineno - 1].encode()
            lines[node.end_lineno - 1] = last[node.end_col_offset :].decode()
            for row in range(node.lineno, node.end_lineno):
                lines[row - 1] = ""
            in_string -= set(range(node.lineno - 1, node.end_lineno))
            lines[node.lineno - 1] = first[: node.col_offset].decode() + lines[node.lineno - 1]
    kept = ((row, line) for row, line in enumerate(lines) if line.strip() or row in in_string)
    return "\n".join(line if row + 1 in in_string else line.rstrip() for row, line in kept)


def git_state() -> dict[str, Any]:
    """Commit of the checkout this code runs from, and whether files differ from it; None outside git."""

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", *arguments], cwd=PROJECT, capture_output=True, text=True, timeout=20
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    status = git("status", "--porcelain")
    return {"git_commit": git("rev-parse", "HEAD"), "git_dirty": None if status is None else bool(status)}


def machine() -> dict[str, Any]:
    """The processor and the packages of this process."""
    return {
        "cpu": cpu_name(),
        "cpu_count": os.cpu_count(),  # of the machine: a trial may be pinned to a part of them
        "platform": platform.platform(),
        "python_version": platform.python_version(),
        **{f"{name}_version": version(name) for name in PACKAGES},
    }


def hardware(device: str) -> str:
    """What a trial on ``device`` runs on, without asking torch: for trials that could not say it."""
    if device.startswith("cuda"):
        drivers = sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
        texts = [line for file in drivers for line in file.read_text(encoding="utf-8").splitlines()]
        models = [line.split(":", 1)[1].strip() for line in texts if line.startswith("Model:")]
        index = int(device.partition(":")[2] or 0)
        return models[index] if index < len(models) else "unknown GPU"
    host = machine()
    return f"{host['cpu']}, {host['cpu_count']} cores"


def cpu_name() -> str:
    """Model name of the processor, as the operating system tells it."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def now() -> str:
    """The time, UTC, ISO 8601 to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
