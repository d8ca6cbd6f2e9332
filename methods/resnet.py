"""The only file that knows timm's ResNet insides: what a side network reads of it and what it sends back through it."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from .side import SideNetwork, States


class ResNetSide(SideNetwork):
    """Side networks on a ResNet: state i < 3 is stage i + 1's output, state 3 lies in front of the late bottlenecks."""

    n_late: int

    @staticmethod
    def channels_of(backbone: nn.Module) -> tuple[int, ...]:
        """Channels of the four stages."""
        net: Any = backbone
        return tuple(stage[-1].bn3.num_features if hasattr(stage[-1], "bn3") else stage[-1].bn2.num_features
                     for stage in (net.layer1, net.layer2, net.layer3, net.layer4))

    def read(self, x: Tensor) -> States:
        """(B, 3, H, W) -> {state: (B, C, H, W)} for the tapped states."""
        net: Any = self.backbone
        states: States = {}
        t = net.maxpool(net.act1(net.bn1(net.conv1(x))))
        early = [net.layer1, net.layer2, net.layer3, net.layer4[:len(net.layer4) - self.n_late]]
        for i, stage in enumerate(early[:self.taps[-1] + 1]):
            t = stage(t)
            if i in self.taps:
                states[i] = t
        return states

    def behind(self, t: Tensor, n_late: int) -> Tensor:
        """Send the stream through the last n_late bottlenecks of stage four; their weights stay frozen."""
        net: Any = self.backbone
        for block in net.layer4[len(net.layer4) - n_late:]:
            t = block(t)
        return t

    def pooled(self, states: States) -> Tensor:
        net: Any = self.backbone
        return net.global_pool(self.tokens(states))
