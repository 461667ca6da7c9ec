"""Leases: one runner at a time at a trial, dead ones are taken over, living ones never."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from harness.engine.attempts import Attempt, attempts_of, claim, is_open
from harness.engine.runners import Observer, Runner, RunnerId, this_place

HERE = RunnerId.of_this_process()
ELSEWHERE = dataclasses.replace(HERE, runner="far-1", host="far", place="far boot pid:[1]")


def try_claim(trial: Path, runner: RunnerId = HERE, observer: Observer | None = None) -> Attempt | None:
    return claim(trial, runner, observer or Observer(trial.parent), "train_evaluate", ["c0"], "local")


def close(attempt: Attempt | None) -> None:
    assert attempt is not None
    attempt.close({"state": "done"})


def test_a_claim_is_a_numbered_folder_that_says_whose(tmp_path: Path) -> None:
    attempt = try_claim(tmp_path / "t")
    assert attempt is not None
    assert attempt.folder == tmp_path / "t" / "attempts" / "0001"
    owner = attempt.owner()
    assert RunnerId.from_record(owner) == HERE
    assert (owner["stage"], owner["cells"], owner["executor"]) == ("train_evaluate", ["c0"], "local")
    assert attempt.outcome() is None
    assert attempt.is_last()


def test_a_living_runner_is_left_alone_until_it_closes(tmp_path: Path) -> None:
    first = try_claim(tmp_path / "t")
    assert try_claim(tmp_path / "t") is None
    close(first)
    second = try_claim(tmp_path / "t")
    assert second is not None
    assert second.number == 2
    assert first is not None
    assert not first.is_last()


def test_a_dead_process_of_this_machine_is_taken_over_at_once(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from tests.test_attempts import try_claim; "
        "print(try_claim(Path(sys.argv[1])).number)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "t")], capture_output=True, text=True, check=True
    )
    assert done.stdout == "1\n"
    attempt = try_claim(tmp_path / "t")
    assert attempt is not None
    assert attempt.number == 2


def test_a_later_process_with_the_number_of_a_dead_one_is_another(tmp_path: Path) -> None:
    try_claim(tmp_path / "t", dataclasses.replace(HERE, process_started=HERE.process_started - 5))
    assert try_claim(tmp_path / "t") is not None


def test_a_stopped_process_is_alive_and_a_zombie_is_not(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        stat = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()
        there = dataclasses.replace(HERE, pid=child.pid, process_started=int(stat[19]))
        observer = Observer(tmp_path)
        os.kill(child.pid, signal.SIGSTOP)
        assert observer.is_alive(there)
        os.kill(child.pid, signal.SIGKILL)
        while Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
            time.sleep(0.01)
        assert not observer.is_alive(there)
    finally:
        child.kill()
        child.wait()


def beat(results: Path, number: int) -> None:
    (results / "runners").mkdir(exist_ok=True)
    record = json.dumps({**dataclasses.asdict(ELSEWHERE), "beat": number})
    (results / "runners" / "far-1.json").write_text(record)


def test_a_runner_elsewhere_is_dead_when_its_beat_stands_still(tmp_path: Path) -> None:
    """By this observer's clock alone: what the other machine's clock says is nowhere read."""
    beat(tmp_path, 1)
    assert try_claim(tmp_path / "t", ELSEWHERE) is not None
    observer = Observer(tmp_path, silence_seconds=0.3)
    for number in range(2, 6):
        beat(tmp_path, number)
        assert try_claim(tmp_path / "t", HERE, observer) is None
        time.sleep(0.15)
    assert try_claim(tmp_path / "t", HERE, observer) is None
    time.sleep(0.35)
    assert try_claim(tmp_path / "t", HERE, observer) is not None


@pytest.mark.parametrize("file", [None, "", "{}", "[]", '{"beat": "x"}'])
def test_a_beat_that_is_not_there_or_damaged_is_silence(tmp_path: Path, file: str | None) -> None:
    if file is not None:
        (tmp_path / "runners").mkdir()
        (tmp_path / "runners" / "far-1.json").write_text(file)
    observer = Observer(tmp_path, silence_seconds=0.2)
    assert observer.is_alive(ELSEWHERE)
    time.sleep(0.25)
    assert not observer.is_alive(ELSEWHERE)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"runner": "x"}'])
def test_an_attempt_whose_owner_cannot_be_read_holds_nobody_up(tmp_path: Path, content: str) -> None:
    folder = tmp_path / "t" / "attempts" / "0007"
    folder.mkdir(parents=True)
    (folder / "owner.json").write_text(content)
    attempt = try_claim(tmp_path / "t")
    assert attempt is not None
    assert attempt.number == 8


def test_a_runner_beats_while_it_works(tmp_path: Path) -> None:
    def told() -> dict[str, Any]:
        [file] = (tmp_path / "runners").glob("*.json")
        found: dict[str, Any] = json.loads(file.read_text())
        return found

    with Runner(tmp_path, beat_seconds=0.05) as runner:
        first = told()
        assert RunnerId.from_record(first) == runner.id
        time.sleep(0.5)
        assert told()["beat"] > first["beat"]
    assert list((tmp_path / "runners").iterdir()) == []


def test_beats_of_killed_runners_are_buried_and_others_kept(tmp_path: Path) -> None:
    beat(tmp_path, 3)
    dead = dataclasses.replace(HERE, runner="dead", process_started=1)
    (tmp_path / "runners" / "dead.json").write_text(json.dumps({**dataclasses.asdict(dead), "beat": 3}))
    (tmp_path / "runners" / "odd.json").write_text("{")
    with Runner(tmp_path):
        names = {file.name for file in (tmp_path / "runners").iterdir()}
    assert {"far-1.json", "odd.json"} < names
    assert "dead.json" not in names


def compete(trial: Path, wins: Path, start: float, seconds: float) -> None:
    """Claim, hold for a moment, close; over and over. Two holders at once leave a mark."""
    observer, runner = Observer(trial.parent), RunnerId.of_this_process()
    time.sleep(max(0.0, start - time.time()))
    while time.time() < start + seconds:
        attempt = try_claim(trial, runner, observer)
        if attempt is None:
            continue
        holder = trial / "held"
        try:
            holder.touch(exist_ok=False)
        except FileExistsError:
            (wins / f"both-{attempt.number}").touch()
        (wins / f"{attempt.number}-{os.getpid()}").touch()
        holder.unlink(missing_ok=True)
        close(attempt)


def test_of_many_processes_one_at_a_time_holds_a_trial(tmp_path: Path) -> None:
    wins = tmp_path / "wins"
    wins.mkdir()
    start = time.time() + 1.0
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=compete, args=(tmp_path / "t", wins, start, 2.0)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    names = [file.name for file in wins.iterdir()]
    assert not [name for name in names if name.startswith("both")]
    numbers = sorted(int(name.split("-")[0]) for name in names)
    assert numbers == list(range(1, len(numbers) + 1)), "every number once"
    assert len(numbers) > 20
    assert len(attempts_of(tmp_path / "t")) == len(numbers)
    assert [path for path in (tmp_path / "t" / "attempts").iterdir() if path.name.startswith(".")] == []


def test_threads_of_one_runner_compete_too(tmp_path: Path) -> None:
    found: list[Attempt | None] = []
    gate = threading.Barrier(8)

    def go() -> None:
        gate.wait()
        found.append(try_claim(tmp_path / "t"))

    threads = [threading.Thread(target=go) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(attempt is not None for attempt in found) == 1


def test_a_full_disk_is_no_lost_race(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "rename", full)
    with pytest.raises(OSError, match="No space left"):
        try_claim(tmp_path / "t")


def test_the_last_lines_of_a_long_log(tmp_path: Path) -> None:
    attempt = try_claim(tmp_path / "t")
    assert attempt is not None
    assert attempt.last_log_lines() == ""
    attempt.log.write_text("".join(f"line {n}\n" for n in range(100_000)) + "the end")
    lines = attempt.last_log_lines(3).splitlines()
    assert lines == ["line 99998", "line 99999", "the end"]


def test_open_means_a_living_runner_and_no_outcome(tmp_path: Path) -> None:
    observer = Observer(tmp_path)
    attempt = try_claim(tmp_path / "t")
    assert attempt is not None
    assert is_open(attempt, observer)
    close(attempt)
    assert not is_open(attempt, observer)
    assert this_place() == HERE.place
