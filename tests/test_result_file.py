"""`python -m harness validate`: what it accepts, what it refuses and how it says so, and the zip."""

from __future__ import annotations

import copy
import hashlib
import json
import math
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco

from harness.command_line import harness_command
from harness.data.splits import is_held_out
from harness.evaluation import encode_tracks, evaluate
from harness.result_file import check_file, validate, write_upload
from model.errors import InputError

ROOT = Path(__file__).resolve().parent.parent
FOOTAGE = ROOT.parent / "shared" / "data" / "ytvis_mini"
sys.path.insert(0, str(Path(__file__).parent / "fixtures"))
from random_vis import random_vis  # noqa: E402

TRUTH: dict[str, Any] = {
    "videos": [
        {"id": 3, "height": 4, "width": 5, "length": 3, "file_names": ["a/0.jpg", "a/1.jpg", "a/2.jpg"]},
        {"id": 8, "height": 4, "width": 5, "length": 1, "file_names": ["b/0.jpg"]},
        {"id": 9, "height": 4, "width": 5, "length": 2, "file_names": ["c/0.jpg", "c/1.jpg"]},
    ],
    "categories": [{"id": 1, "name": "x"}, {"id": 2, "name": "y"}],
    "annotations": None,
}
"""As the published valid.json: no annotations."""
IMAGE_TRUTH = {
    "images": [{"id": 3, "height": 4, "width": 5}, {"id": 4, "height": 4, "width": 5}],
    "categories": TRUTH["categories"],
}


def good() -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    return [
        *encode_tracks(3, [0.75, 0.5], [1, 2], rng.random((2, 3, 4, 5)) < 0.5),
        *encode_tracks(8, [0.25], [1], rng.random((1, 1, 4, 5)) < 0.5),
    ]


def image_results() -> list[dict[str, Any]]:
    [entry] = encode_tracks(3, [0.5], [1], np.ones((1, 1, 4, 5), bool))
    [mask] = entry["segmentations"]
    return [{"image_id": 3, "category_id": 1, "score": 0.5, "segmentation": mask}]


# -------------------------------------------------------------------------------------------------- checks


def test_results_of_a_hold_out_are_checked_against_its_videos(tmp_path: Path) -> None:
    names = [f"{number:04d}" for number in range(40)]
    videos = [
        {"id": i, "height": 4, "width": 4, "length": 1, "file_names": [f"{name}/0.jpg"]}
        for i, name in enumerate(names, 1)
    ]
    for name in names:
        (tmp_path / "train" / "JPEGImages" / name).mkdir(parents=True)
        (tmp_path / "train" / "JPEGImages" / name / "0.jpg").touch()
    annotations = [
        {"id": i, "video_id": i, "category_id": 1, "segmentations": [{"size": [4, 4], "counts": [0, 16]}]}
        for i in range(1, 41)
    ]
    content = {"videos": videos, "categories": [{"id": 1, "name": "a"}], "annotations": annotations}
    (tmp_path / "train.json").write_text(json.dumps(content))
    held_out = [i for i, name in enumerate(names, 1) if is_held_out(name)]
    assert 0 < len(held_out) < 40
    mask = {"size": [4, 4], "counts": coco.encode(np.ones((4, 4), np.uint8, order="F"))["counts"].decode()}
    for video, expected in ((held_out[0], 0), (next(i for i in range(1, 41) if i not in held_out), 1)):
        result = {"video_id": video, "category_id": 1, "score": 0.5, "segmentations": [mask]}
        (tmp_path / "results.json").write_text(json.dumps([result]))
        _, problems = check_file(tmp_path / "results.json", tmp_path, "ytvis19-holdout-v1")
        assert len(problems) == expected


def test_a_good_file_is_summed_up() -> None:
    checked = validate(TRUTH, good(), "results.json")
    assert (checked.results, checked.per_video) == (3, {3: 2, 8: 1, 9: 0})
    assert (checked.categories, checked.scores, checked.other_keys) == ((1, 2), (0.25, 0.75), {})
    assert checked.summary() == [
        "results.json: 3 results for 2 of 3 videos, at most 2 for one",
        "categories: 2 of 2",
        "scores: 0.25 to 0.75",
        "videos without any result: 9",
    ]


def test_no_results_at_all() -> None:
    checked = validate(TRUTH, [], "r")
    assert (checked.results, checked.scores, checked.videos_without) == (0, None, (3, 8, 9))
    assert any(line.startswith("no results: ") for line in checked.summary())
    assert validate({"videos": [], "categories": []}, [], "r").results == 0


def test_a_long_list_of_videos_is_cut() -> None:
    video = TRUTH["videos"][0]
    many = {"videos": [{**video, "id": i} for i in range(45)], "categories": []}
    assert validate(many, [], "r").summary()[-1].endswith(" 18, 19 and 25 more")


