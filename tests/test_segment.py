"""``python -m harness segment``: any video to json and overlays while it is read; all that can go wrong."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from harness.command_line import harness_command
from harness.config import InferenceConfig
from harness.data.clips import resize_frames
from harness.data.synthetic_cast import CATEGORY_NAMES
from harness.data.video_file import open_frames
from harness.evaluation import encode_tracks, write_results
from harness.overlay import Painter, colour_of
from harness.record_file import write_record
from harness.segment import NoMemoryError, Request, segment
from harness.stored_model import classes_of, stored_model
from model import build_model
from model.checkpoint import save_weights
from model.convert import convert
from model.errors import InputError
from model.inference import VideoStream, segment_tracks
from tests.test_inference import TINY, biased
from tests.test_video_file import pictures, write_images, write_video

ROOT = Path(__file__).resolve().parent.parent
SMALL = InferenceConfig(window=3, short_side=32)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "weights.safetensors"
    model = biased(-3.0)
    save_weights(model, path, {"config": model.config.model_dump()})
    return path


def command(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """Exit status, standard output and standard error of the command in this process."""
    with pytest.raises(SystemExit) as ended:
        harness_command(["segment", *arguments])
    printed = capsys.readouterr()
    return int(ended.value.code or 0), printed.out, printed.err


def lines_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "frames.jsonl").read_text().splitlines()]


# ------------------------------------------------------------------------------------------------ results


@pytest.mark.parametrize(
    ("length", "height", "width", "inference"),
    [
        (9, 37, 51, SMALL),
        (1, 32, 48, SMALL),
        (2, 33, 32, InferenceConfig(window=5, short_side=32)),
        (8, 40, 30, InferenceConfig(window=4, stride=3, short_side=32, score_threshold=0.2)),
    ],
)
def test_results_are_those_of_the_whole_video(
    length: int, height: int, width: int, inference: InferenceConfig, weights: Path, tmp_path: Path
) -> None:
    source = write_images(tmp_path / "images", pictures(length, height, width))
    done = segment(Request(source, weights, tmp_path / "out", inference, "cpu"))
    frames = resize_frames(torch.from_numpy(np.stack(list(open_frames(source)))), **inference.resizing())
    found = segment_tracks(
        stored_model(weights), frames, output_size=(height, width), **inference.arguments()
    )
    wanted = encode_tracks(
        1, found.scores.tolist(), (found.labels + 1).tolist(), found.masks.numpy(), found.tracks.tolist()
    )
    write_results(tmp_path / "wanted.json", wanted)
    assert (tmp_path / "out" / "results.json").read_bytes() == (tmp_path / "wanted.json").read_bytes()
    assert (done.frames, done.results, done.tracks) == (length, len(wanted), len(found.masks))
    assert len(wanted) > 0

    lines = lines_of(tmp_path / "out")
    assert [(line["frame"], line["file"]) for line in lines] == [(n, f"{n}.png") for n in range(length)]
    final = [track for line in lines for track in line["final"]]
    assert sorted(track["track"] for track in final) == [*range(len(final))]  # each once
    told = {(t["track"], r["category_id"], r["score"]) for t in final for r in t["results"]}
    tracks = found.tracks.tolist()
    assert len(told) == len(wanted) == len(tracks)
    assert {(category, score) for _, category, score in told} == {
        (entry["category_id"], entry["score"]) for entry in wanted
    }
    shown = {mask["track"] for line in lines for mask in line["masks"]}
    assert shown <= {track["track"] for track in final}
    overlays = sorted(path.name for path in (tmp_path / "out" / "overlays").iterdir())
    assert overlays == [f"{number:06d}.jpg" for number in range(length)]


def test_results_come_as_soon_as_they_are_final(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, out = write_images(tmp_path / "images", pictures(8)), tmp_path / "out"
    seen = []
    push = VideoStream.push

    def watched(self: VideoStream, frames: torch.Tensor) -> Any:
        seen.append(len(lines_of(out)))
        assert len([*(out / "overlays").iterdir()]) == seen[-1]
        return push(self, frames)

    monkeypatch.setattr(VideoStream, "push", watched)
    segment(Request(source, weights, out, SMALL, "cpu"))
    assert seen == [0, 0, 0, 0, 1, 2, 3, 4]  # window 3: frame 0 is final when frame 3 is in


def test_a_track_that_ends_is_final_before_the_video_is(weights: Path, tmp_path: Path) -> None:
    source = write_images(tmp_path / "images", pictures(12))
    settings = InferenceConfig(window=2, short_side=32, match_threshold=1.0)  # nothing is linked
    segment(Request(source, weights, tmp_path / "out", settings, "cpu"))
    ends = [line["frame"] for line in lines_of(tmp_path / "out") if line["final"]]
    assert len([frame for frame in ends if frame < 11]) > 4


def test_a_video_gives_a_video(weights: Path, tmp_path: Path) -> None:
    frames = pictures(6, 37, 51)
    source = write_video(tmp_path / "a.mkv", frames)
    done = segment(Request(source, weights, tmp_path / "out", SMALL, "cpu", overlay_score=0))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "frames.jsonl",
        "overlay.mp4",
        "results.json",
    ]
    overlay = open_frames(tmp_path / "out" / "overlay.mp4")
    assert (overlay.height, overlay.width) == (7 * 37 + 1, 7 * 51 + 1)  # larger, and even
    assert (overlay.rate, overlay.announced, done.frames) == (10, 6, 6)
    assert "file" not in lines_of(tmp_path / "out")[0]


def test_no_overlay(weights: Path, tmp_path: Path) -> None:
    source = write_images(tmp_path / "images", pictures(2))
    done = segment(Request(source, weights, tmp_path / "out", SMALL, "cpu", overlay=False))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["frames.jsonl", "results.json"]
    assert sorted(path.name for path in done.files) == ["frames.jsonl", "results.json"]


@pytest.mark.parametrize(("height", "width"), [(10_000, 24), (3, 1500), (1, 1), (16, 10_000)])
def test_extreme_sizes(height: int, width: int, weights: Path, tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (2, height, width, 3), np.uint8)
    source = write_images(tmp_path / "images", frames)
    segment(Request(source, weights, tmp_path / "out", SMALL, "cpu", overlay_score=0))
    [entry, *_] = json.loads((tmp_path / "out" / "results.json").read_text())
    sizes = [mask["size"] for mask in entry["segmentations"] if mask is not None]
    assert all(size == [height, width] for size in sizes)
    with Image.open(tmp_path / "out" / "overlays" / "000000.jpg") as picture:
        assert max(picture.size) <= max(1920, 1)


def test_masks_of_full_size_exist_one_after_the_other(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However large a frame is: a call of the resizing makes one mask."""
    import model.inference

    made: list[tuple[int, ...]] = []
    plain = torch.nn.functional.interpolate

    def watched(x: torch.Tensor, *arguments: Any, **keys: Any) -> torch.Tensor:
        out: torch.Tensor = plain(x, *arguments, **keys)
        made.append(tuple(out.shape))
        return out

    monkeypatch.setattr(model.inference, "PIXELS_AT_ONCE", 2000 * 1000)
    source = write_images(tmp_path / "images", pictures(1, 2000, 1500))
    monkeypatch.setattr(torch.nn.functional, "interpolate", watched)
    segment(Request(source, weights, tmp_path / "out", SMALL, "cpu", overlay=False))
    full = [shape for shape in made if shape[-2:] == (2000, 1500)]
    assert set(full) == {(1, 1, 2000, 1500)}


