"""What a run shows: bars on a terminal, lines elsewhere, the same facts in both."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from harness.engine.progress import Bars, Lines, Numbers, WorkLeft, show

EVENTS: list[tuple[str, dict[str, Any]]] = [
    ("ifc seed 0", {"event": "start"}),
    ("ifc seed 0", {"event": "stage", "name": "train"}),
    ("ifc seed 0", {"event": "step", "done": 1, "steps": 2, "loss": 3.25}),
    ("ifc seed 0", {"event": "step", "done": 2, "steps": 2, "loss": 2.5}),
    ("ifc seed 0", {"event": "stage", "name": "evaluate T=5"}),
    ("ifc seed 0", {"event": "video", "done": 1, "of": 2}),
    ("ifc seed 0", {"event": "cell", "cell": "c0", "column": "AP", "number": 41.25}),
    ("ifc seed 0", {"event": "end", "state": "done", "error": None}),
    ("[x] seed 1", {"event": "start"}),
    ("[x] seed 1", {"event": "cell", "cell": "c1", "column": "AP", "number": 12.0}),
    ("[x] seed 1", {"event": "pass", "done": 1}),
    ("[x] seed 1", {"event": "end", "state": "oom", "error": "no [bold]memory"}),
]


def shown(terminal: bool, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr("harness.engine.progress.LINE_EVERY_S", 0.0)
    file = io.StringIO()
    console = Console(file=file, force_terminal=terminal, width=200, color_system=None)
    with show(console, WorkLeft(steps=4, cells=2, workers=1)) as progress:
        assert isinstance(progress, Bars if terminal else Lines)
        for done, (label, event) in enumerate(EVENTS):
            progress.event(label, event)
            progress.cells(done // 6, 2)
    return file.getvalue()


@pytest.mark.parametrize("terminal", [True, False])
def test_what_ends_badly_is_said_and_markup_is_text(terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(terminal, monkeypatch)
    assert "[x] seed 1: OOM: no [bold]memory" in text
    assert not terminal or "1/2 cells" in text


def test_lines_tell_where_a_trial_is(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = shown(False, monkeypatch).splitlines()
    assert lines[0] == "ifc seed 0: train"
    assert lines[1].startswith("ifc seed 0: step 1/2 loss 3.250")
    assert lines[4].startswith("ifc seed 0: video 1/2")


def test_bars_tell_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "AP last 12.0 ([x] seed 1), best 41.2 (ifc seed 0)" in shown(True, monkeypatch)


def test_the_best_is_of_what_is_measured_now() -> None:
    numbers = Numbers()
    assert numbers.text() == ""
    for column, number in (("AP", 30.0), ("AP", 20.0), ("AP", None)):
        numbers.event("a", {"event": "cell", "column": column, "number": number})
    assert numbers.text() == "AP last 20.0 (a), best 30.0 (a)"
    numbers.event("b", {"event": "cell", "column": "fps", "number": 5.0})
    assert numbers.text() == "FPS last 5.0 (b), best 5.0 (b)"
