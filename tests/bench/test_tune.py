"""Tuning on validation: spaces, samplers, rules, and the final runs that follow; nothing of it sees test."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations
from math import isclose
from pathlib import Path
from statistics import fmean

import pytest

from bench.engine.record import execute
from bench.planning import plan
from bench.planning.plan import make
from bench.planning.request import Request, UsageError
from bench.planning.resolve import Planned
from bench.tuning import curve, rules, samplers, search, spaces
from bench.tuning.samplers import Proposer, grid
from bench.tuning.spaces import Options, Range, SpaceError, dimension, space_of, space_of_part
from methods.catalog import catalog
from methods.grammar import parse
from results import selections, store
from results.schema import RunResult
from results.selections import (
    Choice,
    Effort,
    Selection,
    Study,
    budget_curve,
    load_selection,
    load_trials,
    save_selection,
    unequal,
)

from . import tiny


@pytest.fixture(autouse=True, scope="module")
def tiny_world() -> Iterator[None]:
    tiny.use()
    yield
    tiny.forget()


# Spaces.

@pytest.mark.parametrize("name", list(catalog()))
def test_what_every_part_says_of_its_space_holds(name: str) -> None:
    part = catalog()[name]
    space = space_of_part(part)
    if part.kind == "adapter":
        assert "lr" in space, "an adapter's learning rate is always searched"
    for one in space.values():
        assert one.levels(3)


def test_a_wrong_space_is_named() -> None:
    lora = catalog()["lora"]
    for stated, words in (({"lora.rnk": (4, 8)}, "lora.rnk"), ({"lora.rank": (0, 8)}, "must be >= 1"),
                          ({"lr": (1e-2, 1e-4, "log")}, "no range"), ({"lora.rank": (4, 4)}, "different choices"),
                          ({"epochs": (10, 20)}, "neither one of lr")):
        with pytest.raises(SpaceError, match="lora"):
            space_of_part(replace(lora, facts=lora.facts | {"search": stated}))
        with pytest.raises(SpaceError, match=words.replace("(", ".")):
            space_of_part(replace(lora, facts=lora.facts | {"search": stated}))


def _space(**stated: tuple) -> spaces.Space:  # type: ignore[type-arg]
    return {name.replace("__", "."): dimension(words) for name, words in stated.items()}


def test_what_the_user_has_set_is_not_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    lora = catalog()["lora"]
    monkeypatch.setitem(lora.facts, "search", {"lr": (1e-4, 1e-2, "log"), "lora.rank": (4, 8, 16)})
    assert set(space_of(parse("lora"))) == {"lr", "lora.rank"}
    assert set(space_of(parse("lora(rank=4)"))) == {"lr"}
    assert set(space_of(parse("lora"), {"lr"})) == {"lora.rank"}


def test_a_later_parts_word_on_a_shared_setting_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    stated = {"lr": (1.0, 2.0, "linear"), "pace.weight": (0.1, 1.0, "log")}
    monkeypatch.setitem(catalog()["pace"].facts, "search", stated)
    space = space_of(parse("lora+pace"))
    assert space["lr"] == Range(1.0, 2.0, False, False) and "pace.weight" in space


def test_a_range_spreads_its_levels_on_its_scale_and_rounds_them() -> None:
    assert dimension((1e-4, 1e-2, "log")).levels(3) == [1e-4, 1e-3, 1e-2]
    assert dimension((1e-4, 1e-2, "log")).levels(1) == [1e-3]
    assert dimension((0.0, 1.0, "linear")).levels(3) == [0.0, 0.5, 1.0]
    assert dimension((1, 4, "linear")).levels(9) == [1, 2, 3, 4]
    assert Range(0.0, 1.0, False, False).clean(0.123456) == 0.123


@pytest.mark.parametrize("budget", (1, 2, 5, 8, 24))
def test_a_grid_keeps_its_budget_and_favours_what_is_named_first(budget: int) -> None:
    points = grid(_space(lr=(1e-4, 1e-2, "log"), lora__rank=(4, 8, 16)), budget)
    assert 1 <= len(points) <= budget
    assert len({tuple(p.items()) for p in points}) == len(points)
    assert len({p["lr"] for p in points}) >= len({p["lora.rank"] for p in points})
    assert budget < 2 or len(points) > budget / 2


# Samplers.

def _search(sampler: samplers.Sampler, budget: int, seed: int = 0) -> list[spaces.Config]:
    """A search whose score is best at lr = 1e-3."""
    from math import log10

    proposer = Proposer(_space(lr=(1e-5, 1e-1, "log")), sampler, budget, seed, {"lr": 2e-2})
    while wave := proposer.next():
        if sampler == "tpe":
            proposer.tell([-abs(log10(float(str(c["lr"]))) + 3) for c in wave])
    return proposer.tried


@pytest.mark.parametrize("sampler", samplers.SAMPLERS)
def test_a_search_uses_its_budget_and_can_be_repeated(sampler: samplers.Sampler) -> None:
    tried = _search(sampler, 8)
    assert len(tried) == 8 and len({c["lr"] for c in tried}) == 8
    assert tried == _search(sampler, 8)
    assert all(1e-5 <= float(str(c["lr"])) <= 1e-1 for c in tried)


@pytest.mark.parametrize("sampler", ("random", "tpe"))
def test_a_larger_budget_goes_on_where_the_smaller_one_ended(sampler: samplers.Sampler) -> None:
    assert _search(sampler, 12)[:8] == _search(sampler, 8)
    assert _search(sampler, 8)[0] == {"lr": 2e-2}, "the settings as they are come first"
    assert _search(sampler, 8, seed=1) != _search(sampler, 8)


def test_tpe_looks_where_scores_are_high() -> None:
    from math import log10

    far = [abs(log10(float(str(c["lr"]))) + 3) for c in _search("tpe", 40)]
    assert fmean(far[20:]) < fmean(abs(log10(float(str(c["lr"]))) + 3) for c in _search("random", 40))


def test_a_space_that_is_used_up_ends_the_search() -> None:
    proposer = Proposer(_space(lora__rank=(4, 8, 16)), "random", 8, 0)
    assert sorted(str(c["lora.rank"]) for c in proposer.next()) == ["16", "4", "8"] and not proposer.next()
    assert Proposer({}, "grid", 8, 0).next() == [{}]
    assert Proposer({}, "tpe", 8, 0).next() == [{}]


# The whole way: tune, select, run.

def _request(methods: tuple[str, ...], **changes: object) -> Request:
    base = Request(suite="custom", datasets=(tiny.DATASET,), methods=methods, backbones=(tiny.MODEL,), data="/",
                   no_pretrained=True, sets=("image_size=16", "batch_size=16", "eval_batch_size=20", "epochs=1",
                                             "warmup_epochs=0", "threads=1"))
    return replace(base, **changes)  # type: ignore[arg-type]


class Runner:
    """Does runs in this process and counts them."""

    def __init__(self, folder: Path, limit: int = 1000) -> None:
        self.folder, self.done, self.limit = folder, 0, limit

    def __call__(self, todo: list[Planned]) -> None:
        for planned in todo:
            if self.done == self.limit:
                raise KeyboardInterrupt
            self.done += 1
            execute(planned.spec, planned.passed, tiny.where(self.folder, checkpoints=None), self.folder / "runs")


def _tune(folder: Path, methods: tuple[str, ...], effort: Effort, limit: int = 1000) -> int:
    """Runs that were done."""
    suite, moving = search.searches(_request(methods), effort, together=False)
    runner = Runner(folder, limit)
    search.run(suite, moving, folder / "runs", runner, folder / "selections")
    return runner.done


def _studies(folder: Path) -> tuple[Study, ...]:
    found = load_trials("custom", folder / "selections")
    assert found is not None
    return found.studies


def _records(folder: Path) -> dict[str, RunResult]:
    return {r.run_id: r for r in store.load_all(folder / "runs")}


@pytest.mark.parametrize("sampler", samplers.SAMPLERS)
def test_trials_are_ordinary_records_of_phase_tune(sampler: samplers.Sampler, tmp_path: Path) -> None:
    done = _tune(tmp_path, ("linear", "lora"), Effort(3, sampler, 0, (0,)))
    records = _records(tmp_path)
    assert done == len(records) == 6
    assert all(r.spec.phase == "tune" and r.test_passes == 0 and "test.top1" not in r.metrics for r in records.values())
    for study in _studies(tmp_path):
        assert len(study.trials) == 3 == len({tuple(t.config.items()) for t in study.trials})
        for trial in study.trials:
            (run,) = trial.runs
            assert records[run].spec.lr == trial.config["lr"]
    assert _tune(tmp_path, ("linear", "lora"), Effort(3, sampler, 0, (0,))) == 0, "what was tried is not tried again"
    if sampler != "grid":
        assert _tune(tmp_path, ("linear", "lora"), Effort(4, sampler, 0, (0,))) == 2


def test_an_interrupted_search_goes_on(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        _tune(tmp_path, ("linear",), Effort(4, "tpe", 0, (0,)), limit=2)
    assert _tune(tmp_path, ("linear",), Effort(4, "tpe", 0, (0,))) == 2
    whole = tmp_path / "whole"
    _tune(whole, ("linear",), Effort(4, "tpe", 0, (0,)))
    assert _studies(whole) == _studies(tmp_path)


def test_folds_and_seeds_make_several_runs_of_one_configuration(tmp_path: Path) -> None:
    effort = Effort(2, "grid", 2, (0, 1))
    assert _tune(tmp_path, ("linear",), effort) == 8
    (study,) = _studies(tmp_path)
    records = _records(tmp_path)
    assert {(records[run].spec.fold, records[run].spec.seed) for run in study.trials[0].runs} == {
        (f"{fold}/2", seed) for fold in (1, 2) for seed in (0, 1)}
    choice = rules.choose(study, records, "kfold_mean")
    assert [f.fold for f in choice.finals] == [""]
    assert isclose(choice.chosen.score or 0, fmean(records[run].metrics["val.top1"] or 0
                                                   for run in study.trials[choice.winner].runs))


@pytest.fixture
def selected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which two methods were tuned and selected."""
    _tune(tmp_path, ("linear", "lora"), Effort(3, "grid", 0, (0,)))
    records = _records(tmp_path)
    monkeypatch.setattr(selections, "FOLDER", tmp_path / "selections")
    save_selection(Selection("custom", tuple(rules.choose(s, records, "best_val") for s in _studies(tmp_path))))
    return tmp_path


