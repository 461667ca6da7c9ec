"""Published folder layouts, the hold-out, and which splits are trained on and scored when none is named."""

from __future__ import annotations

import hashlib
import io
import json
import typing
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from harness.config import DataConfig
from harness.data.benchmarks import BENCHMARKS
from harness.data.source import DataSource, find_data
from harness.data.splits import is_held_out, load_scored, load_training
from harness.data.ytvis import load_dataset
from harness.evaluation import evaluate
from model.errors import InputError

SIDE, L = 16, 2
picture = io.BytesIO()
Image.new("RGB", (SIDE, SIDE)).save(picture, "JPEG")
BLACK = picture.getvalue()
RULE_V1 = {"v00": False, "v01": False, "v02": True, "v09": True, "v14": True}
"""Worked out once with ``printf v02 | sha256sum``"""
NAMES = [f"v{number:02d}" for number in range(40)]
HELD_OUT = [n for n in NAMES if int(hashlib.sha256(n.encode()).hexdigest()[:8], 16) % 10 == 0]
LAYOUTS = {
    "ytvis19": ("{split}.json", "{split}/JPEGImages"),
    "ytvis19 in annotations": ("annotations/{split}.json", "{split}/JPEGImages"),
    "ytvis19 as VisTR has it": ("annotations/instances_{split}_sub.json", "{split}/JPEGImages"),
    "ytvis21": ("{split}/instances.json", "{split}/JPEGImages"),
    "ovis": ("annotations_{split}.json", "{split}"),
    "ovis in annotations": ("annotations/annotations_{split}.json", "{split}"),
}


def video_json(names: list[str], annotated: bool = True) -> dict[str, Any]:
    """Videos of L frames with one instance each, a full frame."""
    whole = {"size": [SIDE, SIDE], "counts": [0, SIDE * SIDE]}
    return {
        "categories": [{"id": 1, "name": "thing"}],
        "videos": [
            {
                "id": 100 + place,
                "width": SIDE,
                "height": SIDE,
                "length": L,
                "file_names": [f"{name}/{t:05d}.jpg" for t in range(L)],
            }
            for place, name in enumerate(names)
        ],
        "annotations": [
            {"id": 1 + place, "video_id": 100 + place, "category_id": 1, "segmentations": [whole, None]}
            for place in range(len(names))
        ]
        if annotated
        else None,
    }


def write_split(
    root: Path, layout: str, split: str, names: list[str], content: dict[str, Any] | None = None
) -> None:
    file, images = (root / name.format(split=split) for name in LAYOUTS[layout])
    for name in names:
        (images / name).mkdir(parents=True)
        for t in range(L):
            (images / name / f"{t:05d}.jpg").write_bytes(BLACK)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(video_json(names) if content is None else content))


def find(root: Path, **keys: Any) -> DataSource:
    return find_data(DataConfig(**keys), root, "sweeps/table.yaml")


def test_a_configuration_can_name_every_benchmark() -> None:
    assert typing.get_args(DataConfig.model_fields["benchmark"].annotation) == tuple(BENCHMARKS)
    assert {name: b.num_classes for name, b in BENCHMARKS.items()} == {
        "ytvis19": 40,
        "ytvis21": 40,
        "ovis": 25,
        "coco": 80,
    }


@pytest.mark.parametrize("layout", LAYOUTS)
def test_published_layouts_are_found(layout: str, tmp_path: Path) -> None:
    for split, names in (("train", ["a", "b"]), ("valid", ["c"])):
        write_split(tmp_path, layout, split, names)
    source = find(tmp_path, benchmark=layout.split()[0])
    assert (source.config.train, source.config.valid) == ("train", "valid")
    assert source.description == "2 training videos, scored on the 1 of valid.json"
    assert source.num_classes == 1
    [video] = load_scored(tmp_path, source.config).videos
    assert video.files[1] == tmp_path / LAYOUTS[layout][1].format(split="valid") / "c" / "00001.jpg"


