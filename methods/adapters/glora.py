"""GLoRA (Chavan et al., 2023, arXiv:2306.07967) on one fixed path: weight and bias changed by five supports.

W' = W + W * A + B and b' = b + b * D + E + W C on every linear layer, patch embedding and head excepted. A, B (o x i)
and C (i x 1) are a product of two factors, a vector or nothing, A and B also one constant; D and E (o) are a vector, a
constant or nothing. Left factors, vectors and constants start at zero, right factors Xavier-uniform.
In the authors' supernet kinds are drawn, vectors are columns of factors, and a search follows.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..base import Adapter, Delta, Feature
from ..compose import part
from ..insertion import AdaptedLinear, Site, deltas, empty, fold_linears, linears, require, zeros
from ..vit import freeze, replace_head


class Support(nn.Module):
    """One of A .. E, zero at the start; called, it broadcasts to (rows, columns)."""

    def __init__(self, like: Tensor, kind: str, rows: int, columns: int, rank: int) -> None:
        super().__init__()
        self.right = nn.init.xavier_uniform_(empty(like, rank, columns)) if kind == "lora" else None
        self.left = zeros(like, *{"lora": (rows, rank), "vector": (rows, 1), "constant": (1, 1)}[kind])

    def forward(self) -> Tensor:
        return self.left if self.right is None else self.left @ self.right


class Supports(Delta):
    """(W * A + B) x + b * D + E + W C of one layer; without a bias there is nothing to change in it."""

    def __init__(self, site: Site, kinds: dict[str, str], rank: int) -> None:
        super().__init__()
        self.depth = site.depth
        o, i = site.linear.weight.shape
        shapes = {"a": (o, i), "b": (o, i), "c": (i, 1), "d": (o, 1), "e": (o, 1)}
        used = [n for n in shapes if kinds[n] != "none" and (n in "ab" or site.linear.bias is not None)]
        self.by_name = nn.ModuleDict({n: Support(site.linear.weight, kinds[n], *shapes[n], rank) for n in used})

    def changes(self, weight: Tensor, bias: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        """What is added to the weight (o, i) and to the bias (o,)."""
        at = {name: support() for name, support in self.by_name.items()}
        matrix = [weight * at["a"]] if "a" in at else []
        matrix += [at["b"].expand_as(weight)] if "b" in at else []
        constant = [F.linear(at["c"][:, 0], weight)] if "c" in at else []
        constant += [bias * at["d"][:, 0]] if "d" in at and bias is not None else []
        constant += [at["e"][:, 0].expand_as(bias)] if "e" in at and bias is not None else []
        return (sum(matrix[1:], matrix[0]) if matrix else None, sum(constant[1:], constant[0]) if constant else None)

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """x (..., i), W (o, i), b (o,) -> (..., o)."""
        matrix, constant = self.changes(weight, bias)
        if matrix is None and constant is not None:
            return constant.expand(*x.shape[:-1], -1)
        return F.linear(x, matrix, constant)  # type: ignore[arg-type] # a layer without any support is left plain


class SupportedLinear(AdaptedLinear):
    """W x + b, plus its supports."""

    def __init__(self, base: nn.Linear, supports: Supports) -> None:
        super().__init__(base)
        self.supports = supports

    def forward(self, x: Tensor) -> Tensor:
        added: Tensor = self.supports(x, self.weight, self.bias)
        return super().forward(x) + added

    def folded(self) -> tuple[Tensor, Tensor | None]:
        matrix, constant = self.supports.changes(self.weight, self.bias)
        bias = self.bias if constant is None or self.bias is None else self.bias + constant
        return self.weight if matrix is None else self.weight + matrix, bias


@part("glora")
class GLoRA(Adapter):
    """GLoRA: weight and bias of every linear layer scaled, shifted and coupled along one fixed path."""

    title = "GLoRA, fixed path"
    paper = "Chavan et al., 2023, arXiv:2306.07967"
    ours = "one path, the same in every layer: no supernet and no search, so no published figure is of this"
    formula = "L ((39 d + 4) rank + 18 d); other kinds: rank (o + i), o or 1 for a and b; rank (i + 1) or i for c"
    offers: ClassVar[frozenset[Feature]] = frozenset({"delta", "anchor", "tokens"})
    families: ClassVar[frozenset[str]] = frozenset({"vit", "swin"})
    mergeable = True
    checks: ClassVar[dict[str, str]] = {"not a == b == c == d == e == 'none'":
                                        "with every support 'none' nothing is adapted; 'linear' is that method"}
    search = {"lr": (1e-4, 3e-2, "log"), "glora.rank": (4, 2, 8)}
    recipe_from = "the authors' setting (AdamW 1e-4, 500 epochs) trains a supernet; a fixed path has none"

    rank: Annotated[int, ">= 1", "rank of the factors"] = 4
    a: Annotated[Literal["lora", "vector", "constant", "none"], "the weight's factor"] = "lora"
    b: Annotated[Literal["lora", "vector", "constant", "none"], "added to the weight"] = "lora"
    c: Annotated[Literal["lora", "vector", "none"], "what the weight is applied to, for the bias"] = "lora"
    d: Annotated[Literal["vector", "constant", "none"], "what the bias is multiplied by"] = "vector"
    e: Annotated[Literal["vector", "constant", "none"], "what is added to the bias"] = "vector"

    def build(self, backbone: nn.Module, classes: int) -> nn.Module:
        require(self, backbone)
        freeze(backbone)
        kinds: dict[str, str] = {"a": self.a, "b": self.b, "c": self.c, "d": self.d, "e": self.e}
        for site in linears(backbone):
            supports = Supports(site, kinds, self.rank)
            if supports.by_name:
                backbone.set_submodule(site.path, SupportedLinear(site.linear, supports))
        return replace_head(backbone, classes)

    def anchors(self, model: nn.Module) -> dict[str, Tensor]:
        """Left factors, vectors and constants at zero, whatever the right factors are."""
        return {f"{path}.{name}": torch.zeros_like(p) for path, d in deltas(model) for name, p in d.named_parameters()
                if name.endswith(".left")}

    def merge(self, model: nn.Module) -> nn.Module:
        return fold_linears(model)
