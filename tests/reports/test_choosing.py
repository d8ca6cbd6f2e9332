"""What a reader chooses on a page, compares and takes away, in one browser: each thing against Python's own numbers."""

from __future__ import annotations

import csv
import io
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reports import fields
from reports.cells import grid
from reports.pairs import Predictions, against, rank
from reports.suite import build_suite
from reports.world import World, worlds
from results.columns import Columns
from results.index import read
from results.suites import Column, Entry, SuiteView
from tests.reports import browser, fakes
from tests.reports.conftest import COLUMNS as COMMON

UNEVEN = replace(COMMON[1], metric="class_mean", classes=4)  # three classes of 20 items, one of 140
COLUMNS = (COMMON[0], Column("svhn", "SVHN", "natural", True, 10), UNEVEN, *COMMON[2:])
SKILLS = {"linear": 0.5, "lora": 0.62, "adapter": 0.7, "bitfit": 0.66, "full": 0.64, "ssf": 0.55}
PANEL = "#standin [role=tabpanel]:not([hidden])"
ROWS = f"[...document.querySelectorAll('{PANEL} tbody tr')].filter(r => !r.hidden)"


def made(root: Path) -> SuiteView:
    """Two seeds on stand-ins, one on digits; `full` lacks a data set, `bitfit` was tuned for each."""
    specs = []
    for column in COLUMNS:
        for m, (method, skill) in enumerate(SKILLS.items()):
            for seed in (0, 1) if column.standin else (0,):
                kind = "standin" if column.standin else "real"
                run = fakes.spec(column.name, method, seed, data=f"{kind}:{column.name}")
                specs.append(run)
                if method == "full" and column.name == "dmlab":
                    continue
                pred, label = fakes.answers(run.dataset, skill + 0.015 * ((m + seed) % 3), 200, f"{method}{seed}")
                right = pred == label
                result = fakes.record(run, float(right.mean()))
                if column is UNEVEN:
                    label = np.minimum(label, 3)
                    pred = np.where(right, label, (label + 1) % 4)
                    mean = float(np.mean([right[label == c].mean() for c in range(4)]))
                    result = replace(result, metrics=result.metrics | {"test.class_mean": mean})
                fakes.store(root, result, pred, label)
    suite = fakes.suite(specs, COLUMNS, list(SKILLS))
    rows = tuple(replace(row, pool="tuned per set" if row.method == "bitfit" else "plain") for row in suite.rows)
    return replace(suite, rows=rows, entries=tuple(Entry(s.id, s.dataset, s.method, fakes.BACKBONE, s.seed)
                                                   for s in specs))


@dataclass
class Here:
    """The page in a browser and what Python knows of it."""

    page: browser.Browser
    html: Path
    records: Columns
    standin: World
    real: World
    predictions: Predictions

    def run(self, script: str, *args: Any) -> Any:
        return self.page.run(script, *args)

    def rows(self) -> list[str]:
        return list(self.run(f"return {ROWS}.map(r => r.cells[0].textContent)"))

    def column(self, head: str) -> dict[str, str]:
        """Row -> what stands under a heading of the table that is shown."""
        found: dict[str, str] = self.run(f"""
          const heads = [...document.querySelectorAll('{PANEL} thead th')];
          const at = heads.findIndex((h) => h.textContent === arguments[0]);
          return Object.fromEntries({ROWS}.map((r) => [r.cells[0].textContent, r.cells[at]?.textContent]))""", head)
        return found

    def heads(self) -> list[str]:
        return list(self.run(f"return [...document.querySelectorAll('{PANEL} thead th')].filter(h => !h.hidden)"
                             ".map(h => h.textContent)"))

    def click(self, query: str) -> None:
        """As a mouse would, wherever the element lies on the page."""
        self.run("document.querySelector(arguments[0]).click()", query)

    def said(self) -> list[str]:
        return list(self.run("return [...document.querySelectorAll('#standin [data-say]')].filter(p => !p.hidden)"
                             ".map(p => p.dataset.say)"))

    def saved(self, query: str) -> tuple[str, str]:
        """(name, text) of the file that a click would download."""
        self.run("""window.files = [];
          URL.createObjectURL = (blob) => { window.blob = blob; return 'blob:none'; };
          HTMLAnchorElement.prototype.click = function () { window.files.push(this.download); };""")
        self.click(query)
        text = self.page.send("POST", "/execute/async", {"args": [], "script":
                              "const done = arguments[0]; window.blob.text().then(done)"})
        return str(self.run("return window.files[0]")), str(text)


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Here]:
    browser.require()
    root = tmp_path_factory.mktemp("choosing")
    suite = made(root / "runs")
    records = read(root / "runs", index=False)
    records.text["verdict"] = ["consistent" if method == "ssf" else "" for method in records.text["spec.method"]]
    by_run, predictions = records.by_run(), Predictions(records)
    standin, real = worlds(grid(suite, records, by_run, predictions.luck), predictions)
    html = root / "page.html"
    html.write_text(build_suite(suite, records, by_run, "site").files["demo.html"])
    session = browser.Browser(root / "profile")
    yield Here(session, html, records, standin, real, predictions)
    session.close()


