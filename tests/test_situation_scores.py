"""AP of a part of the tracks: what it equals, what it may not depend on, and how its parts are cut."""

from __future__ import annotations

import copy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.evaluation import IOU_THRESHOLDS, RECALL_THRESHOLDS, encode_tracks, evaluate
from harness.metrics import LEVELS, SITUATIONS
from harness.situations.intervals import resampled_ap, resampled_videos, score_intervals
from harness.situations.outcomes import CROWD, MISSED, Outcome, outcomes
from harness.situations.scores import average_precision, tercile_scores
from harness.situations.tags import TrackTags
from harness.situations.terciles import FEWEST_TRACKS, split_tracks, terciles_of

sys.path.insert(0, str(Path(__file__).parent / "fixtures"))
from random_vis import random_vis

SMALL = {"videos": 5, "categories": 3, "size": (16, 20), "preds_per_video": 6}
seeds = st.integers(0, 10_000)
Json = dict[str, Any]


def chosen(found: list[Outcome], which: set[int]) -> list[np.ndarray[Any, Any]]:
    return [np.array([i in which for i in one.tracks], bool) for one in found]


def counted_ids(truth: Json) -> list[int]:
    return [a["id"] for a in truth["annotations"] if not a["iscrowd"]]


# AP of a group


@settings(max_examples=20, deadline=None)
@given(seeds, st.booleans())
def test_all_tracks_have_exactly_the_ap_of_the_evaluator(seed: int, ties: bool) -> None:
    truth, results = random_vis(seed, **SMALL, ties=ties)
    expected = evaluate(truth, results)["AP"]
    found, videos = outcomes(truth, results)
    if expected == -1:
        assert not counted_ids(truth)
    else:
        assert average_precision(found, chosen(found, set(counted_ids(truth)))) == expected
    assert videos == len(truth["videos"])


def by_hand(truth: Json, results: list[Json], which: set[int]) -> float:
    """The definition, one threshold and one result at a time, on the evaluator's own matches."""
    found, _ = outcomes(truth, results)
    aps = []
    for one in found:
        counts = [i in which for i in one.tracks]
        if not any(counts):
            continue
        for row in one.found:
            hits = misses = 0
            curve = []
            for match in row:
                misses += match == MISSED
                hits += match >= 0 and counts[match]
                weighted = hits * len(counts) / sum(counts)
                curve.append((hits / sum(counts), weighted / (weighted + misses) if hits else 0.0))
            aps += [max((p for r, p in curve if r >= level), default=0.0) for level in RECALL_THRESHOLDS]
    return float(np.mean(aps))


@settings(max_examples=12, deadline=None)
@given(seeds, st.randoms(use_true_random=False))
def test_equals_the_definition(seed: int, chance: Any) -> None:
    truth, results = random_vis(seed, **SMALL)
    ids = counted_ids(truth)
    if not ids:
        return
    which = set(chance.sample(ids, chance.randint(1, len(ids))))
    found, _ = outcomes(truth, results)
    expected = by_hand(truth, results, which)
    assert average_precision(found, chosen(found, which)) == pytest.approx(expected, abs=1e-12)


def copies(truth: Json, results: list[Json], times: int) -> tuple[Json, list[Json], list[set[int]]]:
    """Every video so many times, with other ids; and the annotation ids of each copy."""
    whole = {**truth, "videos": [], "annotations": []}
    found: list[Json] = []
    ids = []
    for number in range(times):
        for video in truth["videos"]:
            whole["videos"].append({**video, "id": video["id"] + 1000 * number})
        for entry in truth["annotations"]:
            moved = {"id": entry["id"] + 10_000 * number, "video_id": entry["video_id"] + 1000 * number}
            whole["annotations"].append({**entry, **moved})
        found += [{**r, "video_id": r["video_id"] + 1000 * number} for r in results]
        ids.append({i + 10_000 * number for i in counted_ids(truth)})
    return whole, found, ids


@settings(max_examples=10, deadline=None)
@given(seeds, st.integers(1, 3))
def test_ap_does_not_depend_on_the_size_of_the_group(seed: int, share: int) -> None:
    """Where results are equally good everywhere, one, two or three quarters of the tracks score as all do."""
    truth, results = random_vis(seed, **SMALL, ties=False)
    if not counted_ids(truth):
        return
    expected = evaluate(truth, results)["AP"]
    truth, results, ids = copies(truth, results, 4)
    found, _ = outcomes(truth, results)
    group = set().union(*ids[:share])
    assert average_precision(found, chosen(found, group)) == pytest.approx(expected, abs=1e-12)


@settings(max_examples=15, deadline=None)
@given(seeds)
def test_hits_of_the_groups_are_the_hits_of_all(seed: int) -> None:
    truth, results = random_vis(seed, **SMALL)
    found, _ = outcomes(truth, results)
    for one in found:
        for row in one.found:
            hits = row[row >= 0]
            assert len(set(hits.tolist())) == len(hits), "a track is found once"
            assert ((row >= 0) | (row == MISSED) | (row == CROWD)).all()
        counts = [(row >= 0).sum() for row in one.found]
        assert counts == sorted(counts, reverse=True)


