"""AP on images: pycocotools' own evaluator behind our entries, quiet, and the same checks as for videos."""

from __future__ import annotations

import copy
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco

from harness.evaluation import encode_tracks, evaluate
from harness.image_evaluation import METRICS, evaluate_images
from model.errors import InputError

sys.path.insert(0, str(Path(__file__).parent / "fixtures"))
from random_vis import random_vis

SQUARE = [[0, 0, 4, 0, 4, 4, 0, 4]]
"""As a polygon: the 16 pixels of the upper left corner."""


def image_truth(*segmentations: Any, **fields: Any) -> dict[str, Any]:
    """Image 7 of 10x12 pixels with annotations of category 3."""
    return {
        "images": [{"id": 7, "height": 10, "width": 12, "file_name": "7.jpg"}],
        "categories": [{"id": 3, "name": "x"}],
        "annotations": [
            {"id": 50 + i, "image_id": 7, "category_id": 3, "segmentation": s, "iscrowd": 0, **fields}
            for i, s in enumerate(segmentations)
        ],
    }


def rectangle(bottom: int, right: int) -> np.ndarray:
    """(1,1,10,12), True in the upper left corner."""
    masks = np.zeros((1, 1, 10, 12), bool)
    masks[..., :bottom, :right] = True
    return masks


def found(*rectangles: tuple[int, int], scores: list[float] | None = None) -> list[dict[str, Any]]:
    n = len(rectangles)
    masks = np.concatenate([rectangle(*r) for r in rectangles])
    return encode_tracks(7, scores or [0.5] * n, [3] * n, masks)


def test_a_polygon_and_its_pixels_match() -> None:
    scores = evaluate_images(image_truth(SQUARE), found((4, 4)))
    assert scores == pytest.approx(dict.fromkeys(METRICS, 1.0))


def test_parts_make_one_mask_and_the_iou_decides() -> None:
    """12 of 20 pixels: an IoU of .60, a match at .50, .55 and .60."""
    two_parts = [[0, 0, 4, 0, 4, 4, 0, 4], [0, 4, 4, 4, 4, 5, 0, 5]]
    scores = evaluate_images(image_truth(two_parts), found((3, 4)))
    assert scores["AP50"] == pytest.approx(1)
    assert scores["AP75"] == 0
    assert [scores["AP"], scores["AR1"]] == pytest.approx([0.3, 0.3])


def test_a_second_find_of_an_object_is_a_false_alarm() -> None:
    """The better score takes the object; the exact mask comes second and finds it taken."""
    scores = evaluate_images(
        image_truth(SQUARE, [[6, 6, 9, 6, 9, 9, 6, 9]]), found((4, 4), (4, 4), scores=[0.9, 0.8])
    )
    assert scores["AP"] == pytest.approx(51 / 101)  # precision 1 up to a recall of one half
    assert scores["AR1"] == scores["AR100"] == pytest.approx(0.5)


@pytest.mark.parametrize("counts", ["list", "string"])
def test_a_crowd_takes_results_and_counts_for_none(counts: str) -> None:
    region = {"size": [10, 12], "counts": [0, 60, 60]}  # the left half
    if counts == "string":
        region["counts"] = coco.frPyObjects(region, 10, 12)["counts"].decode()
    truth = image_truth([[8, 8, 11, 8, 11, 10, 8, 10]])
    truth["annotations"].append({**image_truth(region, iscrowd=1)["annotations"][0], "id": 1})
    mask = np.zeros((1, 1, 10, 12), bool)
    mask[..., 8:10, 8:11] = True
    results = found((4, 4), (5, 5), scores=[0.9, 0.8]) + encode_tracks(7, [0.1], [3], mask)
    assert evaluate_images(truth, results)["AP"] == pytest.approx(1)


def test_annotation_id_zero_counts() -> None:
    assert evaluate_images(image_truth(SQUARE, id=0), found((4, 4)))["AP"] == pytest.approx(1)


def test_nothing_found_and_nothing_to_find() -> None:
    assert evaluate_images(image_truth(SQUARE), []) == dict.fromkeys(METRICS, 0.0)
    nowhere = {"video_id": 7, "category_id": 3, "score": 0.5, "segmentations": [None]}
    assert evaluate_images(image_truth(SQUARE), [nowhere]) == dict.fromkeys(METRICS, 0.0)
    for truth in (image_truth(), {"images": [], "categories": [], "annotations": []}):
        assert evaluate_images(truth, []) == dict.fromkeys(METRICS, -1.0)


