"""Ensembles and soups: the papers' rules, a choice that is on disk before test is opened, one pass over test."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from bench import checkout, cli
from bench.engine import combine
from bench.engine.backbones import find_weights
from bench.engine.combine import Ingredient, Soup, model_stock, opened, uniform
from bench.engine.joint import execute as execute_combined
from bench.engine.loaders import FinalData, SealedTest, TuneData
from bench.engine.record import execute
from bench.planning.again import again
from bench.planning.request import Request, UsageError
from bench.tuning import combining, ensembles, rules
from bench.tuning.combining import Pool
from bench.tuning.studies import studies_of
from bench.verbs import combinations, verify
from bench.verbs.soup import _chosen
from methods.weights import StoredError
from results import combined, selections, store
from results.schema import RunResult, from_json, to_json
from results.selections import Effort, Study, Trial
from results.spoken import many
from results.strict import sound
from tests.reports import fakes

from . import tiny

RATES = (3e-3, 1e-2, 1e-3)


@pytest.fixture(autouse=True, scope="module")
def tiny_world() -> Iterator[None]:
    tiny.use()
    yield
    tiny.forget()


# The rule of Caruana et al.

def _random(count: int, images: int, classes: int, seed: int = 0) -> tuple[list[np.ndarray], np.ndarray]:  # type: ignore[type-arg]
    draw = np.random.default_rng(seed)
    label = draw.integers(0, classes, images)
    found = []
    for _ in range(count):
        logits = draw.normal(size=(images, classes)) + 1.0 * np.eye(classes)[label]
        found.append((np.exp(logits) / np.exp(logits).sum(1, keepdims=True)).astype(np.float16))
    return found, label


def test_each_step_adds_the_run_that_makes_the_mean_best_and_the_best_ensemble_is_kept() -> None:
    found, label = _random(5, 60, 4)

    def top1(some: tuple[int, ...]) -> float:
        mean = np.mean([found[i].astype(np.float64) for i in some], axis=0)
        return float((mean.argmax(1) == label).mean())

    taken, val = ensembles.choose(found, label, rounds=6)
    members = tuple(i for i, times in taken.items() for _ in range(times))
    assert val == top1(members) > max(top1((i,)) for i in range(5)), "a mean of several beats the best alone here"
    assert val <= max(top1(some) for n in range(1, 7) for some in combinations_with_replacement(range(5), n))
    chain: tuple[int, ...] = ()
    seen = []
    for _ in range(6):
        best = max(top1((*chain, i)) for i in range(5))
        chain = next((*chain, i) for i in range(5) if top1((*chain, i)) == best
                     and _nll((*chain, i), found, label) == min(_nll((*chain, k), found, label) for k in range(5)
                                                                if top1((*chain, k)) == best))
        seen.append((best, chain))
    value, first = max(seen, key=lambda one: (one[0], -len(one[1])))
    assert value == val and Counter(first) == Counter(members)


def _nll(some: tuple[int, ...], found: list[np.ndarray], label: np.ndarray) -> float:  # type: ignore[type-arg]
    mean = np.mean([found[i].astype(np.float64) for i in some], axis=0)
    return round(-float(np.log(mean[np.arange(len(label)), label]).mean()), 12)


def test_a_set_with_a_score_of_its_own_is_combined_by_that_score() -> None:
    """Few images of class 1: answering 0 always is right most often, and has no correlation with the truth."""
    label = np.array([0] * 8 + [1] * 2)
    idle = np.tile([0.9, 0.1], (10, 1))
    sees = np.array([[0.2, 0.8]] * 3 + [[0.9, 0.1]] * 5 + [[0.1, 0.9]] * 2)
    assert 0 in ensembles.choose([idle, sees], label, rounds=1)[0]
    taken, val = ensembles.choose([idle, sees], label, rounds=1, metric="mcc")
    (tp, fp, fn, tn) = (2, 3, 0, 5)
    mcc = (tp * tn - fp * fn) / ((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)) ** 0.5
    assert taken == {1: 1} and val == pytest.approx(mcc)


def test_of_equal_runs_one_is_enough() -> None:
    (one,), label = _random(1, 20, 3)
    assert ensembles.choose([one, one, one], label)[0] == {0: 1}


# Model Stock and the uniform soup.

def test_model_stock_is_the_papers_ratio_tensor_by_tensor() -> None:
    start = {"w": torch.zeros(3), "n": torch.tensor(7)}
    two = [{"w": torch.tensor([2.0, 0.0, 0.0]), "n": torch.tensor(7)},
           {"w": torch.tensor([1.0, 1.0, 0.0]), "n": torch.tensor(7)}]
    cosine = 1 / 2**0.5  # 45 degrees; of two runs t = 2 cos / (1 + cos)
    ratio = 2 * cosine / (1 + cosine)
    assert torch.allclose(model_stock(two, start)["w"], ratio * torch.tensor([1.5, 0.5, 0.0]))
    assert torch.equal(model_stock([two[0], two[0]], start)["w"], two[0]["w"]), "one direction: nothing is drawn back"
    apart = [{"w": torch.tensor([1.0, 0, 0])}, {"w": torch.tensor([0, 1.0, 0])}]
    assert torch.equal(model_stock(apart, start)["w"], start["w"]), "at right angles all is drawn back"
    assert torch.equal(uniform(two)["w"], torch.tensor([1.5, 0.5, 0.0])) and int(uniform(two)["n"]) == 7


# Stored runs.

@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three configurations of one seed, which kept what an ensemble needs."""
    tiny.use()
    folder = tmp_path_factory.mktemp("searched")
    for lr in RATES:
        record = execute(tiny.spec("linear", phase="tune", lr=lr, epochs=2), {},
                         tiny.where(folder, checkpoints=None, keep_members="small"), folder / "runs")
        assert record.status == "ok", record.failure
    return folder


