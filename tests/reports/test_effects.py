"""Two-way effects by hand, curves by hand, and the pictures that show them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from reports import cli, effects, spread
from results.selections import (
    Candidate,
    Choice,
    Cost,
    Effort,
    Selection,
    Study,
    Trial,
    Trials,
    save_selection,
    save_trials,
)
from results.suites import Column, save_suite
from tests.reports import fakes
from tests.reports.test_leaderboard import table


@pytest.mark.parametrize(("method", "parts"), [
    ("lora", ("lora", "alone")),
    ("lora(rank=4)+pace", ("lora(rank=4)", "pace")),
    ("lora(target='a+b')+pace(sigma=1.0)+tpgm", ("lora(target='a+b')", "pace(sigma=1.0)+tpgm")),
])
def test_a_method_s_text_splits_into_adapter_and_parts(method: str, parts: tuple[str, str]) -> None:
    assert effects.split(method) == parts


def test_the_largest_full_table_is_found() -> None:
    methods = ["lora", "adapter", "vpt", "lora+pace", "adapter+pace", "vpt+pace", "lora+l2sp", "adapter+ugr", "full"]
    assert effects.full_table(methods) == (["lora", "adapter", "vpt"], ["pace"])
    assert effects.full_table(["lora", "lora+pace", "adapter"]) == ([], [])


def test_main_effects_and_interactions_by_hand() -> None:
    mean = np.array([[0.50, 0.56, 0.52], [0.60, 0.62, 0.66]])  # two adapters; alone, with a, with b
    sure = spread.Spread(mean.ravel(), np.zeros((6, 6)), spread.luck([spread.Training(*np.ones((3, 6)))]), np.inf)
    found = effects.two_way(("x", "y"), ("a", "b"), sure, range(6))
    assert [e.value for e in found.main] == pytest.approx([0.04, 0.04])  # (6 + 2) / 2, (2 + 6) / 2
    assert [[e.value for e in row] for row in found.difference] == [pytest.approx([0.06, 0.02]),
                                                                   pytest.approx([0.02, 0.06])]
    assert [[e.value for e in row] for row in found.interaction] == [pytest.approx([0.02, -0.02]),
                                                                    pytest.approx([-0.02, 0.02])]


def test_the_interval_of_a_main_effect_covers_the_truth() -> None:
    rng = np.random.default_rng(0)
    inside, trials = 0, 300
    for trial in range(trials):
        sets = []
        for d in range(3):
            ease = rng.random(120)
            levels = (0.45, 0.50, 0.50, 0.53)  # x, x+a, y, y+a: main effect 4 points
            right = np.stack([rng.random(120) < level + 0.4 * (ease - 0.5) for level in levels], 1)
            sets.append(spread.Answers(f"{trial}-{d}", f"items {d}", right, (0, 1, 2, 3)))
        known = spread.spread_of(sets, [1 / 3] * 3, 4)
        low, high = effects.two_way(("x", "y"), ("a",), known, range(4)).main[0].interval
        inside += low <= 0.04 <= high
    assert 0.93 <= inside / trials <= 0.97




def columns_of(kind: str) -> tuple[Column, ...]:
    if kind == "fewshot":
        return tuple(Column(f"{f}@{k}", f"{f}, {k} shots", f"shots{k}", True, 10, family=f, shots=k)
                     for k in (1, 4) for f in ("food101", "stanford_cars"))
    shifted = tuple(Column(n, n, "ood", True, 10, "imagenet1k", f"test:{n}") for n in ("imagenetv2", "ina"))
    return (Column("imagenet1k", "ImageNet", "id", True, 10), *shifted)


def build(tmp_path: Path, columns: tuple[Column, ...], groups: dict[str, str], **changes: object) -> str:
    specs = []
    for method, bonus in (("lora", 0.0), ("lora+pace", 0.06), ("adapter", 0.04), ("adapter+pace", 0.06)):
        for name in dict.fromkeys(c.run_dataset or c.name for c in columns):
            run = fakes.spec(name, method)
            specs.append(run)
            more = {"test:imagenetv2.top1": 0.4, "test:imagenetv2.n": 100.0, "test:ina.top1": 0.1, "test:ina.n": 50.0}
            result = fakes.scored(tmp_path / "runs", run, 0.5 + bonus)
            fakes.store(tmp_path / "runs", replace(result, metrics={**result.metrics, **more}))
    save_suite(fakes.suite(specs, columns, ["lora", "lora+pace", "adapter", "adapter+pace"], groups=groups,
                           reference="lora", **changes), tmp_path / "suites")
    assert cli.main(["build", "--records", str(tmp_path / "runs"), "--suites", str(tmp_path / "suites"), "--out",
                     str(tmp_path / "out")]) == 0
    return (tmp_path / "out" / "LEADERBOARD.md").read_text()


def test_few_shot_has_a_mean_per_number_of_shots_a_curve_and_a_matrix_of_effects(tmp_path: Path) -> None:
    page = build(tmp_path, columns_of("fewshot"), {"shots1": "1 shot", "shots4": "4 shots"}, kind="fewshot")
    row = table(page, "#### Accuracy (STAND-IN")["lora+pace"]
    assert row["1 shot (2)"].startswith("56.0 [") and row["4 shots (2)"].startswith("56.0 [")
    found = table(page, "#### Adapter × added part")
    assert found["lora"]["+pace"].startswith("+6.0 [") and found["adapter"]["+pace"].startswith("+2.0 [")
    assert found["lora"]["+pace, beyond its mean"].startswith("+2.0 [")
    assert found["mean over adapters"]["+pace"].startswith("+4.0 [")
    html = (tmp_path / "out/site/demo.html").read_text()
    assert "Accuracy against images per class" in html and "What a part adds to an adapter" in html


def test_shift_reads_every_further_test_set_of_the_same_run(tmp_path: Path) -> None:
    page = build(tmp_path, columns_of("shift"), {"id": "In distribution", "ood": "Shifted"}, kind="shift")
    row = table(page, "#### Accuracy (STAND-IN")["lora"]
    assert row["In distribution (1)"].startswith("50.0 [")
    assert row["Shifted (2)"].startswith("25.0 [")
    shifted = table(page, "#### Accuracy under shift, trained on ImageNet (STAND-IN")["lora"]
    marked = "40.0 [30.9, 49.8] ‡", "10.0 [4.3, 21.4] °‡"  # no predictions are stored for them
    assert (shifted["imagenetv2"], shifted["ina"]) == marked


LORA = ("lora", fakes.BACKBONE, ("imagenet1k",))
EFFORT = Effort(3, "grid", 0, (0,))


def tried(tmp_path: Path) -> tuple[Trial, ...]:
    trials = []
    for number, (lr, val) in enumerate(((0.1, 0.4), (0.01, 0.6), (0.001, 0.5))):
        run = fakes.spec("imagenet1k", "lora", phase="tune", lr=lr)
        fakes.store(tmp_path / "runs", replace(fakes.record(run, None), metrics={"val.top1": val}))
        trials.append(Trial(number, {"lr": lr}, (run.id,)))
    return tuple(trials)


def test_what_was_tried_becomes_a_budget_curve_and_no_table_counts_it(tmp_path: Path) -> None:
    save_trials(Trials("demo", (Study(*LORA, EFFORT, {}, tried(tmp_path)),)), tmp_path / "selections")
    page = build(tmp_path, columns_of("shift")[:1], {"id": "In distribution"})
    assert "50.0 [" in table(page, "#### Accuracy (STAND-IN")["lora"]["ImageNet"]
    html = (tmp_path / "out/site/demo.html").read_text()
    assert "Validation accuracy against tuning budget" in html
    assert "1: 50.0, 2: 56.7, 3: 60.0" in html  # by hand: mean; (50 + 60 + 60) / 3; best


def test_the_budget_curve_has_test_once_every_configuration_has_been_tested(tmp_path: Path) -> None:
    trials = tried(tmp_path)
    save_trials(Trials("demo", (Study(*LORA, EFFORT, {}, trials),)), tmp_path / "selections")
    for lr, top1 in ((0.1, 0.7), (0.01, 0.5)):  # as `bench curve --score` leaves them, one short
        run = fakes.spec("imagenet1k", "lora", phase="peek", lr=lr)
        fakes.store(tmp_path / "runs", replace(fakes.record(run, None), metrics={"peek.top1": top1}))
    lines = budget_lines(build(tmp_path, columns_of("shift")[:1], {"id": "In distribution"}))
    assert [line[1:] for line in lines] == [["1", "50.0", "–", "–"], ["2", "56.7", "–", "–"], ["3", "60.0", "–", "–"]]
    last = fakes.spec("imagenet1k", "lora", phase="peek", lr=0.001)
    fakes.store(tmp_path / "runs", replace(fakes.record(last, None), metrics={"peek.top1": 0.3}))
    lines = budget_lines(build(tmp_path, columns_of("shift")[:1], {"id": "In distribution"}))
    # by hand: tests .5 of .6, .3 of .5, .7 of .4; two of three: (.5 + .5 + .3) / 3 and (.7 + .7 + .5) / 3
    assert [line[1:] for line in lines] == [["1", "50.0", "50.0", "50.0"], ["2", "56.7", "43.3", "63.3"],
                                            ["3", "60.0", "50.0", "70.0"]]
    assert "Test accuracy against tuning budget" in (tmp_path / "out/site/demo.html").read_text()


def budget_lines(page: str) -> list[list[str]]:
    part = page[page.index("#### Accuracy against tuning budget (STAND-IN"):].split("\n#### ")[0]
    return [[c.strip() for c in line.split("|")[1:-1]] for line in part.splitlines() if line.startswith("| `lora`")]


def test_a_tuned_suite_says_budget_rule_ties_and_how_far_val_was_from_test(tmp_path: Path) -> None:
    candidates = tuple(Candidate(i, {}, score, 0.03, 10) for i, score in enumerate((0.4, 0.62, 0.6)))
    choice = Choice(*LORA, EFFORT, "best_val", 1, (1, 2), candidates, ())
    other = replace(choice, method="adapter", effort=replace(EFFORT, budget=5))
    save_selection(Selection("demo", (choice, other)), tmp_path / "selections")
    page = build(tmp_path, columns_of("shift")[:1], {"id": "In distribution"}, name="demo-tuned")
    row = table(page, "#### Tuning (STAND-IN")["lora"]
    assert (row["Budget"], row["Rule"]) == ("3 configurations by grid on val", "best_val")
    assert (row["Tied settings"], row["Val of the chosen"], row["Test there"], row["Val − test"]) == (
        "2.0", "62.0", "50.0", "+12.0")
    assert table(page, "#### Tuning (STAND-IN")["adapter"]["Budget"].startswith("5 configurations allowed, 3 tried")
    assert "- the budgets differ: " in page


def test_peeking_is_measured_apart_and_fills_no_cell(tmp_path: Path) -> None:
    run = fakes.spec("imagenet1k", "lora", phase="peek", lr=0.5)
    peek = replace(fakes.record(run, None), metrics={"peek.top1": 0.5, "peek.best.top1": 0.53})
    fakes.store(tmp_path / "runs", peek)
    real = replace(peek, spec=replace(run, data="real:imagenet1k"), metrics={"peek.top1": 0.1, "peek.best.top1": 0.9})
    fakes.store(tmp_path / "runs", real)
    page = build(tmp_path, columns_of("shift")[:1], {"id": "In distribution"})
    found = table(page, "#### What peeking at test would have gained (STAND-IN")["lora"]
    assert (found["Runs"], found["Last epoch"], found["Best epoch"], found["Gain"]) == ("1", "50.0", "53.0", "+3.0")
    assert found["Most on"] == "ImageNet (+3.0)"


def test_val_is_held_against_test_of_the_sets_that_were_searched_alone(tmp_path: Path) -> None:
    method, backbone, _ = LORA
    candidates = (Candidate(0, {}, None, None, 10), Candidate(1, {}, 0.62, 0.03, 10))
    choice = Choice(method, backbone, ("imagenet1k",), EFFORT, "best_val", 1, (1,), candidates, (), Cost(3, 4))
    save_selection(Selection("demo", (choice,)), tmp_path / "selections")
    page = build(tmp_path, columns_of("shift"), {"id": "In distribution", "ood": "Shifted"}, name="demo-tuned")
    row = table(page, "#### Tuning (STAND-IN")["lora"]
    assert row["Test there"] == "50.0", "the shifted sets, 40.0 and 10.0, were not searched"
    assert row["Tied settings"] == "–", "what was set aside before the end may have been as good"
