"""BitFit (Ben Zaken, Ravfogel, Goldberg, ACL 2022, arXiv:2106.10199): only the bias vectors train.

True biases of linear layers, convolutions and norms are found by module, not by the text "bias" in a name: that would
also catch Swin's relative position tables, which are not biases of a layer and stay frozen here.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from torch import nn

from ..base import Adapter, Feature
from ..compose import part
from ..families import face_of
from ..grammar import MethodError
from ..insertion import require
from ..vit import freeze, replace_head

NORMS = nn.LayerNorm | nn.BatchNorm2d


@part("bitfit")
class BitFit(Adapter):
    """BitFit: only the bias vectors train."""

    title = "BitFit"
    paper = "Ben Zaken, Ravfogel, Goldberg, ACL 2022, arXiv:2106.10199"
    formula = "11 d L + 2 d"
    offers: ClassVar[frozenset[Feature]] = frozenset({"anchor", "tokens"})
    families: ClassVar[frozenset[str]] = frozenset({"vit", "eva", "beit", "swin", "swinv2", "resnet", "convnext",
                                                  "efficientnet", "mobilenet"})
    mergeable = True
    search = {"lr": (1e-4, 5e-2, "log")}
    recipe_from = ("peers run it on images over grids of rates and decays per task (VPT, Mai et al.); no one setting "
                   "is printed")

    norms: Annotated[bool, "train the biases of norms too"] = True

    def build(self, backbone: nn.Module, classes: int) -> nn.Module:
        require(self, backbone)
        freeze(backbone)
        for module in backbone.modules():
            wanted = isinstance(module, nn.Linear | nn.Conv2d) or (self.norms and isinstance(module, NORMS))
            if wanted and module.bias is not None:
                module.bias.requires_grad_(True)
        for bias in face_of(backbone).biases():
            bias.requires_grad_(True)
        if not any(p.requires_grad for p in backbone.parameters()):
            raise MethodError("'bitfit' finds no bias in this backbone and would train the head alone, which is "
                              "'linear'; 'lora' adapts it")
        return replace_head(backbone, classes)
