"""What side networks of a whole T5 share: the states that they read of both stacks, and the head that answers in words.

A stack's blocks are counted from 1, state 0 is its embedded tokens. The frozen decoder reads the frozen encoder's
output, so none of it depends on a trained weight and all of it can be stored: states of the decoder stand beside the
encoder's under `DECODER` plus their number.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .face import Context
from .grammar import MethodError
from .side import BESIDE, SideNetwork, States
from .t5 import T5, before, readable

DECODER = 1000  # is added to the numbers of the decoder's states


def kept(depth: int, drop_every: int) -> tuple[int, ...]:
    """The blocks that are read: the first of every so many is left out, the last two never."""
    return tuple(i for i in range(1, depth + 1) if not drop_every or (i - 1) % drop_every or i > depth - 2)


def whole(name: str, backbone: nn.Module, drop_every: int) -> T5:
    """The backbone. Raises MethodError where it has no decoder, or where too few blocks of it would be read."""
    if not isinstance(backbone, T5):
        raise MethodError(f"{name!r} reads T5's encoder and decoder: --backbones t5.decoder with --weights FOLDER; on "
                          f"other backbones it is {name.removesuffix('_t5')!r}")
    if drop_every == 1:
        raise MethodError(f"{name!r}: drop_every=1 leaves all blocks but two out; 0 keeps all of them")
    return backbone


def width_of(name: str, net: T5, reduction: int) -> int:
    """h of the side modules. Raises MethodError."""
    d = int(net.embed_dim)
    if d % reduction:
        raise MethodError(f"{name!r}: reduction={reduction} does not divide the width {d}")
    return d // reduction


@torch.no_grad()
def start(modules: nn.Module) -> None:
    """New linear layers as the released code's model class starts what a checkpoint lacks: N(0, 0.01), biases 0."""
    for module in modules.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.01)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


class T5Side(SideNetwork):
    """Base: `encoder_taps` and `decoder_taps` are read, and `decoded` says what the decoder's token becomes."""

    def __init__(self, backbone: T5, encoder_taps: tuple[int, ...], decoder_taps: tuple[int, ...],
                 classes: int) -> None:
        super().__init__(backbone, (*encoder_taps, *(DECODER + i for i in decoder_taps)), classes)
        self.encoder_taps, self.decoder_taps = encoder_taps, decoder_taps
        self.head: nn.Module = backbone.answering(classes)  # type: ignore[assignment]

    @property
    def net(self) -> Any:
        """The backbone."""
        return self.backbone

    def read(self, x: Tensor) -> States:
        """(B, L) -> the tapped states of both stacks; runs no block of the decoder behind its last tap."""
        net = self.net
        t, context = net.embed(x)
        states = {key: held for name, key in BESIDE.items() if (held := getattr(context, name)) is not None}
        for i in range(len(net.blocks) + 1):
            t = net.blocks[i - 1](t, attn_mask=context.mask) if i else t
            states |= {i: t} if i in self.encoder_taps else {}
        memory, mask = net.norm(t), readable(context.real)
        said = net.begin(len(x))
        t, bias = net.patch_embed.word(said), before(net.decoder_distance, 1)
        for i in range(max(self.decoder_taps) + 1):
            t = net.decoder[i - 1](t, memory, mask, bias) if i else t
            states |= {DECODER + i: t} if i in self.decoder_taps else {}
        return states

    def encoded(self, states: States) -> Tensor:
        """Tapped states -> what the decoder attends to, (B, L, D) or narrower."""
        raise NotImplementedError

    def decoded(self, states: States, memory: Tensor, mask: Tensor | None) -> Tensor:
        """Tapped states, what `encoded` gave, which of it may be read -> (B, 1, D), what the head reads."""
        raise NotImplementedError

    def tokens(self, states: States) -> Tensor:
        return self.decoded(states, self.encoded(states), readable(self.context(states).real))

    def pooled(self, states: States) -> Tensor:
        return self.tokens(states)[:, 0]

    def context(self, states: States) -> Context:
        """Of the encoder's tokens."""
        return Context(**{name: states[key] for name, key in BESIDE.items() if key in states})
