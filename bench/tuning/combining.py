"""Which runs are combined: the trials of a study, best first, or the seeds of final runs; and the spec that names it.

Nothing here sees test. A study that was cross-validated has no validation images in common, so nothing can be chosen
among its runs; trials that were set aside are not taken.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from results import combined, store
from results.combined import Combination, Kind, Member
from results.schema import RunResult, RunSpec
from results.selections import Study
from results.spoken import many, word

from ..engine.where import keeps_members
from ..planning.held import settled
from ..planning.plan import Plan
from ..planning.request import UsageError
from . import ensembles
from .rules import candidates, ranked, score_of


@dataclass(frozen=True)
class Pool:
    """Runs of one method on one data set that may be combined, best on validation first where that is known."""

    method: str
    stage: str
    of: str  # "configurations" or "seeds"
    runs: tuple[RunResult, ...]
    lacking: str = ""  # what to do where too few runs have stored what is combined

    @property
    def where(self) -> str:
        return f"{self.method} on {self.runs[0].spec.dataset}"


def of_studies(studies: Sequence[Study], records: Mapping[str, RunResult]) -> Iterator[Pool]:
    """A pool for each data set of each study. Raises UsageError for a study with folds."""
    for study in studies:
        where = f"{study.method} on {', '.join(study.datasets)}"
        if study.effort.folds:
            raise UsageError([f"{where} was tuned on folds, whose runs have no validation images in common; tune it "
                              "on one split to combine its configurations"])
        trials = {t.number: t for t in study.trials}
        order = [trials[c.number] for c in ranked(candidates(study, records))]
        for dataset in study.datasets:
            runs = [records[run] for t in order for run in t.runs if records[run].spec.dataset == dataset]
            if runs:
                yield Pool(study.method, "tuned", "configurations", tuple(runs), _lacking(study, runs))


def _lacking(study: Study, runs: Sequence[RunResult]) -> str:
    """What makes a search store what is combined: `runs` are its whole runs on one data set."""
    facts, effort = runs[0].dataset, study.effort
    if score_of(runs[0]) is not None and "val.top1" not in runs[0].metrics:
        return "weights are stored with probabilities, and answers that are numbers have none; `--of seeds` averages " \
               "final runs"
    alone = len(runs) < 2
    pruned = alone and effort.prune != "none"
    members = "small" if facts is None or keeps_members("small", facts.classes) else "all"
    words = [f"tune --budget {effort.budget if not alone or pruned else 8} --sampler {effort.sampler}"]
    words += [f"--seeds {' '.join(map(str, effort.seeds))}"] * (effort.seeds != (0,))
    words += ["--per suite"] * (len(study.datasets) > 1)
    words += [f"--prune {effort.prune}"] * (effort.prune != "none" and not pruned)
    told = f"`{' '.join(words)} --members {members}` with the same words"
    if pruned:
        return f"the search set the others aside; {told}, without --prune, trains all to the end and stores them"
    return f"{told} {'tries more and ' * alone}stores them"


def of_seeds(plan: Plan, stage: str) -> Iterator[Pool]:
    """A pool for each cell whose runs are all done. Raises UsageError where a cell has fewer than two seeds."""
    cells: dict[str, list[RunResult]] = {}
    texts: dict[str, str] = {}
    missing = [p for p in plan.runs if p.state != "done" or p.record is None]
    if missing:
        raise UsageError([f"{len(missing)} of {many(len(plan.runs), 'run')} {word(len(missing), 'is', 'are')} not "
                          f"done; the same words with `run` do {word(len(missing), 'it', 'them')}"])
    for planned in plan.runs:
        assert planned.record is not None
        cells.setdefault(planned.spec.cell_id, []).append(planned.record)
        texts[planned.spec.cell_id] = planned.text
    if any(len(runs) < 2 for runs in cells.values()):
        raise UsageError(["a mean of seeds needs two seeds or more; `--seeds 0 1 2`"])
    for cell, runs in cells.items():
        yield Pool(texts[cell], stage, "seeds", tuple(sorted(runs, key=lambda r: r.spec.seed)))


def with_weights(pool: Pool, runs: Path, words: str = "") -> Pool:
    """The runs of a pool whose trained weights are here. Raises UsageError where fewer than two are, with `words`, or
    what the pool says, as what to do."""
    kept = tuple(r for r in pool.runs if weights_of(r, runs) is not None)
    if len(kept) < 2:
        raise UsageError([f"{pool.where}: {len(kept)} of {many(len(pool.runs), 'run')} "
                          f"{word(len(kept), 'has', 'have')} stored weights here; {words or pool.lacking}"])
    return replace(pool, runs=kept)


def weights_of(record: RunResult, runs: Path) -> Path | None:
    """The run's stored weights; None where there are none."""
    found = next((a for a in record.artifacts if a.kind == "adapter"), None)
    path = store.path_of(record.spec, runs).with_name(found.path) if found else None
    return path if path is not None and path.exists() else None


