"""Where adapters enter a backbone: blocks, linear layers, families, refusals; one interface for ViT and Swin.

Everything is inserted after the backbone is built and loaded (timm's constructors re-initialise every `nn.Linear`, so
an adapter built inside one would lose its zeros), and every frozen weight keeps the name it has in the plain backbone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from timm.models.resnet import ResNet
from torch import Tensor, nn

from .base import Adapter, Delta
from .catalog import catalog
from .grammar import MethodError
from .swin import AdaptedSwinBlock, block_list, is_swin, mergings
from .vit import AdaptedBlock, is_vit


def family(model: nn.Module) -> str:
    """vit, swin, resnet, or the model's class name when it is none of them."""
    if is_vit(model):
        return "vit"
    if is_swin(model):
        return "swin"
    return "resnet" if isinstance(model, ResNet) else type(model).__name__


def require(adapter: Adapter, model: nn.Module) -> str:
    """The model's family. Raises MethodError when the adapter has no place in it, naming those that would work."""
    found = family(model)
    if found in adapter.families:
        return found
    name = getattr(adapter, "name", type(adapter).__name__)
    fits = [i.name for i in catalog().values() if i.kind == "adapter" and found in i.families]
    made_for = " and ".join(sorted(adapter.families))
    raise MethodError(f"{name!r} adapts {made_for} backbones, not this {found}; "
                      f"adapters that fit it: {', '.join(fits or ['full', 'linear'])}")  # these two need only a head


def blocks(model: nn.Module) -> list[nn.Module]:
    """The transformer blocks in order of depth."""
    return block_list(model) if is_swin(model) else list(model.blocks)  # type: ignore[arg-type]


def width(block: nn.Module) -> int:
    """D of the block's stream."""
    return int(block.attn.qkv.in_features)  # type: ignore[union-attr, arg-type]


class Site(NamedTuple):
    """A linear layer of the backbone."""

    path: str  # from the model
    linear: nn.Linear
    depth: int  # of its block; patch merging counts with the block that follows
    role: str  # qkv, proj, fc1, fc2, reduction


def linears(model: nn.Module) -> list[Site]:
    """Every linear layer of the backbone in order of depth; the patch embedding is a convolution, the head is new."""
    path_of = {id(module): path for path, module in model.named_modules()}
    sites = []
    for depth, block in enumerate(blocks(model)):
        if is_swin(model):
            sites += [Site(path_of[id(m.reduction)], m.reduction, d, "reduction")  # type: ignore[union-attr, arg-type]
                      for d, m in mergings(model) if d == depth]
        for inner in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"):
            linear = block.get_submodule(inner)
            assert isinstance(linear, nn.Linear)
            sites.append(Site(path_of[id(linear)], linear, depth, inner.rpartition(".")[2]))
    return sites


def final_norms(model: nn.Module) -> list[nn.Module]:
    """The norm before the head: `norm`, or `fc_norm` behind the pooling; the other one is an identity."""
    both = [getattr(model, name, None) for name in ("norm", "fc_norm")]
    return [m for m in both if m is not None and any(True for _ in m.parameters())]


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
    """Give every block the adapters that `make(depth, block)` returns by point (see `vit.POINTS`).

    The block object stays, with its modules, names and buffers; only its forward becomes another.
    """
    for depth, block in enumerate(blocks(model)):
        points = nn.ModuleDict(make(depth, block)).train(block.training)
        block.__class__ = AdaptedSwinBlock if is_swin(model) else AdaptedBlock
        block.add_module("points", points)


def deltas(model: nn.Module) -> Iterator[tuple[str, Delta]]:
    """Every marked residual branch with its path."""
    return ((path, m) for path, m in model.named_modules() if isinstance(m, Delta))


def empty(like: Tensor, *shape: int) -> nn.Parameter:
    """A trainable tensor on the device and in the type of the backbone's weight, to be filled by an initialiser."""
    return nn.Parameter(torch.empty(*shape, device=like.device, dtype=like.dtype))


def zeros(like: Tensor, *shape: int) -> nn.Parameter:
    return nn.Parameter(torch.zeros(*shape, device=like.device, dtype=like.dtype))
