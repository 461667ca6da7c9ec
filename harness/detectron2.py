"""The model and the data sets in detectron2's registries, for those who train with its trainer.

Nothing else in this project imports this file, and nothing needs detectron2: this file alone does.

``batched_inputs`` are those of the published IFC: a list with a dict a video, ``image`` a list of T frames
(3, H0, W0) in ``cfg.INPUT.FORMAT``, and for training ``instances`` a list of T ``Instances`` with
``gt_classes``, ``gt_ids`` (-1 where absent) and ``gt_masks``; instance i is the same one in all frames.

Shapes
    B, T    clips of a batch, frames of a clip
    L       frames of a video
    n       instances of a clip, results of a video
    H0, W0  frame size
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from harness.config import DataConfig, InferenceConfig, TrainConfig
from harness.data.clips import Clip, ClipSampler, collate, resize_frames
from harness.data.source import find_data
from harness.data.splits import load_scored, load_training
from harness.data.ytvis import VideoDataset
from harness.train import build_criterion, build_optimizer, start_from
from model import ModelConfig, build_model
from model.errors import InputError
from model.inference import segment_video

try:
    from detectron2.config import CfgNode
    from detectron2.data import (
        DatasetCatalog,
        MetadataCatalog,
        build_detection_test_loader,
        build_detection_train_loader,
    )
    from detectron2.engine import DefaultTrainer
    from detectron2.modeling import META_ARCH_REGISTRY
    from detectron2.structures import BitMasks, Instances
    from detectron2.utils import comm
except (ImportError, RuntimeError) as error:  # torchvision of another torch raises the latter
    reason = " ".join(str(error).split())
    raise InputError(
        f"harness/detectron2.py: detectron2 cannot be imported ({reason}); install it from its source, or do "
        "without: run_sweep.py needs none of it"
    ) from None

SOLVER_KEYS = {"learning_rate": "BASE_LR", "weight_decay": "WEIGHT_DECAY"}
"""Keys of a training recipe that detectron2 has its own place for, below ``cfg.SOLVER``."""
UNUSED_KEYS = {"steps", "milestones", "clips_per_batch", "schedule", "checkpoint_every", "threads", "initial"}
"""Those that its trainer decides otherwise; ``initial`` by ``cfg.IFC_ABLATIONS.weights``."""


def add_config(cfg: CfgNode) -> None:
    """Give a detectron2 config this project's keys and the paper's recipe, in place.

    ``cfg.IFC_ABLATIONS`` has ``model``, ``train`` and ``inference`` with the keys of ``harness/config.py``,
    and ``weights``, a file to start from ("" for none). What detectron2 has a key for stays there.
    """
    recipe = TrainConfig()
    own = recipe.model_dump(exclude={*SOLVER_KEYS, *UNUSED_KEYS})
    cfg.IFC_ABLATIONS = CfgNode({"weights": "", "model": ModelConfig().model_dump(), "train": own})
    cfg.IFC_ABLATIONS.inference = CfgNode(InferenceConfig().model_dump())
    cfg.MODEL.META_ARCHITECTURE = "IFCAblations"
    cfg.INPUT.FORMAT = "RGB"
    cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS = False
    cfg.SOLVER.BASE_LR, cfg.SOLVER.WEIGHT_DECAY = recipe.learning_rate, recipe.weight_decay
    cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.MAX_ITER = recipe.clips_per_batch, recipe.steps
    cfg.SOLVER.STEPS, cfg.SOLVER.WARMUP_ITERS = recipe.milestones, 0


def recipe_of(cfg: CfgNode) -> TrainConfig:
    """The training recipe of a config: its own keys, and those that detectron2 has a place for."""
    solver = {key: getattr(cfg.SOLVER, name) for key, name in SOLVER_KEYS.items()}
    return TrainConfig.model_validate({**_plain(cfg.IFC_ABLATIONS.train), **solver})


def register_data(
    config: DataConfig, folder: Path | None = None, cache: Path = Path("cache")
) -> tuple[str, str]:
    """Put the training and the scored videos of ``config`` into detectron2's catalogs.

    Args:
        folder: the data folder; None asks the environment, and embedded data needs none.
        cache: where embedded data is written.

    Returns:
        The two names for ``cfg.DATASETS``: ``<data>_<split>``, such as ``ytvis19_ytvis19-holdout-v1`` and
        ``ytvis19_train-without-ytvis19-holdout-v1`` of a folder ``ytvis19``.

    Raises:
        InputError: as :func:`harness.data.source.find_data`, or names that other data has already.
    """
    source = find_data(config, folder, "SWEEP.yaml")
    root = source.root(cache)
    training, scored = load_training(root, source.config), load_scored(root, source.config)
    names = []
    for dataset in (training, scored):
        name = f"{source.name}_{dataset.split.replace(' ', '-')}"
        names.append(name)
        if name not in DatasetCatalog:
            DatasetCatalog.register(name, lambda dataset=dataset: records(dataset))
            MetadataCatalog.get(name).set(
                videos=dataset,
                thing_classes=[category.name for category in dataset.categories],
                json_file=str(dataset.annotation_file),
                evaluator_type="ytvis",
            )
        elif MetadataCatalog.get(name).json_file != str(dataset.annotation_file):
            raise InputError(f"{dataset.annotation_file}: data set {name} is registered from another folder")
    return names[0], names[1]


def records(dataset: VideoDataset) -> list[dict[str, Any]]:
    """A dict a video, as detectron2 keeps data sets; annotations are read when a clip is."""
    return [
        {
            "video_id": video.video_id,
            "file_names": [str(file) for file in video.files],
            "height": video.height,
            "width": video.width,
            "length": video.length,
        }
        for video in dataset.training_videos
    ]


class ClipMapper:
    """A record to a training clip, drawn as :class:`harness.data.clips.ClipSampler` draws it."""

    def __init__(self, dataset: VideoDataset, recipe: TrainConfig) -> None:
        self.sampler = ClipSampler(dataset, recipe, seed=0)
        self.videos = {video.video_id: video for video in dataset.training_videos}
        self.num_classes = len(dataset.categories)

    def __call__(self, record: dict[str, Any]) -> dict[str, Any]:
        rng = np.random.default_rng(np.random.randint(2**31))  # detectron2 seeds numpy in each worker
        clip = self.sampler.draw(self.videos[record["video_id"]], rng)
        return {**record, "image": list(clip.frames), "instances": self._instances(clip)}

    def _instances(self, clip: Clip) -> list[Instances]:
        frames = []
        for masks in clip.masks.unbind(1):
            present = masks.flatten(1).any(1)
            fields = {
                "gt_classes": torch.where(present, clip.labels, self.num_classes),
                "gt_ids": torch.where(present, torch.arange(len(masks)), -1),
                "gt_masks": BitMasks(masks),
            }
            frames.append(Instances((masks.shape[-2], masks.shape[-1]), **fields))
        return frames


class VideoMapper:
    """A record to all frames of its video, at the size of inference."""

    def __init__(self, dataset: VideoDataset, inference: InferenceConfig) -> None:
        self.dataset = dataset
        self.videos = {video.video_id: video for video in dataset.videos}
        self.resizing = inference.resizing()

    def __call__(self, record: dict[str, Any]) -> dict[str, Any]:
        video = self.videos[record["video_id"]]
        frames = torch.from_numpy(self.dataset.frames(video, range(video.length)))
        return {**record, "image": list(resize_frames(frames, **self.resizing))}


@META_ARCH_REGISTRY.register()  # type: ignore[untyped-decorator, unused-ignore]
class IFCAblations(nn.Module):
    """The clip model and its criterion as a META_ARCHITECTURE."""

    def __init__(self, cfg: CfgNode) -> None:
        super().__init__()
        recipe = recipe_of(cfg)
        self.model = build_model(_plain(cfg.IFC_ABLATIONS.model))
        if cfg.IFC_ABLATIONS.weights:
            start_from(self.model, Path(cfg.IFC_ABLATIONS.weights), recipe)
        self.criterion = build_criterion(self.model.config.num_classes, recipe)
        self.inference = InferenceConfig.model_validate(_plain(cfg.IFC_ABLATIONS.inference))
        self.flipped = cfg.INPUT.FORMAT == "BGR"

    def forward(self, batched_inputs: list[dict[str, Any]]) -> Any:
        """Weighted losses by name while training, otherwise a dict of results a video."""
        device = self.model.pixel_mean.device
        clips = [torch.stack(list(video["image"])) for video in batched_inputs]
        if self.flipped:
            clips = [frames.flip(1) for frames in clips]
        if not self.training:
            return [
                self.results(frames.to(device), video)
                for frames, video in zip(clips, batched_inputs, strict=True)
            ]
        batch = collate(
            [
                Clip(frames, *_targets(video["instances"]))
                for frames, video in zip(clips, batched_inputs, strict=True)
            ]
        )
        padding = None if batch.padding is None else batch.padding.to(device)
        targets = [{key: value.to(device) for key, value in target.items()} for target in batch.targets]
        counts = comm.all_gather(sum(len(target["labels"]) for target in targets))
        losses = self.criterion(
            self.model(batch.frames.to(device), padding), targets, sum(counts) / len(counts)
        )
        weights = self.criterion.weights
        return {name: weights[name.rstrip("_0123456789")] * value for name, value in losses.items()}

    def results(self, frames: Tensor, video: dict[str, Any]) -> dict[str, Any]:
        """Tracks of frames (L, 3, H0, W0), by the published names; of one image ``instances`` too."""
        size = (video.get("height", frames.shape[-2]), video.get("width", frames.shape[-1]))
        tracks = segment_video(self.model, frames, output_size=size, **self.inference.arguments())
        scores, labels, masks = tracks["scores"], tracks["labels"], tracks["masks"]
        found = {"image_size": size, "pred_scores": scores.tolist(), "pred_labels": labels.tolist()}
        found["pred_masks"] = list(masks)
        if len(frames) == 1:
            boxes = BitMasks(masks[:, 0]).get_bounding_boxes()
            fields = {"scores": scores, "pred_classes": labels, "pred_masks": masks[:, 0]}
            found["instances"] = Instances(size, pred_boxes=boxes, **fields)
        return found


class Trainer(DefaultTrainer):  # type: ignore[misc, unused-ignore]
    """detectron2's trainer with AdamW, gradient clipping over the whole model, and our clips."""

    @classmethod
    def build_optimizer(cls, cfg: CfgNode, model: IFCAblations) -> torch.optim.Optimizer:
        """AdamW as in :mod:`harness.train`; gradients are clipped just before each step."""
        recipe = recipe_of(cfg)
        optimizer = build_optimizer(model.model, recipe)

        def clip(*_: object) -> None:
            nn.utils.clip_grad_norm_(model.parameters(), recipe.clip_norm)

        optimizer.register_step_pre_hook(clip)
        return optimizer

    @classmethod
    def build_train_loader(cls, cfg: CfgNode) -> Any:
        """Batches of clips of the first training set."""
        dataset = MetadataCatalog.get(cfg.DATASETS.TRAIN[0]).videos
        return build_detection_train_loader(cfg, mapper=ClipMapper(dataset, recipe_of(cfg)))

    @classmethod
    def build_test_loader(cls, cfg: CfgNode, dataset_name: str) -> Any:
        """One video at a time."""
        inference = InferenceConfig.model_validate(_plain(cfg.IFC_ABLATIONS.inference))
        mapper = VideoMapper(MetadataCatalog.get(dataset_name).videos, inference)
        return build_detection_test_loader(cfg, dataset_name, mapper=mapper)


def _targets(instances: list[Instances]) -> tuple[Tensor, Tensor]:
    """Labels (n,) and masks (n, T, H0, W0) of the instances that some frame shows."""
    visible = torch.stack([frame.gt_ids for frame in instances], dim=1).ne(-1).any(1)
    # An absent instance has the class K in that frame, one above all others.
    labels = torch.stack([frame.gt_classes for frame in instances], dim=1).amin(1)
    masks = torch.stack([frame.gt_masks.tensor for frame in instances], dim=1).bool()
    return labels[visible], masks[visible]


def _plain(node: CfgNode) -> dict[str, Any]:
    """A node of detectron2's config as the dict that a closed config takes."""
    return dict(node)
