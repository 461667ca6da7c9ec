"""The page: nothing from the rows can run in it, nothing is lost, and it works in a real browser."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.report.findings import examine
from harness.report.html.claims import ClaimView, claim_views
from harness.report.html.page import SweepPage, embedded_json, html_page
from harness.report.html.runs import Outcomes, accounted, failure_views, gap_views
from harness.report.html.sections import Names
from harness.report.html.trials import LOG_CHARACTERS, trial_data
from harness.report.html.wording import lines, p_value, signed, value_text
from harness.report.selection import select
from harness.report.table_spec import Side
from harness.report.verdicts import ClaimedGap, ClaimVerdict
from harness.sweep_file import Claim
from tests.html_pages import (
    MATCHING,
    SPEC,
    Picture,
    claims,
    comparison,
    encoder_rows,
    judged,
    matching_rows,
    row,
    sweep_page,
    two_sweeps,
)

MADE = {"Made by": "python -m harness report table3a table2c"}
ATTACK = "<script>alert(1)</script><img src=x onerror=alert(1)>{{ 7*7 }}"
HOSTILE = f"\"'></script>{ATTACK}<!--\u2028\x1b[31m\x00]]>&amp;"


class Elements(HTMLParser):
    """What an HTML reader makes of a page: elements with attributes, text, and the blocks of JSON."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.blocks: list[str] = []
        self._inside = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self._inside = "json" if ("type", "application/json") in attrs else tag
            self.blocks += [""] if self._inside == "json" else []

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "json":
            self.blocks[-1] += data
        elif not self._inside:
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(self.texts)

    def data(self) -> list[Any]:
        return [json.loads(block) for block in self.blocks]


@pytest.fixture(scope="module")
def page() -> str:
    return html_page(two_sweeps(), MADE)


def hostile_page() -> str:
    """A page whose every text from outside is an attack."""
    rows = encoder_rows()
    for column in rows.columns:
        if rows[column].map(lambda value: isinstance(value, str)).any() and column not in (
            "finished",
            "status",
        ):
            rows[column] = HOSTILE
    rows.loc[rows.index[:3], "status"] = HOSTILE
    rows["scale"] = SPEC.scale
    spec = replace(
        SPEC,
        name="table3a" + HOSTILE,
        title=HOSTILE,
        rows=Side(("model.encoder",), ((HOSTILE,), ("ifc",))),
        paper=None,
        paper_std=None,
        std_name=HOSTILE,
    )
    findings = judged(examine(spec, rows))
    claim = findings.claims[0]
    gap = replace(claim.gaps[0], where=HOSTILE)
    said = claim.claim.model_copy(update={"says": HOSTILE, "id": HOSTILE})
    claims = (replace(claim, claim=said, why=HOSTILE, gaps=(gap,)), *findings.claims[1:])
    sweep = SweepPage(
        replace(findings, claims=claims),
        [Picture(HOSTILE, HOSTILE, HOSTILE, f"<svg>{HOSTILE}</svg>")],
        {HOSTILE: HOSTILE},
        {HOSTILE: HOSTILE},
    )
    return html_page([sweep], {HOSTILE: HOSTILE})


def test_hostile_texts_stay_texts() -> None:
    found = Elements(hostile_page())
    scripts = [attributes for tag, attributes in found.found if tag == "script"]
    assert scripts == [{"type": "application/json", "class": "panel-data"}, {}]
    for tag, attributes in found.found:
        assert not [name for name in attributes if name.startswith("on") or name == "style"], tag
        address = attributes.get("src") or attributes.get("href") or "#"
        assert address.startswith(("#", "data:image/svg+xml,", "data:,")), address
        assert tag != "img" or "<" not in address
    assert ATTACK in found.text
    assert "\x1b" not in found.text
    [data] = found.data()
    assert "<script>alert(1)</script>" in data["title"]
    assert "<" not in found.blocks[0]


def test_embedded_json_reads_back_and_holds_no_markup() -> None:
    data = {"a": "</script><!--&\u2028\u2029", "b": ["é", 1.5, None]}
    text = str(embedded_json(data))
    assert json.loads(text) == data
    assert not set(text) & set("<>&\u2028\u2029")


