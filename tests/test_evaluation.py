"""The YouTube-VIS score: the original evaluator's values, laws it must obey, and what it refuses."""

from __future__ import annotations

import copy
import json
import math
import random
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco

from harness.data.rle import run_totals
from harness.evaluation import encode_tracks, evaluate, write_results
from model.errors import InputError

FIXTURES = Path(__file__).parent / "fixtures"
sys.path.insert(0, str(FIXTURES))
from random_vis import random_vis  # noqa: E402

ORIGINAL = json.loads((FIXTURES / "ytvis_eval.json").read_text())
ORDER = ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"]
SMALL = {"videos": 5, "categories": 3, "size": (24, 30), "preds_per_video": 8}
seeds = st.integers(0, 10_000)


@pytest.mark.parametrize("case", ORIGINAL)
def test_equals_the_original_evaluator(case: str) -> None:
    scores = evaluate(*random_vis(**ORIGINAL[case]["kw"]))
    assert [scores[name] for name in ORDER] == pytest.approx(ORIGINAL[case]["stats"], abs=1e-9)


def test_reads_paths(tmp_path: Path) -> None:
    truth, results = random_vis(3, **SMALL)
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    write_results(tmp_path / "out" / "results.json", results)
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["results.json"]
    by_path = evaluate(tmp_path / "truth.json", str(tmp_path / "out" / "results.json"))
    assert by_path == evaluate(truth, results)


def perfect(truth: dict[str, Any]) -> list[dict[str, Any]]:
    keys = ("video_id", "category_id", "segmentations")
    return [{"score": 1.0, **{k: a[k] for k in keys}} for a in truth["annotations"] if not a["iscrowd"]]


@settings(max_examples=15, deadline=None)
@given(seeds)
def test_perfect_results_score_one(seed: int) -> None:
    truth, _ = random_vis(seed, **SMALL)
    results = perfect(truth)
    assert evaluate(truth, results)["AP"] == (pytest.approx(1.0) if results else -1)


@settings(max_examples=15, deadline=None)
@given(seeds, st.randoms(use_true_random=False))
def test_order_of_distinct_scores_is_irrelevant(seed: int, shuffler: random.Random) -> None:
    truth, results = random_vis(seed, **SMALL, ties=False)
    shuffled = shuffler.sample(results, len(results))
    assert evaluate(truth, shuffled) == evaluate(truth, results)


@settings(max_examples=15, deadline=None)
@given(seeds)
def test_only_the_order_of_scores_matters(seed: int) -> None:
    truth, results = random_vis(seed, **SMALL)
    bent = [{**r, "score": math.exp(3 * r["score"]) - 7} for r in results]
    assert evaluate(truth, bent) == evaluate(truth, results)


@settings(max_examples=15, deadline=None)
@given(seeds)
@example(281)  # every threshold scores the same, and the mean of ten equal numbers rounds up
def test_scores_are_ordered_and_bounded(seed: int) -> None:
    scores = evaluate(*random_vis(seed, **SMALL))
    assert all(value == -1 or 0 <= value <= 1 for value in scores.values())
    assert scores["AP"] <= scores["AP50"] or scores["AP"] == pytest.approx(scores["AP50"], rel=1e-15)
    assert scores["AP50"] >= scores["AP75"]
    assert scores["AR1"] <= scores["AR10"] <= scores["AR100"]


def test_no_results_score_zero() -> None:
    truth, _ = random_vis(1, **SMALL)
    scores = evaluate(truth, [])
    assert (scores["AP"], scores["AR10"]) == (0, 0)


def two_frames(top: int, bottom: int, left: int = 0, right: int = 10) -> np.ndarray:
    """A rectangle (1,2,10,10), in the first frame only."""
    masks = np.zeros((1, 2, 10, 10), bool)
    masks[0, 0, top:bottom, left:right] = True
    return masks


def one_track(masks: np.ndarray, **fields: Any) -> dict[str, Any]:
    entry = encode_tracks(7, [1.0], [3], masks)[0]
    annotation = {"id": 0, "iscrowd": 0, **entry, **fields}
    return {
        "videos": [{"id": 7, "height": 10, "width": 10, "length": 2}],
        "categories": [{"id": 3, "name": "x"}],
        "annotations": [annotation],
    }


def test_iou_sums_over_frames() -> None:
    """60 of 100 pixels in frame 0, and a false 20 in frame 1: 60 / 120 matches at .50 alone."""
    masks = two_frames(0, 6)
    masks[0, 1, :2] = True
    scores = evaluate(one_track(two_frames(0, 10)), encode_tracks(7, [0.5], [3], masks))
    assert scores["AP"] == pytest.approx(0.1)
    assert scores["AP50"] == pytest.approx(1)


def test_annotation_id_zero_counts() -> None:
    masks = two_frames(0, 5)
    assert evaluate(one_track(masks), encode_tracks(7, [0.5], [3], masks))["AP"] == pytest.approx(1)


@pytest.mark.parametrize(("area", "suffix"), [(100, "s"), (128**2 + 1, "m"), (300**2, "l")])
def test_area_is_the_mean_over_frames_with_any(area: int, suffix: str) -> None:
    masks = two_frames(0, 5)
    truth = one_track(masks, areas=[area, None])
    scores = evaluate(truth, encode_tracks(7, [0.5], [3], masks))
    assert [s for s in "sml" if scores[f"AP{s}"] == pytest.approx(1)] == [suffix]


