"""Text towers as vision transformers whose patch embedding is a word embedding: BERT, T5's encoder, CLIP's text tower.

Devlin et al., NAACL 2019, arXiv:1810.04805; Raffel et al., JMLR 2020, arXiv:1910.10683; Radford et al., ICML 2021,
arXiv:2103.00020. Blocks are timm's, or `PostNormBlock` (BERT), with the same names of layers, so whatever adapts a
plain ViT adapts these. Inputs are token numbers (B, L) int64, padded; what attention may read and how much of each
token is in the feature follow from them alone and travel as a `Context`. Dropout is left out.

A text tower is a VisionTransformer too: `TextFace` is asked before the others once this file is imported.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers.attention import Attention
from timm.layers.norm import RmsNorm
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

from . import families
from .face import Context
from .towers import Tower
from .vit import VitFace

BUCKETS, FAR = 32, 128  # of T5: kinds of distance, and where they all are one


class Words(nn.Module):
    """Token numbers -> sum of word, position and segment embeddings, normed in BERT; in the place of the patches."""

    def __init__(self, *, words: int, length: int, embed_dim: int, positions: bool, mark: int | None, pad: int,
                 normed: bool, **_: Any) -> None:
        """`mark`: the separator behind which the second segment begins; None: there are no segments."""
        super().__init__()
        self.num_patches, self.patch_size, self.mark, self.pad = length, 1, mark, pad
        self.word = nn.Embedding(words, embed_dim)
        self.position = nn.Embedding(length, embed_dim) if positions else None
        self.segment = nn.Embedding(2, embed_dim) if mark is not None else None
        self.norm = nn.LayerNorm(embed_dim, eps=1e-12) if normed else nn.Identity()

    def forward(self, ids: Tensor) -> Tensor:
        """(B, L) int64 -> (B, L, D). A number that is no word raises IndexError."""
        t = self.word(ids)
        if self.segment is not None:
            t = t + self.segment(self.segments(ids))
        if self.position is not None:
            t = t + self.position.weight[:ids.shape[1]]
        out: Tensor = self.norm(t)
        return out

    def segments(self, ids: Tensor) -> Tensor:
        """(B, L) -> 0, or 1 behind the first separator where it is no padding."""
        marked = ids.eq(self.mark or 0).long()
        return (marked.cumsum(1) > marked).long() * (ids != self.pad)


class TextAttention(Attention):
    """timm's attention with a scale that need not be 1 / sqrt(width of a head): T5's is 1."""

    def forward(self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
        """(B, L, D) -> (B, L, D); the mask is bool, True where a key may be read, or added to the scores."""
        batch, count, _ = x.shape
        q, k, v = self.qkv(x).reshape(batch, count, 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4).unbind(0)
        if self.fused_attn:
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=attn_mask, is_causal=is_causal, scale=self.scale)
        else:
            scores = (q * self.scale) @ k.mT
            if attn_mask is not None and attn_mask.dtype == torch.bool:
                scores = scores.masked_fill(~attn_mask, torch.finfo(scores.dtype).min)
            elif attn_mask is not None:
                scores = scores + attn_mask
            y = scores.softmax(-1) @ v
        out: Tensor = self.proj(y.transpose(1, 2).reshape(batch, count, self.attn_dim))
        return out


class UnscaledAttention(TextAttention):
    """T5's: its start makes up for the missing scale."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.scale = 1.0