def test_own_data_needs_a_folder_and_a_json(tmp_path: Path) -> None:
    write_split(tmp_path, "ovis", "street", ["a"])
    write_split(tmp_path, "ytvis21", "park", ["b"])
    source = find(tmp_path, train="street", valid="park")
    assert source.description == "1 training videos, scored on the 1 of park.json"


# ------------------------------------------------------------------------------------------------ hold-out


def test_the_rule_of_the_hold_out() -> None:
    assert {name: is_held_out(name) for name in RULE_V1} == RULE_V1
    assert [name for name in NAMES if is_held_out(name)] == HELD_OUT
    many = sum(is_held_out(f"{number:010x}") for number in range(2000))
    assert 150 < many < 250, "a tenth"


@pytest.mark.parametrize("benchmark", ["ytvis19", "ytvis21", "ovis"])
@pytest.mark.parametrize("valid", ["unannotated", "absent"])
def test_without_public_annotations_the_hold_out_is_scored(
    benchmark: str, valid: str, tmp_path: Path
) -> None:
    write_split(tmp_path, benchmark, "train", NAMES)
    if valid == "unannotated":
        write_split(tmp_path, benchmark, "valid", ["c"], video_json(["c"], annotated=False))
    source = find(tmp_path, benchmark=benchmark)
    name = f"{benchmark}-holdout-v1"
    assert (source.config.train, source.config.valid) == ("train", name)
    held, rest = len(HELD_OUT), len(NAMES) - len(HELD_OUT)
    assert source.description == f"{rest} training videos, scored on the {held} of {name}, held out of train"
    training, scored = load_training(tmp_path, source.config), load_scored(tmp_path, source.config)
    assert [video.name for video in scored.videos] == HELD_OUT
    assert sorted([v.name for v in training.videos] + HELD_OUT) == NAMES
    assert (source.train_identity, source.valid_identity) == (
        training.checksum()[:16],
        scored.checksum()[:16],
    )
    assert len({training.checksum(), scored.checksum(), load_dataset(tmp_path, "train").checksum()}) == 3


def test_the_ground_truth_of_the_hold_out_is_its_videos_alone(tmp_path: Path) -> None:
    write_split(tmp_path, "ytvis19", "train", NAMES)
    truth = load_scored(tmp_path, DataConfig(valid="ytvis19-holdout-v1")).ground_truth()
    ids = [100 + NAMES.index(name) for name in HELD_OUT]
    assert [video["id"] for video in truth["videos"]] == ids
    assert [entry["video_id"] for entry in truth["annotations"]] == ids
    perfect = [
        {
            "video_id": i,
            "category_id": 1,
            "score": 0.9,
            "segmentations": truth["annotations"][0]["segmentations"],
        }
        for i in ids
    ]
    assert evaluate(truth, perfect)["AP"] == pytest.approx(1.0)
    assert evaluate(truth, [])["AP"] == 0.0
    with pytest.raises(InputError, match="video_id: 100"):
        evaluate(truth, [{**perfect[0], "video_id": 100}])


def change_annotation(root: Path, name: str) -> None:
    file = root / "train.json"
    content = json.loads(file.read_text())
    content["annotations"][NAMES.index(name)]["segmentations"][1] = {
        "size": [SIDE, SIDE],
        "counts": [SIDE * SIDE],
    }
    file.write_text(json.dumps(content))


def test_checksums_follow_the_part_that_changed(tmp_path: Path) -> None:
    write_split(tmp_path, "ytvis19", "train", NAMES)
    file = tmp_path / "train.json"

    def sums() -> tuple[str, str]:
        source = find(tmp_path)
        return source.train_identity, source.valid_identity

    training, scored = sums()
    file.write_text(json.dumps({"info": {"year": 2019}, **json.loads(file.read_text())}, indent=1))
    assert sums() == (training, scored), "the same content, written otherwise"
    change_annotation(tmp_path, HELD_OUT[0])
    assert sums()[0] == training
    assert sums()[1] != scored
    scored = sums()[1]
    with (tmp_path / "train" / "JPEGImages" / "v00" / "00000.jpg").open("ab") as image:
        image.write(b"x")
    assert sums()[0] != training
    assert sums()[1] == scored


