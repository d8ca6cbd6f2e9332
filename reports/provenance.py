"""Runs of others in a table: two columns that say how many cells of a row were received, and what they are worth.

A table without such runs has neither column: one's own tables are the same with and without this file.
"""

from __future__ import annotations

from results.received import LEVELS
from results.suites import Row

from .table import Field
from .world import World, key_of

HEADS = ("Received", "Verdict")
LEGEND = {
    "verified": "verified: the run's stored weights were loaded here and gave its predictions again; not how they were "
                "trained",
    "consistent": "consistent: files, metrics, seeds, budget and the method's source agree, and images where they lie "
                  "here; it does not prove that any network gave the predictions",
    "claimed": "claimed: numbers that nothing supports",
}


def of(world: World, row: Row) -> list[str]:
    """The verdicts of a row's received runs, the worst last."""
    told = {world.grid.records.get_text("verdict", run) for run in world.runs[key_of(row)]} - {""}
    return [level for level in LEVELS if level in told]


def heads(world: World) -> tuple[str, ...]:
    """The two headings; none where no run was received."""
    return HEADS if any(of(world, row) for row in world.rows) else ()


def fields(world: World, row: Row) -> list[Field]:
    """Cells with a received run, and the worst verdict of those runs."""
    if not heads(world):
        return []
    cells = [world.grid.cell(row, column).runs for column in world.columns]
    count = sum(any(world.grid.records.get_text("verdict", run) for run in runs) for runs in cells)
    worst = "".join(of(world, row)[-1:])
    # a refused run is shown on a site alone; the word has another meaning among the marks of cells
    return [Field(f"{count}/{len(cells)}", count), Field(worst or "own", mark=worst if worst in LEGEND else "")]
