"""``python -m harness show``: one trial found by any of its names, told whole, and repeated as printed."""

from __future__ import annotations

import csv
import json
import os
import shlex
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.command_line import harness_command
from harness.engine.manifest import load_manifests, manifest, only
from harness.engine.plan import Options, make_plan
from harness.engine.runners import RunnerId
from harness.provenance import cpu_name, git_state
from harness.show.find import find_trial
from harness.store import write_row
from tests.small_road import ENVIRONMENT, IFC_ONLY, ROOT, STEPS, SWEEP, Road, make_road

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def with_plan(road: Road) -> Road:
    """The road's _plan.json, as a run leaves it."""
    plan = road.plan()
    plan.rows.mkdir(parents=True, exist_ok=True)
    (plan.rows / "_plan.json").write_text(json.dumps(manifest(plan)))
    return road


@pytest.fixture
def planned(tmp_path: Path) -> Road:
    """Two sweeps of one results folder that share their trainings of IFC; nothing has run."""
    other = make_road(tmp_path / "other", IFC_ONLY)
    road = with_plan(make_road(tmp_path / "first", SWEEP))
    plan = make_plan(Options(other.sweep, str(other.folder / "scale.yaml"), road.results, other.folder))
    plan.rows.mkdir(parents=True)
    (plan.rows / "_plan.json").write_text(json.dumps(manifest(plan)))
    return road


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[object, str, str]:
    """Exit status, output and errors of ``show`` in this process."""
    with pytest.raises(SystemExit) as ended:
        harness_command(["show", *arguments])
    printed = capsys.readouterr()
    return ended.value.code, printed.out, printed.err


def record_of(capsys: pytest.CaptureFixture[str], road: Road, name: str) -> dict[str, Any]:
    status, out, err = told(capsys, name, "--results", str(road.results), "--json")
    assert (status, err) == (0, "")
    found: dict[str, Any] = json.loads(out)
    return found


# ------------------------------------------------------------------------------------------ which trial


def test_a_trial_by_each_of_its_names(planned: Road) -> None:
    trial = planned.plan().trials[2]
    assert trial.label() == "ifc seed 0"
    manifests, spoilt = load_manifests(planned.results)
    assert spoilt == []
    for name in (trial.key, trial.key[:6], trial.cells[1].key, "ifc seed 0", " ifc  seed 0"):
        found = find_trial(name, planned.results, manifests)
        assert found.key == trial.key, name
        assert [use.manifest.name for use in found.uses] == ["ifc_only/micro", "micro/micro"]
    found = find_trial("ifc seed 0", planned.results, manifests, "micro/micro")
    assert [use.manifest.name for use in found.uses] == ["micro/micro"]


def test_a_trial_whose_sweep_is_gone(planned: Road) -> None:
    (planned.results / "trials" / "ffff00001111" / "cells" / "eeee00001111").mkdir(parents=True)
    for name in ("ffff00001111", "ffff", "eeee00001111"):
        found = find_trial(name, planned.results, [])
        assert (found.key, found.uses, found.label) == ("ffff00001111", (), None)


def test_names_that_fit_several_trials_or_none(planned: Road, capsys: pytest.CaptureFixture[str]) -> None:
    keys = [trial.key for trial in planned.plan().trials]
    plan = planned.results / "micro" / "micro" / "_plan.json"
    content = json.loads(plan.read_text())
    content["trials"][0]["key"] = keys[2][:5] + "0000000"
    content["trials"][1]["label"] = "ifc seed 0"
    plan.write_text(json.dumps(content))
    results = ["--results", str(planned.results)]
    cases = {
        keys[2][:5]: ("fits 2 trials: ", keys[2], keys[2][:5] + "0000000"),
        "ifc seed 0": ("fits 2 trials: ", f"{keys[1]} (micro/micro: ifc seed 0)", keys[2]),
        "ifc seed 4": ("no such trial in ", "did you mean ", keys[2]),
        "??": ("no such trial in ", "there are: ", keys[2]),
        "": ("no such trial in ", "there are: ", keys[2]),
    }
    for name, parts in cases.items():
        status, out, err = told(capsys, name, *results)
        assert (status, out) == (2, "")
        [line] = err.splitlines()
        assert line.startswith(f"error: TRIAL {name!r}: ")
        assert all(part in line for part in parts), line
    status, _, err = told(capsys, "ifc seed 0", *results, "--sweep", "table9")
    assert status == 2
    assert "--sweep: 'table9': no such sweep" in err
    assert "ifc_only/micro, micro/micro" in err
    status, _, err = told(capsys, "ifc seed 0", "--results", str(planned.results / "none"))
    assert (status, err) == (2, f"error: --results {planned.results / 'none'}: no such folder\n")


