"""Everything a row knows, for the panel of a cell; what most rows of a sweep share is kept once.

A thousand rows hold some 4 kB of configuration each, nearly all of it the same.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from harness.report.html.wording import MISSING, is_absent, key_text, lines, number, one_line, value_text
from harness.report.selection import Selection
from harness.report.table_spec import METRIC_NAMES, decimals
from harness.row_schema import METRIC_COLUMNS

Json = dict[str, Any]
Texts = dict[str, str]

LOG_CHARACTERS = 2000
"""Of a log's end; the whole log lies beside the rows."""
_OWN_PLACE = ("config", "log_tail", "error", "status", "seed", "trial", *METRIC_COLUMNS)
_OF_THE_SELECTION = (
    "row_key",
    "column_key",
    "seed_key",
    "scale_key",
    "finished_key",
    "superseded",
    "planned",
)
_NOT_LISTED = frozenset((*_OWN_PLACE, *_OF_THE_SELECTION))


def trial_data(selection: Selection, commands: Mapping[str, str], logs: Mapping[str, str]) -> Json:
    """The runs of a sweep, finished or not, and its trials.

    Returns:
        ``runs`` in a fixed order, each with the row's and the configuration's differences from ``row`` and
        ``config``, which hold what most rows have; ``differs``, the configuration's keys that are not the
        same everywhere; ``trials`` with repeat command and log; ``logs``, which the others number.
    """
    rows = [*_records(selection, "used"), *_records(selection, "failed")]
    configs, columns = _Shared(map(_config, rows)), _Shared(map(_columns, rows))
    texts = _Texts()
    runs = [
        {
            "place": [key_text(row["row_key"]), key_text(row["column_key"])],
            "seed": key_text(row["seed_key"]),
            "status": value_text(row["status"]),
            "old": bool(row.get("superseded", False)),
            "trial": value_text(row["trial"]),
            "values": _values(row),
            "error": "" if is_absent(row.get("error")) else lines(str(row["error"]), LOG_CHARACTERS),
            "log": texts.number(row.get("log_tail")),
            "config": configs.difference(index),
            "row": columns.difference(index),
        }
        for index, row in enumerate(rows)
    ]
    return {
        "config": configs.most,
        "differs": configs.varied,
        "row": columns.most,
        "runs": runs,
        "trials": _trials(rows, commands, logs, texts),
        "logs": texts.all,
    }


class _Texts:
    """Logs, each kept once however many rows of a trial repeat it."""

    def __init__(self) -> None:
        self.all: list[str] = []
        self._numbers: dict[str, int] = {}

    def number(self, log: object) -> int:
        """The place of a log's last lines in ``all``; -1 where there is none."""
        text = lines(log, LOG_CHARACTERS) if isinstance(log, str) else ""
        if not text:
            return -1
        if text not in self._numbers:
            self._numbers[text] = len(self.all)
            self.all.append(text)
        return self._numbers[text]


class _Shared:
    """Mappings of texts as what most of them have, and how each differs."""

    def __init__(self, mappings: Iterable[Texts]) -> None:
        self._all = list(mappings)
        keys = dict.fromkeys(key for each in self._all for key in each)
        counts = {key: Counter(each.get(key) for each in self._all) for key in keys}
        usual = {key: min(found, key=lambda text: (-found[text], str(text))) for key, found in counts.items()}
        self.most: Texts = {key: text for key, text in usual.items() if text is not None}
        self.varied = [key for key, found in counts.items() if len(found) > 1]

    def difference(self, index: int) -> dict[str, str | None]:
        """Keys whose value is not the usual one; None for a key that is not there."""
        own = self._all[index]
        return {key: own.get(key) for key in self.varied if own.get(key) != self.most.get(key)}


def _records(selection: Selection, which: str) -> list[Json]:
    table = getattr(selection, which)
    return [{str(key): value for key, value in row.items()} for row in table.to_dict("records")]


def _config(row: Json) -> Texts:
    """The configuration as dotted keys; what is no JSON is shown as it is."""
    text = row.get("config")
    if not isinstance(text, str):
        return {}
    try:
        loaded = json.loads(text, parse_constant=lambda _: MISSING)
    except ValueError:
        return {"config": one_line(text)}
    return dict(_flat(loaded, "")) if isinstance(loaded, dict) else {"config": one_line(text)}


def _flat(section: Json, prefix: str) -> Iterable[tuple[str, str]]:
    for key, value in section.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            yield one_line(f"{prefix}{key}"), one_line(shown)


def _columns(row: Json) -> Texts:
    """The other columns that have a value."""
    texts = {
        key: value_text(value) for key, value in row.items() if key not in _NOT_LISTED and "." not in key
    }
    return {one_line(key): text for key, text in texts.items() if text != MISSING}


def _values(row: Json) -> Texts:
    """Metrics with a digit more than the table."""
    found = {metric: row.get(metric) for metric in METRIC_NAMES}
    return {
        metric: number(float(value), decimals(metric) + 1)
        for metric, value in found.items()
        if isinstance(value, int | float) and not is_absent(float(value))
    }


def _trials(
    rows: list[Json], commands: Mapping[str, str], logs: Mapping[str, str], texts: _Texts
) -> dict[str, Json]:
    named = sorted({str(row["trial"]) for row in rows if not is_absent(row["trial"])})
    return {
        value_text(trial): {
            "command": commands.get(trial, "").strip("\n"),
            "log": texts.number(logs.get(trial)),
        }
        for trial in named
    }