@pytest.fixture
def here(opened: Here) -> Here:
    opened.page.open(opened.html)
    return opened


def test_rows_stand_by_rank_at_first_sight_in_every_table_of_rows(here: Here) -> None:
    ((ranked, _), *_) = (found for found in here.standin.ranked.values())
    best = [ranked.rows[i][0] for i in sorted(range(len(ranked.rows)), key=lambda i: -ranked.ranking.mean[i])]
    assert best == ["adapter", "lora", "ssf", "linear"], "bitfit is of another pool, full lacks a set"
    for tab in (1, 2, 5):
        here.click(f"#standin [role=tab]:nth-child({tab})")
        assert here.rows()[:4] == best


def test_a_button_chooses_all_or_none_of_a_group(here: Here) -> None:
    here.click("#standin fieldset [aria-label='All or none of Natural']")
    assert "Mean of 2" in here.heads() and "Natural (2)" not in here.heads() and here.said() == ["choice"]
    address = here.run("return location.hash")
    assert "standin.set=cifar100&standin.set=svhn" in address and address.count("set=") == 2
    here.click("#standin input[name=set][value=svhn]")
    assert {"Mean of 3", "Natural (1)"} <= set(here.heads()) and "VTAB, 3 groups" not in here.heads()
    here.click("#standin fieldset [aria-label='All or none of Natural']")
    assert "Mean of 4" in here.heads() and here.said() == [] and here.run("return location.hash") in ("", "#")


def test_a_choice_of_seeds_gives_their_means_and_withdraws_ranks_in_a_sentence(here: Here) -> None:
    here.click("#standin input[name=seed][value='1']")
    assert here.said() == ["choice", "seeds"]
    assert set(here.column("Rank").values()) == set(here.column("Tie").values()) == {"–"}
    assert "Below the best" not in here.heads()
    for row in here.standin.rows:
        values = [here.standin.grid.cell(row, column).values for column in here.standin.columns]
        wanted = f"{100 * sum(v[0] for v in values) / 4:.1f}" if all(values) else "3/4"
        assert here.column("Mean of 4")[row.method] == wanted
    here.click("#standin [role=tab]:nth-child(2)")
    cell = here.standin.grid.cell(here.standin.rows[1], here.standin.columns[0])
    assert here.column("CIFAR-100")["lora"] == f"{100 * cell.values[0]:.1f}" != f"{100 * cell.mean:.1f}"
    here.click("#standin input[name=seed][value='1']")
    assert here.said() == [] and here.column("CIFAR-100")["lora"] == fields.accuracy(cell).text


@pytest.mark.parametrize(("name", "most", "kept"), [
    ("thousands", "5.5", {"lora", "ssf", "full"}), ("kib", "400", {"lora", "ssf", "full"}),
    ("ms", "4.5", {"lora", "ssf", "full"}), ("thousands", "7000", set(SKILLS)), ("thousands", "", set(SKILLS)),
    ("thousands", "1e-3", set())])
def test_a_budget_keeps_the_rows_that_fit_it(here: Here, name: str, most: str, kept: set[str]) -> None:
    here.run("""const input = document.querySelector(`#standin input[name=${arguments[0]}]`);
      input.value = arguments[1]; input.dispatchEvent(new Event('input', { bubbles: true }))""", name, most)
    assert set(here.rows()) == kept
    assert (f"standin.{name}={most}" in here.run("return location.hash")) is bool(most)


def test_only_rows_that_merge_can_be_kept(here: Here) -> None:
    here.click("#standin input[name=merge]")  # params.extra_inference_merged is 0 in the made-up records
    assert set(here.rows()) == set(SKILLS)
    here.run("worlds.get(document.getElementById('standin')).rows[1].stays = 8")
    here.click("#standin input[name=merge]"), here.click("#standin input[name=merge]")
    assert set(here.rows()) == set(SKILLS) - {"lora"}


