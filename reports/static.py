"""A static site of every suite that is given: own, reference and received ones; index, suites, methods, data, runs.

Files and relative links alone: it opens from a disk and wants no network. Equal records give equal bytes. Nothing is
judged anew here: what a page says of a method is what the suites' own tables say, suite by suite, never across them.

    index.html                      every suite, method and data set
    suites/<origin>-<name>.html     the page that `build` writes
    methods/<name>.html             its card, where its files are documented, every result, where it is Pareto
    data/<name>.html                a data set with every result on it
    runs/<origin>/<id>.html         how a run was made, in words
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from results import received, store
from results.columns import Columns
from results.index import read
from results.schema import RecordError
from results.spoken import many
from results.suites import Column, Row, SuiteView, load_suite, load_suites

from . import fields, pictures, sheet, story
from .cards import DOCS, cards_of, parts_of
from .leaderboard import put
from .page import Section
from .sheet import Cell, Link, Several
from .suite import build_suite
from .world import World

Tell = Callable[[str], None]  # of what cannot be read and is left out
RUNS = 5000  # pages of runs at most; suites behind that have none, and the index says so
WHOSE = {"own": "made in this checkout", "reference": "the repository's own published runs",
         "received": "received from elsewhere"}


@dataclass(frozen=True)
class Source:
    """A suite with the folder of its records."""

    origin: str  # own, reference, received, with the archive's first digits behind that
    suite: SuiteView
    records: Path

    @property
    def key(self) -> str:
        return f"{self.origin}-{self.suite.name}"

    @property
    def judged(self) -> bool:
        """Whether its runs were made elsewhere, so that they are believed as far as they were checked."""
        return self.origin.startswith("received")

    @cached_property
    def verdicts(self) -> dict[str, received.Judged]:
        return received.verdicts(self.records)

    def verdict(self, run: str) -> str:
        """What `submit-check` found here of a received run."""
        found = self.verdicts.get(run)
        return f"{found.verdict}: {found.why}" if found else "not checked here"

    @property
    def page(self) -> str:
        return f"suites/{sheet.slug(self.key)}.html"


@dataclass(frozen=True)
class Result:
    """One cell of a suite's table."""

    source: Source
    row: Row
    column: Column
    shown: str
    pool: str  # of entrants: how the row came by its settings
    runs: tuple[Link, ...]


@dataclass
class Site:
    """What is gathered, suite after suite, until the pages across suites are written."""

    results: list[Result] = field(default_factory=list)
    front: dict[str, list[tuple[Source, str]]] = field(default_factory=dict)  # method -> pictures in which it is Pareto
    suites: list[tuple[Cell, ...]] = field(default_factory=list)
    ours: dict[str, set[str]] = field(default_factory=dict)
    pages: int = 0
    untold: list[str] = field(default_factory=list)  # suites whose runs have no pages
    unreadable: list[str] = field(default_factory=list)  # what is left out, and why


def sources(own: Path, own_suites: Path, reference: Path, others: Path,
            on_error: Tell = lambda told: None) -> list[Source]:
    """Every suite that is there; folders that are not there have none. A received one that cannot be read is told."""
    found = [Source("own", suite, own) for suite in load_suites(own_suites)] if own.is_dir() else []
    found += [Source("reference", load_suite(path), path.parent) for path in sorted(reference.glob("*/suite.json"))]
    for path in sorted(others.glob("*/suite.json")):
        made = f"received-{path.parent.name[:8]}"
        try:
            received.verdicts(path.parent)
            found.append(Source(made, load_suite(path), path.parent))
        except RecordError as error:
            on_error(f"{made}, the whole pack: {error}")
    return found