def test_a_plan_that_is_none_is_named_and_not_fatal(
    planned: Road, capsys: pytest.CaptureFixture[str]
) -> None:
    (planned.results / "micro" / "micro" / "_plan.json").write_text('{"sweep": ')
    status, out, err = told(capsys, "ifc seed 0", "--results", str(planned.results))
    assert status == 0
    assert "used by ifc_only/micro" in out
    [line] = err.splitlines()
    assert line.startswith(f"warning: {planned.results}/micro/micro/_plan.json: not the plan of a sweep (")


# ------------------------------------------------------------------------------------------- what is told


def attempt(road: Road, key: str, number: int, **files: dict[str, Any]) -> None:
    folder = road.results / "trials" / key / "attempts" / f"{number:04}"
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))


def test_states_of_a_trial_that_fails_and_runs_again(
    planned: Road, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = planned.plan()
    trial = plan.trials[2]
    first, second = (cell.key for cell in trial.cells)
    results = ["--results", str(planned.results)]
    assert record_of(capsys, planned, trial.key)["state"] == {"training": "pending", "cells": {"pending": 2}}

    here = replace(RunnerId.of_this_process(), runner="r1", host="box")
    owner = {**asdict(here), "since": "2026-01-01T00:00:00+00:00", "executor": "local"}
    owner |= {"stage": "train_evaluate", "cells": [first, second]}
    outcome = {"state": "oom", "error": "killed: out of memory", "log_tail": "one\ntwo", "seconds": 1800.0}
    outcome |= {"training": True, "cells": [first, second]}
    attempt(planned, trial.key, 1, owner=owner, outcome={**outcome, "peak_memory_gb": 16.5, "devices": 2})
    row = {"schema_version": 2, "sweep": "micro", "cell": first, "status": "oom", "error": "killed: memory"}
    write_row(plan.rows, {**row, **dict(trial.cells[0].varied)})
    record = record_of(capsys, planned, trial.key)
    assert record["state"] == {"training": "oom", "cells": {"oom": 2}}
    assert record["cost"]["all_attempts_device_hours"] == 1.0
    out = told(capsys, trial.key, *results)[1]
    for part in ("killed: out of memory", "killed: memory", "  | two", "16.5", "r1", "box"):
        assert part in out

    attempt(
        planned,
        trial.key,
        2,
        owner=owner,
        progress={"name": "train", "done": 5, "steps": STEPS, "loss": 1.25},
    )
    (planned.results / "runners").mkdir()
    (planned.results / "runners" / "r1.json").write_text(json.dumps({**asdict(here), "beat": 3}))
    assert record_of(capsys, planned, trial.key)["state"] == {"training": "running", "cells": {"running": 2}}
    out = told(capsys, trial.key, *results)[1]
    assert f"attempt 0002: train, step 5/{STEPS}, loss 1.25, its runner's last beat " in out

    # Its runner is killed: nobody is at it any more, and nobody says so.
    dead = {**owner, "process_started": 1}
    progress = {"name": "train", "done": 7, "steps": STEPS}
    attempt(planned, trial.key, 3, owner=dead, progress=progress)
    interrupted = {"training": "interrupted", "cells": {"interrupted": 2}}
    assert record_of(capsys, planned, trial.key)["state"] == interrupted
    assert f"attempt 0003: train, step 7/{STEPS}, its runner is gone" in told(capsys, trial.key, *results)[1]


def finish(road: Road, key: str, cells: list[str], **conditions: Any) -> None:
    """What a training and its evaluations leave, as far as ``show`` reads it."""
    folder = road.results / "trials" / key
    folder.mkdir(parents=True, exist_ok=True)
    clean = {"git_commit": COMMIT, "git_dirty": False, "git_diff_hash": None, "host": "box"}
    trained = {
        "seed": 0,
        "train_seconds": 3.0,
        "train_waited_seconds": 0.75,
        "train_processes": 1,
        "device_hours": 0.000833,
        **clean,
    }
    (folder / "trial.json").write_text(json.dumps({**trained, **conditions}))
    for number, cell in enumerate(cells):
        (folder / "cells" / cell).mkdir(parents=True)
        scored = {"AP": 12.345, "evaluated": f"2026-01-01T00:00:0{number}+00:00", **clean}
        (folder / "cells" / cell / "metrics.json").write_text(json.dumps({**scored, **conditions}))


def test_the_share_of_waiting_where_it_was_measured(
    planned: Road, capsys: pytest.CaptureFixture[str]
) -> None:
    [trial, other] = planned.plan().trials[:2]
    finish(planned, trial.key, [])
    finish(planned, other.key, [], train_waited_seconds=None)  # older trials have no such key
    assert record_of(capsys, planned, trial.key)["training"]["waiting_share"] == 0.25
    results = ("--results", str(planned.results))
    assert "0.25" in next(
        x for x in told(capsys, trial.key, *results)[1].splitlines() if "waiting_share" in x
    )
    assert record_of(capsys, planned, other.key)["training"]["waiting_share"] is None
    assert "waiting_share" not in told(capsys, other.key, *results)[1]


def test_scores_by_situation_and_by_error_of_the_cells_that_have_them(
    planned: Road, capsys: pytest.CaptureFixture[str]
) -> None:
    [trial, other] = planned.plan().trials[:2]
    for each in (trial, other):
        finish(planned, each.key, [cell.key for cell in each.cells])
    cell, plain = (each.key for each in trial.cells)
    folder = planned.results / "trials" / trial.key / "cells" / cell
    situations = {"AP_speed_low": 61.25, "AP_speed_mid": None, "AP_blur_high": 7.5}
    (folder / "situations.json").write_text(json.dumps(situations))
    (folder / "errors.json").write_text(json.dumps({"dAP_missed": 3.125, "dAP_both": 0.0}))

    found = {each["cell"]: each for each in record_of(capsys, planned, trial.key)["cells"]}
    assert found[cell]["by_situation"] == situations
    assert found[cell]["by_error"] == {"dAP_missed": 3.125, "dAP_both": 0.0}
    assert (found[plain]["by_situation"], found[plain]["by_error"]) == ({}, {})

    lines = told(capsys, trial.key, "--results", str(planned.results))[1].splitlines()
    at = lines.index(next(line for line in lines if line.startswith(f"AP of {cell}")))
    assert lines[at].split()[3:] == ["low", "third", "mid", "third", "high", "third"]
    rows = {line.split()[0]: line.split()[1:] for line in lines[at + 2 :] if line.strip()}
    assert (rows["speed"], rows["blur"], rows["absence"]) == (["61.25"], ["7.5"], [])
    assert (rows["missed"], rows["class"], rows["duplicate"]) == (["3.125"], ["and", "location", "0"], [])
    assert [name for name in rows if name in ("look-alikes", "location")] == ["look-alikes", "location"]
    assert f"errors of {plain}" not in "\n".join(lines)
    out = told(capsys, other.key, "--results", str(planned.results))[1]
    assert "third" not in out
    assert "points of AP50" not in out


@pytest.mark.parametrize("name", ["situations.json", "errors.json"])
@pytest.mark.parametrize("content", [b'{"AP_speed_low": 61', b"[]", b"\xff"])
def test_damaged_scores_of_a_cell_are_named(
    planned: Road, capsys: pytest.CaptureFixture[str], name: str, content: bytes
) -> None:
    trial = planned.plan().trials[0]
    finish(planned, trial.key, [cell.key for cell in trial.cells])
    assert record_of(capsys, planned, trial.key)["notes"] == []
    path = planned.results / "trials" / trial.key / "cells" / trial.cells[0].key / name
    path.write_bytes(content)
    [note] = record_of(capsys, planned, trial.key)["notes"]
    assert note == f"{path}: damaged; its numbers are not shown, rows may have them"
    assert f"note: {note}" in told(capsys, trial.key, "--results", str(planned.results))[1]


def commands_of(record: dict[str, Any]) -> tuple[list[str], list[str]]:
    return record["repeat"]["commands"], record["repeat"]["warnings"]


def test_the_commands_of_a_clean_checkout(planned: Road, capsys: pytest.CaptureFixture[str]) -> None:
    trial = planned.plan().trials[2]
    finish(planned, trial.key, [cell.key for cell in trial.cells])
    commands, warnings = commands_of(record_of(capsys, planned, trial.key))
    assert commands[0] == f"git checkout {COMMIT}"
    [run] = commands[1:]
    assert shlex.split(run)[-6:] == [
        *("--only", "encoder=ifc,seed=0", "--results", "repeat/results", "--reports", "repeat/reports")
    ]
    assert warnings == []
    out = told(capsys, trial.key, "--results", str(planned.results))[1]
    assert out.endswith("\n".join(["Repeat", *commands]) + "\n")


@pytest.mark.parametrize(
    ("conditions", "warning"),
    [
        ({"git_dirty": True, "git_diff_hash": "abcd"}, "(hash of the difference: abcd)"),
        ({"git_dirty": True}, "(hash of the difference: not known)"),
        ({"git_commit": None, "git_dirty": None}, "the code was no git checkout"),
    ],
)
def test_what_cannot_be_repeated_exactly_is_said(
    conditions: dict[str, Any], warning: str, planned: Road, capsys: pytest.CaptureFixture[str]
) -> None:
    trial = planned.plan().trials[2]
    finish(planned, trial.key, [cell.key for cell in trial.cells], **conditions)
    commands, [line] = commands_of(record_of(capsys, planned, trial.key))
    assert warning in line
    assert len(commands) == (1 if "git_commit" in conditions else 2)
    assert f"# warning: {line}\n" in told(capsys, trial.key, "--results", str(planned.results))[1]


@pytest.mark.parametrize(
    ("cpu", "device", "warned"),
    [("Abacus 1, AVX2", "cpu", True), (cpu_name(), "cpu", False), ("Abacus 1, AVX2", "cuda", False)],
)
def test_another_processor_than_this_is_said(
    cpu: str, device: str, warned: bool, planned: Road, capsys: pytest.CaptureFixture[str]
) -> None:
    trial = planned.plan().trials[2]
    finish(planned, trial.key, [cell.key for cell in trial.cells], cpu=cpu, device=device)
    _, warnings = commands_of(record_of(capsys, planned, trial.key))
    said = f"it ran on {cpu}, here is {cpu_name()}: sums may round differently"
    assert [warning.startswith(said) for warning in warnings] == [True] * warned


def test_an_evaluation_at_a_later_commit_is_repeated_there(
    planned: Road, capsys: pytest.CaptureFixture[str]
) -> None:
    trial = planned.plan().trials[2]
    finish(planned, trial.key, [cell.key for cell in trial.cells])
    later = planned.results / "trials" / trial.key / "cells" / trial.cells[1].key / "metrics.json"
    later.write_text(json.dumps({**json.loads(later.read_text()), "git_commit": "f" * 40}))
    commands, _ = commands_of(record_of(capsys, planned, trial.key))
    assert commands[::2] == [f"git checkout {COMMIT}", "git checkout " + "f" * 40]
    assert commands[1] == commands[3]


def test_paths_are_quoted_for_the_shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    road = with_plan(make_road(tmp_path / "it's a $folder", SWEEP))
    [run], _ = commands_of(record_of(capsys, road, "ifc seed 1"))
    printed = subprocess.run(["bash", "-c", f"printf '%s\\n' {run}"], capture_output=True, text=True)
    assert str(road.sweep) in printed.stdout.splitlines()


def test_only_names_what_is_not_ambiguous(tmp_path: Path) -> None:
    axes = {"train.steps": [1, 2], "train.short_sides": [[32], [32, 48]], "inference.window": [3, 5]}
    table = {"rows": ["train.steps", "train.short_sides"], "columns": "inference.window", "cells": ["AP"]}
    trials = make_road(tmp_path, {**IFC_ONLY, "axes": axes, "table": table}).plan().trials
    keys = ["train.steps", "train.short_sides"]
    assert only(trials[-1], keys, (*keys, "inference.window")) == "steps=2,short_sides=[32,48],seed=1"
    assert only(trials[0], keys, (*keys, "other.steps")) == "train.steps=1,short_sides=[32],seed=0"


# ------------------------------------------------------------------------------------------- a real trial


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Road:
    """A sweep that ran: one training for each of two seeds."""
    road = make_road(tmp_path_factory.mktemp("finished"), IFC_ONLY)
    done = road.run()
    assert done.returncode == 0, done.stderr
    return with_plan(road)


def losses(trial: Path) -> list[list[str]]:
    with (trial / "losses.csv").open(newline="") as file:
        return [line[:-2] for line in csv.reader(file)]


def aps(trial: Path) -> dict[str, float]:
    files = trial.glob("cells/*/metrics.json")
    return {file.parent.name: json.loads(file.read_text())["AP"] for file in files}


@pytest.mark.slow
def test_all_of_a_finished_trial(finished: Road, capsys: pytest.CaptureFixture[str]) -> None:
    record = record_of(capsys, finished, "ifc seed 1")
    folder = finished.results / "trials" / record["trial"]
    lines = losses(folder)
    assert record["seed"] == 1
    assert record["state"] == {"training": "done", "cells": {"done": 2}}
    assert record["training"]["steps"] == STEPS
    assert record["training"]["first_losses"]["total"] == float(lines[1][1])
    assert record["training"]["last_losses"]["total"] == float(lines[-1][1])
    assert 0 < record["training"]["train_waited_seconds"] < record["training"]["train_seconds"]
    assert {cell["cell"]: cell["AP"] for cell in record["cells"]} == aps(folder)
    assert record["provenance"]["training"]["git_commit"] == git_state()["git_commit"]
    assert record["provenance"]["packages"]["torch"]
    assert record["config"]["train"]["steps"] == STEPS
    assert {"trial.json", "losses.csv", "weights.safetensors"} <= {file["file"] for file in record["files"]}

    status, out, _ = told(capsys, "ifc seed 1", "--results", str(finished.results))
    assert status == 0
    assert "\x1b" not in out, "plain where the output is no terminal"
    sections = ["State", "Training", "Results", "Provenance", "Cost", "Configuration", "Files", "Repeat"]
    assert [line for line in out.splitlines() if line in sections] == sections
    config = out.split("\nConfiguration\n")[1].split("\n\nFiles\n")[0]
    assert yaml.safe_load(config) == record["config"]
    for key in ("host", "determinism", "data_checksum", "torch_version", "cpu", "threads"):
        assert str(record["provenance"]["training"][key]) in out


@pytest.mark.slow
def test_the_printed_command_repeats_the_trial(
    finished: Road, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As printed, in a folder of its own; only `git checkout` is left to people."""
    out = told(capsys, "ifc seed 1", "--results", str(finished.results))[1]
    [command] = [line for line in out.splitlines() if line.startswith("python run_sweep.py ")]
    (tmp_path / "run_sweep.py").symlink_to(ROOT / "run_sweep.py")
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=tmp_path,
        env={**ENVIRONMENT, "PATH": path},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    [repeated] = (tmp_path / "repeat" / "results" / "trials").iterdir()
    original = finished.results / "trials" / repeated.name
    assert repeated.name == record_of(capsys, finished, "ifc seed 1")["trial"]
    assert losses(repeated) == losses(original)
    assert aps(repeated) == aps(original)
    assert len(aps(repeated)) == 2