def _plan(folder: Path, **changes: object) -> plan.Plan:
    base = _request((), sets=(), tuned=True, datasets=(), backbones=())
    return make(replace(base, **changes), folder / "runs")  # type: ignore[arg-type]


def test_the_plan_of_tuned_runs_holds_the_chosen_settings_and_is_tested_once(selected: Path) -> None:
    found = _plan(selected, seeds=(0, 1))
    selection = load_selection("custom")
    assert selection is not None
    assert [(p.text, p.spec.seed) for p in found.runs] == [("linear", 0), ("linear", 1), ("lora", 0), ("lora", 1)]
    for planned in found.runs:
        choice = selection.of(planned.text, tiny.MODEL, tiny.DATASET)
        assert choice is not None
        assert planned.spec.lr == choice.chosen.config["lr"] and planned.spec.phase == "final"
        assert planned.passed["tuned.rule"] == "best_val" and planned.passed["tuned.val.top1"] == choice.chosen.score
    Runner(selected)([p for p in found.runs if p.spec.seed == 0])
    again = _plan(selected, seeds=(0, 1))
    assert [p.state for p in again.runs] == ["done", "missing"] * 2
    (record,) = [p.record for p in again.runs if p.record and p.text == "lora"]
    assert record.test_passes == 1 and record.dataset is not None and record.dataset.train == 64


