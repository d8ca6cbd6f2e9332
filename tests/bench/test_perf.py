"""`perf`: fair turns, honest intervals, variants, the largest batch, the record. No test looks at a real clock."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from bench import cli
from bench.perf import fit, machine, measure, rig, timing
from bench.planning.request import UsageError
from results import measured
from results.schema import RunSpec

from . import tiny


@pytest.fixture(autouse=True, scope="module")
def tiny_world() -> Iterator[None]:
    tiny.use()
    yield
    tiny.forget()


@pytest.fixture(autouse=True)
def small_yardstick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real ones take seconds."""
    monkeypatch.setattr(machine, "shapes", lambda tokens, width: [(tokens, width, width), (64, 64, 64)])
    monkeypatch.setattr(machine, "PROBE_S", 1e-4)


class Clock:
    """Time that only work moves; with a drift, each work takes longer than the one before it."""

    def __init__(self, drift: float = 0.0) -> None:
        self.now, self.drift, self.calls = 0.0, drift, 0

    def __call__(self) -> float:
        return self.now

    def work(self, seconds: float) -> Any:
        def run() -> None:
            self.now += seconds * (1 + self.drift * self.calls)
            self.calls += 1
        return run


def test_a_turn_runs_forwards_then_backwards() -> None:
    order: list[str] = []
    timing.in_turns({n: lambda n=n: order.append(n) for n in "abc"}, turns=2, warmup=1)
    assert "".join(order) == "abccba" * 3


def test_a_steady_drift_cancels_in_the_ratio() -> None:
    clock = Clock(drift=0.01)
    found = timing.in_turns({"a": clock.work(1), "b": clock.work(2), "c": clock.work(1)}, 6, clock=clock)
    assert found.ratio("a", "b").median == pytest.approx(2)
    assert found.ratio("a", "c").median == pytest.approx(1)
    assert statistics.stdev(found.seconds["a"]) > 0.01  # the drift is there


def test_warm_up_is_not_kept() -> None:
    clock = Clock()
    slow = iter([9.0, 9.0] + [1.0] * 6)
    found = timing.in_turns({"a": lambda: clock.work(next(slow))()}, turns=3, warmup=1, clock=clock)
    assert found.seconds == {"a": [1.0, 1.0, 1.0]}


@pytest.mark.parametrize(("n", "low", "high", "coverage"), [(2, 1, 2, 0.5), (5, 1, 5, 0.9375), (6, 1, 6, 0.96875),
                                                            (9, 2, 8, 0.9609375), (20, 6, 15, 0.9586105)])
def test_the_medians_interval_is_the_textbooks(n: int, low: float, high: float, coverage: float) -> None:
    found = timing.median_interval([float(i) for i in range(n, 0, -1)])
    assert (found.low, found.high, found.n) == (low, high, n)
    assert found.coverage == pytest.approx(coverage, abs=1e-6)


def test_one_value_has_no_interval() -> None:
    assert timing.median_interval([3.0]) == (3.0, None, None, None, 1)


def test_the_interval_covers_the_median_as_often_as_it_says() -> None:
    random = torch.Generator().manual_seed(0)
    inside = 0
    for _ in range(2000):
        found = timing.median_interval(torch.rand(9, generator=random).tolist())
        inside += found.low <= 0.5 <= found.high  # type: ignore[operator]
    assert abs(inside / 2000 - 0.961) < 0.02


@pytest.mark.parametrize("most", [0, 1, 5, 31, 32, 33, 100])
@pytest.mark.parametrize("guess", [1, 32, 100])
def test_the_largest_batch_is_found_whatever_the_guess(most: int, guess: int) -> None:
    assert fit.largest(lambda n: n <= most, guess) == most


def test_the_largest_batch_stops_at_the_limit() -> None:
    assert fit.largest(lambda n: True, limit=50) == 50


def _variant(text: str, batch: int = 4) -> rig.Variant:
    return rig.variant(text, tiny.MODEL, batch, ["drop_path=0.0", f"image_size={tiny.SIZE}"])


def test_the_ledgers_answer_fits_and_one_more_does_not() -> None:
    one = _variant("lora")
    budget = 1e6
    found = fit.from_ledger(one, budget)
    assert found.batch and found.how == "ledger"
    sums = [fit.ledger_bytes(one.spec, n) for n in (found.batch, found.batch + 1)]
    assert sums[0] is not None and sums[1] is not None and sums[0] <= budget < sums[1]


