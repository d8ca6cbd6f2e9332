"""Adapters of the shelf with every part that the grammar lets them meet: three whole steps, on a very small ViT."""

from __future__ import annotations

import pytest
import torch
from robust_kit import data, setup
from tiny_models import tiny_vit

from methods.catalog import catalog
from methods.grammar import MethodError, parse

SHELF = ["peft", "dtl", "dtl_plus", "paca", "vera", "lora(init='pissa', lr_ratio=4)", "lora(experts=True, rank=2)"]
SHELF += ["gps", "snell(rank=4)", "spt(rank=2)"]  # chosen entries
SHELF += ["glora", "oft", "goft", "qgoft"]  # rotations
SHELF += ["vfpt", "e2vpt", "cvpt"]  # prompts
PARTS = sorted(i.name for i in catalog().values() if i.kind != "adapter")
TINY = {"img_size": 16, "embed_dim": 16, "depth": 2, "num_heads": 2}


def legal(text: str) -> bool:
    try:
        parse(text)
    except MethodError:
        return False
    return True


@pytest.mark.parametrize("text", [f"{a}+{p}" for a in SHELF for p in PARTS if legal(f"{a}+{p}")])
def test_three_steps_with_every_legal_part_stay_finite_and_move_only_what_trains(text: str) -> None:
    method, fit = setup(text, tiny_vit(**TINY), size=16, train_size=20)
    before = {n: p.detach().clone() for n, p in fit.model.named_parameters()}
    optimizer = torch.optim.AdamW(fit.trainable.values(), lr=1e-2)
    fit.model.train()
    batch = data(6, 16, dtype=torch.float32)
    for _ in range(3):
        optimizer.zero_grad()
        assert method.grads(fit, batch)["loss"].isfinite()
        optimizer.step()
        method.after_step(fit)
        fit.step += 1
    method.finish(fit, lambda: 0.5)
    fit.model.eval()
    with torch.no_grad():
        assert method.predict(fit, batch.x).isfinite().all()
    after = dict(fit.model.named_parameters())
    assert all(torch.equal(before[n], after[n]) for n in before if n not in fit.trainable)
    assert any(not torch.equal(before[n], after[n]) for n in fit.trainable)


@pytest.mark.parametrize("adapter", SHELF)
def test_every_kind_of_part_is_met(adapter: str) -> None:
    met = {catalog()[p].kind for p in PARTS if legal(f"{adapter}+{p}")}
    assert met == {"regularizer", "constraint"} or "anchor" not in catalog()[adapter.partition("(")[0]].offers
