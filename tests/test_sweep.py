"""A sweep file becomes trials: how many, in which order, under which identities."""

from __future__ import annotations

import copy
import hashlib
import itertools
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from harness.config import TrainConfig, TrialConfig
from harness.grid import EVALUATION_SECTIONS, LATER_SECTIONS, Grid
from harness.sweep import Identities, Trial, embedded_data, expand, initial_stem, training_identity
from harness.sweep_file import ScaleFile, SweepFile, load_scale, load_sweep
from model.config import ModelConfig
from model.errors import InputError

SWEEPS = Path(__file__).resolve().parent.parent / "sweeps"
FIXTURES = Path(__file__).resolve().parent / "fixtures"
IDENTITIES = Identities("train data", "valid data", "training code", "evaluation code")
ENCODERS = ("no_comm", "full_thw", "decomp_t_hw", "ifc")
GOOD: dict[str, Any] = {
    "name": "a_sweep",
    "title": "A sweep",
    "axes": {"model.encoder": ["ifc", "no_comm"], "inference.window": [3, 5]},
    "seeds": 2,
    "table": {"rows": "model.encoder", "columns": "inference.window", "cells": ["AP", "fps"]},
}
EMPTY_SCALE = ScaleFile(name="empty", description="says nothing")


def sweep_of(**changes: Any) -> SweepFile:
    return SweepFile.model_validate(copy.deepcopy({**GOOD, **changes}))


def scale_of(**content: Any) -> ScaleFile:
    return ScaleFile.model_validate({"name": "s", "description": "s", **content})


def varied_cells(trials: list[Trial]) -> list[tuple[dict[str, Any], int]]:
    return [(dict(cell.varied), trial.seed) for trial in trials for cell in trial.cells]


# ---------------------------------------------------------------------------------------------- expansion


@given(
    encoders=st.lists(st.sampled_from(ENCODERS), min_size=1, unique=True),
    rates=st.lists(st.floats(1e-6, 1.0), min_size=1, max_size=3, unique=True),
    windows=st.lists(st.integers(1, 40), min_size=1, max_size=4, unique=True),
    thresholds=st.lists(st.floats(0, 1), min_size=1, max_size=3, unique=True),
    seeds=st.lists(st.integers(0, 99), min_size=1, max_size=3, unique=True),
)
@settings(max_examples=25, deadline=None)
def test_expansion_is_the_product_in_the_files_order(
    encoders: list[str], rates: list[float], windows: list[int], thresholds: list[float], seeds: list[int]
) -> None:
    axes = {
        "model.encoder": encoders,
        "train.learning_rate": rates,
        "inference.window": windows,
        "inference.match_threshold": thresholds,
    }
    sweep = sweep_of(axes=axes, seeds=seeds)
    before = sweep.model_dump()
    trials = expand(sweep, EMPTY_SCALE, IDENTITIES)

    evaluations = [
        {"inference.window": window, "inference.match_threshold": threshold}
        for window, threshold in itertools.product(windows, thresholds)
    ]
    assert varied_cells(trials) == [
        ({"model.encoder": encoder, "train.learning_rate": rate, **evaluation}, seed)
        for encoder, rate in itertools.product(encoders, rates)
        for seed in seeds
        for evaluation in evaluations
    ]
    cells = [cell.key for trial in trials for cell in trial.cells]
    assert len(set(cells)) == len(cells)
    assert len({trial.key for trial in trials}) == len(trials) == len(encoders) * len(rates) * len(seeds)
    assert sweep.model_dump() == before
    assert expand(sweep, EMPTY_SCALE, IDENTITIES) == trials


def test_cells_hold_what_they_say() -> None:
    for trial in expand(sweep_of(), EMPTY_SCALE, IDENTITIES):
        for cell in trial.cells:
            assert dict(cell.varied) == {
                "model.encoder": cell.config.model.encoder,
                "inference.window": cell.config.inference.window,
            }
            assert cell.config.model == trial.config.model