def test_crowd_takes_any_number_of_results_and_counts_for_none() -> None:
    masks = two_frames(0, 5)
    truth = one_track(masks)
    crowd = {**one_track(two_frames(5, 10), iscrowd=1)["annotations"][0], "id": 1}
    truth["annotations"].append(crowd)
    results = encode_tracks(7, [0.9, 0.8, 0.1], [3] * 3, np.concatenate([two_frames(5, 10)] * 2 + [masks]))
    assert evaluate(truth, results)["AP"] == pytest.approx(1)


def change(entry: dict[str, Any], **fields: Any) -> dict[str, Any]:
    entry = copy.deepcopy(entry)
    entry.update(fields)
    return entry


RLE = {"size": [10, 10], "counts": [100]}
REFUSED = {
    "video_id: 99": {"video_id": 99},
    "video_id: None": {"video_id": None},
    "category_id: 4": {"category_id": 4},
    "category_id: [3]": {"category_id": [3]},
    "score: nan": {"score": math.nan},
    "score: inf": {"score": math.inf},
    "score: '1'": {"score": "1"},
    "score: None": {"score": None},
    "segmentations: 1 entries": {"segmentations": [None]},
    "segmentations: NoneType": {"segmentations": None},
    "segmentations[1]: size: [9, 10]": {"segmentations": [None, {"size": [9, 10], "counts": [90]}]},
    "segmentations[0]: a polygon": {"segmentations": [[[0, 0, 5, 5, 5, 0]], None]},
    "segmentations[0]: counts: runs of 99": {"segmentations": [{**RLE, "counts": [99]}, None]},
    "segmentations[0]: counts: not a compressed RLE": {"segmentations": [{**RLE, "counts": "\x01"}, None]},
    "segmentations[0]: counts: not all runs": {"segmentations": [{**RLE, "counts": [-1, 101]}, None]},
}


@pytest.mark.parametrize("message", REFUSED)
def test_bad_result_is_named(message: str) -> None:
    masks = two_frames(0, 5)
    good = encode_tracks(7, [0.5], [3], masks)[0]
    with pytest.raises(InputError) as caught:
        evaluate(one_track(masks), [good, change(good, **REFUSED[message])])
    assert str(caught.value).startswith(f"results[1]: {message}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["[1]", "{}", "{", '{"videos": [], "categories": []}'])
def test_bad_ground_truth_file_is_named(content: str, tmp_path: Path) -> None:
    (tmp_path / "truth.json").write_text(content)
    with pytest.raises(InputError, match=r"truth\.json: "):
        evaluate(tmp_path / "truth.json", [])


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.json: cannot be read"):
        evaluate(tmp_path / "none.json", [])


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 4), seeds)
def test_run_totals_agree_with_coco(H: int, W: int, n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    masks = [np.asfortranarray(rng.random((H, W)) < rng.random(), np.uint8) for _ in range(n)]
    codes = [coco.encode(mask)["counts"] for mask in masks]
    assert run_totals([b"", *codes]).tolist() == [-1] + [H * W] * n


@settings(max_examples=30, deadline=None)
@given(st.lists(st.binary(max_size=12), max_size=5), seeds)
def test_run_totals_survive_garbage_and_do_not_spread_it(garbage: list[bytes], seed: int) -> None:
    mask = np.random.default_rng(seed).random((9, 11)) < 0.5
    good = coco.encode(np.asfortranarray(mask, np.uint8))["counts"]
    totals = run_totals([*garbage, good, *garbage])
    assert totals[len(garbage)] == 99
    assert len(totals) == 2 * len(garbage) + 1


@settings(max_examples=20, deadline=None)
@given(seeds, st.integers(1, 4), st.integers(1, 4))
def test_encoding_round_trips(seed: int, n: int, L: int) -> None:
    rng = np.random.default_rng(seed)
    masks = (rng.random((n, L, 6, 7)) < 0.5) & (rng.random((n, L, 1, 1)) < 0.6)
    for entry, track in zip(encode_tracks(1, np.arange(n), np.arange(n) + 1, masks), masks, strict=True):
        for segmentation, mask in zip(entry["segmentations"], track, strict=True):
            assert (segmentation is None) == (not mask.any())
            if segmentation is not None:
                assert np.array_equal(coco.decode(segmentation), mask)


def test_shared_masks_are_encoded_once() -> None:
    masks = np.concatenate([two_frames(0, 5), two_frames(5, 10)])
    entries = encode_tracks(1, [0.1, 0.2, 0.3], [4, 5, 6], masks, mask_index=[1, 0, 1])
    assert [e["category_id"] for e in entries] == [4, 5, 6]
    assert entries[0]["segmentations"] is entries[2]["segmentations"]
    assert np.array_equal(coco.decode(entries[1]["segmentations"][0]), masks[0, 0])


def test_no_tracks_to_encode() -> None:
    assert encode_tracks(1, [], [], np.zeros((0, 2, 3, 3), bool)) == []