def build(given: Sequence[Source], out: Path, docs: Path = DOCS, on_error: Tell = lambda told: None) -> int:
    """Write the site into a folder; returns how many files it has.

    Records that cannot be read are left out, named on the first page and told to `on_error`. Raises RecordError where
    an own or a reference folder has two records of one run; a received one is left out.
    """
    site, written, told, read_already = Site(), [], dict[str, set[str]](), dict[Path, Columns]()
    runs: list[tuple[Source, str, Path]] = []
    for source in given:
        def tell(error: RecordError, whose: str = source.origin) -> None:
            site.unreadable.append(f"{whose}: {error}")
            on_error(site.unreadable[-1])

        if source.records not in read_already:
            read_already[source.records] = _records(source, tell)
        columns = read_already[source.records]
        try:
            by_run = columns.by_run()
        except RecordError as error:
            if not source.judged:
                raise
            tell(error)
            continue
        wanted = [e.run_id for e in source.suite.entries if e.run_id in by_run]
        pages = told.setdefault(source.origin, set())
        fresh = [run for run in dict.fromkeys(wanted) if run not in pages]
        if site.pages + len(fresh) <= RUNS:
            runs += [(source, run, source.records / columns.get_text("path", by_run[run])) for run in fresh]
            pages.update(fresh)
            site.pages += len(fresh)
        else:
            site.untold.append(source.key)
        built = build_suite(source.suite, columns, by_run, "", home="../index.html",
                            pages={run: f"../{_page_of(source, run)}" for run in wanted if run in pages})
        written.append(put(out / source.page, built.files[f"{source.suite.name}.html"]))
        _gather(site, source, by_run, built.sections, pages)
        possible = sum(not e.refused for e in source.suite.entries)
        kinds = dict.fromkeys(_kind(c) for c in source.suite.columns)
        site.suites.append((Link(source.suite.title, source.page), _whose(source, wanted), " and ".join(kinds),
                            f"{len(wanted)} of {possible}", built.records))
    cards = {part: lines for source in given for part, lines in source.suite.about.items()} | cards_of(docs)
    methods = sorted({r.row.method for r in site.results})
    sets = sorted({r.column.run_dataset or r.column.name for r in site.results})
    written += [put(out / _page_of(source, run), _run(source, run, path, methods)) for source, run, path in runs]
    written += [put(out / _method_page(m), _method(site, m, cards)) for m in methods]
    written += [put(out / _data_page(name), _data(site, name)) for name in sets]
    written.append(put(out / sheet.STYLE, sheet.style()))
    written.append(put(out / "index.html", _index(site, methods, sets)))
    return len(written)


def _records(source: Source, on_error: Callable[[RecordError], None]) -> Columns:
    """With the verdicts of received ones, which a page shows and filters by; what was not checked here is a claim."""
    columns = read(source.records, index=source.origin == "own", on_error=on_error)
    if source.judged:
        verdicts = source.verdicts
        columns.text["verdict"] = [verdicts[run].verdict if run in verdicts else "claimed"
                                   for run in columns.text.get("run_id", [])]
    return columns


def _gather(site: Site, source: Source, by_run: Mapping[str, int], sections: Sequence[Section],
            pages: set[str]) -> None:
    """The cells of a suite's tables with all runs that were made for them, and where a row is Pareto."""
    for world in (s.world for s in sections):
        made: dict[tuple[str, str, str], list[Link]] = {}
        for e in world.grid.suite.entries:
            if e.run_id in by_run:
                made.setdefault((e.method, e.backbone, e.dataset), []).append(
                    Link(f"seed {e.seed}", _page_of(source, e.run_id) if e.run_id in pages else ""))
        for row in world.rows:
            for column in (*world.columns, *world.aside):
                cell = world.grid.cell(row, column)
                if not cell.wanted and cell.state != "refused":
                    continue
                links = made.get((row.method, row.backbone, column.run_dataset or column.name), [])
                shown = fields.accuracy(cell, whole=True).text
                site.results.append(Result(source, row, column, shown, world.pool(row), tuple(links)))
            site.ours.setdefault(row.method, set()).update(world.words("method.ours", row))
        for method, words in _fronts(world):
            site.front.setdefault(method, []).append((source, words))


def _whose(source: Source, runs: Sequence[str]) -> str:
    """Where a suite's runs come from; of received ones also how many have which verdict."""
    if not source.judged:
        return WHOSE[source.origin]
    found = Counter(source.verdict(run).partition(":")[0] for run in runs)
    return f"{WHOSE['received']}; " + ", ".join(f"{verdict}: {n}" for verdict, n in sorted(found.items()))


def _fronts(world: World) -> Iterator[tuple[str, str]]:
    """(method, what it is Pareto in) of one world."""
    names = {pictures.label_of(world, row): row.method for row in world.rows}
    kind = "stand-in data" if world.standin else "real data"
    for picture in pictures.pictures(world):
        for label in picture.front:
            yield names[label], f"{picture.title}, {kind}"


