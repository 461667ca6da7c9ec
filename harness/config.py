"""The closed, typed configuration of a trial. Defaults are the paper's recipe; scales and sweeps change them.

Light on purpose: a dry run reads configurations without importing torch.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from model.config import ModelConfig


class Closed(BaseModel):
    """Immutable; unknown keys, other types ("5" is no 5) and infinities are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class SyntheticConfig(Closed):
    """Knobs of the embedded data set (``harness/data/synthetic.py``); lengths in pixels or frames."""

    seed: int = Field(0, ge=0)
    train_videos: int = Field(200, ge=1)
    valid_videos: int = Field(30, ge=1)
    length: int = Field(20, ge=1)
    """L, frames of each video."""
    height: int = Field(96, ge=16)
    width: int = Field(128, ge=16)
    categories: int = Field(8, ge=1, le=10)
    """How many of the generator's categories are used."""
    max_instances: int = Field(3, ge=1)
    """Each video has 1..max_instances tracks."""
    min_size: int = Field(26, ge=8)
    max_size: int = Field(52, ge=8)
    """Diameter of an instance, drawn from [min_size, max_size]."""
    speed: float = Field(2.0, ge=0)
    """Largest speed of an instance, pixels a frame; one that leaves the picture is faster while it does."""
    drift: float = Field(0.5, ge=0)
    """Largest speed of the background (a panning camera), pixels a frame."""
    texture: float = Field(0.5, ge=0, le=1)
    """Contrast of the textured background; 0 is a flat colour."""
    overlap: float = Field(0.3, ge=0, le=1)
    """Probability that an instance is sent across another one's path (the nearer one occludes)."""
    absence: float = Field(0.1, ge=0, le=1)
    """Probability that an instance leaves the picture for some frames and comes back (if L >= 5)."""
    look_alike: float = Field(0.1, ge=0, le=1)
    """Probability that an instance copies category and colours of another one in the video."""
    blur: float = Field(0.1, ge=0, le=1)
    """Probability that a video is motion-blurred (exposure of a whole frame time)."""
    lost: float = Field(0.0, ge=0, lt=1)
    """Share of a video's frames that are lost: a grey picture in which nothing can be seen. The tracks are
    annotated as if the frames were there."""
    disguise: float = Field(0.0, ge=0, lt=1)
    """Share of its frames in which an instance is a plain grey disc: only other frames tell its category."""

    @model_validator(mode="after")
    def _sizes_fit(self) -> SyntheticConfig:
        if self.min_size > self.max_size:
            raise ValueError(f"min_size {self.min_size} must not be above max_size {self.max_size}")
        if self.max_size > min(self.height, self.width):
            raise ValueError(f"max_size {self.max_size} must fit the {self.height}x{self.width} frame")
        return self


class DataConfig(Closed):
    """Which videos. The folder itself (``--data``) is no part of a trial's identity; its checksum is."""

    kind: Literal["synthetic", "folder"] = "folder"
    benchmark: Literal["ytvis19", "ytvis21", "ovis", "coco"] = "ytvis19"
    """The published data set that the folder is, or is laid out like (``harness/data/benchmarks.py``)."""
    train: str | None = None
    """Split to train on, such as ``train``; null is the benchmark's own."""
    valid: str | None = None
    """Split to score, such as ``valid`` or ``ytvis19-holdout-v1``; null is the benchmark's own if that
    has annotations, otherwise the hold-out of training."""
    synthetic: SyntheticConfig = SyntheticConfig()


class TrainConfig(Closed):
    """Training recipe (paper Sec. 4.1; published configuration for the step counts)."""

    initial: Literal["random", "backbone", "model"] = "random"
    """What a training starts from: nothing, a backbone, or a whole (pre-trained) model of ``--weights``."""
    steps: int = Field(6000, ge=0)
    """0 leaves the model untrained."""
    clips_per_batch: int = Field(16, ge=1)
    frames_per_clip: int = Field(5, ge=1)
    frame_range: int = Field(20, ge=0)
    """The other frames of a clip lie within ± this many frames of the reference frame."""
    short_sides: tuple[Annotated[int, Field(ge=16)], ...] = Field((360, 480), min_length=1, strict=False)
    """One is drawn for each clip; the frame keeps its aspect ratio."""
    max_long_side: int | None = Field(1333, ge=16)
    """A longer side above this shrinks the frame further, as in the published configs; null is no bound."""
    flip: float = Field(0.5, ge=0, le=1)
    crop: float = Field(0.0, ge=0, le=1)
    """Probability that a clip is cropped before it is resized: 1 in the published COCO config."""
    crop_short_sides: tuple[Annotated[int, Field(ge=16)], ...] = Field((), strict=False)
    """A clip to be cropped is first resized to one of these, if there are any: 400, 500, 600 in DETR, which
    crops half of its images; none in the published COCO config."""
    crop_range: Annotated[
        tuple[Annotated[int, Field(ge=16)], Annotated[int, Field(ge=16)]], Field(strict=False)
    ] = (384, 600)
    """Height and width of the crop are each drawn from this range, at most the frame's."""
    learning_rate: float = Field(1e-4, gt=0)
    backbone_learning_rate: float = Field(1e-5, ge=0)
    frozen_stages: int = Field(2, ge=0, le=5)
    """First stages of a ResNet (stem, res2, ...) that keep their ``initial`` weights, as in the published
    code; without such weights all are trained."""
    weight_decay: float = Field(1e-4, ge=0)
    clip_norm: float = Field(0.01, gt=0)
    """Largest norm of the whole model's gradient."""
    schedule: Literal["step", "one_cycle"] = "step"
    milestones: tuple[Annotated[int, Field(ge=0)], ...] = Field((4000,), strict=False)
    """Steps at which ``schedule: step`` multiplies the learning rate by 0.1."""
    no_object_weight: float = Field(0.1, gt=0)
    dice_weight: float = Field(3.0, ge=0)
    mask_weight: float = Field(3.0, ge=0)
    """Weight of the sigmoid focal loss."""
    matching: Literal["mask", "box"] = "mask"
    """Which query learns which instance is decided by masks, or by boxes as in VisTR (Table 2c)."""
    box_weight: float = Field(5.0, ge=0)
    """Weight of the boxes' L1 loss; read with ``matching: box`` alone, as ``giou_weight`` is."""
    giou_weight: float = Field(2.0, ge=0)
    """Weight of the boxes' generalised IoU loss."""
    checkpoint_every: int = Field(500, ge=1)
    threads: int | None = Field(None, ge=1)
    """CPU threads of one training. Fixed by the CPU scales so that results do not depend on core counts."""

    @model_validator(mode="after")
    def _crop_is_a_range(self) -> TrainConfig:
        if self.crop_range[0] > self.crop_range[1]:
            raise ValueError(f"crop_range {list(self.crop_range)} must rise")
        return self