def test_pools_and_verdicts_are_chosen_and_pools_ranked_together_when_told(here: Here) -> None:
    assert here.column("Rank")["bitfit"] == "–"
    here.click("#standin input[name=across]")
    rows = [row for row in here.standin.rows if row.method != "full"]
    (ranked,) = rank(here.standin.grid, here.predictions, rows, here.standin.columns)
    for (method, _), (low, high) in zip(ranked.rows, ranked.ranking.ranks, strict=True):
        assert here.column("Rank")[method] == (f"{low}" if low == high else f"{low}–{high}")
    here.click("#standin input[name=across]")
    here.click("#standin input[name=pool][value=plain]")
    assert here.rows() == ["bitfit"] and here.said() == ["choice"]
    here.click("#standin input[name=pool][value=plain]")
    here.click("#standin input[name=verdict][value=own]")
    assert here.rows() == ["ssf"]
    here.click("#standin [data-do=reset]")
    assert len(here.rows()) == len(SKILLS) and here.said() == []


def test_a_column_is_hidden_and_its_place_is_in_the_address(here: Here) -> None:
    here.click(f"{PANEL} input[name=column][value$=':Tie']")
    assert "Tie" not in here.heads() and "Tie" not in here.saved(f"{PANEL} [data-do=csv]")[1]
    address = here.run("return location.href")
    here.page.open(here.html)
    assert "Tie" in here.heads()
    here.run("location.href = arguments[0]; restore()", address)
    assert "Tie" not in here.heads()


@pytest.mark.parametrize("said", ["tab=zz&standin.sort0=length+up", "tab=99&standin.sort0=99+descending", "nothing=1",
                                  "kib=abc&standin.set=no+such+set"])
def test_an_address_that_says_nothing_sensible_does_no_harm(here: Here, said: str) -> None:
    here.run("location.hash = `#standin.${arguments[0]}`; restore()", said)
    assert set(here.rows()) == set(SKILLS) and here.said() == [] and "Mean of 4" in here.heads()


def test_data_sets_are_shown_as_points_below_the_best_of_each(here: Here) -> None:
    here.click("#standin input[name=apart]")
    here.click("#standin [role=tab]:nth-child(2)")
    (column,) = (c for c in here.standin.columns if c.name == "cifar100")
    means = {row.method: here.standin.grid.cell(row, column).mean for row in here.standin.rows}
    ranked = ("adapter", "lora", "ssf", "linear")
    wanted = {m: f"{100 * (max(means[r] for r in ranked) - means[m]):.1f}" if m in ranked else "–" for m in means}
    assert here.column("CIFAR-100") == wanted


def test_two_rows_are_compared_as_python_compares_them(here: Here) -> None:
    """Difference, interval's verdict and Holm's p, for rows of two seeds and, exactly, of one."""
    for world, key in ((here.standin, "standin"), (here.real, "real")):
        here.page.open(here.html)
        rows = {row.method: row for row in world.rows}
        peers = [rows[m] for m in ("lora", "adapter", "ssf") + (("full",) if key == "real" else ())]
        told = against(world.grid, here.predictions, peers, rows["linear"], world.columns)["lora", fakes.BACKBONE]
        for method in ("lora", "linear"):
            here.click(f"#{key} input[name=pair][value^='{method} on']")
        lines = here.run(f"return [...document.querySelectorAll('#{key} [data-live=pair] tbody tr')].map(r => "
                         "[r.dataset.set, ...[...r.cells].map(c => c.textContent)])")
        assert [line[0] for line in lines] == [c.name for c in world.columns]
        for name, _, first, second, gap, p, verdict in lines:
            difference, wanted = told.deltas[name]
            assert gap.split(" [")[0] == fields.points(difference) and float(p) == pytest.approx(wanted, rel=0.006)
            assert float(first) - float(second) == pytest.approx(100 * difference, abs=0.11)
            sure = "better" if difference > 0 else "worse"
            assert verdict == (sure if wanted <= 0.05 else "not told apart") + (" (runs)" if key == "real" else "")
        assert here.run(f"return document.querySelectorAll('#{key} [data-live=pair] svg .mark').length") == len(lines)
        assert here.run(f"return document.querySelectorAll('#{key} input[name=pair]:disabled').length") == len(rows) - 2


