"""``python -m harness convert`` as people type it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Source = Annotated[Path, typer.Argument(help="A weights file of any layout that load_weights reads.")]
Target = Annotated[Path, typer.Argument(help="Own: .safetensors; published: .pth; detectron2: .pkl or .pth.")]
TargetLayout = Annotated[
    str | None,
    typer.Option("--layout", help="own, published or detectron2; not needed for a .safetensors file."),
]
Force = Annotated[bool, typer.Option("--force", help="Replace the target if it exists.")]


def convert_weights(
    source: Source, target: Target, layout: TargetLayout = None, force: Force = False
) -> None:
    """Turn a weights file into one of another layout; the values stay the same, bit for bit.

    Read: our own files and training checkpoints, published IFC checkpoints, detectron2 backbones (its own
    and MSRA's caffe2 pickles), torchvision ResNets. The layout detectron2 holds the backbone alone.
    """
    from model.checkpoint import listed
    from model.convert import convert

    done = convert(source, target, layout, force)
    backbone = f"backbone for {done.pixels} pixels" if done.pixels else "pixels of the backbone not known"
    left = f"; {len(done.left_out)} entries left out: {listed(done.left_out)}" if done.left_out else ""
    print(f"{target}: {done.entries} entries, {backbone}{left}")
