"""UGR's step against the numbered invariants of its specification; the number stands in each test's name."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from robust_kit import data, optimizer_of, same, setup, tiny_resnet, train, weights
from tiny_models import scramble, tiny_vit
from torch import Tensor
from torch.func import functional_call

from methods.base import Batch, Fit, Terms
from methods.compose import Method
from methods.grammar import MethodError, parse
from methods.regularizers.objectives import Look, Objective
from methods.regularizers.ugr import UGR

OBJECTIVES = ("ent", "rec", "rot", "con", "agr")
FULL_RHO = "rho_warmup=False"


def made(text: str, double: bool = True, **settings: Any) -> tuple[Method, Fit, UGR]:
    net = tiny_vit(drop_path_rate=settings.pop("drop_path", 0.0))
    method, fit = setup(text, net.double() if double else net, size=32, **settings)
    scramble(fit.model)
    fit.model.train()
    part = method.regularizers[-1]
    assert isinstance(part, UGR)
    return method, fit, part


def batch(count: int = 6, double: bool = True, seed: int = 5) -> Batch:
    return data(count, 32, seed=seed, dtype=torch.float64 if double else torch.float32)


def grads(fit: Fit) -> dict[str, Tensor]:
    return {n: torch.zeros_like(p) if p.grad is None else p.grad.clone() for n, p in fit.trainable.items()}


class Watch:
    """The supervised pass, remembering the weights it met."""

    def __init__(self) -> None:
        self.met: dict[str, Tensor] = {}

    def __call__(self, fit: Fit, b: Batch) -> Terms:
        self.met = weights(fit)
        logits = fit.forward(b.x)
        loss = F.cross_entropy(logits, b.y)
        loss.backward()
        return {"loss": loss, "logits": logits}


@pytest.mark.parametrize("text", ["adapter+ugr(rho=0.0)", "adapter+ugr(control='noperturb')",
                                  "adapter+ugr(control='noperturb', objective='con')", "adapter+sam(rho=0.0)"])
def test_ugr_01_without_a_move_training_is_plain_training_bit_for_bit(text: str) -> None:
    ends = []
    for each in ("adapter", text):  # the adapter has dropout 0.1
        method, fit = setup(each, tiny_vit(drop_path_rate=0.3), size=32)
        torch.manual_seed(7)
        optimizer = train(method, fit, 6, size=32)
        moments = [v for s in optimizer.state.values() for v in s.values()]
        ends.append((weights(fit), moments, torch.get_rng_state()))
    assert same(ends[0][0], ends[1][0])
    assert all(torch.equal(a, b) for a, b in zip(ends[0][1], ends[1][1], strict=True))
    assert torch.equal(ends[0][2], ends[1][2])


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_ugr_02_the_weights_are_back_before_the_optimizer_steps(objective: str) -> None:
    _method, fit, part = made(f"lora+ugr(objective='{objective}', {FULL_RHO})", double=False, drop_path=0.3)
    before, watch = weights(fit), Watch()
    part.grads(fit, batch(double=False), watch)
    assert same(before, weights(fit)) and not same(before, watch.met)


def test_ugr_02_the_weights_are_back_when_the_supervised_pass_raises() -> None:
    _, fit, part = made("lora+ugr", double=False)
    before = weights(fit)

    def broken(fit: Fit, b: Batch) -> Terms:
        raise ArithmeticError

    with pytest.raises(ArithmeticError):
        part.grads(fit, batch(double=False), broken)
    assert same(before, weights(fit))


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_ugr_03_the_gradient_is_the_targets_at_the_moved_weights(objective: str) -> None:
    _method, fit, part = made(f"lora+ugr(objective='{objective}', {FULL_RHO})")
    b, watch = batch(), Watch()
    part.grads(fit, b, watch)
    found = grads(fit)
    fit.model.load_state_dict(watch.met)
    loss = F.cross_entropy(fit.forward(b.x), b.y)
    exact = torch.autograd.grad(loss, list(fit.trainable.values()))
    assert all(torch.equal(g, found[n]) for n, g in zip(fit.trainable, exact, strict=True))


def test_ugr_03_a_target_without_slope_leaves_weight_decay_alone() -> None:
    _, fit, part = made("lora+ugr")

    def flat(fit: Fit, b: Batch) -> Terms:
        loss = 0 * fit.forward(b.x).sum()
        loss.backward()
        return {"loss": loss}

    fit.weight_decay = 0.1
    before, optimizer = weights(fit), optimizer_of(fit)
    part.grads(fit, batch(), flat)
    assert all(not g.any() for g in grads(fit).values())
    optimizer.step()
    for n, p in fit.trainable.items():
        torch.testing.assert_close(p.detach(), before[n] * (1 - fit.lr * 0.1), rtol=1e-12, atol=0)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_ugr_04_labels_never_reach_the_label_free_gradient(objective: str) -> None:
    moved = []
    for turn in (0, 1):
        _, fit, part = made(f"lora+ugr(objective='{objective}')")
        b, watch = batch(), Watch()
        part.grads(fit, b.replace(y=b.y.roll(turn)), watch)
        moved.append(watch.met)
    assert same(*moved)


def test_ugr_06_moving_in_place_and_calling_with_moved_tensors_agree() -> None:
    _, fit, part = made(f"lora+ugr(rho=0.3, {FULL_RHO})")
    b = batch()
    _, g, _ = part.look(fit, b.x, part.theta(fit))
    steps = part.steps(0.3, g)
    part.grads(fit, b, Watch())
    found = grads(fit)
    stand_ins = {n: p.detach().clone() for n, p in fit.trainable.items()}
    for name, step in zip(fit.peft, steps, strict=True):
        stand_ins[name] += step
    for tensor in stand_ins.values():
        tensor.requires_grad_()
    loss = F.cross_entropy(functional_call(fit.model, stand_ins, (b.x,)), b.y)
    for name, g_one in zip(stand_ins, torch.autograd.grad(loss, list(stand_ins.values())), strict=True):
        torch.testing.assert_close(found[name], g_one, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("mode", ["unit", "raw"])
def test_ugr_11_the_move_is_as_long_as_the_mode_says(mode: str) -> None:
    _, fit, part = made(f"lora+ugr(mode='{mode}', rho=0.3, {FULL_RHO})", double=False)
    b, watch, before = batch(double=False), Watch(), weights(fit)
    terms = part.grads(fit, b, watch)
    length = torch.cat([(watch.met[n] - before[n]).flatten() for n in fit.peft]).norm().item()
    expected = 0.3 if mode == "unit" else 0.3 * terms["ugr_norm"].item()
    assert length == pytest.approx(expected, rel=1e-5) and terms["ugr_move"].item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("mode", ["unit", "raw"])
@pytest.mark.parametrize("kind", ["no slope", "not finite"])
def test_ugr_11_without_a_usable_gradient_the_step_is_a_plain_one(kind: str, mode: str) -> None:
    class Flat(Objective):
        def look(self, fit: Fit, x: Tensor, head: Any) -> Look:
            return Look(fit.forward(x).sum() * (0.0 if kind == "no slope" else float("inf")))

    _, fit, part = made(f"lora+ugr(mode='{mode}')")
    part.chosen = Flat()
    before, watch = weights(fit), Watch()
    part.grads(fit, batch(), watch)
    assert same(before, watch.met) and all(g.isfinite().all() for g in grads(fit).values())
    assert part.skipped.item() == (kind == "not finite")


@pytest.mark.parametrize("perturb", ["peft", "all"])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_ugr_12_only_what_may_move_moves(objective: str, perturb: str) -> None:
    _, fit, part = made(f"lora+ugr(objective='{objective}', perturb='{perturb}', u_batch='same')")
    before, watch = weights(fit), Watch()
    part.grads(fit, batch(), watch)
    moved = {n for n in before if not torch.equal(before[n], watch.met[n])}
    allowed = set(fit.peft) if perturb == "peft" else set(fit.trainable)
    assert moved <= allowed and set(fit.peft) <= moved
    uses_classifier = objective in ("ent", "agr")
    assert bool(moved & fit.head) == (perturb == "all" and uses_classifier)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_ugr_13_an_auxiliary_head_trains_apart_from_the_model(objective: str) -> None:
    _method, fit, part = made(f"lora+ugr(objective='{objective}')")
    has_head = objective in ("rec", "rot", "con")
    psi = part.auxiliary.weights
    assert bool(psi) == has_head
    inside = {id(p) for p in fit.model.parameters()}
    assert not any(id(p) in inside for p in psi)
    before, during = [p.detach().clone() for p in psi], []

    def watch(fit: Fit, b: Batch) -> Terms:
        during.extend(p.detach().clone() for p in psi)
        return Watch()(fit, b)

    part.grads(fit, batch(), watch)
    assert all(torch.equal(a, b) for a, b in zip(before, during, strict=True))  # psi waits for the backward pass
    assert all(not torch.equal(a, b) for a, b in zip(before, psi, strict=True))
    assert all(p.grad is None for p in psi)


def test_rho_rises_over_the_warm_up() -> None:
    _, fit, part = made("lora+ugr(rho=0.2)", warmup_steps=4)
    found = []
    for fit.step in range(6):
        found.append(part.rho_now(fit))
    assert found == pytest.approx([0.05, 0.1, 0.15, 0.2, 0.2, 0.2])


def test_the_loss_at_the_weights_is_logged_beside_the_one_at_the_moved_weights() -> None:
    method, fit, _ = made(f"lora+ugr(rho=1.0, {FULL_RHO})")
    b = batch()
    here = F.cross_entropy(fit.forward(b.x), b.y)
    terms = method.grads(fit, b)
    torch.testing.assert_close(terms["loss_at_weights"], here.detach())
    assert not torch.isclose(terms["loss"].detach(), here.detach(), rtol=1e-6)


@pytest.mark.parametrize("source", ["disjoint", "unlabelled"])
def test_the_label_free_loss_can_look_at_other_images(source: str) -> None:
    method, fit, part = made(f"lora+ugr(u_batch='{source}')")
    seen: list[Tensor] = []
    look = part.look
    part.look = lambda fit, x, theta: seen.append(x) or look(fit, x, theta)  # type: ignore[method-assign, func-returns-value]
    first, second = batch(seed=5), batch(seed=6)
    method.grads(fit, first)
    fit.step += 1
    method.grads(fit, second)
    assert not torch.equal(seen[1], second.x)
    if source == "disjoint":
        assert torch.equal(seen[1], first.x)
    else:
        assert method.wants_holdout and len(seen[1]) == 5
    assert not made("lora+ugr")[0].wants_holdout


def test_with_pace_inside_the_target_is_paces_loss_and_the_label_free_pass_is_noiseless() -> None:
    method, fit, part = made(f"lora+pace+ugr(objective='ent', rho=0.3, {FULL_RHO})")
    b, pace = batch(), method.regularizers[0]
    clean = part.chosen.look(fit, b.x, None).loss
    generator = pace.noisy.generator.get_state()
    terms = method.grads(fit, b)
    found = grads(fit)
    torch.testing.assert_close(terms["ugr_loss"], clean.detach(), rtol=0, atol=0)
    fit.model.zero_grad(set_to_none=True)
    pace.noisy.generator.set_state(generator)
    _, g, _ = part.look(fit, b.x, part.theta(fit))
    with torch.no_grad():
        for p, step in zip(part.theta(fit), part.steps(0.3, g), strict=True):
            p.add_(step)
    loss = pace.loss(fit, b, lambda *_: {})["loss"]
    exact = torch.autograd.grad(loss, list(fit.trainable.values()))
    assert all(torch.equal(found[n], e) for n, e in zip(fit.trainable, exact, strict=True))


@pytest.mark.parametrize("text", ["lora+ugr", "lora+pace+ugr(objective='con')", "adapter+ugr(objective='rec')"])
def test_under_bf16_the_move_and_the_gradients_stay_in_float32(text: str) -> None:
    method, fit, _ = made(text, double=False)
    fit.precision = lambda: torch.autocast("cpu", torch.bfloat16)
    before = weights(fit)
    terms = method.grads(fit, batch(double=False))
    assert terms["loss"].isfinite() and terms["ugr_norm"].dtype == torch.float32 and terms["ugr_norm"] > 0
    assert same(before, weights(fit)) and all(g.dtype == torch.float32 for g in grads(fit).values())


def test_the_label_free_pass_leaves_running_statistics_alone() -> None:
    method, fit = setup("full+ugr(objective='ent')", tiny_resnet(), size=32)
    part = method.regularizers[0]
    assert isinstance(part, UGR)
    fit.model.train()
    before = weights(fit)
    part.look(fit, batch(double=False).x, part.theta(fit))
    assert same(before, weights(fit))


@pytest.mark.parametrize("text", ["adapter(dropout=0.0)+ugr(objective='con')", "lora+ugr(u_batch='disjoint')",
                                  "lora+pace(variant='fast')+ugr(objective='rec')"])
def test_a_resumed_run_goes_on_as_if_it_had_not_stopped(text: str) -> None:
    method, fit = setup(text, tiny_vit(), size=32)
    optimizer = train(method, fit, 3, size=32)
    middle = copy.deepcopy((fit.model.state_dict(), optimizer.state_dict(), method.state()))
    train(method, fit, 3, optimizer, size=32)
    resumed, again = setup(text, tiny_vit(), size=32)
    again.model.load_state_dict(middle[0])
    other = optimizer_of(again)
    other.load_state_dict(middle[1])
    resumed.restore(middle[2])
    again.step = 3
    train(resumed, again, 3, other, size=32)
    assert same(weights(fit), weights(again))
    ours, theirs = method.regularizers[-1], resumed.regularizers[-1]
    assert isinstance(ours, UGR) and isinstance(theirs, UGR)
    assert all(torch.equal(a, b) for a, b in zip(ours.auxiliary.weights, theirs.auxiliary.weights, strict=True))


@pytest.mark.parametrize("mode", ["unit", "raw"])
def test_probing_leaves_no_trace_and_reports_every_block(mode: str) -> None:
    method, fit, _ = made(f"lora+ugr(objective='rec', mode='{mode}')", drop_path=0.3)
    before, modes, stream = weights(fit), [m.training for m in fit.model.modules()], torch.get_rng_state()
    first, second = method.probe(fit, batch()), method.probe(fit, batch())
    wanted = {"cos", "inner", "norm_u", "norm_t", "change", "change_expected", "cos.blocks.0", "cos.blocks.1",
              "cos.blocks.2"} | ({"rho_curvature"} if mode == "raw" else set())
    assert first == second and first.keys() == {f"ugr.{k}" for k in wanted}
    assert first["ugr.cos"] == pytest.approx(first["ugr.inner"] / first["ugr.norm_u"] / first["ugr.norm_t"])
    assert same(before, weights(fit)) and modes == [m.training for m in fit.model.modules()]
    assert torch.equal(torch.get_rng_state(), stream)
    assert all(p.grad is None for p in fit.trainable.values())


def test_same_seed_same_weights() -> None:
    ends = []
    for _ in range(2):
        method, fit = setup("lora+ugr(objective='agr')", tiny_vit(), size=32)
        torch.manual_seed(1)
        train(method, fit, 3, size=32)
        ends.append(weights(fit))
    assert same(*ends)


@pytest.mark.parametrize("text", ["lora+sam", "adapter+sam(perturb='peft')"])
def test_sam_takes_the_gradient_at_the_worst_weights_nearby(text: str) -> None:
    net = tiny_vit(drop_path_rate=0.3).double()
    method, fit = setup(text.replace("adapter", "adapter(dropout=0.0)"), net, size=32)
    scramble(fit.model)
    fit.model.train()
    b, before = batch(), weights(fit)
    torch.manual_seed(3)
    terms = method.grads(fit, b)
    found, after = grads(fit), torch.rand(1)
    assert same(before, weights(fit))
    names = list(fit.trainable if "peft" not in text else fit.peft)
    torch.manual_seed(3)
    here = F.cross_entropy(fit.forward(b.x), b.y)
    assert torch.equal(torch.rand(1), after)  # one pass's worth of draws
    torch.testing.assert_close(terms["loss_at_weights"], here.detach())
    g = dict(zip(names, torch.autograd.grad(here, [fit.trainable[n] for n in names]), strict=True))
    norm = sum(one.square().sum() for one in g.values()) ** 0.5
    with torch.no_grad():
        for name, one in g.items():
            fit.trainable[name] += 0.05 * one / norm
    torch.manual_seed(3)
    worst = F.cross_entropy(fit.forward(b.x), b.y)
    exact = torch.autograd.grad(worst, list(fit.trainable.values()))
    for name, one in zip(fit.trainable, exact, strict=True):
        torch.testing.assert_close(found[name], one, rtol=1e-9, atol=1e-12)


def test_fpa_penalises_the_distance_of_the_features_to_those_at_the_start() -> None:
    method, fit = setup("lora+fpa(weight=0.7)", tiny_vit(drop_path_rate=0.3).double(), size=32)
    start = copy.deepcopy(fit.model)
    fit.model.train()
    b = batch()
    assert method.grads(fit, b)["fpa"].item() == 0  # the same paths are dropped in both passes
    scramble(fit.model)
    fit.model.eval()
    terms = method.grads(fit, b)
    seen: list[Tensor] = []
    for model in (fit.model, start.eval()):
        handle = model.head.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].detach()))
        task = F.cross_entropy(model(b.x), b.y) if model is fit.model else model(b.x)
        seen.append(task.detach())
        handle.remove()
    gap = (seen[0] - seen[2]).square().sum(1).mean()
    torch.testing.assert_close(terms["fpa"], gap)
    torch.testing.assert_close(terms["loss"].detach(), seen[1] + 0.7 * gap)


@pytest.mark.parametrize(("text", "sentence"), [
    ("lora+ugr(rho=-0.1)", "'rho' of 'ugr' must be >= 0"),
    ("lora+ugr(tta='episodic', K=0)", "K must be at least 1"), ("lora+ugr(tta='online', K=0)", "K must be at least 1"),
    ("lora+ugr(objective='entropy')", "must be one of 'ent', 'rec', 'rot', 'con', 'agr'"),
    ("lora+ugr(objective='rot', im=True)", "im belongs to"), ("lora+ugr(all4=True)", "all4 belongs to"),
    ("lora+ugr(control='sam', tta='episodic')", "tta must be 'none'"), ("lora+ugr(rho_tta=0.1)", "rho_tta belongs to"),
    ("lora+ugr(reset_every=3)", "reset_every belongs to"), ("linear+ugr", "'ugr' and 'linear' cannot be combined"),
    ("lora+sam(rho=-1)", "must be >= 0"), ("lora+fpa+pace", "cannot be combined"),
    ("lora+ugr(control='down')", "must be one of 'none', 'random'")])
def test_bad_options_are_refused_with_a_sentence(text: str, sentence: str) -> None:
    with pytest.raises(MethodError, match=sentence):
        parse(text)


def test_the_method_says_that_it_is_our_reading() -> None:
    assert UGR.ours.startswith("our reading: ") and "our reading" in UGR.title
