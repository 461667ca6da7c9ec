"""``python -m harness situations``: on embedded videos, in every layout of folders, on real footage."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from harness.command_line import harness_command
from harness.config import SyntheticConfig
from harness.data.splits import is_held_out
from harness.data.synthetic import write_dataset
from harness.data.ytvis import load_dataset
from harness.evaluation import evaluate, write_results
from harness.metrics import SITUATION_NAMES
from harness.situations import SITUATIONS, situation_scores, tag_tracks, tracks_of
from model.errors import InputError

ROOT = Path(__file__).resolve().parent.parent
FOOTAGE = ROOT.parent / "shared" / "data" / "ytvis_mini"
TWENTY = {"train_videos": 1, "valid_videos": 20, "length": 6, "height": 48, "width": 64}
KNOBS = {**TWENTY, "min_size": 12, "max_size": 24, "categories": 3, "look_alike": 0.6, "absence": 0.5}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Embedded videos, and ``results.json`` beside them: what is annotated, every fifth track not found."""
    root = tmp_path_factory.mktemp("situations") / "set"
    write_dataset(SyntheticConfig(**KNOBS), root)
    write_results(root / "results.json", made_results(root))
    return root


def made_results(root: Path) -> list[dict[str, Any]]:
    annotations = json.loads((root / "valid.json").read_text())["annotations"]
    keys = ("video_id", "category_id", "segmentations")
    return [
        {"score": 1 / (1 + place), **{key: entry[key] for key in keys}}
        for place, entry in enumerate(annotations)
        if place % 5
    ]


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "harness", "situations", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )


