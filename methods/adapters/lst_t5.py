"""LST on a whole T5 (Sung et al., NeurIPS 2022, arXiv:2206.06522), the form of its GLUE table.

A ladder of narrow blocks beside each stack: narrow T5 blocks with the same number of heads and relative distances of
their own. The narrow decoder attends to what the narrow encoder gives; one projection widens its token again, and the
table of words answers. Written from the formulas.
"""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, ClassVar, Literal

import torch
from timm.layers.norm import RmsNorm
from torch import Tensor, nn

from .. import text
from ..base import Adapter, Feature
from ..compose import part
from ..grammar import MethodError
from ..on_t5 import DECODER, T5Side, kept, start, whole, width_of
from ..side import States
from ..t5 import T5, DecoderBlock, before
from .lst import TEMPERATURE, narrow


@part("lst_t5")
class LadderOnT5(Adapter):
    """LST on T5 with its decoder: a ladder beside each stack; no gradient enters either."""

    title = "Ladder side-tuning on T5"
    paper = "Sung et al., NeurIPS 2022, arXiv:2206.06522"
    ours = ("our reading: one step of the decoder, an answer is always a label, the frozen part is in eval mode, and "
            "the ladders begin at random, N(0, 0.01), where the paper prunes them from the network")
    formula = ("(2 + 2 S) (d h + h) + S (12 h^2 + 2 h) + S (16 h^2 + 3 h) + 64 heads + 2 h + (h d + d) + 2 S, "
               "h = d / reduction, S side blocks of each stack")
    offers: ClassVar[frozenset[Feature]] = frozenset()
    families: ClassVar[frozenset[str]] = frozenset({"t5"})
    at_start: ClassVar[Literal["exact", "near", "never"]] = "never"
    frozen_backbone = True
    search = {"lr": (3e-4, 3e-2, "log")}
    recipe = {"lr": 3e-3, "weight_decay": 0.0, "batch_size": 100, "epochs": 20, "warmup_epochs": 0,
              "warmup_steps": 500, "schedule": "linear", "drop_path": 0.0}
    recipe_from = ("SHERL's code for GLUE, which holds LST's; high: read there for the small sets, the large ones have "
                   "10 epochs")

    reduction: Annotated[int, ">= 1", "d / h: how much narrower the ladders are"] = 8
    drop_every: Annotated[int, ">= 0", "leave the first of every so many blocks out (T5-base 4, T5-large 2); 0: none"
                          ] = 4

    def build(self, backbone: nn.Module, classes: int) -> nn.Module:
        net = whole("lst_t5", backbone, self.drop_every)
        if width_of("lst_t5", net, self.reduction) % net.tower.heads:
            raise MethodError(f"'lst_t5': reduction={self.reduction} does not fit width {net.embed_dim} with "
                              f"{net.tower.heads} heads")
        return LadderT5(net, classes, self)


class Rungs(nn.Module):
    """One ladder: a first projection, a projection and a gate for every block that is read, narrow blocks, a norm."""

    def __init__(self, width: int, states: tuple[int, ...], blocks: list[nn.Module], heads: int, side: int) -> None:
        super().__init__()
        norm: Any = partial(RmsNorm, eps=1e-6)
        self.states = states
        self.first = nn.Linear(width, side)
        self.down = nn.ModuleList([nn.Linear(width, side) for _ in states])
        self.blocks = nn.ModuleList(blocks)
        self.gates = nn.Parameter(torch.zeros(len(states)))
        self.distance = nn.Embedding(text.BUCKETS, heads)
        self.norm = norm(side)
        start(self)
        nn.init.normal_(self.distance.weight, std=0.01)

    def forward(self, states: States, offset: int = 0, **inputs: Any) -> Tensor:
        """-> (B, K, h) behind the norm; `inputs` are what every narrow block is handed beside its tokens."""
        gates = torch.sigmoid(self.gates / TEMPERATURE)
        s = self.first(states[offset])
        for i, (block, number) in enumerate(zip(self.blocks, self.states, strict=True)):
            s = block(gates[i] * s + (1 - gates[i]) * self.down[i](states[offset + number]), **inputs)
        out: Tensor = self.norm(s)
        return out


class LadderT5(T5Side):
    """Two ladders and one projection back."""

    def __init__(self, backbone: T5, classes: int, options: LadderOnT5) -> None:
        depth, d, heads = len(backbone.blocks), int(backbone.embed_dim), backbone.tower.heads
        blocks, h = kept(depth, options.drop_every), width_of("lst_t5", backbone, options.reduction)
        super().__init__(backbone, (0, *blocks), (0, *blocks), classes)
        hidden = backbone.tower.hidden // options.reduction
        self.encoder = Rungs(d, blocks, [narrow(backbone.blocks[i - 1], h, options.reduction) for i in blocks],
                             heads, h)
        self.decoder = Rungs(d, blocks, [DecoderBlock(h, heads, hidden) for _ in blocks], heads, h)
        self.up = nn.Linear(h, d)
        start(self.up)
        self.settle()

    def encoded(self, states: States) -> Tensor:
        """-> (B, L, h)."""
        real = self.context(states).real
        assert real is not None
        at = torch.arange(real.shape[1], device=real.device)
        bias = self.encoder.distance(text.buckets(at - at[:, None])).permute(2, 0, 1)[None]
        mask = bias.masked_fill(~real[:, None, None], torch.finfo(bias.dtype).min)
        return self.encoder(states, attn_mask=mask)  # type: ignore[no-any-return]

    def decoded(self, states: States, memory: Tensor, mask: Tensor | None) -> Tensor:
        bias = before(self.decoder.distance, 1)
        out: Tensor = self.up(self.decoder(states, DECODER, memory=memory, mask=mask, bias=bias))
        return out
