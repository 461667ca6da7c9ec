"""Sweeps as Slurm jobs on a real cluster of one node: submitted, left, found again, preempted, refused."""

from __future__ import annotations

import csv
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.config import SyntheticConfig
from harness.data.synthetic import write_dataset
from harness.engine.attempts import attempts_of
from harness.engine.slurm.queue import submissions
from tests.small_road import (
    ENVIRONMENT,
    IFC_ONLY,
    METRICS,
    ROOT,
    SCALE,
    SWEEP,
    VIDEOS,
    Done,
    Road,
    check_refused,
    make_road,
    wait_for,
)
from tests.small_slurm import SmallSlurm, small_slurm, why_not

pytestmark = [
    pytest.mark.slow,
    pytest.mark.long,
    pytest.mark.skipif(bool(why_not()), reason=f"no Slurm: {why_not()}"),
]
STEPS = 80
"""Long enough to be hit on a fast machine"""
LONGER = {"settings": {**SCALE["settings"], "train": {**SCALE["settings"]["train"], "steps": STEPS}}}
TIMED = {
    **IFC_ONLY,
    "measure": ["ap", "speed"],
    "table": {**SWEEP["table"], "cells": ["AP", "fps"]},
    "seeds": 2,
}
ON_SLURM = ("--executor", "slurm", "--resources", "time=30,cpus_per_task=1,exclusive=time")
"""Within ten minutes of its limit a job that is sent away counts as timed out"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[SmallSlurm]:
    with small_slurm() as running:
        yield running


def run(road: Road, cluster: SmallSlurm, *options: str) -> Done:
    environment = {**ENVIRONMENT, **cluster.environment}
    return subprocess.run(
        road.command(*options), cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300
    )


def start(road: Road, cluster: SmallSlurm, log: Path) -> subprocess.Popen[str]:
    with log.open("w") as output:
        return subprocess.Popen(
            road.command(*ON_SLURM),
            cwd=ROOT,
            env={**ENVIRONMENT, **cluster.environment},
            stdout=output,
            stderr=output,
            text=True,
        )


@dataclass(frozen=True)
class Disturbed:
    """A sweep whose command was left and started again, and whose jobs were preempted in mid-training."""

    road: Road
    undisturbed: Road
    left: tuple[int, str]
    """Exit status and output of the command that was interrupted"""
    second: tuple[int, str]


@pytest.fixture(scope="module")
def disturbed(cluster: SmallSlurm, tmp_path_factory: pytest.TempPathFactory) -> Disturbed:
    folder = tmp_path_factory.mktemp("slurm")
    undisturbed = make_road(folder / "local", TIMED, scale=LONGER)
    assert undisturbed.run().returncode == 0
    road = make_road(folder / "disturbed", TIMED, scale=LONGER)

    everything = ("sbatch", "--parsable", "--partition=high", "--ntasks=2", "--output=/dev/null")
    blocker = cluster.call(*everything, "--wrap=sleep 600").strip()
    log = folder / "first.log"
    first = start(road, cluster, log)
    try:
        wait_for(lambda: first.poll() is not None or log.read_text().count("jobs submitted") == 2, "jobs")
        first.send_signal(signal.SIGINT)
        left = (first.wait(60), log.read_text())
    finally:
        first.kill()
        first.wait()

    second_log = folder / "second.log"
    second = start(road, cluster, second_log)
    try:
        wait_for(
            lambda: second.poll() is not None or second_log.read_text().count("attached") == 2, "the second"
        )
        cluster.call("scancel", blocker)
        trials = [road.plan().trial_folder(trial) for trial in road.plan().trials]
        held = [trial / "checkpoint.pt" for trial in trials]
        wait_for(lambda: second.poll() is not None or all(file.is_file() for file in held), "a step")
        cluster.call(*everything, "--wrap=true")
        wait_for(
            lambda: second.poll() is not None or all(attempts_of(trial)[0].outcome() for trial in trials),
            "the preemption",
        )
        arrays = [submission.array for submission in submissions(road.plan().rows / "_slurm")]
        wait_for(lambda: second.poll() is not None or is_back(cluster, arrays[0]), "the requeue")
        cluster.call("scontrol", "update", f"JobId={arrays[0]}", "StartTime=now")  # else it waits for seconds
        status = second.wait(200)
    finally:
        second.kill()
        second.wait()
    return Disturbed(road, undisturbed, left, (status, second_log.read_text()))


def is_back(cluster: SmallSlurm, array: str) -> bool:
    """Whether both jobs of an array wait in the queue."""
    states = cluster.call("squeue", "--noheader", "--array", f"--jobs={array}", "--format=%T").split()
    return states == ["PENDING", "PENDING"]


def losses(road: Road) -> dict[str, list[dict[str, str]]]:
    found = {}
    for trial in road.plan().trials:
        with (road.plan().trial_folder(trial) / "losses.csv").open() as file:
            found[trial.key] = list(csv.DictReader(file))
    return found


def test_a_command_that_is_left_says_that_its_jobs_go_on(disturbed: Disturbed) -> None:
    status, output = disturbed.left
    assert status == 130, output
    assert "the jobs go on" in output
    arrays = [submission.array for submission in submissions(disturbed.road.plan().rows / "_slurm")]
    assert "scancel " + " ".join(arrays[:2]) in output


def test_the_same_command_attaches_and_submits_nothing_twice(disturbed: Disturbed) -> None:
    status, output = disturbed.second
    assert status == 0, output
    assert "submitted" not in output.partition(": train")[0]
    made = submissions(disturbed.road.plan().rows / "_slurm")
    assert [submission.stages for submission in made[:2]] == [("train_evaluate",), ("time",)]
    assert ["exclusive" in submission.parameters for submission in made[:2]] == [False, True]
    assert all(f"attached to 2 jobs of {submission.array}" in output for submission in made[:2])
    keys = {trial.key for trial in disturbed.road.plan().trials}
    assert all(set(submission.jobs.values()) == keys for submission in made[:2])


def test_a_preempted_training_goes_on_from_its_checkpoint(disturbed: Disturbed) -> None:
    for trial in disturbed.road.plan().trials:
        attempts = attempts_of(disturbed.road.plan().trial_folder(trial))
        ended = [(a.owner()["stage"], (a.outcome() or {}).get("state")) for a in attempts]
        assert ended == [("train_evaluate", "interrupted"), ("train_evaluate", "done"), ("time", "done")]
        assert {attempt.owner()["executor"] for attempt in attempts} == {"slurm"}
        assert 1 < attempts[1].progress()["first_step"] <= STEPS


def test_the_rows_are_those_of_an_undisturbed_local_run(disturbed: Disturbed) -> None:
    for key, rows in losses(disturbed.undisturbed).items():
        found = losses(disturbed.road)[key]
        assert len(found) == STEPS
        assert [list(row.values())[:-2] for row in found] == [list(row.values())[:-2] for row in rows]
    keyed = [road.rows.set_index("cell").sort_index() for road in (disturbed.road, disturbed.undisturbed)]
    assert list(keyed[0].index) == list(keyed[1].index)
    assert keyed[0][METRICS].equals(keyed[1][METRICS])
    assert keyed[0]["fps"].gt(0).all()
    assert set(keyed[0]["executor"]) == {"slurm"}


def test_logs_lie_beside_the_rows(disturbed: Disturbed) -> None:
    folder = disturbed.road.plan().rows / "_slurm"
    made = submissions(folder)
    jobs = [job for submission in made for job in submission.jobs]
    assert sorted(file.name for file in folder.glob("*.out")) == sorted(f"{job}.out" for job in jobs)
    texts = [(folder / f"{job}.out").read_text() for job in made[0].jobs]
    assert all("this job is preempted" in text for text in texts)
    # Both went on: requeued, and their output appended to; or, where Slurm lost them on their way back,
    # submitted again under another number.
    trained = [submission for submission in made if "train_evaluate" in submission.stages]
    outputs = [(folder / f"{job}.out").read_text() for each in trained for job in each.jobs]
    assert sum(text.count("Starting with JobEnvironment") for text in outputs) >= 2 * len(texts)


def test_a_finished_sweep_asks_slurm_for_nothing(disturbed: Disturbed, cluster: SmallSlurm) -> None:
    before = disturbed.road.files()
    done = run(disturbed.road, cluster, *ON_SLURM)
    assert done.returncode == 0
    assert "slurm:" not in done.stdout
    assert disturbed.road.files() == before


def test_input_that_has_to_be_mended_ends_the_sweep(cluster: SmallSlurm, tmp_path: Path) -> None:
    data = tmp_path / "videos"
    write_dataset(SyntheticConfig.model_validate(VIDEOS), data)
    for frame in (data / "train" / "JPEGImages").glob("*/*.jpg"):
        frame.write_bytes(frame.read_bytes()[:200])
    road = make_road(tmp_path / "road", {**IFC_ONLY, "seeds": 1}, "--data", str(data))
    check_refused(run(road, cluster, *ON_SLURM), ".jpg: cannot be decoded (")
    assert not list(road.plan().rows.glob("*.parquet"))


def test_what_slurm_refuses_is_one_line(cluster: SmallSlurm, tmp_path: Path) -> None:
    road = make_road(tmp_path, IFC_ONLY)
    done = run(road, cluster, "--executor", "slurm", "--resources", "partition=nowhere")
    check_refused(done, "--resources: ", "invalid partition")
    assert cluster.jobs() == []
