"""What a sweep still costs: hand-computed hours from made-up records, and what never may happen to them."""

from __future__ import annotations

import json
import platform
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from harness.config import TrialConfig
from harness.engine.cost import UNKNOWN, Machine, Pace, Span, TrialWork, estimate
from harness.engine.plan import Options, Plan, make_plan
from harness.engine.preview import preview
from harness.engine.preview_cost import duration
from harness.engine.probes import _end
from harness.engine.timings import (
    TAIL_BYTES,
    CostOptions,
    Timings,
    evaluation_shape,
    step_seconds,
    steps_kept,
    train_device_seconds,
    training_shape,
)
from model.errors import InputError
from tests.small_road import IFC_ONLY, SCALE, SWEEP

HARDWARE = "made-up GPU"
GPU = Machine(HARDWARE, "GPU", cores=8, workers=2)
CPU = Machine(HARDWARE, "core", cores=8, workers=2)
HALF = Pace(0.5, "stated")
MINUTE = Pace(60.0, "stated")


def work(steps: int, step: Pace = HALF, cells: int = 0, timed: int = 0, **more: Any) -> TrialWork:
    paces = {"evaluations": (MINUTE,) * cells, "timings": (MINUTE,) * timed}
    return TrialWork(**{"training": "ifc", "steps": steps, "step": step, "devices": 1, **paces, **more})


def test_hours_by_hand() -> None:
    found = estimate([work(7200, cells=2, timed=1), work(3600, cells=2, timed=1), work(7200)], GPU)
    assert found.training == Span(9000.0)
    assert found.evaluation == Span(6 * 60.0)
    # 3600 + 120 beside 1800 + 120, then 3600 on the worker that is free at 1920; two timings alone.
    assert found.wall == Span(1920 + 3600 + 120)
    [line] = found.lines
    assert (line.trainings, line.steps, line.evaluations, line.timings) == (3, 18000, 4, 2)


def test_core_hours_count_the_threads_and_timing_all_cores() -> None:
    found = estimate([work(100, cells=1, timed=1, devices=CPU.devices(3))], CPU)
    assert found.training == Span(150.0)
    assert found.evaluation == Span(3 * 60.0 + 8 * 60.0)
    assert CPU.devices(None) == 8
    assert GPU.devices(None) == GPU.devices(3) == 1


def test_what_is_unknown_is_counted_and_what_does_not_fit_costs_nothing() -> None:
    stuck = work(1000, Pace(None, "does not fit"), cells=4, timed=4)
    found = estimate([work(1000, UNKNOWN, cells=1), stuck], GPU)
    assert found.training == Span(0.0, 1000)
    assert found.evaluation == Span(60.0)
    assert found.wall == Span(60.0, 1000)


PACES = st.one_of(
    st.builds(Pace, st.floats(0.001, 1e5), st.sampled_from(["stated", "measured", "probed"])),
    st.sampled_from([UNKNOWN, Pace(None, "does not fit")]),
)
WORKS = st.builds(
    TrialWork,
    st.sampled_from(["ifc", "no_comm"]),
    st.integers(0, 10**6),
    PACES,
    st.lists(PACES, max_size=3).map(tuple),
    st.lists(PACES, max_size=3).map(tuple),
    st.integers(1, 8),
)


@given(st.lists(WORKS, max_size=8), WORKS, st.integers(0, 8), st.integers(1, 4))
def test_one_more_seed_is_never_cheaper(
    works: list[TrialWork], more: TrialWork, at: int, workers: int
) -> None:
    machine = Machine(HARDWARE, "GPU", 8, workers)
    before = estimate(works, machine)
    after = estimate([*works[:at], more, *works[at:]], machine)
    for name in ("training", "evaluation", "wall"):
        less, greater = getattr(before, name), getattr(after, name)
        assert less.seconds >= 0
        assert greater.seconds >= less.seconds * (1 - 1e-12)
        assert greater.unknown >= less.unknown >= 0
    assert after.wall.seconds <= (after.training + after.evaluation).seconds * (1 + 1e-9)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(40, "40 s"), (89.6, "90 s"), (720, "12 min"), (12000, "3 h 20 min"), (190800, "2 d 5 h")],
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


# -------------------------------------------------------------------------------------------------- records


def write_losses(path: Path, seconds: list[float]) -> None:
    lines = [f"{place + 1},2.5,{second}" for place, second in enumerate(seconds)]
    path.write_text("\r\n".join(["step,total,seconds", *lines, ""]))


