"""A search that sets aside what is behind: Optuna's rule, the same epochs for all, runs that go on bit for bit."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest

from bench.engine.record import execute
from bench.planning import tuned
from bench.planning.request import Request
from bench.planning.resolve import Planned
from bench.suites import find
from bench.tuning import curve, halving, rules, search
from results import selections, store
from results.schema import RunResult
from results.selections import Candidate, Cost, Effort, Selection, Study, load_trials, save_selection, unequal

from . import tiny


@pytest.fixture(autouse=True, scope="module")
def tiny_world() -> Iterator[None]:
    tiny.use()
    yield
    tiny.forget()


# The rule.

@pytest.mark.parametrize(("epochs", "stops"), ((100, [25, 50, 0]), (10, [3, 6, 0]), (5, [2, 4, 0]), (4, [1, 2, 0]),
                                               (3, [1, 2, 0]), (2, [1, 0, 0]), (1, [0, 0, 0])))
def test_runs_stop_after_a_quarter_and_after_half(epochs: int, stops: list[int]) -> None:
    assert [halving.until(epochs, stage) for stage in range(3)] == stops
    assert halving.stages([epochs]) == stops.index(0) + 1


def test_a_bracket_of_long_and_short_runs_is_cut_while_one_of_them_has_epochs_left() -> None:
    assert halving.stages([1, 8]) == 3 and halving.stages([1, 2]) == 2 and halving.stages([1, 1]) == 1


def _optuna_lets_through(values: list[float], which: int) -> bool:
    """Optuna's answer for one of them when all the others have been scored before it."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(direction="maximize", pruner=optuna.pruners.SuccessiveHalvingPruner(
        min_resource=1, reduction_factor=2, min_early_stopping_rate=0))
    for value in [v for i, v in enumerate(values) if i != which]:
        trial = study.ask()
        trial.report(value, 1)
        trial.should_prune()
    last = study.ask()
    last.report(values[which], 1)
    return not last.should_prune()


@pytest.mark.parametrize("count", (1, 2, 3, 4, 7))
def test_of_different_scores_those_go_on_that_optuna_lets_through(count: int) -> None:
    values = random.Random(count).sample([i / 100 for i in range(100)], count)
    found = [Candidate(i, {}, v, 0.01, 10) for i, v in enumerate(values)]
    kept = halving.keep(found, [c.number for c in rules.ranked(found)])
    assert kept == {i for i in range(count) if _optuna_lets_through(values, i)}


def test_ties_change_no_number_of_epochs_and_what_failed_goes_nowhere() -> None:
    found = [Candidate(i, {"lr": 1.0 - 0.1 * i}, 0.5, 0.01, 10) for i in range(4)]
    assert halving.keep(found, [c.number for c in rules.ranked(found)]) == {2, 3}, "the lower rates, as a choice has it"
    broken = [Candidate(0, {}, None, None, None), Candidate(1, {}, None, None, None), Candidate(2, {}, 0.1, 0.1, 1)]
    assert halving.keep(broken, [2]) == {2} and halving.keep(broken[:2], []) == set()


# A run that stops and one that goes on.

@pytest.mark.parametrize("method", ("lora+pace(variant='fast')", "full+tpgm", "lora+ema"))
def test_a_longer_run_goes_on_from_where_the_shorter_stood_bit_for_bit(method: str, tmp_path: Path) -> None:
    spec = tiny.spec(method, phase="tune")  # five epochs
    whole = execute(spec, {}, tiny.where(tmp_path / "a", checkpoints=None), tmp_path / "a" / "runs")
    where, root = tiny.where(tmp_path / "b", checkpoint_every_s=1e9), tmp_path / "b" / "runs"
    for stop in (2, 4):
        part = execute(replace(spec, until=stop), {}, where, root)
        assert part.status == "ok" and len(part.history) == stop and part.metrics["val.n"] == 16
    last = execute(spec, {}, where, root)
    assert (last.metrics, last.history, last.diagnostics, last.memory) == (
        whole.metrics, whole.history, whole.diagnostics, whole.memory)
    assert [(a.reason, a.resumed_from_step) for a in last.attempts] == [("ok", 0), ("ok", 6), ("ok", 12)]
    assert not (tmp_path / "b" / "checkpoints" / spec.id).exists()
    again = execute(replace(spec, until=2), {}, tiny.where(tmp_path / "c"), tmp_path / "c" / "runs")
    execute(replace(spec, until=4), {}, tiny.where(tmp_path / "c"), tmp_path / "c" / "runs")
    short = execute(replace(spec, until=2), {}, tiny.where(tmp_path / "c"), tmp_path / "c" / "runs")
    assert (again.metrics, again.history) == (short.metrics, short.history), "it began anew: what lay there was too far"
    assert short.attempts[-1].resumed_from_step < 6


