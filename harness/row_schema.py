"""The columns of a row: their types, and how rows of older versions become rows of today's."""

from __future__ import annotations

import types
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

from harness.config import TrialConfig
from harness.metrics import ERROR_METRICS, SITUATION_METRICS
from harness.provenance import PACKAGES

if TYPE_CHECKING:
    import pyarrow as pa

SCHEMA_VERSION = 5
Row = dict[str, Any]

METRIC_COLUMNS = ("AP", "AP50", "AP75", "AR1", "AR10", "fps", "peak_memory_gb", "flops_g")
MODEL_COLUMNS = ("model_fps", "encoder_ms", "model_memory_gb")
"""Metrics of the model region alone"""
CODE_COLUMNS = ("situations_code", "errors_code")
"""Versions of the code that has worked out the metrics of situations and of errors"""
IDENTITY_COLUMNS = {
    "schema_version": "int64",
    **dict.fromkeys(("sweep", "scale", "trial", "cell", "status", "error"), "string"),
    "seed": "int64",
}
"""Behind them stand the varied keys of the sweep, whose names have a point"""
RESULT_COLUMNS = {
    **dict.fromkeys(METRIC_COLUMNS, "float64"),
    **dict.fromkeys(("config", "data_name", "data_kind", "data_description", "split"), "string"),
    **dict.fromkeys(("train_data", "valid_data", "data_checksum", "initial_weights"), "string"),
    **dict.fromkeys(("code_version", "git_commit"), "string"),
    "git_dirty": "bool",
    "git_diff_hash": "string",
    **dict.fromkeys(("device", "hardware", "cpu", "platform", "python_version", "cuda_version"), "string"),
    **dict.fromkeys((f"{name}_version" for name in PACKAGES), "string"),
    **dict.fromkeys(("cpu_count", "threads", "train_threads"), "int64"),
    **dict.fromkeys(("gpu_driver", "determinism"), "string"),
    "tf32": "bool",
    **dict.fromkeys(("results", "scored_videos", "timed_frames", "kept_tracks", "multiply_adds"), "int64"),
    "fps_passes": "float64 list",
    "peak_memory_kind": "string",
    **dict.fromkeys((*MODEL_COLUMNS, "memory_budget_gb", "train_memory_budget_gb"), "float64"),
    **dict.fromkeys(("frame_tokens", "model_passes"), "int64"),
    **dict.fromkeys(("model_memory_kind", "model_timed"), "string"),
    **dict.fromkeys((*SITUATION_METRICS, *ERROR_METRICS), "float64"),
    **dict.fromkeys(CODE_COLUMNS, "string"),
    **dict.fromkeys(("host", "executor", "log_tail"), "string"),
    **dict.fromkeys(("attempt", "train_processes"), "int64"),
    "trial_peak_memory_gb": "float64",
    "trial_peak_memory_kind": "string",
    **dict.fromkeys(("train_started", "train_finished", "train_hardware"), "string"),
    **dict.fromkeys(("train_seconds", "device_hours"), "float64"),
    **dict.fromkeys(("evaluated", "counted", "finished"), "string"),
}
COLUMNS = IDENTITY_COLUMNS | RESULT_COLUMNS
"""Columns of every row, done or failed, on any machine: one schema, or the folder is no table."""
KEY_COLUMNS = ("schema_version", "cell", "status")
"""Without these a file is no row"""
ROW_STATES = ("done", "failed", "oom", "timeout")


@cache
def arrow_schema(names: tuple[str, ...]) -> pa.Schema:
    """All of :data:`COLUMNS` and what varies of ``names``; raises ValueError as :func:`arrow_type` does."""
    import pyarrow as pa  # late: a dry run of a fresh sweep reads no row

    varied = [name for name in names if name not in COLUMNS]
    return pa.schema([(name, arrow_type(name)) for name in (*IDENTITY_COLUMNS, *varied, *RESULT_COLUMNS)])


@cache
def arrow_type(name: str) -> pa.DataType:
    """The type of a column; a varied key has its type in the configuration, so that null has one too.

    Raises ValueError for a name that is neither ours nor a key of the configuration.
    """
    import pyarrow as pa

    if name not in COLUMNS:
        return _type_of(_annotation(name))
    kind, _, many = COLUMNS[name].partition(" ")
    return pa.list_(pa.type_for_alias(kind)) if many else pa.type_for_alias(kind)


def upgraded(row: Row) -> Row:
    """A row of any older version as this version has it, one step a version."""
    while row["schema_version"] < SCHEMA_VERSION:
        row = UPGRADES[row["schema_version"]](row)
    return row


def _from_version_1(row: Row) -> Row:
    """Nothing was counted yet, and every training started from random weights."""
    new = dict.fromkeys(("flops_g", "multiply_adds", "counted"))
    return {**row, **new, "initial_weights": "random", "schema_version": 2}


def _from_version_2(row: Row) -> Row:
    """Attempts, hosts and costs were not recorded."""
    texts = ("git_diff_hash", "gpu_driver", "determinism", "host", "executor", "log_tail")
    numbers = ("attempt", "train_processes", "trial_peak_memory_gb", "trial_peak_memory_kind", "device_hours")
    return {**row, **dict.fromkeys((*texts, *numbers)), "schema_version": 3}


def _from_version_3(row: Row) -> Row:
    """No run had a memory budget, and the model region was not timed alone."""
    new = (*MODEL_COLUMNS, "memory_budget_gb", "train_memory_budget_gb", "frame_tokens", "model_passes")
    return {**row, **dict.fromkeys((*new, "model_memory_kind", "model_timed")), "schema_version": 4}


def _from_version_4(row: Row) -> Row:
    """Results were not scored by situation, nor their errors told apart."""
    new = (*SITUATION_METRICS, *ERROR_METRICS, *CODE_COLUMNS)
    return {**row, **dict.fromkeys(new), "schema_version": 5}


UPGRADES: dict[int, Callable[[Row], Row]] = {
    1: _from_version_1,
    2: _from_version_2,
    3: _from_version_3,
    4: _from_version_4,
}


def _annotation(key: str) -> Any:
    """What the configuration declares at a dotted key."""
    found: Any = TrialConfig
    for part in key.split("."):
        if not (isinstance(found, type) and issubclass(found, BaseModel) and part in found.model_fields):
            raise ValueError(f"unknown column {key!r}")
        found = found.model_fields[part].annotation
    if isinstance(found, type) and issubclass(found, BaseModel):
        raise ValueError(f"column {key!r} is a section")
    return found


def _type_of(annotation: Any) -> pa.DataType:
    import pyarrow as pa

    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type_of(inner[0])
    if origin in (Union, types.UnionType):
        [alone] = [part for part in inner if part is not type(None)]
        return _type_of(alone)
    if origin is tuple:
        return pa.list_(_type_of(inner[0]))
    if origin is Literal:
        return _type_of(type(inner[0]))
    return {bool: pa.bool_(), int: pa.int64(), float: pa.float64(), str: pa.string()}[annotation]
