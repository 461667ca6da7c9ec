"""``python -m harness errors`` in a process of its own, on built data; the commands of docs/errors.md."""

from __future__ import annotations

import csv
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.error_tables import find_all
from harness.metrics import ERROR_KINDS
from harness.track_errors import find_errors
from model.errors import InputError
from tests.built_tracks import LENGTH, Truth, result, still
from tests.small_road import ENVIRONMENT, ROOT, check_refused

HALF = LENGTH // 2


def run(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "harness", "errors", *arguments]
    environment = {**ENVIRONMENT, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=120)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Annotations of two videos with two objects each, and the results of two seeds and of another method."""
    truth = Truth(2)
    for video in (1, 2):
        truth.add(still(0), 1, video)
        truth.add(still(1), 1, video)
    right = [result(still(place), 0.9 - place / 10, 1, video) for video in (1, 2) for place in (0, 1)]
    swapped = [
        result([*still(0, HALF), *still(1, HALF)], 0.9),
        result([*still(1, HALF), *still(0, HALF)], 0.8),
        *right[2:],
    ]
    for name, content in {
        "valid": truth.json,
        "results": right,
        "seed0": swapped,
        "seed1": right,
        "other": right[:-1],
        "vistr": right[:-1],
    }.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    data = tmp_path / "DATA"
    (data / "valid").mkdir(parents=True)
    (data / "valid.json").write_text(json.dumps(truth.json), encoding="utf-8")
    return tmp_path


def test_table_csv_latex_figure(folder: Path) -> None:
    files = ["ours=seed0.json", "ours=seed1.json", "other=other.json"]
    done = run(*files, "--data", "valid.json", "--out", "found", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "2 videos, 4 annotated tracks" in done.stdout
    gains, counts = (
        [line for line in done.stdout.splitlines() if line.lstrip().startswith("o")][at::2] for at in (0, 1)
    )
    assert gains[0].split()[0] == "ours"
    assert "±" in done.stdout
    assert len(counts) == 2
    written = sorted(path.name for path in (folder / "found").iterdir())
    assert written == ["error_kinds.pdf", "error_kinds.png", "errors.csv", "errors.tex"]
    with (folder / "found" / "errors.csv").open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 3 * len(ERROR_KINDS)
    truth = json.loads((folder / "valid.json").read_text(encoding="utf-8"))
    for line in lines:
        found = find_errors(truth, json.loads((folder / line["file"]).read_text(encoding="utf-8")))
        assert float(line["dAP"]) == found.gains()[line["kind"]]
        assert int(line["count"]) == found.counts()[line["kind"]]
        assert float(line["AP50"]) == found.ap50()
    [switches] = [x for x in lines if x["file"] == "seed0.json" and x["kind"] == "identity_switch"]
    assert (float(switches["dAP"]), switches["count"]) == (pytest.approx(100 - float(switches["AP50"])), "2")
    before = {path: path.read_bytes() for path in (folder / "found").iterdir()}
    again = [*files, "--data", "valid.json", "--out", "found"]
    check_refused(run(*again, cwd=folder), "--out: found: not empty", "--force")
    (folder / "found" / "notes.txt").write_text("mine", encoding="utf-8")
    assert run(*again, "--force", cwd=folder).returncode == 0
    assert {path: path.read_bytes() for path in before} == before, "the same results, the same bytes"
    if shutil.which("pdflatex"):
        subprocess.run(
            ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-output-directory=..", "errors.tex"],
            cwd=folder / "found",
            check=True,
            capture_output=True,
            timeout=120,
        )


def test_the_commands_of_the_page(folder: Path) -> None:
    page = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    [block] = re.findall(r"```\n(.*?)```", page, re.DOTALL)
    lines = [shlex.split(line, comments=True) for line in block.splitlines()]
    errors = [line for line in lines if line[:4] == ["python", "-m", "harness", "errors"]]
    [sweep] = [line for line in lines if line not in errors]
    assert len(errors) == 2
    for line in errors:
        done = run(*line[4:], cwd=folder)
        assert done.returncode == 0, done.stderr
    dry = subprocess.run(
        [sys.executable, *sweep[1:], "--dry-run", "--results", str(folder / "none")],
        cwd=ROOT,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert dry.returncode == 0, dry.stderr
    assert "searched for errors" in dry.stdout


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["results.json", "--data", "valid.json"], ["'results.json': allowed: NAME=FILE"]),
        (["a=none.json", "--data", "valid.json"], ["none.json"]),
        (["a=results.json", "a=results.json", "--data", "valid.json"], ["the file is there twice"]),
        (["a=results.json", "--data", "none.json"], ["none.json"]),
        (["a=results.json", "--data", "valid.json", "--split", "valid"], ["--split"]),
        (["a=results.json", "--data", "bare.json"], ["no annotated track", "an annotated split"]),
        (["a=bad.json", "--data", "valid.json"], ["bad.json", "category_id"]),
        (["a=results.json", "--data", "valid.json", "--out", "valid.json"], ["--out: valid.json: a file"]),
        (["a=bad.json", "--data", "valid.json", "--out", "/proc/x"], ["--out: /proc/x: cannot be"]),
        (["a=results.json", "a=DATA/../results.json", "--data", "valid.json"], ["the file is there twice"]),
        (["a=results.json", "--data", "DATA", "--split", ""], ["--split '': allowed: the name of a json"]),
    ],
)
def test_refused(arguments: list[str], parts: list[str], folder: Path) -> None:
    bare = json.loads((folder / "valid.json").read_text(encoding="utf-8"))
    (folder / "bare.json").write_text(json.dumps({**bare, "annotations": []}), encoding="utf-8")
    bad: list[dict[str, Any]] = [{**result(still(0)), "category_id": 77}]
    (folder / "bad.json").write_text(json.dumps(bad), encoding="utf-8")
    check_refused(run(*arguments, cwd=folder), *parts)


@pytest.mark.parametrize("place", ["file", "data"])
def test_an_input_is_never_replaced(place: str, folder: Path) -> None:
    shutil.copytree(folder / "DATA", folder / "found")
    file, data = ("found/errors.csv", "valid.json") if place == "file" else ("other.json", "found/errors.tex")
    shutil.copy(folder / "results.json", folder / "found" / "errors.csv")
    shutil.copy(folder / "valid.json", folder / "found" / "errors.tex")
    before = {path: path.read_bytes() for path in (folder / "found").glob("*.*")}
    done = run(f"a={file}", "--data", data, "--out", "DATA/../found", "--force", cwd=folder)
    check_refused(done, "is among what would be replaced")
    assert {path: path.read_bytes() for path in (folder / "found").glob("*.*")} == before


def test_a_refused_run_leaves_no_folder_and_no_table(folder: Path) -> None:
    (folder / "bad.json").write_text("[1]", encoding="utf-8")
    done = run("b=results.json", "a=bad.json", "--data", "valid.json", "--out", "new/found", cwd=folder)
    check_refused(done, "bad.json")
    assert not (folder / "new").exists()


def test_images_are_refused(tmp_path: Path) -> None:
    size = {"height": 4, "width": 4}
    coco = {"images": [{"id": 1, "file_name": "a.jpg", **size}], "categories": [{"id": 1, "name": "a"}]}
    box = {"id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "area": 4, "bbox": [0, 0, 2, 2]}
    annotation = {**box, "segmentation": [[0, 0, 2, 0, 2, 2, 0, 2]]}
    (tmp_path / "coco.json").write_text(json.dumps({**coco, "annotations": [annotation]}), encoding="utf-8")
    (tmp_path / "results.json").write_text("[]", encoding="utf-8")
    with pytest.raises(InputError, match="images"):
        find_all({"a": [tmp_path / "results.json"]}, tmp_path / "coco.json", None)


def test_without_torch() -> None:
    modules = "harness.error_tables, harness.report.figures.error_kinds"
    code = f"import sys, {modules}; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=120)
