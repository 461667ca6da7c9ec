"""One process of a benchmark: it makes a model ready, then runs a pass whenever it is told to.

``python -m harness.bench.worker JOB.json``. A line on standard input is a command, a json object on standard
output its answer; while none comes the process does nothing, so that another one can be timed.

Commands::

    pass REGION    all videos once: seconds of each
    outputs FILE   results of the first video, for comparison
"""

from __future__ import annotations

import json
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch

from harness.allocator import freed_memory_kept
from harness.bench.job import BenchJob
from harness.bench.regions import Regions, runner_of
from harness.clocks import Load, gpu_clocks
from harness.data.ytvis import load_dataset
from harness.memory import is_out_of_memory, peak_memory, reset_peak_memory
from harness.speed import synchronize
from harness.stages import conditions
from model import build_model
from model.checkpoint import load_weights
from model.errors import InputError
from model.published.tracker import TooManyInstancesError


def main(arguments: list[str]) -> int:
    """Exit status: 0, or 1 after an answer with ``error``."""
    job = BenchJob.model_validate_json(Path(arguments[0]).read_bytes())
    if job.threads is not None:
        torch.set_num_threads(job.threads)
    if job.precision == "float32":
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    try:
        with freed_memory_kept() if job.keeps_memory else nullcontext():
            regions = _prepared(job)
            answer({"label": job.label, **conditions(regions.device)})
            for line in sys.stdin:
                command, _, argument = line.strip().partition(" ")
                answer(one_pass(regions, argument) if command == "pass" else outputs(regions, Path(argument)))
    except (InputError, TooManyInstancesError) as error:
        answer({"error": str(error), "kind": "input"})
        return 1
    except Exception as error:  # the boundary of the process: the one that asked must hear of it
        if not is_out_of_memory(error):
            raise
        answer({"error": f"{type(error).__name__}: {' '.join(str(error).split())}"[:300], "kind": "oom"})
        return 1
    return 0


def _prepared(job: BenchJob) -> Regions:
    model = build_model(job.model)
    load_weights(model, job.weights)
    model = model.to(job.device).eval()
    dataset = load_dataset(job.data, job.split)
    if len(dataset.categories) != job.model.num_classes:
        raise InputError(
            f"{dataset.annotation_file}: {len(dataset.categories)} categories, but {job.weights} has "
            f"{job.model.num_classes} classes"
        )
    videos = [video for video in dataset.videos if video.length][: job.videos]
    if not videos:
        raise InputError(f"{dataset.annotation_file}: no video has a frame: nothing to time")
    return Regions(runner_of(model, job), dataset, videos, job)


def one_pass(regions: Regions, region: str) -> dict[str, Any]:
    """All videos once, in order: seconds of each, and what the machine did meanwhile."""
    device, seconds = regions.device, []
    clocks = gpu_clocks(device)
    reset_peak_memory(device)
    load = Load()
    for place in range(len(regions.videos)):
        synchronize(device)
        begun = time.perf_counter()
        regions.run(region, place)
        synchronize(device)
        seconds.append(time.perf_counter() - begun)
    others = load.of_others()
    peak, kind = peak_memory(device)
    return {
        "seconds": seconds,
        "frames": regions.lengths(region),
        "peak_memory_gb": peak,
        "peak_memory_kind": kind,
        "others_cpu_share": others,
        "clocks": [clocks, gpu_clocks(device)],
    }


def outputs(regions: Regions, path: Path) -> dict[str, Any]:
    """Scores, labels and masks of the first video's results, as a file of arrays."""
    found = regions.results(0)
    masks = found.masks[found.tracks].numpy()
    np.savez(
        path,
        scores=found.scores.numpy(),
        labels=found.labels.numpy(),
        shape=np.array(masks.shape),
        masks=np.packbits(masks),
    )
    return {"results": len(found.scores), "tracks": len(set(found.tracks.tolist()))}


def answer(said: dict[str, Any]) -> None:
    """One line for the process that asked."""
    sys.stdout.write(json.dumps(said) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
