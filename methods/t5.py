"""T5 whole (Raffel et al., JMLR 2020, arXiv:1910.10683): the encoder of `text` and a decoder that answers in a word.

A class is asked as T5 is asked: the text goes in, the decoder takes one step, and the logits of the labels' words say
the class. The table of words is the head (times d^-1/2, as T5 ties them), so there is no new one and nothing of it
trains but in full fine-tuning. While training, one column more holds all other words together, so cross-entropy over
the columns is that over the whole vocabulary; an answer is one of the labels' words. Dropout is left out.

`renamed` reads a checkpoint's tensors as `hf` does; whoever built the model says its label words by `speak`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers.norm import RmsNorm
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from . import families, hf, text
from .face import Context, Site, sites
from .grammar import MethodError
from .text import BUCKETS, FAR, TextFace, TextTransformer, UnscaledAttention, shared
from .towers import Tower, TowerError

START = 0.02  # standard deviation of fresh weights, as in `text`


class Cross(nn.Module):
    """Attention of the decoder's tokens over the encoder's; unscaled, without positions or biases."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.num_heads, self.head_dim, self.fused_attn = heads, width // heads, True
        self.q, self.k, self.v, self.proj = (nn.Linear(width, width, bias=False) for _ in range(4))

    def forward(self, x: Tensor, memory: Tensor, mask: Tensor | None) -> Tensor:
        """(B, n, D), (B, L, D), bool (B, 1, 1, L) that is True where a token may be read -> (B, n, D)."""
        q, k, v = (t.unflatten(-1, (self.num_heads, self.head_dim)).transpose(1, 2)
                   for t in (self.q(x), self.k(memory), self.v(memory)))
        if self.fused_attn:
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=1.0)
        else:
            scores = q @ k.mT
            scores = scores if mask is None else scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
            y = scores.softmax(-1) @ v
        out: Tensor = self.proj(y.transpose(1, 2).flatten(2))
        return out


class DecoderBlock(Block):
    """T5's: attention among the decoder's tokens, then over the encoder's, then the MLP."""

    def __init__(self, width: int, heads: int, hidden: int, drop_path: float = 0.0) -> None:
        norm: Any = partial(RmsNorm, eps=1e-6)
        super().__init__(width, heads, mlp_ratio=(hidden + 0.5) / width, qkv_bias=False, proj_bias=False,
                         drop_path=drop_path, act_layer=nn.ReLU, norm_layer=norm, attn_layer=UnscaledAttention)
        self.norm_cross, self.cross = norm(width), Cross(width, heads)

    def forward(self, x: Tensor, memory: Tensor, mask: Tensor | None = None,  # type: ignore[override]
                bias: Tensor | None = None) -> Tensor:
        """(B, n, D), (B, L, D), which of L may be read, what is added to the n x n scores -> (B, n, D)."""
        x = x + self.drop_path1(self.attn(self.norm1(x), attn_mask=bias))
        x = x + self.drop_path1(self.cross(self.norm_cross(x), memory, mask))
        out: Tensor = x + self.drop_path2(self.mlp(self.norm2(x)))
        return out


