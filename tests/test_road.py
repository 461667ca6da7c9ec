"""The whole road in real processes: train, evaluate, time, rows, report; interrupted, repeated, contested."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from harness.engine.attempts import attempts_of
from harness.evaluation import evaluate
from harness.provenance import PACKAGES
from tests.small_road import IFC_ONLY, METRICS, STEPS, SWEEP, Done, Road, make_road, wait_for

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Undisturbed:
    """The one full run that the tests here share."""

    road: Road
    status: int
    output: str
    second: Done
    """Another runner, started on the same results while the first was at work."""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    road = make_road(tmp_path_factory.mktemp("undisturbed"), SWEEP)
    first = road.start()
    try:
        wait_for(lambda: (road.results / "trials").is_dir() or first.poll() is not None, "the first runner")
        second = road.run()
        status = first.wait(300)
    finally:
        first.kill()
        first.wait()
    return Undisturbed(road, status, (road.folder / "started.log").read_text(), second)


def test_every_cell_has_its_row(undisturbed: Undisturbed) -> None:
    assert undisturbed.status == 0, undisturbed.output
    rows = undisturbed.road.rows
    assert len(rows) == 8
    assert sorted(zip(rows["model.encoder"], rows["seed"], rows["inference.window"], strict=True)) == [
        (encoder, seed, window) for encoder in ("ifc", "no_comm") for seed in (0, 1) for window in (3, 5)
    ]
    assert set(rows["status"]) == {"done"}
    assert rows["error"].isna().all()
    assert rows["trial"].nunique() == 4
    assert rows["cell"].nunique() == 8
    assert rows[METRICS].ge(0).all(axis=None)
    assert rows[METRICS].le(100).all(axis=None)
    assert rows[["fps", "peak_memory_gb"]].gt(0).all(axis=None)
    assert set(rows["sweep"]) == {"micro"}


def test_every_row_says_where_it_comes_from(undisturbed: Undisturbed) -> None:
    rows = undisturbed.road.rows
    versions = [f"{name}_version" for name in (*PACKAGES, "python")]
    told = [
        "code_version",
        "hardware",
        "cpu",
        "platform",
        "threads",
        "finished",
        "train_seconds",
        "data_name",
    ]
    for column in (*versions, *told, "config", "train_data", "valid_data", "train_started", "train_hardware"):
        assert rows[column].notna().all(), column
    assert set(rows["torch_version"]) == {torch.__version__}
    assert rows[["git_commit", "git_dirty", "cuda_version"]].shape == (8, 3), "columns, whatever they hold"
    for _, row in rows.iterrows():
        config = json.loads(row["config"])
        assert config["model"]["encoder"] == row["model.encoder"]
        assert config["inference"]["window"] == row["inference.window"]
        assert config["data"]["synthetic"]["train_videos"] == 6


def test_each_variant_and_seed_is_trained_once(undisturbed: Undisturbed) -> None:
    assert len(list((undisturbed.road.results / "trials").iterdir())) == 4
    assert len(list((undisturbed.road.results / "trials").glob("*/weights.safetensors"))) == 4
    assert (undisturbed.output + undisturbed.second.stdout).count(": train\n") == 4
    assert list(undisturbed.road.results.rglob("checkpoint.pt")) == []
    assert list(undisturbed.road.results.rglob(".*.json.*")) == []


def test_report(undisturbed: Undisturbed) -> None:
    report = undisturbed.road.plan().report
    names = {path.name for path in report.iterdir()}
    assert {"micro.tex", "micro.md", "micro_std.tex", "report.md", "micro_AP.pdf", "micro_AP.png"} <= names
    text, rows = (report / "micro.tex").read_text(), undisturbed.road.rows
    for place, cell in rows.groupby(["model.encoder", "inference.window"]):
        assert f"{cell['AP'].mean():.1f}" in text, place
        assert f"{cell['fps'].mean():.1f}" in text, place
    assert "No Comm" in text


def test_results_score_as_the_row_says(undisturbed: Undisturbed) -> None:
    plan = undisturbed.road.plan()
    truth = plan.source.root(undisturbed.road.results / "datasets") / "valid.json"
    rows = undisturbed.road.rows.set_index("cell")
    for trial in plan.trials:
        for cell in trial.cells:
            scored = evaluate(truth, plan.cell_file(trial, cell, "results.json"))
            for metric in METRICS:
                assert rows.loc[cell.key, metric] == pytest.approx(100 * scored[metric], abs=1e-9)
    assert rows["AR10"].max() > 0, "a table of zeros compares nothing"


def test_two_runners_share_the_work(undisturbed: Undisturbed) -> None:
    """Neither trial nor evaluation twice; both wait for the other's part and end with the whole table."""
    assert undisturbed.second.returncode == 0, undisturbed.second.stderr
    assert "No Comm" in undisturbed.second.stdout
    trials = undisturbed.road.results / "trials"
    attempts = [attempt for trial in trials.iterdir() for attempt in attempts_of(trial)]
    stages = Counter((attempt.folder.parents[1].name, attempt.owner()["stage"]) for attempt in attempts)
    assert len(stages) == 8
    assert set(stages.values()) == {1}
    assert {attempt.outcome()["state"] for attempt in attempts if attempt.outcome()} == {"done"}
    assert len({attempt.owner()["runner"] for attempt in attempts}) == 2, "both have worked"
    assert list((undisturbed.road.results / "runners").iterdir()) == []


