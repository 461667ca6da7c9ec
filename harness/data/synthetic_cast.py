"""Who is in a video of the embedded data set, where each instance goes, and when it shows what it is.

Shapes:
    n instances, L frames.

Coordinates are (x, y) in pixels, y down, pixel centres at +0.5. Times are frames; paths begin a frame before
the first and end a frame after the last, for the sake of exposures.
"""

from __future__ import annotations

import colorsys
import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.config import SyntheticConfig

Floats = NDArray[np.floating[Any]]

CATEGORY_NAMES = (
    "disc",
    "square",
    "triangle",
    "star",
    "ring",
    "cross",
    "ellipse",
    "crescent",
    "hexagon",
    "heart",
)


@dataclass(frozen=True)
class Instance:
    """What is drawn; paths hold one row for each of the times -1, 0, ..., L."""

    category: int
    primary: tuple[float, float, float]
    secondary: tuple[float, float, float]
    phase: float
    radius: Floats
    angle: Floats
    path: Floats
    disguised: NDArray[np.bool_]
    """(L,) frames in which it is a plain grey disc"""


def cast(config: SyntheticConfig, rng: np.random.Generator, count: int) -> list[Instance]:
    """The ``count`` instances of a video, farthest first."""
    instances: list[Instance] = []
    for _ in range(count):
        instance = _instance(config, rng, instances)
        if instances and rng.random() < config.look_alike:
            model = instances[int(rng.integers(len(instances)))]
            instance = replace(
                instance, category=model.category, primary=model.primary, secondary=model.secondary
            )
        instances.append(instance)
    ordered = [instances[i] for i in rng.permutation(len(instances))]
    # Drawn last, so that a setting without disguises has the random numbers it always had.
    return [replace(each, disguised=frames_at(config.disguise, config.length, rng)) for each in ordered]


def _instance(config: SyntheticConfig, rng: np.random.Generator, others: list[Instance]) -> Instance:
    category = int(rng.integers(config.categories))
    primary, secondary = _colours(category, rng)
    times = np.arange(-1, config.length + 1)
    swing = 0.12 * np.sin(2 * math.pi * (times / rng.uniform(15, 40) + rng.random()))
    largest = rng.uniform(config.min_size, config.max_size) / 2
    radius = largest * (1 + swing) / 1.12
    angle = rng.uniform(0, 2 * math.pi) + rng.uniform(-0.06, 0.06) * times
    path = _path(config, rng, largest, others)
    if rng.random() < config.absence:
        path = _leave(config, rng, path, largest)
    undisguised = np.zeros(config.length, np.bool_)
    return Instance(category, primary, secondary, float(rng.random()), radius, angle, path, undisguised)


def _colours(category: int, rng: np.random.Generator) -> tuple[tuple[float, float, float], ...]:
    """The category's two colours in 0..255, with jitter: its own hue and one a third of the circle away."""
    hue = category / len(CATEGORY_NAMES) + rng.uniform(-0.025, 0.025)
    primary = colorsys.hsv_to_rgb(hue % 1, rng.uniform(0.75, 1.0), rng.uniform(0.75, 1.0))
    secondary = colorsys.hsv_to_rgb((hue + 0.33) % 1, rng.uniform(0.3, 0.7), rng.uniform(0.25, 1.0))
    return tuple((255 * r, 255 * g, 255 * b) for r, g, b in (primary, secondary))


def _path(config: SyntheticConfig, rng: np.random.Generator, radius: float, others: list[Instance]) -> Floats:
    """Centres (L+2, 2) of a walk that turns smoothly and is pushed back softly at the frame's borders.

    The walk grows both ways from an anchor: where it meets another instance, or where it starts.
    """
    low = np.full(2, 0.8 * radius)
    high = np.array([config.width, config.height]) - low
    steps = config.length + 2
    if others and rng.random() < config.overlap:
        other = others[int(rng.integers(len(others)))].path
        anchor = int(rng.integers(steps // 3, max(steps // 3 + 1, 2 * steps // 3)))
        start = np.clip(other[anchor] + rng.uniform(-0.3, 0.3, 2) * radius, low, high)
        course = other[min(anchor + 1, steps - 1)] - other[anchor - 1]
        heading = math.atan2(course[1], course[0]) + rng.uniform(0.35, 0.65) * rng.choice((-2, 2)) * math.pi
    else:
        anchor = 0
        candidates = rng.uniform(low, high, (6, 2))
        gaps = [min((np.hypot(*(c - o.path[0])) for o in others), default=0.0) for c in candidates]
        start = candidates[int(np.argmax(gaps))]
        heading = rng.uniform(0, 2 * math.pi)
    pace = config.speed * rng.uniform(0.4, 1.0)
    path = np.empty((steps, 2))
    path[anchor:] = _walk(rng, start, heading, pace, low, high, steps - anchor)
    path[: anchor + 1] = _walk(rng, start, heading + math.pi, pace, low, high, anchor + 1)[::-1]
    return path


def _walk(
    rng: np.random.Generator,
    start: Floats,
    heading: float,
    pace: float,
    low: Floats,
    high: Floats,
    steps: int,
) -> Floats:
    """Positions (steps, 2) from ``start`` on, at most ``pace`` pixels apart."""
    turns = 0.06 * np.cumsum(rng.normal(size=steps)) * 0.5 + rng.normal() * 0.04
    position = start.astype(float)
    positions = [position]
    for turn in turns[1:]:
        heading += turn
        push = 0.35 * (np.clip(position, low, high) - position)
        velocity = pace * np.array([math.cos(heading), math.sin(heading)]) + push
        ahead = position + 4 * velocity
        # Turn away before the border is reached, a little each frame, so that a bounce is a curve.
        velocity += 0.35 * (np.clip(ahead, low, high) - ahead)
        norm = float(np.hypot(*velocity))
        if norm > 0:
            heading = math.atan2(velocity[1], velocity[0])
            velocity *= min(1.0, pace / norm)
        position = position + velocity
        positions.append(position)
    return np.array(positions)


def _leave(config: SyntheticConfig, rng: np.random.Generator, path: Floats, radius: float) -> Floats:
    """``path`` with an excursion out of the frame: wholly outside for some frames, then back.

    Leaving takes about a sixth of the video, whatever ``speed`` is: at the instance's own pace it
    would never be gone. Videos of fewer than five frames have no room for it and stay as they are.
    """
    L = config.length
    if L < 5:
        return path
    away = int(rng.integers(1, max(2, L // 4) + 1))
    ramp = max(1, L // 6)
    first = int(rng.integers(ramp, L - away - ramp + 1))
    times = np.arange(-1, L + 1)
    distance = np.maximum(first - times, times - (first + away - 1))
    share = np.clip(1 - distance / (ramp + 1), 0, 1)
    share = share * share * (3 - 2 * share)
    middle = path[first + away // 2 + 1]
    size = np.array([config.width, config.height])
    axis = int(np.argmin(np.minimum(middle, size - middle)))
    near = middle[axis] < size[axis] - middle[axis]
    outside = -(radius + 3) if near else size[axis] + radius + 3
    moved = path.copy()
    moved[:, axis] += share * (outside - path[:, axis])
    return moved


def frames_at(share: float, length: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """(L,) that share of the frames, at random, but never all; a share of 0 draws no random number."""
    chosen = np.zeros(length, np.bool_)
    if share > 0:
        chosen[rng.permutation(length)[: min(length - 1, round(share * length))]] = True
    return chosen