def test_windows_never_add_a_training() -> None:
    axes = {"model.encoder": ["ifc"], "inference.window": [5]}
    few = expand(sweep_of(axes=axes), EMPTY_SCALE, IDENTITIES)
    many = expand(sweep_of(axes={**axes, "inference.window": [2, 5, 10]}), EMPTY_SCALE, IDENTITIES)
    assert [trial.key for trial in few] == [trial.key for trial in many]
    assert {c.key for t in few for c in t.cells} < {c.key for t in many for c in t.cells}


def test_expand_leaves_scale_and_overrides_alone() -> None:
    scale = scale_of(settings={"train": {"short_sides": [64]}, "model": {"backbone": "tiny"}})
    before, overrides = scale.model_dump(), {"model.num_classes": 3}
    expand(sweep_of(settings={"train": {"flip": 0.0}}), scale, IDENTITIES, overrides)
    assert (scale.model_dump(), overrides) == (before, {"model.num_classes": 3})


# --------------------------------------------------------------------------------------------- identities


@pytest.mark.parametrize(
    ("section", "change", "other_training"),
    [
        ("model", {"encoder": "no_comm"}, True),
        ("model", {"dropout": 0.2}, True),
        ("train", {"learning_rate": 2e-4}, True),
        ("train", {"steps": 5}, True),
        ("train", {"short_sides": [64]}, True),
        ("train", {"matching": "box"}, True),
        ("train", {"threads": 1}, False),
        ("train", {"checkpoint_every": 7}, False),
        ("inference", {"window": 9}, False),
        ("inference", {"match_threshold": 0.5}, False),
        ("speed", {"passes": 2}, False),
        ("data", {"valid": "valid_seen"}, False),
    ],
)
def test_training_identity_by_configuration(
    section: str, change: dict[str, Any], other_training: bool
) -> None:
    plain = training_identity(TrialConfig(), IDENTITIES)
    changed = training_identity(TrialConfig.model_validate({section: change}), IDENTITIES)
    assert (changed != plain) == other_training


def test_box_matching_brings_its_head() -> None:
    axes = {"train.matching": ["mask", "box"], "inference.window": [5]}
    sweep = sweep_of(axes=axes, table={**GOOD["table"], "rows": "train.matching"}, seeds=1)
    scale = scale_of(settings={"model": {"num_queries": 10}})
    heads = {t.config.train.matching: t.config.model for t in expand(sweep, scale, IDENTITIES)}
    assert {matching: model.box_head for matching, model in heads.items()} == {"mask": False, "box": True}
    assert heads["box"].num_queries == 10
    box = TrainConfig(matching="box")
    assert TrialConfig(train=box).model.box_head
    assert TrialConfig(train=box, model=ModelConfig(num_queries=7)).model == ModelConfig(
        num_queries=7, box_head=True
    )
    again = TrialConfig.model_validate_json(TrialConfig(train=box).model_dump_json())
    assert again.model.box_head
    assert TrialConfig(model={"box_head": True}).train.matching == "mask"


@pytest.mark.parametrize("model", [{"box_head": False}, ModelConfig(box_head=False)])
def test_box_matching_without_its_head_is_refused(model: Any) -> None:
    with pytest.raises(ValidationError, match=r"model\.box_head: False: must be true, or left out"):
        TrialConfig(train={"matching": "box"}, model=model)
    sweep = sweep_of(settings={"train": {"matching": "box"}, "model": {"box_head": False}})
    with pytest.raises(InputError, match=r"^sweep: model\.box_head: False") as caught:
        expand(sweep, EMPTY_SCALE, IDENTITIES)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("field", "trial_changes", "cell_changes"),
    [
        ("train_data", True, True),
        ("training_code", True, True),
        ("valid_data", False, True),
        ("evaluation_code", False, True),
    ],
)
def test_identities_by_what_changed(field: str, trial_changes: bool, cell_changes: bool) -> None:
    [plain] = expand(sweep_of(seeds=1), EMPTY_SCALE, IDENTITIES)[:1]
    [changed] = expand(sweep_of(seeds=1), EMPTY_SCALE, replace(IDENTITIES, **{field: "other"}))[:1]
    assert (plain.key != changed.key) == trial_changes
    assert {c.key for c in plain.cells}.isdisjoint(c.key for c in changed.cells) == cell_changes


