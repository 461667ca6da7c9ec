"""Pictures of the embedded data set: ten shapes that move, turn, cross and leave in front of a texture.

Shapes:
    S times at which the scene is sampled, n instances, L frames, H, W frame size, P side of a patch.

Coordinates are (x, y) in pixels, y down, pixel centres at +0.5. A video is a pure function of the
configuration and its random generator.
"""

from __future__ import annotations

import colorsys
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from harness.config import SyntheticConfig
from harness.data.synthetic_cast import Floats, Instance, cast, frames_at
from model.errors import InputError

Plane = Callable[[Floats, Floats], Floats]

EXPOSURE = (-0.4, -0.2, 0.0, 0.2, 0.4)
"""Sub-frame times of a motion-blurred frame; the middle one gives the masks."""
GREY = 128
"""Of a lost frame, and of what is disguised"""
MIN_VISIBLE = 0.25
"""Every track shows at least this share of its largest full area in some frame."""
ATTEMPTS = 50


class Scene(NamedTuple):
    """One video: frames (L,H,W,3) uint8 RGB, labels (L,H,W) int16 (-1 background), categories (n,), and which
    frames are lost (L,)."""

    frames: NDArray[np.uint8]
    labels: NDArray[np.int16]
    categories: tuple[int, ...]
    lost: NDArray[np.bool_]


class Patches(NamedTuple):
    """An instance at S times: corners (S,2) as (x, y), opacity (S,P,P) 0..1, colour (S,P,P,3) 0..255."""

    corners: NDArray[np.int64]
    opacity: Floats
    colour: Floats


def render_scene(config: SyntheticConfig, rng: np.random.Generator) -> Scene:
    """Draw one video, again and again until every track is visible (see ``MIN_VISIBLE``).

    Raises:
        InputError: the configuration leaves too little room for its instances.
    """
    # Drawn once: redrawing it too would favour videos of few instances.
    count = int(rng.integers(1, config.max_instances + 1))
    for _ in range(ATTEMPTS):
        instances = cast(config, rng, count)
        scene, visible = _draw(config, instances, rng)
        if visible:
            return scene
    raise InputError(
        f"synthetic config: max_instances {config.max_instances}: instances of up to {config.max_size} px "
        f"hide one another in a {config.height}x{config.width} frame; allowed: fewer or smaller ones"
    )


def _draw(config: SyntheticConfig, instances: list[Instance], rng: np.random.Generator) -> tuple[Scene, bool]:
    """The video, and whether every instance is visible enough somewhere."""
    L, H, W = config.length, config.height, config.width
    exposure = EXPOSURE if rng.random() < config.blur else (0.0,)
    times = (np.arange(L)[:, None] + np.array(exposure)).ravel()
    backdrop, drift = _backdrop(config, rng, times)
    drawn = [_patches(instance, times) for instance in instances]
    frames = np.empty((L, H, W, 3), np.uint8)
    labels = np.full((L, H, W), -1, np.int16)
    full = np.zeros((L, len(instances)))
    for t in range(L):
        light = np.zeros((H, W, 3), np.float32)
        for e, _ in enumerate(exposure):
            s = t * len(exposure) + e
            picture = _window(backdrop, drift[s], H, W)
            middle = e == len(exposure) // 2
            for k, patches in enumerate(drawn):
                area = _paste(patches, s, picture, labels[t] if middle else None, k)
                full[t, k] = max(full[t, k], area)
            light += picture
        frames[t] = np.clip(light / len(exposure) + 0.5, 0, 255)
    lost = frames_at(config.lost, L, rng)
    frames[lost] = GREY
    shown = np.array([(labels == k).sum((1, 2)) for k in range(len(instances))]).T
    visible = bool(np.all((shown.max(0) > 0) & (shown.max(0) >= MIN_VISIBLE * full.max(0))))
    return Scene(frames, labels, tuple(i.category for i in instances), lost), visible