def test_other_keys_are_counted() -> None:
    results = good()
    results[0]["bboxes"] = []
    results[2].update(bboxes=[], id=4)
    checked = validate(TRUTH, results, "r")
    assert checked.other_keys == {"bboxes": 2, "id": 1}
    assert checked.summary()[-1] == "other keys, in so many results: bboxes (2), id (1)"


def test_image_results() -> None:
    checked = validate(IMAGE_TRUTH, image_results(), "r")
    assert checked.summary() == [
        "r: 1 results for 1 of 2 images, at most 1 for one",
        "categories: 1 of 2",
        "scores: 0.5 to 0.5",
        "images without any result: 4",
    ]


FULL = {"size": [4, 5], "counts": "PZ"}
BAD = {
    "[1]: int; allowed: an object": 5,
    "[1]: video_id: 4; allowed: the id of a video that the annotation json lists": {"video_id": 4},
    "[1]: video_id: 3.0; allowed": {"video_id": 3.0},
    "[1]: video 3: category_id: 7; allowed: the id of a category": {"category_id": 7},
    "[1]: video 3: category_id: None; allowed": {"category_id": None},
    "[1]: video 3: score: nan; allowed: a finite number": {"score": math.nan},
    "[1]: video 3: score: -inf; allowed": {"score": -math.inf},
    "[1]: video 3: score: '0.5'; allowed": {"score": "0.5"},
    "[1]: video 3: segmentations: 2 entries; allowed: 3, one a frame": {"segmentations": [None] * 2},
    "[1]: video 3: segmentations: NoneType; allowed: a list": {"segmentations": None},
    "[1]: video 3: segmentations[2]: size: [5, 4]; allowed: the video's [height, width] [4, 5]": {
        "segmentations": [None, None, {"size": [5, 4], "counts": "d0"}]
    },
    "[1]: video 3: segmentations[1]: counts: runs of 3 pixels; allowed: runs of all 20": {
        "segmentations": [None, {"size": [4, 5], "counts": "3"}, None]
    },
    "[1]: video 3: segmentations[0]: counts: not a compressed RLE": {
        "segmentations": [{"size": [4, 5], "counts": "é"}, None, None]
    },
    "[1]: video 3: segmentations[0]: a polygon or other list; allowed: null or an RLE": {
        "segmentations": [[0, 0, 3, 0, 3, 3], None, None]
    },
    "[1]: video 3: segmentations[2]: counts: a list of runs; allowed: the string of a compressed RLE": {
        "segmentations": [None, None, {"size": [4, 5], "counts": [20]}]
    },
}


@pytest.mark.parametrize("message", BAD)
def test_a_bad_entry_is_named(message: str) -> None:
    results: list[Any] = good()
    change = BAD[message]
    results[1] = {**results[1], **change} if isinstance(change, dict) else change
    before = copy.deepcopy(results)
    with pytest.raises(InputError) as caught:
        validate(TRUTH, results, "results.json")
    assert str(caught.value).startswith(f"results.json: {message}")
    assert "\n" not in str(caught.value)
    assert repr(results) == repr(before), "the input is left alone"


def test_a_copy_is_named_with_its_original() -> None:
    results = good()
    results.append(copy.deepcopy(results[1]))
    with pytest.raises(InputError) as caught:
        validate(TRUTH, results, "r")
    assert str(caught.value) == (
        "r: [3]: video 3: category_id 2, score 0.5 and masks are those of [1]; allowed: each result once"
    )
    for field, other in (("category_id", 1), ("score", 0.51), ("segmentations", [None] * 3)):
        results[3] = {**results[1], field: other}
        assert validate(TRUTH, results, "r").results == 4, f"another {field} is another result"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_id": 5}, "r: [0]: image_id: 5; allowed: the id of an image"),
        ({"segmentation": None}, "r: [0]: image 3: segmentation: null; allowed: an RLE"),
        ({"segmentation": [[0, 0, 3, 0, 3, 3]]}, "r: [0]: image 3: segmentation: a polygon"),
        ({"segmentation": {"size": [4, 5], "counts": "3"}}, "r: [0]: image 3: segmentation: counts: runs of"),
        ({"segmentation": {"size": [4, 5], "counts": [20]}}, "r: [0]: image 3: segmentation: counts: a list"),
    ],
)
def test_a_bad_image_result_is_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        validate(IMAGE_TRUTH, [{**image_results()[0], **change}], "r")
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("results", [None, {}, "x", 3])
def test_results_that_are_no_list(results: Any) -> None:
    with pytest.raises(InputError, match=r"^r: top level is a \w+; allowed: a list of results$"):
        validate(TRUTH, results, "r")


