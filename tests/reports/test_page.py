"""The page of a suite in a real browser: sorts, filters, tells more on hover and by keyboard, and asks for nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from reports import cli
from results import schema
from results.suites import Entry, Row, save_suite
from tests.reports import browser, fakes
from tests.reports.conftest import COLUMNS

EVIL = '<script>alert(1)</script>"\'&'
SKILLS = {"linear": 0.5, "lora": 0.62, "adapter": 0.7, "lora+pace": 0.66, "adapter+pace": 0.72, EVIL: 0.45, "oom": 0.5}
PANEL = "#standin [role=tabpanel]:not([hidden])"
UP, RIGHT, ESCAPE = "\ue013", "\ue014", "\ue00c"


@pytest.fixture(scope="module")
def html(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("page")
    entries = []
    for column in COLUMNS:
        for method, skill in SKILLS.items():
            run = fakes.spec(column.name, "evil" if method == EVIL else method,
                             data=("standin:" if column.standin else "real:") + column.name)
            entries.append(Entry(run.id, column.name, method, fakes.BACKBONE, 0))
            known = schema.MethodInfo(method, "source")
            history = tuple({"epoch": float(e), "train.loss": 2.0 / e} for e in (1, 2, 3))
            if method == "oom":
                failure = schema.Failure("memory", "<b>3 GiB</b>", "train", 2)
                fakes.store(root / "runs", fakes.record(run, None, status="oom", failure=failure, method=known))
            else:
                fakes.scored(root / "runs", run, skill, method=known, history=history)
    rows = tuple(Row(m, fakes.BACKBONE, "3 configurations", "", "source") for m in SKILLS)
    suite = replace(fakes.suite([], COLUMNS, []), rows=rows, entries=tuple(entries), title='Demo <i>"suite"</i>',
                    about={"lora": ("LoRA: <b>low-rank</b> updates.", "Paper: Hu et al.", "Option rank = 8 (int)")})
    save_suite(suite, root / "suites")
    assert cli.main(["build", "--records", str(root / "runs"), "--suites", str(root / "suites"), "--out",
                     str(root / "out")]) == 0
    return root / "out" / "site" / "demo.html"


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def test_the_page_names_nothing_outside_itself(html: Path) -> None:
    parser = Tags()
    parser.feed(html.read_text())
    scripts = [a for t, a in parser.tags if t == "script" and a.get("type") != "application/json"]
    assert len(scripts) == 1 and "src" not in scripts[0]
    assert not [t for t, _ in parser.tags if t in ("i", "b", "link", "img", "iframe", "object")]
    for tag, attributes in parser.tags:
        for name in ("src", "href", "xlink:href", "action"):
            assert re.match("#|index.html$", attributes.get(name) or "#"), (tag, attributes)
        assert not [name for name in attributes if name.startswith("on")], (tag, attributes)
    ids = [a["id"] for _, a in parser.tags if "id" in a]
    assert len(ids) == len(set(ids))


def test_the_content_policy_admits_the_page_s_own_script_alone(html: Path) -> None:
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', html.read_text())
    assert policy and "default-src &#x27;none&#x27;" in policy[1]
    assert re.search(r"script-src &#x27;sha256-[A-Za-z0-9+/=]{44}&#x27;", policy[1])
    assert "unsafe-inline" not in policy[1].split("style-src")[0]


@pytest.fixture(scope="module")
def chrome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[browser.Browser]:
    browser.require()
    session = browser.Browser(tmp_path_factory.mktemp("profile"))
    yield session
    session.close()


@pytest.fixture
def page(chrome: browser.Browser, html: Path) -> browser.Browser:
    chrome.log("browser"), chrome.requests()
    chrome.open(html)
    return chrome


def names(page: browser.Browser) -> list[str]:
    return list(page.run(f"return [...document.querySelectorAll('{PANEL} tbody tr')].filter(r => !r.hidden)"
                         ".map(r => r.cells[0].textContent)"))


def head(title: str) -> str:
    """Selector of a heading's button, by its place."""
    return f"{PANEL} thead th:nth-child({title}) button"


def place(page: browser.Browser, title: str) -> int:
    return int(page.run(f"return [...document.querySelectorAll('{PANEL} thead th')].findIndex(h => "
                        "h.textContent === arguments[0])", title)) + 1


def test_a_click_on_a_heading_sorts_and_another_turns_the_order(page: browser.Browser) -> None:
    assert names(page) == ["adapter+pace", "adapter", "lora+pace", "lora", "linear", EVIL, "oom"]  # by rank
    page.click(head("1"))
    assert names(page)[0] == EVIL
    column = place(page, "Mean of 3")
    page.click(head(str(column)))
    assert names(page) == ["adapter+pace", "adapter", "lora+pace", "lora", "linear", EVIL, "oom"]
    page.click(head(str(column)))
    assert names(page) == [EVIL, "linear", "lora", "lora+pace", "adapter", "adapter+pace", "oom"]  # gaps stay last
    assert page.run(f"return document.querySelector('{PANEL} thead th:nth-child({column})').ariaSort") == "ascending"


