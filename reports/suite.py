"""One suite from its records to texts: a section of markdown, CSV, LaTeX, pictures and a page."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from results.columns import Columns
from results.published import PrintedTable, load_published
from results.schema import RecordError
from results.spoken import many, word
from results.suites import SuiteView

from . import (
    accuracy,
    budgets,
    choice,
    costs,
    effects,
    inside,
    ladder,
    ledger,
    page,
    pictures,
    plots,
    ran,
    told,
    tuning,
)
from .answered import Answered
from .behind import behind
from .cells import grid
from .kept import records_hash
from .latex import latex
from .pairs import Predictions
from .table import Table, markdown, md, to_csv
from .world import World, banner, worlds

LEARNING_RUNS = 1000  # more runs than this would make a page of many megabytes


@dataclass
class Built:
    """What one suite became: its section of the page and files beside it, by relative name."""

    suite: SuiteView
    records: str  # hash of the suite and of its records
    section: str
    files: dict[str, str] = field(default_factory=dict)
    sections: list[page.Section] = field(default_factory=list)  # one for each world


def build_suite(suite: SuiteView, records: Columns, by_run: Mapping[str, int], folder: str,
                selections: Path | None = None, with_page: bool = True, answered: Answered | None = None,
                home: str = "", across: bool = False, pages: Mapping[str, str] | None = None) -> Built:
    """Everything of one suite; `folder` is where its files lie, seen from the markdown page, `home` where the page's
    own contents lie, seen from the page; `across`: rows of different pools are ranked together;
    `pages`: addresses of runs' own pages, seen from the page."""
    built = Built(suite, records_hash(suite, records, by_run, selections), "")
    tuned = tuning.load(suite.name, selections) if selections else tuning.Tuned()
    predictions = Predictions(records, answered)
    papers = load_published(on_error=_told) if with_page or not all(c.standin for c in suite.columns) else []
    present = sum(e.run_id in by_run for e in suite.entries)
    possible = sum(not e.refused for e in suite.entries)
    parts = [f"## {md(suite.title)}", md(suite.note),
             f"Suite `{suite.name}`: {present} of {many(possible, 'run')} {word(present, 'has', 'have')} a record. "
             f"Records `{built.records}`."]
    if with_page:
        parts.append(f"[Page with sortable tables and more pictures]({folder}/{suite.name}.html)")
    sections = []
    for world in worlds(grid(suite, records, by_run, predictions.luck), predictions, across):
        prices = pictures.pictures(world)
        section = _section(world, predictions, papers, tuned, prices if with_page else None)
        sections.append(section)
        parts.append(f"### {md(banner(world))}")
        for table in section.tables:
            parts.append(markdown(table).rstrip())
            built.files[f"{suite.name}-{table.key}.csv"] = to_csv(table, built.records)
            built.files[f"{suite.name}-{table.key}.tex"] = latex(
                table, built.records, suite.name, [i for i, row in enumerate(table.rows) if world.mixed
                                                   or row in world.foreign])
        parts += _pictures(world, prices, built, folder)
        parts.append(_links(suite, section.tables, folder))
        name = f"{suite.name}-{world.key}-runs.csv"
        built.files[name] = ran.runs_csv(world, built.records)
        parts += filter(None, [ran.sentence(world, f"{folder}/{name}")])
    if with_page:
        built.files[f"{suite.name}.html"] = page.page(suite, built.records, present, sections, home,
                                                         behind(suite, pages or {}))
    built.sections = sections
    built.section = "\n\n".join(p for p in parts if p) + "\n"
    return built


def _told(error: RecordError) -> None:
    """A faulty file of printed numbers: its rows are missing, and the tables are built all the same."""
    print(f"reports: results/published/{error}", file=sys.stderr)


def _section(world: World, predictions: Predictions, papers: Sequence[PrintedTable], tuned: tuning.Tuned,
             prices: Sequence[pictures.Picture] | None) -> page.Section:
    """Tables of one world, for markdown and page alike; with `prices` also what a page draws."""
    found = effects.effects(world, predictions)
    said, reports = inside.reported(world)
    section = page.Section(world, [*accuracy.accuracies(world), costs.memory(world), costs.throughput(world),
                                   *([effects.table(world, found)] if found else []),
                                   *([said] if said is not None else []), *tuning.tables(world, tuned),
                                   *filter(None, [budgets.table(world, tuned.trials),
                                                  ladder.table(world, predictions, tuned.trials)]),
                                   *ledger.sections(world, papers)])
    if prices is None:
        return section
    section.facts = choice.facts(world, predictions) | {"about": told.about(world, papers)}
    section.plots = [plots.Plot(p.key, p.title, f"★ {pictures.STARRED}.",
                                pictures.drawn(p, world, inside=True), p.tips()) for p in prices]
    more = [plots.heat_map(world), plots.rank_ranges(world), plots.wins(world),
            plots.matrix(world, found) if found else None, plots.shots(world), *budgets.curves(world, tuned.trials),
            *reports]
    section.plots += [plot for plot in more if plot is not None]
    runs = sum(map(len, world.runs.values()))
    if runs > LEARNING_RUNS:
        section.left_out = f"Learning curves are drawn for at most {LEARNING_RUNS:,} runs; this suite has {runs:,}."
    else:
        section.learning = inside.curves(world, tuned)
        section.facts["told"] = told.runs(world)
    return section


def _pictures(world: World, prices: Sequence[pictures.Picture], built: Built, folder: str) -> list[str]:
    found = [p for p in prices if not p.key.endswith("-speed")]
    if not found:
        return ["*No picture: fewer than two rows are complete.*"]
    parts = []
    for picture in found:
        name = f"{built.suite.name}-{picture.key}.svg"
        built.files[name] = pictures.svg(picture, world, built.records)
        front = ", ".join(md(label) for label in picture.front) or (
            "none is marked, as rows differ in protocol" if world.mixed else "none")
        parts.append(f"![{md(picture.title)}]({folder}/{name})\n\n{md(picture.title)}, {md(banner(world))}. "
                     f"Pareto rows ({pictures.STARRED}): {front}.")
    return parts


def _links(suite: SuiteView, shown: Sequence[Table], folder: str) -> str:
    names = [(t.key, f"{folder}/{suite.name}-{t.key}") for t in shown]
    return "Files: " + ", ".join(f"[{key}]({path}.csv) ([LaTeX]({path}.tex))" for key, path in names) + "."