@pytest.mark.parametrize("truth", [[], {}, {"videos": []}, {"videos": [{}], "categories": []}])
def test_an_annotation_json_of_another_kind(truth: Any) -> None:
    with pytest.raises(InputError, match=r"^valid\.json: "):
        validate(truth, [], "r", "valid.json")


def test_all_problems_are_reported() -> None:
    results: list[Any] = good()
    results[0].update(score=math.nan, segmentations=[{"size": [4, 5], "counts": "3"}, None, 5])
    results[1] = 5
    results += [{"video_id": 4, "category_id": 7}, copy.deepcopy(results[2])]
    problems: list[str] = []
    checked = validate(TRUTH, results, "r", report=problems.append)
    assert [problem.split(";")[0] for problem in problems] == [
        "r: [0]: video 3: score: nan",
        "r: [0]: video 3: segmentations[0]: counts: runs of 3 pixels",
        "r: [0]: video 3: segmentations[2]: int",
        "r: [1]: int",
        "r: [3]: video_id: 4",
        "r: [3]: category_id: 7",
        "r: [3]: score: None",
        "r: [4]: video 8: category_id 1, score 0.25 and masks are those of [2]",
    ]
    assert checked.per_video == {3: 0, 8: 2, 9: 0}


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.data())
def test_what_it_refuses_the_evaluation_refuses_in_the_same_words(seed: int, data: st.DataObject) -> None:
    truth, results = random_vis(seed, videos=4, categories=2, size=(12, 16), preds_per_video=5, ties=False)
    assume(results)
    assert validate(truth, results, "results").results == len(results)
    entry = data.draw(st.sampled_from(results))
    field = data.draw(st.sampled_from(["video_id", "category_id", "score", "segmentations"]))
    junk = st.none() | st.booleans() | st.text() | st.lists(st.none() | st.text()) | st.just(math.nan)
    entry[field] = data.draw(junk.filter(lambda value: value != [None] * len(entry["segmentations"])))
    with pytest.raises(InputError) as checked:
        validate(truth, results, "results")
    with pytest.raises(InputError) as evaluated:
        evaluate(truth, results)
    assert str(checked.value) == str(evaluated.value)