def _kind(column: Column) -> str:
    """What every table that mixes both kinds says of a row's data, as its numbers look alike."""
    return "stand-in" if column.standin else "real"


def _page_of(source: Source, run: str) -> str:
    return f"runs/{source.origin}/{run}.html"


def _method_page(method: str) -> str:
    return f"methods/{sheet.slug(method)}.html"


def _data_page(name: str) -> str:
    return f"data/{sheet.slug(name)}.html"


def _run(source: Source, run: str, path: Path, methods: Sequence[str]) -> str:
    record = store.load(path)
    entry = next(e for e in source.suite.entries if e.run_id == run)
    page = _method_page(entry.method) if entry.method in methods else ""
    links = {"suite": Link(source.suite.title, source.page), "method": Link(entry.method, page),
             "data set": Link(entry.dataset, _data_page(entry.dataset))}
    if source.judged:
        links["verdict of this checkout"] = Link(source.verdict(run))
    return story.told(record, _page_of(source, run), links)


def _method(site: Site, method: str, cards: Mapping[str, Sequence[str]]) -> str:
    at, found = _method_page(method), [r for r in site.results if r.row.method == method]
    card = [sheet.section(f"The card of {part}", sheet.listed(cards[part])) for part in parts_of(method)
            if part in cards]
    front = [(Link(source.suite.title, source.page), words) for source, words in site.front.get(method, [])]
    rows = [(Link(r.source.suite.title, r.source.page), Link(r.column.title, _data_page(r.column.run_dataset
            or r.column.name)), _kind(r.column), r.row.backbone, r.pool, r.shown, Several(r.runs)) for r in found]
    return sheet.page(at, method, [
        *card, sheet.section("Our reading", sheet.listed(sorted(site.ours.get(method, ())))),
        sheet.section("Where it is Pareto", sheet.table(at, ("Suite", "Picture"), front) or sheet.paragraph(
            "In no picture: no complete row of it is surely better than every row that is as cheap or cheaper.")),
        sheet.section("Every result", sheet.table(at, ("Suite", "Data set", "Data", "Backbone", "Pool",
                                                       "Test accuracy, %", "Runs"), rows))])


def _data(site: Site, name: str) -> str:
    at, found = _data_page(name), [r for r in site.results if (r.column.run_dataset or r.column.name) == name]
    column = found[0].column
    kinds = sorted({"generated stand-ins" if r.column.standin else "real" for r in found})
    known = [("name", name), ("group", column.group), ("classes", str(column.classes or "")),
             ("data here", " and ".join(kinds))]
    rows = [(Link(r.row.method, _method_page(r.row.method)), Link(r.source.suite.title, r.source.page),
             _kind(r.column), r.column.split, r.row.backbone, r.pool, r.shown, Several(r.runs)) for r in found]
    return sheet.page(at, column.title, [
        sheet.facts(at, known),
        sheet.section("Every result", sheet.table(at, ("Method", "Suite", "Data", "Split", "Backbone", "Pool",
                                                       "Accuracy, %", "Runs"), rows))],
        "Rows of different suites follow different protocols: compare inside a suite, and inside a pool.")


def _index(site: Site, methods: Sequence[str], sets: Sequence[str]) -> str:
    at = "index.html"
    titles = {r.column.run_dataset or r.column.name: r.column.title for r in site.results}
    count = {m: len({(r.source.key, r.column.name, r.row.backbone) for r in site.results if r.row.method == m})
             for m in methods}
    told = [f"The runs of {key} have no pages of their own: a site holds {RUNS:,} at most." for key in site.untold]
    told += [f"Could not be read and is missing here: {one}" for one in site.unreadable]
    return sheet.page(at, "Regatta", [
        sheet.section("Suites", sheet.table(at, ("Suite", "Whose", "Data", "Runs", "Records"), site.suites),
                      sheet.listed(told)),
        sheet.section("Methods", sheet.table(at, ("Method", "Results", "Pareto in"), [
            (Link(m, _method_page(m)), str(count[m]), many(n, "picture") if (n := len(site.front.get(m, [])))
             else "none") for m in methods])),
        sheet.section("Data sets", sheet.table(at, ("Data set", "Name"), [
            (Link(titles[name], _data_page(name)), name) for name in sets]))],
        "Adapting pre-trained vision transformers, honestly compared. A number on stand-in data says nothing about the "
        "real data set.")
