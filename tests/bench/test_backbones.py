"""Backbones by name: timm's own size, mean and deviation; a classifier of one layer; what cannot be carried refused."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import nn

from bench import checkout, cli
from bench.engine import backbones, carry
from bench.engine.backbones import (
    DISTILLED,
    EMBEDDED,
    EMBEDDED_TEXT,
    FAMILIES,
    KNOWN,
    SHIPPED,
    BackboneError,
    Weights,
    check_name,
    image_size,
)
from bench.engine.heads import HeadError, one_linear
from bench.engine.record import execute
from bench.planning import plan, request
from methods.grammar import parse
from methods.vit import head_names, replace_head
from results.schema import from_json, to_json

from . import tiny

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("DATA", raising=False)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(checkout, "CLAIMS", tmp_path / "claims")


@pytest.fixture
def tiny_world() -> Iterator[None]:
    tiny.use()
    yield
    tiny.forget()


def refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert cli.main(words) == 2
    out, err = capsys.readouterr()
    assert out == "" and "Traceback" not in err and all(line.startswith("regatta: ") for line in err.splitlines())
    assert err.replace("\n", "").isprintable()
    return err


def test_every_name_of_the_families_has_the_size_that_timm_states() -> None:
    """No model is built; 78 of these names say another number, or none, in their letters."""
    names = [n for n in (*timm.list_models(), *timm.list_pretrained()) if backbones.family(n) in FAMILIES
             and n not in SHIPPED]
    assert len(names) > 900
    square = 0
    for name in names:
        _, height, width = config(name).to_dict()["input_size"]
        if height == width:
            assert image_size(name) == height, name
            square += 1
        else:
            with pytest.raises(BackboneError, match=f"made for images of {height} x {width} pixels"):
                image_size(name)
    assert square > 0.98 * len(names)


def config(name: str) -> Any:
    """timm's own words."""
    return timm.get_pretrained_cfg(name)


@pytest.mark.parametrize("name, pixels", [
    ("vit_base_patch14_dinov2.lvd142m", 518), ("resnetv2_50", 224), ("resnetv2_101", 224), ("test_vit", 160),
    ("vit_small_patch16_dinov3", 256), ("resnet50.a3_in1k", 160), ("resnet50.a1_in1k", 224), (EMBEDDED, 48),
    (DISTILLED, 64),
    ("vit_base_patch16_224.orig_in21k", 224), ("resnetv2_152x2_bit.goog_teacher_in21k_ft_in1k_384", 384)])
def test_sizes_that_names_do_not_tell(name: str, pixels: int) -> None:
    assert image_size(name) == pixels


def test_the_backbones_that_we_know_have_timms_size_and_are_told_without_timm() -> None:
    for name in KNOWN.keys() - SHIPPED.keys() - {EMBEDDED_TEXT}:
        assert config(name).input_size == (3, image_size(name), image_size(name))
    code = ("import sys; from bench.engine.backbones import KNOWN, check_name, image_size\n"
            "for name in KNOWN: check_name(name); image_size(name)\n"
            "print('torch' in sys.modules or 'timm' in sys.modules)")
    told = subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    assert told.stdout == "False\n"


def test_mean_and_deviation_are_those_of_the_tag() -> None:
    for name in ("test_vit", "test_vit2", "test_resnet"):
        found, cfg = backbones.load(name, Weights(None, "random")), config(name)
        assert (found.mean, found.std) == (tuple(cfg.mean), tuple(cfg.std))
    for name in SHIPPED:
        embedded = backbones.load(name, backbones.find_weights(name))
        assert embedded.mean == embedded.std == (0.5, 0.5, 0.5) and embedded.adjusted == ""


def test_the_model_is_built_for_the_size_that_is_stated() -> None:
    for name in ("vit_base_patch14_dinov2.lvd142m", "vit_small_patch16_dinov3", "test_vit",
                 "swinv2_tiny_window8_256"):
        with torch.device("meta"):
            model: Any = backbones.create(name)
        assert tuple(model.patch_embed.img_size) == (image_size(name),) * 2