def test_a_tuned_suite_prints_budget_and_rule(selected: Path) -> None:
    view = _plan(selected, seeds=(0, 1, 2)).view
    assert view.name == "custom-tuned" and len(view.entries) == 6
    for row in view.rows:
        assert row.budget == "3 configurations by grid on val; rule best_val"


def test_other_weights_or_images_ask_for_tuning_again(selected: Path) -> None:
    selection = load_selection("custom")
    assert selection is not None
    changed = [replace(c, finals=tuple(replace(f, data="others") for f in c.finals)) for c in selection.choices]
    save_selection(Selection("custom", tuple(changed)))
    with pytest.raises(UsageError, match="tuned on other images of tiny_test; tune it again"):
        _plan(selected)


@pytest.mark.parametrize(("changes", "words"), (
    ({"methods": ("bitfit",)}, "'bitfit' has not been tuned and selected in suite 'custom'; there are: linear, lora"),
    ({"datasets": ("digits",)}, "nothing has been tuned and selected on digits"),
    ({"sets": ("lr=1",)}, "--tuned takes every setting from the selection"),
    ({"suite": "vtab1k"}, "nothing has been selected in suite 'vtab1k'; first `tune`, then `select`")))
def test_tuned_plans_refuse_in_words(selected: Path, changes: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError) as caught:
        _plan(selected, **changes)
    assert words in str(caught.value)


def test_rules_that_cannot_be_applied_say_why(selected: Path) -> None:
    (study, _) = _studies(selected)
    with pytest.raises(UsageError, match="needs folds"):
        rules.choose(study, _records(selected), "kfold_mean")
    with pytest.raises(UsageError, match="there are: best_val, one_se, kfold_mean"):
        rules.choose(study, _records(selected), "best")
    with pytest.raises(UsageError, match="no configuration of linear on tiny_test has a score: missing"):
        rules.choose(study, {}, "best_val")


