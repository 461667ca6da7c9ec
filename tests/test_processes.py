"""One process under supervision, with small children: every way to end, and that none outlives its engine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.engine.kernel_kills import KillCounter
from harness.engine.processes import Command, Ended, Limits, duration, supervise

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
    elif action == "affinity":
        print(json.dumps({"event": "affinity", "value": sorted(os.sched_getaffinity(0))}), flush=True)
    elif action == "deaf":  # asked to end, it does not
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    elif action == "polite":  # asked to end, it says so
        def end(number, frame):
            print(json.dumps({"event": "interrupted"}), flush=True)
            sys.exit(4)
        signal.signal(signal.SIGTERM, end)
    elif action == "grandchild":  # in a session of its own, holding our output and input
        import subprocess
        started = subprocess.Popen([sys.executable, "-c", value], start_new_session=True)
        file.with_suffix(".grandchild").write_text(str(started.pid))
    elif action == "memory":
        block = b"x" * value
    elif action == "sleep":
        time.sleep(value)
    elif action == "kill":
        os.kill(os.getpid(), value)
    elif action == "exit":
        sys.exit(value)
file.with_suffix(".ended").write_text(str(time.monotonic_ns()))
"""

Actions = list[tuple[str, Any]]
ProcessOf = Callable[..., Command]
FOREVER = Limits()


@pytest.fixture
def process_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ProcessOf:
    """A command that does these actions; its files lie in the test's folder."""
    modules = tmp_path / "modules"
    modules.mkdir()
    (modules / "fake_child.py").write_text(CHILD)

    def make(*actions: tuple[str, Any], cores: frozenset[int] | None = None, **variables: str) -> Command:
        file = tmp_path / "child.json"
        file.write_text(json.dumps(actions))
        environment = {"PYTHONPATH": str(modules), **variables}
        return Command(("-m", "fake_child", str(file)), tmp_path / "log", environment, cores)

    return make


def run(
    command: Command, limits: Limits = FOREVER, stop: Callable[[], bool] = lambda: False, grace: float = 30.0
) -> tuple[Ended, list[dict[str, Any]]]:
    heard: list[dict[str, Any]] = []
    return supervise(command, heard.append, stop, limits, grace), heard


def is_alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    # Killed, and not yet fetched by whoever has inherited it.
    return stat.rpartition(")")[2].split()[0] != "Z"


def wait_for(condition: Callable[[], bool], what: str) -> None:
    for _ in range(1000):
        if condition():
            return
        time.sleep(0.02)
    pytest.fail(f"waited in vain: {what}")


def test_success_is_heard_from_start_to_end(process_of: ProcessOf, tmp_path: Path) -> None:
    step = {"event": "step", "done": 1}
    ended, heard = run(process_of(("print", step), ("complain", "a warning")))
    assert (ended.status, ended.reported, ended.ended_by_us) == (0, None, None)
    assert heard == [step]
    assert (tmp_path / "log").read_text() == "a warning\n"
    assert 0 < ended.seconds < 60


def test_variables_and_processors_reach_it(process_of: ProcessOf) -> None:
    some = frozenset(sorted(os.sched_getaffinity(0))[:1])
    command = process_of(("environment", "OMP_NUM_THREADS"), ("affinity", 0), OMP_NUM_THREADS="3", cores=some)
    _, heard = run(command)
    assert [event["value"] for event in heard] == ["3", sorted(some)]


@pytest.mark.parametrize(
    ("actions", "status"),
    [
        ([("print", {"event": "failed", "error": "ValueError: no"}), ("exit", 1)], 1),
        ([("print", {"event": "input_error", "error": "x.jpg: bad"}), ("exit", 2)], 2),
        ([("exit", 3)], 3),
        ([("kill", int(signal.SIGSEGV))], -signal.SIGSEGV),
        ([("kill", int(signal.SIGKILL))], -signal.SIGKILL),
    ],
    ids=["failed", "input", "silent", "segfault", "killed"],
)
def test_every_end_is_told(process_of: ProcessOf, actions: Actions, status: int) -> None:
    ended, _ = run(process_of(*actions))
    assert ended.status == status
    assert ended.reported == (actions[0][1] if actions[0][0] == "print" else None)
    assert ended.ended_by_us is None
    assert not ended.killed_by_kernel