def _trials(folder: Path) -> list[RunResult]:
    found = [r for r in store.load_all(folder / "runs") if r.spec.phase == "tune"]
    return sorted(found, key=lambda r: RATES.index(r.spec.lr))


def _pool(folder: Path) -> Pool:
    runs = _trials(folder)
    study = Study("linear", tiny.MODEL, (tiny.DATASET,), Effort(3, "grid", 0, (0,)), {},
                  tuple(Trial(n, {"lr": r.spec.lr}, (r.run_id,)) for n, r in enumerate(runs)))
    (pool,) = combining.of_studies([study], {r.run_id: r for r in runs})
    return pool


def test_a_trial_stores_probabilities_and_weights_only_where_it_is_told_to(searched: Path, tmp_path: Path) -> None:
    record = _trials(searched)[0]
    held = ensembles.stored(record, searched / "runs")
    assert held is not None
    probabilities, label = held
    assert probabilities.dtype == np.float16 and probabilities.shape == (16, tiny.CLASSES) and len(label) == 16
    assert float((probabilities.argmax(1) == label).mean()) == record.metrics["val.top1"]
    assert {a.kind for a in record.artifacts} == {"predictionsval", "probabilities", "adapter"} or {
        a.kind for a in record.artifacts} == {"predictions", "probabilities", "adapter"}
    plain = execute(record.spec, {}, tiny.where(tmp_path, checkpoints=None), tmp_path / "runs")
    assert not {a.kind for a in plain.artifacts} & {"probabilities", "adapter"} and plain.metrics == record.metrics
    assert ensembles.stored(plain, tmp_path / "runs") is None
    where = tiny.where(tmp_path)
    assert [replace(where, keep_members=k).keeps_members(n) for k in ("none", "small", "all")  # type: ignore[arg-type]
            for n in (1000, 1001)] == [False, False, True, False, True, True]


def test_runs_best_first_and_what_cannot_be_combined_is_refused(searched: Path) -> None:
    pool = _pool(searched)
    scores = [r.metrics["val.top1"] or 0 for r in pool.runs]
    assert scores == sorted(scores, reverse=True) and len(pool.runs) == 3
    with pytest.raises(UsageError, match=r"0 of 3 runs have stored weights here; again"):
        combining.with_weights(pool, searched / "elsewhere", "again")
    study = Study("linear", tiny.MODEL, (tiny.DATASET,), Effort(3, "grid", 5, (0,)), {}, ())
    with pytest.raises(UsageError, match="was tuned on folds"):
        list(combining.of_studies([study], {}))


