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
from hypothesis import assume, example, given, settings
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


def rle(counts: object) -> dict[str, Any]:
    return {"segmentations": [{**RLE, "counts": counts}, None]}


REFUSED = {
    "video_id: 99; allowed: the id of a video": {"video_id": 99},
    "video_id: None": {"video_id": None},
    "video_id: True": {"video_id": True},
    "video 7: category_id: 4; allowed: the id of a category": {"category_id": 4},
    "video 7: category_id: [3]": {"category_id": [3]},
    "video 7: score: nan; allowed: a finite number": {"score": math.nan},
    "video 7: score: inf": {"score": math.inf},
    "video 7: score: 1000": {"score": 10**400},
    "video 7: score: '1'": {"score": "1"},
    "video 7: score: None": {"score": None},
    "video 7: segmentations: 1 entries": {"segmentations": [None]},
    "video 7: segmentations: NoneType": {"segmentations": None},
    "video 7: segmentations[1]: size: [9, 10]": {"segmentations": [None, {"size": [9, 10], "counts": [90]}]},
    "video 7: segmentations[0]: a polygon": {"segmentations": [[[0, 0, 5, 5, 5, 0]], None]},
    "video 7: segmentations[0]: counts: runs of 99": rle([99]),
    "video 7: segmentations[0]: counts: not a compressed RLE": {
        "segmentations": [{**RLE, "counts": "\x01"}, None]
    },
    "video 7: segmentations[0]: counts: not a compressed RLE; allowed": rle("T3é"),
    "video 7: segmentations[0]: counts: not all runs": {
        "segmentations": [{**RLE, "counts": [-1, 101]}, None]
    },
}


@pytest.mark.parametrize("message", REFUSED)
def test_bad_result_is_named(message: str) -> None:
    masks = two_frames(0, 5)
    good = encode_tracks(7, [0.5], [3], masks)[0]
    with pytest.raises(InputError) as caught:
        evaluate(one_track(masks), [good, change(good, **REFUSED[message])])
    assert str(caught.value).startswith(f"results: [1]: {message}")
    assert "\n" not in str(caught.value)


BAD_ANNOTATIONS = {
    "annotation 12: video_id: 99; allowed: the id of a video": {"video_id": 99},
    "annotation 12: category_id: 4; allowed: the id of a category": {"category_id": 4},
    "annotations[1]: id: '12'; allowed: an integer": {"id": "12"},
    "annotation 0: id: appears twice, annotations[0] and [1]": {"id": 0},
    "annotation 12 (video 7): iscrowd: 2; allowed: 0, 1": {"iscrowd": 2},
    "annotation 12 (video 7): areas: 1 entries; allowed: 2": {"areas": [5]},
    "annotation 12 (video 7): areas[1]: nan; allowed": {"areas": [5, math.nan]},
    "annotation 12 (video 7): areas[0]: -1; allowed": {"areas": [-1, None]},
    "annotation 12 (video 7): areas: int; allowed": {"areas": 5},
    "annotation 12 (video 7): segmentations: 3 entries; allowed: 2": {"segmentations": [None] * 3},
    "annotation 12 (video 7): segmentations[1]: size: [9, 10]": {
        "segmentations": [None, {"size": [9, 10], "counts": [90]}]
    },
    "annotation 12 (video 7): segmentations[0]: counts: runs of 99": {
        "segmentations": [{**RLE, "counts": [99]}, {"size": [9, 10]}]
    },
}


@pytest.mark.parametrize("message", BAD_ANNOTATIONS)
def test_bad_annotation_is_named(message: str, tmp_path: Path) -> None:
    truth = one_track(two_frames(0, 5))
    bad = change(truth["annotations"][0], **{"id": 12, **BAD_ANNOTATIONS[message]})
    truth["annotations"].append(bad)
    file = tmp_path / "gt.json"
    file.write_text(json.dumps(truth))
    with pytest.raises(InputError) as caught:
        evaluate(file, [])
    assert str(caught.value).startswith(f"{file}: {message}")
    assert "\n" not in str(caught.value)


def test_an_annotation_without_id_is_named_by_its_place() -> None:
    truth = one_track(two_frames(0, 5))
    truth["annotations"][0].update(iscrowd=2)
    del truth["annotations"][0]["id"]
    with pytest.raises(InputError, match=r"^ground truth: annotations\[0\] \(video 7\): iscrowd: 2"):
        evaluate(truth, [])