def test_seed_is_part_of_the_identity() -> None:
    by_seed = {t.seed: t.key for t in expand(sweep_of(seeds=[0, 5]), EMPTY_SCALE, IDENTITIES)}
    assert set(by_seed) == {0, 5}
    assert by_seed[0] != by_seed[5]


@pytest.mark.parametrize("change", [{"inference": {"short_side": 100}}, {"speed": {"passes": 2}}])
def test_inference_and_speed_change_cells_not_trials(change: dict[str, Any]) -> None:
    plain = expand(sweep_of(), EMPTY_SCALE, IDENTITIES)
    changed = expand(sweep_of(settings=change), EMPTY_SCALE, IDENTITIES)
    assert [t.key for t in plain] == [t.key for t in changed]
    assert {c.key for t in plain for c in t.cells}.isdisjoint(c.key for t in changed for c in t.cells)


def identities_of(sweep: SweepFile, scale: ScaleFile, base: Identities = IDENTITIES) -> Identities:
    """With a name for each embedded data set, where the sweep varies them."""
    data = embedded_data(Grid(sweep, scale).points())
    return replace(base, embedded={each: f"data {n}" for n, each in enumerate(data)} if len(data) > 1 else {})


def test_points_of_several_data_sets_need_their_identities() -> None:
    table = {"rows": "data.synthetic.lost", "cells": ["AP"]}
    axes, settings = {"data.synthetic.lost": [0.0, 0.4]}, {"data": {"kind": "synthetic"}}
    varied = sweep_of(axes=axes, settings=settings, table=table, seeds=1)
    with pytest.raises(ValueError, match="need the identity of each"):
        expand(varied, EMPTY_SCALE, IDENTITIES)
    one, other = expand(varied, EMPTY_SCALE, identities_of(varied, EMPTY_SCALE))
    assert one.key != other.key
    assert one.cells[0].key != other.cells[0].key


@pytest.mark.parametrize("scale", ["paper", "sanity", "tiny"])
@pytest.mark.parametrize("sweep", sorted(p.stem for p in SWEEPS.glob("*.yaml")))
def test_identities_stay_what_they_were(sweep: str, scale: str) -> None:
    """Another identity is another training: a change here costs everyone their finished results.

    A new key of the configuration or a changed recipe does that on purpose; then renew the file.
    """
    golden = json.loads((FIXTURES / "golden_identities.json").read_text(encoding="utf-8"))
    known = replace(IDENTITIES, initial_weights={"resnet50": "a", "ifc-resnet50": "b"})
    file, amount = load_sweep(SWEEPS / f"{sweep}.yaml"), load_scale(scale)
    trials = expand(file, amount, identities_of(file, amount, known))
    text = "\n".join(" ".join([trial.key, *(cell.key for cell in trial.cells)]) for trial in trials)
    found = [trials[0].key, trials[-1].cells[-1].key, hashlib.sha256(text.encode()).hexdigest()[:16]]
    assert found == golden[f"{sweep} {scale}"]


