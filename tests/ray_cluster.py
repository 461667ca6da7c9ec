"""A Ray cluster of two nodes on loopback, and sweeps on it: a script for network and processes of its own.

``unshare --net --pid ... python -m tests.ray_cluster FOLDER`` prints what happened as one line of json.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from harness.engine.attempts import Attempt, attempts_of
from tests.small_road import ENVIRONMENT, IFC_ONLY, ROOT, SCALE, SWEEP, Road, make_road, wait_for

STEPS = 300
TRAIN = {**SCALE["settings"]["train"], "checkpoint_every": 5}
LONGER = {**SCALE["settings"], "train": {**TRAIN, "steps": STEPS}}
ENDLESS = {**SCALE["settings"], "train": {**TRAIN, "steps": 100_000}}
ONE_SEED = {key: value for key, value in SWEEP.items() if key != "std_table"} | {"seeds": 1}
AP_ONLY = {**ONE_SEED, "measure": ["ap"], "table": {**SWEEP["table"], "cells": ["AP"]}}
# A dead node is noticed within seconds; nothing is told to the makers of Ray.
RAY = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_health_check_initial_delay_ms": "0",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "3",
}


def make_comparable_road(folder: Path, sweep: dict[str, Any] = ONE_SEED) -> Road:
    """Two trainings, long enough to be disturbed, each evaluated twice and, but for AP_ONLY, timed twice."""
    return make_road(folder, sweep, scale={"settings": LONGER})


def attempts(road: Road) -> list[Attempt]:
    """All attempts, trial by trial, oldest first."""
    folders = sorted((road.results / "trials").glob("*"))
    return [attempt for folder in folders for attempt in attempts_of(folder)]


def start(road: Road, address: str) -> subprocess.Popen[str]:
    resources = f"address={address},num_cpus=1"
    return subprocess.Popen(
        road.command("--executor", "ray", "--resources", resources),
        cwd=ROOT,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def told(process: subprocess.Popen[str]) -> dict[str, Any]:
    """How a command ended, and what it said."""
    output, errors = process.communicate(timeout=240)
    return {"status": process.returncode, "output": output, "errors": errors}


def wait_for_two_trainings(road: Road, process: subprocess.Popen[str]) -> None:
    def both_train() -> bool:
        running = [attempt for attempt in attempts(road)[-9:] if attempt.outcome() is None]
        running = [
            attempt for attempt in running if attempt.is_last() and attempt.progress().get("done", 0) > 3
        ]
        return len(running) == 2

    wait_for(lambda: both_train() or process.poll() is not None, "two trainings at a time")


def be_refused(folder: Path, address: str) -> dict[str, Any]:
    """A checkpoint of another training: only the node that takes the trial finds out."""
    road = make_road(folder, {**IFC_ONLY, "seeds": 1})
    [trial] = road.plan().trials
    checkpoint = road.plan().trial_folder(trial) / "checkpoint.pt"
    checkpoint.parent.mkdir(parents=True)
    torch.save({"identity": "ffffffffffff", "step": 1}, checkpoint)
    return told(start(road, address))


def be_interrupted(folder: Path, address: str) -> dict[str, Any]:
    """Ctrl-C while two nodes are at work."""
    road = make_road(folder, AP_ONLY, scale={"settings": ENDLESS})
    process = start(road, address)
    wait_for_two_trainings(road, process)
    process.send_signal(signal.SIGINT)
    record = told(process)
    outcomes = [attempt.outcome() for attempt in attempts(road)]
    return {**record, "states": [outcome and outcome["state"] for outcome in outcomes]}


def lose_a_node(road: Road, cluster: Any, node: Any) -> dict[str, Any]:
    """A node is killed while two are at work."""
    process = start(road, cluster.address)
    wait_for_two_trainings(road, process)
    cluster.remove_node(node, allow_graceful=False)
    killed = time.monotonic()
    wait_for(lambda: len(road.children()) < 2, "the end of the trial on the dead node")
    return {"trial_ended_after": time.monotonic() - killed, **told(process)}


def main(folder: Path) -> None:
    places = Path(tempfile.mkdtemp(prefix="r", dir="/tmp"))  # the names of Ray's sockets have to be short
    os.environ.update(RAY, RAY_TMPDIR=str(places))
    from ray.cluster_utils import Cluster

    small = {"num_cpus": 1, "object_store_memory": 100 * 2**20}
    record: dict[str, Any] = {}
    try:
        cluster = Cluster(initialize_head=True, head_node_args={**small, "include_dashboard": False})
        doomed = cluster.add_node(**small)
        record["refused"] = be_refused(folder / "refused", cluster.address)
        record["interrupted"] = be_interrupted(folder / "interrupted", cluster.address)
        record["finished"] = lose_a_node(make_comparable_road(folder / "ray"), cluster, doomed)
    finally:
        print(json.dumps(record))
        sys.stdout.flush()
        shutil.rmtree(places, ignore_errors=True)
        os._exit(0)  # the rest of the cluster ends with this process's namespace


if __name__ == "__main__":
    main(Path(sys.argv[1]))