def test_a_run_that_stops_early_is_of_phase_tune_alone_and_unset_it_is_never_written(tmp_path: Path) -> None:
    assert "until" not in tiny.spec().written() and tiny.spec(until=0).id == tiny.spec().id
    record = execute(tiny.spec(until=2), {}, tiny.where(tmp_path), tmp_path / "runs")
    assert record.status == "failed" and record.failure is not None and record.test_passes == 0
    assert "only a search on validation stops a run before its end" in record.failure.message


# The search.

class Runner:
    """Does runs in this process and counts their epochs; stops as a killed program does."""

    def __init__(self, folder: Path, limit: int = 1000) -> None:
        self.folder, self.left, self.epochs = folder, limit, 0

    def __call__(self, todo: list[Planned]) -> None:
        for planned in todo:
            if not self.left:
                raise KeyboardInterrupt
            self.left -= 1
            record = execute(planned.spec, planned.passed, tiny.where(self.folder, checkpoint_every_s=1e9),
                             self.folder / "runs")
            per_epoch = 3  # batches of 16 of 48 images
            self.epochs += len(record.history) - record.attempts[-1].resumed_from_step // per_epoch


def _tune(folder: Path, effort: Effort, methods: tuple[str, ...] = ("linear",), limit: int = 1000) -> Runner:
    request = Request(suite="custom", datasets=(tiny.DATASET,), methods=methods, backbones=(tiny.MODEL,), data="/",
                      no_pretrained=True, sets=("image_size=16", "batch_size=16", "eval_batch_size=20", "epochs=4",
                                                "warmup_epochs=0", "threads=1"))
    suite, moving = search.searches(request, effort, together=False)
    runner = Runner(folder, limit)
    lost = search.run(suite, moving, folder / "runs", runner, folder / "selections",
                      checkpoints=folder / "checkpoints")
    assert lost == 0
    return runner


def _studies(folder: Path) -> tuple[Study, ...]:
    found = load_trials("custom", folder / "selections")
    assert found is not None
    return found.studies


def _records(folder: Path) -> dict[str, RunResult]:
    return {r.run_id: r for r in store.load_all(folder / "runs")}


HALVED = Effort(4, "random", 0, (0,), "halving")