def test_policy_allows_this_style_and_script_alone(page: str) -> None:
    [policy] = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    assert policy.startswith("default-src &#39;none&#39;;")
    assert "unsafe" not in policy
    for element in ("style", "script"):
        content = re.findall(rf"<{element}>(.*?)</{element}>", page, flags=re.DOTALL)[-1]
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{element}-src &#39;sha256-{digest}&#39;" in policy
    assert not re.findall(r"https?://(?!www\.w3\.org/2000/svg)", page.replace("%3A", ":"))


def test_same_rows_same_bytes_in_any_order(page: str) -> None:
    assert html_page(two_sweeps(), MADE) == page
    shuffled = [
        sweep_page(SPEC, encoder_rows().sample(frac=1, random_state=3), two_sweeps()[0].figures),
        sweep_page(MATCHING, matching_rows().sample(frac=1, random_state=4)),
    ]
    assert html_page(shuffled, MADE) == page


def test_no_language_s_word_for_nothing_is_printed(page: str) -> None:
    found = Elements(page)
    shown = json.dumps(found.data()) + found.text
    shown = shown.replace("loss is NaN at step 212", "")  # the error of the failed trial
    assert not re.search(r"\b(NaN|nan|None|NaT|undefined|inf|Infinity)\b", shown)


def test_every_row_is_accounted_for(page: str) -> None:
    rows = encoder_rows()
    became = r"(\d+) (?:in the tables|out of memory \(l|failed \(l|replaced|outside)"
    counts = [int(count) for count in re.findall(became, page)]
    assert sum(counts) == len(rows) + len(matching_rows())
    data = Elements(page).data()[0]
    there = {(run["trial"], run["place"][1], run["seed"]) for run in data["runs"]}
    kept = rows[(rows["cell"] != "old") & (rows["inference.window"] != 36)]
    assert there == {
        (r.trial, str(r.window), str(r.seed))
        for r in kept.rename(columns={"inference.window": "window"}).itertuples()
    }
    assert len(data["runs"]) == len(kept)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(
        st.builds(
            lambda encoder, window, seed, status, ap, day: row(
                encoder,
                window,
                seed,
                status=status,
                AP=ap,
                finished=f"2026-01-0{day}T00:00:00Z",
                error="x" * day,
            ),
            st.sampled_from(("ifc", "no_comm", "strange")),
            st.sampled_from((5, 20, 36, None)),
            st.integers(0, 6),
            st.sampled_from(("done", "done", "failed", "oom", "timeout")),
            st.one_of(st.floats(0, 100), st.sampled_from((None, float("nan"), float("inf")))),
            st.integers(1, 3),
        ),
        max_size=12,
    )
)
def test_any_rows_make_a_page_that_accounts_for_them(rows: list[dict[str, Any]]) -> None:
    table = pd.DataFrame(rows, columns=list(row("ifc", 5, 0)))
    findings = examine(SPEC, table)
    assert sum(count for count, _ in accounted(findings.selection)) == len(rows)
    found = Elements(html_page([SweepPage(findings)], {}))
    shown = found.text + json.dumps(found.data())
    assert not re.search(r"\b(NaN|nan|None|NaT|undefined|inf)\b", shown)
    failed = sum(each["status"] != "done" for each in rows)
    assert sum(run["status"] != "done" for run in found.data()[0]["runs"]) == failed


def test_shared_parts_give_every_configuration_and_row_back() -> None:
    selection = select(SPEC, encoder_rows())
    data = trial_data(selection, {}, {})
    assert data["differs"] == ["model.encoder", "inference.window"]
    frames = [selection.used, selection.failed]
    for run, (_, original) in zip(data["runs"], pd.concat(frames).iterrows(), strict=True):
        config = {
            key: value for key, value in {**data["config"], **run["config"]}.items() if value is not None
        }
        assert config["model.encoder"] == original["model.encoder"]
        assert config["inference.window"] == str(int(original["inference.window"]))
        assert config["train.setting_7"] == "0.875"
        assert len(config) == 69
        columns = {**data["row"], **run["row"]}
        assert (columns["finished"], columns["cell"]) == (original["finished"], original["cell"])
    assert max(len(json.dumps(run)) for run in data["runs"]) < 600


