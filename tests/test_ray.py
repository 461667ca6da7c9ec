"""Sweeps on a real Ray cluster of two nodes: refused input, Ctrl-C, and a node that dies in the middle."""

from __future__ import annotations

import csv
import importlib.util
import json
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from rich.console import Console

from harness.engine.attempts import claim
from harness.engine.executors.ray import Round, Submit, make
from harness.engine.ledger import Ledger
from harness.engine.plan import Options
from harness.engine.progress import Lines, WorkLeft
from harness.engine.ray.resources import Resources, read_resources
from harness.engine.runners import Observer, RunnerId
from harness.engine.work import Work
from model.errors import InputError
from tests.ray_cluster import AP_ONLY, STEPS, attempts, make_comparable_road
from tests.small_road import ENVIRONMENT, METRICS, ROOT, Road, make_road

HAS_RAY = importlib.util.find_spec("ray") is not None
OF_THEIR_OWN = ["unshare", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
"""Network and processes: nothing listens beyond the test, nothing outlives it"""

COUNT: dict[str, Any] = {
    "name": "counted",
    "title": "Counted only",
    "axes": {"model.encoder": ["ifc"], "inference.window": [3]},
    "measure": ["flops"],
    "table": {"rows": "model.encoder", "columns": "inference.window", "cells": ["flops_g"]},
}


def why_not() -> str | None:
    """What is missing for a cluster of this test's own."""
    if not HAS_RAY:
        return "ray is not installed (pip install -e '.[ray]')"
    for program, package in (("unshare", "util-linux"), ("ip", "iproute2")):
        if shutil.which(program) is None:
            return f"no {program} (Debian: {package})"
    tried = subprocess.run([*OF_THEIR_OWN, "ip", "link", "set", "lo", "up"], capture_output=True, text=True)
    return f"no network of its own: {tried.stderr.strip()} (needs root)" if tried.returncode else None


@dataclass(frozen=True)
class OnCluster:
    """What happened on the cluster, and the same sweep run on this machine without disturbance."""

    road: Road
    record: dict[str, Any]
    undisturbed: Road


@pytest.fixture(scope="module")
def on_cluster(tmp_path_factory: pytest.TempPathFactory) -> OnCluster:
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("ray")
    script = 'ip link set lo up && exec "$0" -m tests.ray_cluster "$1"'
    done = subprocess.run(
        [*OF_THEIR_OWN, "sh", "-c", script, sys.executable, str(folder)],
        cwd=ROOT,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=500,
    )
    record = json.loads(done.stdout.splitlines()[-1])
    assert "finished" in record, (record, done.stderr[-3000:])
    undisturbed = make_comparable_road(folder / "undisturbed", AP_ONLY)
    local = undisturbed.run()
    assert local.returncode == 0, local.stderr
    return OnCluster(make_comparable_road(folder / "ray"), record, undisturbed)


def said(told: dict[str, Any]) -> list[str]:
    """Lines on standard error, but for a remark of Ray's on a machine without a way out."""
    return [line for line in told["errors"].splitlines() if "network_util.cc" not in line]


@pytest.mark.ray
@pytest.mark.slow
def test_input_that_a_node_refuses_ends_the_sweep_with_its_line(on_cluster: OnCluster) -> None:
    refused = on_cluster.record["refused"]
    assert refused["status"] == 2, refused
    [line] = said(refused)
    assert line.startswith("error: ")
    assert "checkpoint.pt: checkpoint of training ffffffffffff" in line


@pytest.mark.ray
@pytest.mark.slow
def test_ctrl_c_closes_what_runs_on_the_nodes(on_cluster: OnCluster) -> None:
    interrupted = on_cluster.record["interrupted"]
    assert interrupted["status"] == 130, interrupted
    assert interrupted["states"] == ["interrupted", "interrupted"]
    assert said(interrupted) == ["interrupted: run the same command to go on"]
    assert "stopping: trials save a checkpoint" in interrupted["output"]


@pytest.mark.ray
@pytest.mark.slow
def test_a_node_that_dies_costs_nothing_but_time(on_cluster: OnCluster) -> None:
    finished, road = on_cluster.record["finished"], on_cluster.road
    assert finished["status"] == 0, finished
    assert said(finished) == []
    assert "(raylet)" not in finished["output"]
    assert finished["trial_ended_after"] < 10, "a dead node's trial goes on without it"
    rows = road.rows
    assert len(rows) == len(list(road.plan().rows.glob("*.parquet"))) == rows["cell"].nunique() == 4
    assert set(rows["status"]) == {"done"}
    assert set(rows["executor"]) == {"ray"}
    assert rows[["fps", "peak_memory_gb"]].gt(0).all(axis=None)
    by_cell, expected = rows.set_index("cell"), on_cluster.undisturbed.rows.set_index("cell")
    pd.testing.assert_frame_equal(by_cell.loc[expected.index, METRICS], expected[METRICS], check_exact=True)
    assert rows["AR10"].max() > 0, "a table of zeros compares nothing"
    for trial in road.plan().trials:
        assert losses(road, trial.key) == losses(on_cluster.undisturbed, trial.key)
        assert len(losses(road, trial.key)) == STEPS + 1


@pytest.mark.ray
@pytest.mark.slow
def test_the_attempts_tell_of_the_dead_node(on_cluster: OnCluster) -> None:
    """The attempt on it stays without an outcome; one later number does what is left."""
    open_for_ever = [attempt for attempt in attempts(on_cluster.road) if attempt.outcome() is None]
    assert len(open_for_ever) == 1
    [lost] = open_for_ever
    assert lost.owner()["stage"] == "train_evaluate"
    assert 0 < lost.progress()["done"] < STEPS, "in the middle of its training"
    after = [a for a in attempts(on_cluster.road) if a.folder.parent == lost.folder.parent]
    states = [(a.outcome() or {}).get("state") for a in after]
    assert states == [None, "done", "done"], "the dead node, the training, the timing"
    assert after[0].owner()["runner"] != after[1].owner()["runner"]
    assert all(attempt.owner()["executor"] == "ray" for attempt in attempts(on_cluster.road))


def losses(road: Road, trial: str) -> list[list[str]]:
    """``losses.csv`` without the seconds."""
    with (road.results / "trials" / trial / "losses.csv").open() as file:
        return [row[:-2] for row in csv.reader(file)]


def options(folder: Path, **more: Any) -> Options:
    return Options(
        folder / "sweep.yaml", "tiny", folder / "results", folder / "reports", executor="ray", **more
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cpus=4", "--resources: 'cpus': not known to ray; allowed: address, num_cpus, "),
        ("num_cpus=four", "--resources: num_cpus: 'four': allowed: a whole number of processors"),
        ("num_cpus=1.5", "--resources: num_cpus: '1.5': allowed: "),
        ("num_cpus=nan", "--resources: num_cpus: 'nan': allowed: "),
        ("num_gpus=-1", "--resources: num_gpus: '-1': allowed: "),
        ("memory_gb=0", "--resources: memory_gb: '0': allowed: a number above 0"),
        ("num_cpus=1,num_cpus=2", "--resources: num_cpus: given twice"),
        ("num_cpus", "--resources: num_cpus: '': allowed: "),
        ("max_retries=-1", "--resources: max_retries: '-1': allowed: "),
        (
            "address=ray://head:10001",
            "--resources: address: 'ray://head:10001': allowed: auto, local or HOST:",
        ),
        ("", "--resources: '': not known to ray"),
    ],
)
def test_resources_that_mean_nothing(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        make(options(tmp_path, resources=text))
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"device": "cuda:1"}, "--device: 'cuda:1': Ray chooses the GPU"),
        (
            {"device": "cpu", "resources": "num_gpus=1"},
            "--resources: num_gpus: 1: does not go with --device cpu",
        ),
        (
            {"device": "cuda", "resources": "num_gpus=0"},
            "--resources: num_gpus: 0: does not go with --device cu",
        ),
        (
            {"processes": 4, "resources": "num_gpus=1"},
            "--resources: num_gpus: 1: --processes 4 need one each",
        ),
    ],
)
def test_devices_that_do_not_fit(tmp_path: Path, more: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        make(options(tmp_path, **more))
    assert str(caught.value).startswith(message)


def test_resources_as_people_type_them() -> None:
    text = "address=10.0.0.1:6379, num_cpus=4,num_gpus=0.5,memory_gb=32,accelerator_type=A100,max_retries=0"
    assert read_resources(text) == Resources("10.0.0.1:6379", 4, 0.5, 32, "A100", 0)
    assert read_resources(None) == Resources()


def test_a_trial_that_ray_ends_for_want_of_memory_is_a_result(tmp_path: Path) -> None:
    """After its own retries Ray raises; the dead attempt gets its outcome, the cells their rows."""

    class OutOfMemoryError(Exception):
        """Ray's, as far as it is needed."""

    def end(reference: object) -> None:
        raise OutOfMemoryError("1 worker(s) were killed\nMemory on the node was 23 GB")

    errors = SimpleNamespace(RayTaskError=KeyError, OutOfMemoryError=OutOfMemoryError, RayError=Exception)
    ray: Any = SimpleNamespace(exceptions=errors, get=end)
    plan = make_comparable_road(tmp_path, AP_ONLY).plan()
    trial, observer = plan.trials[0], Observer(plan.options.results)
    (plan.options.results / "trials").mkdir(parents=True)
    dead = replace(RunnerId.of_this_process(), pid=2**22 + 1)
    cells = [cell.key for cell in trial.cells]
    attempt = claim(plan.trial_folder(trial), dead, observer, "train_evaluate", cells, "ray")
    assert attempt is not None
    work = Work(Ledger.open(plan, observer), tmp_path, 1, executor="ray")
    submit = Submit(ray, work, ("train_evaluate",), "cpu", "driver", {"CPU": 1}, 0)
    lines = Lines(Console(file=StringIO()), WorkLeft(1, 1, 1))
    Round(plan.options, submit, lines).hear(object(), trial)
    assert set(work.ledger.states(trial, observer).values()) == {"oom"}
    rows = pd.read_parquet(plan.rows)
    assert list(rows["status"]) == ["oom", "oom"]
    assert set(rows["error"]) == {"ended by Ray: 1 worker(s) were killed"}


def test_without_ray_one_line_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"--executor: 'ray': not installed; do so with: pip install"):
        make(options(tmp_path))


@pytest.mark.ray
def test_a_cluster_that_is_not_there(tmp_path: Path) -> None:
    if not HAS_RAY:
        pytest.skip("ray is not installed (pip install -e '.[ray]')")
    road = make_road(tmp_path, COUNT)
    done = road.run("--executor", "ray", "--resources", "address=127.0.0.1:1")
    assert done.returncode == 2, done.stderr
    [line] = done.stderr.splitlines()
    assert line.startswith(
        "error: --resources: address: '127.0.0.1:1': no Ray cluster can be reached there ("
    )
