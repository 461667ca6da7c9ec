"""Estimates of memory against tallies by hand and against formulas; amounts; the command."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.activation_memory import Estimate, LiveBytes, estimate_training_step, estimate_window, traced
from harness.command_line import harness_command
from harness.config import TrainConfig
from harness.memory_budget import parse_memory, spelled
from harness.published_memory import estimate_published_window
from model.config import ModelConfig
from model.errors import InputError
from model.published.operations import published_operations

TINY = {
    "backbone": "tiny",
    "num_queries": 4,
    "num_classes": 3,
    "hidden_dim": 32,
    "attention_heads": 2,
    "ffn_dim": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
}


def config(encoder: str = "ifc") -> ModelConfig:
    return ModelConfig.model_validate({**TINY, "encoder": encoder})


@given(st.lists(st.tuples(st.integers(1, 1000), st.booleans()), max_size=20))
@settings(max_examples=30, deadline=None)
def test_live_bytes_are_those_that_somebody_holds(steps: list[tuple[int, bool]]) -> None:
    """Against a tally by hand: some tensors are kept, some dropped at once, views count once."""
    live, held, kept, peak = LiveBytes(1, 0), 0, [], 0
    with live:
        for count, keep in steps:
            made = torch.zeros(count)
            view = made.view(-1)[1:]
            peak = max(peak, held + 4 * count)
            if keep:
                held += 4 * count
                kept.append(made)
            del made, view
        assert (live.live, live.peak) == (held, peak)
        kept.clear()
        assert live.live == 0


def test_blocks_are_rounded_up() -> None:
    with LiveBytes(512, 0) as live:
        some = [torch.zeros(1), torch.zeros(129)]
        assert live.live == 512 + 1024
        del some


def test_gradients_count_what_forward_saved() -> None:
    """x -> relu -> relu keeps both outputs for the gradient; without one, only two are alive at a time."""

    def peak(grad: bool) -> int:
        with traced("cpu", 0) as live:
            x = torch.zeros(1000, requires_grad=grad)
            y = x.sin().sin().sin().sin()
            if grad:
                y.sum().backward()
            return live.peak

    # Without: x and two results. With: x, four results, then gradients beside what is still saved.
    assert peak(False) == 3 * 4000
    assert peak(True) >= 6 * 4000


def test_published_attention_writes_scores_and_ours_on_a_gpu_does_not() -> None:
    """Scores of T * N tokens are heads * (T N)^2 floats, alive before and after the softmax."""
    size, window = (192, 320), 24
    scores = 2 * 4 * 2 * (window * 12 * 20) ** 2
    theirs = estimate_published_window(config("full_thw"), size, window, video_frames=window, buffers=False)
    assert scores < theirs.activations < 3 * scores
    ours = estimate_window(config("full_thw"), size, window).activations
    assert ours < scores


@pytest.mark.parametrize("target", ["cuda", "cpu"])
def test_a_window_grows_with_frames_and_size_and_kept_queries(target: str) -> None:
    def peak(size: tuple[int, int], window: int, kept: int = 2) -> int:
        return estimate_window(config(), size, window, target, kept).peak  # type: ignore[arg-type]

    assert peak((64, 96), 4) < peak((64, 96), 12) < peak((128, 192), 12)
    assert peak((64, 96), 12, 1) < peak((64, 96), 12, 4)


def test_a_window_is_at_least_what_it_must_hold() -> None:
    found = estimate_window(config(), (64, 96), 10, kept=4)
    saved = 10 * 4 * 10 * 16 * 24 * 4  # masks of ten windows
    assert found.activations > saved
    assert found.peak == found.held + found.activations


def test_a_training_step_holds_weights_gradients_and_both_moments() -> None:
    recipe = TrainConfig(frames_per_clip=2)
    found = estimate_training_step(config(), recipe, (64, 96), 2, "cpu")
    weights = sum(p.numel() for p in published_operations(_built()).parameters()) * 4
    assert found.held >= 3 * weights
    assert found.peak >= 4 * weights
    more = estimate_training_step(config(), recipe, (64, 96), 4, "cpu")
    assert more.activations > 1.5 * found.activations


def test_dropout_on_a_cpu_writes_scores() -> None:
    """torch's CPU kernel takes no dropout: scores are explicit then; CUDA's draws its own."""
    recipe, size = TrainConfig(frames_per_clip=8), (128, 192)
    peaks = [
        estimate_training_step(
            config("full_thw").model_copy(update={"dropout": dropout}), recipe, size, 1, "cpu"
        ).peak
        for dropout in (0.1, 0.0)
    ]
    scores = 2 * (8 * 8 * 12) ** 2 * 4
    assert peaks[0] - peaks[1] > 2 * scores, "of each of two layers at least the weights are kept"


def test_nothing_is_left_behind() -> None:
    estimate_window(config(), (64, 96), 3)
    made = torch.zeros(2) + 1
    assert type(made) is torch.Tensor
    assert made.tolist() == [1, 1]


def _built() -> torch.nn.Module:
    from model import build_model

    return build_model(config())


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("16GB", 16 * 10**9),
        ("16GiB", 16 * 2**30),
        ("500MB", 5 * 10**8),
        ("1.5 GB", 15 * 10**8),
        ("8MiB", 2**23),
    ],
)
def test_amounts(text: str, amount: int) -> None:
    assert parse_memory(text) == amount
    assert parse_memory(spelled(amount)) == amount


@given(st.integers(1, 2**45))
def test_spelled_amounts_are_read_back(amount: int) -> None:
    assert parse_memory(spelled(amount)) == amount


@pytest.mark.parametrize("text", ["", "16", "GB", "0GB", "-1GB", "16 gb", "16TB", "1e3MB", "16GB,", "nan GB"])
def test_what_is_no_amount(text: str) -> None:
    with pytest.raises(InputError, match=r"^--memory-budget: .*allowed: an amount such as 16GB") as found:
        parse_memory(text)
    assert "\n" not in str(found.value)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--budget", "16GB,many"], "--budget: 'many': allowed: an amount"),
        (["--windows", "5;10"], "--windows: '5;10': allowed: numbers"),
        (["--size", "360"], "--size: '360': allowed: HxW"),
        (["--backbone", "resnet"], "backbone: 'resnet'"),
        (["--device", "tpu"], "--device: 'tpu': allowed: cuda, cpu"),
    ],
)
def test_errors_of_the_command(arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        harness_command(["memory", *arguments])
    assert ended.value.code == 2
    printed = capsys.readouterr()
    assert says in printed.err
    assert (printed.err.count("\n"), printed.out) == (1, "")


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "memory.csv"
    arguments = ["--backbone", "tiny", "--windows", "2,3", "--size", "64x96", "--budget", "10MB,32GB"]
    with pytest.raises(SystemExit) as ended:
        harness_command(["memory", *arguments, "--csv", str(file)])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert "| full_thw    | published    |" in text
    assert "(not 10MB)" in text
    assert "not measured" in text
    lines = file.read_text(encoding="utf-8").splitlines()
    assert lines[0].endswith("fits_10MB,fits_32GB")
    assert len(lines) == 1 + 4 * 2 * 2


def test_weights_laid_out_for_a_cpu_are_held_and_no_activations(monkeypatch: pytest.MonkeyPatch) -> None:
    def found(packs: bool) -> Estimate:
        monkeypatch.setattr("harness.activation_memory.can_pack", lambda: packs)
        return estimate_window(config(), (64, 96), 4, "cpu")

    plain, packed = found(False), found(True)
    assert packed.activations == plain.activations
    assert 0 < packed.held - plain.held < plain.held