def test_nine_sweeps_of_a_thousand_rows_would_stay_below_five_megabytes() -> None:
    log = "\n".join(f"step {step}: loss 1.234" for step in range(300))
    rows = encoder_rows()
    more = rows.assign(trial=rows["trial"] + "-more", seed=rows["seed"] + 5, status="failed", log_tail=log)
    rows = pd.concat([rows, more])
    page = sweep_page(SPEC, rows, [Picture()] * 4)
    text = html_page([replace(page, logs=dict.fromkeys(page.logs, log))], MADE)
    assert len(page.findings.selection.used) + len(page.findings.selection.failed) > 1000 / 9
    assert sum(map(len, rows["config"])) > 200_000
    assert len(text.encode()) < 254_000  # figures have 300,000 left


def test_pages_without_rows_or_sweeps_say_so() -> None:
    assert "No sweep." in html_page([], {})
    empty = html_page([SweepPage(examine(SPEC, pd.DataFrame()))], {})
    assert "No finished run: every cell is missing." in empty
    assert "No claim was judged." in empty
    assert Elements(empty).data()[0]["runs"] == []


def test_warnings_stand_in_the_head() -> None:
    rows = encoder_rows()
    rows.loc[rows["seed"] == 1, "hardware"] = "NVIDIA V100"
    rows.loc[rows["seed"] == 2, "git_commit"] = "fedcba"
    head = html_page([sweep_page(SPEC, rows), sweep_page(MATCHING, matching_rows())], {}).split("<main>")[0]
    assert "Synthetic data: made-up videos" in head
    assert re.search(r"MIXED hardware, FPS left out.*#table3a", head)
    assert re.search(r"MIXED commits.*#table3a", head)
    assert "MIXED" not in html_page([sweep_page(MATCHING, matching_rows())], {})


def heads_of(page: str) -> list[str]:
    """The heads of the page's claims, without markup."""
    section = page.split('<section id="claims"')[1].split("</section>")[0]
    found = re.findall(r"<h[23].*?</h[23]>|<p class=.ground.*?</p>", section, flags=re.DOTALL)
    return [" ".join(re.sub(r"<[^>]*>", "", each).split()) for each in found]


def test_claims_say_on_which_data_they_were_judged(page: str) -> None:
    nothing_of_the_paper = (
        "Reproduced here means: the ordering holds on these videos. It says nothing about YouTube-VIS."
    )
    assert heads_of(page) == [
        "The paper’s claims, judged on synthetic videos (scale tiny)",
        nothing_of_the_paper,
        "table3a Various encoders taking clips of different lengths",
    ]
    real = matching_rows().assign(data_kind="ytvis", data_name="YouTube-VIS 2019", scale="paper")
    judged_page = sweep_page(replace(MATCHING, scale="paper"), real)
    judged_page = replace(judged_page, findings=replace(judged_page.findings, claims=claims()[:1]))
    both = html_page([two_sweeps()[0], judged_page])
    assert heads_of(both) == [
        "The paper’s claims, and what these runs say",
        "table3a Various encoders taking clips of different lengths: the paper’s claims, judged on synthetic"
        " videos (scale tiny)",
        nothing_of_the_paper,
        "table2c Matching by boxes or by masks: the paper’s claims, judged on YouTube-VIS 2019 (scale paper)",
    ]
    assert nothing_of_the_paper not in html_page([judged_page])
    sums = re.findall(r'<span class="on">(.*?):</span><span>(\d)', both)
    assert sums == [
        ("Judged on synthetic videos (scale tiny)", "1"),
        ("Judged on YouTube-VIS 2019 (scale paper)", "1"),
    ]


def counted_page() -> SweepPage:
    """Table 1 at one size, as it is counted on no data."""
    spec = replace(MATCHING, name="table1", cells=("flops_g",), paper=None, seeds=(0,))
    rows = matching_rows().assign(flops_g=30.0, data_kind=None, data_description=None, sweep="table1")
    return SweepPage(examine(spec, rows[rows["seed"] == 0]))