@pytest.mark.parametrize(("prune", "seeds", "classes", "whole", "said"), [
    ("none", (0,), 10, 3, "`tune --budget 4 --sampler grid --members small` with the same words stores them"),
    ("none", (0, 1), 2000, 3, "`tune --budget 4 --sampler grid --seeds 0 1 --members all` with the same words stores"),
    ("none", (0,), 10, 1, "`tune --budget 8 --sampler grid --members small` with the same words tries more and stores"),
    ("halving", (0,), 10, 2, "`tune --budget 4 --sampler grid --prune halving --members small` with the same words st"),
    ("halving", (0,), 10, 1, "the search set the others aside; `tune --budget 4 --sampler grid --members small` with "
                             "the same words, without --prune, trains all to the end and stores them")])
def test_what_to_do_where_weights_are_not_stored_follows_from_the_search(
        prune: str, seeds: tuple[int, ...], classes: int, whole: int, said: str, tmp_path: Path) -> None:
    runs = [fakes.record(fakes.spec("svhn", "linear", lr=10.0**-n, phase="tune"), None, classes=classes,
                         metrics={"val.top1": 0.5, "val.n": 20.0}) for n in range(4)]
    trials = tuple(Trial(n, {"lr": r.spec.lr}, (r.run_id,), 0 if n < whole else 2) for n, r in enumerate(runs))
    study = Study("linear", "m", ("svhn",), Effort(4, "grid", 0, seeds, prune), {}, trials)
    (pool,) = combining.of_studies([study], {r.run_id: r for r in runs})
    with pytest.raises(UsageError) as caught:
        combining.with_weights(pool, tmp_path)
    assert f"linear on svhn: 0 of {many(whole, 'run')} have stored weights here; {said}" in str(caught.value)


def test_without_a_search_the_command_is_one_that_stores_what_is_combined(tmp_path: Path,
                                                                          monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selections, "FOLDER", tmp_path)
    asked = Request(suite="demo", datasets=("svhn",), methods=("lora(rank=4)",))
    with pytest.raises(UsageError, match=r"`python -m bench tune --suite demo --datasets svhn --methods 'lora.rank=4.' "
                                         r"--budget 8 --members small` does it"):
        studies_of(asked, " --members small")


@pytest.fixture
def here(searched: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> argparse.Namespace:
    """The verbs at work in the folder of the search, their choices written into an empty one."""
    monkeypatch.setattr(checkout, "RUNS", searched / "runs")
    monkeypatch.setattr(checkout, "CLAIMS", tmp_path / "claims")
    monkeypatch.setattr(combined, "FOLDER", tmp_path)
    monkeypatch.setattr(combinations, "place", lambda args, pool: tiny.where(searched))
    return argparse.Namespace(kind="uniform", of="configurations")


def test_the_choice_is_on_disk_before_test_is_opened_and_test_is_read_once(
        here: argparse.Namespace, searched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str]) -> None:
    opens: list[list[str]] = []
    open_test = FinalData.test

    def watched(self: FinalData) -> Any:
        found = combined.load("custom", tmp_path)
        opens.append([c.spec.id for c in found.all] if found else [])
        return open_test(self)

    monkeypatch.setattr(FinalData, "test", watched)
    chosen = combining.ensemble(_pool(searched), searched / "runs")
    assert not opens and not combined.path_of("custom", tmp_path).exists(), "a choice looks at validation alone"
    assert combinations.test(here, "custom", [chosen]) == 0
    assert opens == [[chosen.spec.id]]
    record = store.load(store.path_of(chosen.spec, searched / "runs"))
    assert record.status == "ok" and record.test_passes == 1 and record.metrics["test.n"] == 40
    assert record.dataset is not None and record.dataset.train == 48, "its members have not trained on val"
    assert record.diagnostics["combined.runs_on_train"] == record.diagnostics["combined.runs"] == len(chosen.members)
    assert "trained on train alone, without val" in capsys.readouterr().out
    assert combinations.test(here, "custom", [chosen]) == 0 and len(opens) == 1, "a second call tests nothing"
    capsys.readouterr()
    store.save(replace(record, dataset=replace(record.dataset, metric="class_mean")), searched / "runs")
    assert combinations.test(here, "custom", [chosen]) == 0
    told, by_class = capsys.readouterr().out, record.metrics["test.class_mean"] or 0.0
    assert f" {100 * by_class:.1f}\n" in told and "test as the mean per class" in told, "as the tables tell such sets"
    store.save(record, searched / "runs")
    final = execute(tiny.spec("linear", epochs=1), {}, tiny.where(tmp_path, checkpoints=None), tmp_path / "runs")
    assert final.dataset is not None and (record.dataset.split_hash, record.dataset.content_hash) == (
        final.dataset.split_hash, final.dataset.content_hash), "a cell of the same column as a final run"


