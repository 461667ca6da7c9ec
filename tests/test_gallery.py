"""The gallery: what is in its page, that nothing foreign runs in it, and that it works in a real browser."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco

from benchmarks.made_methods import write_methods
from harness.compare import run
from harness.compare.gallery import WIDEST, stored_size
from harness.config import SyntheticConfig
from harness.data.synthetic import write_dataset
from harness.overlay import IMAGES_RATE
from tests.test_html import Elements, chromium, find, press, until, visit, window  # noqa: F401

DATA = SyntheticConfig(
    train_videos=1, valid_videos=2, length=6, height=48, width=64, min_size=14, max_size=22
)
ATTACK = "<script>alert(1)</script>&\"'"
LONG = "category" * 15
LEFT, RIGHT, HOME, END = "\ue012", "\ue014", "\ue011", "\ue010"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A gallery of two videos under two methods, one of an odd name; categories are hostile or long."""
    work = tmp_path_factory.mktemp("gallery")
    write_dataset(DATA, work / "data")
    truth = json.loads((work / "data" / "valid.json").read_text())
    truth["categories"][0]["name"] = ATTACK
    for number, category in enumerate(truth["categories"][1:]):
        category["name"] = f"{LONG}{number}"
    (work / "data" / "valid.json").write_text(json.dumps(truth))
    files = write_methods(work, truth, ("near", "confused"))
    methods = (f"near={files['near']}", f"{ATTACK}={files['confused']}")
    run.compare(run.Request(work / "data", None, methods, work / "out", by="name", video=False), print)
    return work / "out"


@pytest.fixture(scope="module")
def page(folder: Path) -> Elements:
    return Elements((folder / "index.html").read_text(encoding="utf-8"))


def test_hostile_names_stay_texts(page: Elements) -> None:
    assert ATTACK in page.text
    for tag, attributes in page.found:
        assert not [name for name in attributes if name.startswith("on") or name == "style"], tag
    scripts = [attributes for tag, attributes in page.found if tag == "script"]
    assert [attributes.get("type") for attributes in scripts] == ["application/json"] * 2 + [None]


def test_every_address_is_beside_the_page(page: Elements, folder: Path) -> None:
    addresses = [each.get("href") or each.get("src") for _, each in page.found]
    for address in filter(None, addresses):
        assert address.startswith(("#", "data:,")), address
    for data in page.data():
        assert all((folder / name).is_file() for name in data["frames"])
    for tag, attributes in page.found:
        if tag == "script" and attributes.get("data-strip"):
            assert (folder / str(attributes["data-strip"])).is_file()


def test_everything_has_a_name_for_readers(page: Elements) -> None:
    labelled = {attributes.get("for") for tag, attributes in page.found if tag == "label"}
    for tag, attributes in page.found:
        if tag == "canvas" or attributes.get("role") in ("img", "region", "group"):
            assert attributes.get("aria-label")
        if tag == "input" and attributes["type"] == "range":
            assert attributes["id"] in labelled


def test_masks_have_the_size_of_the_stored_frames(page: Elements, folder: Path) -> None:
    for data in page.data():
        size = tuple(data["size"])
        assert all(Image.open(folder / name).size == size[::-1] for name in data["frames"])
        for row in data["rows"]:
            for track in row["tracks"]:
                assert len(track["codes"]) == len(data["frames"])
                for code in filter(None, track["codes"]):
                    assert coco.decode({"size": list(size), "counts": code}).shape == size


@pytest.mark.parametrize("size", [(360, 640), (1080, 1920), (720, 405), (48, 64), (1, 5000)])
def test_stored_frames_are_small(size: tuple[int, int]) -> None:
    stored = stored_size(*size)
    assert max(stored) <= WIDEST
    assert min(stored) >= 1
    if max(size) <= WIDEST:
        assert stored == size


# ------------------------------------------------------------------------------------------ in Chromium


@pytest.fixture
def browser(chromium: Any, folder: Path) -> Iterator[Any]:  # noqa: F811
    """The page freshly opened; no test may leave an error in the console."""
    window(chromium, 1280, 1800)
    visit(chromium, (folder / "index.html").as_uri())
    until(chromium, lambda: shown(chromium)[2] is not None)
    yield chromium
    assert chromium.get_log("browser") == []


def shown(browser: Any) -> tuple[str, str, Any]:
    """Title, frame, and the width of the second canvas (None before it is drawn)."""
    title, where, wide = browser.execute_script(
        """const drawn = document.querySelectorAll(".rows figure > canvas")[1].hasAttribute("width");
        return [document.getElementById("video-title").textContent,
                document.getElementById("where").textContent, drawn ? 1 : null];"""
    )
    return title, where, wide


def pixels(browser: Any, row: int) -> np.ndarray:
    """What is seen of a row, as the screen has it: pictures of files may not be read by scripts."""
    import io

    shot = browser.find_elements("css selector", ".rows figure > canvas")[row].screenshot_as_png
    return np.asarray(Image.open(io.BytesIO(shot)).convert("RGB")).astype(int)


