"""A look at what a method has built and at its first step: gross mistakes of its author are told in one sentence.

Such mistakes do not crash: a forgotten `freeze` trains everything, a forgotten head is taken for one, and both would
stand in a table. Seen are: a build that returns nothing, a head of another size, weights of the backbone that train
though nothing says so, a count that is not the formula's, a start that is not the pre-trained function, a Delta without
depth, and, after the first backward pass, a trained weight that it did not reach.

What an adapter says of its start holds for any numbers among its options, the others as by default; its formula for any
numbers that it names, on a plain ViT. Nothing here changes a bit of a result: two images are passed on in eval mode
without gradients, and the random streams and every module's mode are put back.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import fields, is_dataclass

import torch
from torch import Tensor, nn

from methods.base import Adapter, Fit
from methods.formula import EVERYTHING, names_in, problem, weights_of
from methods.grammar import MethodError
from methods.insertion import deltas, family
from methods.pair import Both, Towers
from methods.pointing import at, at_attribute, at_class
from methods.vit import head_names
from results.spoken import many, word

from .putback import random_state, restore_random
from .tokens import example

NEAR = {"exact": 1e-3, "near": 0.5}  # how far features may be from the pre-trained ones, relative to their length
IMAGES = 2


def built(adapter: Adapter, backbone: nn.Module, classes: int) -> nn.Module:
    """`adapter.build`, of two towers for each. Raises MethodError when it returns nothing that has a head."""
    if isinstance(backbone, Towers):
        both = adapter if isinstance(adapter, Both) else Both(adapter)
        return Towers(built(both.image, backbone.image, classes), built(both.text, backbone.text, classes))
    model: object = adapter.build(backbone, classes)
    if not isinstance(model, nn.Module):
        kind = "None" if model is None else f"a {type(model).__name__}"
        raise MethodError(f"{_name(adapter)}: build returned {kind}: return replace_head(backbone, classes)"
                          f"{_build(adapter)}")
    if not callable(getattr(model, "get_classifier", None)):
        raise MethodError(f"{_name(adapter)}: build returned a {type(model).__name__} without get_classifier, by which "
                          f"the head is found{_build(adapter)}")
    return model


class FirstLook:
    """Made of the plain backbone; `built` and `after_backward` raise MethodError for what cannot be meant."""

    def __init__(self, adapter: Adapter, backbone: nn.Module, image_size: int, text_length: int = 0) -> None:
        self.adapter, self.name = adapter, _name(adapter)
        self.pretrained = {id(p): p.numel() for p in backbone.parameters()}
        self.expected = _expected(adapter, backbone)
        self.x = _looked_at(backbone, image_size, text_length)
        promised = adapter.at_start in NEAR and _as_by_default(adapter, _numbers(adapter))
        self.plain = _seen(backbone, self.x)[0] if promised else None  # (2, D)

    def built(self, backbone: nn.Module, classes: int, check: bool = True) -> nn.Module:
        """What the adapter makes of the backbone, looked at before anything trains."""
        model = built(self.adapter, backbone, classes)
        if check:
            self._check_marks(model)
            features, logits = _seen(model, self.x)
            self._check_head(model, logits, classes)
            self._check_trained(model)
            self._check_start(features)
        return model

    def after_backward(self, fit: Fit) -> None:
        """After the first backward pass. A gradient of zeros is one; a weight that was not reached has none."""
        every = self.adapter.formula.startswith(EVERYTHING)  # a backbone may hold weights that it does not use
        lost = [n for n, p in fit.trainable.items()
                if p.grad is None and p.numel() and not (every and id(p) in self.pretrained)]
        if lost:
            path, _, name = lost[0].rpartition(".")
            owner = type(fit.model.get_submodule(path))
            raise MethodError(f"{self.name}: the loss does not reach {len(lost)} of {len(fit.trainable)} trained "
                              f"tensors, first {lost[0]!r}; use it in the forward pass or do not train it"
                              f"{_told(at_attribute(owner, name))}")

    def _check_marks(self, model: nn.Module) -> None:
        marked = list(deltas(model))
        for path, delta in marked:
            depth = getattr(delta, "depth", None)
            if not isinstance(depth, int) or isinstance(depth, bool) or depth < 0:
                raise MethodError(f"{self.name}: the Delta {path!r} has no depth; set self.depth to the number of its "
                                  f"block, from 0{_told(at_class(type(delta)))}")
        if "delta" in self.adapter.offers and not marked:
            raise MethodError(f"{self.name} offers 'delta' but its model holds no Delta{_build(self.adapter)}")

    def _check_head(self, model: nn.Module, logits: Tensor, classes: int) -> None:
        if tuple(logits.shape) != (IMAGES, classes):
            given = many(logits.shape[1], "number") if logits.ndim == 2 else f"a tensor {tuple(logits.shape[1:])}"
            raise MethodError(f"{self.name}: the model gives {given} for each image, for "
                              f"{many(classes, 'class', 'classes')}; end build with return "
                              f"replace_head(backbone, classes){_build(self.adapter)}")
        if getattr(model.get_classifier(), "fixed", False):  # type: ignore[operator]
            return
        head = head_names(model)
        if not head or not all(model.get_parameter(n).requires_grad for n in head):
            raise MethodError(f"{self.name}: the head does not train; freeze first, then return "
                              f"replace_head(backbone, classes){_build(self.adapter)}")

    def _check_trained(self, model: nn.Module) -> None:
        head, formula = head_names(model), self.adapter.formula
        trained = {n: p for n, p in model.named_parameters() if p.requires_grad and n not in head}
        old = sum(p.numel() for p in trained.values() if id(p) in self.pretrained)
        everything = old == sum(self.pretrained.values()) and not formula.startswith(EVERYTHING)
        if old and ("anchor" not in self.adapter.offers or everything):  # an anchor: the pre-trained value of a weight
            meant = "" if everything else ", or offer 'anchor' if they are meant"
            raise MethodError(f"{self.name} trains {old:,} {word(old, 'weight')} of the backbone and says nothing of "
                              f"it; begin build with freeze(backbone){meant}{_build(self.adapter)}")
        own = sum(p.numel() for p in trained.values())
        if self.expected is not None and own != self.expected:
            raise MethodError(f"{self.name} trains {own:,} {word(own, 'weight')} without the head, but its formula "
                              f"{formula!r} gives {self.expected:,}")

    def _check_start(self, features: Tensor | None) -> None:
        if self.plain is None or features is None:
            return
        says, at_start = f"{self.name} says at_start = {self.adapter.at_start!r}", self.adapter.at_start
        if features.shape != self.plain.shape:
            raise MethodError(f"{says}, but its head reads {features.shape[-1]} numbers and the pre-trained one "
                              f"{self.plain.shape[-1]}")
        far = float((features - self.plain).norm() / self.plain.norm().clamp_min(1e-12))
        if not far <= NEAR[at_start]:
            raise MethodError(f"{says}, but at the start its features differ from the pre-trained ones by {far:.2g} of "
                              "their length; let what is added begin at zero, or say 'never'")


class TwoLooks(FirstLook):
    """At two towers, each as if it were alone."""

    def __init__(self, adapter: Both, backbone: Towers, image_size: int, text_length: int) -> None:
        self.adapter, self.name = adapter, _name(adapter.image)
        self.halves = (FirstLook(adapter.image, backbone.image, image_size),
                       FirstLook(adapter.text, backbone.text, 0, text_length))
        self.pretrained = self.halves[0].pretrained | self.halves[1].pretrained

    def built(self, backbone: nn.Module, classes: int, check: bool = True) -> nn.Module:
        assert isinstance(backbone, Towers)
        image, text = self.halves
        return Towers(image.built(backbone.image, classes, check), text.built(backbone.text, classes, check))


def _looked_at(backbone: nn.Module, image_size: int, text_length: int) -> Tensor:
    """Two images of waves, or two texts."""
    if text_length:
        return example(backbone, IMAGES, image_size, text_length)
    pixels = torch.arange(IMAGES * 3 * image_size ** 2, dtype=torch.float64)
    return torch.sin(0.37 * pixels).view(IMAGES, 3, image_size, image_size).to(next(backbone.parameters()))


def _told(place: str) -> str:
    """A place as the end of a sentence."""
    return f" ({place})" if place else ""


def _build(adapter: Adapter) -> str:
    return _told(at(type(adapter).build))


def _name(adapter: Adapter) -> str:
    return repr(getattr(adapter, "name", type(adapter).__name__))


def _numbers(adapter: Adapter) -> set[str]:
    """The options that are numbers."""
    return {n for n, v in vars(adapter).items() if isinstance(v, int | float) and not isinstance(v, bool)}


def _as_by_default(adapter: Adapter, free: Collection[str]) -> bool:
    """Whether every option but the free ones has its default."""
    return not is_dataclass(adapter) or all(o.name in free or getattr(adapter, o.name) == o.default
                                            for o in fields(adapter))


def _expected(adapter: Adapter, backbone: nn.Module) -> int | None:
    """Trained weights by the formula; None where it has no number or was not made for such a backbone."""
    if adapter.formula.startswith(EVERYTHING):
        return sum(p.numel() for p in backbone.parameters())
    numbers = _numbers(adapter)
    if why := problem(adapter.formula, numbers | {"d", "L"}):  # one that was computed the catalog has not read
        raise MethodError(f"{_name(adapter)}: its formula {why}")
    if not _is_plain(backbone) or not _as_by_default(adapter, names_in(adapter.formula) & numbers):
        return None
    width, depth = int(backbone.embed_dim), len(backbone.blocks)  # type: ignore[arg-type]
    whole = {n: v for n in numbers if isinstance(v := getattr(adapter, n), int)}
    return weights_of(adapter.formula, whole | {"d": width, "L": depth})


def _is_plain(backbone: nn.Module) -> bool:
    """A ViT whose blocks have 12 d^2 + 13 d weights, with one final norm: what formulas in d and L speak of."""
    if family(backbone) != "vit":
        return False
    d = int(backbone.embed_dim)  # type: ignore[arg-type]
    sizes = {sum(p.numel() for p in block.parameters()) for block in backbone.blocks}  # type: ignore[union-attr]
    rest = {n: p.numel() for n, p in backbone.named_parameters() if not n.startswith("blocks.")}
    norms = sum(size for n, size in rest.items() if "norm" in n)
    return sizes == {12 * d * d + 13 * d} and norms == 2 * d and rest.get("patch_embed.proj.bias") == d


@torch.no_grad()
def _seen(model: nn.Module, x: Tensor) -> tuple[Tensor | None, Tensor]:
    """(what the head reads, what the model gives), in eval mode; leaves no trace."""
    modes, streams = {m: m.training for m in model.modules()}, random_state()
    read: list[Tensor] = []
    head = model.get_classifier()  # type: ignore[operator]
    hook = head.register_forward_pre_hook(lambda _, args: read.append(args[0])) if isinstance(head, nn.Module) else None
    try:
        model.eval()
        given = model(x)
    finally:
        if hook is not None:
            hook.remove()
        for module, mode in modes.items():
            module.training = mode
        restore_random(streams)
    return (read[0] if read else None), given
