"""Situation tags: laws they must obey, and how well they find what the generator knows to be true."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from harness.config import SyntheticConfig
from harness.data.synthetic_cast import Instance, cast
from harness.data.synthetic_scene import Scene, _draw, _paste, _patches
from harness.evaluation import encode_mask
from harness.situations.colours import lab, look_alikes, palette, palette_distance, sampled_pixels
from harness.situations.cuts import Cut, cut_masks, dilated, eroded
from harness.situations.occlusion import hidden_shares, hull, overlap
from harness.situations.paths import absence, size_change, speed
from harness.situations.sharpness import blur, frame_blur, window_of

HEIGHT, WIDTH = 60, 80
Masks = NDArray[np.bool_]


def cuts_of(masks: Masks) -> list[Cut | None]:
    """Of a track's masks (L,H,W)."""
    return cut_masks([encode_mask(mask) for mask in masks])


def disc(y: float, x: float, radius: float, size: tuple[int, int] = (HEIGHT, WIDTH)) -> Masks:
    rows, columns = np.mgrid[: size[0], : size[1]]
    return (rows - y) ** 2 + (columns - x) ** 2 <= radius**2


@st.composite
def two_tracks(draw: st.DrawFn) -> Masks:
    """Two discs (2,L,H,W) that move, grow, hide each other and vanish; no mask is near the border."""
    length = draw(st.integers(3, 7))
    number = st.floats(0, 1)
    out = np.zeros((2, length, HEIGHT, WIDTH), bool)
    for masks in out:
        radius = 5 + 4 * draw(number)
        one, other = ((20 + 20 * draw(number), 20 + 40 * draw(number)) for _ in range(2))
        growth = 0.9 + 0.2 * draw(number)
        for t, mask in enumerate(masks):
            share = t / (length - 1)
            y, x = (a + share * (b - a) for a, b in zip(one, other, strict=True))
            mask |= disc(y, x, min(radius * growth**t, 13))
    out[1] &= ~out[0]
    gone = draw(st.lists(st.integers(1, length - 2), max_size=2))
    out[0, gone] = False
    return out


def tags(tracks: Masks) -> NDArray[np.float64]:
    """Speed, absence, size change and overlap of each track (n,4); NaN where not defined."""
    cuts = [cuts_of(masks) for masks in tracks]
    hidden = hidden_shares(cuts, min(tracks.shape[2:]))
    rows = [
        (speed(c), absence(c), size_change(c, h), overlap(h, c)) for c, h in zip(cuts, hidden, strict=True)
    ]
    return np.array(rows, float)


@settings(max_examples=25, deadline=None)
@given(two_tracks())
def test_mirrored_turned_and_reversed_videos_have_the_same_tags(tracks: Masks) -> None:
    expected = tags(tracks)
    for other in (tracks[..., ::-1], tracks[..., ::-1, :], tracks.swapaxes(-1, -2), tracks[:, ::-1]):
        np.testing.assert_allclose(tags(other), expected, rtol=1e-9, atol=0.06)
        np.testing.assert_allclose(tags(other)[:, :2], expected[:, :2], rtol=1e-9)


@settings(max_examples=25, deadline=None)
@given(two_tracks(), st.integers(-6, 6), st.integers(-6, 6))
def test_where_in_the_picture_is_irrelevant(tracks: Masks, down: int, right: int) -> None:
    np.testing.assert_allclose(tags(np.roll(tracks, (down, right), (2, 3))), tags(tracks), rtol=1e-9)


@settings(max_examples=15, deadline=None)
@given(two_tracks())
def test_a_picture_of_twice_the_size_has_the_same_tags(tracks: Masks) -> None:
    doubled = tracks.repeat(2, 2).repeat(2, 3)
    np.testing.assert_allclose(tags(doubled)[:, :2], tags(tracks)[:, :2], rtol=1e-9)
    np.testing.assert_allclose(tags(doubled)[:, 2:], tags(tracks)[:, 2:], atol=0.08)


@settings(max_examples=25, deadline=None)
@given(two_tracks())
def test_tags_stay_in_their_ranges(tracks: Masks) -> None:
    found = tags(tracks)
    seen = tracks.any((1, 2, 3))
    assert np.isnan(found[~seen]).all()
    assert (found[seen, 1] < 1).all()
    assert (found[seen, 3] <= 1).all()
    assert not (found < 0).any()