class InferenceConfig(Closed):
    """A whole video in, tracks out (paper Sec. 3.3)."""

    window: int = Field(5, ge=1)
    """T, frames of a clip."""
    stride: int = Field(1, ge=1)
    """S, frames between the starts of neighbouring windows."""
    short_side: int = Field(360, ge=16)
    max_long_side: int | None = Field(1333, ge=16)
    """Frames whose longer side would pass this are made smaller."""
    match_threshold: float = Field(0.05, ge=0, le=1)
    """Pairs with a soft IoU at or below this are not linked."""
    score_threshold: float = Field(0.01, ge=0, le=1)
    """Classes with a higher probability give a result each."""

    @model_validator(mode="after")
    def _windows_cover(self) -> InferenceConfig:
        if self.stride > self.window:
            raise ValueError(
                f"stride {self.stride} must not be above window {self.window}: frames would be skipped"
            )
        return self

    def arguments(self) -> dict[str, Any]:
        """What ``model.inference.segment_video`` takes by these names; resizing comes before it."""
        return self.model_dump(exclude={"short_side", "max_long_side"})

    def resizing(self) -> dict[str, Any]:
        """What ``harness.data.clips.resize_frames`` takes by these names."""
        return self.model_dump(include={"short_side", "max_long_side"})


class SpeedConfig(Closed):
    """How FPS is timed (``docs/fps.md``)."""

    videos: int | None = Field(None, ge=1)
    """Time on the first so many videos of the valid split; null takes all."""
    passes: int = Field(5, ge=1)
    """Timed passes over those videos, at least, after one warm-up pass; FPS is the median over passes."""
    min_seconds: float = Field(10.0, ge=0)
    """More passes follow until so much time is timed: short passes alone are noise."""


class FlopsConfig(Closed):
    """What ``measure: [flops]`` counts: the encoder on a clip of ``inference.window`` frames of this size."""

    resolution: str = Field("360x640", pattern=r"^[1-9]\d*x[1-9]\d*$")
    """HxW of a frame in pixels"""

    @property
    def size(self) -> tuple[int, int]:
        """(H, W)"""
        height, width = self.resolution.split("x")
        return int(height), int(width)


class ClipConfig(FlopsConfig):
    """What ``measure: [model]`` times: a clip of ``inference.window`` frames of this size."""


class TrialConfig(Closed):
    """One cell of a table: everything that can change its number, but for seed, code and data bytes."""

    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    train: TrainConfig = TrainConfig()
    inference: InferenceConfig = InferenceConfig()
    speed: SpeedConfig = SpeedConfig()
    flops: FlopsConfig = FlopsConfig()
    clip: ClipConfig = ClipConfig()

    @model_validator(mode="before")
    @classmethod
    def _box_matching_brings_boxes(cls, said: Any) -> Any:
        """``train.matching: box`` implies ``model.box_head: true`` where the latter is not said."""
        if not isinstance(said, dict) or _part(said.get("train"), "matching") != "box":
            return said
        model = said.get("model", {})
        if isinstance(model, ModelConfig) and "box_head" not in model.model_fields_set:
            return {**said, "model": model.model_copy(update={"box_head": True})}
        if isinstance(model, dict):
            return {**said, "model": {"box_head": True, **model}}
        return said

    @model_validator(mode="after")
    def _box_matching_has_boxes(self) -> TrialConfig:
        if self.train.matching == "box" and not self.model.box_head:
            raise ValueError(
                "model.box_head: False: must be true, or left out, where train.matching is 'box'"
            )
        return self


def _part(section: Any, key: str) -> Any:
    """What a section, a dict or made already, holds at ``key``."""
    return section.get(key) if isinstance(section, dict) else getattr(section, key, None)
