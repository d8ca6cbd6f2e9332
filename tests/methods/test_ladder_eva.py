"""LST beside Eva: the narrow blocks' matrices are cut from the backbone's, one index set for q, k, v and one for the
two halves of a gated MLP; typed by hand from the rule, not from the code."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tiny_families
import torch

from methods.compose import create
from methods.grammar import parse


def largest(importance: np.ndarray[Any, Any], count: int) -> np.ndarray[Any, Any]:
    """Positions of the rows with the largest sum, in order."""
    return np.sort(np.argsort(-importance.reshape(len(importance), -1).sum(1))[:count])


@pytest.mark.parametrize("maker", ["eva", "dinov3"])
def test_the_first_rung_is_cut_from_the_first_block(maker: str) -> None:
    torch.manual_seed(0)
    backbone: Any = getattr(tiny_families, maker)()
    block = {name: p.detach().double().numpy() for name, p in backbone.blocks[0].named_parameters()}
    patches = backbone.patch_embed.proj.weight.detach().double().numpy()
    model: Any = create(parse("lst(reduction=2, init='magnitude')")).adapter.build(backbone, 3)
    rung = {name: p.detach().double().numpy() for name, p in model.rungs[0].named_parameters()}
    width = 16
    columns = largest(abs(patches), width)
    if "attn.qkv.weight" in block:
        q, k, v = np.split(block["attn.qkv.weight"], 3)
        q1, k1, v1 = np.split(rung["attn.qkv.weight"], 3)
    else:
        q, k, v = (block[f"attn.{n}_proj.weight"] for n in "qkv")
        q1, k1, v1 = (rung[f"attn.{n}_proj.weight"] for n in "qkv")
    rows = largest(abs(q[:, columns]) * abs(k[:, columns]) * abs(v[:, columns]), width)
    for whole, cut in ((q, q1), (k, k1), (v, v1)):
        np.testing.assert_allclose(cut, whole[np.ix_(rows, columns)])
    proj = largest(abs(block["attn.proj.weight"][:, rows]), width)
    np.testing.assert_allclose(rung["attn.proj.weight"], block["attn.proj.weight"][np.ix_(proj, rows)])
    gated = "mlp.fc1_g.weight" in block
    halves = ["mlp.fc1_g", "mlp.fc1_x"] if gated else ["mlp.fc1"]
    hidden = rung["mlp.fc2.weight"].shape[1]
    assert hidden == block["mlp.fc2.weight"].shape[1] // 2
    importance = np.prod([abs(block[f"{n}.weight"][:, proj]) for n in halves], axis=0)
    inner = largest(importance, hidden)
    for name in halves:
        np.testing.assert_allclose(rung[f"{name}.weight"], block[f"{name}.weight"][np.ix_(inner, proj)])
        np.testing.assert_allclose(rung[f"{name}.bias"], block[f"{name}.bias"][inner])
    out = largest(abs(block["mlp.fc2.weight"][:, inner]), width)
    np.testing.assert_allclose(rung["mlp.fc2.weight"], block["mlp.fc2.weight"][np.ix_(out, inner)])
    if "mlp.norm.weight" in block:
        np.testing.assert_allclose(rung["mlp.norm.weight"], block["mlp.norm.weight"][inner])
