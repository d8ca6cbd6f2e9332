"""SHERL (Diao et al., ECCV 2024, arXiv:2407.07523): merge the early layers beside the network, adapt the last one.

Early route: a small module squeezes the outputs of all early layers and merges them per token, weighted by relevance to
the deepest one and damped by redundancy among them. Late route: the merged tokens replace the input of the last frozen
layer, through whose activations (never its weights) the gradient flows. Written from the formulas; the authors have no
image classifier, so the ViT form is ours: Linear + LayerNorm squeezes (their BERT and detection form, because a ViT's
stream grows with depth). The ResNet form follows their image branch.
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
from ..side import SideNetwork, States, class_query, every
from ..stages import ConvSide, guide_channels, to_grid

TEMPERATURE = 0.1  # of the gate; fixed
EPS = 1e-6

Weighting = Literal["mtsa", "no_redundancy", "uniform", "guide"]


@part("sherl")
class SHERL(Adapter):
    """SHERL: early layers merged beside the frozen network, gradients through its last layer only."""

    title = "SHERL"
    paper = "Diao et al., ECCV 2024, arXiv:2407.07523"
    ours = ("our reading: the paper has no image classifier; squeezes are Linear + LayerNorm on ViT, and "
            "start='identity' (skip fixed at 1, expansion zero) is ours")
    formula = "N (d h + 3 h) + (h + 1) + (h d + d) + 2 d + 1, h = d / reduction, N early states"
    offers: ClassVar[frozenset[Feature]] = frozenset({"tokens"})
    families: ClassVar[frozenset[str]] = frozenset({"vit", "eva", "beit", "resnet", "convnext", "efficientnet",
                                                  "mobilenet"})
    at_start: ClassVar[Literal["exact", "near", "never"]] = "never"
    frozen_backbone = True
    checks: ClassVar[dict[str, str]] = {
        "n_late >= 1 or class_query == False": "class_query=True shortens the last late block; it needs n_late >= 1",
        "taps == '' or (tap_every == 1 and weighting != 'guide')": "taps names the early states that are read: leave "
        "tap_every and weighting='guide' out",
        "start == 'paper' or gate == 'free'": "start='identity' has no gate: its skip is fixed at 1",
    }
    search = {"lr": (1e-4, 3e-2, "log")}
    recipe_from = ("published for retrieval, question answering and language (5e-4, 1e-4, 3e-3), not for image "
                   "classification")

    n_late: Annotated[int, ">= 0", "frozen layers behind the merge, through which the gradient flows"] = 1
    reduction: Annotated[int, ">= 1", "d / h: how much narrower the side module is"] = 8
    tap_every: Annotated[int, ">= 1", "read every so many early states, counted back from the deepest"] = 1
    taps: Annotated[str, "or the early states to read beside the deepest, as '0 3 6'; 0: the embeddings"] = ""
    start: Annotated[Literal["paper", "identity"], "gate 0 (skip closed), or the plain network"] = "paper"
    squeeze: Annotated[Literal["norm", "glu"], "Linear + LayerNorm, or CLIP-ViL's gated unit"] = "norm"
    weighting: Annotated[Literal["mtsa", "no_redundancy", "uniform", "guide"],
                         "ablations: no damping, equal weights, or only the deepest state"] = "mtsa"
    gate: Annotated[Literal["free", "zero"], "ablation: the skip stays closed"] = "free"
    class_query: Annotated[bool, "compute only the class token in the last block; for class-token pooling"] = False

    def build(self, backbone: nn.Module, classes: int) -> nn.Module:
        require(self, backbone)
        conv = isinstance(face_of(backbone), ConvFace)
        return SherlConv(backbone, classes, self) if conv else SherlViT(backbone, classes, self)

    def read(self, guide: int) -> tuple[int, ...]:
        """Numbers of the early states that are read, the deepest (`guide`) last. Raises MethodError."""
        if self.weighting == "guide":
            return (guide,)
        if not self.taps:
            return every(guide, self.tap_every)
        wrong = [word for word in self.taps.split() if not (word.isascii() and word.isdecimal() and int(word) <= guide)]
        if wrong:
            raise MethodError(f"'sherl': taps holds {', '.join(wrong)}; the early states are 0 to {guide}, as in "
                              f"taps='0 {guide}'")
        return tuple(sorted({*map(int, self.taps.split()), guide}))

    def frozen_blocks(self, model: nn.Module) -> int:
        return int(model.guide) if isinstance(model, SherlViT) else 0


class MTSA(nn.Module):
    """Multi-tiered sensing adapter: merges the shallow states of each token, sensed by the deepest one."""

    def __init__(self, width: int, weighting: Weighting) -> None:
        super().__init__()
        self.weighting = weighting
        if weighting in ("mtsa", "no_redundancy"):
            self.relevance = nn.Linear(width, 1)

    def weights(self, shallow: Tensor, guide: Tensor) -> Tensor:
        """(B, K, n, h), (B, K, h) -> alpha (B, K, n), non-negative; sums to 1, or to 0 where nothing is relevant."""
        if self.weighting == "uniform":
            return shallow.new_full(shallow.shape[:3], 1 / shallow.shape[2])
        m = F.relu(self.relevance(shallow * guide[:, :, None])[..., 0])
        if self.weighting == "mtsa":
            m = m / redundancy(shallow)
        return m / (m.sum(2, keepdim=True) + EPS)

    def forward(self, shallow: Tensor, guide: Tensor) -> Tensor:
        """-> (B, K, h): the weighted sum plus the guide."""
        alpha = self.weights(shallow, guide)
        return torch.einsum("bkn,bknh->bkh", alpha, shallow) + guide


def redundancy(shallow: Tensor) -> Tensor:
    """(B, K, n, h) -> (B, K, n): sum of the positive cosines with all states of the token, itself included."""
    unit = shallow / (shallow.norm(dim=3, keepdim=True) + EPS)
    return F.relu(unit @ unit.mT).sum(3).clamp_min(EPS)  # the floor: a zero feature is redundant with nothing


class GatedSqueeze(nn.Module):
    """u = relu(W1 x); (W2 u + u) * sigmoid(W3 u): the form of the vision-language and T5 branches."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.fc1, self.fc2, self.fc3 = nn.Linear(inputs, width), nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        u = F.relu(self.fc1(x))
        return (self.fc2(u) + u) * self.fc3(u).sigmoid()


