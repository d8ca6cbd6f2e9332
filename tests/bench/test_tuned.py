"""What a tuned table says of itself: the settings that were chosen, every protocol in it, and how much of the suite."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bench.planning import tuned
from bench.planning.plan import make
from bench.planning.request import Request
from bench.planning.standing import named, protocols_of
from bench.suites import find
from results import store
from results.schema import RunSpec, Scalar
from results.selections import Candidate, Choice, Cost, Effort, Selection
from results.suites import SuiteView
from tests.reports import fakes


def _choice(method: str, datasets: tuple[str, ...], config: dict[str, Scalar], score: float = 0.825,
            **changes: object) -> Choice:
    candidates = (Candidate(0, {}, 0.5, 0.01, 10), Candidate(1, config, score, 0.01, 10))
    finals = tuple(fakes.spec(name, method, **changes) for name in datasets)
    return Choice(method, fakes.BACKBONE, datasets, Effort(2, "grid", 0, (0,)), "best_val", 1, (1,), candidates, finals)


def _view(tmp_path: Path, *choices: Choice) -> SuiteView:
    make_suite = find("demo")
    assert make_suite is not None
    return tuned.view(make_suite(), Selection("demo", choices), (0,), tmp_path)


def test_one_choice_for_all_data_sets_says_setting_score_and_ties(tmp_path: Path) -> None:
    view = _view(tmp_path, _choice("lora+pace", ("dtd", "digits"), {"lr": 0.005, "pace.weight": 0.05}))
    assert view.rows[0].note == (
        "chosen: lr=0.005, pace.weight=0.05, one setting for all data sets, on the validation images of dtd and digits "
        "(82.5 % there; 1 of 2 settings within one standard error)")


def test_settings_set_aside_and_an_edge_of_the_search_are_said(tmp_path: Path) -> None:
    tried = tuple(Candidate(i, {"lr": lr}, score, 0.01, 10)
                  for i, (lr, score) in enumerate(((1e-3, None), (3e-3, None), (1e-2, 0.8))))
    one = replace(_choice("lora", ("dtd",), {}), winner=2, ties=(2,), candidates=tried, cost=Cost(7, 12))
    assert _view(tmp_path, one).rows[0].note.endswith(
        "(80.0 % there; 2 of 3 settings set aside before the end; lr at the edge of 0.001 to 0.01, all that was "
        "searched)")
    inside = replace(one, winner=1, candidates=tuple(replace(c, score=0.8) for c in tried), cost=None)
    assert _view(tmp_path, inside).rows[0].note.endswith("1 of 3 settings within one standard error)")


def test_a_choice_made_on_texts_says_texts(tmp_path: Path) -> None:
    one = _choice("lora", ("dtd",), {"lr": 0.01})
    texts = replace(one, finals=tuple(replace(f, image_size=0, tokenizer="0" * 12) for f in one.finals))
    assert "on the validation texts of dtd (" in _view(tmp_path, texts).rows[0].note


def test_a_choice_that_further_data_sets_take_names_those_it_was_made_on(tmp_path: Path) -> None:
    one = _choice("lora", ("dtd",), {"lr": 0.01})
    view = _view(tmp_path, replace(one, finals=(*one.finals, fakes.spec("svhn", "lora"))))
    assert "one setting for all data sets, on the validation images of dtd (82.5 %" in view.rows[0].note
    alone = _view(tmp_path, one)
    assert alone.rows[0].note.startswith("chosen: lr=0.01, on the validation images of dtd (82.5 %")


def test_choices_for_each_data_set_are_grouped_by_equal_settings(tmp_path: Path) -> None:
    view = _view(tmp_path, _choice("lora", ("dtd",), {"lr": 0.01, "lora.rank": 8}),
                 _choice("lora", ("svhn",), {"lr": 1e-05, "lora.rank": 4}),
                 _choice("lora", ("digits",), {"lr": 0.01, "lora.rank": 8.0}))
    assert view.rows[0].note == ("chosen for each data set: lr=0.01, lora.rank=8 on dtd and digits; "
                                 "lr=1e-05, lora.rank=4 on svhn")


def test_nothing_to_choose_is_said(tmp_path: Path) -> None:
    assert _view(tmp_path, _choice("lora", ("dtd",), {})).rows[0].note.startswith("chosen: the settings as they are,")


def test_a_caption_names_every_protocol_and_whose_it_is(tmp_path: Path) -> None:
    view = _view(tmp_path, _choice("lora", ("digits",), {}, epochs=1), _choice("lora+pace", ("digits",), {}, epochs=1),
                 _choice("linear", ("digits",), {}, epochs=5))
    assert view.protocol.startswith("tuned on val, then 1 epoch (lora, lora+pace) or 5 epochs (linear), batch 32")
    assert view.protocol.endswith("rows of different protocols are neither ranked nor compared")
    same = _view(tmp_path, _choice("lora", ("digits",), {}), _choice("linear", ("digits",), {}))
    assert same.protocol.startswith("tuned on val, then 4 epochs, batch 32") and "different" not in same.protocol


def _spec(dataset: str, method: str, **changes: object) -> tuple[str, RunSpec]:
    return method, fakes.spec(dataset, method, **changes)


def test_protocols_that_differ_by_data_set_or_in_what_no_caption_names() -> None:
    by_set = [_spec(d, m, epochs=e) for d, e in (("dtd", 1), ("svhn", 2)) for m in ("lora", "linear")]
    assert protocols_of(by_set).startswith("1 epoch or 2 epochs by data set, batch 32")
    assert "different" not in protocols_of(by_set), "on each data set the rows have one protocol"
    unnamed = [_spec("dtd", "lora"), _spec("dtd", "linear", clip=1.0)]
    assert protocols_of(unnamed).endswith("; rows of different protocols are neither ranked nor compared")


@pytest.fixture
def suites(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(store, "ROOT", tmp_path)
    return tmp_path


def test_a_row_beside_the_suites_own_is_named_and_the_title_counts_no_more(suites: Path) -> None:
    whole = make(Request(suite="demo"), suites).view
    assert "8 methods" in whole.title and "Of the suite" not in whole.note
    more = make(Request(suite="demo", datasets=("digits",), methods=("lora_last(k=3)", "lora+pace")), suites).view
    assert more.title == "Demo: embedded backbone"
    # "k=3" is the method's default, so its text leaves it out
    assert more.note.endswith(f"Rows that are not the suite's own ({more.rows[-1].method}) have settings that were "
                              "not chosen for them.")
    assert more.rows[-1].method.startswith("lora_last") and "lora+pace)" not in more.note


def test_a_part_of_a_suite_with_settings_of_its_own_counts_what_it_holds(suites: Path) -> None:
    view = make(Request(suite="demo", datasets=("digits",), methods=("lora",), epochs=1), suites).view
    assert view.title == "Demo: embedded backbone, epochs=1"
    assert "Settings of the command line (epochs=1) replace the suite's" in view.note
    assert view.note.endswith("Of the suite this table holds 1 of its 8 methods and 1 of its 26 data sets.")


@pytest.mark.parametrize(("suite", "title"), (
    ("adapters", "Adapters: embedded backbone"), ("ugr", "UGR (our reading): VPT, Adapter, LoRA"),
    ("vtab1k", "VTAB-1k"), ("shift-16shot", "Trained on 16 images a class of ImageNet-1k, tested under shift")))
def test_titles_lose_counts_of_methods_and_data_sets_alone(suite: str, title: str) -> None:
    make_suite = find(suite)
    assert make_suite is not None
    assert named(make_suite(), ["digits"], ["lora"])[0] == title


def test_a_tuned_title_counts_nothing_that_is_not_there(tmp_path: Path) -> None:
    view = _view(tmp_path, _choice("lora", ("digits",), {}))
    assert view.title == "Demo: embedded backbone, tuned"
    assert "Of the suite this table holds 1 of its 8 methods and 1 of its 26 data sets." in view.note