def of_classes(pool: Pool) -> Pool:
    """The pool itself. Raises UsageError where its runs do not answer with classes, whose probabilities are averaged.
    """
    if not any({"val.top1", "test.top1"} & r.metrics.keys() for r in pool.runs):
        raise UsageError([f"{pool.where}: its answers are numbers and no classes, so there are no probabilities to "
                          "average; `soup --of seeds` averages weights"])
    return pool


def ensemble(pool: Pool, runs: Path) -> Combination:
    """Chosen among those that stored probabilities. Raises UsageError where fewer than two did."""
    held = [(r, p) for r in of_classes(pool).runs if (p := ensembles.stored(r, runs)) is not None]
    if len(held) < 2:
        raise UsageError([f"{pool.where}: {len(held)} of {many(len(pool.runs), 'run')} stored probabilities; "
                          f"{pool.lacking}"])
    labels = held[0][1][1]
    if any(p[1].tolist() != labels.tolist() for _, p in held):
        raise UsageError([f"{pool.where}: its runs were scored on different validation images"])
    facts = held[0][0].dataset
    taken, val = ensembles.choose([p[0] for _, p in held], labels, metric=facts.metric if facts else "top1")
    members = [(held[i][0], times) for i, times in sorted(taken.items(), key=lambda one: (-one[1], one[0]))]
    return combination("ensemble", replace(pool, runs=tuple(r for r, _ in held)), members, val)


def combination(kind: Kind, pool: Pool, members: Sequence[tuple[RunResult, int]], val: float | None = None
                ) -> Combination:
    """What is written down: the first member's settings, in phase final, and who takes part how often."""
    first = members[0][0].spec
    best = max((score_of(r) or 0.0 for r in pool.runs), default=None) if val is not None else None
    spec = settled(replace(first, phase="final", fold="", select="last", until=0, also_test=(), combined=kind,
                           ingredients=tuple(f"{times}*{r.run_id}" for r, times in members)))
    return Combination(kind, pool.of, pool.stage, pool.method,
                       tuple(Member(r.run_id, times, r.spec.phase, r.spec.seed) for r, times in members),
                       len(pool.runs), val, best, spec)


def written(suite: str, chosen: Sequence[Combination], folder: Path | None = None) -> list[Combination]:
    """Write the choice down, and read it from there: what is tested is what stands in the file."""
    combined.add(suite, list(chosen), folder)
    keys, found = {c.key for c in chosen}, combined.load(suite, folder)
    assert found is not None
    return [c for c in found.all if c.key in keys]


def spec_alike(a: RunSpec, b: RunSpec) -> bool:
    """Whether runs are of one model: weights of other methods or options are no average."""
    return (a.method, a.options, a.model, a.weights, a.dataset, a.data, a.image_size) == (
        b.method, b.options, b.model, b.weights, b.dataset, b.data, b.image_size)