def _paste(patches: Patches, s: int, picture: Floats, labels: NDArray[np.int16] | None, label: int) -> int:
    """Draw an instance over ``picture`` (H,W,3), and over ``labels`` (H,W) where given; returns its area."""
    H, W = picture.shape[:2]
    P = patches.opacity.shape[1]
    x, y = (int(c) for c in patches.corners[s])
    left, right, top, bottom = max(0, x), min(W, x + P), max(0, y), min(H, y + P)
    if left >= right or top >= bottom:
        return 0
    inside = (slice(top - y, bottom - y), slice(left - x, right - x))
    opacity = patches.opacity[s][inside]
    target = picture[top:bottom, left:right]
    target += opacity[..., None] * (patches.colour[s][inside] - target)
    if labels is None:
        return 0
    solid = opacity >= 0.5
    labels[top:bottom, left:right][solid] = label
    return int(np.count_nonzero(solid))


def _patches(instance: Instance, times: Floats) -> Patches:
    """The instance alone at all ``times`` (S,); edges are one pixel soft, by signed distance."""
    grid = np.arange(-1, len(instance.path) - 1)
    centre = np.stack([np.interp(times, grid, instance.path[:, a]) for a in (0, 1)], 1)
    radius = np.interp(times, grid, instance.radius).astype(np.float32)[:, None, None]
    angle = np.interp(times, grid, instance.angle).astype(np.float32)[:, None, None]
    P = 2 * math.ceil(float(radius.max())) + 4
    corners = np.floor(centre).astype(np.int64) - P // 2
    offset = (np.arange(P)[None] + 0.5 + (corners - centre)[:, :, None]).astype(np.float32)
    dx, dy = offset[:, 0, None, :], offset[:, 1, :, None]
    cos, sin = np.cos(angle) / radius, np.sin(angle) / radius
    x, y = cos * dx + sin * dy, cos * dy - sin * dx
    disguised = instance.disguised[np.clip(np.floor(times + 0.5).astype(int), 0, None)][:, None, None]
    distance = np.where(disguised, SHAPES[0](x, y), SHAPES[instance.category](x, y))
    opacity = np.clip(0.5 - radius * distance, 0, 1)
    # The pattern belongs to the category and is softened over about two pixels, like the edges.
    wave = PATTERNS[instance.category % len(PATTERNS)](x, y + np.float32(0.5 * instance.phase))
    mix = np.clip(0.5 + 0.15 * radius * wave, 0, 1)[..., None]
    primary, secondary = (np.array(c, np.float32) for c in (instance.primary, instance.secondary))
    shade = 1 - 0.18 * np.clip(dy / radius, -1, 1)  # lit from above, whichever way the shape turns
    own = np.where(disguised[..., None], np.float32(GREY), primary + mix * (secondary - primary))
    colour = own * shade[..., None]
    return Patches(corners, opacity.astype(np.float32), np.clip(colour, 0, 255).astype(np.float32))


def _backdrop(config: SyntheticConfig, rng: np.random.Generator, times: Floats) -> tuple[Floats, Floats]:
    """Multi-scale noise (H+margin, W+margin, 3), 0..255, and the camera's corners (S,2) at ``times``."""
    steps = np.arange(-1, config.length + 1)
    course = rng.uniform(0, 2 * math.pi) + 0.1 * np.cumsum(rng.normal(size=len(steps)))
    pace = config.drift * rng.random()
    track = np.cumsum(pace * np.stack([np.cos(course), np.sin(course)], 1), 0)
    track -= track.min(0)
    corners = np.stack([np.interp(times, steps, track[:, a]) for a in (0, 1)], 1)
    margin = np.ceil(track.max(0)).astype(int) + 2
    height, width = config.height + int(margin[1]), config.width + int(margin[0])
    base = np.array(colorsys.hsv_to_rgb(rng.random(), rng.uniform(0, 0.35), rng.uniform(0.3, 0.75)))
    noise = np.zeros((height, width, 3), np.float32)
    for cell, strength in ((48, 1.0), (16, 0.7), (6, 0.5), (2.5, 0.35)):
        shape = (math.ceil(height / cell) + 2, math.ceil(width / cell) + 2)
        grey, tint = rng.normal(size=shape), rng.normal(size=(3, *shape))
        for c in range(3):
            cells = Image.fromarray((grey + 0.45 * tint[c]).astype(np.float32))
            noise[..., c] += strength * np.asarray(cells.resize((width, height), Image.Resampling.BICUBIC))
    return (255 * base + 60 * config.texture * np.clip(noise, -2, 2)).clip(0, 255).astype(np.float32), corners


