"""Results a frame at a time: the same bytes as of whole videos, in memory and on disk."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco

from harness.config import InferenceConfig, SyntheticConfig, TrialConfig
from harness.data.clips import resize_frames
from harness.data.synthetic import write_dataset
from harness.data.ytvis import load_dataset
from harness.encoded_tracks import EncodedTracks, batches
from harness.evaluation import encode_mask, encode_tracks, evaluate, write_results
from harness.stages import Voice, evaluate_cell
from harness.track_writer import FRAMES, RESULTS, TrackWriter
from model.communication import ENCODERS
from model.inference import VideoStream, results_of, segment_tracks
from tests.test_inference import biased, tiny, video


def whole(model: Any, frames: torch.Tensor, size: tuple[int, int], settings: InferenceConfig) -> Any:
    """The results by way of boolean masks of all frames."""
    found = segment_tracks(model, frames, output_size=size, **settings.arguments())
    return encode_tracks(
        3, found.scores.tolist(), (found.labels + 1).tolist(), found.masks.numpy(), found.tracks.tolist()
    )


@pytest.mark.parametrize(
    ("length", "window", "stride"), [(9, 3, 2), (6, 3, 3), (2, 5, 1), (1, 1, 1), (12, 4, 1), (0, 5, 1)]
)
@pytest.mark.parametrize("encoder", list(ENCODERS))
def test_a_frame_at_a_time_gives_the_bytes_of_whole_videos(
    encoder: str, length: int, window: int, stride: int, tmp_path: Path
) -> None:
    model, frames, size = tiny(encoder=encoder), video(length), (61, 97)
    with torch.no_grad():
        model.class_head.layers[-1].bias[-1] = -3.0
    settings = InferenceConfig(window=window, stride=stride)
    wanted = whole(model, frames, size, settings)
    assert length == 0 or wanted

    stream = VideoStream(model, window, stride, settings.match_threshold, length)
    tracks = EncodedTracks(size)
    for frame in frames:
        tracks.add(stream.push(frame[None]))
    tracks.add(stream.finish())
    found = tracks.results(3, stream.class_probs(), settings.score_threshold, range(1, 5))
    write_results(tmp_path / "wanted.json", wanted)
    write_results(tmp_path / "found.json", found)
    assert (tmp_path / "found.json").read_bytes() == (tmp_path / "wanted.json").read_bytes()


def test_results_of_a_track_share_one_list() -> None:
    model, settings = biased(-5.0), InferenceConfig(window=3)
    stream, tracks = VideoStream(model, 3, 1), EncodedTracks((20, 30))
    tracks.add(stream.push(video(4)) + stream.finish())
    found = tracks.results(1, stream.class_probs(), settings.score_threshold, range(1, 5))
    assert len({id(entry["segmentations"]) for entry in found}) < len(found)


def test_evaluation_writes_what_whole_videos_give(tmp_path: Path) -> None:
    small = SyntheticConfig(
        train_videos=1, valid_videos=3, length=7, height=40, width=56, categories=4, min_size=10, max_size=14
    )
    write_dataset(small, tmp_path / "data")
    dataset = load_dataset(tmp_path / "data", "valid")
    settings = InferenceConfig(window=3, short_side=32)
    config = TrialConfig(inference=settings)
    model = biased(-3.0)
    voice = Voice(emit=lambda event, **fields: None, check=lambda: None)
    percent = evaluate_cell(model, dataset, config, tmp_path, torch.device("cpu"), voice)
    wanted = []
    for each in dataset.videos:
        frames = torch.from_numpy(dataset.frames(each, range(each.length)))
        frames = resize_frames(frames, **settings.resizing())
        for entry in whole(model, frames, (each.height, each.width), settings):
            category = dataset.categories[entry["category_id"] - 1].id
            wanted.append({**entry, "video_id": each.video_id, "category_id": category})
    write_results(tmp_path / "wanted.json", wanted)
    assert (tmp_path / "results.json").read_bytes() == (tmp_path / "wanted.json").read_bytes()
    assert percent["AP"] == pytest.approx(100 * evaluate(dataset.ground_truth(), wanted)["AP"])


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_one_mask_is_encoded_as_the_library_does(height: int, width: int, seed: int) -> None:
    mask = np.random.default_rng(seed).random((height, width)) < 0.3
    code = encode_mask(mask)
    assert (code is None) == (not mask.any())
    if code is not None:
        np.testing.assert_array_equal(coco.decode(code).astype(bool), mask)
        assert json.loads(json.dumps(code)) == code


@given(st.lists(st.integers(), max_size=12), st.integers(1, 5))
def test_batches_are_the_items_in_order(items: list[int], count: int) -> None:
    found = list(batches(iter(items), count))
    assert [item for batch in found for item in batch] == items
    assert all(len(batch) == count for batch in found[:-1])
    assert all(0 < len(batch) <= count for batch in found)


frame_masks = st.lists(st.dictionaries(st.integers(0, 5), st.integers(0, 2**16 - 1), max_size=4), max_size=6)
some_results = st.lists(
    st.tuples(st.integers(1, 9), st.floats(0, 1, allow_nan=False), st.integers(0, 6)), max_size=6
)


@settings(max_examples=100, deadline=None)
@given(frame_masks, some_results)
def test_a_result_file_from_lines_has_the_bytes_of_one_from_memory(
    tmp_path_factory: pytest.TempPathFactory,
    frames: list[dict[int, int]],
    results: list[tuple[int, float, int]],
) -> None:
    folder = tmp_path_factory.mktemp("lines")
    masks = np.zeros((7, len(frames), 4, 4), bool)
    writer = TrackWriter(folder)
    for number, frame in enumerate(frames):
        codes = []
        for track, bits in frame.items():
            masks[track, number] = np.array([bits >> bit & 1 for bit in range(16)]).reshape(4, 4)
            code = encode_mask(masks[track, number])
            codes += [] if code is None else [(track, code)]
        writer.add(codes, [{"track": 1, "results": []}], "ä.png" if number % 2 else None)
    count = writer.write_results(results, 5)
    writer.close()
    assert count == len(results)
    scores, categories = [score for _, score, _ in results], [category for category, _, _ in results]
    wanted = encode_tracks(5, scores, categories, masks, [track for *_, track in results])
    write_results(folder / "wanted.json", wanted)
    assert (folder / RESULTS).read_bytes() == (folder / "wanted.json").read_bytes()
    lines = [json.loads(line) for line in (folder / FRAMES).read_text().splitlines()]
    assert [line["frame"] for line in lines] == [*range(len(frames))]
    assert [line.get("file") for line in lines] == ["ä.png" if n % 2 else None for n in range(len(frames))]


def test_a_line_is_there_as_soon_as_it_is_added(tmp_path: Path) -> None:
    writer = TrackWriter(tmp_path)
    for number in range(3):
        writer.add([], [], None)
        assert (tmp_path / FRAMES).read_bytes().count(b"\n") == number + 1


def test_a_full_disk_leaves_whole_lines(tmp_path: Path) -> None:
    writer = TrackWriter(tmp_path)
    writer.add([(0, {"size": [2, 2], "counts": "04"})], [], None)
    before = (tmp_path / FRAMES).read_bytes()
    real = writer._file
    room = [9]

    def write(data: memoryview) -> int:
        if not room[0]:
            raise OSError(28, "No space left on device")
        taken = real.write(data[: room[0]])
        room[0] -= taken
        return int(taken)

    writer._file = SimpleNamespace(  # type: ignore[assignment]
        write=write, tell=real.tell, truncate=real.truncate, seek=real.seek, close=real.close
    )
    with pytest.raises(OSError, match="No space left"):
        writer.add([(0, {"size": [2, 2], "counts": "04"})], [], None)
    assert (tmp_path / FRAMES).read_bytes() == before


def test_labels_become_category_ids() -> None:
    probabilities = torch.tensor([[0.5, 0.3, 0.2], [0.0, 0.9, 0.1]])
    tracks = EncodedTracks((2, 2))
    found = tracks.results(1, probabilities, 0.1, [7, 40])
    assert [(entry["category_id"], entry["score"]) for entry in found] == [
        (7, pytest.approx(0.5)),
        (40, pytest.approx(0.3)),
        (40, pytest.approx(0.9)),
    ]
    assert len(results_of(probabilities, 0.1)[0]) == 3
