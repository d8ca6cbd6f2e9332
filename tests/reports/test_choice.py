"""What the page computes for a choice of data sets and rows is what Python says of the same choice."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reports import fields, page, summary
from reports.cells import grid
from reports.pairs import Predictions, rank
from reports.suite import build_suite
from reports.world import World, worlds
from results.index import read
from results.suites import Entry, SuiteView
from tests.reports import browser, fakes
from tests.reports.conftest import COLUMNS

SKILLS = {"linear": 0.5, "lora": 0.62, "adapter": 0.7, "bitfit": 0.635, "full": 0.64, "twin": 0.7}
SETS = tuple(c for c in COLUMNS if c.standin)


def made(root: Path) -> SuiteView:
    """Rows of two seeds and of one, a row that lacks a data set, two rows with the same answers."""
    specs = []
    for d, column in enumerate(SETS):
        for m, (method, skill) in enumerate(SKILLS.items()):
            for seed in (0, 1) if method != "bitfit" else (0,):
                run = fakes.spec(column.name, method, seed, data=f"standin:{column.name}")
                specs.append(run)
                if method == "full" and column.name == "dmlab":
                    continue
                pred, label = fakes.answers(run.dataset, skill + 0.02 * ((d + m + seed) % 3) * (method != "twin"), 200,
                                            f"{column.name}{'adapter' if method == 'twin' else method}{seed}")
                fakes.store(root, fakes.record(run, float((pred == label).mean())), pred, label)
    suite = fakes.suite(specs, SETS, list(SKILLS))
    return replace(suite, entries=tuple(Entry(s.id, s.dataset, s.method, fakes.BACKBONE, s.seed) for s in specs))


def said(world: World, predictions: Predictions, sets: list[int], rows: list[int]) -> dict[str, list[str]]:
    """Python's rank, tie group and mean of the chosen rows."""
    columns = tuple(world.columns[d] for d in sets)
    held = {key: (found, i) for found in rank(world.grid, predictions, [world.rows[k] for k in rows], columns)
            for i, key in enumerate(found.rows)}
    chosen = replace(world, columns=columns, ranked=held)
    return {str(k): [*(f.text for f in summary.ranks(chosen, world.rows[k])),
                     fields.mean_of(world.grid, world.rows[k], columns).text] for k in rows}


def test_means_rank_ranges_and_ties_of_fifty_choices_are_python_s(tmp_path: Path) -> None:
    browser.require()
    suite = made(tmp_path / "runs")
    records = read(tmp_path / "runs", index=False)
    by_run, predictions = records.by_run(), Predictions(records)
    (world,) = worlds(grid(suite, records, by_run, predictions.luck), predictions)
    html = tmp_path / "page.html"
    html.write_text(build_suite(suite, records, by_run, "site").files["demo.html"])
    choices, rng = [], random.Random(0)
    for _ in range(50):
        sets = sorted(rng.sample(range(len(SETS)), rng.randint(1, len(SETS))))
        choices.append((sets, sorted(rng.sample(range(len(SKILLS)), rng.randint(1, len(SKILLS))))))
    session = browser.Browser(tmp_path / "profile")
    try:
        session.open(html)
        found: list[dict[str, Any]] = session.run("""
          const section = document.querySelector('section.world'), facts = worlds.get(section);
          return arguments[0].map(([sets, rows]) => {
            boxes(section, 'set').forEach((box) => {
              box.checked = sets.includes(facts.sets.findIndex((s) => s.name === box.value)); });
            boxes(section, 'row').forEach((box, k) => { box.checked = rows.includes(k); });
            show(section);
            return Object.fromEntries([...section.querySelectorAll('[role=tabpanel] tbody')][0].rows ?
              [...section.querySelector('tbody').rows].filter((r) => !r.hidden).map((r) =>
                [r.dataset.row, [1, 2, 3].map((j) => r.cells[j].textContent)]) : []);
          });""", choices)
    finally:
        session.close()
    for choice, answer in zip(choices, found, strict=True):
        assert answer == said(world, predictions, *choice), choice


def test_the_scripts_are_small_and_their_lines_short() -> None:
    texts = [(page.HERE / name).read_text() for name in page.SCRIPTS]
    assert sum(len(text.encode()) for text in texts) < 38_700  # of which page.js may have 30,000 by promise
    assert max(len(line) for text in texts for line in text.splitlines()) <= 120


@pytest.mark.parametrize("text", ["</script><b>", "a&b", "\u2028"])
def test_facts_cannot_end_their_element(text: str) -> None:
    import json

    shown = page._json({"name": text})
    assert not set(shown) & set("<>&\u2028") and json.loads(shown) == {"name": text}