def _window(backdrop: Floats, corner: Floats, H: int, W: int) -> Floats:
    """The (H,W,3) part of the backdrop at a fractional corner (x, y), interpolated bilinearly."""
    x, y = (int(c) for c in corner)
    fx, fy = (np.float32(c - int(c)) for c in corner)
    part = backdrop[y : y + H + 1, x : x + W + 1]
    rows = part[:-1] + fy * (part[1:] - part[:-1])
    return np.asarray(rows[:, :-1] + fx * (rows[:, 1:] - rows[:, :-1]), np.float32)


# Signed distances in units of the radius, negative inside; every shape fits the unit disc


def _polygon(x: Floats, y: Floats, sides: int, apothem: float) -> Floats:
    turns = [2 * math.pi * i / sides - math.pi / 2 for i in range(sides)]
    distance: Floats = np.maximum.reduce([x * math.cos(a) - y * math.sin(a) for a in turns]) - np.float32(
        apothem
    )
    return distance


def _star(x: Floats, y: Floats) -> Floats:
    # Fold the plane onto half a ray of the star; there its outline is one line, tip to notch.
    fold = 2 * np.float32(math.pi) / 5
    angle = np.abs((np.arctan2(x, -y) + fold / 2) % fold - fold / 2)
    r = np.hypot(x, y)
    tip, notch = (1.0, 0.0), (0.48 * math.cos(math.pi / 5), 0.48 * math.sin(math.pi / 5))
    along = (notch[0] - tip[0], notch[1] - tip[1])
    norm = math.hypot(*along)
    distance: Floats = (
        (r * np.cos(angle) - tip[0]) * along[1] - (r * np.sin(angle) - tip[1]) * along[0]
    ) / norm
    return distance


def _cross(x: Floats, y: Floats) -> Floats:
    x, y = np.abs(x), np.abs(y)
    distance: Floats = np.maximum(np.maximum(x, y) - 0.93, np.minimum(x, y) - 0.32)
    return distance


def _crescent(x: Floats, y: Floats) -> Floats:
    distance: Floats = np.maximum(np.hypot(x, y) - 0.98, 0.72 - np.hypot(x - 0.48, y))
    return distance


def _heart(x: Floats, y: Floats) -> Floats:
    side = 0.53
    lobe = side / math.sqrt(2)
    x, y = np.abs(x), y - 0.12
    square = (x + np.abs(y)) / math.sqrt(2) - side
    distance: Floats = np.minimum(square, np.hypot(x - lobe, y + lobe) - side)
    return distance


SHAPES: tuple[Plane, ...] = (
    lambda x, y: np.hypot(x, y) - 0.96,
    lambda x, y: np.maximum(np.abs(x), np.abs(y)) - 0.7,
    lambda x, y: _polygon(x, y, 3, 0.5),
    _star,
    lambda x, y: np.abs(np.hypot(x, y) - 0.69) - 0.29,
    _cross,
    lambda x, y: 0.5 * (np.hypot(x, y / 0.5) - 1),
    _crescent,
    lambda x, y: _polygon(x, y, 6, 0.84),
    _heart,
)
"""By category, in the order of ``CATEGORY_NAMES``."""

PATTERNS: tuple[Plane, ...] = (
    lambda x, y: np.sin(8 * y) - 0.5,  # stripes
    lambda x, y: np.sin(9 * x) * np.sin(9 * y) - 0.35,  # spots
    lambda x, y: np.sin(12 * np.hypot(x, y)) - 0.6,  # rings
    lambda x, y: np.sign(np.sin(6 * x)) * np.sin(6 * y),  # checks
)
"""Positive where the second colour shows; category k has pattern k modulo their number."""