# ------------------------------------------------------------------------------------------- models, names


def test_classes_have_numbers_where_nothing_tells_their_names(weights: Path) -> None:
    assert classes_of(weights, 3, None) == ((1, 2, 3), ("class 1", "class 2", "class 3"))


def test_classes_of_embedded_videos_have_their_names(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_weights(biased(0.0), path, {"identity": "abc"})
    record = {"trial": "abc", "config": {"data": {"kind": "synthetic"}}}
    write_record(tmp_path / "trial.json", record)
    assert classes_of(path, 4, None).names == CATEGORY_NAMES[:4]
    write_record(tmp_path / "trial.json", {**record, "trial": "of another training"})
    assert classes_of(path, 4, None).names[0] == "class 1"


def test_classes_of_an_annotation_file_come_in_the_order_of_their_ids(tmp_path: Path) -> None:
    file = tmp_path / "valid.json"
    file.write_text(json.dumps({"categories": [{"id": 9, "name": "cat"}, {"id": 2, "name": "dog"}]}))
    assert classes_of(tmp_path, 2, file) == ((2, 9), ("dog", "cat"))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("{", "not a json file"),
        ("[]", "categories: missing, or not a list"),
        ('{"categories": [{"id": "1", "name": "a"}]}', "categories: missing, or not a list"),
        ('{"categories": [{"id": 1, "name": "a"}]}', "allowed: 2, as many as the weights have classes"),
        ('{"categories": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]}', "1 categories with ids of thei"),
    ],
)
def test_unusable_categories(content: str, expected: str, tmp_path: Path) -> None:
    file = tmp_path / "valid.json"
    file.write_text(content)
    with pytest.raises(InputError, match=expected):
        classes_of(tmp_path, 2, file)


