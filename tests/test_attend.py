"""``python -m harness attend``: numbers, strips and a film; all that can go wrong."""

from __future__ import annotations

import csv
import json
import os
import shlex
import shutil
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

from harness.attend import pictures as attention_pictures
from harness.attend import run as attend_room
from harness.attend.attention import video_attention
from harness.attend.footage import Footage, open_footage
from harness.attend.foreground import cell_edges
from harness.attend.pictures import Drawn, _Panels
from harness.attend.run import Request, attend, shown_frames
from harness.command_line import harness_command
from harness.config import InferenceConfig, SyntheticConfig
from harness.data.synthetic import write_dataset
from harness.data.video_file import open_frames
from harness.overlay import video_lacks
from model.checkpoint import save_weights
from model.errors import InputError
from model.memory_attention import memory_attention
from tests.test_inference import biased, tiny
from tests.test_video_file import pictures, write_images, write_video

ROOT = Path(__file__).resolve().parent.parent
FOOTAGE = ROOT.parent / "shared" / "data" / "ytvis_mini"
SMALL = InferenceConfig(window=4, short_side=48)
FILES = ["attention.csv", "attention.json", "attention_layer0.pdf", "attention_layer0.png"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("attend") / "DATA"
    write_dataset(
        SyntheticConfig(
            train_videos=1, valid_videos=2, length=6, height=48, width=72, min_size=16, max_size=24
        ),
        folder,
    )
    return folder


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("weights") / "weights.safetensors")


def saved(path: Path, **changed: Any) -> Path:
    model = tiny(**changed) if changed else biased(-3.0)
    save_weights(model, path, {"config": model.config.model_dump()})
    return path


