"""Image size is the spec's: built for it, positions resampled as timm does, refused where patches do not fill it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from timm.models import model_entrypoint

from bench import cli
from bench.engine import backbones, carry
from bench.engine.backbones import EMBEDDED, BackboneError, Weights
from methods.grammar import parse

HOME = {"vision_transformer": "vit", "deit": "vit", "eva": "eva", "beit": "beit", "swin_transformer": "swin",
        "swin_transformer_v2": "swinv2", "resnet": "resnet"}
DINO = "vit_base_patch14_dinov2.lvd142m"


def test_families_told_by_names_are_those_of_the_files_in_which_timm_builds_them() -> None:
    for name in timm.list_models():
        home = model_entrypoint(name).__module__.rpartition(".")[2]
        told = backbones.family(name)
        if home in HOME and home not in ("resnet", "deit"):
            assert told == HOME[home], name
        if told in ("eva", "beit", "swinv2", "swin"):
            assert HOME.get(home) == told, name


@pytest.mark.parametrize("name, size", [("test_vit", 96), ("test_vit", 320), ("vit_tiny_patch16_224", 160),
                                        (EMBEDDED, 64), ("beit_base_patch16_224", 64)])
def test_positions_are_resampled_as_timm_does_it(name: str, size: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    theirs: Any = backbones.create(name, size=0)
    torch.save(theirs.state_dict(), tmp_path / "own.pt")
    theirs.set_input_size((size, size))
    found = backbones.load(name, Weights(tmp_path / "own.pt", ""), size=size)
    x = torch.randn(1, 3, size, size)
    assert found.adjusted.startswith("positions ") or name.startswith("beit")
    torch.testing.assert_close(found.model.eval()(x), theirs.eval()(x), rtol=1e-5, atol=1e-5)


def test_the_own_size_draws_the_same_weights_as_before() -> None:
    for name in ("test_vit", "test_vit3", EMBEDDED):
        torch.manual_seed(0)
        plain = timm.create_model(name, num_classes=0)
        torch.manual_seed(0)
        ours = backbones.create(name, size=backbones.image_size(name))
        assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), ours.parameters(), strict=True))


@pytest.mark.parametrize("name", (DINO, "vit_base_patch16_dinov3", "eva02_base_patch14_224",
                                  "beitv2_base_patch16_224", "swin_tiny_patch4_window7_224", "resnet50.a1_in1k"))
def test_other_sizes_are_built_and_pass(name: str) -> None:
    size = 280 if "14" in name else 256
    assert carry.problems(name, [parse("linear")], size) == []
    with torch.device("meta"):
        model: Any = backbones.create(name, size=size)
    assert not getattr(model, "dynamic_img_size", False)
    if hasattr(model, "patch_embed"):
        assert tuple(model.patch_embed.img_size) == (size, size)


@pytest.mark.parametrize("name, size, words", [
    (DINO, 225, "takes images of 518 pixels, not of 225: its patches have 14 pixels, which 224 or 238 would fill"),
    (EMBEDDED, 50, "takes images of 48 pixels, not of 50: its patches have 8 pixels, which 48 or 56 would fill"),
    ("test_vit", 7, "not of 7: its patches have 16 pixels, which 16 would fill"),
    ("swin_tiny_patch4_window7_224", 226, "its patches have 4 pixels, which 224 or 228 would fill")])
def test_a_size_that_patches_do_not_fill_is_refused_with_those_that_do(name: str, size: int, words: str) -> None:
    with pytest.raises(BackboneError, match=words), torch.device("meta"):
        backbones.create(name, size=size)
    (told,) = carry.problems(name, [parse("lora"), parse("linear")], size)
    assert words in told


def test_dinov2_is_planned_and_shown_at_both_sizes(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["plan", "--suite", "custom", "--datasets", "svhn", "--data", "standin", "--no-pretrained", "--methods",
             "lora", "--backbones", DINO, "--memory"]
    assert cli.main([*words, "--set", "image_size=224"]) == 0
    assert "100.5 MiB" in capsys.readouterr().out
    assert cli.main(["show", "lora", "--backbone", DINO]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "518 pixels (its own size; most papers use 224: --set image_size=224)" in out and "535.8 MiB" in out
