"""What a cell of a table may show: the names of all metrics, as sweep files, rows and reports spell them."""

from __future__ import annotations

from typing import Literal, get_args

Metric = Literal[
    "AP",
    "AP50",
    "AP75",
    "AR1",
    "AR10",
    "fps",
    "peak_memory_gb",
    "flops_g",
    "model_fps",
    "encoder_ms",
    "model_memory_gb",
    "AP_speed_low",
    "AP_speed_mid",
    "AP_speed_high",
    "AP_overlap_low",
    "AP_overlap_mid",
    "AP_overlap_high",
    "AP_look_alikes_low",
    "AP_look_alikes_mid",
    "AP_look_alikes_high",
    "AP_blur_low",
    "AP_blur_mid",
    "AP_blur_high",
    "AP_absence_low",
    "AP_absence_mid",
    "AP_absence_high",
    "AP_size_change_low",
    "AP_size_change_mid",
    "AP_size_change_high",
    "dAP_classification",
    "dAP_localisation",
    "dAP_both",
    "dAP_duplicate",
    "dAP_identity_switch",
    "dAP_background",
    "dAP_missed",
]
METRICS: tuple[str, ...] = get_args(Metric)

LEVELS = ("low", "mid", "high")
"""Thirds of the annotated tracks by how much of a situation they have"""
SITUATION_METRICS = tuple(name for name in METRICS if name.startswith("AP_"))
"""``AP_<situation>_<level>``: AP of the tracks of that third alone"""
SITUATIONS = tuple(dict.fromkeys(name[3:].rpartition("_")[0] for name in SITUATION_METRICS))
ERROR_METRICS = tuple(name for name in METRICS if name.startswith("dAP_"))
"""``dAP_<kind>``: how much AP50 rises where errors of that kind alone are mended"""
ERROR_KINDS = tuple(name.removeprefix("dAP_") for name in ERROR_METRICS)
SITUATION_NAMES = {
    "speed": "speed",
    "overlap": "overlap",
    "look_alikes": "look-alikes",
    "blur": "blur",
    "absence": "absence",
    "size_change": "size change",
}
"""As people read them, in every table and figure; files that programs read have the keys"""
ERROR_NAMES = {
    "classification": "class",
    "localisation": "location",
    "both": "class and location",
    "duplicate": "duplicate",
    "identity_switch": "identity switch",
    "background": "background",
    "missed": "missed",
}
"""The same of the kinds"""
