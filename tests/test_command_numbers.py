"""``8``, ``8,`` and ``0,4,9`` of a command line; how often a command says how far it is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.commands import progress
from harness.commands.numbers import how_many_or_which, which
from harness.commands.progress import Progress
from model.errors import InputError


@given(st.lists(st.integers(0, 10**9 - 1), min_size=1, max_size=9), st.sampled_from([",", ", ", " ,"]))
def test_each_number_once_in_the_order_given(numbers: list[int], comma: str) -> None:
    text = comma.join(map(str, numbers))
    assert which("--tokens", text) == tuple(dict.fromkeys(numbers))
    if len(numbers) > 1:
        assert how_many_or_which("--frames", text) == which("--frames", text)


def test_a_comma_makes_one_number_a_choice() -> None:
    assert how_many_or_which("--frames", "8") == 8
    assert how_many_or_which("--frames", "8,") == (8,)
    assert how_many_or_which("--frames", "0,") == (0,)


@pytest.mark.parametrize(
    "text", ["", " ", ",", "0", "-1", "1.5", "a", "3;4", "3,,4", "3,-4", "٣", "1e3", "9" * 10]
)
def test_other_words_are_one_line(text: str) -> None:
    with pytest.raises(InputError, match=r"^--frames: [^\n]*allowed: [^\n]*$"):
        how_many_or_which("--frames", text)


def test_progress_is_said_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 100.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    said = Progress("final")
    for done in range(1, 13):
        now += 1
        said(done, 12 if done > 6 else None)
    assert said.done == 12
    assert capsys.readouterr().err.splitlines() == ["5 frames final", "10 frames of 12 final"]
