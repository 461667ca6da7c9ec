"""``--only``: a part of a sweep, by the names people use."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.engine.choice import choose
from harness.engine.manifest import only
from harness.engine.plan import Options, make_plan
from harness.sweep import Trial, is_evaluation_key
from model.errors import InputError

ROOT = Path(__file__).resolve().parent.parent


def trials_of(sweep: str) -> tuple[Trial, ...]:
    folder = ROOT / "no" / "such"
    return make_plan(Options(ROOT / "sweeps" / f"{sweep}.yaml", "tiny", folder, folder)).trials


TABLE3A = trials_of("table3a")


@pytest.mark.parametrize(
    ("text", "trials", "cells"),
    [
        ("encoder=ifc", 2, 8),
        ("model.encoder=ifc,seed=0", 1, 4),
        ("seed=1", 4, 16),
        ("encoder=ifc, encoder=no_comm, seed=0", 2, 8),
        ("window=5", 8, 8),
        ("encoder=ifc,window=5,window=20,seed=1", 1, 2),
    ],
)
def test_conditions(text: str, trials: int, cells: int) -> None:
    chosen = choose(TABLE3A, text)
    assert (len(chosen), sum(len(trial.cells) for trial in chosen)) == (trials, cells)
    whole = {trial.key: trial for trial in TABLE3A}
    for trial in chosen:
        assert set(trial.cells) <= set(whole[trial.key].cells), "identities stay as they are"


def test_without_it_everything() -> None:
    assert choose(TABLE3A, None) == TABLE3A


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("encodr=ifc", "--only: 'encodr': does not vary; allowed: model.encoder, inference.window, seed"),
        ("encoder=vistr", "--only: encoder=vistr: allowed: no_comm, full_thw, decomp_t_hw, ifc"),
        ("seed=9", "--only: seed=9: allowed: 0, 1"),
        ("encoder", "--only: 'encoder': allowed: key=value, several with commas between them"),
        ("", "--only: '': allowed: key=value, several with commas between them"),
        ("encoder=ifc,", "--only: '': allowed: key=value, several with commas between them"),
    ],
)
def test_what_means_nothing_is_refused(text: str, message: str) -> None:
    with pytest.raises(InputError) as error:
        choose(TABLE3A, text)
    assert str(error.value) == message


def only_of(trial: Trial) -> str:
    keys = [key for key, _ in trial.cells[0].varied]
    return only(trial, [key for key in keys if not is_evaluation_key(key)], tuple(keys))


SWEEPS = sorted(path.stem for path in (ROOT / "sweeps").glob("table*.yaml"))


@given(st.data())
def test_what_show_prints_chooses_that_trial_alone(data: st.DataObject) -> None:
    trials = ALL[data.draw(st.sampled_from(SWEEPS))]
    trial = data.draw(st.sampled_from(trials))
    assert choose(trials, only_of(trial)) == (trial,)


ALL = {name: trials_of(name) for name in SWEEPS}
