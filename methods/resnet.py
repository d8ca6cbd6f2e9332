"""The face of timm's ResNet, the only file that knows its insides: the stem, four stages, and a map as its tokens."""

from __future__ import annotations

from timm.models.resnet import ResNet
from torch import Tensor, nn

from .face import Face


class ResNetFace(Face):
    """ResNet: no points and no tokens in a row, but stages that a side network reads."""

    family = "resnet"
    stages = True

    @classmethod
    def knows(cls, model: nn.Module) -> bool:
        return isinstance(model, ResNet)

    def other_form(self) -> str:
        return ""

    def parts(self) -> list[nn.Module]:
        """The four stages, each a sequence of bottlenecks."""
        net = self.model
        return [net.layer1, net.layer2, net.layer3, net.layer4]

    def channels(self) -> tuple[int, ...]:
        """Of the four stages' outputs."""
        last = [stage[-1] for stage in self.parts()]  # type: ignore[index]
        return tuple(int((b.bn3 if hasattr(b, "bn3") else b.bn2).num_features) for b in last)

    def stem(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, C, H / 4, W / 4): what the first stage reads."""
        net = self.model
        out: Tensor = net.maxpool(net.act1(net.bn1(net.conv1(x))))
        return out