def walk(step: float, length: int = 6, gone: tuple[int, ...] = ()) -> list[Cut | None]:
    return cuts_of(np.array([disc(30, 12 + step * t, 6) & (t not in gone) for t in range(length)]))


def test_speed_is_in_own_sizes_a_frame() -> None:
    size = math.sqrt(np.count_nonzero(disc(30, 12, 6)))
    assert speed(walk(3)) == pytest.approx(3 / size)
    assert speed(walk(6)) == pytest.approx(6 / size)
    assert speed(walk(6, gone=(2, 3))) == pytest.approx(6 / size), "a gap is divided by its length"
    assert speed(walk(0)) == 0


def test_speed_of_one_or_no_visible_frame_is_not_defined() -> None:
    assert speed(walk(1, 1)) is None
    assert speed([None, None]) is None
    assert size_change(walk(1, 1)) is None
    assert absence([None]) is None
    assert absence(walk(1, 1)) == 0


def test_absence_counts_frames_between_the_first_and_the_last() -> None:
    assert absence(walk(1, 8, gone=(0, 7))) == 0
    assert absence(walk(1, 8, gone=(0, 3, 4))) == pytest.approx(2 / 7)
    assert absence(walk(1, 8, gone=(3,))) < absence(walk(1, 8, gone=(3, 4)))  # type: ignore[operator]


def test_size_change_is_in_doublings_and_not_of_what_the_border_cuts() -> None:
    def growing(factor: float) -> float | None:
        return size_change(cuts_of(np.array([disc(30, 40, 6 * factor ** (t / 10)) for t in range(11)])))

    assert growing(2) == pytest.approx(2 * 0.8, abs=0.1), "deciles: eight of the ten steps"
    assert 0 == growing(1) < growing(1.5) < growing(2) < growing(3)  # type: ignore[operator]
    leaving = np.array([disc(30, 40 + 4 * t, 10) for t in range(12)])
    assert size_change(cuts_of(leaving)) == 0


def test_size_change_counts_what_others_hide() -> None:
    cuts, shares = walk(0), np.array([0, 0, 0.5, 0.5, 0, 0])
    small = disc(30, 12, 6)
    small[:, :12] = False
    cuts[2] = cuts[3] = cuts_of(small[None])[0]
    assert size_change(cuts) == pytest.approx(1, abs=0.2)
    assert size_change(cuts, shares) == pytest.approx(0, abs=0.2)


@pytest.mark.parametrize("by", [1, 3])
def test_dilation_and_erosion_are_those_of_a_square(by: int) -> None:
    mask = np.random.default_rng(by).random((17, 23)) > 0.7
    rows, columns = np.nonzero(mask)
    for y, x in np.ndindex(mask.shape):
        near = (abs(rows - y) <= by) & (abs(columns - x) <= by)
        assert dilated(mask, by)[y, x] == near.any()
        assert eroded(mask, by)[y, x] == (near.sum() == (2 * by + 1) ** 2)


def test_the_hull_is_the_convex_one() -> None:
    rng = np.random.default_rng(2)
    mask = np.zeros((12, 15), bool)
    mask[rng.integers(0, 12, 9), rng.integers(0, 15, 9)] = True
    mask[0, 3] = mask[11, 8] = True
    points = np.argwhere(mask)
    found = hull(mask)
    for y, x in np.ndindex(mask.shape):
        angles = np.sort(np.arctan2(*(points - (y, x)).T))
        gap = np.diff(angles, append=angles[0] + 2 * math.pi).max()
        inside = mask[y, x] or gap <= math.pi + 1e-9  # no line through the pixel has all points on one side
        assert found[y, x] == inside


def test_overlap_is_of_the_one_behind_and_grows_with_what_is_hidden() -> None:
    def shares(far: int) -> list[float | None]:
        """A disc that stays, and a square that passes in front of it, so far down."""
        front, back = np.zeros((2, 9, HEIGHT, WIDTH), bool)
        for t in range(9):
            front[t, 10 : 22 + far, 6 + 7 * t : 16 + 7 * t] = True
            back[t] = disc(30, 40, 10) & ~front[t]
        cuts = [cuts_of(front), cuts_of(back)]
        return [overlap(h, c) for h, c in zip(hidden_shares(cuts, HEIGHT), cuts, strict=True)]

    found = [shares(far) for far in (-8, 0, 4, 8, 12, 20)]
    assert [front for front, _ in found] == [0] * len(found)
    back = [behind for _, behind in found]
    assert back[0] == 0
    assert back == sorted(set(back))  # type: ignore[type-var]