@given(
    axes=st.fixed_dictionaries(
        {},
        optional={
            "model.encoder": st.lists(st.sampled_from(ENCODERS), min_size=1, max_size=2, unique=True),
            "train.matching": st.just(["mask", "box"]),
            "train.short_sides": st.just([[64], [64, 96]]),
            "train.max_long_side": st.just([None, 480]),
            "train.learning_rate": st.just([1, 0.5]),
            "inference.window, inference.stride": st.just([[5, 1], [5, 2]]),
            "data.synthetic.seed": st.just([3]),
            "speed.videos": st.just([None, 2]),
        },
    ).filter(bool),
    overrides=st.sampled_from([{}, {"model.num_classes": 3, "data.valid": "valid_seen"}]),
)
@settings(max_examples=40, deadline=None)
def test_a_grid_is_what_validating_each_point_as_a_whole_gives(
    axes: dict[str, list[Any]], overrides: dict[str, Any]
) -> None:
    sides = {"rows": [key for name in axes for key in name.split(", ")], "cells": ["AP"]}
    said = {"model": {"num_queries": 7}, "train": {"flip": 0.0}}
    sweep = sweep_of(axes=axes, table=sides, settings=said)
    grid = Grid(sweep, scale_of(settings={"train": {"steps": 5}}))
    grid.points()  # what is kept from here must not show below
    points = grid.points(overrides)

    expected = []
    keys = sweep.varied_keys()
    for chosen in itertools.product(*(axis.values for axis in sweep.grid_axes())):
        content: dict[str, Any] = {"model": {"num_queries": 7}, "train": {"flip": 0.0, "steps": 5}}
        for key, value in [*overrides.items(), *zip(keys, itertools.chain(*chosen), strict=True)]:
            section, *inner, name = key.split(".")
            place = content.setdefault(section, {})
            for part in inner:
                place = place.setdefault(part, {})
            place[name] = value
        expected.append(TrialConfig.model_validate(content))
    assert [point.config for point in points] == expected
    for point in points:
        dumped = point.config.model_dump(mode="json")
        recipe = {key: dumped[key] for key in dumped if key not in EVALUATION_SECTIONS} | {"data": None}
        del recipe["train"]["threads"], recipe["train"]["checkpoint_every"]
        assert point.recipe == json.dumps(recipe, sort_keys=True, separators=(",", ":"))
        told = {key: dumped[key] for key in EVALUATION_SECTIONS}
        for key, default in LATER_SECTIONS.items():  # identities from before know nothing of them
            if told[key] == default.model_dump(mode="json"):
                del told[key]
        assert json.loads(point.evaluation) == told
        for key, value in point.varied:
            found = dumped
            for part in key.split("."):
                found = found[part]
            assert (value, type(value)) == (found, type(found))