def test_head_is_true_of_counts_too() -> None:
    head = html_page([*two_sweeps(), counted_page()]).split("<main>")[0]
    assert "Every number" not in head
    assert "No number here" not in head
    assert "n = 3 to 5 a cell" in head
    assert "none (counted)" in head
    assert re.search(r"Synthetic data: made-up.*#table3a.*#table2c", head)
    assert "#table1" not in head
    assert "n = 3 a cell" in html_page([sweep_page(MATCHING, matching_rows()), counted_page()])
    assert "a cell" not in html_page([counted_page()]).split("<main>")[0]


def test_out_of_memory_failed_and_missing_are_three_things(page: str) -> None:
    findings = examine(SPEC, encoder_rows())
    outcomes = Outcomes.of(findings)
    assert outcomes == Outcomes(planned=80, finished=70, out_of_memory=5, failed=4)
    assert outcomes.words == "70 of 80 planned runs finished, 5 out of memory (OOM), 4 failed, 1 missing"
    assert page.count(f"{outcomes.words}.") == 1
    assert re.findall(r'data-label="(?:Finished|OOM|Failed|Missing)">([\d/]+)', page)[:4] == [
        "70/80",
        "5",
        "4",
        "1",
    ]
    assert gap_views(findings, Names.of(findings)) == [("IFC (M=8)", "T=20", "1")]
    assert re.findall(r"<h3>(Runs out of memory|Failed runs|Missing runs)</h3>", page) == [
        "Runs out of memory",
        "Failed runs",
        "Missing runs",
    ]


def test_failures_stand_in_the_order_of_the_table() -> None:
    rows = encoder_rows()
    chosen = rows["seed"].isin([0, 1]) & rows["model.encoder"].isin(["ifc", "no_comm"])
    rows.loc[chosen, "status"] = "failed"
    rows.loc[chosen, "error"] = "timeout at T=" + rows["inference.window"].astype(str)
    findings = examine(SPEC, rows[chosen & (rows["inference.window"] != 36)])
    views = failure_views(findings, Names.of(findings), "table3a", {})
    at = [(view.row, view.columns[0][0]) for view in views if "superseded" not in view.status]
    lengths = ["T=5", "T=10", "T=15", "T=20"]
    assert at == [(encoder, length) for encoder in ("No Comm", "IFC (M=8)") for length in lengths]
    assert [[trial.seed for trial in view.trials] for view in views[:4]] == [["0", "1"]] * 4


def view_of(gaps: tuple[ClaimedGap, ...], metric: str = "AP", **form: Any) -> ClaimView:
    """A claim as it is printed."""
    asked = form or {"best": "ifc"}
    claim = Claim.model_validate({"id": "some-claim", "says": "x", "metric": metric, **asked})
    return claim_views([ClaimVerdict(claim, "inconclusive", "why", None, gaps)], "table3a", set())[0]


def test_comparisons_show_only_what_they_have() -> None:
    tests = comparison(1.0, 2.0, 0.3)
    view = view_of((ClaimedGap("a", tests), ClaimedGap("b", None)))
    assert [head for head, _ in view.heads] == [
        *("Gap", "95 % interval", "n", "p, Welch"),
        *("Permutation p", "P(A>B)", "Detectable", "Seeds needed"),
    ]
    assert [len(gap.numbers) for gap in view.gaps] == [8, 0]
    without = view_of((ClaimedGap("a", None),) * 6)
    assert (without.gaps, without.without_numbers) == ((), 6)
    exact = replace(tests, gap=2.5, low=2.5, high=2.5, p_permutation=None, n=(1, 1), pairs=1)
    counted = view_of((ClaimedGap("a", exact),), "flops_g")
    assert [head for head, _ in counted.heads] == ["Gap"]
    assert counted.gaps[0].numbers == ("+2.50",)
    assert not counted.has_plots
    measures = [view_of((), metric).measure for metric in ("AP", "fps", "peak_memory_gb", "flops_g")]
    assert measures == ["AP, points", "FPS, frames/s", "Mem. (GB)", "GMACs"]
    assert view_of((), rises="ifc", along="inference.window").measure == "AP, points per frame"
    findings = judged(examine(SPEC, encoder_rows()))
    verdict = replace(findings.claims[0], gaps=(ClaimedGap("a", None),) * 6)
    page = html_page([SweepPage(replace(findings, claims=(verdict,)))])
    assert "All of its 6 comparisons lack numbers: nothing could be tested." in page