def test_lab_of_known_colours() -> None:
    colours = np.array([[255, 255, 255], [0, 0, 0], [255, 0, 0], [0, 0, 255]], np.uint8)
    expected = [[100, 0, 0], [0, 0, 0], [53.24, 80.09, 67.20], [32.30, 79.19, -107.86]]
    np.testing.assert_allclose(lab(colours), expected, atol=0.05)


def test_look_alikes_are_of_the_class_and_nearer_ones_count_more() -> None:
    rng = np.random.default_rng(0)

    def dyed(red: int) -> NDArray[np.float64]:
        noise = rng.integers(0, 20, (400, 3))
        return palette([np.clip(noise + np.array([red, 60, 60]), 0, 255).astype(np.uint8)])

    own, near, far = dyed(60), dyed(75), dyed(200)
    assert look_alikes([1], [own]) == [0]
    assert look_alikes([1, 2], [own, near]) == [0, 0], "another class"
    assert look_alikes([1, 1], [own, own]) == [1, 1]
    [of_near, _], [of_far, _] = look_alikes([1, 1], [own, near]), look_alikes([1, 1], [own, far])
    assert 0 < of_far < of_near < 1  # type: ignore[operator]
    assert look_alikes([1, 1, 1], [own, near, far])[0] == pytest.approx(of_near + of_far)  # type: ignore[operator]
    assert look_alikes([1, 1], [own, None]) == [0, None]
    assert palette_distance(own, far) == palette_distance(far, own)