def test_an_ensemble_is_the_mean_of_its_members_probabilities(here: argparse.Namespace, searched: Path) -> None:
    runs = _trials(searched)
    one = combining.combination("ensemble", _pool(searched), [(runs[0], 2), (runs[1], 1)], 0.5)
    assert one.spec.ingredients == (f"2*{runs[0].run_id}", f"1*{runs[1].run_id}") and one.spec.phase == "final"
    parts = combinations.ingredients([(runs[0], 2), (runs[1], 1)])
    record = execute_combined(one.spec, parts, {}, tiny.where(searched), searched / "runs")
    assert record.status == "ok", record.failure
    final = replace(runs[0].spec, phase="final")
    alone = []
    for part in parts:
        data = opened(final, tiny.where(searched))
        ((model, share),) = combine.trained([part], final, tiny.where(searched), data)
        images = data.test()
        model.fit.model.eval()
        batch = next(model.splits.of(images).in_order())
        alone.append(torch.cat([model.fit.forward(b.x).softmax(1) for b in model.splits.of(images).in_order()]))
        assert share == 1.0 and len(batch.y) == 20
    mean = (2 * alone[0] + alone[1]) / 3
    with np.load(store.path_of(one.spec, searched / "runs").with_suffix(".npz")) as held:
        assert held["pred"].tolist() == mean.argmax(1).tolist()
        assert np.allclose(held["confidence"], mean.amax(1).detach().numpy(), atol=1e-5)
        nll = -mean[range(40), torch.tensor(held["label"]).long()].log().detach().numpy()
        assert np.allclose(held["nll"], nll, atol=1e-4)
    assert record.params is not None and runs[0].params is not None
    assert record.params.trained == 2 * runs[0].params.trained, "all its members are stored and run"
    assert from_json(to_json(record)) == record and "ensemble" in to_json(record)
    assert sound(json.loads(to_json(record)))
    assert again(record).command == "" and "python -m bench ensemble" in again(record).told[-1]
    good, told = verify.check(store.path_of(one.spec, searched / "runs"), None, None, tiny.where(searched))
    assert not good and f"verify {runs[0].run_id} {runs[1].run_id}" in told


@pytest.mark.parametrize("kind", ("uniform", "greedy", "stock"))
def test_a_soup_of_configurations_is_tested_once_and_stores_its_weights(kind: str, here: argparse.Namespace,
                                                                        searched: Path) -> None:
    chosen = _chosen(argparse.Namespace(kind=kind), _pool(searched))
    if kind == "greedy":
        assert chosen.val is not None and chosen.best is not None and chosen.val >= chosen.best
        assert chosen.members[0].run == _pool(searched).runs[0].run_id
    else:
        assert len(chosen.members) == 3 and chosen.val is None
    assert combinations.test(here, "custom", [chosen]) == 0
    record = store.load(store.path_of(chosen.spec, searched / "runs"))
    assert record.test_passes == 1 and record.spec.combined == chosen.kind and len(record.spec.ingredients) == len(
        chosen.members)
    made = load_file(store.path_of(chosen.spec, searched / "runs").with_suffix(".safetensors"))
    files = [load_file(store.path_of(r.spec, searched / "runs").with_suffix(".safetensors"))
             for r in _trials(searched) if r.run_id in {m.run for m in chosen.members}]
    for name, tensor in made.items():
        mean = torch.stack([f[name] for f in files]).mean(0)
        assert torch.allclose(tensor, mean, atol=1e-6) is (kind != "stock"), name
    kept = {a.kind: a for a in record.artifacts}
    again_found, _ = _tested(record, searched, kept["adapter"].path)
    assert float((again_found.pred == again_found.label).mean()) == record.metrics["test.top1"]


def _tested(record: RunResult, folder: Path, file: str) -> tuple[Any, str]:
    from bench.engine.session import Session
    from datasets import registry

    session = Session(record.spec, registry.get(record.spec.dataset), tiny.where(folder))
    return session.test_again(store.path_of(record.spec, folder / "runs").with_name(file))


