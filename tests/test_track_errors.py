"""Errors of tracks: each kind in built cases, and by injection into what is right."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.evaluation import evaluate
from harness.metrics import ERROR_KINDS
from harness.track_errors import TrackErrors, error_scores, find_errors
from tests.built_tracks import HEIGHT, LENGTH, WIDTH, Box, Truth, result, still


def one_track() -> Truth:
    truth = Truth()
    truth.add(still(0))
    return truth


def two_tracks(categories: tuple[int, int] = (1, 1)) -> Truth:
    truth = Truth()
    for place, category in enumerate(categories):
        truth.add(still(place), category)
    return truth


def kinds(found: TrackErrors) -> list[str]:
    return [each.kind for each in found.judged]


def only(found: TrackErrors, **counts: int) -> None:
    assert found.counts() == dict.fromkeys(ERROR_KINDS, 0) | counts


def wider(boxes: list[Box], width: int) -> list[Box]:
    return [None if box is None else (box[0], box[1], box[2], width) for box in boxes]


def test_what_is_right_has_no_error() -> None:
    found = find_errors(one_track().json, [result(still(0))])
    only(found)
    assert found.ap50() == 100
    assert set(found.gains().values()) == {0.0}


def test_another_class() -> None:
    found = find_errors(two_tracks((1, 2)).json, [result(still(0), category=2), result(still(1), category=2)])
    only(found, classification=1)
    gains = found.gains()
    # Category 2 finds its track behind a false one of the same score in the same video: precision 1/2.
    assert found.ap50() == pytest.approx(25)
    assert gains["classification"] == pytest.approx(75), "one mended result finds a track and frees the other"
    assert gains["missed"] == 0, "the track is not missed: its result only has the wrong class"


@pytest.mark.parametrize(
    ("width", "expected"), [(4, "right"), (3, "localisation"), (1, "localisation"), (0, "missed")]
)
def test_too_small(width: int, expected: str) -> None:
    boxes = wider(still(0), width) if width else still(7)
    found = find_errors(one_track().json, [result(boxes)])
    if expected == "right":
        only(found)
    elif expected == "missed":
        only(found, background=1, missed=1)
    else:
        only(found, localisation=1)
        assert found.gains()["localisation"] == 100
        assert found.gains()["background"] == 0


def test_too_short_is_a_matter_of_place_not_of_identity() -> None:
    boxes: list[Box] = [*still(0, 3), *[None] * (LENGTH - 3)]
    only(find_errors(two_tracks().json, [result(boxes)]), localisation=1, missed=1)


def test_another_class_at_another_place() -> None:
    truth = two_tracks((1, 2))
    found = find_errors(truth.json, [result(wider(still(0), 2), category=2), result(still(1), 0.8, 2)])
    only(found, both=1, missed=1)
    assert found.gains()["both"] == pytest.approx(25), "only taken away: nobody knows what it was meant for"


def test_twice_the_same() -> None:
    found = find_errors(
        two_tracks().json, [result(still(0), 0.9), result(still(0), 0.8), result(still(1), 0.7)]
    )
    only(found, duplicate=1)
    assert kinds(found) == ["right", "duplicate", "right"]
    assert found.gains()["duplicate"] > 0


def test_nothing_at_all() -> None:
    found = find_errors(two_tracks().json, [])
    only(found, missed=2)
    assert found.ap50() == 0
    assert found.gains()["missed"] == 100


def test_identities_that_swap_half_way() -> None:
    half = LENGTH // 2
    swapped = [
        result([*still(0, half), *still(1, half)], 0.9),
        result([*still(1, half), *still(0, half)], 0.8),
    ]
    found = find_errors(two_tracks().json, swapped)
    only(found, identity_switch=2)
    assert found.ap50() == 0
    gains = found.gains()
    assert gains["identity_switch"] == 100, "each gets one of the two"
    assert [gains[kind] for kind in ("localisation", "missed", "background")] == [0, 0, 0]


def test_a_short_slip_to_another_object_is_still_right() -> None:
    slipped = result([*still(0, LENGTH - 2), *still(1, 2)])
    only(find_errors(two_tracks().json, [slipped]), missed=1)


def test_a_switch_to_an_object_of_another_class_is_none() -> None:
    half = LENGTH // 2
    found = find_errors(two_tracks((1, 2)).json, [result([*still(0, half), *still(1, half)])])
    only(found, localisation=1, missed=1)


def test_switching_does_not_excuse_what_was_not_found() -> None:
    boxes: list[Box] = [*still(0, 1), *[None] * (LENGTH - 2), *still(1, 1)]
    found = find_errors(two_tracks().json, [result(boxes)])
    assert found.counts()["identity_switch"] == 0, "2 of 8 frames are no track, whatever they are called"


def test_gaps_belong_to_the_object_that_was_followed() -> None:
    boxes: list[Box] = [None, *still(0, 2), None, *still(1, 3), None]
    only(find_errors(two_tracks().json, [result(boxes)]), identity_switch=1)


def test_a_crowd_excuses_and_is_never_missed() -> None:
    truth = one_track()
    truth.add(still(5), crowd=True)
    found = find_errors(truth.json, [result(still(0)), result(still(5), 0.95), result(still(5), 0.94)])
    only(found)
    assert kinds(found) == ["right"]
    only(find_errors(truth.json, [result(still(0))]))


def test_no_track_no_number() -> None:
    assert set(error_scores(Truth().json, [result(still(0))]).values()) == {None}


def test_a_mended_result_and_the_one_that_was_right_do_not_both_count() -> None:
    truth = two_tracks((1, 2))
    found = find_errors(
        truth.json, [result(still(0), 0.5, 1), result(still(0), 0.9, 2), result(still(1), 0.7, 2)]
    )
    only(found, classification=1)
    assert found.mended("classification") == 100


# Injected in known amounts

KIND_OF = {
    "class": "classification",
    "shrink": "localisation",
    "copy": "duplicate",
    "swap": "identity_switch",
    "junk": "background",
    "drop": "missed",
}


def made(videos: int, rng: random.Random) -> tuple[Truth, dict[tuple[int, int], dict[str, Any]]]:
    """Every video has four tracks of category 1 and two of category 2; all are found, surely."""
    truth, found = Truth(videos), {}
    for video in range(1, videos + 1):
        places = rng.sample(range(12), 6)
        for number, place in enumerate(places):
            category = 1 if number < 4 else 2
            truth.add(still(place), category, video)
            found[video, number] = result(still(place), rng.uniform(0.6, 1), category, video)
            found[video, number]["place"] = place
    return truth, found


def injected(
    kind: str, found: dict[tuple[int, int], dict[str, Any]], at: tuple[int, int], rng: random.Random
) -> list[dict[str, Any]]:
    """The results with one error of a kind at one track (a swap is of two tracks)."""
    video, number = at
    mine = found[at]
    place, score, category = mine["place"], mine["score"], mine["category_id"]
    others = [each for where, each in found.items() if where != at]
    half = LENGTH // 2
    if kind == "class":
        return [*others, {**mine, "category_id": 3 - category}]
    if kind == "shrink":
        return [*others, result(wider(still(place), rng.choice([1, 2, 3])), score, category, video)]
    if kind == "copy":
        return [*others, mine, {**mine, "score": score - 0.5}]
    if kind == "junk":
        used = {each["place"] for where, each in found.items() if where[0] == video}
        free = rng.choice([place for place in range(12) if place not in used])
        return [*others, mine, result(still(free), rng.uniform(0.1, 1), rng.choice([1, 2, 3]), video)]
    if kind == "drop":
        return others
    partner = (video, (number + 1) % 4)
    theirs = found[partner]["place"]
    others = [each for where, each in found.items() if where not in (at, partner)]
    first = result([*still(place, half), *still(theirs, half)], score, 1, video)
    second = result([*still(theirs, half), *still(place, half)], found[partner]["score"], 1, video)
    return [*others, first, second]


@pytest.mark.parametrize("kind", sorted(KIND_OF))
@given(seed=st.integers(0, 10**6), videos=st.integers(1, 2), number=st.integers(0, 3))
@settings(max_examples=8, deadline=None)
def test_the_injected_kind_is_the_one_that_is_found(kind: str, seed: int, videos: int, number: int) -> None:
    rng = random.Random(seed)
    truth, right = made(videos, rng)
    results = injected(kind, right, (rng.randint(1, videos), number), rng)
    rng.shuffle(results)
    found = find_errors(truth.json, results)
    only(found, **{KIND_OF[kind]: 2 if kind == "swap" else 1})
    gains = found.gains()
    assert found.ap50() == pytest.approx(100 * evaluate(truth.json, results)["AP50"])
    assert found.mended(KIND_OF[kind]) == pytest.approx(100), "mending all that is wrong leaves nothing wrong"
    assert {name for name, gain in gains.items() if (gain or 0) > 1e-9} <= {KIND_OF[kind]}


@st.composite
def any_results(draw: st.DrawFn) -> tuple[Truth, list[dict[str, Any]]]:
    """Anything at all: objects that move, overlap, vanish, are crowds; results likewise."""
    edge = st.integers(2, 12)
    box = st.tuples(st.integers(0, HEIGHT - 8), st.integers(0, WIDTH - 8), edge, edge)
    boxes = st.lists(st.none() | box, min_size=LENGTH, max_size=LENGTH)
    truth = Truth(2)
    tracks = draw(st.lists(st.tuples(boxes, st.integers(1, 3), st.integers(1, 2), st.booleans()), max_size=5))
    for track, category, video, crowd in tracks:
        truth.add(track, category, video, crowd)
    near = st.sampled_from([track for track, *_ in tracks]) if tracks else boxes
    mixed = st.tuples(near, near, st.integers(0, LENGTH)).map(
        lambda two: [*two[0][: two[2]], *two[1][two[2] :]]
    )
    score = st.sampled_from([0.1, 0.5, 0.5, 0.9]) | st.floats(0, 1)
    entry = st.builds(result, near | mixed | boxes, score, st.integers(1, 3), st.integers(1, 2))
    return truth, draw(st.lists(entry, max_size=8))


@given(any_results())
@settings(max_examples=60, deadline=None)
def test_every_result_and_every_track_has_one_place(given: tuple[Truth, list[dict[str, Any]]]) -> None:
    truth, results = given
    found = find_errors(truth.json, results)
    ap50 = found.ap50()
    theirs = evaluate(truth.json, results)["AP50"]
    assert ap50 == (None if theirs < 0 else pytest.approx(100 * theirs)), "the evaluator's own AP50"
    hit = [each.tracks[0] for each in found.judged if each.kind == "right"]
    assert len(set(hit)) == len(hit)
    assert not set(hit) & found.missed
    assert len(found.judged) <= len(results)
    for kind in ERROR_KINDS:
        mended = found.mended(kind)
        if ap50 is not None:
            assert mended is not None
            assert ap50 - 1e-9 <= mended <= 100 + 1e-9, kind
        else:
            assert mended is None
        if not found.counts()[kind]:
            assert mended == ap50, kind


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(Exception, match=r"nothing\.json"):
        find_errors(one_track().json, tmp_path / "nothing.json")
