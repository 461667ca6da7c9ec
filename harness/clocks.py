"""What else the machine did while something was timed: clocks, throttling, other processes."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import torch

DRIVER_SECONDS = 20
QUERY = {
    "sm_mhz": "clocks.sm",
    "power_w": "power.draw",
    "temperature_c": "temperature.gpu",
    "throttle_reasons": "clocks_throttle_reasons.active",
}
IDLE_REASONS = 0x1
"""The bit of the driver's reasons that only says that nothing runs"""


def gpu_clocks(device: torch.device) -> dict[str, Any] | None:
    """Clock, power, temperature and reasons for throttling as the driver tells them; None without a GPU."""
    if device.type != "cuda":
        return None
    index = str(torch.cuda.current_device() if device.index is None else device.index)
    command = ["nvidia-smi", f"--id={index}", f"--query-gpu={','.join(QUERY.values())}"]
    try:
        done = subprocess.run(
            [*command, "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            timeout=DRIVER_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return parsed(done.stdout) if done.returncode == 0 else None


def parsed(line: str) -> dict[str, Any] | None:
    """The driver's answer; what it does not tell is None."""
    values = [value.strip() for value in line.strip().split(",")]
    if len(values) != len(QUERY):
        return None
    told: dict[str, Any] = {}
    for name, value in zip(QUERY, values, strict=True):
        try:
            told[name] = int(value, 16) if name == "throttle_reasons" else float(value)
        except ValueError:
            told[name] = None
    return told


def throttled(clocks: dict[str, Any] | None) -> bool:
    """Whether the driver says that it holds the clock down."""
    reasons = (clocks or {}).get("throttle_reasons")
    return bool(reasons and reasons & ~IDLE_REASONS)


class Load:
    """The share of all cores that other processes take, from when this was made; Linux only."""

    def __init__(self) -> None:
        self._begun = _jiffies()

    def of_others(self) -> float | None:
        """0..1 of all cores; None where the system does not tell."""
        now = _jiffies()
        if self._begun is None or now is None or now[0] <= self._begun[0]:
            return None
        total, busy, own = (after - before for after, before in zip(now, self._begun, strict=True))
        return max(0.0, (busy - own) / total)


def _jiffies() -> tuple[float, float, float] | None:
    """Ticks of all cores: altogether, busy, of this process."""
    try:
        fields = [
            float(x) for x in Path("/proc/stat").read_text(encoding="ascii").splitlines()[0].split()[1:]
        ]
    except OSError:
        return None
    ticks = os.sysconf("SC_CLK_TCK")
    times = os.times()
    idle = fields[3] + fields[4]
    steal_and_guests = sum(fields[8:])  # guests are counted in user time already
    total = sum(fields) - steal_and_guests
    return total, total - idle, (times.user + times.system) * ticks