def printed(*arguments: str | Path) -> tuple[int, str, str]:
    """Exit status and what is printed, without the seconds of a new process."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ended:
        harness_command(["situations", *map(str, arguments)])
    return int(ended.value.code or 0), out.getvalue(), err.getvalue()


def refused(*arguments: str | Path) -> str:
    status, out, err = printed(*arguments)
    assert (status, out) == (2, ""), err
    [line] = err.splitlines()
    assert line.startswith("error: ")
    return line


def test_tables_scores_and_tags(data: Path, tmp_path: Path) -> None:
    results = data / "results.json"
    done = run("--data", data, f"ours={results}", "--csv", tmp_path / "tags.csv", "--intervals")
    assert done.returncode == 0, done.stderr
    tags = tag_tracks(load_dataset(data, "valid"))
    assert f"{len(tags)} tracks in 20 videos" in done.stdout
    expected = 100 * evaluate(data / "valid.json", results)["AP"]
    assert re.search(rf"^all +{len(tags)} +{expected:.1f} \[", done.stdout, re.MULTILINE)
    for name in SITUATION_NAMES.values():
        assert re.search(rf"^{name} +low ", done.stdout, re.MULTILINE)
    assert not re.search("look_alikes|size_change", done.stdout)
    assert done.stdout.splitlines()[-1] == f"written: {tmp_path / 'tags.csv'}"
    with (tmp_path / "tags.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [int(line["annotation_id"]) for line in lines] == [track.annotation_id for track in tags]
    for line, track in zip(lines, tags, strict=True):
        for name in SITUATIONS:
            value = track.tag(name)
            assert line[name] == "" if value is None else float(line[name]) == pytest.approx(value, rel=1e-5)
            assert line[f"{name}_tercile"] in ("", "low", "mid", "high")


def test_json_says_the_same_as_the_function(data: Path) -> None:
    status, out, err = printed("--data", data, data / "results.json", "--json")
    assert status == 0, err
    found = json.loads(out)
    dataset = load_dataset(data, "valid")
    [scores] = found["scores"].values()
    assert scores.pop("AP") == 100 * evaluate(data / "valid.json", data / "results.json")["AP"]
    assert scores == situation_scores(dataset, made_results(data))
    counts = {
        f"AP_{n}_{level}": c for n, s in found["situations"].items() for level, c in s["tracks"].items()
    }
    assert counts == tracks_of(dataset)
    assert any(value is not None for value in scores.values())
    assert all((scores[key] is None) == (count < 10) for key, count in counts.items())


def test_nothing_heavy_is_imported(data: Path) -> None:
    script = (
        "import sys\nfrom harness.command_line import harness_command\n"
        "try:\n    harness_command(sys.argv[1:])\nexcept SystemExit as ended:\n    assert not ended.code\n"
        "print('LOADED', sorted({'torch', 'pandas', 'matplotlib'} & set(sys.modules)))\n"
    )
    arguments = ["situations", "--data", str(data), str(data / "results.json"), "--intervals"]
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "LOADED []"


def test_other_layouts_and_the_hold_out(data: Path, tmp_path: Path) -> None:
    """YouTube-VIS 2021 and OVIS; and a video that the hold-out takes."""
    content = (data / "valid.json").read_text()
    expected = printed("--data", data)[1].partition("\n")[2]
    vis21, ovis, train = (tmp_path / name for name in ("vis21", "ovis", "train"))
    shutil.copytree(data / "valid" / "JPEGImages", vis21 / "valid" / "JPEGImages")
    (vis21 / "valid" / "instances.json").write_text(content)
    shutil.copytree(data / "valid" / "JPEGImages", ovis / "valid")
    (ovis / "annotations_valid.json").write_text(content)
    for root in (vis21, ovis):
        assert printed("--data", root)[1].partition("\n")[2] == expected
    shutil.copytree(data / "valid", train / "train")
    (train / "train.json").write_text(content)
    held_out = sum(is_held_out(f"valid_{place:05d}") for place in range(20))
    status, out, err = printed("--data", train, "--split", "ytvis19-holdout-v1")
    assert status == 0, err
    assert f"tracks in {held_out} videos" in out


def test_crowds_are_left_out(data: Path, tmp_path: Path) -> None:
    root = tmp_path / "crowd"
    shutil.copytree(data, root)
    content = json.loads((root / "valid.json").read_text())
    content["annotations"][0]["iscrowd"] = 1
    (root / "valid.json").write_text(json.dumps(content))
    ids = [track.annotation_id for track in tag_tracks(load_dataset(root, "valid"))]
    assert ids == [entry["id"] for entry in content["annotations"][1:]]


def test_what_is_refused(data: Path, tmp_path: Path) -> None:
    results = data / "results.json"
    done = run("--data", tmp_path / "nowhere")
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
    assert "no such folder" in refused("--data", tmp_path / "nowhere")
    assert "no annotations of split 'other'" in refused("--data", data, "--split", "other")
    assert "hold-out" in refused("--data", data, "--split", "coco-holdout-v1")
    assert "'a' is there twice" in refused("--data", data, f"a={results}", f"a={results}")
    assert "'a' is there twice" in refused("--data", data, f"a={results}", f"a ={results}")
    assert "allowed: NAME=FILE" in refused("--data", data, "a=")
    assert "allowed: NAME=FILE" in refused("--data", data, "")
    assert "printable characters" in refused("--data", data, f"a\nb={results}")
    assert "--split '': allowed: the name of a json" in refused("--data", data, "--split", "")
    assert "cannot be read" in refused("--data", data, tmp_path / "none.json")
    assert "--csv" in refused("--data", data, "--csv", tmp_path / "nowhere" / "tags.csv")
    wrong = [{**entry, "video_id": 999} for entry in made_results(data)]
    write_results(tmp_path / "wrong.json", wrong)
    assert "999" in refused("--data", data, tmp_path / "wrong.json")
    bare = tmp_path / "bare"
    shutil.copytree(data, bare)
    content = json.loads((bare / "valid.json").read_text())
    (bare / "valid.json").write_text(json.dumps({**content, "annotations": None}))
    assert "no annotated track" in refused("--data", bare)


def test_only_a_file_of_its_own_is_replaced(data: Path, tmp_path: Path) -> None:
    root, own = tmp_path / "set", tmp_path / "tags.csv"
    shutil.copytree(data, root)
    own.write_text("mine")
    assert f"--csv: {own}: is there already; allowed: a new file, or --force" in refused(
        "--data", root, "none.json", "--csv", own
    )
    assert own.read_text() == "mine"
    assert printed("--data", root, "--csv", own, "--force")[0] == 0
    assert own.read_text().startswith("video_id,")
    frame = next((root / "valid").rglob("*.jpg"))
    for path in (root / "results.json", root / "valid.json", frame):
        before = path.read_bytes()
        asked = ("--data", root, f"a={root / 'results.json'}", "--csv", root / "valid" / ".." / path)
        assert "is read by this command" in refused(*asked, "--force")
        assert path.read_bytes() == before
    assert "no file; allowed: a new file" in refused("--data", root, "--csv", root, "--force")
    assert "/proc/tags.csv: cannot be written" in refused("--data", "nowhere", "--csv", "/proc/tags.csv")
    assert printed("--data", root, "--csv", root / "tags.csv")[0] == 0


def test_images_and_broken_frames_are_refused(data: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(data, broken)
    frame = broken / "valid" / "JPEGImages" / "valid_00003" / "00002.jpg"
    frame.write_bytes(b"no picture")
    assert f"{frame}: cannot be decoded" in refused("--data", broken)
    coco = tmp_path / "coco"
    (coco / "val2017").mkdir(parents=True)
    shutil.copy(data / "valid" / "JPEGImages" / "valid_00000" / "00000.jpg", coco / "val2017" / "1.jpg")
    image = {"id": 1, "height": 48, "width": 64, "file_name": "1.jpg"}
    square = {"id": 1, "image_id": 1, "category_id": 1, "segmentation": [[5, 5, 20, 5, 20, 20]], "iscrowd": 0}
    (coco / "annotations").mkdir()
    (coco / "annotations" / "instances_val2017.json").write_text(
        json.dumps({"images": [image], "categories": [{"id": 1, "name": "x"}], "annotations": [square]})
    )
    assert "images; allowed: videos" in refused("--data", coco, "--split", "val2017")
    with pytest.raises(InputError, match="images instead of videos"):
        tag_tracks(load_dataset(coco, "val2017"))


@pytest.mark.skipif(not FOOTAGE.is_dir(), reason="the real footage ../shared/data/ytvis_mini is not here")
def test_real_footage_is_tagged_as_an_eye_sees_it() -> None:
    dataset = load_dataset(FOOTAGE, "train")
    names = {video.video_id: video.name for video in dataset.videos}
    tags = {(names[t.video_id], dataset.categories[t.category].name): t for t in tag_tracks(dataset)}
    assert len(tags) == 16, "two persons of one video share a key"
    rider, car = tags["horsejump-high", "person"], tags["car-roundabout", "car"]
    assert rider.speed > 5 * car.speed  # type: ignore[operator]
    assert max(tags.values(), key=lambda t: t.blur or 0) is tags["dog", "dog"], "shot with a moving camera"
    wearer = tags["paragliding-launch", "person"]
    assert max(tags.values(), key=lambda t: t.overlap or 0) is wearer, "behind a backpack"
    assert tags["paragliding-launch", "backpack"].overlap < 0.1  # type: ignore[operator]
    alike = {name for (name, _), t in tags.items() if t.look_alikes}
    assert alike == {"soapbox"}, "the only video with two of a class"


def test_commands_of_the_page_are_those_tested() -> None:
    page = (ROOT / "docs" / "situations.md").read_text(encoding="utf-8")
    commands = re.findall(r"^python -m .*$", page, re.MULTILINE)
    options = set(re.findall(r"--[a-z]+", " ".join(commands)))
    assert options == {"--data", "--split", "--csv", "--json", "--intervals"}
    assert "python -m benchmarks.situations" in commands