def command(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        harness_command(["attend", *arguments])
    printed = capsys.readouterr()
    return int(ended.value.code or 0), printed.out, printed.err


def rows_of(folder: Path) -> list[dict[str, float]]:
    with (folder / "attention.csv").open(newline="") as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


# ------------------------------------------------------------------------------------------------- numbers


def test_a_process_from_weights_to_files(data: Path, weights: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    line = f"attend --weights {weights} --data {data} --video valid_00001 --window 4 --short-side 48"
    done = subprocess.run(
        [sys.executable, "-m", "harness", *line.split(), "--out", str(out), "--frames", "3", "--layer", "0"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "valid_00001: 6 frames, windows 0-3, 2-5" in done.stdout
    assert "2 memory tokens, 3 layers, mean of 2 heads, 3 x 5 frame tokens" in done.stdout
    assert "foreground: annotated masks" in done.stdout
    table = [row.split() for row in done.stdout.splitlines() if row.endswith("ground")]
    assert [row[0] for row in table if "most" in row] == ["0", "0", "1", "1", "2", "2"]
    film = ["attention.mp4"] if video_lacks("mp4") is None else []
    assert sorted(path.name for path in out.iterdir()) == sorted(FILES + film)
    if not film:
        assert "skipped: attention.mp4" in done.stdout

    record = json.loads((out / "attention.json").read_text())
    assert record["shown"] == [0, 2, 5]
    assert record["windows"] == [
        {"start": 0, "stop": 4, "frames": [0, 4]},
        {"start": 2, "stop": 6, "frames": [4, 6]},
    ]
    assert record["deviation"] < 1e-5
    rows = rows_of(out)
    assert len(rows) == 3 * 2 * 6
    for told in record["tokens"]:
        own = [row for row in rows if (row["layer"], row["token"]) == (told["layer"], told["token"])]
        assert [row["frame"] for row in own] == [0, 1, 2, 3, 4, 5]
        for key in ("to_frame", "on_foreground", "area"):
            assert np.mean([row[key] for row in own]) == pytest.approx(told[key])
        assert told["lift"] == pytest.approx(told["on_foreground"] / told["area"])
        assert told["to_frame"] + told["to_memory"] == pytest.approx(1)
        assert 0 < told["area"] < 1


def test_frames_are_seen_in_the_windows_that_are_told(data: Path, weights: Path) -> None:
    from harness.stored_model import stored_model

    model = stored_model(weights)
    footage = open_footage(None, data, None, "valid_00000")
    looked = video_attention(model, footage, SMALL, None, 0.3)
    frames = torch.from_numpy(np.stack(list(footage.frames)))
    first, second = (memory_attention(model, frames[a:b]).to_frame.mean(2) for a, b in ((0, 4), (2, 6)))
    wanted = torch.cat([first, second[:, 2:]], dim=1).transpose(0, 1)
    torch.testing.assert_close(torch.from_numpy(looked.attention), wanted)
    assert [(span, taken) for span, taken in looked.windows] == [
        (range(4), range(4)),
        (range(2, 6), range(4, 6)),
    ]
    heads = [video_attention(model, footage, SMALL, head, 0.3).attention for head in (0, 1)]
    np.testing.assert_allclose(np.mean(heads, 0), looked.attention, atol=1e-6)


def test_a_short_video_is_one_window(weights: Path, tmp_path: Path) -> None:
    source = write_images(tmp_path / "images", pictures(2, 40, 60))
    done = attend(Request(weights, tmp_path / "out", source, inference=SMALL, film=False, device="cpu"))
    assert "2 frames, one window 0-1" in done.told[0]
    assert done.told[2].startswith("foreground: predicted masks of the same model: ")


def test_predicted_masks_are_those_of_segment(weights: Path, tmp_path: Path) -> None:
    from harness.stored_model import stored_model
    from model.inference import segment_tracks

    source = write_images(tmp_path / "images", pictures(7, 48, 64))
    model = stored_model(weights)
    looked = video_attention(model, open_footage(source, None, None, None), SMALL, None, 0.0)
    frames = torch.from_numpy(np.stack(list(open_frames(source))))
    found = segment_tracks(model, frames, 4, 1, (48, 64), score_threshold=0.0)
    assert len(found.masks) > 0
    for index in range(7):
        own = looked.masks(index)
        union = np.logical_or.reduce([np.zeros((48, 64), np.bool_), *own.values()])
        assert (union == found.masks[:, index].any(0).numpy()).all()


def test_without_tracks_there_is_no_lift(
    tmp_path: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_images(tmp_path / "images", pictures(3, 40, 60))
    line = [str(source), "--weights", str(weights), "--short-side", "48", "--score", "1", "--no-mp4"]
    status, out, err = command([*line, "--out", str(tmp_path / "out")], capsys)
    assert (status, err) == (0, "")
    assert "0 tracks of at least 1" in out
    assert "most foreground" not in out
    record = json.loads((tmp_path / "out" / "attention.json").read_text())
    assert {each["lift"] for each in record["tokens"]} == {None}


# ------------------------------------------------------------------------------------------------ pictures


def drawn(tmp_path: Path, attention: np.ndarray, **changed: Any) -> Drawn:
    source = write_images(tmp_path / "images", pictures(attention.shape[0], 48, 64))
    frames = open_frames(source)
    edges = (cell_edges(48, 3, 48, 16), cell_edges(64, 4, 64, 16))
    mask = np.zeros((48, 64), np.bool_)
    arguments: dict[str, Any] = {
        "footage": Footage("images", frames, None),
        "masks": lambda index: {0: mask},
        "attention": attention,
        "edges": edges,
        "numbers": [],
        "layers": (0,),
        "tokens": (0,),
        "best": False,
        "about": "",
    }
    return Drawn(**{**arguments, **changed})


def test_the_brightest_cell_is_the_one_most_attended(tmp_path: Path) -> None:
    attention = np.full((1, 1, 1, 3, 4), 0.01, np.float32)
    attention[0, 0, 0, 1, 2] = 0.4
    panels = _Panels(drawn(tmp_path, attention))
    black = np.zeros((3, 48, 64), np.uint8)
    panel = panels.heat(panels.shown(black, 0), 0, 0, 0.4).astype(int).sum(-1)
    ys, xs = np.nonzero(panel == panel.max())
    # Of 48 x 64 pixels, 5 times larger: rows 8.5 to 24.5, columns 24.5 to 40.5.
    assert (ys.min(), ys.max()) == (42, 121)
    assert (xs.min(), xs.max()) == (122, 201)


def test_the_colours_read_in_grey(tmp_path: Path) -> None:
    scale = attention_pictures._scale(0.1234)
    grey = scale.colours @ np.array([0.299, 0.587, 0.114])
    smooth = np.convolve(grey, np.full(8, 1 / 8), "valid")
    assert (np.diff(smooth) > 0).all()
    assert (scale.low, scale.high) == ("0", "12.3 %")


def test_best_is_the_most_foreground_and_the_most_background_token(data: Path, tmp_path: Path) -> None:
    model = saved(tmp_path / "five.safetensors", memory_tokens=5)
    request = Request(
        model, tmp_path / "out", data=data, video="1", inference=SMALL, best=True, film=False, layer=1
    )
    done = attend(request)
    ranked = sorted((each for each in done.numbers if each.layer == 1), key=lambda each: each.on_foreground)
    nothing = np.zeros((1, 3, 5, 3, 5), np.float32)
    images = drawn(tmp_path, nothing, numbers=done.numbers, best=True)
    assert images.tokens_of(1) == [ranked[-1].token, ranked[0].token]
    with Image.open(tmp_path / "out" / "attention_layer1.png") as best:
        height = best.height
    attend(Request(model, tmp_path / "all", data=data, video="1", inference=SMALL, film=False, layer=1))
    with Image.open(tmp_path / "all" / "attention_layer1.png") as whole:
        assert whole.height > 1.5 * height


def test_a_film_has_all_frames(weights: Path, tmp_path: Path) -> None:
    source = write_video(tmp_path / "a.mkv", pictures(5, 37, 51))
    done = attend(Request(weights, tmp_path / "out", source, inference=SMALL, film=True, device="cpu"))
    assert done.files[-1].name == "attention.mp4"
    film = open_frames(done.files[-1])
    assert (film.announced, film.rate) == (5, 10)


def test_an_interrupted_film_has_no_name(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add = attention_pictures.PictureVideo.add

    def interrupted(video: attention_pictures.PictureVideo, picture: Any) -> None:
        add(video, picture)
        raise KeyboardInterrupt

    monkeypatch.setattr(attention_pictures.PictureVideo, "add", interrupted)
    source = write_video(tmp_path / "a.mkv", pictures(5, 37, 51))
    with pytest.raises(KeyboardInterrupt):
        attend(Request(weights, tmp_path / "out", source, inference=SMALL, film=True, device="cpu"))
    assert not list((tmp_path / "out").glob("*.mp4"))


def test_without_pyav_the_film_is_skipped_or_refused(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    source = write_images(tmp_path / "images", pictures(2, 40, 60))
    line = [str(source), "--weights", str(weights), "--short-side", "48", "--out", str(tmp_path / "out")]
    status, out, err = command(line, capsys)
    assert (status, err) == (0, "")
    assert "skipped: attention.mp4 (--mp4: a mp4: needs the package av" in out
    assert not (tmp_path / "out" / "attention.mp4").exists()
    status, _, err = command([*line, "--mp4", "--force"], capsys)
    assert status == 2
    assert err.startswith("error: --mp4: a mp4: needs the package av")


# ---------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "no video; allowed: a video file, a folder of images, or --data DIR --video NAME"),
        (["--data", "DATA"], "no video; allowed"),
        (["IMAGES", "--data", "DATA", "--video", "1"], "beside --data, --split or --video"),
        (["--data", "DATA", "--video", "nobody"], "--video: 'nobody': no such video; allowed: valid_00000"),
        (["--data", "DATA", "--split", "test", "--video", "1"], "no annotations of split 'test'"),
        (["IMAGES", "--frames", "0"], "--frames: 0: allowed: 1 or more"),
        (["IMAGES", "--frames", "a"], "--frames: 'a': allowed: how many, such as 8, or which"),
        (["IMAGES", "--frames", "0,3"], "--frames: 3: allowed: 0 to 2"),
        (["IMAGES", "--tokens", "2"], "--tokens: 2: allowed: 0 to 1"),
        (["IMAGES", "--tokens", "0", "--best"], "--best: beside --tokens"),
        (["IMAGES", "--layer", "3"], "--layer: 3: allowed: 0 to 2"),
        (["IMAGES", "--head", "-1"], "--head: -1: allowed: 0 to 1"),
        (["IMAGES", "--window", "0"], "--window: 0"),
        (["IMAGES", "--short-side", "8"], "--short-side: 8"),
        (["IMAGES", "--device", "tpu"], "--device: 'tpu': allowed"),
        (["IMAGES", "--out", "IMAGES"], "not empty; choose another folder"),
        (["nowhere"], "no such file or folder"),
    ],
)
def test_what_cannot_be_used_is_said_in_a_line(
    arguments: list[str],
    said: str,
    data: Path,
    weights: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    images = write_images(tmp_path / "images", pictures(3, 40, 60))
    places = {"DATA": str(data), "IMAGES": str(images)}
    line = [places.get(argument, argument) for argument in arguments]
    line += [] if "--out" in line else ["--out", str(tmp_path / "out")]
    line += [] if "--short-side" in line else ["--short-side", "48"]
    status, _, err = command(["--weights", str(weights), *line], capsys)
    assert status == 2
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert said in err
    assert not (tmp_path / "out" / "attention.json").exists()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"encoder": "no_comm"}, "encoder no_comm has no memory tokens"),
        ({"encoder": "full_thw"}, "encoder full_thw has no memory tokens"),
        ({"memory_tokens": 0}, "encoder ifc with memory_tokens 0 has no memory tokens"),
    ],
)
def test_encoders_without_memory_tokens(
    changed: dict[str, Any], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = write_images(tmp_path / "images", pictures(3, 40, 60))
    other = saved(tmp_path / "weights.safetensors", **changed)
    status, _, err = command([str(images), "--weights", str(other), "--out", str(tmp_path / "out")], capsys)
    assert status == 2
    assert said in err
    assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_only_own_files_are_replaced(weights: Path, tmp_path: Path) -> None:
    source, out = write_images(tmp_path / "images", pictures(2, 40, 60)), tmp_path / "out"
    request = Request(weights, out, source, inference=SMALL, film=False, force=True, layer=0)
    attend(request)
    (out / "notes.txt").write_text("mine")
    (out / "attention_layer7.png").write_text("left by a deeper model")
    attend(request)
    assert (out / "notes.txt").read_text() == "mine"
    assert not (out / "attention_layer7.png").exists()
    assert attend_room.STEM == "attention"


def test_earlier_files_stay_until_there_are_new_ones(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = write_images(tmp_path / "images", pictures(2, 40, 60)), tmp_path / "out"
    line = [str(source), "--weights", str(weights), "--short-side", "48", "--no-mp4", "--layer", "0"]
    assert command([*line, "--out", str(out)], capsys)[0] == 0
    before = {path: path.read_bytes() for path in out.iterdir()}
    refused = [*line, "--score", "1", "--best"]
    status, _, err = command([*refused, "--out", str(out), "--force"], capsys)
    assert (status, "no foreground" in err) == (2, True)
    assert {path: path.read_bytes() for path in out.iterdir()} == before
    assert command([*refused, "--out", str(tmp_path / "new" / "out")], capsys)[0] == 2
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("place", ["weights", "annotations", "images"])
def test_an_input_is_never_given_up(
    place: str, weights: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = write_images(tmp_path / "images", pictures(2, 40, 60))
    root = tmp_path / "data"
    shutil.copytree(data, root)
    line = {
        "weights": [str(images), "--weights", str(tmp_path / "link.safetensors"), "--out", str(tmp_path)],
        "annotations": ["--data", str(root), "--video", "1", "--split", "attention", "--out", str(root)],
        "images": [str(images), "--out", str(images)],
    }[place]
    shutil.copy(weights, tmp_path / "attention.mp4")
    (tmp_path / "link.safetensors").symlink_to(tmp_path / "attention.mp4")
    shutil.copy(root / "valid.json", root / "attention.json")
    (root / "attention").symlink_to(root / "valid")
    (images / "0.png").rename(images / "attention_layer0.png")
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    line += [] if "--weights" in line else ["--weights", str(weights)]
    status, _, err = command([*line, "--short-side", "48", "--no-mp4", "--force"], capsys)
    assert (status, "is among what would be replaced" in err) == (2, True), err
    assert all(path.exists() for path in files)


def test_sigterm_is_told_as_ctrl_c_is(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def ended(*_: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)

    monkeypatch.setattr(attend_room, "video_attention", ended)
    source = write_images(tmp_path / "images", pictures(2, 40, 60))
    status, _, err = command([str(source), "--weights", str(weights), "--out", str(tmp_path / "out")], capsys)
    assert (status, err) == (130, "interrupted: nothing was written\n")
    assert not (tmp_path / "out").exists()


def test_shown_frames() -> None:
    assert shown_frames(8, 20) == [0, 3, 5, 8, 11, 14, 16, 19]
    assert shown_frames(8, 3) == [0, 1, 2]
    assert shown_frames(1, 9) == [0]
    assert shown_frames((4, 2), 5) == [4, 2]
    with pytest.raises(InputError, match=r"--frames: 5: allowed: 0 to 4"):
        shown_frames((5,), 5)


@pytest.mark.skipif(not FOOTAGE.is_dir(), reason="the real footage ../shared/data/ytvis_mini is not here")
def test_real_footage(weights: Path, tmp_path: Path) -> None:
    request = Request(weights, tmp_path / "out", data=FOOTAGE, split="train", video="blackswan", layer=0)
    done = attend(request)
    assert "24 frames, windows 0-4, 5-9, 10-14, 15-19, 19-23" in done.told[0]
    assert all(0.02 < each.area < 0.3 for each in done.numbers)


# -------------------------------------------------------------------------------------------------- the page

PAGE = (ROOT / "docs" / "attend.md").read_text(encoding="utf-8")
COMMANDS = [
    line for block in PAGE.split("```")[1::2] for line in block.splitlines() if "-m harness attend" in line
]


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_of_the_page(
    line: str,
    data: Path,
    weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    write_images(tmp_path / "VIDEO", pictures(10, 40, 60))
    (tmp_path / "FOLDER").symlink_to(data)
    (tmp_path / "WEIGHTS.safetensors").symlink_to(weights)
    arguments = [part for part in shlex.split(line)[4:] if part not in ("bear",)]
    arguments = ["valid_00000" if part == "NAME" else part for part in arguments]
    status, out, err = command([*arguments, "--short-side", "48"], capsys)
    assert (status, err) == (0, "")
    assert "written: " in out


def test_the_page_has_commands() -> None:
    assert len(COMMANDS) >= 3