def test_words_act_on_pictures_too(page: browser.Browser) -> None:
    def bright(key: str) -> list[str]:
        return list(page.run(f"return [...document.querySelectorAll('#standin svg .mark:not(.dim)')].map(m => "
                             f"m.dataset.tip.split('\\n')[0]).filter(t => t.includes('{key}'))"))

    every = bright("")
    assert any("linear" in tip for tip in every)
    page.type("#standin input[type=search]", "PACE lora")
    found = [tip.split(" is better than ")[0] for tip in bright("")]
    assert found and len(found) < len(every)
    assert [tip for tip in found if "lora+pace" not in tip.replace(" ", "")] == []
    page.type("#standin input[type=search]", "zzz")
    assert bright("") == []


def test_a_table_whose_lines_are_no_rows_of_the_suite_is_filtered_by_its_own_words(html: Path) -> None:
    text = html.read_text()
    lines = re.findall(r"<tr data-order=[^>]*>", text)
    assert lines and all("data-name=" in line for line in lines)


def test_the_first_page_names_every_suite_and_asks_for_nothing(html: Path) -> None:
    text = (html.parent / "index.html").read_text()
    assert '<a href="demo.html">Demo &lt;i&gt;&quot;suite&quot;&lt;/i&gt;</a>' in text
    assert "<script" not in text and "http" not in text.replace("http-equiv", "")
    assert '<a href="index.html">All suites</a>' in html.read_text()


def test_words_filter_the_rows_of_every_table(page: browser.Browser) -> None:
    page.type("#standin input[type=search]", "PACE lora")
    assert names(page) == ["lora+pace"]
    assert page.run("return document.querySelector('#standin .count').textContent") == "1 row"
    page.click("#standin [role=tab]:nth-child(2)")
    assert names(page) == ["lora+pace"]


def test_a_count_of_one_is_said_as_one(page: browser.Browser) -> None:
    given = ["1 rows", "21 rows", "Mean of 1 data sets, %", "VTAB, 1 tasks", "VTAB, 11 tasks", "Mean of 1"]
    assert page.run("return arguments[0].map(many)", given) == [
        "1 row", "21 rows", "Mean of 1 data set, %", "VTAB, 1 task", "VTAB, 11 tasks", "Mean of 1"]


def test_incomplete_rows_can_be_hidden(page: browser.Browser) -> None:
    page.click("#standin input[type=checkbox]")
    assert sorted(names(page)) == sorted(n for n in SKILLS if n != "oom")


def tip(page: browser.Browser) -> str | None:
    return page.run("const t = document.getElementById('tip'); return t.hidden ? null : t.textContent")


def test_pointing_at_a_cell_tells_n_interval_budget_and_run(page: browser.Browser, html: Path) -> None:
    page.click("#standin [role=tab]:nth-child(2)")
    page.hover(f"{PANEL} tbody tr:nth-child(4) td")
    run = fakes.spec("cifar100", "lora", data="standin:cifar100").id
    text = tip(page) or ""
    for part in ("lora on CIFAR-100", "62.0 [55.1, 68.4] %", "95 % interval [55.1, 68.4]", "n = 200 test images",
                 f"run {run}", "tuning: 3 configurations", fakes.BACKBONE):
        assert part in text
    page.hover(f"{PANEL} tbody tr:nth-child(7) td")
    assert "oom: train at step 2: <b>3 GiB</b>" in (tip(page) or "")


def test_the_keyboard_reaches_tabs_cells_and_marks_of_pictures(page: browser.Browser) -> None:
    page.run("document.querySelector('#standin [role=tab]').focus()")
    page.keys(RIGHT)
    assert page.run("return document.activeElement.textContent") == "Accuracy, Natural"
    assert page.run(f"return document.querySelectorAll('{PANEL}').length") == 1
    page.run(f"document.querySelector('{PANEL} tbody td[tabindex=\"0\"]').focus()")
    assert (tip(page) or "").startswith("linear on CIFAR-100")  # rows stand by rank, the cell of the first as written
    page.keys(UP)
    assert (tip(page) or "").startswith("lora on CIFAR-100")
    page.keys(ESCAPE)
    assert tip(page) is None
    page.run("document.getElementById('standin-standin-saved-point2').focus()")
    assert (tip(page) or "").startswith("lora\n")


def test_a_hostile_name_shows_as_text(page: browser.Browser) -> None:
    assert EVIL in names(page)
    assert page.run("return [...document.scripts].filter(s => s.type !== 'application/json').length") == 1
    with pytest.raises(AssertionError, match="no such alert"):
        page.send("GET", "/alert/text")
    assert page.run("return document.querySelector('h1').textContent") == 'Demo <i>"suite"</i>'


