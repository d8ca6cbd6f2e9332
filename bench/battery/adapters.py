"""The checks of an adapter: start, gradients, training, evaluation, forms of ViT, storing, merging, composition."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import nn

from methods.catalog import catalog
from methods.grammar import MethodError, parse
from methods.insertion import deltas
from methods.pointing import at_attribute
from methods.vit import head_names
from methods.weights import Header, load, merged_copy, save
from methods.weights import trained as kept
from results.spoken import many, word

from ..engine.firstlook import FirstLook
from .subject import (
    CLASSES,
    SIZE,
    adapter_of,
    batch,
    features,
    lent,
    network,
    optimizer_of,
    scramble,
    take,
    trained,
)
from .verdicts import Wrong, following

FORMS: dict[str, dict[str, Any]] = {
    "registers": {"reg_tokens": 2}, "no class token": {"class_token": False, "global_pool": "avg"},
    "LayerScale": {"init_values": 0.1}, "no qkv bias": {"qkv_bias": False}}


def checks(text: str) -> Iterator[tuple[str, Callable[[], str]]]:
    """Each check by its name, cheapest first."""
    for check in (start, gradients, training, evaluation, forms, silence, storing, merging, composition):
        yield check.__name__, lambda check=check: check(text)  # type: ignore[misc]


def _built(text: str, **form: Any) -> nn.Module:
    torch.manual_seed(1)
    return adapter_of(text).build(network(**form), CLASSES)


def start(text: str) -> str:
    """The first look of every run, on the small ViT."""
    torch.manual_seed(1)
    adapter, net = adapter_of(text), network()
    with following(net):
        look = FirstLook(adapter, net, SIZE)
    model = look.built(net, CLASSES, check=False)
    with following(model):
        model(batch().x)
    net = network()
    model = FirstLook(adapter, net, SIZE).built(net, CLASSES)
    own = sum(p.numel() for n, p in trained(model).items() if n not in head_names(model))
    return f"{own:,} {word(own, 'weight trains', 'weights train')} beside the head" + (
        f", as its formula {adapter.formula!r} says" if look.expected is not None else "")


def gradients(text: str) -> str:
    """Which trained weight the loss does not reach, and which never moves."""
    method, fit = lent(text)
    before, optimizer = {n: p.detach().clone() for n, p in fit.trainable.items()}, optimizer_of(fit)
    look = FirstLook(method.adapter, network(), SIZE)
    fit.model.train()
    method.grads(fit, batch())
    look.pretrained = {id(p): p.numel() for n, p in fit.model.named_parameters() if n in fit.anchor}
    look.after_backward(fit)
    frozen = [n for n, p in fit.model.named_parameters() if not p.requires_grad and p.grad is not None]
    if frozen:
        raise Wrong(f"{frozen[0]!r} is frozen and got a gradient; call freeze(backbone) before anything uses it")
    for _ in range(3):
        take(method, fit, optimizer)
    still = [n for n, p in fit.trainable.items() if p.numel() and torch.equal(p.detach(), before[n])]
    if still:
        raise Wrong(f"the gradient of {still[0]!r} is zero in three steps{_set(fit.model, still[0])}: two factors that "
                    "both begin at zero hold each other there; let one begin with random numbers")
    return f"the loss reaches all {len(fit.trainable)} trained tensors and no frozen one"


def _set(model: nn.Module, name: str) -> str:
    path, _, last = name.rpartition(".")
    place = at_attribute(type(model.get_submodule(path)), last)
    return f" ({place})" if place else ""


def training(text: str) -> str:
    """Ten steps: frozen weights stay, the loss falls."""
    method, fit = lent(text)
    fixed = {n: p.detach().clone() for n, p in fit.model.named_parameters() if n not in fit.trainable}
    optimizer = optimizer_of(fit)
    losses = [float(take(method, fit, optimizer)["loss"].detach()) for _ in range(10)]
    moved = [n for n, p in fit.model.named_parameters() if n in fixed and not torch.equal(p.detach(), fixed[n])]
    if moved:
        raise Wrong(f"{many(len(moved), 'frozen weight')} changed while training, first {moved[0]!r}: something writes "
                    "into it in place; work on a clone")
    if not min(losses[1:]) < losses[0]:
        raise Wrong(f"ten steps on one batch do not lower the loss: {losses[0]:.4g}, at best {min(losses[1:]):.4g}")
    return f"ten steps lower the loss from {losses[0]:.3g} to {losses[-1]:.3g}; {many(len(fixed), 'frozen tensor')} " \
           f"{word(len(fixed), 'stays', 'stay')}"


@torch.no_grad()
def evaluation(text: str) -> str:
    """Repeatable, without a draw, and each image for itself."""
    model = _built(text)
    scramble(model)
    model.eval()
    x, state = batch().x, torch.get_rng_state()
    first, second = model(x), model(x)
    if not torch.equal(first, second) or not torch.equal(state, torch.get_rng_state()):
        raise Wrong("in eval mode two passes over the same images differ, or random numbers are drawn; draw only "
                    "if self.training")
    if not torch.allclose(first[:1], model(x[:1]), rtol=1e-3, atol=1e-4):
        raise Wrong("what an image gives depends on the other images of its batch; the first dimension is the batch, "
                    "and nothing may mix along it in eval mode")
    return "repeatable, and each image for itself"


@torch.no_grad()
def forms(text: str) -> str:
    """Other forms of ViT."""
    for name, form in FORMS.items():
        try:
            model = _built(text, **form)
            with following(model):
                model(batch().x)
        except Exception as error:
            error.add_note(name)
            raise
    model = adapter_of(text).build(network().double(), CLASSES)
    other = [n for n, p in model.named_parameters() if p.dtype != torch.float64]
    if other:
        raise Wrong(f"{other[0]!r} is float32 on a float64 backbone{_set(model, other[0])}; make it with zeros(like, "
                    "...) or empty(like, ...) of methods.insertion")
    return f"builds on ViTs with {', '.join(FORMS)}, and in float64"


def silence(text: str) -> str:
    """Without what its Deltas add, the model is the pre-trained one."""
    if "delta" not in catalog()[parse(text).adapter.name].offers:
        return "it offers no 'delta'"
    plain, model = features(network(), batch().x), _built(text)
    scramble(model)
    for _, delta in deltas(model):
        delta.register_forward_hook(lambda _, args, out: torch.zeros_like(out))
    far = float((features(model, batch().x) - plain).abs().max())
    if far > 1e-4:
        raise Wrong(f"with every Delta silenced the features are still off by {far:.2g}: something is added outside a "
                    "Delta; return all of it from the Delta's forward")
    return "silencing every Delta gives the pre-trained function back"


def storing(text: str) -> str:
    """What is stored and loaded into a fresh model gives the same numbers."""
    method, fit = lent(text)
    optimizer = optimizer_of(fit)
    for _ in range(2):
        take(method, fit, optimizer)
    fresh = _built(text)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "adapter.safetensors"
        save(path, fit.model, Header("small ViT", "random", text, "noise", CLASSES))
        load(path, fresh, backbone="small ViT", backbone_hash="random", method=text)
    fit.model.eval(), fresh.eval()
    with torch.no_grad():
        off = float((fit.model(batch().x) - fresh(batch().x)).abs().max())
    if off:
        raise Wrong(f"after storing and loading the answers differ by {off:.2g}; {_unstored(fit.model, fresh)}")
    return f"{many(len(kept(fit.model)), 'tensor')} stored and loaded, the same answers"


def _unstored(model: nn.Module, fresh: nn.Module) -> str:
    """What differs between a model and its copy from the file."""
    first = dict(model.named_parameters()) | dict(model.named_buffers())
    second = dict(fresh.named_parameters()) | dict(fresh.named_buffers())
    for name in first.keys() & second.keys():
        if not torch.equal(first[name], second[name]):
            return (f"{name!r} is not stored{_set(model, name)}: only what trains and persistent buffers are; register "
                    "it with register_buffer(name, tensor), or make it from the weights alone")
    return "what differs is no parameter and no buffer: keep it in register_buffer(name, tensor)"


@torch.no_grad()
def merging(text: str) -> str:
    """Folded in, the same function under the plain names."""
    if not parse(text).adapter.mergeable:
        return "it does not say mergeable"
    adapter = adapter_of(text)
    torch.manual_seed(1)
    model = adapter.build(network(), CLASSES)
    scramble(model)
    merged = merged_copy(adapter, model)
    model.eval(), merged.eval()
    wanted = model(batch().x)
    off = float((merged(batch().x) - wanted).abs().max())
    if off > 1e-4 * max(1.0, float(wanted.abs().max())):
        raise Wrong(f"the merged model's answers are off by {off:.2g}; merge must fold in all that the adapter adds")
    plain = network()
    plain.reset_classifier(CLASSES)  # type: ignore[operator]
    odd = {n for n, _ in merged.named_parameters()} - {n for n, _ in plain.named_parameters()}
    if odd:
        raise Wrong(f"the merged model still holds {sorted(odd)[0]!r}; merge must leave the plain backbone's names")
    return "the merged model gives the same answers under the plain names"


def composition(text: str) -> str:
    """Two steps with every regularizer and constraint that it may meet."""
    met = []
    for part in (p for p in catalog().values() if p.kind != "adapter"):
        whole = f"{text}+{part.name}"
        try:
            parse(whole)
        except MethodError:
            continue
        method, fit = lent(whole)
        optimizer, frozen = optimizer_of(fit), copy.deepcopy(
            {n: p for n, p in fit.model.named_parameters() if n not in fit.trainable})
        for _ in range(2):
            if not bool(take(method, fit, optimizer)["loss"].isfinite()):
                raise Wrong(f"{whole}: the loss is not finite")
        moved = [n for n, p in fit.model.named_parameters() if n in frozen and not torch.equal(p, frozen[n])]
        if moved:
            raise Wrong(f"{whole}: the frozen weight {moved[0]!r} changed")
        met.append(part.name)
    return f"two steps with each of {many(len(met), 'part')}: {', '.join(met)}" if met else "no part goes with it"
