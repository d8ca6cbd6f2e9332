"""`peft` is an extra: listed without it, refused with what to install; its version is in the records that used it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from bench.engine.checkpoint import key_of
from bench.engine.count import trained_weights
from bench.engine.forecast import SPARSE, forecast
from bench.engine.record import execute
from bench.engine.session import Session
from bench.perf.rig import CLASSES, Rig
from datasets import registry
from methods.grammar import parse

from . import tiny

ROOT = Path(__file__).resolve().parents[2]
WITHOUT = "import sys; sys.modules['peft'] = None\nfrom bench.cli import main; sys.exit(main({words!r}))"
installed = pytest.mark.skipif(find_spec("peft") is None, reason="peft is not installed")


@pytest.fixture(autouse=True)
def _tiny() -> Iterator[None]:
    tiny.use()
    yield
    tiny.forget()


def without(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", WITHOUT.format(words=list(words))], cwd=ROOT, capture_output=True,
                          text=True, timeout=120)


def test_without_it_the_part_is_listed_shown_and_says_what_to_install() -> None:
    for words in (("list", "adapters"), ("show", "peft")):
        done = without(*words)
        assert done.returncode == 0, done.stderr
        assert "peft" in done.stdout and "constraints.txt -e '.[peft]'" in done.stdout
    done = without("run", "--datasets", "svhn", "--methods", "peft", "--epochs", "1")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "'peft' needs peft, which is not installed: python -m pip install" in done.stderr


def test_listing_and_the_words_of_a_type_import_no_peft() -> None:
    done = subprocess.run([sys.executable, "-c", """
import sys
from bench.cli import main
from methods.grammar import parse
main(["list", "methods"]); main(["show", "peft"]); parse("peft(type='hira', r=4)+l2_sp")
sys.exit(len({"peft", "transformers", "torch"} & set(sys.modules)))"""], cwd=ROOT, capture_output=True, text=True,
                          timeout=120)
    assert done.returncode == 0 and "adamss" in done.stdout, done.stderr


@installed
def test_a_record_bears_the_version_of_peft_and_others_do_not(tmp_path: Path) -> None:
    here = tiny.where(tmp_path)
    spec = tiny.spec("peft(r=4)", epochs=1)
    result = execute(spec, {}, here, tmp_path / "runs")
    assert result.status == "ok", result.failure
    assert result.provenance.versions["peft"] == version("peft") and version("peft") in key_of(spec, "cpu")
    assert result.params is not None and result.params.extra_inference_merged == 0
    counted, _ = trained_weights(parse("peft(r=4)"), spec.model, tiny.CLASSES)
    assert result.params.trained_adapter == 2 * (9 * 24 + 4 * 4) == counted  # a vector of o and one of r per layer
    other = execute(tiny.spec("linear", epochs=1), {}, here, tmp_path / "runs")
    assert "peft" not in other.provenance.versions and version("peft") not in key_of(other.spec, "cpu")
    (stored,) = (p for p in (tmp_path / "runs").rglob("*.safetensors") if spec.id in p.as_posix())
    predictions, _ = Session(spec, registry.get(spec.dataset), here).test_again(stored)
    assert float((predictions.pred == predictions.label).mean()) == pytest.approx(result.metrics["test.top1"])


@installed
@pytest.mark.parametrize("kind", ["unilora", "shira(r=4)", "adamss(r=8)"])
def test_what_starts_from_numbers_is_counted_and_forecast_all_the_same(kind: str) -> None:
    name, _, more = kind.partition("(")
    spec = tiny.spec(f"peft(type={name!r}{', ' + more[:-1] if more else ''})")
    state = torch.get_rng_state()
    found = forecast(spec, tiny.CLASSES)
    assert torch.equal(state, torch.get_rng_state()), "what a forecast draws is drawn apart"
    text = parse(f"peft(type={name!r}{', ' + more[:-1] if more else ''})")
    assert (found.memory is None) == (name == "shira")
    assert found.weights == sum(trained_weights(text, spec.model, tiny.CLASSES))
    if name == "shira":  # r values for each row and column, in two blocks of qkv, proj, fc1, fc2
        assert found.weights - 25 * tiny.CLASSES == 2 * 4 * (4 * 24 + 2 * 24 + 5 * 24 + 5 * 24)


@installed
@pytest.mark.parametrize("text", ["peft(type='unilora')", "peft(type='hira')", "peft(type='oft', r=8)", "peft+sam"])
def test_what_is_forecast_is_what_is_measured(text: str) -> None:
    spec = tiny.spec(text, batch_size=6)
    assert forecast(spec, CLASSES).memory == Rig(spec).first_step()


@installed
@pytest.mark.parametrize("kind", ["frod", "shira"])
def test_sparse_tensors_have_no_forecast_but_are_measured(kind: str) -> None:
    spec = tiny.spec(f"peft(type={kind!r}{', r=4' if kind == 'shira' else ''})", batch_size=6)
    assert forecast(spec, CLASSES).why == SPARSE
    measured = Rig(spec).first_step()
    assert measured.saved_bytes and measured.gradients_bytes == measured.weights_trained_bytes


@installed
def test_a_merged_evaluation_is_refused_for_what_cannot_be_merged() -> None:
    from bench.engine.forms import refusals

    assert not refusals(parse("peft(type='vera')"), "vit", False, True)
    assert "cannot be merged" in refusals(parse("peft(type='lily')"), "vit", False, True)[0]
    assert "may draw for every token" in refusals(parse("peft"), "vit", True, False)[0]