def test_critical_differences_show_each_ranked_row_and_a_bar_for_each_tie_group(here: Here) -> None:
    found = {key: (ranked.ranking.letters[i], 100 * ranked.ranking.mean[i])
             for key, (ranked, i) in here.standin.ranked.items()}
    tips = here.run("return [...document.querySelectorAll('#standin [data-live=ties] .mark')].map(m => m.dataset.tip)")
    assert len(tips) == len(found) == 4
    for (method, _), (letters, mean) in found.items():
        (tip,) = [t for t in tips if t.startswith(f"{method}\n")]
        assert f"mean {mean:.1f} %" in tip and tip.endswith(f"tie group {letters}")
    groups = {letter for letters, _ in found.values() for letter in letters}
    dots = sum(len(letters) for letters, _ in found.values())
    assert here.run("return document.querySelectorAll('#standin [data-live=ties] circle:not(.mark)').length") == dots
    lines = "#standin [data-live=ties] line[stroke-width='4']"
    bars = here.run("return new Set([...document.querySelectorAll(arguments[0])].map(b => b.getAttribute('x1'))).size",
                    lines)
    assert bars == len(groups)


def test_points_and_rows_answer_to_each_other(here: Here) -> None:
    here.page.hover(f"{PANEL} tbody tr:nth-child(1) td:nth-child(2)")
    tips = here.run("return [...document.querySelectorAll('#standin svg .mark.lit')].map(m => m.dataset.tip)")
    assert len(tips) >= 4 and {re.split("\n| is better|,| on ", text)[0] for text in tips} == {"adapter"}
    here.page.hover("#standin [data-live=ties] .mark[data-name=linear]")
    lit = here.run(f"return {ROWS}.filter(r => r.classList.contains('lit')).map(r => r.cells[0].textContent)")
    assert lit == ["linear"]


def test_a_table_is_saved_as_csv_and_a_picture_as_svg(here: Here) -> None:
    name, text = here.saved(f"{PANEL} [data-do=csv]")
    assert name == "standin-accuracy.csv"
    head, *body = csv.reader(io.StringIO(text))
    assert head == here.heads() and [line[0] for line in body] == here.rows()
    assert {line[0]: line[3] for line in body} == here.column("Mean of 4")
    for query in ("#standin [data-live=ties] [data-do=svg]", "#standin .plots:not(.live) [data-do=svg]"):
        name, text = here.saved(query)
        drawn = ET.fromstring(text)
        assert name.endswith(".svg") and drawn.tag == "{http://www.w3.org/2000/svg}svg"
        assert "var(" not in text and re.search(r"#[0-9a-f]{6}", text), "colours are as they are now"


def test_the_accessibility_tree_names_what_can_be_used(here: Here) -> None:
    """Roles and names as Chromium hands them to a screen reader."""
    tree = here.page.send("POST", "/goog/cdp/execute", {"cmd": "Accessibility.getFullAXTree", "params": {}})["nodes"]
    nodes = [(n["role"]["value"], n.get("name", {}).get("value", ""),
              {p["name"]: p["value"].get("value") for p in n.get("properties", ())}) for n in tree if not n["ignored"]]
    roles = {role for role, _, _ in nodes}
    assert {"banner", "main", "navigation", "region", "tablist", "tab", "tabpanel", "table", "rowheader", "status",
            "columnheader", "searchbox", "combobox", "checkbox", "button"} <= roles
    for role, name, facts in nodes:
        if facts.get("focusable") and role not in ("RootWebArea", "generic", "scrollbar"):
            assert name.strip(), f"a {role} that can be reached has no name"
    assert [facts["selected"] for role, _, facts in nodes if role == "tab"].count(True) == 2, "one tab for each world"
    assert ("searchbox", "Filter tables and pictures") in [(role, name.strip()) for role, name, _ in nodes]
    assert any(role == "checkbox" and name == "Compare lora with another row" for role, name, _ in nodes)


def test_the_keyboard_alone_opens_a_cell_and_comes_back_to_it(here: Here) -> None:
    here.run("document.querySelector('#standin [role=tab]:nth-child(2)').click()")
    stops = here.run(f"return document.querySelectorAll('{PANEL} tbody td[tabindex=\"0\"]').length")
    assert stops == 1, "arrows move inside a table: one stop for the tab key"
    here.run(f"document.querySelector('{PANEL} tbody td[tabindex=\"0\"]').focus()")
    assert here.run("return document.activeElement.getAttribute('aria-describedby')") == "tip"
    here.page.keys("\ue007")
    assert here.run("return document.getElementById('box').open")
    assert "linear on CIFAR-100" in here.run("return document.getElementById('box').textContent")
    assert here.run("return document.activeElement.id") == "box-title", "it is read from its head, however long it is"
    here.page.keys("\ue00c")
    assert here.run("return [document.getElementById('box').open, document.activeElement.tagName]") == [False, "TD"]
    here.page.type("#standin input[name=words]", "adapter")
    shown = here.run(f"return [...document.querySelectorAll('{PANEL} tbody td[tabindex=\"0\"]')].filter(c => "
                     "c.offsetParent).length")
    assert shown == 1, "where the stop was filtered away, another cell is one"
