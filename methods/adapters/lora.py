"""LoRA (Hu et al., ICLR 2022, arXiv:2106.09685): a low-rank product beside frozen linear layers.

W' = W + (alpha / rank) B A with A (rank x i) random and B (o x rank) zero, so training starts at the pre-trained
function. timm fuses q, k and v into one layer; each target gets its own pair on its own rows, or one A for all of
them (`shared_a`), as NOAH does and as libraries do that see the fused layer as one matrix.

Four controls of later papers are options, and by default none of them is on:
`init='pissa'`    PiSSA (Meng, Wang, Zhang, NeurIPS 2024, arXiv:2404.02948): B and A begin as the weight's largest
                  singular directions; see `principal`
`scale='rslora'`  rsLoRA (Kalajdzievski, 2023, arXiv:2312.03732): alpha / sqrt(rank)
`lr_ratio`        LoRA+ (Hayou, Ghosh, Yu, ICML 2024, arXiv:2402.12354): the rate of B is so many times that of A; 16 in
                  the paper. The head keeps the rate of A
`experts`         MLAE (Wang et al., 2024, arXiv:2405.18897): each rank is an expert with a weight; see `experts`
"""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal

from torch import Tensor, nn

from ..base import Adapter, Feature, Fit
from ..compose import part
from ..conv_layer import fold_convs
from ..convs import conv_face
from ..grammar import MethodError
from ..insertion import Site, deltas, fold_linears, linears, require
from ..views import View
from ..vit import freeze, replace_head
from .experts import Experts
from .lowrank import LoraLinear, LowRank, grouped, here, read_targets, rows_of
from .lowrank_conv import ATTENTION_FREE, LoraConv, chosen
from .lowrank_conv import TARGETS as CONV_TARGETS
from .principal import Principal


