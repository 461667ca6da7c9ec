"""A mark for videos with lost frames: what perfect masks score that are empty where nothing is seen.

``python -m benchmarks.single_frames [SHARE]`` prints it for the videos that ``sweeps/withheld.yaml``
scores.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from harness.config import SyntheticConfig
from harness.data.synthetic import write_dataset
from harness.evaluation import evaluate
from harness.grid import Grid
from harness.sweep_file import load_scale, load_sweep

SWEEP = Path(__file__).resolve().parent.parent / "sweeps" / "withheld.yaml"


def masks_of_seen_frames(truth: dict[str, Any]) -> list[dict[str, Any]]:
    """Results that are the annotations, but empty in the lost frames of each video."""
    lost = {video["id"]: frozenset(video.get("lost", ())) for video in truth["videos"]}
    return [
        {
            "video_id": track["video_id"],
            "category_id": track["category_id"],
            "score": 1.0,
            "segmentations": [
                None if frame in lost[track["video_id"]] else mask
                for frame, mask in enumerate(track["segmentations"])
            ],
        }
        for track in truth["annotations"]
    ]


def main(shares: list[float]) -> None:
    """Print AP, AP50 and AP75 in percent for each share of lost frames."""
    videos = Grid(load_sweep(SWEEP), load_scale("tiny")).points()[0].config.data.synthetic
    for share in shares:
        config = SyntheticConfig.model_validate({**videos.model_dump(), "lost": share, "train_videos": 1})
        with tempfile.TemporaryDirectory() as folder:
            write_dataset(config, Path(folder) / "videos")
            truth = json.loads((Path(folder) / "videos" / "valid.json").read_text("utf-8"))
        found = evaluate(truth, masks_of_seen_frames(truth))
        told = ", ".join(f"{name} {100 * found[name]:.1f}" for name in ("AP", "AP50", "AP75"))
        print(f"{share:.0%} of frames lost, perfect masks in all others: {told}")


if __name__ == "__main__":
    main([float(share) for share in sys.argv[1:]] or [0.0, 0.2, 0.4, 0.6])
