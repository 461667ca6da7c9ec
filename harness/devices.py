"""Which device a command runs on."""

from __future__ import annotations

import re

import torch

from model.errors import InputError


def check_device(text: str) -> torch.device:
    """``auto`` is a GPU if torch can use one; raises :class:`InputError` for a device that is not there."""
    if re.fullmatch(r"auto|cpu|cuda(:\d+)?", text) is None:
        raise InputError(f"--device: {text!r}: allowed: auto, cpu, cuda, cuda:<number>")
    devices = torch.cuda.device_count()
    device = torch.device(("cuda" if devices else "cpu") if text == "auto" else text)
    if device.type == "cuda" and (device.index or 0) >= devices:
        raise InputError(f"--device: {text!r}: this machine has {devices} CUDA devices that torch can use")
    return device