def test_no_error_is_logged_and_no_request_leaves_the_file(page: browser.Browser, html: Path) -> None:
    page.click("#standin [role=tab]:nth-child(3)")
    page.hover(f"{PANEL} tbody td")
    page.run("const s = document.querySelector('select[data-pictures]'); s.value = '1'; "
             "s.dispatchEvent(new Event('input'))")
    assert page.run("return document.querySelectorAll('#standin [data-picture]:not([hidden])').length") == 1
    assert [entry for entry in page.log("browser") if entry["level"] in ("SEVERE", "WARNING")] == []
    assert set(page.requests()) == {html.resolve().as_uri()}


def test_a_script_that_is_not_the_page_s_own_does_not_run(page: browser.Browser) -> None:
    page.run("const s = document.createElement('script'); s.textContent = 'window.ran = 1'; document.body.append(s)")
    assert page.run("return window.ran === undefined")
    page.log("browser")


def test_the_theme_can_be_chosen(page: browser.Browser) -> None:
    ground = "return getComputedStyle(document.body).backgroundColor"
    for name, colour in (("light", "rgb(255, 255, 255)"), ("dark", "rgb(13, 17, 23)"), ("auto", "rgb(255, 255, 255)")):
        page.click(f"#theme [value={name}]")
        assert page.run(ground) == colour


@pytest.mark.parametrize("width", [390, 1300])
def test_the_page_fits_narrow_and_wide_screens(page: browser.Browser, width: int, tmp_path: Path) -> None:
    page.resize(width)
    assert page.run("return document.documentElement.scrollWidth") <= width
    page.screenshot(tmp_path / "shot.png")
    from matplotlib.image import imread

    shot = imread(str(tmp_path / "shot.png"))
    assert shot.shape[1] == width and float(np.std(shot)) > 0.05
    page.send("POST", "/goog/cdp/execute", {"cmd": "Emulation.clearDeviceMetricsOverride", "params": {}})


def test_a_choice_ranks_anew_and_the_address_brings_it_back(page: browser.Browser, html: Path) -> None:
    page.run("document.querySelector('#standin .choose').open = true")
    page.click("#standin input[name=set][value=dmlab]")
    assert place(page, "Mean of 2 ↕".removesuffix(" ↕")) > 0
    page.run("const b = document.querySelector('#standin input[name=row][value^=\"adapter+pace\"]'); b.click()")
    assert names(page)[0] == "adapter" and page.run(f"return document.querySelector('{PANEL} tbody tr').cells[1]"
                                                    ".textContent").startswith("1")
    address = page.run("return location.href")
    page.open(html)
    page.run("location.href = arguments[0]", address)
    page.send("POST", "/execute/async", {"args": [], "script": "setTimeout(arguments[0], 100)"})
    assert names(page)[0] == "adapter" and place(page, "Mean of 2") > 0
    page.run("document.querySelector('#standin [data-do=reset]').click()")
    assert names(page)[0] == "adapter+pace" and place(page, "Mean of 3") > 0
    assert "=" not in page.run("return location.hash")


def test_a_table_is_copied_and_a_name_and_a_cell_open(page: browser.Browser) -> None:
    page.run("window.copied = []; Object.defineProperty(navigator, 'clipboard', {value: {writeText: async (t) => { "
             "window.copied.push(t); }}})")
    for what in ("markdown", "latex"):
        page.click(f"{PANEL} [data-do={what}]")
    markdown, latex = page.run("return window.copied")
    assert markdown.startswith("| Method | Rank |") and "| lora+pace |" in markdown
    assert latex.startswith("\\begin{tabular}") and "\\textless{}script\\textgreater{}alert(1)" in latex
    page.click(f"{PANEL} tbody tr:nth-child(1) .name")
    assert "Tuning: 3 configurations" in page.run("return document.getElementById('box').textContent")
    page.keys(ESCAPE)
    page.run(f"[...document.querySelectorAll('{PANEL} .name')].find(b => b.textContent === 'lora').click()")
    said = page.run("return document.getElementById('box').textContent")
    for part in ("LoRA: <b>low-rank</b> updates.", "Paper: Hu et al.", "Option rank = 8 (int)", "Printed in papers",
                 "PACE 2024, Table 1 (vtab1k)"):
        assert part in said
    page.keys(ESCAPE)
    page.click("#standin [role=tab]:nth-child(2)")
    page.click(f"{PANEL} tbody tr:nth-child(4) td")
    told = page.run("return document.getElementById('box').textContent")
    assert "lora on CIFAR-100" in told and "4 epochs, batches of 32" in told and "Training loss: seed 0" in told
    page.keys(ESCAPE)