def test_the_same_command_again_does_nothing(undisturbed: Undisturbed) -> None:
    road = undisturbed.road
    before = road.files()
    tables = {path: path.read_bytes() for path in road.plan().report.iterdir() if path.suffix != ".pdf"}
    done = road.run()
    assert (done.returncode, done.stderr) == (0, "")
    assert road.files() == before
    assert ": train" not in done.stdout
    assert all(path.read_bytes() == content for path, content in tables.items())


def test_another_sweep_takes_the_trainings_it_finds(undisturbed: Undisturbed, tmp_path: Path) -> None:
    """One process at most would be needed for timing; the trainings and evaluations are there."""
    road = make_road(tmp_path, IFC_ONLY)
    shutil.copytree(undisturbed.road.results / "trials", road.results / "trials")
    before = road.files()
    done = road.run()
    assert done.returncode == 0, done.stderr
    assert ": train" not in done.stdout
    assert {name: time for name, time in road.files().items() if name in before} == before
    assert len(road.rows) == 4


def losses(road: Road, trial: str) -> list[list[str]]:
    """``losses.csv`` without the seconds."""
    with (road.results / "trials" / trial / "losses.csv").open(newline="") as file:
        return [line[:-2] for line in csv.reader(file)]


def test_killed_and_run_again_ends_at_the_same_numbers(undisturbed: Undisturbed, tmp_path: Path) -> None:
    road = make_road(tmp_path, IFC_ONLY)
    engine = road.start()
    try:
        keys = [trial.key for trial in road.plan().trials]
        checkpoints = [road.results / "trials" / key / "checkpoint.pt" for key in keys]
        wait_for(lambda: any(file.is_file() for file in checkpoints), "a checkpoint")
        os.killpg(engine.pid, signal.SIGKILL)
        engine.wait(20)
        wait_for(lambda: road.children() == [], "the children end with their engine")
    finally:
        engine.kill()
        engine.wait()
    assert any(file.is_file() for file in checkpoints), "killed in the middle of a training"
    assert not all((file.parent / "trial.json").exists() for file in checkpoints)

    done = road.run()
    assert done.returncode == 0, done.stderr
    rows, expected = road.rows, undisturbed.road.rows
    assert len(rows) == rows["cell"].nunique() == 4
    both = rows.merge(expected, on=["cell", "trial", "seed", "inference.window"], suffixes=("", "_expected"))
    assert len(both) == 4
    for metric in METRICS:
        assert both[metric].tolist() == both[f"{metric}_expected"].tolist()
    # Steps are counted once, in whichever process they ran; the cost is that of all attempts.
    assert (rows["train_seconds"] > 0).all()
    assert (rows["device_hours"] * 3600 > rows["train_seconds"]).all()
    for key in keys:
        told = json.loads((road.results / "trials" / key / "trial.json").read_text())
        with (road.results / "trials" / key / "losses.csv").open(newline="") as file:
            assert told["train_seconds"] == pytest.approx(
                sum(float(line["seconds"]) for line in csv.DictReader(file)), abs=0.001
            )
        assert len(losses(road, key)) == STEPS + 1
        assert losses(road, key) == losses(undisturbed.road, key)
