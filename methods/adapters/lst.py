"""LST (Sung et al., NeurIPS 2022, arXiv:2206.06522): a ladder of small blocks beside the frozen backbone.

Each side block reads a gated mix of the side stream and the squeezed output of its backbone layer. The side blocks may
start as a pruned copy of the backbone: rows of largest importance are kept, walking from the patch embedding through
every matrix, its columns and their importances cut to the rows kept before it. Importance is the empirical Fisher
information of the task on a throw-away copy (`prepare`), or the weights' size. The ViT form is ours: timm blocks,
q, k, v (fused or apart) pruned as three row groups with one index set, the two halves of a gated MLP as two with one,
no rotary position in the narrow blocks, whose heads are too narrow for it, the backbone's pooling behind the ladder.
On text the walk begins at the word table's columns, and a narrow block is post-norm, unscaled or without biases where
its model is; a norm is cut as the stream behind which it stands.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from copy import deepcopy
from typing import Annotated, Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from timm.layers.attention import AttentionRope
from timm.models.eva import EvaBlock
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from ..base import Adapter, Batch, Feature, Fit
from ..compose import part
from ..grammar import MethodError
from ..insertion import require
from ..side import SideNetwork, States
from ..text import PostNormBlock, TextAttention

TEMPERATURE = 0.1  # of the gates; fixed
Importance = dict[str, Tensor]  # backbone parameter name -> non-negative, like the parameter


@part("lst")
class LST(Adapter):
    """LST: a ladder of narrow blocks beside the frozen network; no gradient enters it."""

    title = "Ladder side-tuning"
    paper = "Sung et al., NeurIPS 2022, arXiv:2206.06522"
    ours = "our reading: the image-classifier form (timm blocks, the backbone's pooling behind the ladder)"
    formula = "(1 + S) (d h + h) + S (12 h^2 + 13 h) + 2 h + (h d + d) + S, h = d / reduction, S side blocks"
    offers: ClassVar[frozenset[Feature]] = frozenset({"tokens"})
    families: ClassVar[frozenset[str]] = frozenset({"vit", "eva"})
    at_start: ClassVar[Literal["exact", "near", "never"]] = "never"
    frozen_backbone = True
    search = {"lr": (1e-4, 3e-2, "log")}
    recipe_from = ("published for language (T5: 3e-3, batch 100) and text with images (AdamW 3e-3, batch 300), not "
                   "for image classification")

    reduction: Annotated[int, ">= 1", "d / h: how much narrower the ladder is"] = 8
    init: Annotated[Literal["fisher", "magnitude", "random"], "start: pruned from it, or new"] = "fisher"
    drop_every: Annotated[int, ">= 0", "leave out every so many-th layer (T5-base 4, T5-large 2); 0: none"] = 0
    merge_last: Annotated[bool, "one more gate mixes the backbone's own output in"] = False
    fisher_images: Annotated[int, ">= 1", "single-image gradients that the importance sums"] = 1024

    def build(self, backbone: nn.Module, classes: int) -> nn.Module:
        require(self, backbone)
        net: Any = backbone
        heads, d = int(net.blocks[0].attn.num_heads), int(net.embed_dim)
        if d % self.reduction or (d // self.reduction) % heads:
            fits = [r for r in range(1, d // heads + 1) if (d // heads) % r == 0]
            raise MethodError(f"'lst': reduction={self.reduction} does not fit width {d} with {heads} heads; "
                              f"these do: {', '.join(map(str, fits))}")
        if self.drop_every == 1:
            raise MethodError("'lst': drop_every=1 leaves no side block; 0 keeps all of them")
        kept = [i for i in range(1, len(net.blocks) + 1) if not self.drop_every or i % self.drop_every]
        ladder = Ladder(backbone, classes, kept, self.reduction, self.merge_last)
        if self.init == "magnitude":
            ladder.inherit({name: p.detach().abs() for name, p in backbone.named_parameters()})
        return ladder

    def prepare(self, fit: Fit, train: Iterable[Batch]) -> None:
        if self.init == "fisher":
            assert isinstance(fit.model, Ladder)
            fit.model.inherit(fisher(fit.model, train, self.fisher_images, fit.task.loss))

    def frozen_blocks(self, model: nn.Module) -> int:
        return int(model.depth) if isinstance(model, Ladder) else 0


class Ladder(SideNetwork):
    """Down-projections, gates, side blocks, norm, up-projection."""

    def __init__(self, backbone: nn.Module, classes: int, kept: list[int], reduction: int, merge_last: bool) -> None:
        net: Any = backbone
        depth, d = len(net.blocks), int(net.embed_dim)
        super().__init__(backbone, {0, *kept, *([depth] if merge_last else [])}, classes)
        self.depth, self.kept = depth, kept
        h = d // reduction
        self.first = nn.Linear(d, h)
        self.down = nn.ModuleList([nn.Linear(d, h) for _ in kept])
        self.rungs = nn.ModuleList([narrow(net.blocks[i - 1], h, reduction) for i in kept])
        self.gates = nn.Parameter(torch.zeros(len(kept)))
        self.norm = nn.LayerNorm(h)
        self.up = nn.Linear(h, d)
        if merge_last:
            self.last_gate = nn.Parameter(torch.zeros(()))
        self.settle()

    def tokens(self, states: States) -> Tensor:
        gates = torch.sigmoid(self.gates / TEMPERATURE)
        context = self.context(states)._replace(position=None)
        s = self.first(states[0])
        for i, layer in enumerate(self.kept):
            mixed = gates[i] * s + (1 - gates[i]) * self.down[i](states[layer])
            s = self.face.through(self.rungs[i], mixed, context)
        out: Tensor = self.up(self.norm(s))
        if not hasattr(self, "last_gate"):
            return out
        gate = torch.sigmoid(self.last_gate / TEMPERATURE)
        return gate * out + (1 - gate) * self.face.final(states[self.depth])

    @torch.no_grad()
    def inherit(self, importance: Importance) -> None:
        """Side blocks become the backbone's blocks, each matrix cut to its most important rows."""
        net: Any = self.backbone
        width = self.first.out_features
        words = importance.get("patch_embed.word.weight")  # (V, D)
        columns = top_rows(importance["patch_embed.proj.weight"].flatten(1) if words is None else words.mT, width)
        for i, block in enumerate(net.blocks):
            path = f"blocks.{i}."
            mine = {name.removeprefix(path): v for name, v in importance.items() if name.startswith(path)}
            side = self.rungs[self.kept.index(i + 1)] if i + 1 in self.kept else None
            columns = prune(block, side, mine, columns, width)


