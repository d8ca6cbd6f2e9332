"""The checkpoints that `list backbones` names say what timm says of them, and each family has one."""

from __future__ import annotations

import pytest
import timm
import torch
from timm.models import get_pretrained_cfg

from bench.cli import main
from bench.engine.backbones import FAMILIES, family
from bench.engine.zoo import CHECKPOINTS


@pytest.mark.parametrize("one", CHECKPOINTS, ids=lambda one: one.name)
def test_size_and_licence_are_timms(one: object) -> None:
    cfg = get_pretrained_cfg(one.name)  # type: ignore[attr-defined]
    assert cfg is not None
    assert (cfg.input_size[1], cfg.license) == (one.pixels, one.licence)  # type: ignore[attr-defined]


@pytest.mark.parametrize("one", [c for c in CHECKPOINTS if c.millions < 30], ids=lambda one: one.name)
def test_the_weights_are_counted(one: object) -> None:
    with torch.device("meta"):
        net = timm.create_model(one.name.partition(".")[0], pretrained=False, num_classes=0)  # type: ignore[attr-defined]
    assert round(sum(p.numel() for p in net.parameters()) / 1e6, 1) == one.millions  # type: ignore[attr-defined]


def test_every_family_has_one() -> None:
    assert {family(one.name) for one in CHECKPOINTS} == set(FAMILIES)


def test_the_list_names_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "backbones"]) == 0
    out = capsys.readouterr().out
    row = next(line for line in out.splitlines() if line.startswith("vit_base_patch14_dinov2.lvd142m"))
    assert "518 pixels" in row and "86.6 M" in row and "apache-2.0" in row