def textured(seed: int = 0, scale: int = 1) -> NDArray[np.uint8]:
    """A picture (3,H,W) of blocks, four pixels wide times ``scale``."""
    blocks = np.random.default_rng(seed).integers(0, 255, (3, HEIGHT // 4, WIDTH // 4))
    return blocks.repeat(4 * scale, 1).repeat(4 * scale, 2).astype(np.uint8)


def blurred(pixels: NDArray[np.uint8], times: int) -> NDArray[np.uint8]:
    """Smoothed by 1 2 1 along both axes, so many times."""
    smooth = pixels.astype(float)
    for axis in (1, 2) * times:
        smooth = (np.roll(smooth, 1, axis) + 2 * smooth + np.roll(smooth, -1, axis)) / 4
    return smooth.round().astype(np.uint8)


def one_cut(mask: Masks) -> Cut:
    [cut] = cuts_of(mask[None])
    assert cut is not None
    return cut


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 99))
def test_blur_grows_with_blurring_and_not_with_contrast(seed: int) -> None:
    pixels, cut = textured(seed), one_cut(disc(30, 40, 15))
    window = window_of(HEIGHT)
    found = [frame_blur(blurred(pixels, times), cut, window) for times in range(4)]
    assert found == sorted(found)  # type: ignore[type-var]
    assert 0 <= found[0] < found[-1] <= 1  # type: ignore[operator]
    flat = (pixels // 2 + 40).astype(np.uint8)
    assert frame_blur(flat, cut, window) == pytest.approx(found[0], abs=0.02)


def test_blur_of_a_mirrored_a_turned_and_a_larger_picture() -> None:
    pixels, mask = blurred(textured(3), 1), disc(30, 37, 14)
    found = frame_blur(pixels, one_cut(mask), 3)
    assert found is not None
    assert frame_blur(pixels[:, :, ::-1], one_cut(mask[:, ::-1]), 3) == pytest.approx(found)
    turned = np.ascontiguousarray(pixels.transpose(0, 2, 1))
    assert frame_blur(turned, one_cut(np.ascontiguousarray(mask.T)), 3) == pytest.approx(found)
    assert window_of(216) == 3 * window_of(72) - 2
    large = np.stack(
        [
            np.asarray(Image.fromarray(c).resize((3 * WIDTH, 3 * HEIGHT), Image.Resampling.BICUBIC))
            for c in pixels
        ]
    )
    assert frame_blur(large, one_cut(mask.repeat(3, 0).repeat(3, 1)), 9) == pytest.approx(found, abs=0.1)


def test_motion_along_one_direction_counts() -> None:
    pixels, cut = textured(5), one_cut(disc(30, 40, 15))
    along = np.mean([np.roll(pixels, by, 2) for by in range(-2, 3)], 0).astype(np.uint8)
    sharp, smeared = (frame_blur(each, cut, 3) for each in (pixels, along))
    assert smeared > sharp + 0.2  # type: ignore[operator]


def test_blur_is_not_told_of_tiny_masks_and_even_pictures() -> None:
    pixels = textured()
    assert frame_blur(pixels, one_cut(disc(30, 40, 2)), 3) is None
    assert frame_blur(np.full_like(pixels, 7), one_cut(disc(30, 40, 9)), 3) is None
    assert blur([None, None]) is None
    assert blur([0.1, None, 0.3]) == pytest.approx(0.2)


def test_sampled_pixels_are_of_the_mask() -> None:
    pixels = np.zeros((3, HEIGHT, WIDTH), np.uint8)
    mask = disc(30, 40, 20)
    pixels[:, mask] = 200
    found = sampled_pixels(pixels, one_cut(mask))
    assert 256 < len(found) <= 512
    assert (found == 200).all()
    thin = np.zeros((HEIGHT, WIDTH), bool)
    thin[30, 5:30] = True
    assert len(sampled_pixels(pixels, one_cut(thin))) == 25


# Against the generator, which knows the truth


def scenes(count: int, **knobs: Any) -> list[tuple[SyntheticConfig, Scene, list[Instance], bool]]:
    """Videos, what is in them, and whether they are blurred, drawn as ``render_scene`` does."""
    config = SyntheticConfig(**knobs)
    out = []
    for index in range(count):
        rng = np.random.default_rng([7, index])
        number = int(rng.integers(1, config.max_instances + 1))
        visible = False
        while not visible:
            instances = cast(config, rng, number)
            state = rng.bit_generator.state
            scene, visible = _draw(config, instances, rng)
        again = np.random.default_rng()
        again.bit_generator.state = state
        out.append((config, scene, instances, bool(again.random() < config.blur)))
    return out


def full_areas(config: SyntheticConfig, instance: Instance) -> NDArray[np.int64]:
    """Pixels (L,) of an instance in the picture, were it alone."""
    patches = _patches(instance, np.arange(config.length))
    picture = np.zeros((config.height, config.width, 3), np.float32)
    labels = np.full((config.height, config.width), -1, np.int16)
    return np.array([_paste(patches, t, picture, labels, 0) for t in range(config.length)])


def ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of each value, the mean rank of its equals."""
    return np.array([(values < v).sum() + (values <= v).sum() for v in values]) / 2


def rank_correlation(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    return float(np.corrcoef(ranks(one), ranks(other))[0, 1])


def test_overlap_ranks_tracks_as_the_truth_does() -> None:
    """docs/situations.md has what was measured on more videos."""
    pairs = []
    for config, scene, instances, _ in scenes(30, overlap=0.8, max_instances=4, texture=0, blur=0):
        shown = scene.labels == np.arange(len(instances))[:, None, None, None]
        cuts = [cuts_of(masks) for masks in shown]
        found = hidden_shares(cuts, config.height)
        for track, instance in enumerate(instances):
            full = full_areas(config, instance)
            inside = full > 0
            truth = (1 - shown[track].sum((1, 2))[inside] / full[inside]).mean()
            pairs.append((truth, overlap(found[track], cuts[track])))
    truth, told = np.array(pairs, float).T
    hidden = truth > 0.01
    assert 20 < hidden.sum() < len(truth) - 20
    assert rank_correlation(truth, told) > 0.8
    assert rank_correlation(truth[hidden], told[hidden]) > 0.75
    assert np.abs(truth - told).mean() < 0.08


def test_blur_tells_motion_blurred_tracks_from_sharp_ones() -> None:
    found: dict[bool, list[float]] = {True: [], False: []}
    for config, scene, instances, is_blurred in scenes(30, blur=0.5, speed=4, overlap=0, length=6, drift=0):
        pixels = scene.frames.transpose(0, 3, 1, 2)
        for track in range(len(instances)):
            cuts = cuts_of(scene.labels == track)
            values = [
                frame_blur(p, c, window_of(config.height)) for p, c in zip(pixels, cuts, strict=True) if c
            ]
            told = blur(values)
            if told is not None:
                found[is_blurred].append(told)
    sharp, smeared = np.array(found[False]), np.array(found[True])
    assert min(len(sharp), len(smeared)) > 15
    assert (smeared[:, None] > sharp).mean() > 0.85
