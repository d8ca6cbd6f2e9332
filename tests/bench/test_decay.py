"""What weight decay shrinks: timm's rule for real data, every weight where a paper says so, as before elsewhere."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
from torch import nn

from bench.engine.optim import spared
from bench.planning.plan import make
from bench.planning.request import Request
from bench.suites import SUITES
from methods.compose import create
from methods.grammar import parse
from results import store
from results.schema import LATER

from . import tiny

TOKENS = {"cls_token", "pos_embed", "reg_token"}


def trained(text: str, backbone: nn.Module) -> tuple[nn.Module, dict[str, nn.Parameter]]:
    model = create(parse(text)).adapter.build(backbone, 3)
    return model, {n: p for n, p in model.named_parameters() if p.requires_grad}


def vit(**options: object) -> nn.Module:
    return timm.create_model("vit_tiny_patch16_224", img_size=32, depth=2, num_classes=0, **options)


def of_rank_two(model: nn.Module, trainable: dict[str, nn.Parameter], decay: str) -> set[str]:
    return {n for n in spared(model, trainable, decay) if trainable[n].ndim > 1}


def test_timms_rule_spares_tokens_positions_and_the_pools_latents_and_no_matrix() -> None:
    found = trained("full", vit(reg_tokens=2, global_pool="map", init_values=0.1))
    assert of_rank_two(*found, "timm") == {*TOKENS, "attn_pool.latent"}
    assert of_rank_two(*found, "matrices") == set()
    assert {"blocks.0.ls1.gamma", "blocks.1.norm2.weight", "head.bias"} <= spared(*found, "timm")
    assert spared(*found, "all") == set()


@pytest.mark.parametrize("name", ["swin_tiny_patch4_window7_224", "beit_base_patch16_224"])
def test_timms_rule_spares_tables_of_relative_positions(name: str) -> None:
    with torch.device("meta"):
        found = trained("full", timm.create_model(name, num_classes=0))
    tables = {n for n in found[1] if "relative_position_bias_table" in n}
    assert len(tables) == 12 and tables <= of_rank_two(*found, "timm") <= tables | {"cls_token"}


def test_a_backbone_inside_another_module_is_asked_too() -> None:
    outer = nn.Module()
    outer.inner = vit()
    assert of_rank_two(outer, dict(outer.named_parameters()), "timm") == {"inner.cls_token", "inner.pos_embed"}


@pytest.mark.parametrize(("name", "decay"), [("demo", "matrices"), ("adapters", "matrices"), ("memory", "matrices"),
                                             ("regularizers", "matrices"), ("robust", "matrices"), ("custom", "timm"),
                                             ("vtab1k", "timm"), ("fewshot", "timm"), ("ugr", "timm")])
def test_suites_of_real_data_follow_timm_and_the_committed_ones_what_they_did(name: str, decay: str) -> None:
    assert SUITES[name]().protocol["decay"] == decay


def test_the_demos_runs_keep_their_names_and_another_rule_is_another_protocol(tmp_path: Path) -> None:
    asked = Request(suite="demo", datasets=("dtd",), methods=("full",))
    (old,), (new,) = make(asked, tmp_path).runs, make(replace(asked, sets=("decay=timm",)), tmp_path).runs
    assert "decay" not in old.spec.written() and new.spec.written()["decay"] == "timm"
    assert old.spec.id != new.spec.id and old.spec.protocol_id != new.spec.protocol_id
    same = replace(tiny.spec(), decay="".join(["mat", "rices"]))  # equal, whatever object it is
    assert same.id == tiny.spec().id and LATER["decay"] == "matrices"
    committed = store.record_files(store.ROOT / "reference" / "demo")
    assert [path.parent.name for path in committed if old.spec.id in path.name] == ["dtd"]
