"""What `compare` draws: identities across methods, disagreement, hatched masks and where tags stand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from harness.compare.disagreement import disagreements, most_disputed
from harness.compare.identities import COLOURS, Shown, identified, look_of
from harness.compare.tracks import DrawnTrack, method_tracks
from harness.evaluation import encode_mask
from harness.overlay import Label, Look, Painter
from harness.strip import evenly_spread

H, W = 12, 20
Planes = NDArray[np.bool_]


def box(left: int, top: int = 2, frames: int = 4, side: int = 6, speed: int = 0) -> Planes:
    planes = np.zeros((frames, H, W), bool)
    for frame, plane in enumerate(planes):
        plane[top : top + side, left + speed * frame : left + speed * frame + side] = True
    return planes


def track(planes: Planes, score: float | None = None, category: str = "ape") -> DrawnTrack:
    return DrawnTrack(tuple(encode_mask(plane) for plane in planes), category, score)


def identities(rows: list[list[Shown]]) -> list[list[tuple[int, bool]]]:
    return [[(shown.identity, shown.is_paired) for shown in row] for row in rows]


# ------------------------------------------------------------------------------------------ identities


def test_a_method_takes_the_identities_of_the_first_row() -> None:
    truth = [track(box(1)), track(box(10))]
    method = [track(box(11), 0.9), track(box(2), 0.8), track(box(5, 6), 0.7)]
    found = identified([truth, method])
    assert identities(found) == [[(0, True), (1, True)], [(1, True), (0, True), (2, False)]]
    assert [shown.tag for shown in found[1]] == ["2", "1", "a×"]
    assert [shown.words for shown in found[1]] == ["2 ape 0.90", "1 ape 0.80", "a× ape 0.70"]
    assert found[0][0].words == "1 ape"
    assert [shown.look.hatched for shown in found[1]] == [False, False, True]


def test_classes_play_no_part() -> None:
    found = identified([[track(box(1), category="ape")], [track(box(1), 0.5, "dog")]])
    assert identities(found) == [[(0, True)], [(0, True)]]


def test_pairs_have_the_largest_sum_not_the_first_come() -> None:
    """The better track would take what is the only match of the other."""
    truth = [track(box(0, side=8)), track(box(6, side=8))]
    method = [track(box(2, side=8), 0.9), track(box(0), 0.8)]
    assert identities(identified([truth, method]))[1] == [(1, True), (0, True)]


def test_little_overlap_is_no_match() -> None:
    far = identified([[track(box(0))], [track(box(5), 0.9)]])  # IoU 1 / 11
    near = identified([[track(box(0))], [track(box(4), 0.9)]])  # IoU 1 / 5
    assert identities(far)[1] == [(1, False)]
    assert identities(near)[1] == [(0, True)]


def test_what_only_methods_find_has_one_identity_too() -> None:
    rows = [[track(box(0))], [track(box(13), 0.9)], [track(box(0), 0.9), track(box(12), 0.8)]]
    assert identities(identified(rows)) == [[(0, True)], [(1, False)], [(0, True), (1, False)]]


def test_a_duplicate_is_marked_and_has_its_objects_number() -> None:
    rows = [[track(box(0, side=8))], [track(box(0, side=8), 0.5), track(box(1, side=8), 0.9)]]
    [_, [exact, other]] = identified(rows)
    assert (exact.identity, exact.tag, exact.look.hatched) == (0, "1", False)
    assert (other.identity, other.words, other.look.hatched) == (0, "1× ape 0.90", True)
    assert other.look.colour == exact.look.colour


def test_a_switching_track_keeps_one_identity() -> None:
    left, right = box(1, frames=6), box(12, frames=6)
    switching = np.concatenate([left[:4], right[4:]])
    [_, [shown]] = identified([[track(left), track(right)], [track(switching, 0.9)]])
    assert shown.identity == 0


@given(st.integers(1, 12), st.randoms(use_true_random=False))
@settings(deadline=None)
def test_identities_do_not_depend_on_the_order_of_a_file(count: int, random: Any) -> None:
    rng = np.random.default_rng(count)
    planes = [box(int(rng.integers(0, 14)), int(rng.integers(0, 6)), side=5) for _ in range(count)]
    truth = [track(box(0)), track(box(7)), track(box(14))]
    tracks = [track(each, 0.5) for each in planes]
    shuffled = random.sample(range(count), count)
    plain = identified([truth, tracks])[1]
    mixed = identified([truth, [tracks[place] for place in shuffled]])[1]
    assert sum(shown.is_paired for shown in plain) == sum(shown.is_paired for shown in mixed)
    for row in (plain, mixed):
        matched = [shown.identity for shown in row if shown.is_paired]
        assert len(set(matched)) == len(matched)


def test_colours_come_back_with_other_tags() -> None:
    assert look_of(0, True) == Look((0, 114, 178))
    assert look_of(len(COLOURS), True) == look_of(0, True)
    rows = identified([[], [track(box(0, side=3), 0.5)] * 28])
    assert [shown.tag for shown in rows[1]][24:] == ["y×", "z×", "aa×", "ab×"]


# ---------------------------------------------------------------------------------------- disagreement


def test_disagreement_of_frames() -> None:
    truth = [track(box(0, frames=3)), track(box(10, frames=3))]
    planes = box(0, frames=3)
    planes[1, :, 3:] = False  # half of one of two objects
    planes[2] = False
    method = [track(planes, 0.9), track(box(10, frames=3), 0.8)]
    found = disagreements(identified([truth, method]), 3, (H, W))
    assert found == pytest.approx([0, 0.25, 0.5])


def test_exchanged_identities_disagree_where_masks_agree() -> None:
    one, other = box(0, frames=6), box(10, frames=6)
    exchanged = [np.concatenate([a[:4], b[4:]]) for a, b in ((one, other), (other, one))]
    rows = identified([[track(one), track(other)], [track(each, 0.9) for each in exchanged]])
    assert disagreements(rows, 6, (H, W)).tolist() == [0, 0, 0, 0, 1, 1]


def test_nothing_on_both_sides_agrees() -> None:
    assert disagreements(identified([[], []]), 2, (H, W)).tolist() == [0, 0]
    assert disagreements([[]], 2, (H, W)).tolist() == [0, 0]


@given(st.lists(st.floats(0, 1), max_size=40), st.integers(1, 12))
@settings(deadline=None)
def test_chosen_frames_cover_the_video(values: list[float], count: int) -> None:
    chosen = most_disputed(np.array(values), count)
    assert chosen == sorted(set(chosen))
    assert len(chosen) == min(count, len(values))
    for part, frame in enumerate(chosen):
        start, stop = (len(values) * at // len(chosen) for at in (part, part + 1))
        assert start <= frame < stop
        assert values[frame] == max(values[start:stop])
    spread = evenly_spread(len(values), count)
    assert len(set(spread)) == len(chosen)
    assert all(0 <= frame < len(values) for frame in spread)


# -------------------------------------------------------------------------------------------- pictures


def test_results_with_the_same_masks_are_one_track_of_the_best_class() -> None:
    one, other = [encode_mask(box(1)[0])], [encode_mask(box(9)[0])]
    results = [
        {"category_id": category, "score": score, "segmentations": masks}
        for category, score, masks in ((1, 0.4, one), (2, 0.6, one), (1, 0.5, other), (2, 0.2, other))
    ]
    names = {1: "ape", 2: "dog"}
    found = method_tracks(results, names, 0.3, 10)
    assert [(each.category, each.score) for each in found] == [("dog", 0.6), ("ape", 0.5)]
    assert len(method_tracks(results, names, 0.55, 10)) == 1
    assert len(method_tracks(results, names, 0.0, 1)) == 1


def test_hatched_masks_differ_without_colours() -> None:
    painter, mask = Painter(300, 300), np.zeros((300, 300), bool)
    mask[50:200, 50:200] = True
    grey = np.full((300, 300, 3), 90, np.uint8)
    plain, hatched = grey.copy(), grey.copy()
    painter.paint(plain, mask, 0, "", Look((0, 114, 178)))
    painter.paint(hatched, mask, 0, "", Look((0, 114, 178), hatched=True))
    inside = (slice(60, 190), slice(60, 190))
    assert np.ptp(plain[inside].mean(-1)) == 0
    assert 0.4 < (hatched[inside] == 90).all(-1).mean() < 0.6
    assert (hatched[50, 50:200] == 255).all(-1).any()
    assert (plain[~mask] == 90).all()
    assert (hatched[~mask] == 90).all()


def test_tags_stand_beside_what_is_kept() -> None:
    painter, mask = Painter(300, 300), np.zeros((300, 300), bool)
    mask[100:200, 100:200] = True
    picture = np.full((300, 300, 3), 90, np.uint8)
    label = painter.paint(picture, mask, 0, "1", Look((0, 114, 178)))
    assert label is not None
    written = painter.write(picture, [label], 30, kept=mask)
    assert (written[mask] == picture[mask]).all()
    assert (written != picture).any()


def labelled(boxes: list[tuple[int, int, int, int]], letters: int) -> list[tuple[int, int]]:
    """Centres (row, column) of the labels of some boxes on a picture of 240x420, best scores first."""
    painter, picture = Painter(240, 420), np.full((240, 420, 3), 90, np.uint8)
    colours = [(200, 10 * place, 0) for place in range(len(boxes))]
    labels, kept = [], np.zeros((240, 420), bool)
    for (left, top, right, bottom), colour in zip(boxes, colours, strict=True):
        mask = np.zeros((240, 420), bool)
        mask[top:bottom, left:right] = True
        kept |= mask
        label = painter.paint(picture, mask, 0, "a×", Look(colour))
        assert label is not None
        labels.append(label)
    bare = np.full_like(picture, 90)
    written = painter.write(bare, labels, letters, kept=kept)
    assert (written == painter.write(bare, labels, letters, kept=kept)).all()
    found = [np.argwhere((written == colour).all(-1)) for colour in colours]
    return [(round(each[:, 0].mean()), round(each[:, 1].mean())) for each in found]


def test_tags_stand_near_their_own_track() -> None:
    """Left of the second track is the first one's tag, right of it the picture ends, below is the first."""
    (row, column), near = labelled([(230, 64, 340, 200), (335, 3, 415, 63)], 50)
    assert (row, column) == (pytest.approx(39, abs=9), pytest.approx(284, abs=9))
    assert 63 < near[0] < 110
    assert near[1] > 370