def narrow(block: nn.Module, width: int, reduction: int) -> nn.Module:
    """A fresh block like the backbone's, `reduction` times narrower: same number of heads, each narrower."""
    b: Any = block
    attn, mlp = b.attn, b.mlp
    hidden = mlp.fc2.in_features // reduction + 0.5  # timm cuts width * ratio down to a whole number
    if not isinstance(block, EvaBlock):
        scale = float(b.ls1.gamma.abs().mean()) if hasattr(b.ls1, "gamma") else None
        form: Any = PostNormBlock if isinstance(block, PostNormBlock) else Block
        text = {"attn_layer": type(attn), "proj_bias": attn.proj.bias is not None} if isinstance(
            attn, TextAttention) else {}
        made: nn.Module = form(width, attn.num_heads, mlp_ratio=hidden / width, qkv_bias=attn.qkv.bias is not None,
                               init_values=scale, act_layer=type(mlp.act), norm_layer=type(b.norm1), **text)
        return made
    gated = not hasattr(mlp, "fc1") or mlp.fc1.out_features == 2 * mlp.fc2.in_features
    query = attn.qkv if attn.qkv is not None else attn.q_proj
    biased = query.bias is not None or getattr(attn, "q_bias", None) is not None
    return EvaBlock(
        width, attn.num_heads, qkv_bias=biased, qkv_fused=attn.qkv is not None, mlp_ratio=hidden / width,
        swiglu_mlp=gated, scale_mlp=not isinstance(mlp.norm, nn.Identity),
        scale_attn_inner=not isinstance(attn.norm, nn.Identity), act_layer=type(mlp.act), norm_layer=type(b.norm1),
        attn_type="rope" if isinstance(attn, AttentionRope) else "eva",
        init_values=None if b.gamma_1 is None else float(b.gamma_1.abs().mean()))


