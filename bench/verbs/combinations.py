"""What `ensemble` and `soup` share: the pools that are meant, and the one test of what was chosen."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from results import store
from results.combined import Combination
from results.schema import RunResult, Scalar

from .. import checkout
from ..planning.plan import make
from ..planning.request import UsageError
from ..planning.resolve import resolve, suite_of
from ..tuning import combining
from ..tuning.combining import Pool
from ..tuning.rules import records_of
from ..tuning.studies import studies_of
from . import here, scores, words

if TYPE_CHECKING:
    from ..engine.combine import Ingredient
    from ..engine.where import Where

T = TypeVar("T")


def pools(args: argparse.Namespace, classes: bool = False) -> tuple[str, list[Pool]]:
    """(the suite's name, the runs of each method and data set that may be combined). Raises UsageError.

    `classes`: their answers must be classes, which is told before anyone stores weights for nothing.
    """
    fit = combining.of_classes if classes else (lambda pool: pool)
    here.check_device(args)
    request = words.request_of(args)
    if args.of == "seeds":
        plan = make(request)
        stage = "tuned" if request.tuned else "paper" if request.recipe == "paper" else "default"
        return suite_of(request).name, each(
            combining.of_seeds(plan, stage),
            lambda p: combining.with_weights(fit(p), checkout.RUNS, "`run --keep-weights all --again all` stores them"))
    suite, studies = studies_of(request, " --members small")
    records = records_of({run for s in studies for t in s.trials for run in t.runs}, checkout.RUNS)
    return suite, each(
        combining.of_studies(studies, records),
        lambda p: combining.with_weights(fit(p), checkout.RUNS))


def each(some: Iterable[Pool], act: Callable[[Pool], T]) -> list[T]:
    """What is made of each pool; those of which nothing can be made are named. Raises UsageError when none is left."""
    found, problems = [], []
    for pool in some:
        try:
            found.append(act(pool))
        except UsageError as error:
            problems += error.problems
    if not found:
        raise UsageError(problems or ["there is nothing to combine"])
    for problem in problems:
        print(f"regatta: left out: {problem}", file=sys.stderr)
    return found


def ingredients(runs: Sequence[tuple[RunResult, int]]) -> list[Ingredient]:
    """The runs with their stored weights, ready to be loaded."""
    from ..engine.combine import Ingredient

    found = []
    for record, times in runs:
        weights = combining.weights_of(record, checkout.RUNS)
        assert weights is not None
        found.append(Ingredient(record, weights, times))
    return found


def place(args: argparse.Namespace, pool: RunResult) -> Where:
    """Where a run's images and its backbone's weights lie."""
    request = words.request_of(args)
    asked = replace(request, datasets=(pool.spec.dataset,), backbones=(pool.spec.model,), sets=(), epochs=None,
                    batch_size=None, methods=(pool.method.text,), tuned=False, recipe="common", seeds=())
    found = resolve(asked)
    weights = found.weights[pool.spec.model]
    if weights.sha256 != pool.spec.weights:
        raise UsageError([f"the weights of {pool.spec.model} on this machine are others than those of run "
                          f"{pool.run_id}"])
    if found.digits != pool.spec.zero_shot:
        raise UsageError([f"run {pool.run_id} starts its head from "
                          + (f"class embeddings whose hash begins with {pool.spec.zero_shot}; give their file with "
                             "--head FILE" if pool.spec.zero_shot else "no class embeddings; leave --head out")])
    device = here.device_of(args.device)
    where: Where = here.where_of(args, found.data_root, device)
    return where.with_files(weights.file, found.head.file if found.head else None)


def test(args: argparse.Namespace, suite: str, chosen: Sequence[Combination]) -> int:
    """Write the choice down, then test what stands there, each once; print what came of it."""
    from tabulate import tabulate

    from ..engine.joint import execute

    claims, failures, rows, kinds = here.claims(), [], [], set[str]()
    for one in combining.written(suite, chosen):
        path = store.path_of(one.spec, checkout.RUNS)
        record = store.load(path) if path.exists() else None
        if record is None or record.status != "ok":
            if not claims.take(one.spec.id):
                print(f"{one.method} on {one.spec.dataset}: another runner is at it")
                continue
            try:
                found = records_of({m.run for m in one.members}, checkout.RUNS)
                parts = ingredients([(found[m.run], m.times) for m in one.members])
                record = execute(one.spec, parts, _passed(suite, one), place(args, parts[0].record), checkout.RUNS)
            finally:
                claims.release(one.spec.id)
        failures += [record] if record.status != "ok" else []
        rows.append((one.method, one.spec.dataset, one.text(), _percent(one.best), _percent(one.val),
                     _percent(scores.score(record) if record.status == "ok" else None)))
        kinds.add(scores.kind(record))
    print(tabulate(rows, ("method", "data set", "what", "best alone, val", "val", "test"), disable_numparse=True))
    if "class_mean" in kinds:
        print("val in top-1, by which runs are chosen; test as the mean per class where the data set's card says so")
    here.tell_failures(failures)
    return 1 if failures else 0


def _passed(suite: str, one: Combination) -> dict[str, Scalar]:
    told: dict[str, Scalar] = {"suite": f"{suite}-ladder", "method": one.method, "combined.of": one.of,
                               "combined.stage": one.stage, "combined.pool": one.pool}
    return told | ({"combined.val.top1": one.val} if one.val is not None else {})


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}"