def test_seeds_are_combined_where_they_began_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkout, "RUNS", tmp_path / "runs")
    file = tmp_path / "tiny.safetensors"
    save_file(timm.create_model(tiny.MODEL).state_dict(), file)
    pretrained = find_weights(tiny.MODEL, file)
    where = tiny.where(tmp_path, checkpoints=None, keep_weights="all", weights_file=file)
    monkeypatch.setattr(combinations, "place", lambda args, pool: where)
    runs = {}
    for head in (None, 0):
        for seed in (0, 1):
            spec = tiny.spec("bitfit", seed=seed, head_seed=head, epochs=1, weights=pretrained.sha256)
            runs[head, seed] = execute(spec, {}, where, tmp_path / "runs")
            assert runs[head, seed].status == "ok", runs[head, seed].failure
    apart, alike = (Pool("bitfit", "default", "seeds", (runs[h, 0], runs[h, 1])) for h in (None, 0))
    with pytest.raises(UsageError, match=r"seeds 0 and 1 do not begin alike: 'head.* gives all seeds one head"):
        _chosen(argparse.Namespace(kind="uniform"), apart)
    chosen = _chosen(argparse.Namespace(kind="stock"), alike)
    parts = combinations.ingredients([(runs[0, 0], 1), (runs[0, 1], 1)])
    record = execute_combined(chosen.spec, parts, {}, where, tmp_path / "runs")
    assert record.status == "ok" and record.dataset is not None and record.dataset.train == 64
    assert record.diagnostics["combined.runs_on_train"] == 0
    mean = combining.combination("seeds", alike, [(r, 1) for r in alike.runs])
    assert mean.text() == "mean of seeds: 2 of 2 runs, trained on train and val"
    assert execute_combined(mean.spec, parts, {}, where, tmp_path / "runs").test_passes == 1


def test_numbers_are_no_ensemble_of_seeds_and_nothing_is_written_or_printed(
        here: argparse.Namespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str]) -> None:
    found = tuple(fakes.record(fakes.spec("stsb", "lora", seed=seed), None, metrics={"test.score": 0.5, "test.n": 20.0})
                  for seed in (0, 1))
    monkeypatch.setattr(combining, "of_seeds", lambda plan, stage: [Pool("lora", stage, "seeds", found)])
    words = "--of seeds --datasets stsb --data standin --methods lora --seeds 0 1 --backbones regatta_text_40"
    assert cli.main(["ensemble", *words.split()]) == 2
    told = capsys.readouterr()
    assert "lora on stsb: its answers are numbers and no classes" in told.err and not told.out
    assert not list(tmp_path.iterdir()), "no choice is on disk"


def test_what_draws_its_start_from_the_seed_is_no_soup(tmp_path: Path) -> None:
    specs = [tiny.spec("lora", seed=s, head_seed=0) for s in (0, 1)]
    sample = Ingredient(execute(replace(specs[0], epochs=1, phase="tune"), {}, tiny.where(
        tmp_path, checkpoints=None, keep_members="small"), tmp_path / "runs"), tmp_path)
    (file,) = (tmp_path / "runs").rglob("*.safetensors")
    parts = [Ingredient(replace(sample.record, spec=s), file) for s in specs]
    where = tiny.where(tmp_path)
    data = opened(replace(specs[0], phase="tune"), where)
    with pytest.raises(StoredError, match="drawn from the seed; take configurations of one seed"):
        Soup(replace(specs[0], phase="tune"), parts, where, data)


# The seal.

def test_neither_the_search_nor_the_choice_has_a_door_to_test(searched: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Choosing goes through the data of phase tune, which have no test to give."""
    asked: list[str] = []
    made = TuneData.__init__

    def watched(self: TuneData, *rest: Any) -> None:
        made(self, *rest)
        asked.append(type(self).__name__)
        with pytest.raises(SealedTest):
            self.test()

    monkeypatch.setattr(TuneData, "__init__", watched)
    monkeypatch.setattr(checkout, "RUNS", searched / "runs")
    monkeypatch.setattr(combinations, "place", lambda args, pool: tiny.where(searched))
    combining.ensemble(_pool(searched), searched / "runs")
    assert not asked, "an ensemble is chosen from stored files alone"
    _chosen(argparse.Namespace(kind="greedy"), _pool(searched))
    assert set(asked) == {"TuneData"}
    assert rules.RULES and selections.SELECTION_SCHEMA == 1