@pytest.mark.parametrize(("points", "seeds"), [(10_000, 1), (2_000, 5)])
def test_ten_thousand_trials_take_seconds(points: int, seeds: int) -> None:
    rates = [(number + 1) * 1e-6 for number in range(points // 4)]
    axes = {"train.learning_rate": rates, "model.encoder": list(ENCODERS)}
    sweep = sweep_of(axes=axes, seeds=seeds, table={"rows": "model.encoder", "cells": ["AP"]})
    started = time.process_time()
    trials = expand(sweep, EMPTY_SCALE, IDENTITIES)
    seconds = time.process_time() - started
    assert len({trial.key for trial in trials}) == 10_000
    assert seconds < 5, "benchmarks/engine.py holds it against 2 s; a busy machine is slower"


# --------------------------------------------------------------------------------------------- precedence


def test_sweep_wins_over_scale_and_axis_over_both() -> None:
    scale = scale_of(
        settings={
            "model": {"encoder": "full_thw", "num_queries": 7, "hidden_dim": 64},
            "train": {"short_sides": [64, 96]},
        }
    )
    sweep = sweep_of(
        settings={
            "model": {"encoder": "decomp_t_hw", "num_queries": 9},
            "train": {"short_sides": [32]},
        }
    )
    for trial in expand(sweep, scale, IDENTITIES):
        assert trial.config.model.encoder in ("ifc", "no_comm")
        assert (trial.config.model.num_queries, trial.config.model.hidden_dim) == (9, 64)
        assert trial.config.train.short_sides == (32,)


def test_overrides_win_over_sweep_and_scale() -> None:
    scale = scale_of(settings={"model": {"num_classes": 4}})
    sweep = sweep_of(settings={"model": {"num_classes": 5}})
    trials = expand(sweep, scale, IDENTITIES, {"model.num_classes": 6})
    assert {trial.config.model.num_classes for trial in trials} == {6}


def test_seeds_of_the_scale_win() -> None:
    assert {t.seed for t in expand(sweep_of(seeds=5), scale_of(seeds=[3, 8]), IDENTITIES)} == {3, 8}
    assert {t.seed for t in expand(sweep_of(seeds=3), EMPTY_SCALE, IDENTITIES)} == {0, 1, 2}


def test_numbers_as_people_write_them(tmp_path: Path) -> None:
    axes = {"train.learning_rate": "[1e-3, 2E-4, 1]", "inference.window": "[3]"}
    file = tmp_path / "s.yaml"
    text = {**GOOD, "table": {"rows": "train.learning_rate", "columns": "inference.window", "cells": ["AP"]}}
    listed = "\n".join(f"  {key}: {value}" for key, value in axes.items())
    file.write_text(yaml.safe_dump({k: v for k, v in text.items() if k != "axes"}) + f"axes:\n{listed}\n")
    trials = expand(load_sweep(file), EMPTY_SCALE, IDENTITIES)
    rates = [dict(t.cells[0].varied)["train.learning_rate"] for t in trials if t.seed == 0]
    assert rates == [0.001, 0.0002, 1.0]
    assert all(type(rate) is float for rate in rates), "one column of a table has one type"


@pytest.mark.parametrize("scale", sorted(p.stem for p in (SWEEPS / "scales").glob("*.yaml")))
@pytest.mark.parametrize("sweep", sorted(p.name for p in SWEEPS.glob("*.yaml")))
def test_every_sweep_expands_at_every_scale(sweep: str, scale: str) -> None:
    file, amount = load_sweep(SWEEPS / sweep), load_scale(scale)
    trials = expand(file, amount, identities_of(file, amount))
    keys = [cell.key for trial in trials for cell in trial.cells]
    assert keys
    assert len(set(keys)) == len(keys)
    json.dumps(varied_cells(trials))  # rows hold plain values only


def test_table_3_needs_four_trainings_a_seed() -> None:
    trials = expand(load_sweep(SWEEPS / "table3a.yaml"), load_scale("paper"), IDENTITIES)
    assert (len(trials), sum(len(t.cells) for t in trials)) == (20, 80)
    assert [c.config.inference.window for c in trials[0].cells] == [5, 10, 15, 20]
    assert trials[0].label() == "no_comm seed 0"


# ------------------------------------------------------------------------- one side, stand-ins, weights


def test_keys_that_vary_together_are_no_product() -> None:
    sweep = sweep_of(
        axes={"inference.window, inference.stride": [[5, 3], [10, 5]]},
        table={"rows": ["inference.window", "inference.stride"], "cells": ["AP"]},
    )
    trials = expand(sweep, EMPTY_SCALE, IDENTITIES)
    assert len(trials) == 2  # seeds
    assert [dict(cell.varied) for cell in trials[0].cells] == [
        {"inference.window": 5, "inference.stride": 3},
        {"inference.window": 10, "inference.stride": 5},
    ]


def test_stand_ins_take_the_place_of_values_and_are_what_rows_say() -> None:
    sweep = sweep_of(
        axes={"model.backbone": ["resnet50", "resnet101"]}, table={"rows": "model.backbone", "cells": ["AP"]}
    )
    scale = scale_of(stand_ins={"model.backbone": {"resnet101": "tiny_deep"}})
    trials = expand(sweep, scale, IDENTITIES)
    assert [dict(t.cells[0].varied)["model.backbone"] for t in trials[::2]] == ["resnet50", "tiny_deep"]
    assert [t.config.model.backbone for t in trials[::2]] == ["resnet50", "tiny_deep"]


def test_settings_for_images_hold_on_images_only() -> None:
    scale = scale_of(
        settings={"train": {"steps": 5, "clips_per_batch": 2}}, images={"train": {"clips_per_batch": 9}}
    )
    video, image = (
        expand(sweep_of(settings=said), scale, IDENTITIES)[0].config.train
        for said in ({}, {"data": {"benchmark": "coco"}, "train": {"flip": 0.0}})
    )
    assert (video.steps, video.clips_per_batch, video.flip) == (5, 2, 0.5)
    assert (image.steps, image.clips_per_batch, image.flip) == (5, 9, 0.0)


@pytest.mark.parametrize(
    ("initial", "stem"), [("random", None), ("backbone", "resnet18"), ("model", "ifc-resnet18")]
)
def test_initial_weights_are_part_of_the_identity(initial: str, stem: str | None) -> None:
    config = TrialConfig.model_validate({"model": {"backbone": "resnet18"}, "train": {"initial": initial}})
    assert initial_stem(config) == stem
    files = [{}, {"resnet18": "a", "ifc-resnet18": "b"}, {"resnet18": "c", "ifc-resnet18": "d"}]
    keys = {training_identity(config, replace(IDENTITIES, initial_weights=found)) for found in files}
    assert len(keys) == (1 if stem is None else 3)


# ----------------------------------------------------------------------------------- the paper's tables


@pytest.mark.parametrize(
    ("table", "scale", "trials", "cells"),
    [
        ("table1", "paper", 4, 16),
        ("table1", "tiny", 4, 16),
        ("table2a", "paper", 10, 20),
        ("table2a", "tiny", 4, 8),
        ("table2b", "paper", 5, 10),
        ("table2c", "paper", 10, 10),
        ("table2d", "paper", 5, 20),
        ("table3a", "paper", 20, 80),
        ("table3b", "paper", 2, 2),
        ("table3b", "tiny", 4, 4),
        ("table3c", "paper", 25, 100),
        ("table3d", "paper", 10, 40),
    ],
)
def test_what_each_table_needs(table: str, scale: str, trials: int, cells: int) -> None:
    expanded = expand(load_sweep(SWEEPS / f"{table}.yaml"), load_scale(scale), IDENTITIES)
    assert (len(expanded), sum(len(trial.cells) for trial in expanded)) == (trials, cells)


@pytest.mark.parametrize("scale", ["paper", "tiny"])
def test_tables_share_their_trainings(scale: str) -> None:
    keys = {
        name: {
            trial.key for trial in expand(load_sweep(SWEEPS / f"{name}.yaml"), load_scale(scale), IDENTITIES)
        }
        for name in ("table2a", "table2c", "table2d", "table3a", "table3c", "table3d")
    }
    ifc = keys["table2d"]
    assert ifc < keys["table3a"], "strides re-evaluate the IFC of Table 3(a)"
    assert all(ifc < keys[name] for name in ("table2a", "table2c", "table3c", "table3d"))


def test_the_papers_recipe() -> None:
    video, image = (
        expand(load_sweep(SWEEPS / f"{name}.yaml"), load_scale("paper"), IDENTITIES)[0].config
        for name in ("table3a", "table3b")
    )
    assert (video.train.steps, video.train.milestones, video.train.clips_per_batch) == (6000, (4000,), 16)
    assert (video.train.frames_per_clip, video.train.frame_range, video.train.short_sides) == (
        5,
        20,
        (360, 480),
    )
    assert (video.train.learning_rate, video.train.backbone_learning_rate) == (1e-4, 1e-5)
    assert (video.train.weight_decay, video.train.clip_norm, video.train.initial) == (1e-4, 0.01, "model")
    assert (image.train.steps, image.train.milestones, image.train.clips_per_batch) == (
        1108800,
        (739200,),
        32,
    )
    assert (image.train.frames_per_clip, image.inference.window, image.train.initial) == (1, 1, "backbone")
    assert (min(image.train.short_sides), max(image.train.short_sides)) == (480, 800)
    assert (image.train.crop_range, image.train.max_long_side) == ((384, 600), 1333)