@pytest.fixture(scope="module")
def halved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two methods, four settings each, four epochs."""
    folder = tmp_path_factory.mktemp("halved")
    tiny.use()
    runner = _tune(folder, HALVED, ("linear", "lora"))
    assert runner.epochs == 2 * 8, "what is counted is what was trained"
    return folder


def test_every_method_trains_the_same_epochs_and_the_study_says_what_it_saved(halved: Path) -> None:
    studies = _studies(halved)
    assert [s.method for s in studies] == ["linear", "lora"]
    assert [s.cost for s in studies] == [Cost(8, 16)] * 2  # 4 x 1 + 2 x 1 + 1 x 2 of 4 x 4
    for study in studies:
        assert sorted(t.epochs for t in study.trials) == [0, 1, 1, 2]
    assert not list((halved / "checkpoints").glob("*/*")), "what was set aside will not go on"


def _of(record: RunResult, method: str, config: dict[str, Any]) -> bool:
    return record.passed["method"] == method and config == {
        k.removeprefix("tune."): v for k, v in record.passed.items() if k.startswith("tune.")}


def _trained(record: RunResult) -> int:
    assert record.params is not None
    return record.params.trained


def test_the_better_half_goes_on_and_only_what_went_to_its_end_is_chosen(halved: Path) -> None:
    records = _records(halved)
    assert len(records) == 2 * 7 and all(r.spec.phase == "tune" and r.test_passes == 0 for r in records.values())
    for study in _studies(halved):
        first = {n: next(r for r in records.values() if r.spec.until == 1 and _of(r, study.method, t.config))
                 for n, t in enumerate(study.trials)}
        order = sorted(first, key=lambda n: (-(first[n].metrics["val.top1"] or 0), _trained(first[n]),
                                             first[n].spec.lr))
        assert {n for n, t in enumerate(study.trials) if t.epochs != 1} == set(order[:2])
        choice = rules.choose(study, records, "best_val")
        (end,) = [t for t in study.trials if not t.epochs]
        assert choice.winner == end.number and choice.ties == (end.number,) and choice.cost == Cost(8, 16)
        assert sum(c.status == "set aside" and c.score is None for c in choice.candidates) == 3
        assert all(f.until == 0 and f.phase == "final" for f in choice.finals)


def test_a_pruned_row_prints_its_epochs(halved: Path, tmp_path: Path) -> None:
    records, make_suite = _records(halved), find("custom")
    assert make_suite is not None
    selection = Selection("custom", tuple(rules.choose(s, records, "best_val") for s in _studies(halved)))
    view = tuned.view(make_suite(), selection, (0,), tmp_path)
    assert {row.budget for row in view.rows} == {
        "4 configurations by random on val, pruned by halving; rule best_val; 8 of 16 epochs trained"}
    save_selection(selection, tmp_path)
    assert selections.load_selection("custom", tmp_path) == selection
    a, b = selection.choices
    assert not unequal((a, b))
    assert unequal((a, replace(b, cost=Cost(10, 16)))) == (
        "the budgets differ: linear: 4 configurations by random on val, pruned by halving, 8 of 16 epochs; "
        "lora: 4 configurations by random on val, pruned by halving, 10 of 16 epochs")


def test_a_pruned_study_has_no_curve_of_smaller_budgets(halved: Path) -> None:
    assert not list(curve.scored(_studies(halved), halved / "runs"))


def test_what_goes_to_its_end_is_the_run_of_an_unpruned_search(halved: Path, tmp_path: Path) -> None:
    _tune(tmp_path, replace(HALVED, prune="none"))
    plain, (pruned, _) = _studies(tmp_path)[0], _studies(halved)
    assert [t.config for t in plain.trials] == [t.config for t in pruned.trials]
    (end,) = [t for t in pruned.trials if not t.epochs]
    (run,) = plain.trials[end.number].runs
    assert (run,) == end.runs
    one, other = _records(tmp_path)[run], _records(halved)[run]
    assert (one.metrics, one.history) == (other.metrics, other.history)
    body = json.loads((tmp_path / "selections" / "custom.trials.json").read_text())["studies"][0]
    assert set(body) == {"method", "backbone", "datasets", "effort", "space", "trials"}
    assert set(body["effort"]) == {"budget", "sampler", "folds", "seeds"}
    assert set(body["trials"][0]) == {"number", "config", "runs"}, "without pruning every file is as it was"


@pytest.mark.parametrize("sampler", ("random", "tpe"))
def test_an_interrupted_pruned_search_ends_as_one_that_was_not(sampler: str, tmp_path: Path) -> None:
    effort = Effort(6, sampler, 0, (0,), "halving")
    for limit in (3, 4):
        with pytest.raises(KeyboardInterrupt):
            _tune(tmp_path / "a", effort, limit=limit)
    _tune(tmp_path / "a", effort)
    assert _tune(tmp_path / "a", effort).epochs == 0, "what was tried is not tried again"
    whole = _tune(tmp_path / "b", effort)
    assert _studies(tmp_path / "a") == _studies(tmp_path / "b")
    (study,) = _studies(tmp_path / "b")
    # random: a bracket of six, 6 x 1 + 3 x 1 + 1 x 2; TPE: one of four and one of two, 8 + (2 x 1 + 1 x 1 + 1 x 2)
    assert study.cost == Cost(11 if sampler == "random" else 13, 24) and whole.epochs == study.cost.epochs


def test_expected_runs_are_those_that_are_done(halved: Path) -> None:
    assert halving.runs(4, [4]) * 2 == len(_records(halved))
