"""SHERL on a whole T5 (Diao et al., ECCV 2024, arXiv:2407.07523), the form of its GLUE table.

Each stack has a merge of its own. Of the encoder all states are merged and there is no late layer: what the decoder
attends to is the merged tokens plus tanh(g / T) times the last block's output, behind a new trained norm. Of the
decoder the states in front of its last block are merged, and that block, frozen, reads the merged token and attends to
the side's tokens in place of the encoder's; a new trained norm and the table of words follow. Written from the
formulas.
"""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from timm.layers.norm import RmsNorm
from torch import Tensor, nn

from ..base import Adapter, Feature
from ..compose import part
from ..grammar import MethodError
from ..on_t5 import DECODER, T5Side, kept, start, whole, width_of
from ..side import States
from ..t5 import T5, before
from .sherl import MTSA, TEMPERATURE, GatedSqueeze


@part("sherl_t5")
class SherlOnT5(Adapter):
    """SHERL on T5 with its decoder: a merge beside each stack, gradients through the last block of the decoder only."""

    title = "SHERL on T5"
    paper = "Diao et al., ECCV 2024, arXiv:2407.07523"
    ours = ("our reading: one step of the decoder (the end of the answer is not learned), an answer is always a label, "
            "the frozen part is in eval mode where the authors leave its dropout on; the start N(0, 0.01) is inferred")
    formula = "(E + D) (d h + 2 h^2 + 3 h) + 2 (h + 1) + 2 (h d + d) + 2 d + 2, h = d / reduction, E and D states read"
    offers: ClassVar[frozenset[Feature]] = frozenset()
    families: ClassVar[frozenset[str]] = frozenset({"t5"})
    at_start: ClassVar[Literal["exact", "near", "never"]] = "never"
    frozen_backbone = True
    search = {"lr": (3e-4, 3e-2, "log")}
    recipe = {"lr": 3e-3, "weight_decay": 0.0, "batch_size": 100, "epochs": 20, "warmup_epochs": 0,
              "warmup_steps": 500, "schedule": "linear", "drop_path": 0.0}
    recipe_from = ("SHERL's code for GLUE, which holds LST's; high: read there for the small sets, the large ones have "
                   "10 epochs")

    reduction: Annotated[int, ">= 1", "d / h: how much narrower the side modules are"] = 8
    drop_every: Annotated[int, ">= 0", "leave the first of every so many blocks out (T5-base 4, T5-large 2); 0: none"
                          ] = 4
    dropout: Annotated[float, ">= 0, < 1", "behind the two new norms, while training"] = 0.1

    def build(self, backbone: nn.Module, classes: int) -> nn.Module:
        net = whole("sherl_t5", backbone, self.drop_every)
        if len(net.blocks) < 2:
            raise MethodError("'sherl_t5' needs a T5 of two blocks at least")
        return SherlT5(net, classes, self)


class Merge(nn.Module):
    """Squeezes of a stack's states, their merge, the expansion, and the gate of the deepest one."""

    def __init__(self, width: int, narrow: int, states: tuple[int, ...]) -> None:
        super().__init__()
        self.states = states  # of the stack, the deepest last
        self.squeeze = nn.ModuleDict({str(i): GatedSqueeze(width, narrow) for i in states})
        self.mtsa = MTSA(narrow, "mtsa")
        self.expand = nn.Sequential(nn.ReLU(), nn.Linear(narrow, width))
        self.g = nn.Parameter(torch.zeros(()))

    def forward(self, states: States, offset: int = 0) -> Tensor:
        """-> (B, K, D): y + tanh(g / T) times the deepest state."""
        found = [self.squeeze[str(i)](states[offset + i]) for i in self.states]
        y: Tensor = self.expand(self.mtsa(torch.stack(found[:-1], dim=2), found[-1]))
        return y + torch.tanh(self.g / TEMPERATURE) * states[offset + self.states[-1]]


class SherlT5(T5Side):
    """Two merges, two norms, the frozen last block of the decoder."""

    def __init__(self, backbone: T5, classes: int, options: SherlOnT5) -> None:
        depth, d = len(backbone.blocks), int(backbone.embed_dim)
        h = width_of("sherl_t5", backbone, options.reduction)
        blocks = kept(depth, options.drop_every)
        super().__init__(backbone, (0, *blocks), (0, *(i for i in blocks if i < depth)), classes)
        norm: Any = partial(RmsNorm, eps=1e-6)
        self.encoder, self.decoder = Merge(d, h, self.encoder_taps), Merge(d, h, self.decoder_taps)
        self.encoder_norm, self.decoder_norm = norm(d), norm(d)
        self.dropout = options.dropout
        start(self.encoder)
        start(self.decoder)
        self.settle()

    def encoded(self, states: States) -> Tensor:
        return F.dropout(self.encoder_norm(self.encoder(states)), self.dropout, self.training)

    def decoded(self, states: States, memory: Tensor, mask: Tensor | None) -> Tensor:
        t = self.decoder(states, DECODER)
        t = self.net.decoder[-1](t, memory, mask, before(self.net.decoder_distance, 1))
        return F.dropout(self.decoder_norm(t), self.dropout, self.training)
