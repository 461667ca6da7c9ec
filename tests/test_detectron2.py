"""The optional plug-in for detectron2. All but the first two tests are skipped where detectron2 is not."""

from __future__ import annotations

import ast
import importlib
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harness.config import DataConfig, SyntheticConfig, TrainConfig
from model import InputError

ROOT = Path(__file__).resolve().parent.parent
VIDEOS = SyntheticConfig(
    train_videos=12, valid_videos=2, length=6, height=32, width=48, min_size=10, max_size=18, categories=3
)
MODEL = {
    "backbone": "tiny",
    "num_classes": 3,
    "num_queries": 5,
    "hidden_dim": 32,
    "ffn_dim": 64,
    "attention_heads": 4,
    "encoder_layers": 1,
    "decoder_layers": 2,
    "dropout": 0.0,
}
RECIPE = {"frames_per_clip": 3, "frame_range": 4, "short_sides": (32, 24), "clip_norm": 1.0}
INFERENCE = {"short_side": 32, "window": 3, "score_threshold": 0.0}


def test_without_detectron2_one_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("detectron2", "detectron2.config"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "harness.detectron2", raising=False)
    with pytest.raises(InputError, match="detectron2 cannot be imported") as caught:
        importlib.import_module("harness.detectron2")
    assert "\n" not in str(caught.value)


def test_no_other_file_imports_detectron2_or_the_plug_in() -> None:
    for path in [ROOT / "run_sweep.py", *(ROOT / "model").rglob("*.py"), *(ROOT / "harness").rglob("*.py")]:
        named: set[str] = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                named |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                named |= {f"{node.module}.{alias.name}" for alias in node.names}
        found = {name for name in named if name.startswith(("detectron2", "harness.detectron2"))}
        assert path.name == "detectron2.py" or not found, path


@pytest.fixture(scope="module")
def plugin() -> Any:
    try:
        return importlib.import_module("harness.detectron2")
    except InputError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def names(plugin: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    data = DataConfig(kind="synthetic", synthetic=VIDEOS)
    registered: tuple[str, str] = plugin.register_data(data, cache=tmp_path_factory.mktemp("cache"))
    return registered


def config(plugin: Any, names: tuple[str, str], out: Path) -> Any:
    from detectron2.config import get_cfg

    cfg = get_cfg()
    plugin.add_config(cfg)
    cfg.IFC_ABLATIONS.model.update(MODEL)
    cfg.IFC_ABLATIONS.train.update({**RECIPE, "backbone_learning_rate": 1e-3})
    cfg.IFC_ABLATIONS.inference.update(INFERENCE)
    cfg.MODEL.DEVICE, cfg.OUTPUT_DIR = "cpu", str(out)
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = (names[0],), (names[1],)
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.MAX_ITER, cfg.SOLVER.STEPS = 4, 30, (25,)
    cfg.SOLVER.BASE_LR = 1e-3
    cfg.SEED = 1
    return cfg


def test_its_config_has_the_papers_recipe(plugin: Any) -> None:
    from detectron2.config import get_cfg

    cfg = get_cfg()
    plugin.add_config(cfg)
    unused = {key: getattr(TrainConfig(), key) for key in plugin.UNUSED_KEYS}
    assert plugin.recipe_of(cfg) == TrainConfig()
    assert (unused["steps"], unused["milestones"]) == (cfg.SOLVER.MAX_ITER, cfg.SOLVER.STEPS)
    cfg.IFC_ABLATIONS.train["frames"] = 3
    with pytest.raises(ValueError, match="frames"):
        plugin.recipe_of(cfg)


def test_both_splits_are_in_the_catalogs(plugin: Any, names: tuple[str, str]) -> None:
    from detectron2.data import DatasetCatalog, MetadataCatalog

    assert [name.split("_")[-1] for name in names] == ["train", "valid"]
    for name, count in zip(names, (12, 2), strict=True):
        found = DatasetCatalog.get(name)
        assert len(found) == count
        assert (found[0]["height"], found[0]["width"], found[0]["length"]) == (32, 48, 6)
        assert all(Path(file).is_file() for file in found[0]["file_names"])
        assert len(MetadataCatalog.get(name).thing_classes) == 3
    folder = MetadataCatalog.get(names[0]).videos.root
    again = plugin.register_data(DataConfig(kind="synthetic", synthetic=VIDEOS), cache=folder.parent)
    assert again == names


def test_a_hold_out_is_in_the_catalogs(plugin: Any, names: tuple[str, str]) -> None:
    from detectron2.data import DatasetCatalog, MetadataCatalog

    folder = MetadataCatalog.get(names[0]).videos.root
    train, valid = plugin.register_data(DataConfig(valid="ytvis19-holdout-v1"), folder)
    assert valid.endswith("_ytvis19-holdout-v1")
    held_out = {record["video_id"] for record in DatasetCatalog.get(valid)}
    kept = {record["video_id"] for record in DatasetCatalog.get(train)}
    assert held_out
    assert not held_out & kept
    assert len(held_out | kept) == 12


def test_detectron2_trains_it(plugin: Any, names: tuple[str, str], tmp_path: Path) -> None:
    from detectron2.data import MetadataCatalog
    from detectron2.modeling import META_ARCH_REGISTRY
    from detectron2.utils.events import EventStorage

    assert META_ARCH_REGISTRY.get("IFCAblations") is plugin.IFCAblations
    cfg = config(plugin, names, tmp_path)
    torch.manual_seed(0)
    np.random.seed(0)
    trainer = plugin.Trainer(cfg)
    before = {name: value.clone() for name, value in trainer.model.named_parameters()}
    history = []
    with EventStorage() as trainer.storage:
        for trainer.iter in range(cfg.SOLVER.MAX_ITER):
            trainer.run_step()
            history.append(trainer.storage.latest()["total_loss"][0])
    assert all(math.isfinite(loss) for loss in history)
    assert np.mean(history[-5:]) < 0.8 * np.mean(history[:5]), history
    assert all(not torch.equal(before[name], value) for name, value in trainer.model.named_parameters())

    trainer.model.eval()
    video = next(iter(trainer.build_test_loader(cfg, names[1])))
    (found,) = trainer.model(video)
    labels = MetadataCatalog.get(names[1]).thing_classes
    assert found["image_size"] == (32, 48)
    assert len(found["pred_scores"]) == len(found["pred_labels"]) == len(found["pred_masks"])
    assert all(mask.shape == (6, 32, 48) and mask.dtype == torch.bool for mask in found["pred_masks"])
    assert set(found["pred_labels"]) <= set(range(len(labels)))


def test_gradients_are_clipped_over_the_whole_model(
    plugin: Any, names: tuple[str, str], tmp_path: Path
) -> None:
    cfg = config(plugin, names, tmp_path)
    cfg.IFC_ABLATIONS.train.clip_norm = 0.01
    model = plugin.IFCAblations(cfg)
    optimizer = plugin.Trainer.build_optimizer(cfg, model)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    norm = torch.stack([p.grad.norm() for p in model.parameters() if p.grad is not None]).norm()
    assert float(norm) == pytest.approx(0.01, rel=1e-3)
