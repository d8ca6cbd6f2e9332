"""What `run` prints at its end: a line for each method with its means over seeds. The tables say the rest."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from statistics import mean, stdev

from results import aside, store
from results.schema import RunResult
from results.scores import NAMES, metric_of
from results.spoken import many

from .. import checkout
from ..planning.resolve import Planned

WIDE = 4  # data sets that have columns of their own; of more, the mean alone is shown
FURTHER = {"class_mean": "mean per class", "macro_f1": "macro-F1"}


def table(runs: Sequence[Planned], reported: bool = True) -> str:
    """The runs that are there, best mean first; empty where no run is."""
    from tabulate import tabulate

    found = records(runs)
    if not found:
        return ""
    sets = list(dict.fromkeys(r.dataset.title if r.dataset else r.spec.dataset for r in found))
    rows: dict[str, dict[str, list[RunResult]]] = defaultdict(lambda: defaultdict(list))
    for record in found:
        rows[record.method.text][record.dataset.title if record.dataset else record.spec.dataset].append(record)
    whole = {text: held for text, held in rows.items() if len(held) == len(sets)}
    own = len(sets) == 1 and "test.macro_f1" in found[0].metrics
    further = FURTHER if own else {}
    head = ["method", *(sets if len(sets) <= WIDE else ()), *(["mean"] if len(sets) > 1 else []), *further.values(),
            "trained", "s a run"]
    body = []
    for text, held in sorted(whole.items(), key=lambda row: -_mean(row[1])):
        every = [r for several in held.values() for r in several]
        seconds = [r.time.total_s for r in every if r.time.total_s is not None]
        body.append([
            text, *([_told([score(r) for r in held[name]]) for name in sets] if len(sets) <= WIDE else []),
            *([f"{100 * _mean(held):.1f}"] if len(sets) > 1 else []),
            *[_told([_of(r, name) for r in every]) for name in further],
            f"{every[0].params.trained:,}" if every[0].params else "", f"{mean(seconds):.1f}" if seconds else ""])
    seeds = len({r.spec.seed for r in found})
    lines = [tabulate(body, head, disable_numparse=True, colalign=("left", *["right"] * (len(head) - 1)))]
    if len(whole) < len(rows):
        lines.append(f"not on every data set yet: {', '.join(sorted(rows.keys() - whole.keys()))}")
    over = f"{len(sets)} data sets, " if len(sets) > WIDE else ""
    kinds = {kind(r) for r in found}
    what = {frozenset({"top1"}): "accuracy", frozenset({"class_mean"}): "accuracy (mean per class)",
            frozenset({"top1", "class_mean"}): "accuracy (mean per class where the data set's card says so)"
            }.get(frozenset(kinds)) or _scores(found)
    lines.append(f"test {what} in %, {over}{many(seeds, 'seed')}"
                 + (", ± their standard deviation" if seeds > 1 and len(sets) <= WIDE else "")
                 + ("; which rows can be told apart stands in reports/LEADERBOARD.md"
                    if reported and "score" not in kinds else ""))
    lines += dict.fromkeys(f"{r.dataset.title if r.dataset else r.spec.dataset}: {lacking}" for r in found
                           if (lacking := aside.told(r)))
    return "\n".join(lines)


def records(runs: Sequence[Planned]) -> list[RunResult]:
    """The records of final runs that ended well."""
    paths = [store.path_of(one.spec, checkout.RUNS) for one in runs if one.spec.phase == "final"]
    found = [store.load(path) for path in paths if path.exists()]
    return [r for r in found if r.status == "ok" and (r.metrics.get("test.top1") is not None
                                              or r.metrics.get("test.score") is not None)]


def _scores(found: Sequence[RunResult]) -> str:
    """What to call scores of which some are of their own kind: by its name where there is one alone."""
    told = {metric_of(name.removeprefix("test.") for name in r.metrics) or kind(r) for r in found}
    return NAMES[told.pop()] if len(told) == 1 else "scores (accuracy, MCC, ...)"


def kind(record: RunResult) -> str:
    """The metric that the tables tell: its score where the data set has one of its own, the mean over classes where its
    card says so, else the share of right answers."""
    if record.metrics.get("test.score") is not None:
        return "score"
    metric = record.dataset.metric if record.dataset else ""
    return metric if metric == "class_mean" and record.metrics.get("test.class_mean") is not None else "top1"


def score(record: RunResult) -> float:
    """On test, a fraction, as `kind` names it."""
    return _of(record, kind(record))


def _of(record: RunResult, name: str) -> float:
    return record.metrics.get(f"test.{name}") or 0.0


def _mean(held: dict[str, list[RunResult]]) -> float:
    """Over data sets, of the means over seeds."""
    return mean(mean(score(r) for r in several) for several in held.values())


def _told(values: list[float]) -> str:
    spread = f" ± {100 * stdev(values):.1f}" if len(values) > 1 else ""
    return f"{100 * mean(values):.1f}{spread}"
