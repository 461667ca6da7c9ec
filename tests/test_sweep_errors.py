"""Bad sweep and scale files: one line that names the file and the key, and says what is allowed."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.sweep import expand
from harness.sweep_file import ScaleFile, load_scale, load_sweep
from model.errors import InputError
from tests.test_sweep import GOOD, IDENTITIES

DELETE = object()


def edited(changes: dict[str, Any]) -> dict[str, Any]:
    """``GOOD`` with dotted keys of the file itself changed; axes are named ``axes/<dotted key>``."""
    content = copy.deepcopy(GOOD)
    for path, value in changes.items():
        *sections, name = path.split("/")
        place = content
        for section in sections:
            place = place.setdefault(section, {})
        if value is DELETE:
            del place[name]
        else:
            place[name] = value
    return content


def refusal(file: Path, scale: ScaleFile | None = None, scale_source: str = "scale.yaml") -> str:
    """The one line that this sweep file is refused with."""
    scale = scale or ScaleFile(name="s", description="")
    with pytest.raises(InputError) as caught:
        expand(load_sweep(file), scale, IDENTITIES, source=str(file), scale_source=scale_source)
    message = str(caught.value)
    assert "\n" not in message
    return message


BAD = {
    "unknown key": ({"titel": "x"}, "titel: unknown key (did you mean 'title'?); allowed: name, title"),
    "missing key": ({"table": DELETE}, "table: this key is required"),
    "name with a slash": ({"name": "../x"}, "name: '../x': "),
    "title is a number": ({"title": 3}, "title: 3: Input should be a valid string"),
    "axes is a list": ({"axes": ["model.encoder"]}, "axes: "),
    "axes is empty": ({"axes": {}}, "axes"),
    "axis is no list": ({"axes/inference.window": 5}, "axes.inference.window: 5: "),
    "axis is empty": ({"axes/inference.window": []}, "axes.inference.window: [] is empty"),
    "value twice": (
        {"axes/inference.window": [5, 3, 5]},
        "axes.inference.window: [5, 3, 5] names a value twice",
    ),
    "value twice in two spellings": (
        {"axes/train.learning_rate": [1, 1.0]},
        "axes.train.learning_rate: [1, 1.0] names a value twice",
    ),
    "unknown section": ({"axes/modell.encoder": ["ifc"]}, "modell: unknown key (did you mean 'model'?)"),
    "unknown axis": (
        {"axes/model.encoderr": ["ifc"]},
        "model.encoderr: unknown key (did you mean 'encoder'?)",
    ),
    "axis through an axis": ({"axes/model.encoder.x": [1]}, "model.encoder.x: 'encoder' is a value"),
    "axis over a section": (
        {"axes/speed": [{"passes": 1}]},
        "axes.speed: a section; allowed: one of its keys",
    ),
    "axis that changes nothing": (
        {"axes/train.threads": [1, 2]},
        "axes.train.threads: 1 and 2 come to the same",
    ),
    "axis over the data": ({"axes/data.valid": ["a", "b"]}, "axes.data.valid: 'a' and 'b' come to the same"),
    "unknown encoder": (
        {"axes/model.encoder": ["ifc", "lstm"]},
        "model.encoder: 'lstm': allowed: no_comm, full_thw, decomp_t_hw, ifc",
    ),
    "window 0": (
        {"axes/inference.window": [0]},
        "inference.window: 0: Input should be greater than or equal to 1",
    ),
    "window as text": (
        {"axes/inference.window": ["5"]},
        "inference.window: '5': Input should be a valid integer",
    ),
    "window yes": (
        {"axes/inference.window": [True]},
        "inference.window: True: Input should be a valid integer",
    ),
    "window of none": ({"axes/inference.window": [None]}, "inference.window: None: "),
    "a date": ({"axes/model.encoder": [yaml.safe_load("2021-12-06")]}, "model.encoder: datetime.date(2021"),
    "stride above window": (
        {"settings": {"inference": {"stride": 4}}},
        "inference: stride 4 must not be above window 3",
    ),
    "memory tokens -1": ({"axes/model.memory_tokens": [-1]}, "model.memory_tokens: -1: "),
    "unknown setting": (
        {"settings": {"train": {"stepps": 3}}},
        "train.stepps: unknown key (did you mean 'steps'?)",
    ),
    "setting of another type": ({"settings": {"train": {"steps": "100"}}}, "train.steps: '100': "),
    "infinite setting": (
        {"settings": {"train": {"learning_rate": float("inf")}}},
        "train.learning_rate: inf: ",
    ),
    "setting is no section": ({"settings": {"train": 3}}, "train: 3: "),
    "axis below a setting that is a value": ({"settings": {"model": 3}}, "model.encoder: 'model' is a value"),
    "rows not an axis": (
        {"table/rows": "model.dropout"},
        "table: 'model.dropout' is not an axis; allowed: model.",
    ),
    "rows are columns": (
        {"table/rows": "inference.window"},
        "table: rows and columns name a key twice: inference.window, inference.window",
    ),
    "keys that vary together, one value": (
        {"axes/inference.window, inference.stride": [[3, 2], 5]},
        "axes.inference.window, inference.stride: 5: allowed: a list of 2 values, one a key",
    ),
    "keys that vary together, three values": (
        {"axes/inference.window, inference.stride": [[3, 2, 1]]},
        "axes.inference.window, inference.stride: [3, 2, 1]: allowed: a list of 2 values",
    ),
    "key in two axes": (
        {"axes/inference.window, inference.stride": [[3, 2]]},
        "axes: 'inference.window' stands in two axes",
    ),
    "keys that vary together on two sides": (
        {
            "axes": {"inference.window, inference.stride": [[3, 2], [5, 4]]},
            "table": {"rows": "inference.window", "columns": "inference.stride", "cells": ["AP"]},
        },
        "table: the keys of axes.inference.window, inference.stride vary together; put them on one side",
    ),
    "unknown metric": ({"table/cells": ["AP", "mAP"]}, "table.cells.1: 'mAP': Input should be 'AP', 'AP50'"),
    "no metric": ({"table/cells": []}, "table.cells: "),
    "unknown measure": ({"measure": ["accuracy"]}, "measure.0: 'accuracy': "),
    "no seeds": ({"seeds": 0}, "seeds: 0: allowed: a count of at least 1"),
    "negative count": ({"seeds": -2}, "seeds: -2: allowed: "),
    "negative seed": ({"seeds": [0, -1]}, "seeds: (0, -1): allowed: "),
    "seed twice": ({"seeds": [0, 0]}, "seeds: (0, 0): allowed: "),
    "empty seeds": ({"seeds": []}, "seeds: (): allowed: "),
    "seeds as text": ({"seeds": "all"}, "seeds"),
    "seeds yes": ({"seeds": True}, "seeds"),
}


def test_stand_ins_that_fall_together(tmp_path: Path) -> None:
    scale = ScaleFile(name="s", description="", stand_ins={"model.backbone": {"resnet50": "tiny"}})
    file = tmp_path / "sweep.yaml"
    axes = {"model.backbone": ["resnet50", "tiny"]}
    table = {"rows": "model.backbone", "cells": ["AP"]}
    file.write_text(yaml.safe_dump(edited({"axes": axes, "table": table})))
    message = refusal(file, scale)
    assert (
        message == f"{file}: axes: two values come to {{'model.backbone': 'tiny'}} by scale.yaml's stand_ins"
    )


def test_every_message_is_one_line() -> None:
    assert str(InputError("a\nb\x1b[31m é")) == "a\\nb\\x1b[31m é"


@pytest.mark.parametrize("case", BAD)
def test_bad_content(case: str, tmp_path: Path) -> None:
    changes, expected = BAD[case]
    file = tmp_path / "sweep.yaml"
    file.write_text(yaml.safe_dump(edited(changes), sort_keys=False))
    message = refusal(file)
    assert message.startswith(f"{file}: {expected}"), message


TEXTS = {
    "key twice": ("name: a\nname: b\n", "not YAML: key 'name' stands twice, line 2"),
    "axis twice": ("axes:\n  a.b: [1]\n  a.b: [2]\n", "not YAML: key 'a.b' stands twice, line 3"),
    "not YAML": ("axes: [1, 2\n", "not YAML: "),
    "tab": ("axes:\n\tx: 1\n", "not YAML: "),
    "list at the top": ("- name: a\n", "not a sweep file: a mapping is expected; keys: name, title, axes"),
    "empty file": ("", "not a sweep file: a mapping is expected"),
    "only text": ("hello", "not a sweep file: a mapping is expected"),
    "list as key": ("? [a]\n: b\n", "not YAML: "),
    "key is a number": ("1: 2\n", ""),
    "python object": (
        "name: !!python/object/apply:os.system ['touch MARK']\n",
        "not YAML: could not determine",
    ),
    "python name": ("name: !!python/name:os.system\n", "not YAML: could not determine"),
}


@pytest.mark.parametrize("case", TEXTS)
def test_bad_text(case: str, tmp_path: Path) -> None:
    text, expected = TEXTS[case]
    file, mark = tmp_path / "sweep.yaml", tmp_path / "mark"
    file.write_text(text.replace("MARK", str(mark)))
    message = refusal(file)
    assert message.startswith(f"{file}: {expected}"), message
    assert not mark.exists()


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    file = tmp_path / "sweep.yaml"
    file.write_bytes(b"\xff\xfe\x00name")
    assert refusal(file).startswith(f"{file}: not YAML: ")


def test_missing_file_and_folder(tmp_path: Path) -> None:
    for file in (tmp_path / "none.yaml", tmp_path):
        assert refusal(file).startswith(f"{file}: cannot be read as a sweep file (")


def test_unknown_scale_lists_the_scales() -> None:
    with pytest.raises(InputError, match="--scale: 'huge': no such scale; allowed: paper, sanity, tiny"):
        load_scale("huge")


def test_missing_scale_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.yaml: cannot be read as a scale"):
        load_scale(str(tmp_path / "none.yaml"))


def test_scale_file_is_checked_too(tmp_path: Path) -> None:
    file = tmp_path / "s.yaml"
    file.write_text("name: s\ndescription: d\nseedss: 2\n")
    with pytest.raises(InputError, match=r"s\.yaml: seedss: unknown key \(did you mean 'seeds'\?\)"):
        load_scale(str(file))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"settings": {"train": {"stepps": 3}}}, "train.stepps: unknown key"),
        ({"settings": {"modell": {}}}, "modell: unknown key"),
        ({"settings": {"model": {"num_queries": 0}}}, "model.num_queries: 0: "),
        (
            {"settings": {"data": {"synthetic": {"min_size": 90, "max_size": 20}}}},
            "data.synthetic: min_size 90",
        ),
        ({"seeds": 0}, "seeds: 0: "),
    ],
)
def test_what_the_scale_says_is_blamed_on_the_scale(
    content: dict[str, Any], expected: str, tmp_path: Path
) -> None:
    file = tmp_path / "sweep.yaml"
    file.write_text(yaml.safe_dump(edited({"settings/model": {"dropout": 0.0}})))
    scale = ScaleFile.model_validate({"name": "s", "description": "", **content})
    assert refusal(file, scale, "my_scale.yaml").startswith(f"my_scale.yaml: {expected}")


def test_what_the_sweep_overrides_is_blamed_on_the_sweep(tmp_path: Path) -> None:
    file = tmp_path / "sweep.yaml"
    file.write_text(yaml.safe_dump(edited({"axes/inference.window": [0]})))
    scale = ScaleFile(name="s", description="", settings={"inference": {"window": 5}})
    assert refusal(file, scale).startswith(f"{file}: inference.window: 0: ")