def test_unequal_budgets_are_noticed(selected: Path) -> None:
    selection = load_selection("custom")
    assert selection is not None and unequal(selection.choices) == ""
    a, b = selection.choices
    other: Choice = replace(b, effort=replace(b.effort, budget=8))
    assert unequal((a, other)) == ("the budgets differ: linear: 3 configurations by grid on val; "
                                   "lora: 8 configurations by grid on val")


# The budget curve.

def test_the_budget_curve_is_the_mean_over_all_subsets() -> None:
    val, test = [0.5, 0.7, 0.7, 0.4, 0.6], [0.55, 0.60, 0.65, 0.50, 0.70]
    for point in budget_curve(val, test):
        kept = [min(some, key=lambda i: (-val[i], i)) for some in combinations(range(5), point.trials)]
        assert isclose(point.val, fmean(val[i] for i in kept))
        assert point.test is not None and isclose(point.test, fmean(test[i] for i in kept))
        assert point.peeked is not None and isclose(
            point.peeked, fmean(max(test[i] for i in some) for some in combinations(range(5), point.trials)))
    assert [p.test for p in budget_curve(val)] == [None] * 5


def test_the_curve_takes_test_from_records_of_phase_peek(selected: Path) -> None:
    studies = _studies(selected)
    assert all(test is None for _, _, test in curve.scored(studies, selected / "runs"))
    todo = curve.to_score(_request(()), studies, selected / "runs")
    assert len(todo) == 6 and all(p.spec.phase == "peek" for p in todo)
    Runner(selected)(todo)
    for _, val, test in curve.scored(studies, selected / "runs"):
        assert test is not None and len(val) == len(test) == 3
    assert all(p.state == "done" for p in curve.to_score(_request(()), studies, selected / "runs"))


def test_what_peeking_gains_is_the_best_epoch_over_the_last(tmp_path: Path) -> None:
    from results.index import read
    from results.peeking import inflation

    peeks = [execute(tiny.spec(m, phase="peek", seed=s), {}, tiny.where(tmp_path, checkpoints=None), tmp_path / "runs")
             for m in ("linear", "lora") for s in (0, 1)]
    execute(tiny.spec("linear"), {}, tiny.where(tmp_path, checkpoints=None), tmp_path / "runs")
    found = {row.method: row for row in inflation(read(tmp_path / "runs", index=False))}
    assert set(found) == {"linear", "lora"}
    for name, row in found.items():
        ours = [p for p in peeks if p.method.text == name]
        assert isclose(row.last, fmean(p.metrics["peek.top1"] or 0 for p in ours))
        best = fmean(max(h["peek.top1"] or 0 for h in p.history) for p in ours)
        assert isclose(row.best, best) and row.gain >= 0 and row.runs == 2 and row.datasets == 1


# The commands' refusals.

@pytest.mark.parametrize(("words", "answer"), (
    (["tune", "--budget", "0"], "--budget must be 1 or more, not 0"),
    (["tune", "--budget", "4", "--folds", "1"], "--folds must be 2 or more, not 1"),
    (["tune", "--budget", "4", "--methods", "loora"], "did you mean lora"),
    (["ladder", "--budget", "0"], "--budget must be 1 or more, not 0"),
    (["ladder", "--budget", "4", "--methods", "loora"], "did you mean lora"),
    (["select", "--suite", "vtab1k"], "nothing has been tuned in suite 'vtab1k'; `python -m bench tune --suite vtab1k"),
    (["curve", "--suite", "vtab1k"], "nothing has been tuned in suite 'vtab1k'"),
    (["run", "--tuned", "--suite", "vtab1k"], "nothing has been selected in suite 'vtab1k'"),
    (["verify", "xyz"], "no run is called 'xyz'")))
def test_the_commands_answer_a_mistake_with_a_sentence(words: list[str], answer: str, tmp_path: Path,
                                                       monkeypatch: pytest.MonkeyPatch,
                                                       capsys: pytest.CaptureFixture[str]) -> None:
    from bench import cli

    monkeypatch.setattr(selections, "FOLDER", tmp_path)
    assert cli.main(words) == 2
    told = capsys.readouterr()
    assert answer in told.err and told.out == "", "nothing is begun before"


def test_options_hold_their_values() -> None:
    assert Options((1, 2)).holds(1) and not Options((1, 2)).holds(3)
