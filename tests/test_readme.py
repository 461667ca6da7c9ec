"""Every command of the README exists and is understood. `make sweep` and `make test` themselves run in CI."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
import torch

from benchmarks.made_results import make_results
from harness.command_line import harness_command, sweep_command
from harness.config import SyntheticConfig
from harness.data.synthetic import write_dataset
from harness.engine.manifest import write_manifest
from harness.engine.plan import Options, make_plan
from model import build_model
from model.checkpoint import save_weights

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
FENCED = README.split("```")[1::2]
"""What stands between fences; the first line names a language, commands have none"""
COMMANDS = [
    line.split(" #")[0].strip()
    for block in FENCED
    if block.startswith("\n")
    for line in block.splitlines()
    if line.strip()
]
SWEEPS = [command for command in COMMANDS if "run_sweep.py" in command]
SMALLER = [command for command in COMMANDS if "-m harness" in command]
TARGETS = sorted({command.split()[1] for command in COMMANDS if command.startswith("make ")})


@pytest.fixture(scope="module")
def footage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A YouTube-VIS folder with another split to score."""
    folder = tmp_path_factory.mktemp("readme") / "FOLDER"
    small = SyntheticConfig(
        train_videos=1, valid_videos=1, length=3, height=32, width=32, categories=2, min_size=10, max_size=14
    )
    write_dataset(small, folder)
    (folder / "valid_seen.json").write_bytes((folder / "valid.json").read_bytes())
    return folder


@pytest.mark.parametrize(
    "page", ["README.md", "CONTRIBUTING.md", *sorted(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md"))]
)
def test_links_and_named_files_are_there(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    linked = re.findall(r"\]\(([^)#:]+)\)", text)
    named = re.findall(r"`((?:docs|harness|model|sweeps|tests|benchmarks)/[\w/.]+\.\w+)`", text)
    missing = [name for name in linked + named if not (ROOT / name).exists()]
    assert missing == []
    assert not re.search(r"[A-Z]+_TIME", text), "a number that is still to be filled in"


def test_the_readme_has_commands() -> None:
    assert len(SWEEPS) >= 6
    assert {"sweep", "test"} <= set(TARGETS)
    assert set(COMMANDS) == {*SWEEPS, *SMALLER, *(f"make {target}" for target in TARGETS)}


@pytest.mark.parametrize("target", TARGETS)
def test_make_targets_exist(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.M)


@pytest.mark.parametrize("command", SWEEPS)
def test_sweep_commands_are_understood(
    command: str,
    footage: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(ROOT)
    program, script, *arguments = shlex.split(command)
    assert (program, script) == (".venv/bin/python", "run_sweep.py")
    arguments = [str(footage) if argument == "FOLDER" else argument for argument in arguments]
    with pytest.raises(SystemExit) as ended:
        sweep_command([*arguments, "--dry-run", "--results", str(tmp_path / "results")])
    printed = capsys.readouterr()
    assert ended.value.code in (0, None), printed.err
    assert "trainings" in printed.out


@pytest.mark.parametrize("command", SMALLER)
def test_other_commands_do_what_they_say(
    command: str, footage: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "source.pth"
    torch.save({"model": build_model({"backbone": "tiny", "hidden_dim": 32}).state_dict()}, source)
    (tmp_path / "results.json").write_text("[]")
    for name in ("ours.json", "other.json"):
        _write_true_results(footage, tmp_path / name)
    frames = footage / "valid" / "JPEGImages" / "valid_00000"
    places = {"FOLDER": footage, "SOURCE": source, "VIDEO": frames, "OUT": tmp_path / "OUT"}
    program, module, name, *arguments = shlex.split(command)
    assert (program, module, name) == (".venv/bin/python", "-m", "harness")
    made = {
        word: tmp_path / word for word in arguments if re.fullmatch(r"[^=]+\.(json|zip|safetensors)", word)
    }
    words = [str({**places, **made}.get(word, word)) for word in arguments]
    # METHOD=FILE
    words = [re.sub(r"^(\w+)=(.*\.json)$", rf"\1={tmp_path}/\2", word) for word in words]
    if arguments[0] in ("segment", "attend"):
        model = build_model({"backbone": "tiny", "hidden_dim": 32, "ffn_dim": 32, "encoder_layers": 1})
        save_weights(model, made["WEIGHTS.safetensors"], {"config": model.config.model_dump()})
        words += ["--short-side", "32"]
    if arguments[0] in ("status", "show"):  # of a sweep that has been planned and has not begun
        sweep, results = ROOT / "sweeps" / "table3a.yaml", tmp_path / "results"
        planned = Options(sweep, "tiny", results, tmp_path / "reports")
        write_manifest(make_plan(planned))
        words += ["--results", str(results)]
    if arguments[0] in ("report", "archive"):
        results = make_results(tmp_path / "results", "table3a", seeds=(0, 1))
        words += ["--results", str(results)]
        words += ["--reports", str(tmp_path / "reports")] if arguments[0] == "report" else []
        words = [str(tmp_path / word) if word == "kept" else word for word in words]
    if arguments[0] == "bench":
        words += shlex.split("--backbone tiny --size 32x48 --length 2 --window 2 --kept 3 --device cpu")
        words += shlex.split("--region video --passes 1 --min-seconds 0")
    if arguments[0] == "memory":
        words += shlex.split("--backbone tiny --windows 5 --size 64x96")
    with pytest.raises(SystemExit) as ended:
        harness_command(words)
    missing = {"status": 1}  # says so by its exit status
    assert (ended.value.code or 0) == missing.get(arguments[0], 0), capsys.readouterr().err
    assert all(path.is_file() for path in made.values())


def _write_true_results(footage: Path, path: Path) -> None:
    """The annotations as a method's results."""
    truth = json.loads((footage / "valid.json").read_text("utf-8"))
    keys = ("video_id", "category_id", "segmentations")
    tracks = [{key: track[key] for key in keys} for track in truth["annotations"]]
    path.write_text(json.dumps([{**track, "score": 0.9} for track in tracks]), encoding="utf-8")
