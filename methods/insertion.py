"""Where adapters enter a backbone: blocks, linear layers, families, refusals; one interface for all families.

Everything is inserted after the backbone is built and loaded (timm's constructors re-initialise every `nn.Linear`, so
an adapter built inside one would lose its zeros), and every frozen weight keeps the name it has in the plain backbone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from .base import Adapter, Delta
from .catalog import catalog
from .face import POINTS as POINTS
from .face import Site as Site
from .families import face_of
from .grammar import MethodError


def family(model: nn.Module) -> str:
    """The word in `Adapter.families`, or the model's class name when its form is none that we know."""
    face = face_of(model)
    return type(model).__name__ if face.other_form() else face.family


def require(adapter: Adapter, model: nn.Module) -> str:
    """The model's family. Raises MethodError when the adapter has no place in it, naming those that would work."""
    found = family(model)
    if found in adapter.families:
        return found
    name = getattr(adapter, "name", type(adapter).__name__)
    fits = [i.name for i in catalog().values() if i.kind == "adapter" and found in i.families]
    made_for = " and ".join(sorted(adapter.families))
    other = face_of(model).other_form()
    raise MethodError(f"{name!r} adapts {made_for} backbones, not this {found}{f', {other}' if other else ''}; "
                      f"adapters that fit it: {', '.join(fits or ['full', 'linear'])}")  # these two need only a head


def blocks(model: nn.Module) -> list[nn.Module]:
    """The transformer blocks in order of depth."""
    return face_of(model).blocks()


def stream(block: nn.Module) -> Tensor:
    """A frozen weight (D,) of the block's first norm: an adapter takes width, device and type from it."""
    weight = block.norm1.weight  # type: ignore[union-attr]
    assert isinstance(weight, Tensor)
    return weight


def width(block: nn.Module) -> int:
    """D of the block's stream."""
    return len(stream(block))


def linears(model: nn.Module) -> list[Site]:
    """Every linear layer of the backbone in order of depth; the patch embedding is a convolution, the head is new."""
    return face_of(model).linears()


def final_norms(model: nn.Module) -> list[nn.Module]:
    """The norm before the head: `norm`, or `fc_norm` behind the pooling; the other one is an identity."""
    return face_of(model).final_norms()


def patch_tokens(model: nn.Module, x: Tensor) -> Tensor:
    """(B, 3, H, W) -> (B, N, D): patch tokens after the final norm, prefix tokens removed by position.

    Prompts left before the final norm. On Swin and ResNet the tokens are the positions of the last map.
    """
    features: Tensor = model.forward_features(x)  # type: ignore[operator]
    return face_of(model).patches(features)


class AdaptedLinear(nn.Linear):
    """A linear layer that takes over another's weight and bias, names included; subclasses say what they add."""

    def __init__(self, base: nn.Linear) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = base.in_features, base.out_features
        self.weight, self.bias = base.weight, base.bias
        self.train(base.training)

    def folded(self) -> tuple[Tensor, Tensor | None]:
        """Weight (o, i) and bias (o,) of the plain layer that computes the same."""
        return self.weight, self.bias


def fold_linears(model: nn.Module) -> nn.Module:
    """Replace every adapted layer by the plain one that computes the same, in place."""
    for path, module in list(model.named_modules()):
        if isinstance(module, AdaptedLinear):
            with torch.no_grad():
                weight, bias = module.folded()
            plain = nn.Linear(module.in_features, module.out_features, bias=bias is not None, device="meta")
            plain.weight = nn.Parameter(weight.detach().clone(), requires_grad=False)
            if bias is not None:
                plain.bias = nn.Parameter(bias.detach().clone(), requires_grad=False)
            model.set_submodule(path, plain.train(module.training))
    return model


def adapt_blocks(model: nn.Module, make: Callable[[int, nn.Module], dict[str, Delta]]) -> None:
    """Give every block the adapters that `make(depth, block)` returns by point (see `face.POINTS`).

    The block object stays, with its modules, names and buffers; only its forward becomes another.
    """
    face = face_of(model)
    for depth, block in enumerate(face.blocks()):
        points = nn.ModuleDict(make(depth, block)).train(block.training)
        face.adapt(block)
        block.add_module("points", points)


def deltas(model: nn.Module) -> Iterator[tuple[str, Delta]]:
    """Every marked residual branch with its path."""
    return ((path, m) for path, m in model.named_modules() if isinstance(m, Delta))


def empty(like: Tensor, *shape: int) -> nn.Parameter:
    """A trainable tensor on the device and in the type of the backbone's weight, to be filled by an initialiser."""
    return nn.Parameter(torch.empty(*shape, device=like.device, dtype=like.dtype))


def zeros(like: Tensor, *shape: int) -> nn.Parameter:
    return nn.Parameter(torch.zeros(*shape, device=like.device, dtype=like.dtype))