def test_a_module_that_is_not_there(process_of: ProcessOf, tmp_path: Path) -> None:
    command = process_of()
    ended, _ = run(Command(("-m", "no_such_module"), command.log, command.environment))
    assert ended.status == 1
    assert "no_such_module" in (tmp_path / "log").read_text()


def test_noise_on_standard_output_is_no_event(process_of: ProcessOf) -> None:
    noise = [
        ("write", text.encode().hex()) for text in ("hello\n", "[1, 2]\n", '{"no": "event"}\n', "{\n", "\n")
    ]
    noise.append(("write", "fffe00c3280a"))  # no UTF-8
    step = {"event": "step"}
    ended, heard = run(process_of(*noise, ("print", step), ("write", b"no newline".hex())))
    assert ended.status == 0
    assert heard == [step]


def test_peak_memory_is_known_of_a_process_that_dies(process_of: ProcessOf) -> None:
    ended, _ = run(process_of(("memory", 300_000_000), ("sleep", 1), ("kill", int(signal.SIGKILL))))
    assert 0.3 < ended.peak_memory_gb < 0.5


def test_too_long(process_of: ProcessOf) -> None:
    steps = [("print", {"event": "step"}), ("sleep", 0.3)] * 100
    ended, heard = run(process_of(*steps), Limits(timeout=2.0, silence=5.0))
    assert ended.ended_by_us == "not done after 2 s (--timeout)"
    assert 2.0 < ended.seconds < 12
    assert heard


def test_a_process_that_never_stops_talking_is_stopped_too(process_of: ProcessOf) -> None:
    """Training steps of milliseconds: events come faster than anybody looks up."""
    command = process_of(*[("print", {"event": "step"}), ("sleep", 0.001)] * 20_000)
    ended, heard = run(command, Limits(timeout=1.0))
    assert ended.ended_by_us == "not done after 1 s (--timeout)"
    assert 10 < len(heard) < 20_000


def test_a_hang_is_noticed_and_signs_of_life_are_not_a_hang(process_of: ProcessOf) -> None:
    alive = [("sleep", 0.5), ("print", {"event": "step"})] * 6
    ended, heard = run(process_of(*alive, ("sleep", 60)), Limits(silence=2.0))
    assert ended.ended_by_us == "no sign of life for 2 s (--silence)"
    assert len(heard) == 6
    assert ended.status == -signal.SIGTERM


def test_asked_to_stop_it_has_the_last_word(process_of: ProcessOf) -> None:
    command = process_of(("polite", 0), ("print", {"event": "step"}), ("sleep", 60))
    heard: list[dict[str, Any]] = []
    ended = supervise(command, heard.append, lambda: bool(heard), FOREVER)
    assert (ended.ended_by_us, ended.status, ended.reported) == ("stop", 4, {"event": "interrupted"})


def test_what_does_not_stop_is_ended_by_force(process_of: ProcessOf) -> None:
    command = process_of(("deaf", 0), ("print", {"event": "step"}), ("sleep", 60))
    heard: list[dict[str, Any]] = []
    ended = supervise(command, heard.append, lambda: bool(heard), FOREVER, grace=1.0)
    assert (ended.ended_by_us, ended.status) == ("stop", -signal.SIGKILL)
    assert 1.0 < ended.seconds < 20


SLEEPER = "import time; time.sleep(120)"
READER = "import os\nwhile os.read(0, 4096): pass"


@pytest.mark.parametrize("code", [SLEEPER, READER], ids=["sleeps", "reads"])
def test_a_process_left_behind_holds_nothing_up(process_of: ProcessOf, tmp_path: Path, code: str) -> None:
    """It holds the output open, in a session of its own: the end of the child is seen all the same."""
    command = process_of(("grandchild", code), ("kill", int(signal.SIGKILL)))
    ended, _ = run(command)
    pid = int((tmp_path / "child.grandchild").read_text())
    try:
        assert ended.status == -signal.SIGKILL
        assert ended.seconds < 20
        if code == READER:
            wait_for(lambda: not is_alive(pid), "its input is closed, so it ends")
    finally:
        if is_alive(pid):
            os.kill(pid, signal.SIGKILL)


