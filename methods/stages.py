"""Side networks on a convolutional network: what they read of its stages, and what they send back through the last."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Size, Tensor, nn

from .convs import ConvFace, conv_face
from .side import IMAGE, SideNetwork, States


class ConvSide(SideNetwork):
    """State i is the output of stage i + 1, where a stage is all that has one resolution.

    With `n_late` > 0 the last state lies in front of that many late blocks of the last stage.
    """

    n_late: int = 0

    @property
    def conv_face(self) -> ConvFace:
        """Of the backbone."""
        return conv_face(self.backbone)

    def read(self, x: Tensor) -> States:
        """(B, 3, H, W) -> {state: (B, C, H, W)} for the tapped states; runs no stage behind the last tap."""
        face = self.conv_face
        *early, last = face.levels()
        states: States = {IMAGE: x} if IMAGE in self.taps else {}
        t = face.stem(x)
        for i, stage in enumerate([*early, last[:len(last) - self.n_late]][:self.taps[-1] + 1]):
            for module in stage:
                t = module(t)
            if i in self.taps:
                states[i] = t
        return states

    def behind(self, t: Tensor, n_late: int) -> Tensor:
        """Send the stream through the last n_late blocks and to the map that is pooled; their weights stay frozen."""
        face = self.conv_face
        last = face.levels()[-1]
        for block in last[len(last) - n_late:]:
            t = block(t)
        return face.final(t)

    def pooled(self, states: States) -> Tensor:
        return self.conv_face.features(self.tokens(states), self.conv_face.context())


def guide_channels(backbone: nn.Module, n_late: int) -> tuple[int, ...]:
    """Channels of each state, the last one in front of `n_late` late blocks."""
    face = conv_face(backbone)
    if not n_late:
        return face.channels()
    first = next(m for m in face.levels()[-1][-n_late].modules() if isinstance(m, nn.Conv2d))
    return (*face.channels()[:-1], first.in_channels)


def to_grid(x: Tensor, grid: Size) -> Tensor:
    """(B, C, H, W) -> (B, C, *grid): maximum plus mean of the pixels that each cell of a coarser grid covers."""
    step = x.shape[2] // grid[0], x.shape[3] // grid[1]
    if (x.shape[2], x.shape[3]) == (step[0] * grid[0], step[1] * grid[1]):
        return F.max_pool2d(x, step) + F.avg_pool2d(x, step)
    return F.adaptive_max_pool2d(x, [*grid]) + F.adaptive_avg_pool2d(x, [*grid])  # type: ignore[arg-type]
