"""Jobs as processes, with small children: every way to end, and that none outlives its engine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.engine.processes import Outcome, ProcessJob, run_jobs

ROOT = Path(__file__).resolve().parent.parent

# What a child does is its job file. Like harness.trial, it ends when its standard input closes.
CHILD = """
import json, os, signal, sys, threading, time
from pathlib import Path

def end_with_engine():
    while os.read(0, 4096):
        pass
    os._exit(1)

threading.Thread(target=end_with_engine, daemon=True).start()
file = Path(sys.argv[1])
job = json.loads(file.read_text())
file.with_suffix(".pid").write_text(str(os.getpid()))
file.with_suffix(".started").write_text(str(time.monotonic_ns()))
for action, value in job:
    if action == "print":
        print(json.dumps(value), flush=True)
    elif action == "write":
        os.write(1, bytes.fromhex(value))
    elif action == "complain":
        print(value, file=sys.stderr)
    elif action == "environment":
        print(json.dumps({"event": "environment", "value": os.environ.get(value)}), flush=True)
    elif action == "wait":  # until this many children have started, then a moment
        while len(list(file.parent.glob("*.started"))) < value:
            time.sleep(0.01)
        time.sleep(0.1)
    elif action == "sleep":
        time.sleep(value)
    elif action == "kill":
        os.kill(os.getpid(), value)
    elif action == "exit":
        sys.exit(value)
