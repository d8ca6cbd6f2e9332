"""What a run measures beside its own split: further test sets, probes, what parts report, no adaptation at test."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from bench.engine import loaders
from bench.engine.evaluate import predict_among
from bench.engine.loaders import Batches, SealedTest, open_data
from bench.engine.record import execute
from bench.engine.session import Session
from datasets import registry
from datasets.card import Card
from results import store
from results.metrics import recompute
from results.schema import RunResult, RunSpec

from . import tiny

OTHER = "tiny_shifted"
MASK = (0, 2)


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    tiny.use()
    card = registry.get(tiny.DATASET)
    if OTHER not in registry.names("real"):
        registry.register(Card(OTHER, "Tiny, shifted", "real", tiny.CLASSES, {"test": 40}, "none", "none", "none", "",
                               "nothing", lambda root, split: card.items(root, split)[::-1], facts={"mask": OTHER}))
    monkeypatch.setattr("bench.engine.phases.masks", lambda: {OTHER: MASK})
    yield
    tiny.forget()
    registry._cards.pop(OTHER, None)
    registry._aliases.pop(OTHER, None)


def _run(spec: RunSpec, tmp_path: Path) -> RunResult:
    return execute(spec, {}, tiny.where(tmp_path), tmp_path / "runs")


def test_further_test_sets_are_scored_with_the_same_weights(tmp_path: Path) -> None:
    plain = _run(tiny.spec("lora"), tmp_path / "a")
    spec = replace(tiny.spec("lora"), also_test=(OTHER,))
    both = _run(spec, tmp_path)
    assert both.status == "ok" and both.test_passes == 1
    assert both.metrics["test.top1"] == plain.metrics["test.top1"]
    # The other set holds the same images in the other order.
    assert both.metrics[f"test:{OTHER}.top1"] == both.metrics["test.top1"]
    masked = both.metrics[f"test:{OTHER}@{OTHER}.top1"]
    held = {a.kind: a.path for a in both.artifacts}
    folder = store.path_of(spec, tmp_path / "runs").parent
    with np.load(folder / held["predictions"]) as own, np.load(folder / held[f"predictions:{OTHER}"]) as other:
        assert (own["pred"][::-1] == other["pred"]).all() and (own["label"][::-1] == other["label"]).all()
    with np.load(folder / held[f"predictions:{OTHER}@{OTHER}"]) as other:
        assert set(other["pred"]) <= set(MASK) and masked == (other["pred"] == other["label"]).mean()
    assert not list(recompute(tmp_path / "runs"))


def test_a_mask_takes_the_best_of_the_classes_that_it_holds(tmp_path: Path) -> None:
    session = Session(tiny.spec("linear"), registry.get(tiny.DATASET), tiny.where(tmp_path))
    session.run()
    images = Batches(loaders._open(registry.get(OTHER), tmp_path, session.spec, loaders.ImageCache(None), "test"),
                     session.built.normalise, 40, 0)
    fit = session.built.fit
    fit.model.eval()
    every, some = predict_among(session.built.method, fit, images, (None, MASK))
    with torch.no_grad():
        logits = fit.forward(next(images.in_order()).x)
    assert (every.pred == logits.argmax(1).numpy()).all()
    assert (some.pred == np.array(MASK)[logits[:, list(MASK)].argmax(1).numpy()]).all()
    inside = np.isin(some.label, MASK)
    expected = torch.nn.functional.cross_entropy(logits[inside][:, list(MASK)],
                                                 torch.tensor([MASK.index(y) for y in some.label[inside]]),
                                                 reduction="none")
    assert np.allclose(some.nll[inside], expected.numpy(), atol=1e-6)


@pytest.mark.parametrize("phase", ["tune", "final"])
def test_further_test_sets_are_sealed_as_the_own_one_is(phase: str, tmp_path: Path) -> None:
    spec = replace(tiny.spec("linear"), phase=phase, also_test=(OTHER,))  # type: ignore[arg-type]
    data = open_data(registry.get(tiny.DATASET), tmp_path, spec, loaders.ImageCache(None))
    with pytest.raises(SealedTest):
        data.further(registry.get(OTHER))
    data.finish_training()
    if phase == "tune":
        with pytest.raises(SealedTest):
            data.further(registry.get(OTHER))
    else:
        assert len(data.further(registry.get(OTHER))) == 40
        with pytest.raises(SealedTest, match="once"):
            data.further(registry.get(OTHER))


def test_what_adapts_at_test_is_scored_without_adaptation_too(tmp_path: Path) -> None:
    adapting = _run(tiny.spec("lora+ugr(tta='episodic', K=3, rho=2.0)"), tmp_path / "a")
    plain = _run(tiny.spec("lora+ugr(rho=2.0)"), tmp_path / "b")
    assert adapting.metrics["test:noadapt.nll"] == plain.metrics["test.nll"], "training is the same"
    assert adapting.metrics["test.nll"] != plain.metrics["test.nll"]
    assert "test:noadapt.nll" not in plain.metrics


def test_probes_are_logged_on_validation_and_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = replace(tiny.spec("lora+pace"), phase="tune")
    probed = _run(spec, tmp_path / "a")
    assert all(f"probe.pace.{k}" in h for h in probed.history for k in ("fp_dist", "fp_feat", "consistency"))
    monkeypatch.setattr("bench.engine.epochend.probes", lambda method: False)
    quiet = _run(spec, tmp_path / "b")
    assert quiet.metrics == probed.metrics
    assert [h["train.loss"] for h in quiet.history] == [h["train.loss"] for h in probed.history]
    assert not any(k.startswith("probe.") for h in _run(tiny.spec("lora+pace"), tmp_path / "c").history for k in h), \
        "phase final has no validation images"


def test_what_parts_report_is_in_the_record(tmp_path: Path) -> None:
    found = _run(tiny.spec("full+tpgm+wise(points=2)"), tmp_path).diagnostics
    assert {"report.wise.alpha_0.00", "report.wise.alpha_0.50", "report.wise.alpha_1.00"} <= found.keys()
    assert found["report.tpgm.rho_mean"] is not None and 0 <= found["report.tpgm.rho_mean"] <= 1
