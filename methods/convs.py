"""The faces of timm's convolutional networks, the only file that knows their insides.

Families: resnet (ResNet, ResNeXt, SE and D variants), convnext (V1 and V2), efficientnet (EfficientNet V1, V2 and lite,
MobileNet-V1/V2, MNASNet) and mobilenet (MobileNet-V3 and V4). All compute a stem, blocks, what lies behind the blocks,
pooling and head; all but ConvNeXt normalise by batch statistics. They have no tokens in a row and no points, but
convolutions by role and stages of one resolution.

Roles of a convolution: stem; ResNet's conv1, conv2, conv3 and downsample; EfficientNet's conv_pw (expansion), conv_dw
(depthwise), conv_pwl (projection), conv_exp and conv (of blocks without a depthwise one) and se; MobileNet-V4's pw_exp,
dw_* and pw_proj count as conv_pw, conv_dw and conv_pwl; ConvNeXt's conv_dw and downsample, and fc1 and fc2 where its
MLP is written with convolutions; conv_head behind the blocks. One that timm mixes of several kernels has no role.
"""

from __future__ import annotations

import re
from typing import ClassVar, NamedTuple

from timm.layers.conv2d_same import Conv2dSame
from timm.models.convnext import ConvNeXt
from timm.models.efficientnet import EfficientNet
from timm.models.mobilenetv3 import MobileNetV3
from timm.models.resnet import ResNet
from torch import Tensor, nn

from .face import Context, Face, Site

PLAIN = (nn.Conv2d, Conv2dSame)  # exactly these: a subclass computes something else with the same weights
_SPATIAL: dict[str, tuple[tuple[str, str], ...]] = {  # of timm's blocks: (convolution, what it ends behind)
    "Bottleneck": (("conv2", "act2"),), "BasicBlock": (("conv1", "conv1"),), "ConvNeXtBlock": (("conv_dw", "conv_dw"),),
    "InvertedResidual": (("conv_dw", "bn2"),), "DepthwiseSeparableConv": (("conv_dw", "bn1"),),
    "EdgeResidual": (("conv_exp", "bn1"),), "ConvBnAct": (("conv", "bn1"),),
    "UniversalInvertedResidual": (("dw_mid.conv", "dw_mid.bn"), ("dw_start.conv", "dw_start.bn"))}
_ROLES = (  # path inside a block -> role
    (r"(conv[123]|conv_pw|conv_dw|conv_pwl|conv_exp|conv)", r"\1"), (r"pw_exp\.conv", "conv_pw"),
    (r"pw_proj\.conv", "conv_pwl"), (r"dw_(start|mid|end)\.conv", "conv_dw"), (r"downsample\.\d+", "downsample"),
    (r"se\..+", "se"), (r"mlp\.(fc1|fc2)", r"\1"))


class ConvSite(NamedTuple):
    """A convolution of the backbone."""

    path: str  # from the model
    conv: nn.Conv2d
    depth: int  # of its block; a stage's downsampling counts with the block that follows, the stem with the first
    role: str


class Spatial(NamedTuple):
    """Where a block looks at neighbouring pixels, and behind which module that path has been normalised and bent."""

    site: ConvSite
    block: str  # path
    behind: str  # path: the activation, a norm that holds it, or the convolution itself


