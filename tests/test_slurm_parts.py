"""The parts of the Slurm executor that need no cluster: resources, the queue's words, silent deaths."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from harness.engine.attempts import claim
from harness.engine.executors import slurm as executor
from harness.engine.executors.slurm import _Watch, make
from harness.engine.ledger import Ledger
from harness.engine.plan import Options
from harness.engine.progress import WorkLeft, show
from harness.engine.runners import Observer, RunnerId
from harness.engine.slurm.queue import JobState, Submission, read_queue, submissions, summary
from harness.engine.slurm.resources import resources_of
from harness.engine.work import Work
from model.errors import InputError
from tests.small_road import IFC_ONLY, Road, make_road

OPTIONS = Options(Path("sweep.yaml"), "tiny", Path("results"), Path("reports"))


def test_resources_become_what_sbatch_is_asked_for() -> None:
    text = (
        "partition=gpu,long, time=90,mem=64GB,gpus_per_node=2,nodelist=n1,n2,reservation=paper,exclusive=time"
    )
    found = resources_of(replace(OPTIONS, resources=text, processes=2), threads=4)
    timing, training = (found.parameters("ifc", alone) for alone in (True, False))
    assert timing.pop("exclusive") is True
    assert timing == training
    assert training == {
        "job_name": "ifc",
        "nodes": 1,
        "ntasks_per_node": 1,
        "partition": "gpu,long",
        "time": 90,
        "gpus_per_node": 2,
        "nodelist": "n1,n2",
        "cpus_per_task": 8,
        "additional_parameters": {"requeue": True, "mem": "64GB", "reservation": "paper"},
    }


def test_without_resources_a_job_gets_a_day_and_what_its_processes_need() -> None:
    found = resources_of(replace(OPTIONS, device="cuda", processes=4, workers=3), threads=None)
    parameters = found.parameters("ifc", alone=False)
    assert parameters["time"] == 24 * 60
    assert parameters["gpus_per_node"] == 4
    assert parameters["array_parallelism"] == 3
    assert "cpus_per_task" not in parameters


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("partitoin=gpu", "--resources: 'partitoin': unknown to slurm here; allowed: account, "),
        ("gpu", "--resources: 'gpu': expected key=value, such as partition=gpu,time=1440"),
        ("time=60,gpu", "--resources: 'gpu': expected key=value"),
        ("time=1-00:00:00", "--resources: time: '1-00:00:00': expected a whole number of minutes, 1 or more"),
        ("cpus_per_task=0", "--resources: cpus_per_task: '0': expected a whole number, 1 or more"),
        ("mem=lots", "--resources: mem: 'lots': expected an amount such as 64GB or 4000MB"),
        ("exclusive=maybe", "--resources: exclusive: 'maybe': allowed: true (all jobs), time"),
        ("qos=", "--resources: qos: '': expected a value"),
        ("time=1,time=2", "--resources: time: given twice"),
        ("gpus_per_node=1", "--resources: gpus_per_node: 1: --processes 2 needs as many or more"),
    ],
)
def test_resources_that_mean_nothing_are_one_line(text: str, message: str) -> None:
    with pytest.raises(InputError, match="^" + re.escape(message)) as refused:
        resources_of(replace(OPTIONS, resources=text, processes=2), threads=1)
    assert "\n" not in str(refused.value)


def test_a_single_gpu_is_for_slurm_to_choose() -> None:
    with pytest.raises(InputError, match="--device: 'cuda:1': Slurm chooses the GPU"):
        resources_of(replace(OPTIONS, device="cuda:1"), threads=1)


def test_a_machine_without_slurm_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("harness.engine.executors.slurm.find_spec", lambda name: object())
    with pytest.raises(InputError, match=r"^--executor: 'slurm': sbatch, .* not found; run this on a Slurm"):
        make(OPTIONS)
    monkeypatch.setattr("harness.engine.executors.slurm.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"^--executor: 'slurm': needs the package submitit: pip install"):
        make(OPTIONS)


def test_the_queue_is_read() -> None:
    queue = read_queue("12|0|RUNNING|None\n12|1|PENDING|Resources\n13|N/A|OUT_OF_MEMORY|OutOfMemory\n")
    assert {job: state.lives for job, state in queue.items()} == {"12_0": True, "12_1": True, "13": False}
    assert summary(queue.values()) == "1 running, 1 pending (Resources), 1 out_of_memory"


@pytest.fixture
def road(tmp_path: Path) -> Road:
    return make_road(tmp_path, {**IFC_ONLY, "seeds": 1})


def work_of(road: Road) -> Work:
    plan = road.plan()
    plan.rows.mkdir(parents=True)
    return Work(Ledger.open(plan, Observer(road.results)), road.folder, 1, executor="slurm")


def test_submissions_are_read_back_and_damage_is_left_out(tmp_path: Path) -> None:
    made = [
        Submission(
            array, ("time",), {f"{array}_0": "ab"}, {f"{array}_0": "ifc"}, "2026-01-01T00:00:00", {"time": 1}
        )
        for array in ("9", "10")
    ]
    for submission in reversed(made):
        submission.write(tmp_path)
    (tmp_path / "11.json").write_text('{"array":')
    assert submissions(tmp_path) == made


@pytest.mark.parametrize(
    ("state", "expected"),
    [("OUT_OF_MEMORY", "oom"), ("CANCELLED", "interrupted"), ("NODE_FAIL", "interrupted")],
)
def test_what_a_job_that_died_silently_was_is_said(
    road: Road,
    state: str,
    expected: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    work = work_of(road)
    ledger = work.ledger
    [trial] = ledger.plan.trials
    observer = Observer(road.results)
    dead = replace(RunnerId.of_this_process(), process_started=1)
    keys = [cell.key for cell in trial.cells]
    attempt = claim(ledger.plan.trial_folder(trial), dead, observer, "train_evaluate", keys, "slurm")
    assert attempt is not None
    attempt.log.write_text("first line\nlast line\n")
    watch = _Watch(work, ledger.plan.rows / "_slurm", show(Console(width=500), WorkLeft(0, 0, 1)), False)
    watch.add([Submission("7", ("train_evaluate",), {"7": trial.key}, {"7": trial.label()}, "now", {})])
    monkeypatch.setattr(executor, "ask_queue", lambda: {"7": JobState(state, "")})
    watch._ask()
    assert not watch._is_over("7")  # it may be on its way back
    watch._ask()
    assert watch._is_over("7")
    assert watch._has_ended("7", watch.submissions[0]) == []

    assert f"{trial.label()}: job 7 ended {state}: last line" in capsys.readouterr().out
    assert set(ledger.states(trial, observer).values()) == {expected}
    assert watch.forget_lost() == ([] if state in ("OUT_OF_MEMORY", "CANCELLED") else [trial])
    if expected == "oom":
        rows = road.rows
        assert list(rows["status"]) == ["oom", "oom"]
        assert list(rows["log_tail"]) == ["first line\nlast line"] * 2
        assert list(rows["error"]) == ["Slurm job 7 ended OUT_OF_MEMORY"] * 2
    else:
        assert not list(ledger.plan.rows.glob("*.parquet"))