class QuickGELU(nn.Module):
    """x times sigmoid(1.702 x): what CLIP was trained with."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


class PostNormBlock(Block):
    """BERT's block: the norms stand behind the sums."""

    def forward(self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
        """(B, L, D) -> (B, L, D)."""
        x = self.norm1(x + self.drop_path1(self.attn(x, attn_mask=attn_mask, is_causal=is_causal)))
        out: Tensor = self.norm2(x + self.drop_path2(self.mlp(x)))
        return out


class AdaptedPostNormBlock(PostNormBlock):
    """The same with adapters at named points, as `vit.AdaptedBlock`: what is added is added before the sum is normed.

    A branch's input is the stream itself, so par_mlp and par_norm2 read the same.
    """

    points: nn.ModuleDict

    def forward(self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
        """(B, L, D) -> (B, L, D)."""
        at = self.points
        a = self.attn(x, attn_mask=attn_mask, is_causal=is_causal)
        a = a + at["in_attn"](a) if "in_attn" in at else a
        a = self.drop_path1(a)
        a = a + at["post_attn"](a) if "post_attn" in at else a
        y = x + a
        y = self.norm1(y + at["par_attn"](x) if "par_attn" in at else y)
        m = self.mlp(y)
        m = m + at["in_mlp"](m) if "in_mlp" in at else m
        m = self.drop_path2(m)
        m = m + at["post_mlp"](m) if "post_mlp" in at else m
        z = y + m
        for point in ("par_mlp", "par_norm2"):
            z = z + at[point](y) if point in at else z
        out: Tensor = self.norm2(z)
        return out + at["post_block"](out) if "post_block" in at else out


class TextTransformer(VisionTransformer):
    """A text tower; `built` makes it."""

    tower: Tower
    distance: nn.Embedding | None  # of T5: what is added to every head's scores by kind of distance

    def embed(self, ids: Tensor) -> tuple[Tensor, Context]:
        """(B, L) int64 -> tokens in front of the first block, and what belongs to the batch."""
        real = self.real(ids)
        return self.patch_embed(ids), Context(mask=self.mask(real), share=self.share(ids, real), real=real)

    def real(self, ids: Tensor) -> Tensor:
        """(B, L) -> bool, False for padding: behind the end in CLIP, whose padding may be the end's own number."""
        if self.tower.pool == "end":
            return torch.arange(ids.shape[1], device=ids.device) <= self._end(ids)[:, None]
        return ids != self.tower.pad

    def mask(self, real: Tensor) -> Tensor:
        """(B, L) -> what attention is handed: bool (B, 1, 1, L) or (B, 1, L, L), or T5's numbers (B, H, L, L)."""
        batch, length = real.shape
        if self.tower.kind == "clip_text":
            return torch.ones(length, length, dtype=torch.bool, device=real.device).tril().expand(batch, 1, -1, -1)
        if self.distance is None:
            return real[:, None, None]
        at = torch.arange(length, device=real.device)
        bias = self.distance(buckets(at - at[:, None])).permute(2, 0, 1)  # key's place less the query's
        return bias[None].masked_fill(~real[:, None, None], torch.finfo(bias.dtype).min)

    def share(self, ids: Tensor, real: Tensor) -> Tensor:
        """(B, L) -> each token's share in the feature, rows sum to 1."""
        like = self.patch_embed.word.weight
        if self.tower.pool == "mean":
            kept = real.to(like.dtype)
            return kept / kept.sum(1, keepdim=True).clamp(min=1)
        chosen = self._end(ids) if self.tower.pool == "end" else torch.zeros_like(ids[:, 0])
        return (torch.arange(ids.shape[1], device=ids.device) == chosen[:, None]).to(like.dtype)

    def _end(self, ids: Tensor) -> Tensor:
        """(B, L) -> (B,) the place of the first end of text."""
        mark = self.tower.mark
        return (ids if mark < 0 else (ids == mark).int()).argmax(1)

    def forward_features(self, ids: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
        """(B, L) -> (B, L, D) behind the final norm, with their shares. The mask follows from the tokens alone."""
        t, context = self.embed(ids)
        for block in self.blocks:
            t = block(t, attn_mask=context.mask)
        return shared(self.norm(t), context)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """What `forward_features` gave -> (B, C), or what the head reads (B, D)."""
        x = TextFace(self).features(x, Context(share=x.share))  # type: ignore[attr-defined]
        out: Tensor = x if pre_logits else self.head(x)
        return out

    def example(self, count: int, length: int) -> Tensor:
        """(count, length) token numbers that stand for any text without padding; the end of CLIP's is in place."""
        pad, mark, words = self.tower.pad, self.tower.mark, self.tower.words
        ids = torch.arange(count * length, device=self.patch_embed.word.weight.device).view(count, length) * 7 % words
        other = next(n for n in range(words) if n not in (pad, mark))
        ids = ids.masked_fill((ids == pad) | (ids == mark), other)
        if self.tower.pool == "end":
            ids[:, -1] = mark if mark >= 0 else words - 1
        return ids


def buckets(distance: Tensor) -> Tensor:
    """Key's place less the query's -> the kind of distance, 0 to 31: half for each side, exact to 7, then by logarithm.

    Of one side all distances of FAR and more are one kind.
    """
    side = BUCKETS // 2
    exact = side // 2
    far = distance.abs()
    logs = torch.log(far.clamp(min=1).float() / exact) / math.log(FAR / exact) * (side - exact)
    kind = torch.where(far < exact, far, (exact + logs.long()).clamp(max=side - 1))
    return kind + side * (distance > 0).long()


def built(tower: Tower, drop_path: float = 0.0) -> TextTransformer:
    """The tower with fresh weights and no head. Draws from the global random stream."""
    bert, t5 = tower.kind == "bert", tower.kind == "t5"
    norm: Any = partial(RmsNorm, eps=1e-6) if t5 else partial(nn.LayerNorm, eps=1e-12 if bert else 1e-5)
    words = partial(Words, words=tower.words, length=tower.positions, positions=not t5,
                    mark=tower.mark if bert else None, pad=tower.pad, normed=bert)
    act: Any = {"gelu": nn.GELU, "relu": nn.ReLU, "quick_gelu": QuickGELU}[tower.act]
    made = TextTransformer(
        img_size=1, patch_size=1, num_classes=0, global_pool="avg", fc_norm=False, class_token=False, pos_embed="none",
        embed_dim=tower.width, depth=tower.depth, num_heads=tower.heads,
        mlp_ratio=(tower.hidden + 0.5) / tower.width,  # timm cuts the product down to a whole number
        qkv_bias=not t5, proj_bias=not t5, final_norm=not bert, drop_path_rate=drop_path, norm_layer=norm,
        act_layer=act, block_fn=PostNormBlock if bert else Block,
        attn_layer=UnscaledAttention if t5 else TextAttention, embed_layer=words, weight_init="skip")
    made.tower = tower
    made.distance = nn.Embedding(BUCKETS, tower.heads) if t5 else None
    for module in made.modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
    return made


class TextFace(VitFace):
    """A text tower: a plain ViT's layers and points, in blocks that may be post-norm; tokens have a context.

    To an adapter it is a ViT; which of them do not fit text, and why, stands in `on_text`.
    """

    @classmethod
    def knows(cls, model: nn.Module) -> bool:
        return isinstance(model, TextTransformer)

    def adapt(self, block: nn.Module) -> None:
        if isinstance(block, PostNormBlock):
            block.__class__ = AdaptedPostNormBlock
        else:
            super().adapt(block)

    def embed(self, x: Tensor) -> tuple[Tensor, Context]:
        found: tuple[Tensor, Context] = self.model.embed(x)
        return found

    def front(self) -> list[tuple[str, nn.Module]] | None:
        if self.model.grad_checkpointing:
            return None
        return [(n, m) for n in ("patch_embed", "distance") if (m := getattr(self.model, n)) is not None]

    def attention(self) -> tuple[int, int, int] | None:
        return None  # how many tokens there are is the data's to say

    def patches(self, features: Tensor) -> Tensor:
        return features


def shared(t: Tensor, context: Context) -> Tensor:
    """Final tokens that know their share in the feature, so that they can be pooled by whoever is handed them alone."""
    t.share = context.share  # type: ignore[attr-defined]
    return t


families.FACES = (TextFace, *families.FACES)