def test_published_weights_need_no_configuration(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = {"backbone": "resnet50", "encoder_layers": 1, "decoder_layers": 1, "num_classes": 3}
    model = build_model({**config, "num_queries": 4}).eval()
    save_weights(model, tmp_path / "own.safetensors", {})
    convert(tmp_path / "own.safetensors", tmp_path / "published.pth", "published")
    frames = torch.from_numpy(pictures(2).transpose(0, 3, 1, 2).copy())[None]
    with torch.no_grad():
        wanted = model(frames)
        for name in ("own.safetensors", "published.pth"):
            found = stored_model(tmp_path / name)
            assert found.config == model.config
            torch.testing.assert_close(found(frames)["pred_masks"], wanted["pred_masks"])


def test_weights_that_say_nothing_of_their_model_are_refused(tmp_path: Path) -> None:
    save_file(build_model(TINY).state_dict(), tmp_path / "bare.safetensors")
    with pytest.raises(InputError, match=r"bare\.safetensors: does not say which model it is of; allowed: "):
        stored_model(tmp_path / "bare.safetensors")
    save_weights(build_model(TINY), tmp_path / "odd.safetensors", {"config": {**TINY, "new_key": 1}})
    with pytest.raises(InputError, match=r"odd\.safetensors: model config: new_key: unknown key"):
        stored_model(tmp_path / "odd.safetensors")
    backbone = {n: v for n, v in build_model(TINY).state_dict().items() if n.startswith("backbone.")}
    save_file(backbone, tmp_path / "backbone.safetensors")
    with pytest.raises(InputError, match="a backbone alone; allowed: the weights of a whole model"):
        stored_model(tmp_path / "backbone.safetensors")


# ---------------------------------------------------------------------------------------------- bad input


def test_bad_arguments_are_one_line_and_leave_nothing(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = write_images(tmp_path / "images", pictures(2)), tmp_path / "out"
    good = [str(source), "--weights", str(weights), "--out", str(out), "--device", "cpu"]
    for words, expected in {
        ("--window", "0"): "--window: 0: Input should be greater than or equal to 1",
        ("--window", "2", "--stride", "3"): "stride 3 must not be above window 2",
        ("--stride", "0"): "--stride: 0: Input should be greater",
        ("--score", "2"): "--score: 2.0: Input should be less than or equal to 1",
        ("--short-side", "3"): "--short-side: 3: Input should be greater than or equal to 16",
        ("--overlay-score", "7"): "Invalid value for '--overlay-score'",
        ("--device", "gpu"): "--device: 'gpu': allowed: auto, cpu, cuda, cuda:<number>",
        ("--device", "cuda:99"): "--device: 'cuda:99': this machine has ",
        ("--weights", "none.pth"): "none.pth: no such weights file",
        ("--out", str(weights)): "a file; allowed: a folder",
        ("--categories", "none.json"): "--categories: none.json: not a json file",
    }.items():
        status, printed, error = command([*good, *words], capsys)
        assert (status, printed) == (2, ""), error
        [line] = error.splitlines()
        assert line.startswith("error: ")
        assert expected in line
        assert not out.exists()


def test_an_older_result_is_kept_unless_forced(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = write_images(tmp_path / "images", pictures(4)), tmp_path / "out"
    words = [str(source), "--weights", str(weights), "--out", str(out), "--short-side", "32"]
    assert command(words, capsys)[0] == 0
    (out / "notes.txt").write_text("mine")
    before = (out / "results.json").read_bytes()
    status, _, error = command(words, capsys)
    assert status == 2
    assert f"--out: {out}: not empty; choose another folder, or --force" in error
    (source / "3.png").unlink()
    assert command([*words, "--force"], capsys)[0] == 0
    assert (out / "results.json").read_bytes() != before
    assert len([*(out / "overlays").iterdir()]) == 3  # the fourth was of the earlier run
    assert (out / "notes.txt").read_text() == "mine"
    status, _, error = command([str(out / "overlays"), *words[1:], "--force"], capsys)
    assert status == 2
    assert "is among what would be replaced" in error
    assert len([*(out / "overlays").iterdir()]) == 3
    content = {"categories": [{"id": place, "name": f"class {place}"} for place in range(1, 5)]}
    (out / "results.json").write_text(json.dumps(content))
    status, _, error = command([*words, "--categories", str(out / "results.json"), "--force"], capsys)
    assert (status, "results.json is among what would be replaced" in error) == (2, True), error
    assert json.loads((out / "results.json").read_text()) == content


def test_a_frame_that_cannot_be_decoded_leaves_what_was_final(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = write_images(tmp_path / "images", pictures(8)), tmp_path / "out"
    whole = (source / "6.png").read_bytes()
    (source / "6.png").write_bytes(whole[: len(whole) // 2])
    words = ["--weights", str(weights), "--out", str(out), "--short-side", "32", "--window", "3"]
    status, _, error = command([str(source), *words, "--device", "cpu"], capsys)
    assert status == 2
    [line] = error.splitlines()
    assert "6.png: cannot be decoded" in line
    assert [line["frame"] for line in lines_of(out)] == [0, 1, 2]
    assert not (out / "results.json").exists()


def test_outputs_that_are_no_numbers_name_the_weights(tmp_path: Path) -> None:
    model = biased(0.0)
    with torch.no_grad():
        model.class_head.layers[-1].bias.fill_(float("nan"))
    save_weights(model, tmp_path / "w.safetensors", {"config": model.config.model_dump()})
    source = write_images(tmp_path / "images", pictures(2))
    with pytest.raises(InputError, match=r"w\.safetensors: the model's outputs for frames 0-1 are not fin"):
        segment(Request(source, tmp_path / "w.safetensors", tmp_path / "out", SMALL, "cpu"))


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB"), MemoryError()],
    ids=["device", "host"],
)
def test_too_little_memory_says_what_to_lower(
    error: Exception,
    weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def full(self: VideoStream, frames: torch.Tensor) -> None:
        raise error

    monkeypatch.setattr(VideoStream, "push", full)
    source, out = write_images(tmp_path / "images", pictures(2)), tmp_path / "out"
    words = [str(source), "--weights", str(weights), "--out", str(out)]
    status, printed, said = command(words, capsys)
    assert (status, printed) == (1, "")
    assert said == (
        "error: --device auto: out of memory; lower --short-side (now 360) or --window (now 5), "
        "or use --device cpu\n"
    )
    with pytest.raises(NoMemoryError, match=r"--window \(now 3\)$"):
        segment(Request(source, weights, tmp_path / "cpu", SMALL, "cpu"))


# ------------------------------------------------------------------------------------------ real processes


def start(arguments: list[str], **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "harness", "segment", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )


def test_the_command_in_a_process(weights: Path, tmp_path: Path) -> None:
    source, out = write_video(tmp_path / "a.mp4", pictures(7)), tmp_path / "out"
    process = start([str(source), "--weights", str(weights), "--out", str(out), "--short-side", "32"])
    printed, error = process.communicate(timeout=120)
    assert (process.returncode, error) == (0, "")
    first, *written = printed.splitlines()
    assert first.startswith("7 frames, ")
    assert written == [f"written: {out / name}" for name in ("frames.jsonl", "results.json", "overlay.mp4")]


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda s: s.name)
def test_a_run_that_is_stopped_leaves_valid_files(
    stop: signal.Signals, weights: Path, tmp_path: Path
) -> None:
    source, out = write_video(tmp_path / "a.mp4", pictures(400, 64, 96)), tmp_path / "out"
    words = [str(source), "--weights", str(weights), "--out", str(out), "--short-side", "128"]
    process = start(words)
    frames = out / "frames.jsonl"
    deadline = time.monotonic() + 120
    while not (frames.exists() and frames.read_bytes().count(b"\n") > 5):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(stop)
    printed, error = process.communicate(timeout=60)
    *whole, _cut = frames.read_text().split("\n")
    assert [json.loads(line)["frame"] for line in whole] == [*range(len(whole))]
    assert 5 < len(whole) < 400
    assert not (out / "results.json").exists()
    if stop == signal.SIGKILL:
        assert not (out / "overlay.mp4").exists()
        return
    assert (process.returncode, printed) == (130, "")
    assert error.splitlines()[-1].startswith(f"interrupted: {out} holds the ")
    assert _cut == ""
    assert sum(1 for _ in open_frames(out / "overlay.mp4")) in (len(whole), len(whole) + 1)
    assert sorted(path.name for path in out.iterdir()) == ["frames.jsonl", "overlay.mp4"]


# ----------------------------------------------------------------------------------------------- overlays


def test_colours_of_tracks_differ_and_stay() -> None:
    colours = [colour_of(track) for track in range(60)]
    assert len(set(colours)) == 60
    near = [np.abs(np.subtract(one, other)).max() for one, other in itertools.pairwise(colours)]
    assert min(near) > 60


def test_a_mask_is_painted_where_it_is_and_its_outline_is_solid() -> None:
    painter = Painter(300, 400)
    frame = np.full((3, 300, 400), 200, np.uint8)
    mask = np.zeros((300, 400), bool)
    mask[100:160, 50:150] = True
    picture = painter.picture(frame)
    label = painter.paint(picture, mask, 4, "4 cat 0.90")
    assert label is not None
    assert label.at == (50, 100, 150, 160)
    assert (picture[~mask] == 200).all()
    assert (picture[100, 50:150] == colour_of(4)).all()
    assert (picture[110:150, 60:140] == np.array(colour_of(4)) // 2 + 100).all()


def test_labels_do_not_cover_each_other_and_stay_inside() -> None:
    painter = Painter(300, 400)
    picture = np.zeros((300, 400, 3), np.uint8)
    mask = np.zeros((300, 400), bool)
    mask[:40, 380:] = True
    labels = [painter.paint(picture, mask, track, f"{track} elephant 0.90") for track in range(5)]
    written = painter.write(picture, [label for label in labels if label is not None])
    shares = [(written == colour_of(track)).all(-1).sum() for track in range(5)]
    assert min(shares) > 0.5 * max(shares)  # each has its own plate


def test_a_mask_of_a_large_frame_is_painted_in_proportion() -> None:
    painter = Painter(1000, 4000)
    assert painter.size == (480, 1920)
    mask = np.zeros((1000, 4000), bool)
    mask[500:, 2000:] = True
    picture = painter.picture(np.zeros((3, 1000, 4000), np.uint8))
    painter.paint(picture, mask, 0, "")
    painted = picture.any(-1)
    assert painted[240:, 960:].all()
    assert painted.sum() == 240 * 960
