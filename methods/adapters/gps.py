"""GPS (Zhang et al., CVPR 2024, arXiv:2312.10136): of each output row of every weight, train the most wanted entry.

Before training, the gradient of a loss is summed over all training images in one pass (train mode, no step), and each
row keeps its `k` entries of largest magnitude, each filter of the patch embedding too. All biases but those of norms
train whole. The authors' loss on VTAB is supervised contrastive over two views of the features, so that the untrained
head has no say (Khosla et al., NeurIPS 2020, arXiv:2004.11362, temperature 0.07). A model that no run has prepared has
the entries of largest weight chosen.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from ..base import Adapter, Batch, Feature, Fit
from ..compose import part
from ..grammar import MethodError
from ..insertion import fold_linears, linears, require
from ..vit import freeze, replace_head
from .sensitivity import contrastive, on_labels, weights_awake
from .sparse import SPARSE, SparseConv, SparseLinear, largest_of_each_row


@part("gps")
class GPS(Adapter):
    """GPS: the entries of each row with the largest gradient train, and the biases."""

    title = "GPS"
    paper = "Zhang et al., CVPR 2024, arXiv:2312.10136"
    ours = ("our reading: the two views are crops of half the image or more, mirrored, with colours changed; the "
            "temperature is 0.07; a batch's loss counts by its images")
    formula = "9 d L k + 9 d L + d k + d"
    offers: ClassVar[frozenset[Feature]] = frozenset({"anchor", "tokens"})
    families: ClassVar[frozenset[str]] = frozenset({"vit", "swin"})
    mergeable = True
    search = {"lr": (1e-4, 2e-2, "log")}
    recipe_from = ("the authors set rate (3e-4 to 1e-2), batch and DropPath per task (Adam without decay, 100 "
                   "epochs); no one setting is theirs")

    k: Annotated[int, ">= 1", "entries of each row"] = 1
    score: Annotated[Literal["supcon", "ce", "random"], "the loss whose gradient chooses; random: a control"] = "supcon"
    patch_embed: Annotated[bool, "the patch embedding's filters are rows too"] = True

    def build(self, backbone: nn.Module, classes: int) -> nn.Module:
        require(self, backbone)
        freeze(backbone)
        for site in linears(backbone):
            self._fits(site.path, site.linear.weight)
            index = largest_of_each_row(site.linear.weight.detach().abs(), self.k)
            backbone.set_submodule(site.path, SparseLinear(site.linear, index))
        if self.patch_embed:
            conv = backbone.patch_embed.proj  # type: ignore[union-attr]
            self._fits("patch_embed.proj", conv.weight)  # type: ignore[union-attr, arg-type]
            index = largest_of_each_row(conv.weight.detach().abs(), self.k)  # type: ignore[union-attr, operator]
            backbone.set_submodule("patch_embed.proj", SparseConv(conv, index))  # type: ignore[arg-type]
        for _, layer in sparse_layers(backbone):
            if layer.bias is not None:
                layer.bias.requires_grad_(True)
        return replace_head(backbone, classes)

    def _fits(self, path: str, weight: Tensor) -> None:
        if self.k > weight[0].numel():
            raise MethodError(f"gps(k={self.k}): a row of {path!r} has {weight[0].numel()} entries")

    def prepare(self, fit: Fit, train: Iterable[Batch]) -> None:
        layers = [layer for _, layer in sparse_layers(fit.model)]
        if self.score == "random":
            scores = [torch.rand(layer.weight.shape, device=layer.weight.device) for layer in layers]
        else:
            loss = contrastive if self.score == "supcon" else on_labels
            with weights_awake(fit, [layer.weight for layer in layers]):
                for batch in train:
                    (loss(fit, batch) * len(batch.y)).backward()  # type: ignore[no-untyped-call]
                scores = [torch.zeros_like(w) if w.grad is None else w.grad.abs() for w in (m.weight for m in layers)]
        for layer, score in zip(layers, scores, strict=True):
            layer.index.copy_(largest_of_each_row(score, self.k))

    def anchors(self, model: nn.Module) -> dict[str, Tensor]:
        """Nothing added; the biases have the values that pre-training gave them."""
        return {f"{path}.values": torch.zeros_like(m.values) for path, m in sparse_layers(model)}

    def merge(self, model: nn.Module) -> nn.Module:
        for path, layer in list(sparse_layers(model)):
            if isinstance(layer, SparseConv):
                model.set_submodule(path, layer.folded())
        return fold_linears(model)


def sparse_layers(model: nn.Module) -> Iterator[tuple[str, Any]]:
    """Every layer with chosen entries and its path."""
    return ((path, m) for path, m in model.named_modules() if isinstance(m, SPARSE))