def test_opens_from_a_file_without_a_network(chromium: Any, folder: Path) -> None:  # noqa: F811
    address = (folder / "index.html").as_uri()
    chromium.get_log("performance")
    visit(chromium, address)
    until(chromium, lambda: shown(chromium)[2] is not None)
    messages = [json.loads(entry["message"])["message"] for entry in chromium.get_log("performance")]
    asked = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    assert all(url.startswith((folder.as_uri(), "data:", "about:")) for url in asked)
    assert chromium.get_log("browser") == []


def test_the_slider_and_keys_move_through_frames(browser: Any) -> None:
    assert shown(browser)[1] == "frame 0 of 0 to 5"
    before = pixels(browser, 1)
    press(browser, RIGHT)
    assert shown(browser)[1] == "frame 1 of 0 to 5"
    assert (pixels(browser, 1) != before).any()
    press(browser, END)
    press(browser, RIGHT)
    assert shown(browser)[1] == "frame 5 of 0 to 5"
    assert re.search(r"#[^/]+/5$", browser.current_url)
    press(browser, LEFT)
    assert shown(browser)[1] == "frame 4 of 0 to 5"
    slider = find(browser, "#frame")
    slider.send_keys(HOME)
    slider.send_keys(RIGHT)
    assert shown(browser)[1] == "frame 1 of 0 to 5"
    assert slider.get_attribute("aria-valuetext") == "frame 1 of 0 to 5"


def test_playing_goes_on_and_stops(browser: Any) -> None:
    play = find(browser, "#play")
    assert float(play.get_attribute("data-rate")) == IMAGES_RATE
    play.click()
    until(browser, lambda: shown(browser)[1].startswith("frame 2"))
    assert (play.text, play.get_attribute("aria-pressed")) == ("Pause", "true")
    play.click()
    where = shown(browser)[1]
    assert (play.text, shown(browser)[1]) == ("Play", where)


def test_masks_are_those_of_the_files(browser: Any, page: Elements) -> None:
    """Pixels inside a mask have its colour, those outside do not."""
    [data, _] = page.data()
    row = data["rows"][0]
    find(browser, "#labels").click()
    until(browser, lambda: not find(browser, "#labels").is_selected())
    seen = pixels(browser, 0)
    find(browser, "#masks").click()
    bare = pixels(browser, 0)
    planes = [
        coco.decode({"size": data["size"], "counts": track["codes"][0]})
        for track in row["tracks"]
        if track["codes"][0]
    ]
    union = np.any(planes, 0)
    ys, xs = (
        (np.arange(new) * 2 + 1) * old // (2 * new)
        for new, old in zip(seen.shape[:2], data["size"], strict=True)
    )
    inside = union[ys[:, None], xs]
    changed = (abs(seen - bare).sum(-1) > 60) & inside
    assert changed.sum() > 0.8 * inside.sum()


def test_switches_hide_rows(browser: Any) -> None:
    boxes = browser.find_elements("css selector", "[data-row][type=checkbox]")
    figures = browser.find_elements("css selector", ".rows figure")
    assert [figure.is_displayed() for figure in figures] == [True] * 3
    boxes[1].click()
    assert [figure.is_displayed() for figure in figures] == [True, False, True]
    boxes[1].click()
    assert figures[1].is_displayed()


def test_videos_are_chosen_and_addresses_kept(browser: Any, folder: Path) -> None:
    links = browser.find_elements("css selector", ".videos a")
    links[1].click()
    until(browser, lambda: shown(browser)[0] == links[1].text)
    assert links[1].get_attribute("aria-current") == "true"
    press(browser, "p")
    assert shown(browser)[0] == links[0].text
    press(browser, "n")
    press(browser, RIGHT)
    address = browser.current_url
    visit(browser, address)
    assert shown(browser)[:2] == (find(browser, ".videos a[aria-current]").text, "frame 1 of 0 to 5")
    visit(browser, (folder / "index.html").as_uri() + "#nonsense/99")
    assert shown(browser)[1] == "frame 5 of 0 to 5"


def test_alternative_texts_follow_the_frame(browser: Any, page: Elements) -> None:
    canvas = browser.find_elements("css selector", ".rows figure > canvas")[0]
    assert canvas.get_attribute("aria-label").startswith("ground truth, frame 0: ")
    press(browser, RIGHT)
    assert canvas.get_attribute("aria-label").startswith("ground truth, frame 1: ")


def test_long_names_stay_in_their_own_column(browser: Any, page: Elements) -> None:
    seen = [track for row in page.data()[0]["rows"] for track in row["tracks"] if track["codes"][0]]
    assert any(LONG in track["words"] for track in seen)
    wide = (
        "return [...document.querySelectorAll('.tracks')].map((each) => each.scrollWidth - each.clientWidth)"
    )
    assert browser.execute_script(wide) == [0, 0, 0]
    assert LONG in find(browser, ".rows").text


def test_print_has_every_table_open(browser: Any) -> None:
    fold = find(browser, "details.fold")
    assert fold.get_attribute("open") is None
    browser.execute_script("dispatchEvent(new Event('beforeprint'))")
    assert find(browser, "#situations").is_displayed()
    browser.execute_script("dispatchEvent(new Event('afterprint'))")
    assert fold.get_attribute("open") is None


def test_fits_a_phone(browser: Any) -> None:
    window(browser, 360, 740)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 360
