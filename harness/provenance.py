"""Where a number came from: code, packages, machine."""

from __future__ import annotations

import ast
import functools
import hashlib
import io
import os
import platform
import re
import stat
import subprocess
import sys
import tokenize
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent
GIT_SECONDS = 20
"""Longest wait for git, or for the driver's own tool"""
HASHED_FILE_BYTES = 2**20
"""A changed file that is larger counts by name and size"""
HASHED_BYTES = 64 * 2**20
"""So many bytes of changed files are read at most"""

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
    "model/convolution.py",
    "model/decoder.py",
    "model/losses.py",
    "model/mask_head.py",
    "model/minimal_convolution.py",
    "model/mask_losses.py",
    "model/matching.py",
    "model/positions.py",
    "model/weight_names.py",
    "harness/data/clips.py",
    "harness/data/coco.py",
    "harness/data/frame_cache.py",
    "harness/data/layouts.py",
    "harness/data/polygons.py",
    "harness/data/rle.py",
    "harness/data/ytvis.py",
    "harness/distributed.py",
    "harness/train.py",
)
# What an AP or a FPS depends on besides the weights.
EVALUATION_CODE = (
    "model/fixed_convolution.py",
    "model/inference.py",
    "model/ready.py",
    "model/shared_spatial_decoder.py",
    "model/side_by_side.py",
    "model/tracking.py",
    "harness/data/benchmarks.py",
    "harness/data/splits.py",
    "harness/benchmark_json.py",
    "harness/clocks.py",
    "harness/encoded_tracks.py",
    "harness/evaluation.py",
    "harness/activation_memory.py",
    "harness/flops.py",
    "harness/image_evaluation.py",
    "harness/memory.py",
    "harness/memory_budget.py",
    "harness/model_speed.py",
    "harness/speed.py",
    "harness/allocator.py",
    "harness/stages.py",
    "harness/record_file.py",
    "harness/trial.py",
)
# What is worked out of a cell's results.json, over and above the code of its evaluation. Each record of such
# scores has the version in it: other code works them out anew, and no cell is evaluated again for it.
SCORE_CODE = {
    "situations": (
        "harness/result_scores.py",
        "harness/situations/__init__.py",
        "harness/situations/colours.py",
        "harness/situations/cuts.py",
        "harness/situations/occlusion.py",
        "harness/situations/outcomes.py",
        "harness/situations/paths.py",
        "harness/situations/scores.py",
        "harness/situations/sharpness.py",
        "harness/situations/tags.py",
        "harness/situations/terciles.py",
    ),
    "errors": ("harness/result_scores.py", "harness/track_errors.py"),
}
ROUNDING_VARIABLES = ("CUBLAS_WORKSPACE_CONFIG", "ONEDNN_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS")
"""Variables of the environment that choose how sums are computed"""
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


def code_versions() -> tuple[str, str]:
    """Versions of the code that trainings and evaluations depend on."""
    return code_version(TRAINING_CODE), code_version(EVALUATION_CODE)


def score_versions() -> dict[str, str]:
    """Versions of the code that scores of :data:`SCORE_CODE` depend on, by measure."""
    return {name: code_version(files) for name, files in SCORE_CODE.items()}


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
    """Commit of the checkout this code runs from, and what differs from it; None outside git.

    ``git_diff_hash`` stands for the differences: the same commit and the same hash are the same files. It
    covers changed, staged and new files that are not ignored; None where nothing differs.
    """
    places = (_git("rev-parse", "--show-toplevel", "HEAD") or "").splitlines()
    status = _git("status", "--porcelain", "-z", "--untracked-files=all", "--no-renames") if places else None
    if status is None or len(places) != 2:
        return {
            "git_commit": places[1] if len(places) == 2 else None,
            "git_dirty": None,
            "git_diff_hash": None,
        }
    changed = sorted(entry[3:] for entry in status.split("\0") if entry)
    return {
        "git_commit": places[1],
        "git_dirty": bool(changed),
        "git_diff_hash": _files_hash(Path(places[0]), changed) if changed else None,
    }


def _git(*arguments: str) -> str | None:
    """What git prints, here; None where it fails or takes too long."""
    # Processes that start together must not wait for each other's lock on the index.
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=PROJECT, env=environment, capture_output=True, timeout=GIT_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return os.fsdecode(done.stdout).removesuffix("\n") if done.returncode == 0 else None


