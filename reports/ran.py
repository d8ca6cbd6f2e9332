"""Which runs stand behind a world's tables: a CSV with a line for each, and a sentence that says how to ask one."""

from __future__ import annotations

import csv
import io

from results.suites import Entry

from . import rules
from .table import csv_cell
from .world import World, key_of

HEAD = ("run", "method", "backbone", "data set", "seed", "state", "top-1", "commit", "pool")


def runs_csv(world: World, records: str) -> str:
    """A line for each run that the tables want, in their order, those without a number too; top-1 in percent."""
    out, pools = io.StringIO(), {key_of(row): world.pool(row) for row in world.rows}
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*HEAD, "records"])
    for entry in _entries(world):
        pool = pools[entry.method, entry.backbone]
        writer.writerow([*map(csv_cell, [*_line(world, entry), pool]), records])
    return out.getvalue()


def sentence(world: World, link: str) -> str:
    """Markdown: where the ids are, with one that can be asked; nothing when no run has a record."""
    entry = next((e for e in _entries(world) if e.run_id in world.by_run), None)
    if entry is None:
        return ""
    return (f"Runs: [{link.rpartition('/')[2]}]({link}) names every run behind these tables. `python -m bench show ID` "
            "says what it was and prints the commit and the command that make it again, `python -m bench verify ID` "
            f"holds its numbers against its predictions; for instance `python -m bench show {entry.run_id}`.")


def _entries(world: World) -> list[Entry]:
    sets = {c.run_dataset or c.name for c in (*world.columns, *world.aside)}
    rows = {(row.method, row.backbone) for row in world.rows}
    return [e for e in world.grid.suite.entries if e.run_id and e.dataset in sets and (e.method, e.backbone) in rows]


def _line(world: World, entry: Entry) -> list[str]:
    records, run = world.grid.records, world.by_run.get(entry.run_id)
    column = next(c for c in (*world.columns, *world.aside) if entry.dataset == (c.run_dataset or c.name))
    score = records.get_number("metrics.test.top1", run) if run is not None else None
    return [entry.run_id, entry.method, entry.backbone, entry.dataset, str(entry.seed),
            rules.state(records, run, column)[0], "" if score is None else f"{100 * score:.10g}",
            records.get_text("provenance.commit", run) if run is not None else ""]