def test_p_names_its_test() -> None:
    welch, paired = comparison(1.0, 2.0, 0.3), comparison(1.0, 2.0, 0.3)
    object.__setattr__(paired, "paired", True)
    heads = [head for head, _ in view_of((ClaimedGap("a", paired),) * 2).heads]
    assert "p, paired t" in heads
    mixed = view_of((ClaimedGap("a", paired), ClaimedGap("b", welch)))
    assert [gap.numbers[3] for gap in mixed.gaps] == ["0.300 paired t", "0.300 Welch"]
    assert mixed.heads[3][0] == "p"


def test_claims_have_their_own_links(page: str) -> None:
    assert 'id="claim-table3a-ifc-beats-no-comm"' in page
    taken: set[str] = {"claim-table3a-ifc-beats-no-comm"}
    [view] = claim_views(claims()[:1], "table3a", taken)
    assert view.anchor == "claim-table3a-ifc-beats-no-comm-2"


def test_numbers_by_hand() -> None:
    assert [signed(value, 1) for value in (1.26, -0.26, -0.04, None, float("nan"))] == [
        "+1.3",
        "−0.3",
        "0.0",
        "--",
        "--",
    ]
    assert [p_value(p) for p in (0.0004, 0.0312, 1.0, None)] == ["< 0.001", "0.031", "1.000", "--"]
    assert [value_text(value) for value in (5.0, True, [1.5, 2.0], None, "a\n b")] == [
        "5",
        "yes",
        "1.5, 2",
        "--",
        "a b",
    ]
    assert lines("\x1b[31mred\x1b[0m\nsecond\tend", 100) == "red\nsecond    end"
    assert lines("first line\nsecond line", 15) == "[…]\nsecond line"
    assert len(lines("x" * 9000, LOG_CHARACTERS)) <= LOG_CHARACTERS + 4


# ------------------------------------------------------------------------------------------------ in Chromium


