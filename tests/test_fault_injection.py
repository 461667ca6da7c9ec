"""Processes killed at any moment, many times over: a plain re-run then ends at the undisturbed table."""

from __future__ import annotations

import csv
import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pandas as pd
import pytest

from harness.engine.attempts import attempts_of
from tests.small_road import ENVIRONMENT, METRICS, ROOT, SCALE, SWEEP, Road, make_road

pytestmark = [pytest.mark.slow, pytest.mark.long]

KILLS = int(os.environ.get("IFC_TEST_KILLS", "20"))
SEED = int(os.environ.get("IFC_TEST_KILL_SEED", "1"))
RUNNERS = 2
SLOWER = {"settings": {**SCALE["settings"], "train": {**SCALE["settings"]["train"], "steps": 24}}}
SAME = [*METRICS, "status", "trial", "seed", "config", "train_data", "valid_data", "code_version", "results"]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Road:
    road = make_road(tmp_path_factory.mktemp("undisturbed"), SWEEP, scale=SLOWER)
    done = road.run()
    assert done.returncode == 0, done.stderr
    return road


def losses(road: Road, trial: str) -> list[list[str]]:
    """``losses.csv`` without the seconds."""
    with (road.results / "trials" / trial / "losses.csv").open(newline="") as file:
        return [line[:-2] for line in csv.reader(file)]


def check_same(road: Road, expected: Road) -> None:
    """No row lost, none doubled, every number the undisturbed one, every byte of the predictions."""
    rows, wanted = (each.rows.sort_values("cell").reset_index(drop=True) for each in (road, expected))
    assert len(rows) == rows["cell"].nunique() == len(wanted) == 8
    pd.testing.assert_frame_equal(rows[["cell", *SAME]], wanted[["cell", *SAME]])
    assert rows[["fps", "peak_memory_gb"]].gt(0).all(axis=None)
    for trial in expected.plan().trials:
        assert losses(road, trial.key) == losses(expected, trial.key)
        for cell in trial.cells:
            files = [each.plan().cell_file(trial, cell, "results.json") for each in (road, expected)]
            assert files[0].read_bytes() == files[1].read_bytes()
    assert not list((road.results / "trials").rglob(".*")), "drafts of trials are cleared away"
    assert list((road.results / "runners").iterdir()) == []


def check_little_lost(road: Road) -> None:
    """With a checkpoint after every step, a training goes on behind the last step anybody was told of."""
    for trial in (road.results / "trials").iterdir():
        seen = 0
        for attempt in attempts_of(trial):
            progress = attempt.progress()
            if "first_step" in progress:
                assert progress["first_step"] > seen, (trial.name, attempt.number)
                seen = progress["done"]


def processes_of(road: Road) -> list[int]:
    """Runners and trials alike: every process whose command names a file of the road."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            line = (process / "cmdline").read_bytes()
        except OSError:
            continue
        if str(road.folder).encode() in line:
            found.append(int(process.name))
    return found


def test_killed_over_and_over_by_chance(undisturbed: Road, tmp_path: Path) -> None:
    """Two runners share the work; every few seconds one process, whichever it is, is killed with SIGKILL."""
    chance = random.Random(SEED)
    road = make_road(tmp_path / "road", SWEEP, scale=SLOWER)
    runners: list[subprocess.Popen[str]] = []
    kills, victims = 0, []
    try:
        while kills < KILLS:
            runners = [runner for runner in runners if runner.poll() is None]
            runners += [road.start() for _ in range(RUNNERS - len(runners))]
            time.sleep(chance.uniform(0.2, 3.0))
            alive = processes_of(road)
            if alive:
                victim = chance.choice(alive)
                try:
                    victims.append(Path(f"/proc/{victim}/cmdline").read_bytes().count(b"harness.trial"))
                    os.kill(victim, signal.SIGKILL)
                except OSError:
                    continue  # it ended by itself
                kills += 1
    finally:
        for runner in runners:
            runner.kill()
            runner.wait()
    print(f"{kills} kills: {victims.count(0)} runners, {kills - victims.count(0)} trials")

    done = road.run()
    assert (done.returncode, done.stderr) == (0, "")
    check_same(road, undisturbed)
    check_little_lost(road)


# Loaded by every Python process with this folder on its path: the n-th change of a name kills the process.
CRASH = """
import builtins, os, signal
at, counter = int(os.environ["CRASH_AT"]), os.environ["CRASH_COUNTER"]
watched = os.environ["CRASH_BELOW"]

def crashing(name, real):
    def change(*arguments, **named):
        if any(watched in str(argument) for argument in arguments):
            file = os.open(counter, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            os.write(file, b".")
            count = os.fstat(file).st_size
            os.close(file)
            if count == at:
                os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments, **named)
    setattr(os, name, change)

for name in ("replace", "rename", "unlink", "mkdir", "rmdir"):
    crashing(name, getattr(os, name))
"""


@pytest.mark.parametrize("at", [int(part) for part in os.environ.get("IFC_TEST_CRASHES", "31").split(",")])
def test_killed_between_two_writes(undisturbed: Road, tmp_path: Path, at: int) -> None:
    """The n-th time any process is about to rename, make or remove a file, it dies."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(CRASH)
    road = make_road(tmp_path / "road", SWEEP, scale=SLOWER)
    (road.results / "datasets").mkdir(parents=True)
    for folder in (undisturbed.results / "datasets").iterdir():  # the generator has tests of its own
        (road.results / "datasets" / folder.name).symlink_to(folder)
    counter = tmp_path / "count"
    crash = {"CRASH_AT": str(at), "CRASH_COUNTER": str(counter), "CRASH_BELOW": str(road.results)}
    environment = {**ENVIRONMENT, **crash, "PYTHONPATH": str(site)}
    command = [*road.command(), "--workers", "2"]
    subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert counter.stat().st_size >= at, "nobody was killed"
    done = road.run()
    assert (done.returncode, done.stderr) == (0, "")
    check_same(road, undisturbed)


def test_interrupted_politely_a_training_saves_where_it_is(tmp_path: Path) -> None:
    """Ctrl-C: exit 130, and the next run goes on behind the very last step."""
    train = {**SCALE["settings"]["train"], "steps": 400, "checkpoint_every": 399}
    sweep = {**SWEEP, "seeds": 1, "measure": ["ap"], "table": {**SWEEP["table"], "cells": ["AP"]}}
    road = make_road(tmp_path / "road", sweep, scale={"settings": {**SCALE["settings"], "train": train}})
    runner = road.start()
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        told = [
            json.loads(file.read_text()) for file in road.results.glob("trials/*/attempts/0001/progress.json")
        ]
        if any(progress.get("done", 0) > 3 for progress in told):
            break
        time.sleep(0.05)
    runner.send_signal(signal.SIGINT)
    assert runner.wait(60) == 130
    assert "run the same command to go on" in (road.folder / "started.log").read_text()
    checkpoints = list(road.results.glob("trials/*/checkpoint.pt"))
    assert checkpoints
    for checkpoint in checkpoints:
        [attempt] = attempts_of(checkpoint.parent)
        outcome = attempt.outcome()
        assert outcome is not None
        assert outcome["state"] == "interrupted"
