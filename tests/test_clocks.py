"""What the machine did while something was timed."""

from __future__ import annotations

import multiprocessing
import time

import pytest
import torch

from harness.clocks import Load, gpu_clocks, parsed, throttled


def test_a_driver_s_line_is_read() -> None:
    assert parsed("1980, 312.45, 41, 0x0000000000000000\n") == {
        "sm_mhz": 1980.0,
        "power_w": 312.45,
        "temperature_c": 41.0,
        "throttle_reasons": 0,
    }


def test_what_the_driver_does_not_tell_is_none() -> None:
    told = parsed("[N/A], 30.1, [Unknown Error], [N/A]")
    assert told == {"sm_mhz": None, "power_w": 30.1, "temperature_c": None, "throttle_reasons": None}
    assert parsed("No devices were found") is None
    assert parsed("") is None


@pytest.mark.parametrize(
    ("reasons", "expected"), [(0, False), (1, False), (0x4, True), (0x5, True), (0x40, True), (None, False)]
)
def test_an_idle_clock_is_not_a_throttled_one(reasons: int | None, expected: bool) -> None:
    assert throttled({"throttle_reasons": reasons}) is expected
    assert not throttled(None)


def test_without_a_gpu_there_are_no_clocks() -> None:
    assert gpu_clocks(torch.device("cpu")) is None


def _spin(seconds: float) -> None:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def test_others_are_told_from_this_process() -> None:
    """Another process that spins is seen; ourselves spinning adds nothing that is not there already."""
    load = Load()
    other = multiprocessing.get_context("fork").Process(target=_spin, args=(1.0,))
    other.start()
    time.sleep(0.9)
    share = load.of_others()
    other.join()
    if share is None:
        pytest.skip("this system does not tell")
    assert 0.5 / multiprocessing.cpu_count() < share <= 1.0