@pytest.mark.parametrize("name, sentence", [
    ("vit_base_patch14_dinov2.lvd142", "timm's 'vit_base_patch14_dinov2' has no weights 'lvd142'; there are "
                                       "vit_base_patch14_dinov2.lvd142m"),
    ("vit_base_patch16_224.augreg", "there are vit_base_patch16_224.augreg"),
    ("test_vit.x\x1b[31m", "has no weights 'x\\x1b[31m'"),
    ("vit_bse_patch16_224", "timm has no backbone 'vit_bse_patch16_224'; did you mean vit_base_patch16_224")])
def test_a_name_or_tag_that_timm_lacks_is_answered_with_near_ones(name: str, sentence: str) -> None:
    with pytest.raises(BackboneError) as error:
        check_name(name)
    assert sentence in str(error.value) and str(error.value).isprintable()


@pytest.mark.parametrize("name", ("resnetv2_50", "resnetv2_50x1_bit", "resnet50_clip", "resnet50_clip_gap", "resnet51q",
                                  "test_resnet", "test_vit", "test_vit4", "swin_tiny_patch4_window7_224"))
def test_the_head_is_one_linear_layer_of_the_width_that_it_reads(name: str) -> None:
    with torch.device("meta"):
        model: Any = replace_head(backbones.create(name), 7)
        head = model.get_classifier()
        features = model.forward_head(model.forward_features(torch.empty(2, 3, image_size(name), image_size(name))),
                                      pre_logits=True)
        assert type(head) is nn.Linear and features.shape == (2, head.in_features)
        assert head(features).shape == (2, 7) and len(head_names(model)) == 2
    classifier = config(name).classifier
    assert head_names(model) == {f"{classifier}.weight", f"{classifier}.bias"}


def test_a_linear_head_in_place_of_a_convolution_computes_the_same() -> None:
    torch.manual_seed(0)
    theirs: Any = timm.create_model("resnetv2_50", num_classes=5).eval()
    ours: Any = backbones.create("resnetv2_50")
    ours.load_state_dict({k: v for k, v in theirs.state_dict().items() if "head.fc" not in k})
    ours = replace_head(ours, 5).eval()
    weight = theirs.head.fc.weight.detach()
    assert weight.ndim == 4
    with torch.no_grad():
        ours.head.fc.weight.copy_(weight[:, :, 0, 0])
        ours.head.fc.bias.copy_(theirs.head.fc.bias)
        x = torch.randn(2, 3, 64, 64)
        assert torch.allclose(ours(x), theirs(x), atol=1e-5)


def test_giving_the_head_its_place_draws_no_number() -> None:
    for name in ("resnetv2_50", "resnet50_clip", "test_vit"):
        model = timm.create_model(name, num_classes=0)
        before = torch.get_rng_state()
        one_linear(model, name)
        assert torch.equal(before, torch.get_rng_state())


def test_several_classifiers_and_mlps_are_refused() -> None:
    for name, sentence in (("levit_128", "has 2 classifiers"), ("resnet50_mlp", "has an MLP for a classifier")):
        with pytest.raises(HeadError, match=sentence), torch.device("meta"):
            one_linear(timm.create_model(name, num_classes=0), name)


def test_what_a_backbone_carries_is_told_by_passing_images_without_numbers() -> None:
    texts = [parse(t) for t in ("linear", "full", "lora+pace", "lora", "vpt", "sherl")]
    assert carry.problems("test_vit", texts, 160) == []
    assert carry.problems("test_vit", texts, 100) == [
        "backbone 'test_vit' takes images of 160 pixels, not of 100: its patches have 16 pixels, which 96 or 112 would "
        "fill; say so or leave image_size out"]
    relative = carry.problems("test_vit_relpos", texts[:5], 160)
    assert [p.partition(" ")[0] for p in relative] == ["'lora'", "'vpt_deep'"]  # one for lora and lora+pace
    assert all("adapters that fit it: " in p and p.endswith("(backbone 'test_vit_relpos')") for p in relative)
    (side,) = carry.problems("resnetv2_50", [parse("full"), parse("sherl")], 64)
    assert side.startswith("'sherl' ") and "'resnetv2_50'" in side


PLAN = ["plan", "--suite", "custom", "--datasets", "svhn", "--data", "standin", "--methods", "linear"]