class _Sherl(SideNetwork):
    """What the two forms share: squeeze, merge, expand, and the gated skip."""

    guide: int  # the deepest early state
    squeeze: nn.ModuleDict
    expand: nn.Module

    def _common(self, width: int, options: SHERL) -> None:
        self.options = options
        if len(self.taps) > 1:
            self.mtsa = MTSA(width, options.weighting)
        if options.start == "paper" and options.gate == "free":
            self.g = nn.Parameter(torch.zeros(()))
        self.settle()

    def skip(self) -> Tensor | float:
        """What the pre-trained stream is multiplied with: tanh(g / T), or a constant."""
        if self.options.start == "identity":
            return 1.0
        return torch.tanh(self.g / TEMPERATURE) if self.options.gate == "free" else 0.0

    def merged(self, states: States) -> Tensor:
        """Early states -> z (B, K, h)."""
        squeezed = [self.squeeze[str(i)](states[i]) for i in self.taps]
        if len(squeezed) == 1:
            return squeezed[0]
        return self.mtsa(torch.stack(squeezed[:-1], dim=2), squeezed[-1])

    def update(self, states: States) -> Tensor:
        """Early states -> y, like the stream."""
        return self.expand(self.merged(states))

    def stream(self, states: States) -> Tensor:
        """Early states -> the input of the late layers."""
        skip = self.skip()
        y = self.update(states)
        return y if isinstance(skip, float) and skip == 0 else y + skip * states[self.guide]