@pytest.fixture(scope="module")
def address(page: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("page") / "index.html"
    path.write_text(page, encoding="utf-8")
    return path.as_uri()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    driver, browser = shutil.which("chromedriver"), shutil.which("chromium")
    if driver is None or browser is None:
        pytest.skip("chromium or chromedriver is not installed")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    opened = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield opened
    opened.quit()


@pytest.fixture
def browser(chromium: Any, address: str) -> Any:
    """The page freshly opened, 1280 pixels wide; no test may leave an error in the console."""
    window(chromium, 1280, 900)
    chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    visit(chromium, address)
    yield chromium
    assert chromium.get_log("browser") == []


def window(browser: Any, width: int, height: int) -> None:
    """Set the size of what is seen, as a phone does it below 500 pixels."""
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def visit(browser: Any, address: str) -> None:
    """Open anew: an address that differs in its fragment alone would only scroll."""
    browser.get("about:blank")
    browser.get(address)


def find(browser: Any, selector: str) -> Any:
    return browser.find_element("css selector", selector)


def column(browser: Any, index: int) -> list[str]:
    """Our numbers of a column of Table 3(a), top to bottom."""
    script = """return [...document.querySelector("table[data-name=table3a]").tBodies[0].rows]
        .map((row) => row.cells[arguments[0]])
        .map((cell) => (cell.querySelector(".mean") || cell.firstChild).textContent)"""
    return list(browser.execute_script(script, index))


def until(browser: Any, is_so: Callable[[], Any]) -> Any:
    """What ``is_so`` gives as soon as that is something: browsers tell of a new address a little later."""
    from selenium.webdriver.support.wait import WebDriverWait

    return WebDriverWait(browser, 10, poll_frequency=0.02).until(lambda _: is_so())


def panel_of(browser: Any) -> Any:
    """The open panel."""
    found = until(browser, lambda: browser.find_elements("css selector", "dialog[open]"))
    return found[0]


def escape(browser: Any) -> Any:
    """Close the panel with the Escape key; returns what has the focus then."""
    press(browser, "\ue00c")
    until(
        browser, lambda: not browser.execute_script("return document.getElementById('panel').hasChildNodes()")
    )
    return focused(browser)


def focused(browser: Any) -> Any:
    return browser.switch_to.active_element


def press(browser: Any, key: str) -> None:
    focused(browser).send_keys(key)


def test_opens_from_a_file_without_a_network(chromium: Any, address: str) -> None:
    chromium.get_log("performance")
    visit(chromium, address)
    assert chromium.get_log("browser") == []
    messages = [json.loads(entry["message"])["message"] for entry in chromium.get_log("performance")]
    asked = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    assert address in asked
    assert [url for url in asked if not url.startswith(("data:", "about:")) and url != address] == []
    drawn = "return [...document.images].map((image) => image.complete && image.naturalWidth > 0)"
    assert chromium.execute_script(drawn) == [True, True]


def test_hostile_page_runs_nothing(chromium: Any, tmp_path: Path) -> None:
    path = tmp_path / "hostile.html"
    path.write_text(hostile_page(), encoding="utf-8", newline="")
    visit(chromium, path.as_uri())
    link = find(chromium, "a.cell")
    chromium.execute_script("arguments[0].click()", link)
    chromium.execute_script("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    assert "<img src=x onerror=alert(1)>" in panel_of(chromium).text
    assert chromium.execute_script("return document.images.length") == 1, "the figure"
    assert chromium.get_log("browser") == []


def test_sorts_numbers_as_numbers_and_what_is_none_last(browser: Any) -> None:
    index = 10  # AP at T=20, where Full THW did not fit in memory
    before = column(browser, index)
    assert before[1] == "OOM"
    numbers = sorted(float(text) for text in before if text != "OOM")
    button = browser.find_elements("css selector", "table[data-name=table3a] button.sort")[index]
    head = button.find_element("xpath", "..")
    button.click()
    assert head.get_attribute("aria-sort") == "ascending"
    assert column(browser, index) == [*map(str, numbers), "OOM"]
    button.send_keys("\ue007")  # Enter
    assert head.get_attribute("aria-sort") == "descending"
    assert column(browser, index) == [*map(str, reversed(numbers)), "OOM"]
    button.click()
    assert head.get_attribute("aria-sort") == "none"
    assert column(browser, index) == before

    fps = browser.find_elements("css selector", "table[data-name=table3a] button.sort")[3]
    fps.click()
    assert [float(text) for text in column(browser, 3)] == sorted(map(float, column(browser, 3)))
    assert len({len(text) for text in column(browser, 3)}) == 2, "75.9 before 100.4: numbers, not text"
    browser.find_elements("css selector", "table[data-name=table3a] button.sort")[0].click()
    assert column(browser, 0) == ["Decomp T-HW", "Full THW", "IFC (M=8)", "No Comm"]
    assert fps.find_element("xpath", "..").get_attribute("aria-sort") == "none"


def test_a_cell_opens_its_runs_and_gives_the_focus_back(browser: Any) -> None:
    link = find(browser, 'a.cell[href="#table3a/decomp_t_hw/5/AP"]')
    link.click()
    panel = panel_of(browser)
    assert "Decomp T-HW, T=5" in panel.text
    rows = [
        line.text.split()
        for line in panel.find_elements("css selector", '[aria-label="Runs, seed by seed"] tbody tr')
    ]
    assert [line[:2] for line in rows] == [
        ["0", "done"],
        ["1", "done"],
        ["2", "failed"],
        ["3", "done"],
        ["4", "done"],
    ]
    panel.find_elements("css selector", "button.jump")[2].click()
    run = panel.find_elements("css selector", "details.run")[2]
    assert run.get_attribute("open") is not None
    for text in (
        "FloatingPointError: loss is NaN at step 212",
        "decomp_t_hw-2",
        "0123456789abcdef",
        "AMD EPYC, 2 cores",
    ):
        assert text in run.text
    for text in ("step 180: loss 4.500", "--only decomp_t_hw-2", "Device hours", "2026-01-03T04:04:05"):
        assert text in run.text
    assert "train.setting_7" not in run.text
    run.find_element("xpath", ".//summary[contains(., 'Whole configuration')]").click()
    assert "train.setting_7: 0.875" in run.text
    assert escape(browser) == link
    assert browser.find_elements("css selector", "dialog[open]") == []
    assert browser.current_url.endswith("#table3a")


def test_every_cell_of_every_table_opens(browser: Any) -> None:
    script = """return [...document.querySelectorAll("a.cell")].filter((link) => {
        location.hash = link.getAttribute("href");
        dispatchEvent(new HashChangeEvent("hashchange"));
        const panel = document.getElementById("panel");
        return !panel.open || /undefined|NaN|null/.test(panel.textContent.replaceAll("loss is NaN", ""));
    }).map((link) => link.getAttribute("href"))"""
    assert browser.execute_script(script) == []


def test_keys_alone_suffice(browser: Any) -> None:
    browser.execute_script("document.querySelector('a.cell').focus()")
    press(browser, "\ue015")  # down
    press(browser, "\ue014")  # right
    assert focused(browser).get_attribute("href").endswith("#table3a/full_thw/5/AP75")
    press(browser, "\ue007")
    assert "Full THW, T=5" in panel_of(browser).text
    assert focused(browser).text == "Close"
    press(browser, "\ue007")
    until(
        browser, lambda: (focused(browser).get_attribute("href") or "").endswith("#table3a/full_thw/5/AP75")
    )
    claim = find(browser, "details.claim summary")
    claim.send_keys("\ue007")
    assert "IFC - No Comm at T=20" in find(browser, "details.claim[open]").text


@pytest.mark.parametrize(
    "fragment", ["table3a/ifc/5", "table4a/ifc/5/AP", "table2c/mask/", "table3a/ifc/5/fps"]
)
def test_deep_links(browser: Any, address: str, fragment: str) -> None:
    visit(browser, f"{address}#{fragment}")
    assert ("IFC (M=8), T=5" if "ifc" in fragment else "Mask-based") in panel_of(browser).text
    assert f"#{fragment}" in escape(browser).get_attribute("href")


def test_rows_of_two_keys_open_too(chromium: Any, tmp_path: Path) -> None:
    spec = replace(
        MATCHING,
        name="table2d",
        rows=Side(("inference.window", "inference.stride"), ((5, 3), (10, 5))),
        paper="table2d_strides",
    )
    steps = ((5, 3), (10, 5))
    rows = [
        row("ifc", window, 0, AP=40.0, sweep="table2d") | {"inference.stride": stride}
        for window, stride in steps
    ]
    path = tmp_path / "strides.html"
    path.write_text(html_page([SweepPage(examine(spec, pd.DataFrame(rows)))]), encoding="utf-8")
    visit(chromium, path.as_uri())
    chromium.find_elements("css selector", "a.cell")[1].click()
    assert "T=10, S=5" in panel_of(chromium).text
    assert chromium.current_url.endswith("#table2d/10%20%2F%205//AP")
    assert "40.00" in panel_of(chromium).text
    assert chromium.get_log("browser") == []


def test_links_to_a_section_and_to_nowhere(browser: Any, address: str) -> None:
    for unknown in (
        *("table3a/ifc/5/AP99", "table3a/ifc/5/toString", "table3a/ifc/5/AP/x"),
        *("table3a/ifc/7", "nowhere/ifc/5", "%E0%A4%A/x/y", "table3a"),
    ):
        visit(browser, f"{address}#{unknown}")
        assert browser.find_elements("css selector", "dialog[open]") == []
    assert browser.execute_script("return scrollY") > 500


def test_a_link_to_a_claim_opens_it(browser: Any, address: str) -> None:
    visit(browser, f"{address}#claim-table3a-ifc-best")
    opened = browser.find_elements("css selector", "details.claim[open]")
    assert [claim.get_attribute("id") for claim in opened] == ["claim-table3a-ifc-best"]
    assert 0 <= browser.execute_script("return arguments[0].getBoundingClientRect().top", opened[0]) < 500
    assert "numbers missing" in opened[0].text


def test_speeds_of_two_machines_stand_beside_their_machine(chromium: Any, tmp_path: Path) -> None:
    rows = encoder_rows()
    rows.loc[rows["seed"] == 1, ["hardware", "device"]] = ["NVIDIA V100", "cuda"]
    path = tmp_path / "mixed.html"
    path.write_text(html_page([sweep_page(SPEC, rows)]), encoding="utf-8")
    visit(chromium, f"{path.as_uri()}#table3a/ifc/5/fps")
    lines = [
        [cell.text for cell in line.find_elements("css selector", "th, td")]
        for line in panel_of(chromium).find_elements("css selector", '[aria-label="Runs, seed by seed"] tr')
    ]
    assert lines[0][2:] == ["AP", "AP75", "FPS", "Mem. (GB)", "Machine", "Trial"]
    machines = ["AMD EPYC, 2 cores (cpu, 1 thread)", "NVIDIA V100 (cuda, 1 thread)"]
    assert [line[-2] for line in lines[1:3]] == machines
    summary = panel_of(chromium).find_element("css selector", '[aria-label="Summary of the cell"]').text
    assert "FPS withheld --" in summary
    assert "Mem. (GB) withheld --" in summary
    assert chromium.get_log("browser") == []


def test_a_verdict_s_reason_fits_a_phone(browser: Any, address: str) -> None:
    window(browser, 390, 844)
    visit(browser, f"{address}#table3a/ifc/20/AP")
    reason = panel_of(browser).find_element("css selector", "p.judged")
    assert "not comparable synthetic data, not YouTube-VIS 2019 valid" in reason.text
    assert reason.rect["x"] >= 0
    assert reason.rect["x"] + reason.rect["width"] <= 390
    assert reason.rect["height"] < 60
    visit(browser, address)
    box = "const b = document.querySelector('#sweeps .scroll'); return [b.scrollWidth, b.clientWidth]"
    inside, room = browser.execute_script(box)
    assert inside <= room


def test_copies_the_command(browser: Any, address: str) -> None:
    visit(browser, f"{address}#table3a/ifc/5")
    browser.execute_cdp_cmd(
        "Browser.grantPermissions", {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]}
    )
    find(browser, "details.run summary").click()
    find(browser, "button.copy").click()
    text = browser.execute_async_script(
        "navigator.clipboard.readText().then(arguments[0], (e) => arguments[0](String(e)))"
    )
    assert (
        text
        == "git checkout 0123456789abcdef\npython run_sweep.py sweeps/table3a.yaml --scale tiny --only ifc-0"
    )
    assert find(browser, "button.copy").text == "Copied"


@pytest.mark.parametrize("width", [390, 768, 1280])
def test_the_page_never_scrolls_sideways(browser: Any, address: str, width: int) -> None:
    window(browser, width, 844)
    for fragment in ("", "#table3a/decomp_t_hw/5/AP"):
        visit(browser, address + fragment)
        browser.execute_script(
            "document.querySelectorAll('details').forEach((each) => { each.open = true; })"
        )
        wide = "return [document.documentElement.scrollWidth, document.body.scrollWidth, innerWidth]"
        found = browser.execute_script(wide)
        assert max(found[:2]) <= width == found[2]
    panel = "const p = document.getElementById('panel'); return [p.scrollWidth, p.clientWidth]"
    inside, room = browser.execute_script(panel)
    assert inside <= room <= width


def test_dark_mode_and_contrast(browser: Any, address: str) -> None:
    contrast = """const light = (text) => { const [r, g, b] = text.match(/[\\d.]+/g).map(Number).map((v) => {
            const s = v / 255; return s <= 0.04045 ? s / 12.92 : ((s + 0.055) / 1.055) ** 2.4; });
            return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
        const paper = light(getComputedStyle(document.body).backgroundColor);
        const ratio = (element) => { const ink = light(getComputedStyle(element).color);
            return (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05); };
        const texts = document.querySelectorAll("main th, main td, main .verdict, main a, main .caption");
        return [paper, Math.min(...[...texts].map(ratio))]"""
    papers = []
    for scheme in ("light", "dark"):
        media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        visit(browser, address)
        paper, least = browser.execute_script(contrast)
        papers.append(paper)
        assert least >= 4.5, scheme
    assert papers[0] > 0.9
    assert papers[1] < 0.05
