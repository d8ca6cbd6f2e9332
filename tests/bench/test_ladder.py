"""The rows of a ladder: every step of a method side by side, each in its pool, one run in two steps where it is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bench.planning import ladder
from bench.planning.plan import make
from bench.planning.request import Request, UsageError
from bench.tuning import combining
from results import combined
from results import ladder as steps
from results.combined import Combination, Member
from results.schema import RunSpec
from results.selections import Candidate, Choice, Effort, Selection, save_selection
from results.suites import SuiteView, suite_from_json, suite_to_json

from . import tiny
from .test_make import checkout as checkout
from .test_make import made


@pytest.fixture(autouse=True, scope="module")
def tiny_world() -> Iterator[None]:
    tiny.use()
    yield
    tiny.forget()


REQUEST = Request(suite="custom", datasets=(tiny.DATASET,), methods=("linear", "lora", "convpass"),
                  backbones=(tiny.MODEL,), data="/", no_pretrained=True, seeds=(0, 1),
                  sets=("image_size=16", "batch_size=16", "eval_batch_size=20", "epochs=5", "warmup_epochs=0",
                        "threads=1"))


@pytest.mark.parametrize(("step", "method", "name"), (
    ("default", "lora+pace", "lora+pace"), ("paper", "lora", "paper: lora"),
    ("tuned, mean of seeds", "lora(rank=4)", "tuned, mean of seeds: lora(rank=4)"),
    ("Model Stock", "full", "Model Stock: full")))
def test_a_rows_name_says_its_step_and_gives_it_back(step: str, method: str, name: str) -> None:
    assert steps.label(step, method) == name and steps.parted(name) == (step, method)


def test_a_step_is_compared_with_the_one_that_it_goes_on_from() -> None:
    assert [steps.before(s) for s in ("default", "paper", "tuned", "tuned, ensembled", "Model Stock")] == [
        None, "default", "default", "tuned", "default"]
    assert {steps.of_combination("tuned", kind) for kind in combined.KINDS} == {
        f"tuned, {word}" for word in steps.COMBINED.values()}
    assert steps.COMBINED.keys() == combined.KINDS.keys()


def _choice(spec: RunSpec, method: str) -> Choice:
    found = (Candidate(0, {"lr": spec.lr}, 0.6, 0.03, 10),)
    return Choice(method, tiny.MODEL, (tiny.DATASET,), Effort(4, "random", 0, (0,)), "best_val", 0, (0,), found,
                  (spec,))


def _view(folder: Path) -> SuiteView:
    """linear's search chose the common settings, lora's others, with an ensemble of two of its trials."""
    first = {p.text: p.spec for p in reversed(make(REQUEST, folder).runs)}
    other = replace(first["lora"], lr=0.5)
    save_selection(Selection("custom", (_choice(first["linear"], "linear"), _choice(other, "lora"))), folder)
    spec = replace(other, combined="ensemble", ingredients=("2*aaaaaaaaaaaa", "1*bbbbbbbbbbbb"))
    members = (Member("aaaaaaaaaaaa", 2, "tune", 0), Member("bbbbbbbbbbbb", 1, "tune", 0))
    combined.add("custom", [Combination("ensemble", "configurations", "tuned", "lora", members, 4, 0.7, 0.6, spec)],
                 folder)
    return ladder.view(REQUEST, folder)


def test_every_step_of_a_method_is_a_row_in_its_pool(tmp_path: Path) -> None:
    view = _view(tmp_path)
    assert view.name == "custom-ladder" and suite_from_json(suite_to_json(view)) == view
    assert [(r.method, r.pool) for r in view.rows if r.method.endswith("lora")] == [
        ("lora", "plain"), ("paper: lora", "plain"), ("tuned: lora", "tuned per set"),
        ("tuned, ensembled: lora", "ensembled")]
    rows = {r.method: r for r in view.rows}
    assert "linear" in rows and "paper: linear" not in rows, "linear has no published recipe"
    assert "convpass" not in rows, "what was not selected has no ladder"
    assert rows["tuned: lora"].budget == "4 configurations allowed, 1 tried, by random on val; rule best_val"
    assert rows["tuned, ensembled: lora"].note == ("greedy ensemble of configurations: 2 of 4 runs, trained on train "
                                                   "alone, without val on tiny_test")
    runs = {(e.method, e.seed): e.run_id for e in view.entries}
    assert runs["tuned: linear", 0] == runs["linear", 0], "the search chose the common settings: one run in two steps"
    assert runs["tuned: lora", 1] != runs["lora", 1] != runs["paper: lora", 1]
    assert len([e for e in view.entries if e.method == "tuned, ensembled: lora"]) == 1


def test_without_a_selection_the_answer_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nothing has been selected in suite 'custom'; `python -m bench ladder"):
        ladder.view(REQUEST, tmp_path)


def test_methods_without_a_recipe_say_why() -> None:
    have, without = ladder.with_recipe(("lora", "linear"))
    assert have == ["lora"] and len(without) == 1 and without[0].startswith("linear has no published recipe")


def test_a_form_of_a_later_paper_does_not_take_the_recipe_of_the_adapters_own() -> None:
    """The file's recipe is the one that LoRA was run with, not PiSSA's: rows of step `paper` are the authors'."""
    texts = ("lora(init='pissa')", "lora(lr_ratio=16)", "lora(rank=4)", "lora(init='pissa')+pace")
    have, without = ladder.with_recipe(texts)
    assert have == ["lora(rank=4)", "lora(init='pissa')+pace"], "an option of its own paper, a part with its own recipe"
    assert without[1].endswith("(the one of lora is for it without lr_ratio)")


def test_a_combination_takes_the_place_of_an_earlier_one_of_its_kind(tmp_path: Path) -> None:
    spec = tiny.spec("lora", combined="seeds", ingredients=("1*aaaaaaaaaaaa",))
    members = (Member("aaaaaaaaaaaa", 1, "final", 0),)
    one = Combination("seeds", "seeds", "default", "lora", members, 3, None, None, spec)
    combined.add("custom", [one], tmp_path)
    again = replace(one, spec=replace(spec, ingredients=("1*bbbbbbbbbbbb",)))
    assert combining.written("custom", [again], tmp_path) == [again]
    soup = replace(again, kind="soup_uniform", spec=replace(again.spec, combined="soup_uniform"))
    combined.add("custom", [soup], tmp_path)
    found = combined.load("custom", tmp_path)
    assert found is not None and found.all == (again, soup)


def test_one_command_makes_the_whole_ladder(checkout: Path) -> None:
    status, calls = made(checkout, "bench", LADDER="1", TUNE="16", METHODS="lora", SEEDS="0 1")
    assert status == 0 and calls == [["-m", "bench", "ladder", "--methods", "lora", "--seeds", "0", "1", "--budget",
                                      "16"]]
    assert [c[2] for c in made(checkout, "bench", TUNE="16", METHODS="lora")[1]] == ["tune", "select", "run"]
