"""The command as people type it: exit status, one line on standard error, and nothing half-written."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from harness.command_line import sweep_command
from harness.engine.plan import Options, make_plan
from model.errors import InputError
from tests.test_sweep import GOOD

ROOT = Path(__file__).resolve().parent.parent
TABLE = "sweeps/table3a.yaml"
TINY = ["--scale", "tiny"]


@pytest.fixture(autouse=True)
def in_the_root_without_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    for variable in ("YOUTUBE_VIS", "YOUTUBE_VIS_2019"):
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture
def out(tmp_path: Path) -> list[str]:
    return ["--results", str(tmp_path / "results"), "--reports", str(tmp_path / "reports")]


def process(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "run_sweep.py", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=120
    )


def status_of(arguments: list[str]) -> object:
    """The command in this process."""
    with pytest.raises(SystemExit) as ended:
        sweep_command(arguments)
    return ended.value.code


def written(tmp_path: Path) -> list[Path]:
    return [path for name in ("results", "reports") for path in [tmp_path / name] if path.exists()]


# ------------------------------------------------------------------------------------------ real processes


def test_help() -> None:
    done = process(["--help"])
    assert done.returncode == 0
    assert done.stderr == ""
    for option in (
        "--scale",
        "--data",
        "--split",
        "--results",
        "--reports",
        "--dry-run",
        "--device",
        "--retry",
    ):
        assert option in done.stdout


def test_dry_run_of_the_tiny_table(out: list[str], tmp_path: Path) -> None:
    done = process([TABLE, *TINY, "--dry-run", *out])
    assert (done.returncode, done.stderr) == (0, "")
    assert "left: 8 trainings, 32 evaluations" in done.stdout
    for encoder in ("no_comm", "full_thw", "decomp_t_hw", "ifc"):
        assert len(re.findall(rf"^{encoder} +[01] +pending +5, 10, 15, 20 ", done.stdout, re.M)) == 2
    assert written(tmp_path) == []


def test_no_scale_and_no_data(out: list[str], tmp_path: Path) -> None:
    done = process([TABLE, *out])
    assert (done.returncode, done.stdout) == (2, "")
    [line] = done.stderr.splitlines()
    assert "looked at --data (not given) and the variables YOUTUBE_VIS_2019 and YOUTUBE_VIS (not set)" in line
    assert f"`python run_sweep.py {TABLE} --data FOLDER`" in line
    assert f"`python run_sweep.py {TABLE} --scale tiny`" in line
    assert written(tmp_path) == []


def test_no_sweep_file_at_all(out: list[str], tmp_path: Path) -> None:
    done = process(["sweeps/table9.yaml", *TINY, *out])
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [
        "error: sweeps/table9.yaml: cannot be read as a sweep file (No such file or directory)"
    ]
    assert written(tmp_path) == []


# ------------------------------------------------------------------------------------------- bad arguments


def make_data(folder: Path, case: str) -> Path:
    """A data folder that cannot be used, for ``--data``."""
    if case == "missing folder":
        return folder
    folder.mkdir()
    if case == "a file":
        (folder / "file").write_text("")
        return folder / "file"
    texts = {
        "not json": "hello",
        "truncated json": '{"videos": [',
        "a list": "[]",
        "coco": json.dumps({"images": [], "categories": [], "annotations": []}),
        "no categories": json.dumps({"videos": []}),
        "empty": json.dumps({"videos": [], "categories": [], "annotations": []}),
    }
    if case in texts:
        (folder / "train.json").write_text(texts[case])
    return folder


DATA = {
    "missing folder": "{data}: no such folder; looked for ",
    "a file": "{data}: not a folder; looked for ",
    "empty folder": "{data}: the folder is empty; looked for ",
    "not json": "{data}/train.json: not a json file (",
    "truncated json": "{data}/train.json: not a json file (",
    "a list": "{data}/train.json: top level is a list; ",
    "coco": "{data}/train.json: images: empty list",
    "no categories": "{data}/train.json: key categories is missing",
    "empty": "{data}/train.json: videos: empty list",
}


@pytest.mark.parametrize("variable", [False, True], ids=["option", "variable"])
@pytest.mark.parametrize("case", DATA)
def test_unusable_data(
    case: str,
    variable: bool,
    out: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = make_data(tmp_path / "data", case)
    if variable:
        monkeypatch.setenv("YOUTUBE_VIS", str(data))
    named = [] if variable else ["--data", str(data)]
    assert status_of([TABLE, *named, *out]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    [line] = printed.err.splitlines()
    assert line.startswith("error: " + DATA[case].format(data=data)), line
    assert written(tmp_path) == []


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "Missing argument"),
        ([TABLE, "--scal", "tiny"], "No such option: --scal"),
        ([TABLE, "--scale", "Tiny"], "--scale: 'Tiny': no such scale; allowed: paper, sanity, tiny"),
        ([TABLE, "--scale", "none.yaml"], "none.yaml: cannot be read as a scale"),
        ([TABLE, "sweeps/more.yaml"], "unexpected extra argument"),
        ([TABLE, *TINY, "--workers", "0"], "Invalid value for '--workers': "),
        ([TABLE, *TINY, "--workers", "two"], "Invalid value for '--workers': "),
        ([TABLE, *TINY, "--device", "gpu"], "--device: 'gpu': allowed: auto, cpu, cuda"),
        (
            [TABLE, *TINY, "--split", "valid_seen"],
            "--split: 'valid_seen': embedded data has the split 'valid'",
        ),
        (["sweeps", *TINY], "sweeps: cannot be read as a sweep file"),
        (["README.md", *TINY], "README.md: not "),
        (["pyproject.toml", *TINY], "pyproject.toml: not "),
    ],
)
def test_bad_arguments(
    arguments: list[str],
    expected: str,
    out: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert status_of([*arguments, *(out if arguments else [])]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    [line] = printed.err.splitlines()
    assert line.startswith("error: ")
    assert expected in line
    assert written(tmp_path) == []


@pytest.mark.parametrize("option", ["--results", "--reports"])
@pytest.mark.parametrize("below", ["", "deeper/still"])
def test_output_where_a_file_lies(
    option: str, below: str, out: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    assert status_of([TABLE, *TINY, *out, option, str(file / below)]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line == f"error: {option} {file / below}: {file} is a file; a folder is expected"
    assert file.read_text() == "mine"
    assert written(tmp_path) == []


@pytest.mark.parametrize("dry_run", [[], ["--dry-run"]])
def test_bad_values_in_a_sweep_file(
    dry_run: list[str], out: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump({**GOOD, "axes": {"model.encoder": ["lstm"], "inference.window": [5]}}))
    assert status_of([str(file), *TINY, *out, *dry_run]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {file}: model.encoder: 'lstm': allowed: no_comm, ")
    assert written(tmp_path) == []


def test_problems_of_a_scale_name_the_scales_file(
    out: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scale = tmp_path / "mine.yaml"
    scale.write_text("name: mine\ndescription: d\nsettings: {model: {backbone: vgg}}\n")
    assert status_of([TABLE, "--scale", str(scale), *out]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {scale}: model.backbone: 'vgg': Input should be 'tiny', 'tiny_deep'")


def test_the_results_folder_holds_a_foreign_file(
    out: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status_of([TABLE, *TINY, "--dry-run", *out]) == 0
    first_cell = first_row_file(tmp_path / "results")
    capsys.readouterr()
    first_cell.parent.mkdir(parents=True)
    first_cell.write_bytes(b"not parquet")
    assert status_of([TABLE, *TINY, *out, "--dry-run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    [line] = [line for line in lines if line.startswith(f"{first_cell}: not a row of this harness (")]
    assert line.endswith("; passed over")
    assert [path.name for path in (tmp_path / "results").rglob("*") if path.is_file()] == [first_cell.name]


def first_row_file(results: Path) -> Path:
    from harness.engine.plan import Options, make_plan

    plan = make_plan(Options(Path(TABLE), "tiny", results, results / "reports"))
    return plan.rows / f"{plan.trials[0].cells[0].key}.parquet"


def test_interrupt_says_how_to_go_on(
    out: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(options: object, lacking: bool) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("harness.engine.plan.make_plan", interrupted)
    assert status_of([TABLE, *TINY, *out]) == 130
    assert capsys.readouterr().err == "interrupted: run the same command to go on\n"


@pytest.mark.parametrize("module", ["harness.command_line", "typer", "rich.console"])
def test_an_interrupt_while_modules_are_imported_is_one_line(module: str) -> None:
    program = f"""
import runpy, sys
class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            raise KeyboardInterrupt
sys.meta_path.insert(0, Interrupt())
sys.argv = ["harness", "--help"]
runpy.run_module("harness", run_name="__main__")
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")


def test_a_bug_is_not_dressed_up_as_bad_input(out: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(options: object, lacking: bool) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("harness.engine.plan.make_plan", broken)
    with pytest.raises(ZeroDivisionError):
        sweep_command([TABLE, *TINY, *out])


def test_the_environment_is_left_alone(out: list[str]) -> None:
    before = dict(os.environ)
    assert status_of([TABLE, *TINY, "--dry-run", *out]) == 0
    assert dict(os.environ) == before


def test_a_third_axis_is_refused_before_anything_runs(tmp_path: Path) -> None:
    sweep = yaml.safe_load((ROOT / TABLE).read_text(encoding="utf-8"))
    sweep["axes"]["model.num_queries"] = [5, 10]
    file = tmp_path / "three.yaml"
    file.write_text(yaml.safe_dump(sweep), encoding="utf-8")
    with pytest.raises(InputError, match=r"three\.yaml: axes\.model\.num_queries: neither"):
        make_plan(Options(file, "tiny", tmp_path / "results", tmp_path / "reports"))