def test_an_exception_in_the_listener_ends_it(process_of: ProcessOf, tmp_path: Path) -> None:
    def listen(event: dict[str, Any]) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        supervise(process_of(("print", {"event": "step"}), ("sleep", 60)), listen, lambda: False, FOREVER)
    assert not is_alive(int((tmp_path / "child.pid").read_text()))


def test_several_at_once_in_threads(process_of: ProcessOf, tmp_path: Path) -> None:
    ended: list[Ended] = []
    commands = []
    for number in range(3):
        file = tmp_path / f"part{number}.json"
        command = process_of()
        file.write_text(json.dumps([("exit", number)]))
        commands.append(
            Command(("-m", "fake_child", str(file)), tmp_path / f"{number}.log", command.environment)
        )
    threads = [threading.Thread(target=lambda c=c: ended.append(run(c)[0])) for c in commands]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(each.status for each in ended) == [0, 1, 2]


ENGINE = """
import sys
from pathlib import Path
from harness.engine.processes import Command, Limits, supervise
command = Command(("-m", "fake_child", sys.argv[1]), Path(sys.argv[1] + ".log"), {})
supervise(command, print, lambda: False, Limits())
"""


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGINT])
def test_it_ends_when_the_engine_is_killed(
    process_of: ProcessOf, tmp_path: Path, sent: signal.Signals
) -> None:
    command = process_of(("sleep", 120))
    modules = command.environment["PYTHONPATH"]
    engine = subprocess.Popen(
        [sys.executable, "-c", ENGINE, command.arguments[-1]],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{modules}{os.pathsep}{ROOT}"},
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for((tmp_path / "child.started").exists, "the child starts")
        pid = int((tmp_path / "child.pid").read_text())
        assert is_alive(pid)
        engine.send_signal(sent)
        engine.wait(20)
        wait_for(lambda: not is_alive(pid), "the child ends")
    finally:
        engine.kill()
        engine.wait()


GROUPS = Path("/sys/fs/cgroup")


def limited_group(name: str, limit: int) -> Path:
    """A control group of this much memory; skips where none can be made."""
    version_2 = (GROUPS / "cgroup.controllers").exists()
    group = (GROUPS if version_2 else GROUPS / "memory") / name
    try:
        group.mkdir()
        (group / ("memory.max" if version_2 else "memory.limit_in_bytes")).write_text(str(limit))
    except OSError as error:
        if group.is_dir():
            group.rmdir()
        pytest.skip(f"no control group can be made here ({error.strerror})")
    return group


IN_GROUP = """
import os, sys
from pathlib import Path
from harness.engine.processes import Command, Limits, supervise
Path(sys.argv[1]).write_text(str(os.getpid()))
hungry = Command(("-c", "x = b'x' * 400_000_000"), Path(sys.argv[2]), {})
ended = supervise(hungry, print, lambda: False, Limits())
print(ended.status, ended.killed_by_kernel)
"""


def test_the_kernel_kills_for_want_of_memory(tmp_path: Path) -> None:
    """A real one: engine and child live in a group of 100 MB, and the child takes 400."""
    group = limited_group(f"ifc-test-{os.getpid()}", 100_000_000)
    try:
        command = [sys.executable, "-c", IN_GROUP, str(group / "cgroup.procs"), str(tmp_path / "log")]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
        assert done.stdout.split() == ["-9", "True"], done.stderr
    finally:
        wait_for(lambda: not (group / "cgroup.procs").read_text(), "the group empties")
        group.rmdir()


def test_kills_are_counted_in_the_group_before_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    group, machine = tmp_path / "memory.events", tmp_path / "vmstat"
    group.write_text("low 0\noom 3\noom_kill 2\n")
    machine.write_text("pgfault 12\noom_kill 7\n")
    monkeypatch.setattr("harness.engine.kernel_kills.VMSTAT", machine)
    monkeypatch.setattr("harness.engine.kernel_kills._group_files", lambda pid: [group])
    counter = KillCounter(1)
    machine.write_text("pgfault 15\noom_kill 8\n")
    assert not counter.has_risen(), "somebody else's group"
    group.write_text("low 0\noom 4\noom_kill 3\n")
    assert counter.has_risen()
    group.unlink()
    assert counter.has_risen(), "without a group the machine's counter decides"


@pytest.mark.parametrize(
    ("seconds", "text"), [(30, "30 s"), (60, "1 min"), (90, "90 s"), (1800, "30 min"), (7200, "2 h")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
