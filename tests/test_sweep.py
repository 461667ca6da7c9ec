"""A sweep file becomes trials: how many, in which order, under which identities."""

from __future__ import annotations

import copy
import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from harness.config import TrainConfig, TrialConfig
from harness.sweep import Identities, Trial, expand, training_identity
from harness.sweep_file import ScaleFile, SweepFile, load_scale, load_sweep
from model.config import ModelConfig
from model.errors import InputError

SWEEPS = Path(__file__).resolve().parent.parent / "sweeps"
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
    trials = expand(load_sweep(SWEEPS / sweep), load_scale(scale), IDENTITIES)
    keys = [cell.key for trial in trials for cell in trial.cells]
    assert keys
    assert len(set(keys)) == len(keys)
    json.dumps(varied_cells(trials))  # rows hold plain values only


def test_table_3_needs_four_trainings_a_seed() -> None:
    trials = expand(load_sweep(SWEEPS / "table3a.yaml"), load_scale("paper"), IDENTITIES)
    assert (len(trials), sum(len(t.cells) for t in trials)) == (20, 80)
    assert [c.config.inference.window for c in trials[0].cells] == [5, 10, 15, 20]
    assert trials[0].label({"model.encoder": (), "inference.window": ()}) == "no_comm seed 0"