# ---------------------------------------------------------------------------------------------------- files


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data folder with annotations only: images are not needed."""
    data = tmp_path / "data"
    (data / "annotations").mkdir(parents=True)
    (data / "annotations" / "valid.json").write_text(json.dumps(TRUTH))
    (data / "test.json").write_text(json.dumps({**TRUTH, "videos": TRUTH["videos"][:2]}))
    return data


@pytest.fixture
def results(tmp_path: Path) -> Path:
    file = tmp_path / "mine.json"
    file.write_text(json.dumps(good()))
    return file


def test_data_is_a_folder_with_a_split_or_a_file(folder: Path, results: Path) -> None:
    for data, split, videos in (
        (folder, None, 3),
        (folder, "valid", 3),
        (folder, "test", 2),
        (folder / "test.json", None, 2),
    ):
        checked, problems = check_file(results, data, split)
        assert (len(checked.per_video), problems) == (videos, [])
    with pytest.raises(InputError, match=r"^--split test: --data names the file"):
        check_file(results, folder / "test.json", "test")
    with pytest.raises(InputError, match=r"no annotations of split 'train'"):
        check_file(results, folder, "train")


@pytest.mark.parametrize("content", [b"", b"[", b"\xff\xfe", "\ufeff[]".encode(), "[]".encode("utf-16")])
def test_a_file_that_servers_cannot_parse(content: bytes, folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"results\.json: not a json file"):
        check_file(file, folder)


def test_the_zip_holds_the_very_bytes_and_no_time(folder: Path, results: Path, tmp_path: Path) -> None:
    digests = set()
    for name in ("one.zip", "two.zip"):
        results.touch()
        check_file(results, folder, upload=tmp_path / name)
        digests.add(hashlib.sha256((tmp_path / name).read_bytes()).hexdigest())
    assert len(digests) == 1
    with zipfile.ZipFile(tmp_path / "one.zip") as archive:
        assert archive.testzip() is None
        [member] = archive.infolist()
        assert (member.filename, member.date_time) == ("results.json", (1980, 1, 1, 0, 0, 0))
        assert archive.read(member) == results.read_bytes()


def test_a_zip_is_never_replaced_nor_left_half(
    folder: Path, results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "out.zip"
    target.write_text("mine")
    with pytest.raises(InputError, match=r"out\.zip: is there already"):
        check_file(results, folder, upload=target)
    assert target.read_text() == "mine"
    with pytest.raises(InputError, match=r"no folder "):
        check_file(results, folder, upload=tmp_path / "none" / "out.zip")
    before = sorted(tmp_path.iterdir())

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(zipfile.ZipFile, "writestr", full)
    with pytest.raises(InputError, match=r"new\.zip: cannot be written \(No space left on device\)"):
        write_upload(tmp_path / "new.zip", b"[]")
    assert sorted(tmp_path.iterdir()) == before


def test_no_zip_of_image_results(tmp_path: Path) -> None:
    (tmp_path / "truth.json").write_text(json.dumps(IMAGE_TRUTH))
    (tmp_path / "r.json").write_text(json.dumps(image_results()))
    with pytest.raises(InputError, match=r"out\.zip: image results; allowed: video results"):
        check_file(tmp_path / "r.json", tmp_path / "truth.json", upload=tmp_path / "out.zip")
    assert not (tmp_path / "out.zip").exists()


# ---------------------------------------------------------------------------------------- the command itself


def process(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "harness", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )


def status_of(*arguments: str | Path) -> object:
    """The command in this process."""
    with pytest.raises(SystemExit) as ended:
        harness_command([str(argument) for argument in arguments])
    return ended.value.code


def test_a_good_file_in_a_real_process(folder: Path, results: Path, tmp_path: Path) -> None:
    upload = tmp_path / "upload.zip"
    done = process("validate", results, "--data", folder, "--zip", upload)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == f"{results}: 3 results for 2 of 3 videos, at most 2 for one"
    assert lines[-1] == f"written: {upload}"
    with zipfile.ZipFile(upload) as archive:
        assert archive.namelist() == ["results.json"]
        assert json.loads(archive.read("results.json")) == good()


def test_a_bad_file_in_a_real_process(folder: Path, results: Path, tmp_path: Path) -> None:
    bad = good()
    bad[0]["score"] = math.nan
    bad[2]["segmentations"][0]["size"] = [4, 6]
    results.write_text(json.dumps(bad))
    upload = tmp_path / "upload.zip"
    done = process("validate", results, "--data", folder, "--zip", upload)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"error: {results}: [0]: video 3: score: nan; allowed: a finite number\n"
    assert not upload.exists()


def test_all_lists_every_problem(
    folder: Path, results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = good()
    bad[0]["score"] = math.nan
    bad[2]["segmentations"][0]["size"] = [4, 6]
    results.write_text(json.dumps(bad))
    assert status_of("validate", results, "--data", folder, "--all", "--zip", tmp_path / "no.zip") == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert [line.split("; allowed")[0] for line in printed.err.splitlines()] == [
        f"error: {results}: [0]: video 3: score: nan",
        f"error: {results}: [2]: video 8: segmentations[0]: size: [4, 6]",
    ]
    assert not (tmp_path / "no.zip").exists()
    results.write_text(json.dumps(good()))
    assert status_of("validate", results, "--data", folder, "--all") == 0


@pytest.mark.parametrize("arguments", [["validate"], ["validate", "r.json"], ["validte"], ["--nothing"]])
def test_wrong_usage_is_one_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of(*arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: ")
    assert printed.err.count("\n") == 1


def test_missing_files_are_named(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of("validate", tmp_path / "no.json", "--data", folder) == 2
    assert "no.json: cannot be read (No such file or directory)" in capsys.readouterr().err
    assert status_of("validate", folder / "test.json", "--data", tmp_path / "nowhere") == 2
    assert "nowhere: no such folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", ["['--help']", "['validate', '--help']", "['validate', 'r', '--data', 'd']"]
)
def test_imports_nothing_heavy(arguments: str) -> None:
    script = (
        "import sys\n"
        "from harness.command_line import harness_command\n"
        "try:\n"
        f"    harness_command({arguments})\n"
        "except SystemExit:\n"
        "    print('LOADED', sorted({'torch', 'scipy', 'pandas', 'matplotlib'} & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.stdout.splitlines()[-1] == "LOADED []"


@pytest.mark.skipif(not FOOTAGE.is_dir(), reason="the real footage ../shared/data/ytvis_mini is not here")
def test_real_annotations_as_results(tmp_path: Path) -> None:
    truth = json.loads((FOOTAGE / "valid.json").read_text())
    perfect = []
    for annotation in truth["annotations"]:
        masks = [
            m and coco.frPyObjects(m, *m["size"]) if m and isinstance(m["counts"], list) else m
            for m in annotation["segmentations"]
        ]
        for mask in masks:
            if mask and isinstance(mask["counts"], bytes):
                mask["counts"] = mask["counts"].decode()
        perfect.append(
            {
                "video_id": annotation["video_id"],
                "category_id": annotation["category_id"],
                "score": 1.0,
                "segmentations": masks,
            }
        )
    file = tmp_path / "results.json"
    file.write_text(json.dumps(perfect))
    checked, problems = check_file(file, FOOTAGE)
    assert (checked.results, problems) == (len(truth["annotations"]), [])
    assert evaluate(truth, file)["AP"] == pytest.approx(1)
