"""Methods against the budget of their search: who leads on validation after n configurations, and who is told apart.

Replayed from the studies: the expected score of the best of n configurations drawn without return from all that were
tried (Dodge et al., EMNLP 2019, arXiv:1909.03004, in the form without return). Its uncertainty is that of the draw and
that of the validation images. Methods share these images, which their difference would mostly lose; it is taken as if
they did not, so that too few rather than too many are told apart. Nothing here comes from test.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist, fmean

from results.selections import Trials, budget_curve, chances
from results.spoken import word

from . import fields, plots, stats
from .cells import RowKey
from .pictures import label_of
from .table import Field, Table
from .tuning import replay, studies_of
from .world import World, key_of, title_of

WIDE = NormalDist().inv_cdf(0.5 + stats.LEVEL / 2)
NAMED = 8  # rows that a line names


@dataclass(frozen=True)
class Budgeted:
    """Expected best-of-n score on validation of one row, n = 1, 2, ..., and its standard error; mean over studies."""

    value: tuple[float, ...]
    error: tuple[float, ...]

    def band(self, n: int) -> tuple[float, float]:
        """The interval after n configurations."""
        return self.value[n - 1] - WIDE * self.error[n - 1], self.value[n - 1] + WIDE * self.error[n - 1]


def of_scores(studies: Sequence[tuple[Sequence[float], float]]) -> Budgeted:
    """From (scores of all configurations, validation images) of each study; as far as the shortest goes."""
    size = min(len(val) for val, _ in studies)
    curves = [[p.val for p in budget_curve(val)] for val, _ in studies]
    means, errors = [], []
    for n in range(1, size + 1):
        variance = 0.0
        for (val, images), curve in zip(studies, curves, strict=True):
            best = curve[n - 1]
            drawn = sum(w * (v - best) ** 2 for w, v in zip(chances(len(val), n), sorted(val, reverse=True),
                                                            strict=True))
            inside = (best * images + 1) / (images + 2)  # never 0 or 1, as in a choice
            variance += drawn + inside * (1 - inside) / images
        means.append(fmean(curve[n - 1] for curve in curves))
        errors.append(sqrt(variance) / len(studies))
    return Budgeted(tuple(means), tuple(errors))


def budgeted(world: World, trials: Trials | None) -> dict[RowKey, Budgeted]:
    """Row -> its curve; rows whose studies tried two configurations or more, to their ends."""
    return {key: of_scores([(val, images) for val, _, images in found])
            for key, found in studies_of(world, trials).items()}


def table(world: World, trials: Trials | None) -> Table | None:
    """After 1, 2, 4, ... configurations: who leads, and how many are not told apart from it; None for fewer than two
    rows."""
    found = budgeted(world, trials)
    rows = [row for row in world.rows if key_of(row) in found]
    if len(rows) < 2:
        return None
    size = min(len(found[key_of(row)].value) for row in rows)
    body = []
    for n in range(1, size + 1):
        if n & (n - 1) and n != size:
            continue
        order = sorted(rows, key=lambda r, n=n: -found[key_of(r)].value[n - 1])  # type: ignore[misc]
        leader = found[key_of(order[0])]
        near = [r for r in order if not apart(leader, found[key_of(r)], n)]
        low, high = leader.band(n)
        names = [label_of(world, r) for r in order]
        body.append((Field(f"{n}", n), Field(names[0], code=True),
                     Field(f"{fields.percent(leader.value[n - 1])} [{fields.percent(low)}, {fields.percent(high)}]",
                           100 * leader.value[n - 1], 100 * low, 100 * high),
                     Field(f"{len(near)} of {len(rows)}", len(near)),
                     Field(", ".join(names[:NAMED]) + (" ..." if len(names) > NAMED else ""))))
    words = ("the leader has the highest expected score on validation of the best of so many configurations; an "
             "interval holds the luck of the draw and that of the validation data",
             "not told apart: whose difference from the leader lies within 95 % of what that luck alone would show, "
             "the leader counted; no number here comes from test", _sentence(body))
    return Table(f"{world.key}-budget-ranks", title_of(world, "Who leads after so many configurations"),
                 "Expected top-1 on validation in percent, mean over data sets.",
                 ("Configurations tried", "Leader", "Val of its best", "Not told apart", "Order"), tuple(body), words,
                 (), frozenset((0, 2, 3)))


def apart(one: Budgeted, other: Budgeted, n: int) -> bool:
    """Whether two rows differ by more than their luck after n configurations."""
    gap = abs(one.value[n - 1] - other.value[n - 1])
    return gap > WIDE * sqrt(one.error[n - 1] ** 2 + other.error[n - 1] ** 2)


def _sentence(body: Sequence[Sequence[Field]]) -> str:
    """`at 1 configuration lora leads, alone; at 16 linear leads, and 6 of 8 are not told apart`."""
    said = []
    for line in (body[0], body[-1]) if len(body) > 1 else body[:1]:
        tried = word(line[0].value or 0, "configuration")
        near = "alone" if line[3].value == 1 else f"and {line[3].text} are not told apart"
        said.append(f"at {line[0].text} {tried} {line[1].text} leads, {near}")
    return "; ".join(said)


def curves(world: World, trials: Trials | None) -> list[plots.Plot]:
    """Every method in one picture: expected val of the best of k configurations, with its interval; beside it test,
    where every configuration has been tested in phase peek."""
    found, replayed = budgeted(world, trials), replay(world, trials)
    rows = [row for row in world.rows if key_of(row) in found][:plots.ROWS]
    lines, tested = [], []
    for row in rows:
        own, label = found[key_of(row)], label_of(world, row)
        steps = range(1, len(own.value) + 1)
        bands = [own.band(n) for n in steps]
        lines.append(plots.Line(label, tuple(map(float, steps)), tuple(100 * v for v in own.value),
                                low=tuple(100 * a for a, _ in bands), high=tuple(100 * b for _, b in bands)))
        points = [(float(p.trials), 100 * p.test) for p in replayed[key_of(row)] if p.test is not None]
        if points:
            x, y = zip(*points, strict=True)
            tested.append(plots.Line(label, x, y))
    drawn = [("budget", "Validation", "val", lines, "Expected best of k configurations drawn from those that were "
              "tried; shaded: 95 % of what the draw and the validation data leave open."),
             ("budget-test", "Test", "test", tested, "Expected test accuracy of the configuration that is best on val "
              "among k; from records of phase peek, which no ranked table accepts.")]
    return [plots.curves(key, f"{name} accuracy against tuning budget", words, some, "configurations tried",
                         f"{split} top-1, %") for key, name, split, some, words in drawn if some]