def test_a_network_of_no_family_plans_what_needs_a_head_alone(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--backbones", "regnetx_002", "--no-pretrained", "--set", "image_size=64"]
    assert cli.main([*PLAN, *words]) == 0
    assert "1 run, " in capsys.readouterr().out
    assert "adapters that fit it: full, linear" in refused([*PLAN[:-1], "lora", *words], capsys)


@pytest.mark.parametrize("words, sentences", [
    (["--backbones", EMBEDDED, "--weights", "/absent"], ["does not go with the embedded backbone"]),
    (["--backbones", "test_vit", "--weights", "/absent"], ["--weights '/absent' does not exist"]),
    (["--backbones", "test_vit", "--weights", str(CHECKOUT)], ["is a folder; give the file of weights in it"]),
    (["--backbones", "test_vit", "--weights", "/dev/null"], ["is no plain file"]),
    (["--backbones", "test_vit", "--weights", __file__, "--no-pretrained"], ["exclude each other; leave one out"]),
    (["--backbones", "test_vit", "--weights", __file__], ["'test_backbones.py' is damaged, or no file of tensors"]),
    (["--backbones", "test_vit.r160", "--no-pretrained"], ["has no weights 'r160'; there are test_vit.r160_in1k"]),
    (["--backbones", "vit_base_patch16_sapiens2.fb", "--no-pretrained"], ["1024 x 768 pixels"]),
    (["--backbones", EMBEDDED, "--set", "image_size=50"], ["takes images of 48 pixels, not of 50"])])
def test_what_cannot_run_is_refused_while_planning(words: list[str], sentences: list[str],
                                                   capsys: pytest.CaptureFixture[str]) -> None:
    told = refused([*PLAN, *words], capsys)
    assert all(sentence in told for sentence in sentences) and len(told.splitlines()) == 1


def test_the_demo_does_not_leave_a_file_of_weights_aside(capsys: pytest.CaptureFixture[str]) -> None:
    told = refused(["plan", "--suite", "demo", "--weights", "/absent"], capsys)
    assert "does not go with the embedded backbone" in told


def test_memory_is_told_without_data_and_weights(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["plan", "--suite", "custom", "--datasets", "svhn", "dtd", "--methods", "lora", "--backbones", "test_vit"]
    told = refused(words, capsys)
    assert "the weights of backbone 'test_vit' are not on this machine" in told and "real data is needed" in told
    assert cli.main([*words, "--memory"]) == 0
    out = capsys.readouterr().out
    (row,) = [line for line in out.splitlines() if line.startswith("lora")]
    assert "test_vit" in row and "MiB" in row
    assert out.count("runs are not counted: ") == 2
    assert "did you mean" in refused([*words, "--memory", "--suite", "demoo"], capsys)  # other mistakes stay mistakes


def test_memory_without_data_is_the_memory_with_it(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["plan", "--suite", "custom", "--datasets", "svhn", "--methods", "lora", "--backbones", "test_vit",
             "--memory"]
    rows = []
    for more in ([], ["--data", "standin", "--no-pretrained"]):
        assert cli.main([*words, *more]) == 0
        rows.append([line for line in capsys.readouterr().out.splitlines() if line.startswith("lora")])
    assert len(rows[0]) == 1 and rows[0] == rows[1]


def test_a_run_records_that_positions_were_resized(tmp_path: Path, tiny_world: None) -> None:
    file = tmp_path / "large.pt"
    torch.save({"model": timm.create_model("test_vit", img_size=320).state_dict()}, file)
    weights = backbones.find_weights("test_vit", file)
    spec = tiny.spec("linear", model="test_vit", image_size=160, epochs=1, weights=weights.sha256)
    record = execute(spec, {}, tiny.where(tmp_path, checkpoints=None, weights_file=file), tmp_path / "runs")
    assert record.status == "ok" and record.backbone is not None
    assert record.backbone.adjusted == "positions 400 -> 100"
    text = to_json(record)
    assert from_json(text) == record and json.loads(text)["backbone"]["adjusted"] == "positions 400 -> 100"


def test_plans_of_known_backbones_do_not_change() -> None:
    (one,) = plan.make(request.Request(suite="custom", datasets=("svhn",), methods=("lora",), backbones=(EMBEDDED,),
                                    seeds=(0,), data="standin")).runs
    assert one.spec.image_size == 48 and one.spec.weights == json.loads(
        (CHECKOUT / "bench" / "embedded" / "weights.json").read_text())["sha256"]
