"""What each step of a method's ladder added, with a paired interval, and what it cost: suites `<suite>-ladder`."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from results.ladder import DEFAULT, SUFFIX, before, label, parted
from results.selections import Trials
from results.suites import Row

from . import fields
from .pairs import Against, Predictions, against
from .table import Field, Table
from .tuning import Scores, studies_of
from .world import World, several_backbones, title_of


def table(world: World, predictions: Predictions, trials: Trials | None) -> Table | None:
    """A line for each row; None for other suites."""
    if not world.grid.suite.name.endswith(SUFFIX):
        return None
    body, of_runs, tried = [], False, studies_of(world, trials)
    for row in world.rows:
        step, method = parted(row.method)
        base = _base(world, row)
        found = _added(world, predictions, row, base) if base is not None else None
        of_runs = of_runs or (found is not None and found.of_runs)
        added = Field("–") if found is None else Field(
            f"{fields.points(found.difference)} [{fields.points(found.interval.low)}, "
            f"{fields.points(found.interval.high)}]", 100 * found.difference, 100 * found.interval.low,
            100 * found.interval.high)
        against_ = Field("" if base is None else parted(base.method)[0])
        backbone = [Field(row.backbone, code=True)] if several_backbones(world) else []
        body.append((Field(method, code=True), *backbone, Field(step, hint=row.note),
                     fields.mean_of(world.grid, row, world.columns), added, against_,
                     _tried(tried.get((method, row.backbone), [])) if step == "tuned" else Field(""),
                     *_costs(world, row, method, step, trials)))
    if not body:
        return None
    first = 3 if several_backbones(world) else 2
    what = "Top-1" if all(column.metric == "top1" for column in world.columns) else "Score"  # as the heads name it
    words = ("added: points against the step named beside it, on the data sets that both have, with 95 % intervals "
             "over " + ("test items alone where no row has two seeds" if of_runs else "test items (paired) and seeds")
             + "; not corrected for their number",
             "val of all tried: the worst and the best setting of the search on validation, mean over data sets; a "
             "pruned search has none",
             "search: seconds of all the trials that the step rests on; training: of the row's own runs; weights: "
             "trained ones that must be kept, of all members together", "–: not known, or nothing to compare with")
    return Table(f"{world.key}-ladder", title_of(world, "What tuning bought each method"),
                 f"{what} in percent, mean of {len(world.columns)}.",
                 ("Method", *(["Backbone"] if several_backbones(world) else []), "Step", what, "Added", "Against",
                  "Val of all tried", "Search, s", "Training, s", "Weights"), tuple(body), words, (),
                 frozenset(range(first, first + 2)) | frozenset(range(first + 3, first + 7)))


def _tried(studies: Sequence[Scores]) -> Field:
    """The range over the configurations of a search, mean over its studies."""
    if not studies:
        return Field("–")
    low, high = fmean(min(val) for val, _, _ in studies), fmean(max(val) for val, _, _ in studies)
    return Field(f"{fields.percent(low)}–{fields.percent(high)}", None, 100 * low, 100 * high)


def _base(world: World, row: Row) -> Row | None:
    """The row of the step before, on the same backbone."""
    step, method = parted(row.method)
    earlier = before(step)
    name = label(earlier, method) if earlier is not None else ""
    return next((r for r in world.rows if r.method == name and r.backbone == row.backbone), None)


def _added(world: World, predictions: Predictions, row: Row, base: Row) -> Against | None:
    if row in world.stale or base in world.stale:
        return None
    return against(world.grid, predictions, [row], base, world.columns).get((row.method, row.backbone))


def _costs(world: World, row: Row, method: str, step: str, trials: Trials | None) -> tuple[Field, Field, Field]:
    """(seconds of the search, of training, trained weights)."""
    searched = [s for s in (trials.studies if trials else ()) if (s.method, s.backbone) == (method, row.backbone)]
    seconds = None
    if step != DEFAULT and step.startswith("tuned"):
        seconds = _total(world, [run for s in searched for t in s.trials for run in t.runs])
    trained = world.values(row, "time.train_s")
    weights = world.values(row, "params.trained")
    return (_plain(seconds), _plain(sum(trained) if trained else None),
            Field("–") if not weights else Field(f"{max(weights):,.0f}", max(weights)))


def _total(world: World, runs: Sequence[str]) -> float | None:
    """Seconds of the records of these runs, each once; None where one is not there."""
    places = [world.by_run.get(run) for run in dict.fromkeys(runs)]
    known = [world.grid.records.get_number("time.total_s", p) for p in places if p is not None]
    return None if None in known or len(known) < len(places) or not known else sum(s for s in known if s is not None)


def _plain(value: float | None) -> Field:
    return Field("–") if value is None else Field(fields.significant(value), value)
