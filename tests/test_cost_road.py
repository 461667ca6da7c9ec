"""The estimate in real processes: from the times of a run, and from a probe."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from harness.config import TrialConfig
from harness.probe import ProbeJob, _random_weights, lacks_memory, quiet
from harness.provenance import hardware
from model import build_model
from model.checkpoint import initialise
from tests.small_road import IFC_ONLY, SCALE, STEPS, make_road

IFC = {**IFC_ONLY, "seeds": 1, "measure": ["ap", "speed"]}


def lines_of(output: str) -> list[list[str]]:
    return [line.split() for line in output.splitlines()]


@pytest.mark.slow
def test_more_seeds_are_priced_by_the_first(tmp_path: Path) -> None:
    road = make_road(tmp_path / "road", IFC)
    assert road.run().returncode == 0
    for name in ("metrics", "speed"):
        for file in road.results.glob(f"trials/*/cells/*/{name}.json"):
            assert 0 < json.loads(file.read_text())["seconds"] < 60, name
    road = make_road(tmp_path / "road", {**IFC, "seeds": 3})
    files = road.files()
    done = road.run("--dry-run")
    assert done.returncode == 0, done.stderr
    assert road.files() == files, "a dry run writes nothing"
    lines = lines_of(done.stdout)
    assert ["IFC", "1/3", "1/3"] in lines
    [training, evaluation] = [line for line in lines if line[0:1] == ["ifc"] and "measured" in line]
    assert training[:3] == ["ifc", "2", str(2 * STEPS)]
    assert training[-3:] == ["measured", "(1", "training)"]
    assert 0 < float(training[3]) < 10
    assert evaluation[:2] == ["ifc", "4"]
    assert not {"unknown", "?"} & {word for line in lines for word in line}
    assert ["on:", *hardware("cpu").split()] in lines


@pytest.mark.slow
def test_a_probe_is_kept(tmp_path: Path) -> None:
    road = make_road(tmp_path, IFC)
    first = road.run("--dry-run", "--probe")
    assert first.returncode == 0, first.stderr
    assert "probe: ifc: training steps" in first.stdout
    probes = list((road.results / "probes").iterdir())
    assert len(probes) == 1 + 2 * 2, "a training, two windows evaluated and timed"
    assert {json.loads(file.read_text())["status"] for file in probes} == {"done"}
    again = road.run("--dry-run")
    priced = [line for line in lines_of(again.stdout) if line[-1:] == ["probed"]]
    assert [line[:2] for line in priced] == [["ifc", "1"], ["ifc", "2"]]
    assert all(float(line[-3]) > 0 for line in priced)
    assert again.stdout.splitlines()[-4:] == first.stdout.splitlines()[-4:]
    assert not (road.results / "trials").exists()


@pytest.mark.slow
def test_without_the_data_embedded_videos_stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("YOUTUBE_VIS", "YOUTUBE_VIS_2019", "IFC_WEIGHTS"):
        monkeypatch.delenv(name, raising=False)
    settings = {**SCALE["settings"], "data": {"kind": "folder"}}
    settings["train"] = {**settings["train"], "initial": "model"}
    road = make_road(
        tmp_path, {**IFC, "axes": {"inference.window": [3]}, "table": ROWS}, scale={"settings": settings}
    )
    done = road.run("--dry-run", "--probe")
    assert done.returncode == 0, done.stderr
    assert "on embedded videos of the recipe's frame sizes" in done.stdout
    assert "probed (on embedded videos)" in done.stdout
    assert "evaluation left: unknown" in done.stdout, "nobody knows how many frames are scored"
    assert [path.name for path in road.results.iterdir()] == ["probes"]


ROWS = {"rows": "inference.window", "cells": ["AP"]}


@pytest.mark.parametrize("kind", ["backbone", "model"])
def test_weights_of_the_kind_that_the_training_starts_from(kind: str, tmp_path: Path) -> None:
    config = TrialConfig.model_validate(
        {"model": {"backbone": "resnet18", "hidden_dim": 32}, "train": {"initial": kind}}
    )
    file = _random_weights(config, tmp_path / "initial.safetensors")
    assert file is not None
    assert initialise(build_model(config.model), file).kind == kind


def test_an_untrained_model_is_quietened() -> None:
    torch.manual_seed(0)
    model = build_model(
        {"backbone": "tiny", "num_classes": 40, "num_queries": 50, "hidden_dim": 32, "dropout": 0.0}
    ).eval()
    frames = torch.randint(0, 256, (3, 3, 32, 48), dtype=torch.uint8)
    quiet(model, frames)
    with torch.inference_mode():
        probabilities = model(frames[None])["pred_logits"][0].softmax(-1)
    kept = probabilities.argmax(-1) != 40
    assert int(kept.sum()) == 5
    assert int((probabilities[kept, :-1] > 0.01).sum()) == 5, "one result each"


def test_errors_that_mean_a_lack_of_memory() -> None:
    assert lacks_memory(MemoryError())
    assert lacks_memory(torch.OutOfMemoryError("CUDA out of memory"))
    with pytest.raises(RuntimeError) as raised:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert lacks_memory(raised.value)
    assert not lacks_memory(RuntimeError("shapes differ"))


def test_a_probe_job_is_closed() -> None:
    with pytest.raises(ValueError, match="speeed"):
        ProbeJob.model_validate_json('{"speeed": 1}')