class Answers(nn.Module):
    """The decoder's state -> logits of the labels' words, by the table of words; it has no weights of its own."""

    fixed = True  # nothing of it trains as a head, so it is none of a run's weights
    words: Tensor
    _table: tuple[nn.Embedding]

    def __init__(self, table: nn.Embedding, words: tuple[int, ...]) -> None:
        super().__init__()
        self.__dict__["_table"] = (table,)  # in a tuple: it belongs to the backbone, not to the head
        self.in_features, self.out_features = table.embedding_dim, len(words)
        self.register_buffer("words", torch.tensor(words, dtype=torch.int64, device=table.weight.device), False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, D) -> (B, C); while training (B, C + 1), of which the last is the logarithm of the sum over all others.

        Logits are those of the whole vocabulary up to one constant for a text.
        """
        weight, x = self._table[0].weight, x * self.in_features ** -0.5
        if not self.training:
            return F.linear(x, weight[self.words])
        every = F.linear(x, weight)
        others = every.index_fill(1, self.words, -math.inf).logsumexp(1, keepdim=True)
        return torch.cat([every.index_select(1, self.words), others], dim=1)


class T5(TextTransformer):
    """Encoder and decoder; `built` makes it. Its tokens are the decoder's, of which there is one."""

    decoder: nn.ModuleList
    decoder_distance: nn.Embedding  # what is added to every head's scores by kind of distance to what came before
    decoder_norm: nn.Module
    answers: Answers
    spoken: tuple[int, ...]  # the first token of every class's label, as many as the tokenizer was asked for

    def speak(self, words: tuple[int, ...]) -> None:
        """Which token answers for class 0, 1, ... from now on."""
        self.spoken = words

    def get_classifier(self) -> nn.Module:
        return self.answers

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Answer for so many classes. Raises MethodError where their words do not tell them apart."""
        self.answers = self.answering(num_classes).train(self.training)
        self.num_classes = num_classes

    def answering(self, classes: int) -> Answers:
        """A head for so many classes. Raises MethodError."""
        words = self.spoken[:classes]
        if len({*words}) < classes:
            raise MethodError(f"T5's decoder answers in one token, and the labels 0 to {classes - 1} begin with "
                              f"{len({*words})} different ones; take a data set of fewer classes, or t5, its encoder "
                              "with a head")
        return Answers(self.patch_embed.word, words)

    def set_submodule(self, target: str, module: nn.Module, strict: bool = False) -> None:
        """As torch's; a new head is not taken, for the table of words is the head."""
        if target != "answers":
            super().set_submodule(target, module, strict)

    def encode(self, ids: Tensor) -> tuple[Tensor, Context]:
        """(B, L) int64 -> the encoder's output behind its norm (B, L, D), and its context."""
        t, context = self.embed(ids)
        for block in self.blocks:
            t = block(t, attn_mask=context.mask)
        out: Tensor = self.norm(t)
        return out, context

    def begin(self, count: int) -> Tensor:
        """-> (count, 1) the token by which every answer begins: the padding's number."""
        return torch.full((count, 1), self.tower.pad, device=self.patch_embed.word.weight.device)

    def decode(self, spoken: Tensor, memory: Tensor, real: Tensor | None) -> Tensor:
        """(B, n) int64 said so far, (B, L, D), bool (B, L) -> (B, n, D) behind the decoder's norm."""
        t, mask, bias = self.patch_embed.word(spoken), readable(real), before(self.decoder_distance, spoken.shape[1])
        for block in self.decoder:
            t = block(t, memory, mask, bias)
        out: Tensor = self.decoder_norm(t)
        return out

    def forward_features(self, ids: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
        """(B, L) -> (B, 1, D): the decoder's first token, with its share."""
        memory, context = self.encode(ids)
        t = self.decode(self.begin(len(ids)), memory, context.real)
        return shared(t, Context(share=t.new_ones(len(ids), 1)))

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """(B, 1, D) -> logits as `Answers` gives them, or what it reads (B, D)."""
        out: Tensor = x[:, 0] if pre_logits else self.answers(x[:, 0])
        return out


def readable(real: Tensor | None) -> Tensor | None:
    """(B, L) bool, False for padding -> the mask of `Cross`."""
    return None if real is None else real[:, None, None]


def before(distance: nn.Embedding, count: int) -> Tensor:
    """-> (1, H, n, n): what is added to the decoder's scores; nothing of what is yet to come is read."""
    at = torch.arange(count, device=distance.weight.device)
    back = at[:, None] - at  # query's place less the key's
    bias = distance(buckets(back)).permute(2, 0, 1)
    return bias[None].masked_fill(back < 0, torch.finfo(bias.dtype).min)


def buckets(back: Tensor) -> Tensor:
    """How far back -> the kind of distance, 0 to 31: exact to 15, then by logarithm; what lies ahead counts as 0."""
    exact, back = BUCKETS // 2, back.clamp(min=0)
    logs = torch.log(back.clamp(min=1).float() / exact) / math.log(FAR / exact) * (BUCKETS - exact)
    return torch.where(back < exact, back, (exact + logs.long()).clamp(max=BUCKETS - 1))


def built(tower: Tower, drop_path: float = 0.0) -> T5:
    """Encoder and decoder with fresh weights; until `speak` the first words of the table stand for the labels.

    Draws from the global random stream. Raises TowerError for a tower that has no decoder.
    """
    if tower.kind != "t5":
        raise TowerError(f"only t5 has a decoder, not {tower.kind}; leave .decoder out")
    made: Any = text.built(tower, drop_path)
    made.__class__ = T5
    made.decoder = nn.ModuleList([
        DecoderBlock(tower.width, tower.heads, tower.hidden, drop_path * i / max(1, tower.depth - 1))
        for i in range(tower.depth)])
    made.decoder_distance = nn.Embedding(BUCKETS, tower.heads)
    made.decoder_norm = RmsNorm(tower.width, eps=1e-6)
    for module in (*made.decoder.modules(), made.decoder_distance):
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=START)
    del made.head
    made.spoken = tuple(range(tower.words))
    made.answers = made.answering(0)
    return made  # type: ignore[no-any-return]