def squares(count: int, category: int = 1) -> tuple[Json, np.ndarray[Any, Any]]:
    """A video of two frames with so many tracks of 4x4 pixels in one category, and their masks."""
    masks = np.zeros((count, 2, 8, 8 * count), bool)
    for track in range(count):
        masks[track, :, 2:6, 8 * track + 2 : 8 * track + 6] = True
    entries = encode_tracks(1, [1.0] * count, [category] * count, masks)
    annotations = [{"id": i + 1, "iscrowd": 0, **entry} for i, entry in enumerate(entries)]
    videos = [{"id": 1, "height": 8, "width": 8 * count, "length": 2}]
    return {"videos": videos, "categories": [{"id": 1}, {"id": 2}], "annotations": annotations}, masks


def test_a_false_alarm_counts_by_the_groups_share() -> None:
    """Of three tracks the second best result is a false alarm: 3 / (3 + 1) for a track found after it."""
    truth, masks = squares(3)
    results = encode_tracks(1, [0.9, 0.7], [1, 1], masks[:2])
    results += encode_tracks(1, [0.8], [1], np.roll(masks[:1], 2, axis=2))
    found, _ = outcomes(truth, results)
    assert average_precision(found, chosen(found, {1})) == pytest.approx(1)
    assert average_precision(found, chosen(found, {2})) == pytest.approx(3 / 4)
    assert average_precision(found, chosen(found, {3})) == 0
    assert np.isnan(average_precision(found, chosen(found, set())))


def test_results_that_match_others_and_crowds_are_ignored() -> None:
    truth, masks = squares(3)
    results = encode_tracks(1, [0.9, 0.8, 0.7], [1] * 3, masks)
    found, _ = outcomes(truth, results)
    assert average_precision(found, chosen(found, {3})) == pytest.approx(1)
    truth["annotations"][0]["iscrowd"] = 1
    found, _ = outcomes(truth, results + results[:1])
    assert average_precision(found, chosen(found, {3})) == pytest.approx(1)
    assert found[0].tracks == (2, 3)


def test_categories_without_tracks_of_the_group_are_left_out() -> None:
    truth, masks = squares(3)
    truth["annotations"][2]["category_id"] = 2
    found, _ = outcomes(truth, encode_tracks(1, [0.9], [1], masks[:1]))
    assert average_precision(found, chosen(found, {1})) == pytest.approx(1)
    assert average_precision(found, chosen(found, {1, 3})) == pytest.approx(0.5)


# Terciles


values = st.lists(st.none() | st.floats(0, 9).map(lambda v: round(v, 1)), max_size=60)


@given(values)
def test_equal_tags_are_never_split_and_order_is_kept(tags: list[float | None]) -> None:
    group = split_tracks("speed", tags)
    told = sorted((v, level) for v, level in zip(tags, group.levels, strict=True) if level is not None)
    assert [level for _, level in told] == sorted(level for _, level in told)  # type: ignore[type-var]
    assert len(dict(told)) == len(set(told))
    assert group.undefined == tags.count(None)
    if group.borders is None:
        assert set(group.levels) <= {None}
    else:
        assert sum(group.counts) + group.undefined == len(tags)
        assert all((v is None) == (level is None) for v, level in zip(tags, group.levels, strict=True))
        assert set(group.borders) <= set(tags)


@given(st.lists(st.floats(-5, 5), min_size=2, max_size=60, unique=True))
def test_different_tags_make_groups_of_the_same_size(tags: list[float]) -> None:
    counts = split_tracks("speed", list(tags)).counts
    assert max(counts) - min(counts) <= 1


@given(values)
def test_only_the_order_of_tags_matters(tags: list[float | None]) -> None:
    bent = [None if v is None else v**3 + 2 * v - 7 for v in tags]
    assert split_tracks("blur", bent).levels == split_tracks("blur", tags).levels


def test_a_shared_lowest_value_is_low_and_the_rest_is_cut_at_its_median() -> None:
    group = split_tracks("absence", [0.0] * 6 + [0.1, 0.2, 0.3, 0.4])
    assert (group.lowest_tied, group.borders, group.counts) == (True, (0, 0.2), (6, 2, 2))
    group = split_tracks("absence", [0.0] * 2 + [0.1, 0.2, 0.3, 0.4])
    assert (group.lowest_tied, group.borders, group.counts) == (False, (0, 0.2), (2, 2, 2))
    group = split_tracks("absence", [0.0] * 6 + [0.5, 0.5, None])
    assert (group.borders, group.counts, group.undefined) == ((0, 0.5), (6, 2, 0), 1)


@pytest.mark.parametrize("tags", [[], [None], [0.0, 0.0, None], [0.3]])
def test_what_does_not_differ_is_not_cut(tags: list[float | None]) -> None:
    group = split_tracks("absence", tags)
    assert group.borders is None
    assert group.counts == (0, 0, 0)
    assert group.undefined == tags.count(None)


def tagged(truth: Json, rng: np.random.Generator) -> list[TrackTags]:
    """Made-up tags of every track."""
    entries = [a for a in truth["annotations"] if not a["iscrowd"]]
    return [TrackTags(a["video_id"], a["id"], 0, *rng.random(6).round(2).tolist()) for a in entries]


