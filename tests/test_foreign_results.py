"""Result files of other authors: what is mapped and said, what is refused and why; AP stays what it was."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco

from harness.evaluation import evaluate
from harness.foreign_results import ForeignResults, read_foreign, same_aspect
from model.errors import InputError

sys.path.insert(0, str(Path(__file__).parent / "fixtures"))
from random_vis import random_vis

Json = dict[str, Any]
H, W = 24, 32


def mask(*pixels: tuple[int, int], size: tuple[int, int] = (H, W)) -> Json:
    plane = np.zeros(size, np.uint8, order="F")
    for y, x in pixels or [(1, 1)]:
        plane[y * size[0] // H : (y + 3) * size[0] // H, x * size[1] // W : (x + 3) * size[1] // W] = 1
    code = coco.encode(plane)
    return {"size": list(size), "counts": code["counts"].decode()}


TRUTH: Json = {
    "videos": [
        {
            "id": number,
            "height": H,
            "width": W,
            "length": length,
            "file_names": [f"{name}/{frame:05d}.jpg" for frame in range(length)],
        }
        for number, name, length in ((3, "lion", 2), (8, "two goats", 1), (9, "sea", 2))
    ],
    "categories": [
        {"id": 1, "name": "giant_panda"},
        {"id": 2, "name": "Flying-Disc"},
        {"id": 7, "name": "ape"},
    ],
    "annotations": None,
}


def entry(video: Any = 3, category: Any = 1, score: Any = 0.5, **changes: Any) -> Json:
    length = {3: 2, 8: 1, 9: 2}.get(video, 2)
    masks = [mask((2, 3 + frame)) for frame in range(length)]
    found = {"video_id": video, "category_id": category, "score": score, "segmentations": masks} | changes
    return {key: value for key, value in found.items() if value is not None}


def read(folder: Path, content: Any, truth: Json = TRUTH) -> ForeignResults:
    (folder / "r.json").write_text(json.dumps(content))
    return read_foreign(folder / "r.json", truth)


def refusal(folder: Path, content: Any) -> str:
    with pytest.raises(InputError) as raised:
        read(folder, content)
    message = str(raised.value)
    assert message.startswith(f"{folder / 'r.json'}: ")
    assert "\n" not in message
    return message.removeprefix(f"{folder / 'r.json'}: ")


# ---------------------------------------------------------------------------------------------- as they are


def test_a_common_file_stays_as_it_is(tmp_path: Path) -> None:
    entries = [entry(9), entry(3, 7, 0.25), entry(8), entry(3)]
    found = read(tmp_path, entries)
    assert (found.results, found.notes) == (entries, [])


def test_unasked_keys_are_left_out(tmp_path: Path) -> None:
    entries = [entry(video) for video in (3, 8, 9)]
    assert read(tmp_path, [{**each, "bboxes": [], "id": 4} for each in entries]).results == entries


def test_classes_that_share_their_masks_share_one_list(tmp_path: Path) -> None:
    results = read(tmp_path, [entry(3), entry(3, 2, 0.25), entry(3, 1, 0.125)]).results
    assert [result["category_id"] for result in results] == [1, 2, 1]
    assert results[0]["segmentations"] is results[1]["segmentations"] is results[2]["segmentations"]


def test_exact_copies_are_left_out_and_said(tmp_path: Path) -> None:
    found = read(tmp_path, [entry(3), entry(8), entry(3), entry(9), entry(3)])
    assert len(found.results) == 3
    assert found.notes == ["2 exact copies of other results left out"]


def test_videos_without_results_are_named(tmp_path: Path) -> None:
    assert read(tmp_path, [entry(8)]).notes == ["no result, scored as none found: videos 3, 9"]
    found = read(tmp_path, [])
    assert (found.results, found.notes) == ([], ["no result, scored as none found: videos 3, 8, 9"])


def test_scores_are_ranks(tmp_path: Path) -> None:
    found = read(tmp_path, [entry(3, score=-2), entry(8, score=40), entry(9)])
    assert [result["score"] for result in found.results] == [-2.0, 40.0, 0.5]
    assert found.notes == ["scores from -2 to 40: no probabilities, but AP asks for ranks alone"]


def test_lists_of_runs_become_codes(tmp_path: Path) -> None:
    runs = entry(8, segmentations=[{"size": [H, W], "counts": [H * 2, H * 3, H * (W - 5)]}])
    [result] = read(tmp_path, [runs]).results
    assert isinstance(result["segmentations"][0]["counts"], str)
    assert coco.area(result["segmentations"][0]) == H * 3


# ---------------------------------------------------------------------------------------------------- names


@pytest.mark.parametrize(
    "names",
    [
        {"category_name": "Giant Panda"},
        {"category": "giant-panda"},
        {"category_id": "GIANTPANDA"},
        {"category": "giant_panda", "category_id": 2},
    ],
)
def test_categories_by_name(tmp_path: Path, names: Json) -> None:
    entries = [{**entry(video, None), **names} for video in (3, 8, 9)]
    found = read(tmp_path, entries)
    assert found.results == [entry(video) for video in (3, 8, 9)]
    assert len(found.notes) == 1
    assert found.notes[0].startswith("categories mapped by name (1 names)")
    assert ("its ids are of another list" in found.notes[0]) == (names.get("category_id") == 2)


@pytest.mark.parametrize("key", ["results", "predictions", "annotations"])
def test_a_file_with_categories_of_its_own(tmp_path: Path, key: str) -> None:
    own = [{"id": 0, "name": "ape"}, {"id": 1, "name": "flying disc"}, {"id": 5, "name": "unicorn"}]
    content = {"categories": own, key: [entry(3, 0), entry(8, 1), entry(9, 1)]}
    found = read(tmp_path, content)
    assert [result["category_id"] for result in found.results] == [7, 2, 2]
    assert found.notes == ["categories mapped by name (2 names): its ids are of another list"]


def test_own_lists_that_agree_need_no_note(tmp_path: Path) -> None:
    lists = {key: TRUTH[key] for key in ("videos", "categories")}
    entries = [entry(video) for video in (3, 8, 9)]
    found = read(tmp_path, {**lists, "results": entries})
    assert (found.results, found.notes) == (entries, [])


@pytest.mark.parametrize(
    "names",
    [
        {"video_name": "two goats"},
        {"file_name": "two goats/00000.jpg"},
        {"file_names": ["JPEGImages/two goats/00000.jpg"]},
        {"video": "valid/JPEGImages/two goats"},
        {"video_id": "two goats"},
        {"video_id": 0, "video_name": "two goats"},
    ],
)
def test_videos_by_name(tmp_path: Path, names: Json) -> None:
    masks = entry(8)["segmentations"]
    found = read(tmp_path, [{**entry(None, segmentations=masks), **names}])
    assert found.results == [entry(8)]
    assert found.notes[0].startswith("videos mapped by name (1 names)")


@pytest.mark.parametrize(
    "about",
    [{"name": "two goats"}, {"name": "two goats", "height": None}, {"file_names": ["two goats/0.jpg"]}],
)
def test_names_suffice_for_videos_of_its_own(tmp_path: Path, about: Json) -> None:
    found = read(tmp_path, {"videos": [{"id": 1, **about}], "results": [entry(8) | {"video_id": 1}]})
    assert [result["video_id"] for result in found.results] == [8]
    assert found.notes[0].startswith("videos mapped by name (1 names): its ids are of another list")


@pytest.mark.parametrize(
    ("videos", "says"),
    [
        ([{"id": 1, "name": "sea", "width": "x"}], "its own lists: video 1: width: 'x'; allowed: a positive"),
        ([{"id": 1}, {"id": 1}], "its own lists: videos[1]: id: 1 appears twice"),
        ([{"name": "sea"}], "its own lists: videos[0]: id: None; allowed: an integer"),
        (["sea"], "its own lists: videos[0]: str; allowed: an object"),
        ({"sea": 1}, "its own lists: videos: dict; allowed: a list"),
    ],
)
def test_own_lists_are_checked_and_named(tmp_path: Path, videos: Any, says: str) -> None:
    assert refusal(tmp_path, {"videos": videos, "results": []}).startswith(says)


def test_the_checksum_is_of_what_was_read(tmp_path: Path) -> None:
    content = json.dumps([entry(8)]).encode()
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(content,))
    writer.start()
    found = read_foreign(pipe, TRUTH)
    writer.join()
    assert len(found.results) == 1
    assert found.sha256 == hashlib.sha256(content).hexdigest()


def test_a_file_with_videos_of_its_own(tmp_path: Path) -> None:
    videos = [{**video, "id": place} for place, video in enumerate(TRUTH["videos"])]
    entries = [entry(3, video_id=0), entry(8, video_id=1), entry(9, video_id=2)]
    found = read(tmp_path, {"videos": videos, "results": entries})
    assert found.results == [entry(3), entry(8), entry(9)]


def test_names_without_a_counterpart_are_refused(tmp_path: Path) -> None:
    message = refusal(tmp_path, [{**entry(), "category_name": name} for name in ("ape", "unicorn", "yeti")])
    assert message == (
        "categories without a counterpart in the annotations: 'unicorn', 'yeti'; "
        "allowed: 'giant_panda', 'Flying-Disc', 'ape'"
    )
    message = refusal(tmp_path, [{**entry(), "video_name": "atlantis"}])
    assert message == (
        "videos without a counterpart in the annotations: 'atlantis'; allowed: 'lion', 'two goats', 'sea'"
    )


def test_a_name_of_two_is_refused(tmp_path: Path) -> None:
    truth = {**TRUTH, "categories": [{"id": 1, "name": "sea lion"}, {"id": 2, "name": "sealion"}]}
    with pytest.raises(InputError, match="category 'Sea-Lion': may be any of the annotations' ids 1, 2"):
        read(tmp_path, [{**entry(), "category": "Sea-Lion"}], truth)


def test_ids_beside_names_of_another_list_are_refused(tmp_path: Path) -> None:
    entries = [{**entry(3, 2), "category_name": "ape"}, entry(8, 1)]
    assert refusal(tmp_path, entries) == (
        "[1]: category_id without a name, but elsewhere category_id 2 is 'ape', 7 in the annotations; "
        "allowed: names in all entries, or the annotations' ids"
    )


# ---------------------------------------------------------------------------------------------------- sizes


def test_masks_of_another_size_are_scaled_and_said(tmp_path: Path) -> None:
    small = [mask((2, 3 + frame), size=(H * 2, W * 2)) for frame in range(2)]
    found = read(tmp_path, [entry(3, segmentations=small), entry(8), entry(9)])
    assert found.results[0] == entry(3)
    assert found.notes == [f"masks of {H * 2}x{W * 2} scaled to {H}x{W} by nearest neighbour (video 3)"]


@pytest.mark.parametrize(
    ("sizes", "says"),
    [
        ([(W, H)] * 2, "size [32, 24], turned by a quarter; allowed: the video's [24, 32], or a size of the"),
        ([(H, H)] * 2, "size [24, 24]; allowed: the video's [24, 32], or a size of the same shape"),
        ([(H * 2, W * 2), (H, W)], "size [48, 64], elsewhere [24, 32]; allowed: one size for all masks of"),
    ],
)
def test_sizes_that_cannot_be_mapped_are_refused(
    tmp_path: Path, sizes: list[tuple[int, int]], says: str
) -> None:
    masks = [mask(size=size) for size in sizes]
    assert refusal(tmp_path, [entry(8), entry(3, segmentations=masks)]).startswith(f"[1]: video 3: {says}")


def test_one_result_of_another_size_is_refused(tmp_path: Path) -> None:
    odd = entry(3, segmentations=[mask(size=(H * 2, W * 2))] * 2)
    assert "allowed: one size for all masks of a video" in refusal(tmp_path, [entry(3), odd])


@given(st.integers(8, 2000), st.integers(8, 2000), st.integers(8, 2000))
@settings(deadline=None)
def test_every_resize_to_a_short_side_keeps_the_aspect(height: int, width: int, short: int) -> None:
    scale = short / min(height, width)
    for rounded in (round, int):
        size = (max(1, rounded(height * scale)), max(1, rounded(width * scale)))
        assert same_aspect(size, (height, width))
    assert not same_aspect((short * 2 + 4, short), (short, short))


# -------------------------------------------------------------------------------------------------- refused


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (5, "int; allowed: a list of results"),
        ({"info": 1}, "an object with info; allowed: a list of results, or an object with one of results"),
        ({"results": [], "annotations": []}, "results and annotations; allowed: a list of results, or"),
        ({"results": 5}, "results: int; allowed: a list of results"),
        ({"results": [], "categories": {"1": "ape"}}, "its own lists: categories: dict; allowed: a list"),
        (["x"], "[0]: str; allowed: an object"),
        ([entry(77)], "[0]: video_id: 77; allowed: the id of a video that the annotation json lists"),
        ([entry(3, 5)], "[0]: video 3: category_id: 5; allowed: the id of a category"),
        ([entry(3, True)], "[0]: video 3: category_id: True; allowed"),
        ([entry(3, score="0.9")], "[0]: video 3: score: '0.9'; allowed: a finite number"),
        ([entry(3, score=float("nan"))], "[0]: video 3: score: nan; allowed: a finite number"),
        ([entry(8), entry(3, segmentations=[mask()])], "[1]: video 3: segmentations: 1 entries; allowed: 2"),
        ([entry(3, segmentations=[mask()] * 3)], "[0]: video 3: segmentations: 3 entries; allowed: 2"),
        (
            [entry(8, segmentations=[{"size": [H, W], "counts": "7"}])],
            "[0]: video 8: segmentations[0]: cou",
        ),
        ([entry(8, segmentations=[{"size": [0, 0], "counts": "7"}])], "[0]: video 8: segmentations[0]: size"),
        ([entry(8, segmentations=[[[1, 2, 3]]])], "[0]: video 8: segmentations[0]: a polygon"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, content: Any, says: str) -> None:
    assert refusal(tmp_path, content).startswith(says)


def test_no_file_and_no_json(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_foreign(tmp_path / "none.json", TRUTH)
    (tmp_path / "half.json").write_text('[{"video_id": 3')
    with pytest.raises(InputError, match="not a json file"):
        read_foreign(tmp_path / "half.json", TRUTH)


def test_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="images; allowed: a YouTube-VIS json"):
        read(tmp_path, [], {"images": [{"id": 1, "height": 2, "width": 2}], "categories": []})


# ------------------------------------------------------------------------------------------- AP is the same


def renamed(results: list[Json], truth: Json, draw: Any) -> Any:
    """The same results with numbers of another list, and names in the entries or in lists of the file."""
    categories = {each["id"]: each["name"] for each in truth["categories"]}
    folders = {each["id"]: each["file_names"][0].split("/")[0] for each in truth["videos"]}
    order = draw(st.permutations(sorted(categories)))
    ids = dict(zip(sorted(categories), order, strict=True))
    if draw(st.booleans()):
        out = [
            {
                **each,
                "category_id": ids[each["category_id"]],
                "category_name": categories[each["category_id"]],
            }
            for each in results
        ]
        for each in out:
            each["video_name"] = folders[each.pop("video_id")]
        return out
    own = [{"id": ids[number], "name": name.upper()} for number, name in categories.items()]
    moved = [{**video, "id": 1000 - video["id"]} for video in truth["videos"]]
    out = [
        {**each, "category_id": ids[each["category_id"]], "video_id": 1000 - each["video_id"]}
        for each in results
    ]
    return {"categories": own, "videos": moved, "predictions": out}


def resized(results: list[Json], videos: set[int], times: int) -> list[Json]:
    out = copy.deepcopy(results)
    for each in out:
        if each["video_id"] in videos:
            each["segmentations"] = [code and enlarged(code, times) for code in each["segmentations"]]
    return out


def enlarged(code: Json, times: int) -> Json:
    plane = coco.decode(code).repeat(times, 0).repeat(times, 1)
    found = coco.encode(np.asfortranarray(plane))
    return {"size": list(found["size"]), "counts": found["counts"].decode()}


@given(data=st.data(), seed=st.integers(0, 10**6))
@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_mapping_and_back_gives_the_same_ap(tmp_path: Path, data: st.DataObject, seed: int) -> None:
    truth, results = random_vis(seed, videos=4, categories=3, max_inst=3, preds_per_video=5, size=(20, 30))
    results = [each for place, each in enumerate(results) if each not in results[:place]]
    assume(results)
    videos = data.draw(st.sets(st.sampled_from(sorted({each["video_id"] for each in results}))))
    foreign = renamed(resized(results, videos, data.draw(st.integers(2, 3))), truth, data.draw)
    found = read(tmp_path, foreign, truth)
    assert found.results == results
    assert evaluate(truth, found.results) == evaluate(truth, results)


@given(data=st.data(), seed=st.integers(0, 10**6))
@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_order_and_copies_change_no_ap(tmp_path: Path, data: st.DataObject, seed: int) -> None:
    """Without equal scores: among those the file's order decides, as in the original evaluator."""
    shape = {"videos": 3, "categories": 2, "max_inst": 3, "preds_per_video": 5, "size": (16, 24)}
    truth, results = random_vis(seed, ties=False, **shape)  # type: ignore[arg-type]
    assume(results)
    copies = data.draw(st.lists(st.sampled_from(results), max_size=3))
    found = read(tmp_path, data.draw(st.permutations(results + copies)), truth)
    assert len(found.results) == len(results)
    assert any("exact cop" in note for note in found.notes) == bool(copies)
    assert evaluate(truth, found.results) == evaluate(truth, results)


@given(st.recursive(
    st.none() | st.booleans() | st.integers(-3, 12) | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["video_id", "category_id", "score", "segmentations", "size", "counts", "results", "categories"]
        ),
        inner,
        max_size=5,
    ),
    max_leaves=20,
))  # fmt: skip
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_json_is_read_or_refused(tmp_path: Path, content: Any) -> None:
    refused = ""
    try:
        found = read(tmp_path, content)
    except InputError as error:
        refused = str(error)
    assert "\n" not in refused
    if not refused:
        assert evaluate({**TRUTH, "annotations": []}, found.results)["AP"] == -1
