"""UniPT (Diao et al., CVPR 2024, arXiv:2308.14316): a guide from the last layer attends to every layer beside the net.

All states are squeezed; per layer, the last state attends to it with relu weights that sum to one (plus the state
itself); a softmax over layers says how much each counts. No gradient enters the backbone. The ViT form is ours: the
last state passes the frozen final norm, the result is pooled as the backbone pools. `form='cls'` has one query, the
class token, squeezed by itself, as in the authors' video branch, and needs no K x K attention.

On a convolutional network the states are the stages' maps and the guide is the map that is pooled. Matched to an
earlier map's channels (1 x 1 convolution, relu) it is multiplied with it; inside each window that a cell of the guide
covers the products' positive parts, divided by their sum, plus 1 / window size, weight the pixels that are summed.
A 1 x 1 convolution with batch norm squeezes what was pooled, and from there on cells are tokens.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..base import Adapter, Feature
from ..compose import part
from ..convs import ConvFace, conv_face
from ..families import face_of
from ..grammar import MethodError
from ..insertion import require
from ..side import SideNetwork, States, real_tokens
from ..stages import ConvSide

EPS = 1e-6


@part("unipt")
class UniPT(Adapter):
    """UniPT: all layers aggregated beside the frozen network, guided by the last one."""

    title = "UniPT"
    paper = "Diao et al., CVPR 2024, arXiv:2308.14316"
    ours = ("our reading: the image-classifier form (frozen final norm on the last state, the backbone's pooling); in "
            "form='cls' the confidences are those of the token form; no bias in front of the softmax, which ignores it")
    formula = ("(L + 1) (d h + 3 h) + h^2 + 3 h + h + h d + d, h = d / reduction; form='cls': (L + 2) (d h + h) + h + "
               "h d + d")
    offers: ClassVar[frozenset[Feature]] = frozenset({"tokens"})
    families: ClassVar[frozenset[str]] = frozenset({"vit", "eva", "beit", "resnet", "convnext", "efficientnet",
                                                  "mobilenet"})
    at_start: ClassVar[Literal["exact", "near", "never"]] = "never"
    frozen_backbone = True
    checks: ClassVar[dict[str, str]] = {
        "form == 'tokens' or residual == False":
            "form='cls' adds the backbone's own feature by itself; leave residual off"}
    search = {"lr": (1e-4, 3e-2, "log"), "unipt.reduction": (8, 4, 2)}
    recipe_from = "published for retrieval and question answering (5e-4 or 1e-4), not for image classification"

    reduction: Annotated[int, ">= 1", "d / h: how much narrower the side module is"] = 8
    form: Annotated[Literal["tokens", "cls"], "every token is a query, or the class token alone"] = "tokens"
    residual: Annotated[bool, "add the backbone's own normed tokens to the result"] = False

    def build(self, backbone: nn.Module, classes: int) -> nn.Module:
        require(self, backbone)
        if isinstance(face_of(backbone), ConvFace):
            return UniPTConv(backbone, classes, self)
        net: Any = backbone
        if int(net.embed_dim) % self.reduction:
            raise MethodError(f"'unipt': reduction={self.reduction} does not divide the width {net.embed_dim}")
        if self.form == "cls" and net.global_pool != "token":
            raise MethodError("'unipt': form='cls' needs a backbone that pools the class token")
        return (UniPTClass if self.form == "cls" else UniPTTokens)(backbone, classes, self)

    def frozen_blocks(self, model: nn.Module) -> int:
        return int(model.depth) if isinstance(model, _UniPT) else 0


class _UniPT(SideNetwork):
    """Squeezes, confidences, and the way up."""

    def __init__(self, backbone: nn.Module, classes: int, options: UniPT) -> None:
        net: Any = backbone
        depth, d = len(net.blocks), int(net.embed_dim)
        super().__init__(backbone, range(depth + 1), classes)
        self.depth, self.residual = depth, options.residual
        h = d // options.reduction
        self.squeeze = nn.ModuleList([self.squeezer(d, h) for _ in self.taps])
        self.confidence = nn.Linear(h, 1, bias=False)  # the softmax over layers would ignore a bias
        self.up = nn.Linear(h, d)
        self.make(h)
        self.settle()

    @staticmethod
    def squeezer(d: int, h: int) -> nn.Module:
        return nn.Sequential(nn.Linear(d, h), nn.LayerNorm(h))

    def make(self, h: int) -> None:
        """Modules of one form only."""

    def final(self, states: States) -> Tensor:
        """The last state behind the frozen final norm, (B, K, D)."""
        return self.face.final(states[self.depth])

    def squeezed(self, states: States) -> list[Tensor]:
        last = self.final(states)
        return [s(last if i == self.depth else states[i]) for i, s in enumerate(self.squeeze)]

    def mean(self, t: Tensor, real: Tensor | None) -> Tensor:
        """(B, K, h) -> (B, h): over the tokens of image or text, neither registers nor padding."""
        if real is None:
            return real_tokens(self.backbone, t).mean(1)
        return (t * real[:, :, None]).sum(1) / real.sum(1, keepdim=True)

    def confidences(self, guide: Tensor, layers: list[Tensor], real: Tensor | None = None) -> Tensor:
        """Mean guide (B, h), states (B, K, h) -> (B, n), positive, sum 1."""
        means = torch.stack([self.mean(x, real) for x in layers], dim=1)  # (B, n, h)
        return self.confidence(guide[:, None] * means)[..., 0].softmax(1)


class UniPTTokens(_UniPT):
    """Every token of the last state is a query."""

    def make(self, h: int) -> None:
        self.project = nn.Sequential(nn.Linear(h, h), nn.LayerNorm(h))

    def tokens(self, states: States) -> Tensor:
        *layers, guide = self.squeezed(states)
        real = self.context(states).real
        share = self.confidences(self.mean(guide, real), layers, real)  # (B, n)
        merged = torch.zeros_like(guide)
        for i, x in enumerate(layers):
            merged = merged + share[:, i, None, None] * (attention(guide, x, real) @ x + x)
        out: Tensor = self.up(F.relu(guide + self.project(merged)))
        return out + self.final(states) if self.residual else out


class UniPTClass(_UniPT):
    """The class token of the last state is the only query, with a squeeze of its own; all states are attended to."""

    @staticmethod
    def squeezer(d: int, h: int) -> nn.Module:
        return nn.Sequential(nn.ReLU(), nn.Linear(d, h))

    def make(self, h: int) -> None:
        self.query = self.squeezer(self.num_features, h)

    def pooled(self, states: States) -> Tensor:
        layers, last = self.squeezed(states), self.final(states)[:, :1]  # (B, 1, D)
        query = self.query(last)  # (B, 1, h)
        real = self.context(states).real
        share = self.confidences(query[:, 0], layers, real)
        read = torch.stack([(attention(query, x, real) @ x + x[:, :1])[:, 0] for x in layers], dim=1)  # (B, n, h)
        merged = (share[:, :, None] * read).sum(1)
        return last[:, 0] + self.up(F.relu(merged))

    def tokens(self, states: States) -> Tensor:
        return self.final(states)


def attention(query: Tensor, x: Tensor, real: Tensor | None = None) -> Tensor:
    """(B, Q, h), (B, K, h) -> (B, Q, K): relu scores, each row divided by its sum; a row without any stays 0.

    `real` (B, K) leaves padding out before the division, as the authors' text branches do.
    """
    scores = F.relu(query @ x.mT)
    scores = scores if real is None else scores * real[:, None]
    return scores / (scores.sum(2, keepdim=True) + EPS)


class UniPTConv(ConvSide, UniPTTokens):
    """States are the stages' outputs; the guide is the last one, behind what follows it in front of pooling."""

    def __init__(self, backbone: nn.Module, classes: int, options: UniPT) -> None:
        face = conv_face(backbone)
        if options.form == "cls":
            raise MethodError(f"'unipt': form='cls' asks for a class token, and this {face.family} has none")
        *early, last = face.channels()
        head: Any = getattr(backbone, "conv_head", None)
        d = int(head.out_channels) if head is not None and face.family == "efficientnet" else last
        if d % options.reduction:
            raise MethodError(f"'unipt': reduction={options.reduction} does not divide the width {d}")
        SideNetwork.__init__(self, backbone, range(len(early) + 1), classes)
        self.depth, self.residual = len(early), options.residual
        h = d // options.reduction
        self.match = nn.ModuleList([nn.Conv2d(d, c, 1) for c in early])
        self.squeeze = nn.ModuleList([nn.Sequential(nn.Conv2d(c, h, 1), nn.BatchNorm2d(h)) for c in (*early, d)])
        self.confidence = nn.Linear(h, 1, bias=False)
        self.up = nn.Linear(h, d)
        self.make(h)
        self.settle()

    def final(self, states: States) -> Tensor:
        """The guide's cells, (B, K, D)."""
        return self.conv_face.final(states[self.depth]).flatten(2).mT

    def squeezed(self, states: States) -> list[Tensor]:
        guide = self.conv_face.final(states[self.depth])
        maps = [guided(states[i], F.relu(match(guide))) for i, match in enumerate(self.match)]
        return [squeeze(x).flatten(2).mT for squeeze, x in zip(self.squeeze, [*maps, guide], strict=True)]

    def tokens(self, states: States) -> Tensor:
        """The map that is pooled, (B, D, H, W)."""
        grid = states[self.depth].shape[2:]
        cells = super().tokens(states).mT
        return cells.reshape(*cells.shape[:2], *grid)


def guided(x: Tensor, guide: Tensor) -> Tensor:
    """(B, C, H, W), (B, C, h, w) -> (B, C, h, w): each cell the weighted sum of its window of x."""
    rows, columns = x.shape[2] // guide.shape[2], x.shape[3] // guide.shape[3]
    if (rows * guide.shape[2], columns * guide.shape[3]) != x.shape[2:]:
        raise MethodError(f"'unipt' needs stages whose grids divide one another, not {tuple(x.shape[2:])} and "
                          f"{tuple(guide.shape[2:])} cells; use an image size that is a multiple of 32")
    windows = x.reshape(*x.shape[:2], guide.shape[2], rows, guide.shape[3], columns)  # (B, C, h, s, w, t)
    score = F.relu((windows * guide[:, :, :, None, :, None]).sum(1))  # (B, h, s, w, t)
    weight = score / (score.sum((2, 4), keepdim=True) + EPS) + 1 / (rows * columns)
    return (windows * weight[:, None]).sum((3, 5))