def test_scores_of_terciles() -> None:
    truth, results = random_vis(3, videos=30, categories=2, size=(24, 30), preds_per_video=8)
    tags = tagged(truth, np.random.default_rng(0))
    found, _ = outcomes(truth, results)
    groups = terciles_of(tags)
    scores = tercile_scores(found, tags, groups)
    assert list(scores) == [f"AP_{name}_{level}" for name in SITUATIONS for level in LEVELS]
    for place, level in enumerate(LEVELS):
        ids = [t.annotation_id for t, of in zip(tags, groups["speed"].levels, strict=True) if of == place]
        assert len(ids) >= FEWEST_TRACKS
        expected = 100 * by_hand(truth, results, set(ids))
        assert scores[f"AP_speed_{level}"] == pytest.approx(expected, abs=1e-9)


def test_too_few_tracks_have_no_score() -> None:
    truth, results = random_vis(3, **SMALL)
    tags = tagged(truth, np.random.default_rng(0))
    assert 0 < len(tags) < 3 * FEWEST_TRACKS
    found, videos = outcomes(truth, results)
    groups = terciles_of(tags)
    scores, intervals = tercile_scores(found, tags, groups), score_intervals(found, tags, groups, videos, 50)
    small = [name for name in SITUATIONS if max(groups[name].counts) < FEWEST_TRACKS]
    assert small
    assert all(scores[f"AP_{name}_{level}"] is None for name in small for level in LEVELS)
    assert set(intervals.values()) == {None}, "5 videos"


def test_tracks_of_one_tag_are_no_third() -> None:
    truth, results = random_vis(3, videos=30, categories=2, size=(24, 30), preds_per_video=8)
    tags = [track._replace(absence=0.0) for track in tagged(truth, np.random.default_rng(0))]
    assert len(tags) > 3 * FEWEST_TRACKS
    found, videos = outcomes(truth, results)
    groups = terciles_of(tags)
    scores, intervals = tercile_scores(found, tags, groups), score_intervals(found, tags, groups, videos, 50)
    assert [scores[f"AP_absence_{level}"] for level in LEVELS] == [None] * 3
    assert {value for key, value in intervals.items() if "absence" in key} == {None}
    assert scores["AP_speed_low"] is not None


# Intervals


@settings(max_examples=10, deadline=None)
@given(seeds, st.data())
def test_a_resample_is_what_repeated_videos_score(seed: int, data: st.DataObject) -> None:
    truth, results = random_vis(seed, **SMALL, ties=False)
    videos = [video["id"] for video in truth["videos"]]
    times = data.draw(st.lists(st.integers(0, 3), min_size=len(videos), max_size=len(videos)))
    drawn: Json = {**truth, "videos": [], "annotations": []}
    found_again: list[Json] = []
    for video, count in zip(videos, times, strict=True):
        for number in range(count):
            part = {"videos": [v for v in truth["videos"] if v["id"] == video]}
            part["annotations"] = [a for a in truth["annotations"] if a["video_id"] == video]
            one, more, _ = copies(
                {**truth, **part}, [r for r in results if r["video_id"] == video], number + 1
            )
            drawn["videos"] += one["videos"][-1:]
            drawn["annotations"] += one["annotations"][len(part["annotations"]) * number :]
            found_again += more[len(more) // (number + 1) * number :]
    found, _ = outcomes(truth, results)
    which = chosen(found, set(counted_ids(truth)))
    [resampled] = resampled_ap(found, which, np.array([times], float))
    expected = evaluate(drawn, found_again)["AP"] if drawn["videos"] else -1
    if expected == -1:
        assert np.isnan(resampled)
    else:
        assert resampled == pytest.approx(expected, abs=1e-9)


def test_intervals_hold_the_score_and_are_the_same_again() -> None:
    truth, results = random_vis(5, videos=40, categories=2, size=(24, 30), preds_per_video=8)
    tags = tagged(truth, np.random.default_rng(1))
    found, videos = outcomes(truth, results)
    groups = terciles_of(tags)
    scores, intervals = tercile_scores(found, tags, groups), score_intervals(found, tags, groups, videos, 200)
    assert intervals == score_intervals(found, tags, groups, videos, 200)
    for key, score in scores.items():
        interval = intervals[key]
        assert score is not None
        assert interval is not None
        assert interval[0] < interval[1]
        assert interval[0] - 3 < score < interval[1] + 3
    assert intervals["AP_speed_high-low"] is not None
    assert intervals["AP"] is not None


def test_resampled_videos_are_as_many_as_there_are() -> None:
    draws = resampled_videos(12, 30)
    assert draws.shape == (30, 12)
    assert (draws.sum(1) == 12).all()
    assert len(IOU_THRESHOLDS) == 10
    assert (resampled_videos(12, 30) == draws).all()


def test_input_is_left_as_it_was() -> None:
    truth, results = random_vis(3, **SMALL)
    before = copy.deepcopy((truth, results))
    outcomes(truth, results)
    assert (truth, results) == before