file.with_suffix(".ended").write_text(str(time.monotonic_ns()))
"""

Actions = list[tuple[str, Any]]
MakeJob = Callable[..., ProcessJob]


@pytest.fixture
def make_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeJob:
    modules = tmp_path / "modules"
    modules.mkdir()
    (modules / "fake_child.py").write_text(CHILD)
    monkeypatch.setenv("PYTHONPATH", str(modules))

    def make(name: str, *actions: tuple[str, Any]) -> ProcessJob:
        file = tmp_path / f"{name}.json"
        file.write_text(json.dumps(actions))
        return ProcessJob(name, "fake_child", file, tmp_path / "logs" / f"{name}.log", threads=1)

    return make


def run(
    jobs: list[ProcessJob], workers: int = 2
) -> tuple[dict[str, Outcome], list[tuple[str, dict[str, Any]]]]:
    heard: list[tuple[str, dict[str, Any]]] = []
    outcomes = run_jobs(jobs, workers, lambda job, event: heard.append((job.name, event)))
    return outcomes, heard


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # Killed, and not yet fetched by whoever has inherited it.
    stat = Path(f"/proc/{pid}/stat")
    try:
        return not stat.parent.parent.is_dir() or stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_for(condition: Callable[[], bool], what: str) -> None:
    for _ in range(1000):
        if condition():
            return
        time.sleep(0.02)
    pytest.fail(f"waited in vain: {what}")


def pid_of(job: ProcessJob) -> int:
    return int(job.file.with_suffix(".pid").read_text())


def test_success_is_heard_from_start_to_end(make_job: MakeJob) -> None:
    step = {"event": "step", "done": 1}
    outcomes, heard = run([make_job("a", ("print", step), ("complain", "a warning"))])
    assert outcomes == {"a": Outcome(0, None)}
    end = {"event": "end", "status": 0, "error": None}
    assert heard == [("a", {"event": "start"}), ("a", step), ("a", end)]


def test_no_jobs() -> None:
    assert run([]) == ({}, [])


def test_standard_error_is_the_log(make_job: MakeJob) -> None:
    job = make_job("a", ("complain", "some warning"), ("print", {"event": "step"}))
    run([job])
    assert job.log.read_text() == "some warning\n"


def test_threads_reach_the_child(make_job: MakeJob) -> None:
    _, heard = run([make_job("a", ("environment", "OMP_NUM_THREADS"), ("environment", "MKL_NUM_THREADS"))])
    assert [event["value"] for _, event in heard if event["event"] == "environment"] == ["1", "1"]


@pytest.mark.parametrize(
    ("actions", "outcome"),
    [
        (
            [("print", {"event": "failed", "error": "ValueError: no"}), ("exit", 1)],
            Outcome(1, "ValueError: no"),
        ),
        ([("exit", 3)], Outcome(3, "exit status 3 without a word")),
        ([("kill", int(signal.SIGSEGV))], Outcome(-signal.SIGSEGV, "ended by signal SIGSEGV")),
        ([("kill", int(signal.SIGKILL))], Outcome(-signal.SIGKILL, "ended by signal SIGKILL")),
    ],
    ids=["failed", "silent", "segfault", "killed"],
)
def test_a_failure_is_told_and_the_rest_goes_on(
    make_job: MakeJob, actions: Actions, outcome: Outcome
) -> None:
    outcomes, heard = run([make_job("bad", *actions), make_job("good")], workers=1)
    assert outcomes == {"bad": outcome, "good": Outcome(0, None)}
    end = {"event": "end", "status": outcome.status, "error": outcome.error}
    assert ("bad", end) in heard


def test_a_module_that_is_not_there(make_job: MakeJob) -> None:
    job = make_job("a")
    missing = ProcessJob("a", "no_such_module", job.file, job.log, 1)
    assert run([missing])[0] == {"a": Outcome(1, "exit status 1 without a word")}
    assert "no_such_module" in job.log.read_text()


def test_input_error_stops_the_rest_and_ends_the_running(make_job: MakeJob) -> None:
    refusal = {"event": "input_error", "error": "x.jpg: cannot be decoded"}
    bad = make_job("bad", ("wait", 2), ("print", refusal), ("exit", 2))
    long, waiting = make_job("long", ("sleep", 60)), make_job("waiting")
    outcomes, heard = run([bad, long, waiting])
    assert outcomes == {"bad": Outcome(2, "x.jpg: cannot be decoded")}
    assert not is_alive(pid_of(long))
    assert not long.file.with_suffix(".ended").exists()
    assert "waiting" not in {name for name, _ in heard}
    assert not waiting.file.with_suffix(".started").exists()


def test_noise_on_standard_output_is_no_event(make_job: MakeJob) -> None:
    noise = [
        ("write", text.encode().hex()) for text in ("hello\n", "[1, 2]\n", '{"no": "event"}\n', "{\n", "\n")
    ]
    noise.append(("write", "fffe00c3280a"))  # no UTF-8
    step = {"event": "step"}
    outcomes, heard = run([make_job("a", *noise, ("print", step), ("write", b"no newline".hex()))])
    assert outcomes == {"a": Outcome(0, None)}
    assert [event["event"] for _, event in heard] == ["start", "step", "end"]


def test_an_exception_in_the_listener_ends_the_children(make_job: MakeJob) -> None:
    jobs = [
        make_job("a", ("wait", 2), ("print", {"event": "step"}), ("sleep", 60)),
        make_job("b", ("sleep", 60)),
    ]

    def listen(job: ProcessJob, event: dict[str, Any]) -> None:
        if event["event"] == "step":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_jobs(jobs, 2, listen)
    assert [is_alive(pid_of(job)) for job in jobs] == [False, False]


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_workers_and_order(make_job: MakeJob, workers: int) -> None:
    jobs = [make_job(f"job{i}", ("sleep", 0.05)) for i in range(5)]
    outcomes, heard = run(jobs, workers)
    assert set(outcomes) == {job.name for job in jobs}
    assert [name for name, event in heard if event["event"] == "start"] == [job.name for job in jobs]

    changes = []
    for job in jobs:
        changes.append((int(job.file.with_suffix(".started").read_text()), 1))
        changes.append((int(job.file.with_suffix(".ended").read_text()), -1))
    running, most = 0, 0
    for _, change in sorted(changes):
        running += change
        most = max(most, running)
    assert most <= workers


def test_all_workers_run_at_once(make_job: MakeJob) -> None:
    """Each of three waits for the other two: with fewer at a time this would never end."""
    jobs = [make_job(f"job{i}", ("wait", 3)) for i in range(3)]
    outcomes, _ = run(jobs, workers=3)
    assert [outcome.status for outcome in outcomes.values()] == [0, 0, 0]


ENGINE = """
import json, sys
from pathlib import Path
from harness.engine.processes import ProcessJob, run_jobs
jobs = [ProcessJob(f, "fake_child", Path(f), Path(f + ".log"), 1) for f in sys.argv[1:]]
run_jobs(jobs, len(jobs), lambda job, event: None)
"""


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGINT])
def test_children_end_when_the_engine_is_killed(make_job: MakeJob, sent: signal.Signals) -> None:
    jobs = [make_job(f"job{i}", ("sleep", 120)) for i in range(3)]
    engine = subprocess.Popen(
        [sys.executable, "-c", ENGINE, *(str(job.file) for job in jobs)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{os.environ['PYTHONPATH']}{os.pathsep}{ROOT}"},
        stderr=subprocess.DEVNULL,
    )
    try:
        started = [job.file.with_suffix(".started") for job in jobs]
        wait_for(lambda: all(file.exists() for file in started), "the children start")
        pids = [pid_of(job) for job in jobs]
        assert all(is_alive(pid) for pid in pids)
        engine.send_signal(sent)
        engine.wait(20)
        wait_for(lambda: not any(is_alive(pid) for pid in pids), "the children end")
    finally:
        engine.kill()
        engine.wait()


def test_a_job_named_from_another_folder_is_found(make_job: MakeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    job = make_job("relative", ("print", {"event": "cell"}))
    monkeypatch.chdir(job.file.parent)
    relative = ProcessJob(job.name, job.module, Path(job.file.name), job.log, job.threads)
    assert run_jobs([relative], 1, lambda _, __: None) == {"relative": Outcome(0, None)}
