"""Named rules: which runs a table counts. A rule's name is printed above the table.

`final` is the rule of every leaderboard: the record is of phase final and of the last epoch, its data are of the kind
(stand-in or real) that the column promises. A row is complete when every one of its cells has all seeds of the suite;
only complete rows have means and ranks, and ranks compare rows of one protocol.
"""

from __future__ import annotations

from results.columns import Columns
from results.suites import Column

FINAL = "final runs of the last epoch; means and ranks for complete rows of one protocol only"

# state of a run that gives no number -> what stands in its cell
MARKS = {
    "missing": "–",
    "refused": "n/a",
    "failed": "failed †",
    "oom": "OOM †",
    "diverged": "diverged †",
    "timeout": "timeout †",
    "preempted": "preempted †",
    "cancelled": "cancelled †",
    "wrong": "refused †",
    "contradicted": "contradicted †",
    "empty": "no score †",
}
LEGEND = {
    "missing": "– : not run yet",
    "refused": "n/a: this combination cannot exist, see the notes",
    "failed": "failed †: the run failed, see the notes",
    "oom": "OOM †: the device ran out of memory",
    "diverged": "diverged †: the loss was not finite",
    "timeout": "timeout †: the run took longer than it was given",
    "preempted": "preempted †: the scheduler took the machine away",
    "cancelled": "cancelled †: stopped by hand",
    "wrong": "refused †: a record that no leaderboard accepts, see the notes",
    "contradicted": "contradicted †: the record says another score than its stored predictions, see the notes",
    "empty": "no score †: the record holds no test score",
    "stale": "§: stale, the method's source changed since this run; a row that holds one is neither ranked nor "
             "compared until it is run again",
    "chance": "°: not better than a constant answer (the interval reaches it)",
    "dirty": "*: run from a tree with uncommitted changes",
    "unproven": "‡: its stored predictions are missing, damaged or others: nothing supports the number, see the notes",
    "broken": "¶: PARTIAL DATA: not what the data set's card promises (run with --partial)",
    "partial": "(k of m): only k of m seeds; the row counts as incomplete",
    "ours": "◊: our reading where the paper leaves something open, or our own choice; see the notes of the accuracy "
            "table",
    "adapts": "adapts at test: the weights move on unlabelled test images, episodic (afresh for each batch) or online "
              "(carried on)",
}
OURS = "◊"
SIGNS = {"stale": "§", "chance": "°", "dirty": "*", "unproven": "‡", "broken": "¶"}
ORDER = ("failed", "oom", "diverged", "timeout", "preempted", "cancelled", "wrong", "contradicted", "empty", "missing",
         "refused")


def state(records: Columns, row: int | None, column: Column) -> tuple[str, str]:
    """("ok", "") or the state of a run that gives no number, and why."""
    if row is None:
        return "missing", ""
    status = records.get_text("status", row)
    if status != "ok":
        return status, _failure(records, row)
    phase = records.get_text("phase", row)
    if phase != "final":
        return "wrong", f"a record of phase {phase!r} is no final result"
    standin = records.get_text("spec.data", row).startswith("standin:")
    if standin != column.standin:
        return "wrong", "the record is of stand-in data" if standin else "the record is of real data"
    if why := records.get_text(f"contradicted.{column.split}", row):
        return "contradicted", why
    name = f"{column.split}.{number_of(column)}"
    if records.get_number(f"metrics.{name}", row) is None:
        return "empty", f"the record holds no {name}"
    return "ok", ""


def number_of(column: Column) -> str:
    """Which metric of a split fills a column's cells."""
    return column.metric if column.answered else "score"


def _failure(records: Columns, row: int) -> str:
    stage, message = records.get_text("failure.stage", row), records.get_text("failure.message", row)
    step = records.get_number("failure.step", row)
    where = f" at step {int(step)}" if step is not None else ""
    return f"{stage}{where}: {message}" if stage else message