def test_tags_stand_by_a_tracks_pixels_not_by_the_box_of_specks() -> None:
    painter, mask = Painter(240, 420), np.zeros((240, 420), bool)
    mask[150:200, 40:90] = True
    mask[20:22, 400:402] = True
    picture = np.full((240, 420, 3), 90, np.uint8)
    label = painter.paint(picture.copy(), mask, 0, "1", Look((200, 0, 0)))
    assert label is not None
    rows, columns = np.nonzero((painter.write(picture, [label], 30, kept=mask) != picture).any(-1))
    assert (rows.max(), columns.min() + columns.max()) == (
        pytest.approx(149, abs=4),
        pytest.approx(129, abs=8),
    )


@settings(deadline=None, max_examples=25)
@given(
    places=st.lists(st.tuples(st.integers(0, 380), st.integers(0, 200)), min_size=2, max_size=12, unique=True)
)
def test_tags_never_stand_on_each_other_where_there_is_room(places: list[tuple[int, int]]) -> None:
    from harness.overlay import _meet, _side_place

    kept = np.zeros((240, 420), bool)
    for left, top in places:
        kept[top : top + 40, left : left + 40] = True
    hidden = np.pad(kept.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    taken: list[tuple[int, int, int, int]] = []
    for left, top in places:
        label = Label("1", (left, top, left + 40, top + 40), (0, 0, 0))
        found = _side_place(label, (0, 0, 30, 30), hidden, taken)
        assert not any(_meet(found, other) for other in taken)
        assert min(found) >= 0
        assert (found[2] <= 420, found[3] <= 240) == (True, True)
        taken.append(found)


def test_a_single_hatched_pixel_has_a_tag() -> None:
    painter = Painter(240, 420)
    for row in range(4):
        mask, picture = np.zeros((240, 420), bool), np.full((240, 420, 3), 90, np.uint8)
        mask[row, 5] = True
        label = painter.paint(picture, mask, 0, "1", Look((200, 0, 0), hatched=True))
        assert label is not None
        assert (painter.write(picture, [label], 30, kept=mask) != picture).any()