def test_step_seconds(tmp_path: Path) -> None:
    file = tmp_path / "losses.csv"
    assert step_seconds(file) is None
    write_losses(file, [9, 9, 9])
    assert step_seconds(file) is None, "first steps only"
    write_losses(file, [9, 9, 9, 0.2, 0.4, 7.0])
    assert step_seconds(file) == 0.4
    write_losses(file, [5.0] * 20000 + [0.25] * (TAIL_BYTES // 10))
    assert step_seconds(file) == 0.25, "the last steps of a long file"
    file.write_text("step,total\n1,2\n")
    assert step_seconds(file) is None
    file.write_bytes(b"\xff\xfe")
    assert step_seconds(file) is None


def test_steps_kept(tmp_path: Path) -> None:
    for number, content in {1: {"done": 230, "steps": 500}, 2: {"done": 470, "steps": 600}}.items():
        folder = tmp_path / "attempts" / f"000{number}"
        folder.mkdir(parents=True)
        (folder / "progress.json").write_text(json.dumps(content))
    assert steps_kept(tmp_path, 500, 50) == 0, "no checkpoint, nothing kept"
    (tmp_path / "checkpoint.pt").touch()
    assert steps_kept(tmp_path, 500, 50) == 200, "down to a checkpoint, of this training alone"
    (tmp_path / "attempts" / "0001" / "progress.json").write_text("{")
    assert steps_kept(tmp_path, 500, 50) == 0


def test_spent() -> None:
    assert train_device_seconds({"device": "cuda:0", "train_seconds": 90.0, "threads": 8}) == ("GPU", 90.0)
    assert train_device_seconds({"device": "cpu", "train_seconds": 90.0, "threads": 2}) == ("core", 180.0)
    assert train_device_seconds({"device": "cuda", "train_seconds": 9.0, "train_processes": 4}) == ("GPU", 36)
    assert train_device_seconds({}) == ("core", 0.0)


CONFIG = TrialConfig.model_validate(SCALE["settings"]).model_dump(mode="json")


def changed(section: str, **values: Any) -> dict[str, Any]:
    return {**CONFIG, section: {**CONFIG[section], **values}}


@pytest.mark.parametrize(
    ("config", "same"),
    [
        (changed("train", steps=7, learning_rate=1.0, schedule="step", milestones=[3]), True),
        (changed("inference", window=9), True),
        (changed("data", valid="other"), True),
        (changed("train", clips_per_batch=3), False),
        (changed("train", threads=2), False),
        (changed("model", encoder="no_comm"), False),
        (changed("data", kind="folder"), False),
    ],
)
def test_what_a_step_takes_longer_for(config: dict[str, Any], same: bool) -> None:
    assert (training_shape(config) == training_shape(CONFIG)) is same


def test_what_a_cell_takes_longer_for() -> None:
    for kind in ("train_evaluate", "time"):
        mine = evaluation_shape(CONFIG, kind)
        assert evaluation_shape(changed("train", steps=7), kind) == mine
        assert evaluation_shape(changed("inference", window=9), kind) != mine
        assert (evaluation_shape(changed("speed", passes=9), kind) == mine) is (kind == "train_evaluate")


def make_trial(results: Path, name: str, seconds: float, hardware: str = HARDWARE) -> Path:
    folder = results / "trials" / name
    (folder / "cells" / "c").mkdir(parents=True)
    record = {"config": changed("train", steps=9), "hardware": hardware, "train_seconds": 9 * seconds}
    (folder / "trial.json").write_text(json.dumps(record))
    write_losses(folder / "losses.csv", [seconds] * 9)
    job = {"config": CONFIG, "cells": [{"key": "c", "config": CONFIG}], "device": "cpu"}
    (folder / "attempts" / "0001").mkdir(parents=True)
    (folder / "attempts" / "0001" / "job.json").write_text(json.dumps(job))
    metrics = {"seconds": 10 * seconds, "hardware": hardware, "data_checksum": "abcdef"}
    (folder / "cells" / "c" / "metrics.json").write_text(json.dumps(metrics))
    return folder


def test_paces_in_their_order_of_trust(tmp_path: Path) -> None:
    step, cell = training_shape(CONFIG), evaluation_shape(CONFIG, "train_evaluate")
    times = Timings(tmp_path, HARDWARE, "cpu")
    times.read([step, cell])
    assert times.pace(step) == times.pace(cell) == UNKNOWN

    probe = times.probe_file(step)
    probe.parent.mkdir()
    probe.write_text(json.dumps({"status": "oom", "note": "out of memory"}))
    assert times.pace(step) == Pace(None, "does not fit", "out of memory")
    probe.write_text(json.dumps({"status": "done", "seconds": 5.0}))
    assert times.pace(step) == Pace(5.0, "probed")
    assert Timings(tmp_path, "another GPU", "cpu").pace(step) == UNKNOWN

    for name, seconds in {"a": 0.2, "b": 0.4, "c": 0.3}.items():
        make_trial(tmp_path, name, seconds)
    make_trial(tmp_path, "elsewhere", 99, "another GPU")
    times = Timings(tmp_path, HARDWARE, "cpu")
    times.read([step, cell])
    assert times.pace(step) == Pace(0.3, "measured", "3 trainings")
    assert times.pace(cell) == Pace(3.0, "measured", "3 cells")
    other = Timings(tmp_path, HARDWARE, "cpu", valid_data="fedcba")
    other.read([cell])
    assert other.pace(cell) == UNKNOWN, "cells of other data"

    times = Timings(tmp_path, HARDWARE, "cpu", options=CostOptions(0.8, 120))
    times.read([step, cell])
    assert times.pace(step) == Pace(0.8, "stated")
    assert times.pace(cell) == Pace(120, "stated")


@pytest.mark.parametrize(
    ("owner", "device", "known"),
    [
        ({"hardware": HARDWARE, "host": "far"}, "cpu", True),
        ({"hardware": "another"}, "cpu", False),
        ({"host": platform.node()}, "cpu", True),
        ({"host": platform.node()}, "cuda:1", False),
        ({"host": "far"}, "cpu", False),
    ],
)
def test_an_interrupted_training_has_a_pace(
    owner: dict[str, str], device: str, known: bool, tmp_path: Path
) -> None:
    attempt = tmp_path / "trials" / "t" / "attempts" / "0001"
    attempt.mkdir(parents=True)
    for name, content in {
        "owner": owner,
        "job": {"config": CONFIG, "device": device, "cells": []},
        "progress": {"done": 5, "steps": 16, "seconds_per_step": 0.7},
    }.items():
        (attempt / f"{name}.json").write_text(json.dumps(content))
    times = Timings(tmp_path, HARDWARE, "cpu")
    times.read([training_shape(CONFIG)])
    pace = times.pace(training_shape(CONFIG))
    assert pace == (Pace(0.7, "measured", "1 training") if known else UNKNOWN)


def test_damaged_records_are_no_measurements(tmp_path: Path) -> None:
    for name, text in {"a": "{", "b": "[]", "c": '{"config": 3}'}.items():
        folder = make_trial(tmp_path, name, 1.0)
        (folder / "trial.json").write_text(text)
        (folder / "cells" / "c" / "metrics.json").write_text('{"seconds": -1}')
        (folder / "attempts" / "0001" / "job.json").write_text('{"cells": [3, {"key": "c"}]}')
    times = Timings(tmp_path, HARDWARE, "cpu")
    times.read([training_shape(CONFIG), evaluation_shape(CONFIG, "train_evaluate")])
    assert times.pace(training_shape(CONFIG)) == UNKNOWN


def test_how_a_probe_ends() -> None:
    assert _end(-9, "")["status"] == "oom"
    assert _end(None, "")["status"] == "timeout"
    assert _end(1, "ValueError: no")["note"] == "probe failed: ValueError: no"


@pytest.mark.parametrize(
    ("options", "dry_run", "said"),
    [
        (CostOptions(step_seconds=1.0), False, "--step-seconds"),
        (CostOptions(evaluation_seconds=1.0), False, "--evaluation-seconds"),
        (CostOptions(probe=True), False, "--probe"),
        (CostOptions(step_seconds=0.0), True, "--step-seconds: 0: allowed"),
        (CostOptions(evaluation_seconds=float("nan")), True, "--evaluation-seconds: nan: allowed"),
    ],
)
def test_options_that_make_no_sense(options: CostOptions, dry_run: bool, said: str) -> None:
    with pytest.raises(InputError, match=said):
        options.check(dry_run)


# ------------------------------------------------------------------------------------------- what is printed


def plan_of(folder: Path, sweep: dict[str, Any]) -> Plan:
    file = folder / "sweep.yaml"
    file.write_text(yaml.safe_dump(sweep, sort_keys=False))
    (folder / "scale.yaml").write_text(yaml.safe_dump(SCALE))
    return make_plan(Options(file, str(folder / "scale.yaml"), folder / "results", folder / "reports"))


def printed(plan: Plan, options: CostOptions, machine: Machine = CPU) -> list[str]:
    console = Console(soft_wrap=True, highlight=False, width=200, force_terminal=False)
    with console.capture() as capture:
        preview(plan, console, options, machine)
    return [" ".join(line.split()) for line in capture.get().splitlines()]


def test_a_sweep_in_hours(tmp_path: Path) -> None:
    """Two encoders, two seeds, 16 steps each: 64 steps of 90 s on a thread; 8 cells of 36 s."""
    plan = plan_of(tmp_path, SWEEP)
    lines = printed(plan, CostOptions(90.0, 36.0))
    assert "Encoder T=3 T=5" in lines
    assert "IFC 0/2 0/2" in lines
    assert "ifc 2 32 90 0.80 stated" in lines
    assert "ifc 4 36 0.04 stated" in lines
    assert "training left: 1.60 core-hours" in lines
    assert "evaluation left: 0.08 core-hours" in lines
    assert "wall-clock: 50 min, 2 workers" in lines, "2 trials each: 2 x (16 x 90 + 2 x 36) s"
    assert not (tmp_path / "results").exists()
    lines = printed(plan, CostOptions())
    assert "training left: unknown" in lines
    assert "ifc 2 32 ? ? unknown" in lines
    assert any("--probe" in line and "--step-seconds" in line for line in lines)


def test_a_finished_and_an_interrupted_training(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, {**IFC_ONLY, "seeds": 3})
    done, begun, _ = plan.trials
    folder = plan.trial_folder(done)
    folder.mkdir(parents=True)
    config = done.config.model_dump(mode="json")
    record = {"config": config, "hardware": HARDWARE, "device": "cpu", "threads": 1, "train_seconds": 7200}
    (folder / "trial.json").write_text(json.dumps(record))
    write_losses(folder / "losses.csv", [450.0] * 16)
    attempt = plan.trial_folder(begun) / "attempts" / "0001"
    attempt.mkdir(parents=True)
    (plan.trial_folder(begun) / "checkpoint.pt").touch()
    (attempt / "progress.json").write_text(json.dumps({"name": "train", "done": 12, "steps": 16}))
    lines = printed(plan, CostOptions())
    assert "ifc 2 20 450 2.50 measured (1 training)" in lines, "4 steps of one, 16 of the other"
    assert "spent already: 2.00 core-hours on 1 finished trainings" in lines
    assert any(line.startswith("ifc 0 done 3, 5") for line in lines)


def test_rows_of_all_states_show_in_the_grid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_of(tmp_path, {**IFC_ONLY, "seeds": 5})
    states = {trial.cells[0].key: "done" for trial in plan.trials[:3]} | {plan.trials[3].cells[0].key: "oom"}
    monkeypatch.setattr("harness.engine.preview._states", lambda plan, trials, odd: states)
    lines = printed(plan, CostOptions(1.0, 1.0))
    assert "IFC 3/5 1 oom 0/5" in lines
    assert lines[-6] == "ifc 6 1 0.00 stated" or "ifc 6 1 0.00 stated" in lines, (
        "an oom cell is not run again"
    )
    assert any(
        "left: 5 trainings, 6 evaluations; 1 oom: not run again without --retry" in line for line in lines
    )


def test_ten_thousand_trials_stay_readable(tmp_path: Path) -> None:
    axes = {"model.memory_tokens": list(range(1, 101)), "inference.window": [3]}
    table = {"rows": "model.memory_tokens", "columns": "inference.window", "cells": ["AP"]}
    plan = plan_of(tmp_path, {**IFC_ONLY, "axes": axes, "table": table, "seeds": 100})
    lines = printed(plan, CostOptions(36.0, 36.0))
    assert len(plan.trials) == 10_000
    assert len(lines) < 200
    assert "training left: 1,600.00 core-hours" in lines
    assert "1 0-99 pending 3 100 pending" in lines
    assert "... and 60 more training configurations" in lines
