"""What a benchmark asks of its processes, and how they are told. No torch."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from harness.config import Closed
from model.config import ModelConfig

Side = Literal["ours", "published-ops"]
Region = Literal["model", "video", "e2e"]
Precision = Literal["float32", "bfloat16", "float16"]
REGIONS: tuple[Region, ...] = ("model", "video", "e2e")
WHAT: dict[Region, str] = {
    "model": "device tensors of one window to logits and masks at stride 8",
    "video": "uint8 frames on the host to full-size masks on the host, tracking included",
    "e2e": "JPEG files to a result json",
}


class BenchJob(Closed):
    """One process of a benchmark: a model, videos, and how to run the one on the others."""

    side: Side
    model: ModelConfig
    weights: Path
    data: Path
    """Folder laid out like YouTube-VIS"""
    split: str
    videos: int = Field(1, ge=1)
    short_side: int = Field(360, ge=1)
    window: int = Field(5, ge=1)
    stride: int = Field(1, ge=1)
    device: str = "auto"
    threads: int | None = Field(None, ge=1)
    precision: Precision = "float32"
    compiled: bool = False
    cuda_graphs: bool = False
    keeps_memory: bool = True
    """Freed memory stays with the process (``harness/allocator.py``), as wherever this harness segments"""

    @property
    def label(self) -> str:
        """The side and what was asked for beside it."""
        if self.side == "published-ops":
            return self.side
        extra = {
            self.precision: self.precision != "float32",
            "compiled": self.compiled,
            "CUDA graphs": self.cuda_graphs,
        }
        return " + ".join([self.side, *(name for name, asked in extra.items() if asked)])