BAD_VIDEOS = {
    "videos[1]: id: None; allowed: an integer": {"id": None},
    "videos[1]: id: 7 appears twice": {"id": 7},
    "video 8: height: 0; allowed: a positive integer": {"height": 0},
    "video 8: width: '10'; allowed: a positive integer": {"width": "10"},
    "video 8: length: -1; allowed: a number of frames": {"length": -1},
    "video 8: length: None; allowed: a number of frames": {"length": None},
    "video 8: length: 2, but file_names has 3 entries": {"file_names": ["a", "b", "c"]},
    "video 8: file_names: str; allowed: a list of paths": {"file_names": "a"},
}


@pytest.mark.parametrize("message", BAD_VIDEOS)
def test_bad_video_is_named(message: str) -> None:
    truth = one_track(two_frames(0, 5))
    truth["videos"].append({**truth["videos"][0], "id": 8, **BAD_VIDEOS[message]})
    with pytest.raises(InputError) as caught:
        evaluate(truth, [])
    assert str(caught.value).startswith(f"ground truth: {message}")


@settings(max_examples=12, deadline=None)
@given(seeds, st.data())
def test_any_damaged_result_is_named_by_place_and_video(seed: int, data: st.DataObject) -> None:
    truth, results = random_vis(seed, **SMALL)
    assume(results)
    place = data.draw(st.integers(0, len(results) - 1))
    bad = results[place]
    video, damage = bad["video_id"], data.draw(st.sampled_from(["score", "category_id", "size", "length"]))
    if damage == "score":
        bad["score"] = data.draw(st.sampled_from([math.nan, math.inf, -math.inf, "0.5", None, True]))
    elif damage == "category_id":
        bad["category_id"] = data.draw(st.integers(4) | st.integers(max_value=0) | st.floats() | st.text())
    elif damage == "length":
        bad["segmentations"] = bad["segmentations"] + [None] * data.draw(st.integers(1, 3))
    else:
        frame = next(i for i, mask in enumerate(bad["segmentations"]) if mask is not None)
        H, W = bad["segmentations"][frame]["size"]
        bad["segmentations"][frame] = {"size": [H + 1, W], "counts": [(H + 1) * W]}
        damage = f"segmentations[{frame}]: size"
    field = damage.replace("length", "segmentations")
    with pytest.raises(InputError) as caught:
        evaluate(truth, results)
    assert str(caught.value).startswith(f"results: [{place}]: video {video}: {field}: ")


@settings(max_examples=15, deadline=None)
@given(seeds, st.integers(0, 3), st.booleans())
def test_videos_with_nothing_in_them_change_nothing(seed: int, length: int, with_files: bool) -> None:
    """Neither videos of 0 frames nor videos without instances, as long as no result claims one."""
    truth, results = random_vis(seed, **SMALL)
    more = copy.deepcopy(truth)
    video = {"id": 0, "height": 9, "width": 8, "length": length}
    if with_files:
        video["file_names"] = [f"{frame}.jpg" for frame in range(length)]
    more["videos"].append(video)
    assert evaluate(more, results) == evaluate(truth, results)


@settings(max_examples=15, deadline=None)
@given(seeds, st.integers(0, 3))
def test_results_where_nothing_is_are_false_alarms(seed: int, length: int) -> None:
    """They work, also in a video of 0 frames, and never help."""
    truth, results = random_vis(seed, **SMALL)
    truth["videos"].append({"id": 0, "height": 9, "width": 8, "length": length})
    alarms = [
        {"video_id": 0, "category_id": c, "score": 2.0, "segmentations": [None] * length} for c in (1, 2, 3)
    ]
    with_alarms, without = evaluate(truth, results + alarms), evaluate(truth, results)
    assert with_alarms["AP"] <= without["AP"]
    assert with_alarms["AR100"] == without["AR100"]
    if without["AP"] > 0:
        assert with_alarms["AP"] < without["AP"], "one false alarm before everything else, in each category"


def test_an_annotated_video_of_no_frames_can_only_be_missed() -> None:
    truth = one_track(np.zeros((1, 0, 10, 10), bool))
    truth["videos"][0]["length"] = 0
    assert evaluate(truth, [])["AP"] == 0
    nothing = {"video_id": 7, "category_id": 3, "score": 0.5, "segmentations": []}
    assert evaluate(truth, [nothing])["AP"] == 0


@settings(max_examples=10, deadline=None)
@given(seeds)
def test_without_annotations_nothing_is_defined(seed: int) -> None:
    truth, results = random_vis(seed, **SMALL)
    assert set(evaluate({**truth, "annotations": []}, results).values()) == {-1.0}


NO_ANNOTATIONS = '{"videos": [], "categories": [], "annotations": null}'


@pytest.mark.parametrize("content", ["[1]", "{}", "{", "[" * 100_000, NO_ANNOTATIONS])
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