def test_prints_nothing_and_leaves_its_input_alone(capfd: pytest.CaptureFixture[str]) -> None:
    truth, results = image_truth(SQUARE), found((4, 4))
    before = copy.deepcopy((truth, results))
    evaluate_images(truth, results)
    assert capfd.readouterr() == ("", "")
    assert (truth, results) == before


def as_images(truth: dict[str, Any]) -> dict[str, Any]:
    """A YouTube-VIS json of one-frame videos as COCO has it."""
    return {
        "images": [{k: v[k] for k in ("id", "height", "width")} for v in truth["videos"]],
        "categories": truth["categories"],
        "annotations": [
            {
                "id": a["id"],
                "image_id": a["video_id"],
                "category_id": a["category_id"],
                "iscrowd": a["iscrowd"],
                "segmentation": a["segmentations"][0],
                "area": a["areas"][0],
            }
            for a in truth["annotations"]
        ],
    }


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000), st.booleans(), st.integers(1, 12))
@example(0, True, 300)  # more than a hundred in one image
def test_agrees_with_the_video_score_on_videos_of_one_frame(seed: int, ties: bool, results: int) -> None:
    size = {
        "videos": 6,
        "categories": 1 if results > 100 else 2,
        "size": (20, 26),
        "preds_per_video": results,
    }
    truth, predicted = random_vis(seed, **size, ties=ties)
    for video in truth["videos"]:
        video.update(length=1, file_names=video["file_names"][:1])
    for entry in (*truth["annotations"], *predicted):
        entry["segmentations"] = entry["segmentations"][:1]
    kept = [a for a in truth["annotations"] if a["segmentations"][0] is not None]
    for annotation in kept:
        annotation.update(iscrowd=0, areas=annotation["areas"][:1])
    truth["annotations"] = kept
    videos = evaluate(truth, predicted)
    images = evaluate_images(as_images(truth), predicted)
    assert images == pytest.approx({name: videos[name] for name in METRICS}, abs=1e-9)


TRUTH = {
    "annotation 50: image_id: 8": {"image_id": 8},
    "annotation 50: category_id: None": {"category_id": None},
    "annotation 50 (image 7): iscrowd: 2": {"iscrowd": 2},
    "annotation 50 (image 7): area: nan": {"area": math.nan},
    "annotation 50 (image 7): segmentation: empty list": {"segmentation": []},
    "annotation 50 (image 7): segmentation: null": {"segmentation": None},
    "annotation 50 (image 7): segmentation[0]: 4 numbers": {"segmentation": [[0, 0, 4, 4]]},
    "annotation 50 (image 7): segmentation[0]: 7 numbers": {"segmentation": [[0, 0, 4, 4, 0, 4, 1]]},
    "annotation 50 (image 7): segmentation[1]: int": {"segmentation": [*SQUARE, 3]},
    "annotation 50 (image 7): segmentation[0]: inf": {"segmentation": [[0, 0, 4, 4, 0, math.inf]]},
    "annotation 50 (image 7): segmentation[0]: 1000000.0": {"segmentation": [[0, 0, 4, 4, 0, 1e6]]},
    "annotation 50 (image 7): segmentation: size: [9, 12]": {
        "segmentation": {"size": [9, 12], "counts": [108]}
    },
    "annotation 50 (image 7): segmentation: counts: runs of 119": {
        "segmentation": {"size": [10, 12], "counts": [119]}
    },
}


@pytest.mark.parametrize("message", TRUTH)
def test_bad_annotation_is_named(message: str) -> None:
    truth = image_truth(SQUARE)
    truth["annotations"][0].update(TRUTH[message])
    with pytest.raises(InputError) as caught:
        evaluate_images(truth, [])
    assert str(caught.value).startswith(f"ground truth: {message}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"video_id": 8}, "results: [0]: video_id: 8; allowed: the id of a video"),
        ({"score": math.nan}, "results: [0]: video 7: score: nan"),
        ({"segmentations": [None, None]}, "results: [0]: video 7: segmentations: 2 entries; allowed: 1"),
    ],
)
def test_bad_result_is_named(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        evaluate_images(image_truth(SQUARE), [{**found((4, 4))[0], **fields}])
    assert str(caught.value).startswith(message)


def test_a_video_json_is_refused() -> None:
    truth, _ = random_vis(0, videos=1)
    with pytest.raises(InputError, match="ground truth: no images; allowed: a COCO instances json"):
        evaluate_images(truth, [])
    with pytest.raises(InputError, match="ground truth: images instead of videos"):
        evaluate(image_truth(SQUARE), [])
