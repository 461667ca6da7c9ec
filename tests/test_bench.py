"""``python -m harness bench``: processes that take turns, and what they are made to say."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.bench.command import BenchOptions, bench
from harness.bench.job import BenchJob
from harness.bench.parity import compare
from harness.bench.run import Measured, Process
from model.config import ModelConfig
from model.errors import InputError

ROOT = Path(__file__).resolve().parents[1]
FAST = ["--backbone", "tiny", "--size", "32x48", "--length", "4", "--passes", "2", "--min-seconds", "0"]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "harness", "bench", "--device", "cpu", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)


@pytest.mark.slow
def test_two_sides_are_timed_in_turn_and_agree(tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    done = run(*FAST, "--against", "published-ops", "--kept", "3", "--json", str(file))
    assert done.returncode == 0, done.stderr
    for region in ("model", "video", "e2e"):
        turns = [line for line in done.stderr.splitlines() if f"{region}, pass" in line]
        assert turns == [
            f"{side}: {region}, pass {number}" for number in (1, 2) for side in ("ours", "published-ops")
        ]
        assert sum(f"| {region} " in line for line in done.stdout.splitlines()) == 2
    assert "labels equal" in done.stdout
    assert "freed memory: ours uses it again; published-ops takes it from the system anew" in done.stdout
    content = json.loads(file.read_text())
    assert content["parity"]["least_iou"] == 1.0
    assert content["tracks"] >= 3
    assert content["keeps_memory"] == [True, False]
    for side in content["sides"]:
        for measured in side:
            assert len(measured["passes"]) == 2
            assert measured["frames"] == [4]
            assert measured["fps"]["median"] > 0


def test_a_file_that_cannot_be_written_is_told_before_anything_is_timed(tmp_path: Path) -> None:
    done = run(*FAST, "--json", str(tmp_path / "absent" / "bench.json"))
    assert done.returncode == 2
    assert "making" not in done.stderr
    [line] = done.stderr.splitlines()
    assert "--json" in line
    assert "cannot be written (No such file or directory)" in line


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"region": "model,model"}, "--region: 'model,model': allowed: model, video, e2e, each once"),
        ({"region": "model,vidoe"}, "--region: 'model,vidoe': allowed: model, video, e2e"),
        ({"region": ""}, "--region: '': allowed"),
        ({"size": "360"}, "--size: '360': allowed: HEIGHTxWIDTH"),
        ({"size": "0x9"}, "--size: '0x9': allowed"),
        ({"size": "16x640"}, "--size: 16x640: allowed: at least 32x32"),
        ({"against": "detectron2"}, "--against: 'detectron2': allowed: published-ops"),
        ({"precision": "half"}, "--precision: 'half': allowed: float32, bfloat16, float16"),
        ({"stride": 6}, "--stride: 6: must not be above --window 5"),
        ({"device": "tpu"}, "--device: 'tpu': allowed: auto, cpu, cuda"),
        ({"memory": "theirs"}, "--memory: 'theirs': allowed: ours, both, none"),
        ({"cuda_graphs": True, "device": "cpu"}, "--cuda-graphs: on cpu"),
        ({"kept": 100}, "--kept: 100: allowed: less than the model's 100 queries"),
        ({"encoder": "ifcc"}, "allowed: no_comm, full_thw, decomp_t_hw, ifc"),
        ({"weights": Path("absent.pth")}, "absent.pth: no such weights file"),
    ],
    ids=str,
)
def test_what_cannot_be_timed_is_said_in_a_line(keys: dict[str, Any], message: str) -> None:
    small = {"backbone": "tiny", "length": 1, "size": "32x48"}
    with pytest.raises(InputError) as caught:
        bench(BenchOptions(**{**small, **keys}), lambda line: None)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_worker_without_its_data_says_so(tmp_path: Path) -> None:
    job = BenchJob(
        side="ours",
        model=ModelConfig(backbone="tiny"),
        weights=tmp_path / "none.safetensors",
        data=tmp_path,
        split="valid",
        device="cpu",
    )
    with pytest.raises(InputError, match=r"none\.safetensors"):
        Process(job, tmp_path)


def told(seconds: list[float], **keys: Any) -> dict[str, Any]:
    quiet = {"peak_memory_gb": 1.0, "peak_memory_kind": "k", "others_cpu_share": 0.0, "clocks": [None, None]}
    return {"seconds": seconds, "frames": [10, 30], **quiet, **keys}


def test_fps_is_the_median_over_passes_of_all_frames() -> None:
    measured = Measured("ours", "video")
    for seconds in ([1.0, 3.0], [4.0, 4.0], [1.0, 1.0]):
        measured.take(told(seconds))
    assert measured.fps == (7.5, 10.0, 15.0)
    assert measured.milliseconds(0.5) == 100.0
    assert measured.milliseconds(0.9) == 400.0
    assert not measured.warnings


@pytest.mark.parametrize(
    ("keys", "warning"),
    [
        ({"others_cpu_share": 0.2}, "other processes"),
        ({"clocks": [{"sm_mhz": 1000.0}, {"sm_mhz": 1900.0}]}, "drifted"),
        ({"clocks": [{"sm_mhz": None}, {"sm_mhz": 1.0, "throttle_reasons": 8}]}, "throttled"),
    ],
)
def test_what_disturbs_a_timing_is_told(keys: dict[str, Any], warning: str) -> None:
    measured = Measured("ours", "video")
    measured.take(told([1.0, 1.0], **keys))
    [said] = measured.warnings
    assert warning in said


def outputs(path: Path, scores: list[float], labels: list[int], masks: np.ndarray) -> Path:
    np.savez(path, scores=scores, labels=labels, shape=np.array(masks.shape), masks=np.packbits(masks))
    return path


def test_parity_finds_what_differs(tmp_path: Path) -> None:
    masks = np.zeros((2, 1, 3, 3), bool)
    masks[0, 0, 0], masks[1, 0, :2] = True, True
    other = masks.copy()
    other[1, 0, 1, 2] = False
    one = outputs(tmp_path / "a.npz", [0.5, 0.25], [1, 2], masks)
    same = compare(one, one)
    assert (same.same_labels, same.largest_score_gap, same.mean_iou, same.least_iou) == (True, 0.0, 1.0, 1.0)
    found = compare(one, outputs(tmp_path / "b.npz", [0.5, 0.75], [1, 1], other))
    assert not found.same_labels
    assert found.largest_score_gap == 0.5
    assert found.least_iou == pytest.approx(5 / 6)
    assert "labels differ" in found.text()
    fewer = compare(one, outputs(tmp_path / "c.npz", [0.5], [1], masks[:1]))
    assert fewer.text() == "2 results against 1"
    empty = outputs(tmp_path / "d.npz", [], [], masks[:0])
    assert compare(empty, empty).least_iou == 1.0