def test_three_forecasts_answer_every_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    real = fit.ledger_bytes

    def counting(spec: RunSpec, batch: int, classes: int) -> int | None:
        asked.append(batch)
        return real(spec, batch, classes)

    monkeypatch.setattr(fit, "ledger_bytes", counting)
    one = _variant("lora(rank=3)")
    found = [fit.from_ledger(one, budget).batch for budget in (1e6, 2e6, 5e6, 1e7)]
    assert len(asked) == 3 and all(a < b for a, b in pairwise(found))  # type: ignore[operator]
    assert all(real(one.spec, n) <= b < real(one.spec, n + 1)  # type: ignore[operator]
               for n, b in zip(found, (1e6, 2e6, 5e6, 1e7), strict=True))  # type: ignore[operator]


def test_bytes_that_grow_with_the_square_of_the_batch_are_found_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit, "ledger_bytes", lambda spec, batch, *_: 1000 + 10 * batch + batch * batch)
    one = _variant("lora(rank=5)")
    assert fit.from_ledger(one, 1000 + 10 * 70 + 70 * 70).batch == 70
    assert fit.from_ledger(one, 1000 + 10 * 70 + 70 * 70 - 1).batch == 69
    assert fit.from_ledger(one, 1000).batch == 0


def test_a_budget_below_the_weights_holds_no_batch() -> None:
    assert fit.from_ledger(_variant("full"), 1e4).batch == 0


def test_a_variant_sets_fields_behind_the_at_sign_for_itself_alone() -> None:
    plain, other = _variant("lora"), _variant("lora(rank=4)@precision=bf16,attention=plain,class_query=True")
    assert (plain.spec.precision, plain.spec.attention, plain.spec.class_query) == ("fp32", "fused", False)
    assert (other.spec.precision, other.spec.attention, other.spec.class_query) == ("bf16", "plain", True)
    assert dict(other.spec.options)["lora.rank"] == 4
    assert other.name == "lora(rank=4)@precision=bf16,attention=plain,class_query=True"


