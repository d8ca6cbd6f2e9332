"""Every adapter with every regularizer: one step each, or a sentence; and what a step costs in passes."""

from __future__ import annotations

import pytest
import torch
from robust_kit import data, same, setup, weights
from tiny_models import ADAPTERS, ON_SWIN, tiny_swin, tiny_vit
from torch import Tensor, nn

from methods.base import Fit
from methods.catalog import catalog
from methods.grammar import MethodError, parse

PACE = ["pace", "pace(variant='lazy_half')", "pace(variant='fast')"]
UGR = [f"ugr(objective='{o}')" for o in ("ent", "rec", "rot", "con", "agr")]

def legal(adapter: str, part: str) -> bool:
    """What the catalog promises, said once more by hand."""
    offers = catalog()[adapter].offers
    if part.startswith("pace"):
        return "delta" in offers or adapter in ("vpt_deep", "vpt_shallow")
    if part == "sam":
        return True
    if part == "digrap":
        return "anchor" in offers
    if part == "fsl2":
        return adapter == "lp_ft"
    if part == "ldifs" and adapter in ("lst", "unipt", "sherl", "side_tuning"):
        return False
    return adapter != "linear" and (part != "ugr(objective='rec')" or "tokens" in offers)


@pytest.mark.parametrize("part", [*PACE, *UGR, "sam", "fpa", "ldifs", "fsl2", "digrap"])
@pytest.mark.parametrize("adapter", ADAPTERS)
def test_ugr_17_every_adapter_takes_a_step_or_is_refused_with_a_sentence(adapter: str, part: str) -> None:
    text = f"{adapter}+{part}"
    if not legal(adapter, part):
        with pytest.raises(MethodError, match=r"^'\w+' (needs '\w+'|and '\w+' cannot be combined)"):
            parse(text)
        return
    one_step(text, tiny_vit(drop_path_rate=0.1))


@pytest.mark.parametrize("part", ["pace", "ugr(objective='rec')", "ugr(objective='con')"])
@pytest.mark.parametrize("adapter", [a for a in ON_SWIN if a != "linear"])
def test_ugr_17_swin_too(adapter: str, part: str) -> None:
    if legal(adapter, part):
        one_step(f"{adapter}+{part}", tiny_swin(drop_path_rate=0.1))


def one_step(text: str, net: nn.Module) -> None:
    """Finite; the weights as they were; no gradient on a frozen weight; a step moves trained weights only."""
    method, fit = setup(text, net, size=32, train_size=20)
    fit.model.train()
    before = {n: p.detach().clone() for n, p in fit.model.named_parameters()}
    terms = method.grads(fit, data(4, 32, dtype=torch.float32))
    assert terms["loss"].isfinite() and terms["logits"].isfinite().all()
    assert same(before, {n: p.detach() for n, p in fit.model.named_parameters()})
    got = {n for n, p in fit.model.named_parameters() if p.grad is not None}
    assert got == {n for n, p in fit.trainable.items() if p.numel()}, "the first step must reach every trained weight"
    assert all(p.grad.isfinite().all() for p in fit.model.parameters() if p.grad is not None)
    assert any(fit.trainable[n].grad.any() for n in got - fit.head) or not fit.peft  # type: ignore[union-attr]
    torch.optim.SGD(fit.trainable.values(), lr=0.1).step()
    after = {n: p.detach() for n, p in fit.model.named_parameters()}
    assert all(torch.equal(before[n], after[n]) for n in before if n not in fit.trainable)


class Passes:
    """Images through the last block, forward and backward, in batches of n."""

    def __init__(self, fit: Fit, n: int) -> None:
        self.n, self.forward, self.backward = n, 0, 0
        fit.model.blocks[-1].register_forward_hook(self._seen)  # type: ignore[union-attr, index, operator]

    def _seen(self, module: nn.Module, inputs: tuple[Tensor, ...], out: Tensor) -> None:
        self.forward += len(out)
        if out.requires_grad:
            out.register_hook(self._back)

    def _back(self, gradient: Tensor) -> None:
        self.backward += len(gradient)

    @property
    def counts(self) -> tuple[float, float]:
        return self.forward / self.n, self.backward / self.n


TRAIN_COST = {"sam": (2, 2), "fpa": (2, 1), "ldifs": (2, 1), "digrap": (1, 1), "pace": (2, 2),
              "pace(variant='lazy_half')": (1, 1),
              "pace(variant='lazy_half', interval=2)": (1, 1), "pace(variant='fast')": (1, 1),
              "pace(weight=0.0)": (1, 1),
              "ugr(objective='ent')": (2, 2), "ugr(objective='rec')": (2, 2), "ugr(objective='rot')": (2, 2),
              "ugr(objective='rot', all4=True)": (5, 5), "ugr(objective='con')": (3, 3), "ugr(objective='agr')": (3, 2),
              "ugr(rho=0.0)": (1, 1), "ugr(control='sam')": (2, 2), "ugr(control='lookahead')": (2, 2),
              "ugr(control='joint')": (2, 2), "ugr(control='random')": (2, 2), "ugr(control='noperturb')": (2, 2),
              "pace+ugr": (3, 3)}


@pytest.mark.parametrize("part", TRAIN_COST)
def test_ugr_16_a_training_step_costs_what_the_table_says(part: str) -> None:
    method, fit = setup(f"lora+{part}", tiny_vit(), size=32)
    fit.model.train()
    passes = Passes(fit, 4)
    method.grads(fit, data(4, 32, dtype=torch.float32))
    assert passes.counts == TRAIN_COST[part]


@pytest.mark.parametrize(("options", "forward", "backward"), [
    ("objective='ent'", lambda k: k + 1, lambda k: k), ("objective='rec'", lambda k: k + 1, lambda k: k),
    ("objective='rot'", lambda k: k + 1, lambda k: k),
    ("objective='rot', all4=True", lambda k: 4 * k + 1, lambda k: 4 * k),
    ("objective='con'", lambda k: 2 * k + 1, lambda k: 2 * k), ("objective='agr'", lambda k: 2 * k + 1, lambda k: k)])
@pytest.mark.parametrize("steps", [1, 3])
def test_ugr_16_adapting_at_test_time_costs_what_the_table_says(options, forward, backward, steps) -> None:  # type: ignore
    method, fit = setup(f"lora+ugr({options}, tta='episodic', K={steps})", tiny_vit(), size=32)
    fit.model.eval()
    passes = Passes(fit, 4)
    with torch.no_grad():
        method.predict(fit, data(4, 32, dtype=torch.float32).x)
    assert passes.counts == (forward(steps), backward(steps))


def test_parts_leave_evaluation_alone() -> None:
    for text in ("lora+pace", "lora+ugr", "lora+sam", "lora+fpa", "lora+ldifs", "lp_ft+fsl2", "lora+digrap"):
        method, fit = setup(text, tiny_vit(), size=32)
        x, before = data(4, 32, dtype=torch.float32).x, weights(fit)
        fit.model.eval()
        with torch.no_grad():
            assert torch.equal(method.predict(fit, x), fit.model(x))
        assert same(before, weights(fit))