class SherlViT(_Sherl):
    """SHERL on a vision transformer."""

    def __init__(self, backbone: nn.Module, classes: int, options: SHERL) -> None:
        net: Any = backbone
        depth, d = len(net.blocks), int(net.embed_dim)
        if options.n_late > depth:
            raise MethodError(f"'sherl' cannot keep n_late={options.n_late} late blocks of {depth}")
        if d % options.reduction:
            raise MethodError(f"'sherl': reduction={options.reduction} does not divide the width {d}")
        if options.class_query and face_of(backbone).family != "vit":
            raise MethodError("'sherl': class_query=True is written for a plain ViT's attention; leave it out")
        if options.class_query and net.global_pool != "token":
            raise MethodError("'sherl': class_query=True needs a backbone that pools the class token")
        guide = depth - options.n_late
        taps = options.read(guide)
        super().__init__(backbone, taps, classes)
        self.guide = guide
        h = d // options.reduction
        glu = options.squeeze == "glu"
        self.squeeze = nn.ModuleDict(
            {str(i): GatedSqueeze(d, h) if glu else nn.Sequential(nn.Linear(d, h), nn.LayerNorm(h)) for i in taps})
        self.expand = nn.Sequential(nn.ReLU(), nn.Linear(h, d), *([] if glu else [nn.LayerNorm(d)]))
        if options.start == "identity":
            zero_affine(self.expand[-1])
        self._common(h, options)

    def tokens(self, states: States) -> Tensor:
        """Early states -> (B, K, D) behind the late blocks and the final norm."""
        return self._late(states, only_class=False)

    def pooled(self, states: States) -> Tensor:
        return self.face.features(self._late(states, self.options.class_query), self.context(states))

    def _late(self, states: States, only_class: bool) -> Tensor:
        """-> (B, K, D), or (B, 1, D) where the last block computes the class token alone."""
        face, context = self.face, self.context(states)
        chain = face.blocks()
        t = self.stream(states)
        for i in range(self.guide, len(chain)):
            last = i == len(chain) - 1
            t = class_query(chain[i], t) if only_class and last else face.through(chain[i], t, context)
        return face.final(t)


class SherlConv(ConvSide, _Sherl):
    """SHERL on a convolutional network: states are its stages, the last one without its late blocks."""

    def __init__(self, backbone: nn.Module, classes: int, options: SHERL) -> None:
        face = conv_face(backbone)
        if options.class_query or options.squeeze == "glu":
            raise MethodError(f"'sherl' has neither class_query nor squeeze='glu' on a {face.family}")
        *_, last = face.levels()
        most = sum(block in face.blocks() for block in last) - 1
        if options.n_late > most:
            raise MethodError(f"'sherl' on this {face.family} keeps at most n_late={most} late blocks")
        channels, guide = guide_channels(backbone, options.n_late), len(face.levels()) - 1
        taps = options.read(guide)
        if channels[-1] % options.reduction:
            raise MethodError(f"'sherl': reduction={options.reduction} does not divide the width {channels[-1]}")
        super().__init__(backbone, taps, classes)
        self.guide, self.n_late = guide, options.n_late
        h = channels[-1] // options.reduction
        self.squeeze = nn.ModuleDict({str(i): GridSqueeze(channels[i], h) for i in taps})
        rectified = face.family == "resnet" and options.start == "paper"  # other streams are not rectified
        self.expand = GridExpand(h, channels[-1], rectify=rectified)
        if options.start == "identity":
            zero_affine(self.expand.norm)
        self._common(h, options)

    def update(self, states: States) -> Tensor:
        """Early states -> y (B, C, H, W)."""
        grid = states[self.guide].shape[2:]
        return self.expand(self.merged({i: to_grid(states[i], grid) for i in self.taps}), grid)

    def tokens(self, states: States) -> Tensor:
        """Early states -> (B, C, H, W) behind the late blocks."""
        return self.behind(self.stream(states), self.n_late)


class GridSqueeze(nn.Module):
    """1x1 convolution, BatchNorm, of a state that was pooled to the last grid; grid cells become tokens."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(inputs, width, 1), nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, K, h)."""
        return self.norm(self.conv(x)).flatten(2).mT


class GridExpand(nn.Module):
    """1x1 convolution, BatchNorm, relu: tokens back to the stream's grid, non-negative as the stream is.

    Unlike the branches of transformers it has no relu in front, as in the authors' image branch.

    The identity start leaves the last relu out: at zero it has no slope, and nothing would ever learn.
    """

    def __init__(self, width: int, outputs: int, rectify: bool) -> None:
        super().__init__()
        self.rectify = rectify
        self.conv, self.norm = nn.Conv2d(width, outputs, 1), nn.BatchNorm2d(outputs)

    def forward(self, z: Tensor, grid: torch.Size) -> Tensor:
        """(B, K, h) -> (B, C, H, W)."""
        y = self.norm(self.conv(z.mT.reshape(len(z), -1, *grid)))
        return F.relu(y) if self.rectify else y


def zero_affine(module: nn.Module) -> None:
    """Scale and shift (or weight and bias) 0: the expansion adds nothing until it has learned."""
    for p in module.parameters():
        nn.init.zeros_(p)