def _files_hash(root: Path, names: list[str]) -> str:
    """A hash of these files' names, modes and bytes; of large files, or past a bound, sizes."""
    digest = hashlib.sha256()
    left = HASHED_BYTES
    for name in names:
        path = root / name
        digest.update(os.fsencode(name) + b"\0")
        try:
            found = path.lstat()
            if stat.S_ISLNK(found.st_mode):
                content = os.fsencode(path.readlink())
            elif stat.S_ISREG(found.st_mode) and found.st_size <= min(left, HASHED_FILE_BYTES):
                content = path.read_bytes()
                left -= len(content)
            else:
                content = f"{found.st_size} bytes".encode()
        except OSError:  # removed, or not ours to read
            digest.update(b"absent\0")
            continue
        digest.update(f"{found.st_mode & 0o170111:o} {len(content)} ".encode() + content)
    return digest.hexdigest()[:16]


def machine() -> dict[str, Any]:
    """The processor and the packages of this process."""
    return {
        "host": platform.node(),
        "cpu": cpu_name(),
        "cpu_count": os.cpu_count(),  # of the machine: a trial may be pinned to a part of them
        "platform": platform.platform(),
        "python_version": platform.python_version(),
        **{f"{name}_version": version(name) for name in PACKAGES},
    }


def packages() -> dict[str, str]:
    """Version of every installed distribution, by name, as the folders of their metadata are called."""
    found: dict[str, str] = {}
    for place in sys.path:
        folder = Path(place or ".")
        for path in folder.glob("*.dist-info") if folder.is_dir() else ():
            name, _, told = path.stem.partition("-")
            # The first on the path is the one that is imported.
            found.setdefault(name.lower().replace("_", "-"), told)
    return dict(sorted(found.items()))


def gpu_driver() -> str | None:
    """Version of the NVIDIA driver, without asking torch; None where there is none."""
    try:
        return driver_of(Path("/proc/driver/nvidia/version").read_text(encoding="utf-8"))
    except OSError:
        pass
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:  # where the kernel's file is not shown, as in some containers
        done = subprocess.run(query, capture_output=True, text=True, timeout=GIT_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return driver_of(done.stdout) if done.returncode == 0 else None


def driver_of(text: str) -> str | None:
    """The first thing in a driver's own words that looks like its version, such as 550.54.15."""
    found = re.search(r"\b\d{3}\.\d+(\.\d+)?\b", text)
    return found.group() if found else None


def determinism() -> str:
    """How far this process may vary between runs: torch's switches, in one line."""
    import torch  # late: a dry run names code versions only

    switches = {
        "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
        "cudnn.deterministic": torch.backends.cudnn.deterministic,
        "cudnn.benchmark": torch.backends.cudnn.benchmark,
        "matmul.tf32": torch.backends.cuda.matmul.allow_tf32,
        "cudnn.tf32": torch.backends.cudnn.allow_tf32,
    }
    words = [f"{name}={'on' if switch else 'off'}" for name, switch in switches.items()]
    words.append(f"float32_matmul_precision={torch.get_float32_matmul_precision()}")
    words.append(f"cpu_capability={torch.backends.cpu.get_cpu_capability()}")
    words += [f"{name}={os.environ[name]}" for name in ROUNDING_VARIABLES if name in os.environ]
    return " ".join(words)


def device_hours(seconds: float, processes: int) -> float:
    """Hours of a device, each process having one: a GPU, or its share of a CPU."""
    return round(seconds * processes / 3600, 6)


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


VECTORS = (
    ("amx_bf16", "AMX"),
    ("avx512_bf16", "AVX-512 with bf16"),
    ("avx512f", "AVX-512"),
    ("avx2", "AVX2"),
)
"""What a processor computes floats with, widest first: flags of the operating system, and their names. The
width decides how sums are rounded, and so where a training ends; virtual machines tell it and no model."""


def cpu_name(info: Path = Path("/proc/cpuinfo")) -> str:
    """Model of the processor and its vectors as the operating system tells them: ``AMD EPYC 7R13, AVX2``.

    A name without a number, as virtual machines have, gets family and model.
    """
    told: dict[str, str] = {}
    if info.is_file():
        first = info.read_text(encoding="utf-8").partition("\n\n")[0]
        pairs = (line.partition(":") for line in first.splitlines())
        told = {key.strip(): value.strip() for key, _, value in pairs}
    name = told.get("model name") or platform.processor() or platform.machine()
    if not re.search(r"\d", name) and {"cpu family", "model"} <= told.keys():
        name += f" (family {told['cpu family']} model {told['model']})"
    flags = told.get("flags", "").split()
    vectors = next((words for flag, words in VECTORS if flag in flags), None)
    return name if vectors is None else f"{name}, {vectors}"


def seconds_between(earlier: str, later: str) -> float:
    """Seconds from one time as :func:`now` tells it to another."""
    return (datetime.fromisoformat(later) - datetime.fromisoformat(earlier)).total_seconds()


def now() -> str:
    """The time, UTC, ISO 8601 to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
