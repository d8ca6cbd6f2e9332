"""SHERL and LST on a whole T5: published counts, where the gradient goes, what the late block reads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from test_t5 import tiny
from tiny_text import texts, tiny_text
from torch import Tensor, nn

from methods import t5
from methods.adapters.sherl_t5 import SherlT5
from methods.compose import create
from methods.grammar import MethodError, parse
from methods.on_t5 import DECODER, T5Side, kept
from methods.towers import tower
from methods.vit import head_names

WAYS = ["sherl_t5(reduction=4, dropout=0.0)", "lst_t5(reduction=4)"]
Y = torch.tensor([0, 1, 2, 0])


def side(method: str, seed: int = 1, moved: bool = False) -> Any:
    net = tiny().double()
    torch.manual_seed(seed)
    model = create(parse(method)).adapter.build(net, 3)
    if moved:
        with torch.no_grad():
            for p in model.parameters():
                if p.requires_grad:
                    p.add_(0.3 * torch.randn_like(p))
    return model.eval()


@pytest.mark.parametrize(("backbone", "method", "weights"), [
    ("t5_base", "sherl_t5", 1_907_236), ("t5_large", "sherl_t5(drop_every=2)", 4_700_548),
    ("t5_base", "lst_t5", 3_878_706)])
def test_the_published_weights_are_trained_and_no_others(backbone: str, method: str, weights: int) -> None:
    with torch.device("meta"):
        model = create(parse(method)).adapter.build(t5.built(tower(backbone)), 2)
    trained = {n: p.numel() for n, p in model.named_parameters() if p.requires_grad}
    assert sum(trained.values()) == weights and not head_names(model)
    assert not any(n.startswith("backbone.") for n in trained)


def test_the_states_are_those_of_the_authors_lists() -> None:
    assert (0, *kept(12, 4)) == (0, 2, 3, 4, 6, 7, 8, 10, 11, 12)
    assert kept(24, 2) == (*range(2, 23, 2), 23, 24) and len(kept(24, 2)) == 13
    assert kept(3, 0) == (1, 2, 3)


@pytest.mark.parametrize("method", WAYS)
@torch.no_grad()
def test_the_states_are_the_networks_own(method: str) -> None:
    model, ids = side(method), texts("t5")
    net, states = model.backbone, model.early(ids)
    memory, context = net.encode(ids)
    t = net.patch_embed.word(net.begin(4))
    for i, block in enumerate(net.decoder, 1):
        t = block(t, memory, t5.readable(context.real), t5.before(net.decoder_distance, 1))
        if DECODER + i in states:
            torch.testing.assert_close(states[DECODER + i], t)
    torch.testing.assert_close(net.norm(states[3]), memory)
    assert torch.equal(model(states), model(ids))


@pytest.mark.parametrize("method", WAYS)
def test_l4_the_early_states_are_constants_and_every_side_weight_alone_is_reached(method: str) -> None:
    model, ids = side(method).train(), texts("t5")
    assert not any(m.training for m in model.backbone.modules())
    states = model.early(ids)
    assert all(t.grad_fn is None and not t.requires_grad for t in states.values())
    if isinstance(model, SherlT5):
        assert model.encoder.g.item() == 0 == model.decoder.g.item()
    logits = model(ids)
    assert logits.shape == (4, 4)  # the last column: every other word
    F.cross_entropy(logits, Y).backward()
    for name, p in model.named_parameters():
        own = not name.startswith("backbone.")
        assert p.requires_grad == own and (p.grad is not None) == own, name
        # one token looks at itself alone: what only weighs it among others has a gradient of zeros
        alone = name == "decoder.distance.weight" or ("decoder.blocks" in name and "attn.qkv" in name)
        assert not own or alone or bool(p.grad.abs().sum() > 0) or ".squeeze." in name, name
    reached = {n for n, p in model.named_parameters() if p.grad is not None and bool(p.grad.abs().sum() > 0)}
    if isinstance(model, SherlT5):
        assert {"encoder.g", "decoder.g", "encoder_norm.weight", "decoder_norm.weight"} <= reached


def _late(model: SherlT5, ids: Tensor, change: Callable[[dict[int, Tensor]], None], memory: Tensor | None = None
          ) -> Tensor:
    states = model.early(ids)
    change(states)
    mask = t5.readable(model.context(states).real)
    return model.decoded(states, model.encoded(states) if memory is None else memory, mask)


@torch.no_grad()
def test_l15_the_last_block_reads_the_sides_tokens_and_not_the_encoders(monkeypatch: pytest.MonkeyPatch) -> None:
    model, ids = side(WAYS[0], moved=True), texts("t5")
    asked: list[Tensor] = []
    last = model.backbone.decoder[-1]
    last.cross.register_forward_pre_hook(lambda _, args: asked.append(args[1]))
    plain = model(ids)
    states = model.early(ids)
    assert len(asked) == 1 and torch.equal(asked[0], model.encoded(states))  # it runs once, over what the side gives
    # noise in the encoder's output, for the last block of the decoder alone: its forerunners' states stay
    monkeypatch.setattr(model.backbone.norm, "forward", lambda t: torch.randn_like(t))
    assert torch.equal(model(states), plain)
    mask, memory = t5.readable(model.context(states).real), model.encoded(states)
    same = model.decoded(states, memory, mask)
    assert torch.equal(model.head(same[:, 0]), plain)
    other = model.decoded(states, memory + torch.randn_like(memory), mask)
    assert not torch.allclose(model.head(other[:, 0]), plain, atol=1e-3)


@torch.no_grad()
def test_l15_at_a_closed_gate_the_late_block_does_not_see_the_deepest_state() -> None:
    model, ids = side(WAYS[0]), texts("t5")
    guide = DECODER + max(model.decoder_taps)
    seen: list[Tensor] = []
    model.backbone.decoder[-1].register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    squeezed = model.decoder.squeeze[str(max(model.decoder_taps))]
    held = squeezed(model.early(ids)[guide])
    squeezed.forward = lambda x: held  # the merge keeps its guide, the skip alone is handed noise
    for gate in (0.0, 0.05):
        model.decoder.g.fill_(gate)
        seen.clear()
        states = model.early(ids)
        model(states)
        model(states | {guide: torch.randn_like(states[guide])})
        assert torch.equal(seen[0], seen[1]) == (gate == 0.0)


@pytest.mark.parametrize("method", WAYS)
@torch.no_grad()
def test_padding_and_batch_mates_change_no_answer(method: str) -> None:
    model = side(method, moved=True)
    short = model(texts("t5", 12))
    torch.testing.assert_close(model(texts("t5", 20)), short, atol=1e-9, rtol=0)
    torch.testing.assert_close(model(texts("t5", 12).flip(0)).flip(0), short, atol=1e-9, rtol=0)


@pytest.mark.parametrize("method", WAYS)
@torch.no_grad()
def test_what_is_stored_is_the_side_network_alone(method: str) -> None:
    model, other, ids = side(method, moved=True), side(method, seed=2), texts("t5")
    state = model.state_dict()
    assert state.keys() == {n for n, p in model.named_parameters() if p.requires_grad}
    assert not torch.allclose(other(ids), model(ids))
    other.load_state_dict(state)
    assert torch.equal(other(ids), model(ids))


def test_dropout_of_the_two_norms_is_drawn_in_training_alone() -> None:
    model, ids = side("sherl_t5(reduction=4, dropout=0.5)", moved=True), texts("t5")
    assert torch.equal(model(ids), model(ids))
    model.train()
    assert not torch.equal(model(ids), model(ids))


@pytest.mark.parametrize(("method", "net", "told"), [
    ("sherl_t5", lambda: tiny_text("t5"), "reads T5's encoder and decoder"),
    ("lst_t5", lambda: tiny_text("bert"), "it is 'lst'"), ("sherl_t5(reduction=7)", tiny, "does not divide"),
    ("lst_t5(reduction=3, drop_every=1)", tiny, "drop_every=1"), ("sherl_t5(drop_every=1)", tiny, "drop_every=1"),
    ("lst_t5(reduction=8)", tiny, "does not fit width 48 with 4 heads")])
def test_what_does_not_fit_is_a_sentence(method: str, net: Callable[[], nn.Module], told: str) -> None:
    with pytest.raises(MethodError, match=told):
        create(parse(method)).adapter.build(net(), 3)


@pytest.mark.parametrize("method", WAYS)
def test_a_side_network_learns_four_texts(method: str) -> None:
    model, ids = side(method), texts("t5")
    assert isinstance(model, T5Side)
    states, own = model.early(ids), [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(own, lr=1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        F.cross_entropy(model.train()(states), Y).backward()
        optimizer.step()
    assert torch.equal(model.eval()(states).argmax(1), Y)
