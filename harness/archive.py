"""The rows of a sweep in one small file, to be kept or sent: ``rows.parquet`` instead of a file a cell.

Beside it lie the plan and, in ``_curves/``, the losses of the trainings. Reports are made from an archive as
from the rows themselves.
"""

from __future__ import annotations

import csv
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy import float32

from harness.row_schema import KEY_COLUMNS, ROW_STATES, SCHEMA_VERSION, arrow_schema, upgraded
from harness.store import OddFile, read_rows
from model.errors import InputError
from model.whole_file import whole_file

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

ROWS = "rows.parquet"
CURVES = Path("_curves", "losses.parquet")
PLAN = "_plan.json"


def read_folder(folder: Path, odd: list[OddFile]) -> pd.DataFrame:
    """Every row of a sweep's folder, archived or one file each, as this version has them.

    Files that are no rows, damaged ones included, are passed over and told in ``odd``.
    """
    import pandas as pd

    cells = sorted(path.stem for path in folder.glob("*.parquet") if path.name != ROWS)
    parts = [read_rows(folder, cells, odd)]
    if (folder / ROWS).exists():
        parts.append(pd.DataFrame(list(_archived(folder / ROWS, odd))))
    whole = [part for part in parts if len(part)]
    return pd.concat(whole, ignore_index=True) if len(whole) > 1 else (whole or parts)[0]


def _archived(file: Path, odd: list[OddFile]) -> Iterator[dict[str, Any]]:
    """The rows of one archive, with the ``schema_version`` that they were archived in."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        rows = pq.ParquetFile(file, page_checksum_verification=True).read().to_pylist()
    except (pa.ArrowException, OSError, ValueError) as error:
        odd.append(OddFile(file, str(error).split("\n")[0]))
        return
    for number, row in enumerate(rows):
        try:
            yield _checked(row)
        except (pa.ArrowException, ValueError) as error:
            odd.append(OddFile(file, f"row {number}: {str(error).splitlines()[0]}"))


def _checked(row: dict[str, Any]) -> dict[str, Any]:
    """A row with today's columns and types; raises ValueError where it is none."""
    import pyarrow as pa

    lacking = [name for name in KEY_COLUMNS if row.get(name) is None]
    version = row.get("schema_version")
    if lacking:
        raise ValueError(f"no {lacking[0]}")
    if not isinstance(version, int) or not 1 <= version <= SCHEMA_VERSION:
        raise ValueError(f"schema_version {version}")
    if row["status"] not in ROW_STATES:
        raise ValueError(f"status {row['status']!r}")
    today = upgraded(row)
    typed = pa.Table.from_pylist([today], schema=arrow_schema(tuple(today))).to_pylist()[0]
    return {**typed, "schema_version": version}


def write_archive(rows: Path, trials: Path, target: Path) -> int:
    """Archive the rows of a sweep's folder, its plan, and the losses of its trainings; returns how many rows.

    The same rows give the same bytes.

    Args:
        rows: ``results/table3a/tiny``.
        trials: ``results/trials``.
        target: the folder to write. An older archive there is replaced whole, its plan and losses included.

    Raises:
        InputError: there are no rows, a file among them is none, the target holds other rows, or it cannot be
            written.
    """
    import pyarrow as pa

    if target.resolve() == rows.resolve():
        raise InputError(f"--to: {target}: the rows themselves lie there; name another folder")
    odd: list[OddFile] = []
    found = read_folder(rows, odd)
    if odd:
        raise InputError(str(odd[0]))
    if found.empty:
        raise InputError(f"{rows}: no rows to archive; run the sweep first, or name its --results")
    others = [path for path in target.glob("*.parquet") if path.name != ROWS]
    if others:
        raise InputError(f"--to: {target}: other rows lie there ({others[0].name}); name another folder")
    found = found.sort_values(["trial", "cell"], kind="stable").assign(schema_version=SCHEMA_VERSION)
    records = [{str(name): _plain(value) for name, value in row.items()} for row in found.to_dict("records")]
    schema = arrow_schema(tuple(str(name) for name in found.columns))
    table, curves = pa.Table.from_pylist(records, schema=schema), _curves(rows, trials, found["trial"])
    try:
        _write(table, target / ROWS)
        _write(curves, target / CURVES)
        _copy(rows / PLAN, target / PLAN)
    except OSError as error:
        raise InputError(f"--to: {target}: cannot be written ({error.strerror})") from None
    return len(records)


def _copy(source: Path, target: Path) -> None:
    """What is not there takes the place of what was."""
    if source.is_file():
        shutil.copyfile(source, target)
    else:
        target.unlink(missing_ok=True)


def _write(table: pa.Table, file: Path) -> None:
    import pyarrow.parquet as pq

    file.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(file) as draft:
        pq.write_table(table, draft, compression="zstd", compression_level=19, write_page_checksum=True)


def _plain(value: Any) -> Any:
    """NaN, pandas' word for nothing, as nothing."""
    return None if value != value else value


def _curves(rows: Path, trials: Path, keys: Iterable[str]) -> pa.Table:
    """(trial, step, loss) of the trainings whose losses are there."""
    import pyarrow as pa

    columns: dict[str, list[Any]] = {"trial": [], "step": [], "loss": []}
    for key, curve in read_curves(rows, trials, keys).items():
        for step, loss in curve:
            for name, value in zip(columns, (key, step, loss), strict=True):
                columns[name].append(value)
    types = {"trial": pa.dictionary(pa.int32(), pa.string()), "step": pa.int32(), "loss": pa.float32()}
    return pa.table({name: pa.array(values, types[name]) for name, values in columns.items()})


Curves = dict[str, list[tuple[int, float]]]
"""Trial -> (step, total loss) of each step"""


def read_curves(rows: Path, trials: Path, keys: Iterable[str]) -> Curves:
    """The losses of these trainings: the archived ones of the rows' folder, or those of the trials' folders.

    What is missing or damaged is absent.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    found: Curves = {}
    try:
        table = pq.read_table(rows / CURVES, columns=["trial", "step", "loss"])
        for trial, step, loss in zip(*(column.to_pylist() for column in table.columns), strict=True):
            found.setdefault(trial, []).append((step, loss))
    except (pa.ArrowException, OSError, ValueError, KeyError):
        found = {}
    curves = {key: found.get(key) or _losses(trials / key) for key in sorted(set(keys))}
    return {key: curve for key, curve in curves.items() if curve}


def _losses(trial_folder: Path) -> list[tuple[int, float]]:
    """(step, total loss) of a training, in the archive's precision; lines that are damaged are left out."""
    found = []
    try:
        with (trial_folder / "losses.csv").open(encoding="utf-8", newline="") as file:
            for line in csv.DictReader(file):
                try:
                    found.append((int(line["step"]), float32(float(line["total"])).item()))
                except (KeyError, TypeError, ValueError):
                    continue
    except (OSError, csv.Error, UnicodeDecodeError):
        return []
    return found
