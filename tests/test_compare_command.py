"""`python -m harness compare` as a process: what it writes, scores, refuses and leaves alone."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from benchmarks.made_methods import FAULTS, write_methods
from harness.command_line import harness_command
from harness.compare.methods import GROUND_TRUTH, load_videos
from harness.compare.scenes import Scenes
from harness.compare.scores import METRICS
from harness.config import SyntheticConfig
from harness.data.synthetic import write_dataset
from harness.evaluation import evaluate
from harness.named_files import named_files
from harness.overlay import IMAGES_RATE
from model.errors import InputError

ROOT = Path(__file__).resolve().parent.parent
FOOTAGE = ROOT.parent / "shared" / "data" / "ytvis_mini"


def test_names_and_files() -> None:
    assert named_files(["a=x.json", "b=y=z.json"]) == {"a": Path("x.json"), "b": Path("y=z.json")}
    for wrong in ("x.json", "=x.json", "a=", "ground truth=x", "a\nb=x"):
        with pytest.raises(InputError):
            named_files([wrong], GROUND_TRUTH)
    with pytest.raises(InputError, match="is there twice"):
        named_files(["a=x", " a=y"])


DATA = SyntheticConfig(
    train_videos=1, valid_videos=4, length=9, height=48, width=64, min_size=12, max_size=20
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "made"
    write_dataset(DATA, folder)
    return folder


@pytest.fixture(scope="module")
def truth(data: Path) -> dict[str, Any]:
    return dict(json.loads((data / "valid.json").read_text()))


@pytest.fixture(scope="module")
def methods(truth: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    files = write_methods(tmp_path_factory.mktemp("methods"), truth)
    return [f"{name}={path}" for name, path in files.items()]


def command(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "harness", "compare", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture(scope="module")
def compared(data: Path, methods: list[str], tmp_path_factory: pytest.TempPathFactory) -> Any:
    pytest.importorskip("av")
    out = tmp_path_factory.mktemp("out") / "compared"
    done = command("--data", data, *methods, "--out", out, "--frames", "4", "--count", "3")
    assert done.returncode == 0, done.stderr
    return done, out


def test_everything_is_written(compared: Any, truth: dict[str, Any]) -> None:
    done, out = compared
    assert sorted(path.name for path in out.iterdir()) == [
        *("frames", "index.html", "scores.csv", "scores.tex", "situations.tex", "strips", "videos")
    ]
    stems = {path.stem for path in (out / "strips").iterdir()}
    assert len(stems) == 3
    assert stems == {path.stem for path in (out / "videos").iterdir()}
    assert {path.suffix for path in (out / "strips").iterdir()} == {".pdf", ".png"}
    assert {path.name for path in (out / "frames").iterdir()} == stems
    assert all(len(list(folder.iterdir())) == 9 for folder in (out / "frames").iterdir())
    assert f"written: {out / 'index.html'}" in done.stdout
    assert "no standard deviation" in done.stdout
    for told in (done.stdout, (out / "index.html").read_text(), (out / "situations.tex").read_text()):
        assert "look-alikes" in told
        assert "look alikes" not in told


def test_strips_and_videos_can_be_read(compared: Any) -> None:
    import av

    _, out = compared
    for path in (out / "strips").glob("*.png"):
        assert Image.open(path).size[0] == 2040  # the width of a page at 300 dpi
    for path in (out / "videos").iterdir():
        with av.open(str(path)) as container:
            assert len(list(container.decode(video=0))) == 9
            assert container.streams.video[0].average_rate == IMAGES_RATE


def test_scores_are_the_evaluators(compared: Any, truth: dict[str, Any], methods: list[str]) -> None:
    with (compared[1] / "scores.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    for method in methods:
        name, path = method.split("=")
        expected = evaluate(truth, path)
        for metric in METRICS:
            [line] = [each for each in lines if (each["method"], each["metric"]) == (name, metric)]
            assert float(line["value"]) == pytest.approx(100 * expected[metric])
            assert (line["split"], line["videos"], line["unit"]) == ("valid", "4", "percent")
    assert {line["metric"] for line in lines} > {"AP_speed_low", "AP_blur_high"}


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_tables_compile(compared: Any, tmp_path: Path) -> None:
    for name in ("scores.tex", "situations.tex"):
        source = compared[1] / name
        done = subprocess.run(
            [
                "pdflatex",
                "-interaction=nonstopmode",
                "-halt-on-error",
                f"-output-directory={tmp_path}",
                source,
            ],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout[-2000:]
        assert "Overfull" not in done.stdout


def test_equal_inputs_give_equal_files(data: Path, methods: list[str], tmp_path: Path) -> None:
    for name in ("one", "other"):
        harness_quietly("--data", data, *methods, "--out", tmp_path / name, "--no-video", "--count", "1")
    for path in sorted((tmp_path / "one").rglob("*.*")):
        assert path.read_bytes() == (tmp_path / "other" / path.relative_to(tmp_path / "one")).read_bytes(), (
            path
        )


def harness_quietly(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as ended:
        harness_command(["compare", *map(str, arguments)])
    return int(ended.value.code or 0)


def test_the_largest_disagreement_comes_first(data: Path, methods: list[str], tmp_path: Path) -> None:
    from harness.compare.methods import read_methods

    dataset = load_videos(data, None)
    read = read_methods(named_files(methods), dataset.ground_truth())
    scenes = [Scenes(dataset, read, 0.3, 10).of(video) for video in dataset.videos]
    largest = max(scenes, key=lambda scene: float(scene.disagreement.mean()))
    harness_quietly("--data", data, *methods, "--out", tmp_path / "o", "--no-video", "--count", "1")
    assert [path.name for path in (tmp_path / "o" / "frames").iterdir()] == [largest.stem]


def test_videos_and_frames_by_name(data: Path, methods: list[str], tmp_path: Path) -> None:
    names = sorted(video.name for video in load_videos(data, None).videos)
    asked = ("--videos", f"{names[2]},{names[0]}", "--frames", "0,8")
    harness_quietly("--data", data, *methods, "--out", tmp_path / "a", "--no-video", *asked)
    assert sorted(path.name for path in (tmp_path / "a" / "frames").iterdir()) == [names[0], names[2]]
    harness_quietly(
        "--data", data, *methods, "--out", tmp_path / "b", "--no-video", "--by", "name", "--count", "2"
    )
    assert sorted(path.name for path in (tmp_path / "b" / "frames").iterdir()) == names[:2]


def test_without_pyav_videos_are_left_out_and_said(
    data: Path,
    methods: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("harness.compare.run.video_lacks", lambda option: f"--{option}: no PyAV")
    asked = ("--data", data, *methods, "--count", "1", "--out")
    assert harness_quietly(*asked, tmp_path / "o") == 0
    assert "skipped: videos (--video: no PyAV)\n" in capsys.readouterr().err
    assert (tmp_path / "o" / "index.html").is_file()
    assert not (tmp_path / "o" / "videos").exists()
    assert harness_quietly(*asked, tmp_path / "p", "--video") == 2
    assert capsys.readouterr().err == "error: --video: no PyAV\n"
    assert not (tmp_path / "p").exists()


def test_without_annotations_there_are_pictures_only(
    data: Path, methods: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = tmp_path / "data"
    shutil.copytree(data, bare)
    content = json.loads((bare / "valid.json").read_text())
    (bare / "valid.json").write_text(json.dumps({**content, "annotations": None}))
    shared = ("--data", bare, *methods, "--out", tmp_path / "o")
    assert harness_quietly(*shared, "--no-video", "--count", "1") == 0
    said = capsys.readouterr().out
    assert "no annotations: pictures only, no scores" in said
    assert not (tmp_path / "o" / "scores.csv").exists()
    page = (tmp_path / "o" / "index.html").read_text()
    assert "nothing can be scored" in page
    assert "ground truth" not in page
    assert harness_quietly(*shared, "--score-only", "--force") == 2
    assert "no annotations to score against" in capsys.readouterr().err


def test_scores_alone_need_no_frames(
    data: Path, truth: dict[str, Any], methods: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "valid.json").write_text(json.dumps(truth))
    out = tmp_path / "o"
    assert harness_quietly("--data", tmp_path / "valid.json", *methods, "--out", out, "--score-only") == 0
    assert sorted(path.name for path in out.iterdir()) == ["scores.csv", "scores.tex"]
    assert "near" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--by", "size"], "error: --by size: allowed: disagreement, name"),
        (["--frames", "x"], "error: --frames: 'x': allowed: how many, such as 8, or which"),
        (["--threshold", "nan"], "error: --threshold nan: allowed: a number"),
        (["--frames", "0"], "error: --frames: 0: allowed: 1 or more"),
        (["--frames", "3,4"], "error: --frames: numbers of frames; allowed: with --videos NAME"),
        (["--videos", "atlantis"], "error: --videos 'atlantis': no such video; allowed: "),
        (["--videos", "x", "--count", "3"], "error: --videos and --count: allowed: one of them"),
        (["--split", "test"], "no annotations of split 'test'"),
        (["--split", ""], "error: --split '': allowed: the name of a json of the folder, or a hold-out"),
        (["also=missing.json"], "error: missing.json: cannot be read"),
        (["unnamed.json"], "error: 'unnamed.json': allowed: NAME=FILE"),
    ],
)
def test_what_is_wrong_is_one_line(
    data: Path,
    methods: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    says: str,
) -> None:
    assert harness_quietly("--data", data, methods[0], *arguments, "--out", tmp_path / "o", "--no-video") == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1
    assert not (tmp_path / "o").exists()


def test_a_foreign_folder_is_left_alone(
    data: Path, methods: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    for folder in ("frames", "strips", "videos"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mine.mp4").write_text("mine")
    asked = ("--data", data, *methods, "--out", tmp_path, "--no-video", "--count", "1")
    assert harness_quietly(*asked) == 2
    assert "not empty; choose another folder, or --force" in capsys.readouterr().err
    assert harness_quietly(*asked, "--force") == 0
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert len(list(tmp_path.glob("*/mine.mp4"))) == 3
    assert (tmp_path / "index.html").exists()


@pytest.mark.parametrize("place", ["scores.csv", "frames/valid_00000/0000.webp", "strips/valid_00000.png"])
def test_an_input_is_never_given_up(
    data: Path, methods: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], place: str
) -> None:
    out, file = tmp_path / "o", methods[0].split("=")[1]
    for name in ("frames/valid_00000/0000.webp", "index.html", place):
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text("earlier")
    shutil.copy(file, out / place)
    asked = ("--data", data, f"a={file}", f"b={tmp_path / 'o' / '..' / 'o' / place}", "--out", out, "--force")
    assert harness_quietly(*asked, "--score-only") == 2
    assert "is among what would be replaced" in capsys.readouterr().err
    assert (out / place).read_bytes() == Path(file).read_bytes()
    assert (out / "index.html").read_text() == "earlier"


def test_annotations_and_frames_are_never_given_up(
    data: Path, truth: dict[str, Any], methods: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "scores.tex").write_text(json.dumps(truth))
    asked = (*methods, "--out", tmp_path, "--force")
    assert harness_quietly("--data", tmp_path / "scores.tex", *asked, "--score-only") == 2
    assert f"{tmp_path / 'scores.tex'} is among what would be replaced" in capsys.readouterr().err
    frames = tmp_path / "data" / "valid" / "JPEGImages"
    shutil.copytree(data, tmp_path / "data")
    (frames / "frames").symlink_to(frames)
    shutil.copy(next((frames / "valid_00000").iterdir()), frames / "valid_00000" / "0000.webp")
    asked = (*methods, "--out", frames, "--force")
    assert harness_quietly("--data", tmp_path / "data", *asked, "--no-video") == 2
    assert "valid_00000 is among what would be replaced" in capsys.readouterr().err
    assert (frames / "valid_00000" / "0000.webp").exists()


def test_earlier_files_stay_until_there_are_new_ones(
    data: Path, methods: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken, out = tmp_path / "data", tmp_path / "o"
    shutil.copytree(data, broken)
    asked = (*methods, "--no-video", "--count", "1", "--out")
    assert harness_quietly("--data", broken, *asked, out) == 0
    before = {path: path.read_bytes() for path in out.rglob("*.*")}
    next((broken / "valid").rglob("*.jpg")).write_bytes(b"no picture")
    for more in ((), ("--score-only",)):
        assert harness_quietly("--data", broken, *asked, out, "--force", *more) == 2
        assert "cannot be decoded" in capsys.readouterr().err
        assert {path: path.read_bytes() for path in out.rglob("*.*")} == before
        assert harness_quietly("--data", broken, *asked, tmp_path / "new" / "o", *more) == 2
        assert not (tmp_path / "new").exists()
    (out / "strips" / "mine.png").write_text("mine")
    (out / "frames" / "1.webp").write_text("mine")
    assert harness_quietly("--data", data, *asked, out, "--force", "--score-only") == 0
    assert sorted(path.relative_to(out).as_posix() for path in out.rglob("*.*")) == [
        *("frames/1.webp", "scores.csv", "scores.tex", "situations.tex", "strips/mine.png")
    ]


def test_a_pipe_is_scored_and_hashed_as_read(data: Path, methods: list[str], tmp_path: Path) -> None:
    content = Path(methods[0].split("=")[1]).read_bytes()
    os.mkfifo(tmp_path / "63")
    writer = threading.Thread(target=(tmp_path / "63").write_bytes, args=(content,))
    writer.start()
    asked = (f"a={tmp_path / '63'}", "--score-only", "--out", tmp_path / "o")
    assert harness_quietly("--data", data / "valid.json", *asked) == 0
    writer.join()
    with (tmp_path / "o" / "scores.csv").open(newline="") as file:
        found = {(line["file"], line["sha256"]) for line in csv.DictReader(file)}
    assert found == {("a pipe", hashlib.sha256(content).hexdigest())}


def test_sigterm_is_told_as_ctrl_c_is(
    data: Path,
    methods: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def ended(*_: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)

    before = signal.getsignal(signal.SIGTERM)
    asked = ("--data", data, *methods, "--no-video", "--out", tmp_path / "o")
    monkeypatch.setattr("harness.compare.run.score", ended)
    assert harness_quietly(*asked) == 130
    assert capsys.readouterr().err == "interrupted: nothing was written\n"
    assert not (tmp_path / "o").exists()
    monkeypatch.undo()
    monkeypatch.setattr("harness.compare.run._draw", ended)
    assert harness_quietly(*asked) == 130
    assert (
        capsys.readouterr().err == f"interrupted: {tmp_path / 'o'} may hold a part; --force begins it anew\n"
    )
    assert signal.getsignal(signal.SIGTERM) is before


def test_videos_of_one_name_are_found_by_id(
    data: Path, methods: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = json.loads((data / "valid.json").read_text())
    first, second, third, _ = content["videos"]
    second["file_names"] = first["file_names"]
    third |= {"file_names": [], "length": 0}
    content["annotations"] = None
    shutil.copytree(data, tmp_path / "data")
    (tmp_path / "data" / "valid.json").write_text(json.dumps(content))
    (tmp_path / "none.json").write_text("[]")
    asked = (
        "--data",
        tmp_path / "data",
        f"a={tmp_path / 'none.json'}",
        "--no-video",
        "--out",
        tmp_path / "o",
    )
    assert harness_quietly(*asked, "--videos", "valid_00000") == 2
    says = f"2 videos have this name; allowed: {first['id']}, {second['id']}\n"
    assert capsys.readouterr().err.endswith(says)
    assert harness_quietly(*asked, "--videos", "atlantis") == 2
    says = f"no such video; allowed: {first['id']}, {second['id']}, valid_00003\n"
    assert capsys.readouterr().err.endswith(says)
    assert harness_quietly(*asked, "--videos", f"{second['id']}", "--frames", "2") == 0


def test_methods_without_tracks_to_draw_are_named(
    data: Path, methods: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "none.json").write_text("[]")
    asked = ("--out", tmp_path / "o", "--no-video", "--count", "1", "--threshold", "2")
    assert harness_quietly("--data", data, methods[0], f"none={tmp_path / 'none.json'}", *asked) == 0
    error = capsys.readouterr().err
    assert "none: nothing to draw at --threshold 2: it has no result" in error
    assert "near: nothing to draw at --threshold 2: its best score is 0." in error


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_names_that_latex_lacks_are_told_and_compile(
    data: Path, methods: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = methods[0].partition("=")[2]
    for command, out in (("compare", "scores.tex"), ("errors", "errors.tex")):
        asked = [
            command,
            "--data",
            str(data),
            "--out",
            str(tmp_path / command),
            f"日本={file}",
            f"[a]={file}",
        ]
        with pytest.raises(SystemExit) as ended:
            harness_command([*asked, *(["--score-only"] if command == "compare" else [])])
        assert ended.value.code == 0
        told = f"{out}: pdflatex lacks letters: '日本' is written [U+65E5][U+672C]\n"
        assert capsys.readouterr().err.count(told) == 1
        for source in (tmp_path / command).glob("*.tex"):
            line = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", source.name]
            done = subprocess.run(line, cwd=source.parent, capture_output=True, text=True, errors="replace")
            assert done.returncode == 0, done.stdout[-2000:]


def test_the_documented_commands_run(data: Path, methods: list[str], tmp_path: Path) -> None:
    pytest.importorskip("av")
    text = (ROOT / "docs" / "compare.md").read_text(encoding="utf-8")
    [block] = re.findall(r"```\n(.*?)```", text, flags=re.S)
    files = [method.split("=")[1] for method in methods]
    named = {"DIR": str(data), "compared": str(tmp_path / "compared"), "scores": str(tmp_path / "scores")}
    named |= {"ours=results.json": f"ours={files[0]}", "vistr=other.json": f"vistr={files[1]}"}
    commands = [shlex.split(line) for line in block.splitlines()]
    assert len(commands) == 2
    for program, module, harness, name, *arguments in commands:
        assert (program, module, harness, name) == (".venv/bin/python", "-m", "harness", "compare")
        assert harness_quietly(*(named.get(word, word) for word in arguments)) == 0
    assert (tmp_path / "compared" / "index.html").exists()
    assert (tmp_path / "scores" / "scores.csv").exists()


@pytest.mark.skipif(not FOOTAGE.is_dir(), reason="no real footage here")
def test_real_footage(tmp_path: Path) -> None:
    truth = json.loads((FOOTAGE / "valid.json").read_text())
    methods = [f"{name}={path}" for name, path in write_methods(tmp_path, truth).items()]
    asked = ("--out", tmp_path / "o", "--no-video", "--count", "1", "--frames", "3")
    assert harness_quietly("--data", FOOTAGE, *methods, *asked) == 0
    with (tmp_path / "o" / "scores.csv").open(newline="") as file:
        ap = {line["method"]: float(line["value"]) for line in csv.DictReader(file) if line["metric"] == "AP"}
    assert set(ap) == set(FAULTS)
    assert ap["near"] == max(ap.values())
