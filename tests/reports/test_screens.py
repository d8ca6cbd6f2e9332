"""The site on screens of several widths: everything is inside its box, or its box says that it goes on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from reports import cli
from results import schema
from results.suites import Row, save_suite
from tests.reports import browser, fakes
from tests.reports.conftest import COLUMNS

SKILLS = {"linear": 0.5, "lora": 0.62, "adapter_pfeiffer": 0.7, "lora(rank=16,dropout=0.25)+pace": 0.66, "full": 0.68}
TUNING = "none: one learning rate for adapters, one for the whole network; TUNE=4 searches four each"
PHONE, DESK = 400, 1400
PAGES = ("index.html", "suites/own-demo.html", "methods/lora.html", "data/digits.html")
# what lies outside its box by more than a pixel, but for the ground of a picture, which has no colour
OUTSIDE = """
const box = document.querySelector(arguments[0]).getBoundingClientRect();
return [...document.querySelectorAll(`${arguments[0]} :is(text, circle, path, line)`)].filter((one) => {
  const at = one.getBoundingClientRect();
  const inside = at.left > box.left - 1 && at.right < box.right + 1 && at.bottom < box.bottom + 1;
  return !inside && !one.closest("defs, [id$=-patch_1]");
}).map((one) => one.textContent || one.tagName);
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("screens")
    history = tuple({"epoch": float(e), "train.loss": 2.0 / e} for e in (1, 2, 3))
    specs = []
    for column in COLUMNS:
        for method, skill in SKILLS.items():
            run = fakes.spec(column.name, method, data=("standin:" if column.standin else "real:") + column.name)
            specs.append(run)
            fakes.scored(root / "runs", run, skill, method=schema.MethodInfo(method, f"src-{method}"), history=history)
    rows = tuple(Row(m, fakes.BACKBONE, TUNING, "", f"src-{m}") for m in SKILLS)
    save_suite(replace(fakes.suite(specs, COLUMNS, list(SKILLS)), rows=rows), root / "suites")
    words = ["--records", str(root / "runs"), "--suites", str(root / "suites"), "--out"]
    assert cli.main(["build", *words, str(root / "built")]) == 0
    assert cli.main(["site", *words, str(root / "site"), "--reference", str(root), "--received", str(root)]) == 0
    (root / "built" / "site" / "index.html").rename(root / "site" / "front.html")
    return root / "site"


@pytest.fixture(scope="module")
def screen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[browser.Browser]:
    browser.require()
    session = browser.Browser(tmp_path_factory.mktemp("profile"), bars=True)
    yield session
    session.close()


def opened(screen: browser.Browser, page: Path, width: int) -> browser.Browser:
    screen.resize(width)
    screen.open(page)
    return screen


@pytest.mark.parametrize("width", [PHONE, DESK])
@pytest.mark.parametrize("page", PAGES)
def test_no_page_scrolls_sideways(screen: browser.Browser, site: Path, page: str, width: int) -> None:
    assert opened(screen, site / page, width).run("return document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("page", ["index.html", "methods/lora.html", "data/digits.html", "front.html"])
def test_a_plain_table_is_a_list_on_a_phone_and_no_cell_loses_its_heading(screen: browser.Browser, site: Path,
                                                                         page: str) -> None:
    found = opened(screen, site / page, PHONE).run("""
      return [...document.querySelectorAll(".scroll:not(.facts)")].map((box) => [
        box.scrollWidth - box.clientWidth, box.scrollHeight - box.clientHeight,
        [...box.querySelectorAll("thead th")].slice(1).map((head) => head.textContent),
        [...box.querySelectorAll("tbody tr:first-child td")].map((cell) =>
          getComputedStyle(cell, "::before").content.replace(/^"|: "$/g, ""))]);""")
    assert found
    for wider, taller, heads, said in found:
        assert (wider, taller) == (0, 0) and heads == said != []


@pytest.mark.parametrize("width", [PHONE, DESK])
def test_bars_of_ties_and_ranks_and_names_of_points_and_lines_are_inside(screen: browser.Browser, site: Path,
                                                                        width: int) -> None:
    opened(screen, site / "suites" / "own-demo.html", width)
    titles = screen.run("return [...document.querySelectorAll('#standin figure')].map((one, i) => { "
                        "one.id = `figure${i}`; return one.hidden ? '' : one.querySelector('h3').textContent; })")
    for wanted in ("Critical differences", "Rank ranges", "Accuracy against trained parameters", "Learning curves"):
        (place,) = (i for i, title in enumerate(titles) if title.startswith(wanted))
        box = f"#figure{place} .picture:not([hidden])"
        assert screen.run(OUTSIDE, box) == [], wanted
        words = " ".join(screen.run(f"return [...document.querySelectorAll('{box} text')].map((t) => t.textContent)"))
        assert "adapter_pfeiffer" in words and "linear" in words


def test_names_stand_beside_the_axes_on_a_desk_and_below_them_on_a_phone(screen: browser.Browser, site: Path) -> None:
    for width, below in ((DESK, False), (PHONE, True)):
        opened(screen, site / "suites" / "own-demo.html", width)
        axis, name = screen.run("""
          return ["xtick_1'] text", "aside0'] text"].map((part) => document.querySelector(
            `#standin [id^='standin-standin-params'][id$='${part}`).getBoundingClientRect().top);""")
        assert (name > axis) == below


def test_tuning_is_broken_into_lines_on_a_desk(screen: browser.Browser, site: Path) -> None:
    wider, lines = opened(screen, site / "suites" / "own-demo.html", DESK).run("""
      const panel = document.querySelector("#real [role=tabpanel]:not([hidden])"), box = panel.querySelector(".scroll");
      const cell = panel.querySelector("td.prose");
      return [box.scrollWidth - box.clientWidth, cell.offsetHeight / 16];""")
    assert wider == 0 and lines > 2


def test_what_goes_on_beyond_its_box_has_a_bar_and_a_shade(screen: browser.Browser, site: Path) -> None:
    found = opened(screen, site / "suites" / "own-demo.html", PHONE).run("""
      return [...document.querySelectorAll(".scroll, .picture")].filter((box) => box.scrollWidth > box.clientWidth
        && getComputedStyle(box).overflowX !== "clip").map((box) => [box.offsetHeight - box.clientHeight,
          getComputedStyle(box).backgroundAttachment.includes("local")]);""")
    assert len(found) >= 2 and all(bar >= 10 and shade for bar, shade in found)