@pytest.mark.parametrize(("text", "words"), [
    ("lora@precision=fp16", "precision must be one of fp32, bf16"),
    ("lora@atention=plain", "did you mean attention"),
    ("lora@class_query=perhaps", "class_query must be True or False"),
])
def test_a_variant_that_cannot_be_is_refused_with_a_sentence(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        _variant(text)


def test_measuring_gives_every_figure_with_its_interval() -> None:
    variants = [_variant(t) for t in ("linear", "lora", "sherl")]
    found = measure.measure(variants, "cpu", turns=3, warmup=0, references=["linear"])
    known = {f.name: f for f in found.figures}
    for name in ("linear", "lora", "sherl"):
        speed = known[name, "train"]
        assert speed.value and speed.low and speed.high and speed.low <= speed.value <= speed.high
        assert (speed.unit, speed.n, speed.coverage) == ("images/s", 3, 0.75)
        assert known[name, "saved forecast / measured"].value == 1
        assert known[name, "train of peak"].value > 0  # type: ignore[operator]
        assert known[name, "eval"].value
    assert ("lora", "train / linear") in known and ("linear", "train / linear") not in known
    assert ("lora", "eval merged") in known and ("sherl", "eval merged") not in known
    assert known["matmul fp32", "rate"].unit == "FLOP/s"
    assert any(n.startswith("informal") for n in found.notes)  # three turns are no published figure


def test_out_of_memory_is_an_outcome_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    first = rig.Rig.first_step

    def starved(self: rig.Rig) -> Any:
        if self.spec.method == "full":
            raise torch.OutOfMemoryError("CUDA out of memory")
        return first(self)

    monkeypatch.setattr(rig.Rig, "first_step", starved)
    found = measure.measure([_variant("full"), _variant("linear")], "cpu", 1, 0, evaluate=False)
    known = {f.name: f for f in found.figures}
    assert known["full", "train"].value is None and known["full", "train"].note == "out of memory at batch 4"
    assert known["linear", "train"].value


def test_a_merged_rig_predicts_what_the_unmerged_one_does() -> None:
    one = rig.Rig(_variant("lora").spec)
    for _ in range(3):
        one.train_once()
    one.evaluating()
    assert one.merge() and one.merged is not None
    with torch.no_grad():
        torch.testing.assert_close(one.merged.forward(one.batch.x), one.fit.forward(one.batch.x), atol=1e-5, rtol=1e-4)


def test_a_rig_takes_the_steps_of_a_run() -> None:
    one = rig.Rig(_variant("lora").spec)
    before = {n: p.detach().clone() for n, p in one.fit.trainable.items()}
    one.first_step()
    one.train_once()
    assert one.fit.step == 2
    assert any(not torch.equal(p, before[n]) for n, p in one.fit.trainable.items())


@pytest.mark.parametrize(("fast", "words"), [("plain", "--set attention=plain"), ("fused", "keep it"),
                                             ("", "keep the fused one")])
def test_the_probes_advice_follows_the_interval(fast: str, words: str) -> None:
    middle = {"plain": 2.7, "fused": 0.75, "": 1.0}[fast]
    spread = timing.Spread(middle, middle * 0.97, middle * 1.03, 0.95, 7)
    probe = machine.AttentionProbe((16, 6, 197, 64), "bf16", spread, spread, spread, 465_000)
    assert words in probe.advice


def test_the_probe_runs_both_kernels() -> None:
    found = machine.probe_attention((2, 2, 9, 8), "fp32", torch.device("cpu"), turns=2)
    assert found.fused.median > 0 and found.plain.median > 0
    assert found.extra_bytes_per_image == 2 * 9 * 9 * 4 - 2 * 9 * 4  # probabilities in place of a sum per query


def test_the_yardstick_is_counted_as_two_per_multiply_add() -> None:
    assert machine.product((3, 5, 7), torch.float32, torch.device("cpu"), repeat=2).flops == 2 * 2 * 3 * 5 * 7


def test_the_command_prints_a_table_and_stores_a_record(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["perf", "--methods", "lora", "lora@precision=bf16", "--backbone", tiny.MODEL, "--batch", "4", "--set",
             "drop_path=0.0", f"image_size={tiny.SIZE}", "--turns", "1", "--warmup", "0", "--device", "cpu", "--out",
             str(tmp_path)]
    assert cli.main(words) == 0
    out = capsys.readouterr().out
    assert "saved MiB/image" in out and "× full" in out and "lora@precision=bf16" in out
    record = measured.load(next(tmp_path.glob("perf-*.json")))
    assert {f.subject for f in record.figures} >= {"linear", "full", "lora", "matmul bf16", "attention fp32"}
    assert record.machine.cpu and record.settings["batch_size"] == 4
    text = json.dumps(json.loads(next(tmp_path.glob("*.json")).read_text()))
    assert str(Path.home()) not in text and str(tmp_path) not in text


def test_fit_prints_a_batch_per_budget(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["perf", "--methods", "lora", "full", "--backbone", tiny.MODEL, "--set", f"image_size={tiny.SIZE}",
             "--fit", "0.0008", "0.0016", "--device", "cpu", "--out", str(tmp_path)]
    assert cli.main(words) == 0
    out = capsys.readouterr().out
    found = measured.load(next(tmp_path.glob("perf-fit-*.json")))
    for method in ("lora", "full"):
        (taken,) = [f for f in found.figures if f.subject == method and f.unit == "bytes"]
        assert taken.value and f"{taken.value / 1e9:.3g} GB" in out, "what the batch of 16 takes stands beside"
        batches = [f.value for f in found.figures if f.subject == method and f.unit == "images"]
        assert all(a < b for a, b in pairwise(batches)) and str(int(batches[1])) in out  # type: ignore[operator, arg-type]


@pytest.mark.parametrize(("words", "told"), [
    (["--turns", "0"], "--turns must be 1 or more"), (["--fit", "-3"], "positive numbers"),
    (["--suite", "dmo"], "no suite is called"), (["--methods", "lorra"], "lora"),
    (["--methods", "vpt_deep", "--backbone", "resnet50.a1_in1k"], "cannot run on"),
])
def test_wrong_usage_is_one_sentence_and_exit_2(words: list[str], told: str,
                                                capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["perf", *words]) == 2
    assert told in capsys.readouterr().err