class ConvFace(Face):
    """What the four have in common; `kind` is timm's class."""

    stages = True
    kind: ClassVar[type[nn.Module]]
    ahead: ClassVar[str]  # the stem's convolutions
    last: ClassVar[tuple[str, ...]] = ()  # what has weights behind the blocks and is no classifier

    @classmethod
    def knows(cls, model: nn.Module) -> bool:
        return isinstance(model, cls.kind)

    def other_form(self) -> str:
        return ""

    def levels(self) -> list[list[nn.Module]]:
        """Modules between stem and `final`, in order of computation, one list per resolution."""
        raise TypeError(f"{type(self).__name__} has no levels")

    def channels(self) -> tuple[int, ...]:
        """Of each level's output."""
        stated = [int(f["num_chs"]) for f in self.model.feature_info]
        return tuple(stated[-len(self.levels()):])

    def stem(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> the first block's input."""
        raise TypeError(f"{type(self).__name__} has no stem")

    def blocks(self) -> list[nn.Module]:
        return [block for level in self.levels() for block in level]

    def linears(self) -> list[Site]:
        return []

    def norms(self) -> list[tuple[nn.Module, int]]:
        """Every norm in front of the final one, with its depth."""
        depth, late = self.depths(), {id(m) for final in self.final_norms() for m in final.modules()}
        return [(m, depth.get(id(m), 0)) for m in self.model.modules()
                if isinstance(m, nn.LayerNorm | nn.BatchNorm2d) and id(m) not in late]

    def final_norms(self) -> list[nn.Module]:
        """What has weights behind the blocks: norms, and the convolution that some have in front of them."""
        found = [module for path, module in self.model.named_modules() if path in self.last]
        return [m for m in found if any(True for _ in m.parameters())]

    def final(self, t: Tensor) -> Tensor:
        """The last block's output -> the map that is pooled, as `forward_features` gives it."""
        return t

    def features(self, t: Tensor, context: Context) -> Tensor:
        out: Tensor = self.model.forward_head(t, pre_logits=True)
        return out

    def depths(self) -> dict[int, int]:
        """id of every module -> the depth that it counts with; the stem's have none and count with the first block."""
        blocks = self.blocks()
        of = {id(m): len(blocks) - 1 for final in self.final_norms() for m in final.modules()}
        return of | {id(m): depth for depth, block in enumerate(blocks) for m in block.modules()}

    def convs(self) -> list[ConvSite]:
        """The plain convolutions that have a role, in order of depth."""
        paths = {path: module for path, module in self.model.named_modules() if type(module) in PLAIN}
        depth, inside = self.depths(), {id(b): p for p, b in self.model.named_modules()}
        home = {id(m): inside[id(b)] for b in self.blocks() for m in b.modules()}
        found = []
        for path, conv in paths.items():
            role = self.role(path, home.get(id(conv), ""))
            if role:
                found.append(ConvSite(path, conv, depth.get(id(conv), 0), role))
        return sorted(found, key=lambda site: site.depth)

    def spatial(self) -> list[Spatial]:
        """The convolution of each block that looks at neighbours; a block without one is left out."""
        site_of = {id(s.conv): s for s in self.convs() if max(s.conv.kernel_size) > 1}
        found = []
        for path, block in self.model.named_modules():
            inside = dict(block.named_modules()) if type(block).__name__ in _SPATIAL else {}
            for conv, behind in _SPATIAL.get(type(block).__name__, ()):
                if (site := site_of.get(id(inside.get(conv)))) is not None:
                    found.append(Spatial(site, path, f"{path}.{behind}"))
                    break
        return found

    def role(self, path: str, block: str) -> str:
        """The role of a convolution in a block, or in none; empty where it has none."""
        if block:
            inner = path.removeprefix(f"{block}.")
            return next((m.expand(role) for pattern, role in _ROLES if (m := re.fullmatch(pattern, inner))), "")
        return "conv_head" if path == "conv_head" else "stem" if f"{path}.".startswith(f"{self.ahead}.") else ""


class ResNetFace(ConvFace):
    """ResNet: four stages of bottlenecks or basic blocks."""

    family = "resnet"
    kind, ahead = ResNet, "conv1"

    def levels(self) -> list[list[nn.Module]]:
        net = self.model
        return [list(stage) for stage in (net.layer1, net.layer2, net.layer3, net.layer4)]

    def stem(self, x: Tensor) -> Tensor:
        net = self.model
        return net.maxpool(net.act1(net.bn1(net.conv1(x))))  # type: ignore[no-any-return]


class ConvNeXtFace(ConvFace):
    """ConvNeXt: layer norms, an MLP of linear layers in each block, a downsampling in front of each stage."""

    family = "convnext"
    kind, ahead, last = ConvNeXt, "stem", ("norm_pre", "head.norm")

    def levels(self) -> list[list[nn.Module]]:
        """A stage's downsampling leads its list and is no block."""
        return [[stage.downsample, *stage.blocks] for stage in self.model.stages]

    def blocks(self) -> list[nn.Module]:
        return [block for stage in self.model.stages for block in stage.blocks]

    def downsamplings(self) -> list[tuple[int, nn.Module]]:
        """(depth of the block that follows, downsampling)."""
        found, depth = [], 0
        for stage in self.model.stages:
            found.append((depth, stage.downsample))
            depth += len(stage.blocks)
        return found

    def between(self, first: int) -> list[nn.Module]:
        return [m for depth, m in self.downsamplings() if depth > first]

    def linears(self) -> list[Site]:
        depth = self.depths()
        return [Site(path, module, depth[id(module)], path.rpartition(".")[2])
                for path, module in self.model.named_modules()
                if isinstance(module, nn.Linear) and path.endswith((".mlp.fc1", ".mlp.fc2"))]

    def depths(self) -> dict[int, int]:
        return {id(m): depth for depth, d in self.downsamplings() for m in d.modules()} | super().depths()

    def role(self, path: str, block: str) -> str:
        return "downsample" if ".downsample." in path else super().role(path, block)

    def stem(self, x: Tensor) -> Tensor:
        return self.model.stem(x)  # type: ignore[no-any-return]

    def final(self, t: Tensor) -> Tensor:
        return self.model.norm_pre(t)  # type: ignore[no-any-return]


class MobileNetFace(ConvFace):
    """MobileNet-V3 and V4: the last convolution comes behind the pooling."""

    family = "mobilenet"
    kind: ClassVar[type[nn.Module]] = MobileNetV3
    ahead, last = "conv_stem", ("conv_head", "norm_head")

    def levels(self) -> list[list[nn.Module]]:
        stages = [list(stage) for stage in self.model.blocks]
        ends = sorted({end for end in self.model.stage_ends if end} | {len(stages)})
        return [[b for stage in stages[start:end] for b in stage]
                for start, end in zip([0, *ends[:-1]], ends, strict=True)]

    def stem(self, x: Tensor) -> Tensor:
        return self.model.bn1(self.model.conv_stem(x))  # type: ignore[no-any-return]


class EfficientNetFace(MobileNetFace):
    """EfficientNet: the last convolution and its norm come in front of the pooling."""

    family = "efficientnet"
    kind, last = EfficientNet, ("conv_head", "bn2")

    def final(self, t: Tensor) -> Tensor:
        return self.model.bn2(self.model.conv_head(t))  # type: ignore[no-any-return]


FACES: tuple[type[ConvFace], ...] = (ResNetFace, ConvNeXtFace, EfficientNetFace, MobileNetFace)


def conv_face(model: nn.Module) -> ConvFace:
    """The face of a convolutional network. Raises TypeError for any other model."""
    for face in FACES:
        if face.knows(model):
            return face(model)
    raise TypeError(f"a {type(model).__name__} is no convolutional network that is known")

