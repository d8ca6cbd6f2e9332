"""Side networks on a ResNet: what they read of its stages and what they send back through its last bottlenecks."""

from __future__ import annotations

from torch import Tensor, nn

from .resnet import ResNetFace
from .side import SideNetwork, States


class ResNetSide(SideNetwork):
    """State i < 3 is stage i + 1's output, state 3 lies in front of the late bottlenecks."""

    n_late: int

    @staticmethod
    def channels_of(backbone: nn.Module) -> tuple[int, ...]:
        """Channels of the four stages."""
        return ResNetFace(backbone).channels()

    def read(self, x: Tensor) -> States:
        """(B, 3, H, W) -> {state: (B, C, H, W)} for the tapped states."""
        face = ResNetFace(self.backbone)
        *early, last = face.parts()
        states: States = {}
        t = face.stem(x)
        for i, stage in enumerate([*early, last[:len(last) - self.n_late]][:self.taps[-1] + 1]):  # type: ignore
            t = stage(t)
            if i in self.taps:
                states[i] = t
        return states

    def behind(self, t: Tensor, n_late: int) -> Tensor:
        """Send the stream through the last n_late bottlenecks of stage four; their weights stay frozen."""
        last = ResNetFace(self.backbone).parts()[-1]
        for block in last[len(last) - n_late:]:  # type: ignore
            t = block(t)
        return t

    def pooled(self, states: States) -> Tensor:
        out: Tensor = self.backbone.global_pool(self.tokens(states))  # type: ignore[operator]
        return out