def top_rows(importance: Tensor, count: int) -> Tensor:
    """(R, C) -> (count,) sorted positions of the rows with the largest sum."""
    return importance.flatten(1).sum(1).topk(count).indices.sort().values


def shared_rows(parts: Iterable[Tensor], columns: Tensor, count: int) -> Tensor:
    """Several (R, C) -> (count,) the rows kept of all, by the sum over columns of their entries' product.

    In double: squared gradients multiplied leave float32's range.
    """
    product: Any = 1
    for one in parts:
        product = product * one[:, columns].double()
    return top_rows(product, count)


@torch.no_grad()
def prune(block: nn.Module, side: nn.Module | None, importance: Importance, columns: Tensor, width: int) -> Tensor:
    """Walk one block: norm1, q k v (one index set), proj, norm2, fc1, fc2. Returns the rows kept of the last matrix.

    A row's importance counts in the columns alone that were kept before it.
    Without a side block (a left-out layer) only the index sets are walked on.
    """
    source = dict(block.named_parameters())
    target = dict(side.named_parameters()) if side is not None else {}

    def keep(name: str, rows: Tensor, cols: Tensor | None = None) -> None:
        for full in (name, *(f"{name}.{kind}" for kind in ("weight", "bias", "gamma"))):
            if full in target and full in source:
                cut = source[full][rows]
                target[full].copy_(cut[:, cols] if cols is not None and cut.ndim > 1 else cut)

    def group(names: tuple[str, ...], fused: str, count: int, cols: Tensor) -> Tensor:
        """Matrices that share their rows, in one layer or apart: cut alike; (count,) the rows."""
        apart = fused + ".weight" not in source
        parts = ([importance[f"{n}.weight"] for n in names] if apart
                 else list(importance[f"{fused}.weight"].chunk(len(names))))
        rows = shared_rows(parts, cols, count) if len(names) > 1 else top_rows(parts[0][:, cols], count)
        if apart:
            for name in names:
                keep(name, rows, cols)
        else:
            keep(fused, torch.cat([rows + i * len(parts[0]) for i in range(len(names))]), cols)
        return rows

    post = isinstance(block, PostNormBlock)
    if not post:
        keep("norm1", columns)
    shared = group(("attn.q_proj", "attn.k_proj", "attn.v_proj"), "attn.qkv", width, columns)
    for name in ("attn.q_bias", "attn.v_bias", "attn.norm"):  # of Eva
        keep(name, shared)
    proj = top_rows(importance["attn.proj.weight"][:, shared], width)
    keep("attn.proj", proj, shared)
    for name in ("ls1", "gamma_1", "norm1" if post else "norm2"):
        keep(name, proj)
    size, inner = len(source["attn.proj.weight"]), source["mlp.fc2.weight"].shape[1]
    gated = "mlp.fc1.weight" not in source or len(source["mlp.fc1.weight"]) == 2 * inner
    names = ("mlp.fc1_g", "mlp.fc1_x") if gated else ("mlp.fc1",)
    hidden = group(names, "mlp.fc1", width * inner // size, proj)
    keep("mlp.norm", hidden)
    out = top_rows(importance["mlp.fc2.weight"][:, hidden], width)
    keep("mlp.fc2", out, hidden)
    for name in ("ls2", "gamma_2", *(("norm2",) if post else ())):
        keep(name, out)
    return out


def fisher(model: Ladder, batches: Iterable[Batch], images: int,
           loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy) -> Importance:
    """Squared task gradients, summed over single images, on a copy of the backbone with the run's head."""
    net: Any = deepcopy(model.backbone).eval()
    head = deepcopy(model.head).requires_grad_(False)
    net.requires_grad_(True)
    total = {name: torch.zeros_like(p) for name, p in net.named_parameters()}
    seen = 0
    with torch.enable_grad():
        for x, y, _ in batches:
            for one, label in zip(torch.split(x, 1), torch.split(y, 1), strict=True):
                if seen == images:
                    return total
                seen += 1
                net.zero_grad(set_to_none=True)
                pooled = net.forward_head(net.forward_features(one), pre_logits=True)
                loss(head(pooled), label).backward()  # type: ignore[no-untyped-call]
                for name, p in net.named_parameters():
                    if p.grad is not None:
                        total[name] += p.grad.square()
    return total
