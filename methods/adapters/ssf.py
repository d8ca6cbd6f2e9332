"""SSF (Lian et al., NeurIPS 2022, arXiv:2210.08823): scale and shift the channels behind every operation.

y = g * op(x) + t behind the patch embedding, every norm and every linear layer, on Swin also behind the norms of patch
embedding and merging. On ConvNeXt it stands behind every convolution, norm and linear layer, as in the authors' file
for it; in networks of batch norms behind these alone, where it is their affine part over again, with rates and decay
of its own (`bn_tune`). The authors start at g ~ N(1, 0.02), t ~ N(0, 0.02), which is not the pre-trained function;
`init="identity"` is. Written as the residual (g - 1) * y + t, so that it can be perturbed.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import torch
from timm.layers.norm import LayerNorm2d
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn

from ..base import Adapter, Delta, Feature
from ..compose import part
from ..convs import ConvFace
from ..families import face_of
from ..insertion import deltas, require
from ..vit import freeze, replace_head


class ScaleShift(Delta):
    """(g - 1) * y + t, (..., D) -> (..., D)."""

    def __init__(self, like: Tensor, channels: int, depth: int, start: str) -> None:
        super().__init__()
        self.depth = depth
        spread = 0.02 if start == "official" else 0.0
        self.scale = nn.Parameter(torch.empty(channels, device=like.device, dtype=like.dtype).normal_(1.0, spread))
        self.shift = nn.Parameter(torch.empty(channels, device=like.device, dtype=like.dtype).normal_(0.0, spread))

    def forward(self, y: Tensor) -> Tensor:
        return (self.scale - 1) * y + self.shift


class Scaled(nn.Module):
    """An operation whose channels are scaled and shifted; a convolution and its norm have them on axis 1, all else
    on the last."""

    def __init__(self, base: nn.Module, channels: int, depth: int, start: str) -> None:
        super().__init__()
        self.base = base
        self.delta = ScaleShift(base.weight, channels, depth, start)  # type: ignore[arg-type]
        self.first = isinstance(base, nn.Conv2d | LayerNorm2d)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.base(x)
        return y + (self.delta(y.movedim(1, -1)).movedim(-1, 1) if self.first else self.delta(y))

    @torch.no_grad()
    def folded(self) -> nn.Module:
        """The operation alone, with scale and shift inside its weight and bias."""
        g, t, weight, bias = self.delta.scale, self.delta.shift, self.base.weight, self.base.bias
        assert isinstance(weight, Tensor)
        self.base.weight = nn.Parameter(weight * g.reshape(-1, *[1] * (weight.ndim - 1)), requires_grad=False)
        shifted = t.clone() if bias is None else bias * g + t  # type: ignore[operator]
        self.base.bias = nn.Parameter(shifted, requires_grad=False)
        return self.base


class ScaledBatchNorm(Scaled):
    """A batch norm whose channels are scaled and shifted; an activation that timm keeps inside comes behind that."""

    def forward(self, x: Tensor) -> Tensor:
        norm: Any = self.base
        y = nn.BatchNorm2d.forward(norm, x)
        y = y + self.delta(y.movedim(1, -1)).movedim(-1, 1)
        return norm.act(norm.drop(y)) if isinstance(norm, BatchNormAct2d) else y  # type: ignore[no-any-return]


@part("ssf")
class SSF(Adapter):
    """SSF: scale and shift the channels behind every operation."""

    title = "SSF"
    paper = "Lian et al., NeurIPS 2022, arXiv:2210.08823"
    formula = "22 d L + 4 d"
    offers: ClassVar[frozenset[Feature]] = frozenset({"delta", "anchor", "tokens"})
    families: ClassVar[frozenset[str]] = frozenset({"vit", "eva", "beit", "swin", "swinv2", "resnet", "convnext",
                                                  "efficientnet", "mobilenet"})
    mergeable = True
    at_start = "never"
    search = {"lr": (1e-3, 5e-2, "log"), "weight_decay": (5e-5, 5e-2)}
    recipe_from = ("the authors set rate (1e-3 to 5e-2), weight decay (5e-5 or 5e-2) and DropPath (0 to 0.2) per "
                   "task; no one setting is theirs")

    init: Annotated[Literal["official", "identity"], "official: around 1 and 0 with deviation 0.02"] = "official"

    def build(self, backbone: nn.Module, classes: int) -> nn.Module:
        require(self, backbone)
        freeze(backbone)
        sites = self._sites(backbone)
        for path, module in list(backbone.named_modules()):
            if id(module) in sites:
                channels, depth = sites[id(module)]
                wrapper = ScaledBatchNorm if isinstance(module, nn.BatchNorm2d) else Scaled
                backbone.set_submodule(path, wrapper(module, channels, depth, self.init))
        return replace_head(backbone, classes)

    def _sites(self, model: nn.Module) -> dict[int, tuple[int, int]]:
        """id of each scaled operation -> (channels, depth); the final norm counts with the last block."""
        face = face_of(model)
        if isinstance(face, ConvFace):
            return self._conv_sites(face)
        norms = [*face.norms(), *((n, len(face.blocks()) - 1) for n in face.final_norms())]
        sites = {id(n): (int(n.weight.shape[0]), depth) for n, depth in norms if isinstance(n, nn.LayerNorm)}
        sites |= {id(s.linear): (s.linear.out_features, s.depth) for s in face.linears() if s.role != "reduction"}
        embed = model.patch_embed.proj  # type: ignore[union-attr]
        return sites | {id(embed): (int(embed.weight.shape[0]), 0)}  # type: ignore[union-attr, index, arg-type]

    def _conv_sites(self, face: ConvFace) -> dict[int, tuple[int, int]]:
        """The same where blocks convolve. Behind a batch norm, scale and shift of the convolution are its own again."""
        last = len(face.blocks()) - 1
        norms = [*face.norms(), *((n, last) for n in face.final_norms())]
        sites = {id(n): (int(n.weight.shape[0]), depth) for n, depth in norms if not isinstance(n, nn.Conv2d)}  # type: ignore[union-attr, index, arg-type]
        if face.family == "convnext":
            sites |= {id(s.conv): (s.conv.out_channels, s.depth) for s in face.convs()}
            sites |= {id(s.linear): (s.linear.out_features, s.depth) for s in face.linears()}
        return sites

    def anchors(self, model: nn.Module) -> dict[str, Tensor]:
        found = {}
        for path, delta in deltas(model):
            if isinstance(delta, ScaleShift):
                found[f"{path}.scale"] = torch.ones_like(delta.scale)
                found[f"{path}.shift"] = torch.zeros_like(delta.shift)
        return found

    def merge(self, model: nn.Module) -> nn.Module:
        for path, module in list(model.named_modules()):
            if isinstance(module, Scaled):
                model.set_submodule(path, module.folded())
        return model