@part("lora")
class LoRA(Adapter):
    """LoRA: low-rank updates beside frozen linear layers."""

    title = "LoRA"
    paper = "Hu et al., ICLR 2022, arXiv:2106.09685"
    formula = "2 d L rank per target of q, k, v, o; 5 d L rank per fc1, fc2; shared_a over n of q, k, v: (1+n) d L rank"
    offers: ClassVar[frozenset[Feature]] = frozenset({"delta", "anchor", "tokens"})
    families: ClassVar[frozenset[str]] = frozenset({"vit", "eva", "beit", "swin", "swinv2", "resnet", "convnext",
                                                  "efficientnet", "mobilenet"})
    mergeable = True

    lists: ClassVar[dict[str, tuple[str, ...]]] = {"targets": ("q", "k", "v", "o", "fc1", "fc2")}
    further: ClassVar[dict[str, tuple[str, ...]]] = {"targets": (  # of convolutional networks, see lowrank_conv
        "conv1", "conv2", "conv3", "downsample", "conv", "conv_exp", "conv_pw", "conv_pwl", "conv_head")}
    later: ClassVar[frozenset[str]] = frozenset({"init", "scale", "lr_ratio", "experts", "expert_dropout"})
    checks: ClassVar[dict[str, str]] = {
        "not experts or init == 'kaiming'": "experts begin at zero, so init='pissa' does not go with them",
        "not experts or scale == 'lora'": "experts are scaled by their own weights, so scale='rslora' does not act",
        "experts or expert_dropout == 0.5": "expert_dropout needs experts=True"}
    search = {"lr": (3e-4, 3e-2, "log"), "lora.rank": (8, 4, 16)}
    recipe = {"lr": 1e-3, "weight_decay": 1e-4, "epochs": 100, "warmup_epochs": 10, "batch_size": 64, "drop_path": 0.1,
              "drop_last": True, "schedule": "cosine_timm", "normalise": "peer"}  # NOAH's
    recipe_from = "NOAH's code, its run of LoRA; certain, but q, k and v share one A there (shared_a)"

    rank: Annotated[int, ">= 1", "rank of each update"] = 8
    alpha: Annotated[float, "> 0", "the update is scaled by alpha / rank"] = 8.0
    targets: Annotated[str, "what is adapted: some of q, k, v, o, fc1, fc2 joined by commas, or 'all'; of a "
                               "convolutional network some of its convolutions' roles, and q,v stands for conv2 of a "
                               "ResNet, conv_pw,conv_pwl of EfficientNet and MobileNet, fc1,fc2 of ConvNeXt"] = "q,v"
    dropout: Annotated[float, ">= 0, < 1", "on the update's input while training"] = 0.0
    shared_a: Annotated[bool, "one A for all of q, k, v that are targets (NOAH)"] = False
    init: Annotated[Literal["kaiming", "pissa"], "B zero, or both from the weight's singular vectors"] = "kaiming"
    scale: Annotated[Literal["lora", "rslora"], "the update is scaled by alpha / rank, or alpha / sqrt(rank)"] = "lora"
    lr_ratio: Annotated[float, "> 0", "learning rate of B over that of A (LoRA+)"] = 1.0
    experts: Annotated[bool, "each rank has a trained weight, alpha at first, and is masked at random (MLAE)"] = False
    expert_dropout: Annotated[float, ">= 0, < 1", "how often an expert is masked, for a whole batch"] = 0.5

    def __post_init__(self) -> None:
        if not {*self.targets.split(",")} & {*CONV_TARGETS}:
            read_targets(self.targets)

    def build(self, backbone: nn.Module, classes: int) -> nn.Module:
        if require(self, backbone) in ATTENTION_FREE:
            return self.adapt_convs(backbone, classes)
        return self.adapt(backbone, linears(backbone), classes)

    def adapt_convs(self, backbone: nn.Module, classes: int) -> nn.Module:
        """The same for a convolutional network; the linear layers of a ConvNeXt get pairs as any."""
        if self.shared_a or self.experts or self.init != "kaiming":
            raise MethodError("'lora': shared_a, experts and init='pissa' are for linear layers with attention; leave "
                              "them out on a convolutional network")
        face = conv_face(backbone)
        roles = chosen(tuple(self.targets.split(",")), face)
        freeze(backbone)
        for conv in face.convs():
            if conv.role in roles and conv.conv.groups == 1:
                backbone.set_submodule(conv.path, LoraConv(conv, self.rank, self.factor, self.dropout))
        for site in face.linears():
            if site.role in roles:
                pairs = {site.role: self.pair(site, [rows_of(site.role, site)])}
                backbone.set_submodule(site.path, LoraLinear(site.linear, pairs))
        return replace_head(backbone, classes)

    @property
    def factor(self) -> float:
        """What the product is multiplied with."""
        return self.alpha / (self.rank if self.scale == "lora" else math.sqrt(self.rank))

    def adapt(self, backbone: nn.Module, sites: list[Site], classes: int) -> nn.Module:
        """Freeze the backbone, put pairs beside the layers of these sites, give it a fresh head."""
        freeze(backbone)
        chosen = grouped(read_targets(self.targets), self.shared_a)
        for site in sites:
            pairs = {"".join(group): self.pair(site, [rows_of(t, site) for t in group])
                     for group in here(chosen, site)}
            if pairs:
                backbone.set_submodule(site.path, LoraLinear(site.linear, pairs))
        return replace_head(backbone, classes)

    def pair(self, site: Site, rows: list[slice]) -> LowRank:
        """What is put beside these rows of a layer."""
        if self.experts:
            return Experts(site, rows, self.rank, self.alpha, self.dropout, self.expert_dropout)
        kind = LowRank if self.init == "kaiming" else Principal
        return kind(site, rows, self.rank, self.factor, self.dropout)

    def rates(self, model: nn.Module) -> dict[str, float]:
        if self.lr_ratio == 1.0:
            return {}
        return {f"{path}.up": self.lr_ratio for path, d in deltas(model) if isinstance(d, LowRank)}

    def anchors(self, model: nn.Module) -> dict[str, Tensor]:
        """Where the product is zero: B = 0, or both factors of PiSSA at their start."""
        return {f"{path}.{name}": value for path, d in deltas(model) if isinstance(d, LowRank)
                for name, value in d.neutral().items()}

    def views(self, fit: Fit) -> list[View]:
        """What a constraint scales: rows of B, which are rows of the product, or the moves of both of PiSSA's."""
        return [view for path, d in deltas(fit.model) if isinstance(d, LowRank) for view in d.views(path, fit.anchor)]

    def merge(self, model: nn.Module) -> nn.Module:
        return fold_convs(fold_linears(model))