def test_an_empty_hold_out_names_the_rule_and_the_option(tmp_path: Path) -> None:
    write_split(tmp_path, "ytvis19", "train", [n for n in NAMES if n not in HELD_OUT][:3])
    with pytest.raises(InputError) as caught:
        find(tmp_path)
    [line] = str(caught.value).splitlines()
    assert line.startswith(
        f"{tmp_path}/train.json: split 'ytvis19-holdout-v1' is empty: none of the 3 videos"
    )
    assert "int(sha256(video folder name)[:8], 16) % 10 == 0" in line
    assert "--split" in line


def test_a_hold_out_that_takes_everything_leaves_no_training(tmp_path: Path) -> None:
    write_split(tmp_path, "ytvis19", "train", HELD_OUT[:2])
    with pytest.raises(InputError, match=r"no annotated video is left to train on .*--split"):
        find(tmp_path)


@pytest.mark.parametrize(
    ("benchmark", "split", "allowed"),
    [
        ("ytvis19", "ytvis21-holdout-v1", "ytvis19-holdout-v1 or the name of a json"),
        ("ovis", "ovis2-holdout-v1", "ovis-holdout-v1 or the name of a json"),
        ("coco", "coco-holdout-v1", "the name of a json"),
    ],
)
def test_a_hold_out_of_another_benchmark_is_refused(
    benchmark: str, split: str, allowed: str, tmp_path: Path
) -> None:
    train = BENCHMARKS[benchmark].train
    write_split(tmp_path, "ytvis19", train, ["a"])
    with pytest.raises(InputError, match=rf"split '{split}': .* has no such hold-out; allowed: {allowed}$"):
        find(tmp_path, benchmark=benchmark, valid=split)


def test_any_other_scored_split_trains_on_everything_and_says_what_is_shared(tmp_path: Path) -> None:
    write_split(tmp_path, "ytvis19", "train", NAMES)
    write_split(tmp_path, "ytvis19", "valid", ["c", "d"])
    (tmp_path / "train_some.json").write_text(json.dumps(video_json(NAMES[:7])))
    sources = {name: find(tmp_path, valid=name) for name in ("valid", "train", "train_some")}
    assert len({source.train_identity for source in sources.values()}) == 1
    assert {name: source.description for name, source in sources.items()} == {
        "valid": "40 training videos, scored on the 2 of valid.json",
        "train": "40 training videos, scored on the 40 of train.json; 40 of these are training videos: "
        "no measure of generalisation",
        "train_some": "40 training videos, scored on the 7 of train_some.json; 7 of these are training "
        "videos: no measure of generalisation",
    }


# ----------------------------------------------------------------------------------------- where it looked


@pytest.mark.parametrize("name", BENCHMARKS)
def test_the_folder_of_the_environment(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for benchmark in BENCHMARKS.values():
        for variable in benchmark.variables:
            monkeypatch.delenv(variable, raising=False)
    benchmark = BENCHMARKS[name]
    config = DataConfig.model_validate({"benchmark": name})
    with pytest.raises(InputError) as caught:
        find_data(config, None, "sweeps/table.yaml")
    [line] = str(caught.value).splitlines()
    assert all(f"{variable}" in line for variable in benchmark.variables)
    assert f"{benchmark.train}.json" in line
    assert "sweeps/table.yaml --scale tiny" in line
    for variable in reversed(benchmark.variables):  # the first counts most
        root = tmp_path / variable
        write_split(root, "ytvis19", benchmark.train, NAMES)
        write_split(root, "ytvis19", benchmark.valid, ["c"])
        monkeypatch.setenv(variable, str(root))
        assert find_data(config, None, "sweeps/table.yaml").folder == root


def test_a_missing_split_names_every_place(tmp_path: Path) -> None:
    write_split(tmp_path, "ytvis21", "train", NAMES)
    with pytest.raises(InputError) as caught:
        find(tmp_path, valid="late")
    assert str(caught.value) == (
        f"{tmp_path}: no annotations of split 'late'; looked for late.json, annotations/late.json, "
        "late/instances.json, annotations_late.json, annotations/annotations_late.json, "
        "annotations/instances_late.json, annotations/instances_late_sub.json"
    )