class T5Face(TextFace):
    """T5 whole. Its blocks are the encoder's, through which tokens pass; its layers are those of both."""

    layers = TextFace.layers | {"cross.q": "q", "cross.k": "k", "cross.v": "v", "cross.proj": "proj"}

    @classmethod
    def knows(cls, model: nn.Module) -> bool:
        return isinstance(model, T5)

    def other_form(self) -> str:
        return ""

    def linears(self) -> list[Site]:
        return sites(self.model, [*self.model.blocks, *self.model.decoder], self.layers)

    def front(self) -> list[tuple[str, nn.Module]] | None:
        return None  # the decoder reads what comes last of the encoder


DECODER: hf.Names = {
    "decoder_norm": "decoder.final_layer_norm",
    "decoder_distance": "decoder.block.0.layer.0.SelfAttention.relative_attention_bias",
    "decoder.{i}.attn.qkv": tuple(f"decoder.block.{{i}}.layer.0.SelfAttention.{n}" for n in "qkv"),
    "decoder.{i}.attn.proj": "decoder.block.{i}.layer.0.SelfAttention.o",
    "decoder.{i}.norm1": "decoder.block.{i}.layer.0.layer_norm",
    **{f"decoder.{{i}}.cross.{ours}": f"decoder.block.{{i}}.layer.1.EncDecAttention.{theirs}"
       for ours, theirs in zip(("q", "k", "v", "proj"), "qkvo", strict=True)},
    "decoder.{i}.norm_cross": "decoder.block.{i}.layer.1.layer_norm",
    "decoder.{i}.mlp.fc1": "decoder.block.{i}.layer.2.DenseReluDense.wi",
    "decoder.{i}.mlp.fc2": "decoder.block.{i}.layer.2.DenseReluDense.wo",
    "decoder.{i}.norm2": "decoder.block.{i}.layer.2.layer_norm"}
# The table of words once more, and a table of distances over the encoder's tokens that old files hold and T5 ignores.
AGAIN = r"decoder\.embed_tokens\.weight|decoder\.block\.0\.layer\.1\.EncDecAttention\.relative_attention_bias\.weight"


def renamed(given: Mapping[str, Tensor], tower: Tower) -> dict[str, Tensor]:
    """A checkpoint's tensors -> the state dict of encoder and decoder. Raises TowerError naming what is odd."""
    made = hf.renamed(given, tower)
    left = {name.removeprefix("transformer."): value for name, value in given.items()}
    head = left.get("lm_head.weight")
    if head is not None and not torch.equal(head.float(), made["patch_embed.word.weight"]):
        raise TowerError("the checkpoint has a head of its own beside its table of words (T5 v1.1), which is not built "
                         "here")
    left = {n: v for n, v in left.items() if n.startswith("decoder.") and not re.fullmatch(AGAIN, n)}
    for ours, theirs in DECODER.items():
        for i in range(tower.depth if "{i}" in ours else 1):
            names = [f"{t.format(i=i)}.weight" for t in ((theirs,) if isinstance(theirs, str) else theirs)]
            if missing := [name for name in names if name not in left]:
                raise TowerError(f"the checkpoint lacks {missing[0]!r}, which a decoder of {tower.depth} blocks needs")
            made[f"{ours.format(i=i)}.weight"] = torch.cat([left.pop(name).float() for name in names])
    if left:
        raise TowerError(f"the checkpoint holds {min(left)!r}, which is no part of a decoder of {tower.depth} blocks")
    return made


families.FACES = (T5Face, *families.FACES)
