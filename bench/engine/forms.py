"""Other forms of the same model: the last block for the class token alone, the merged model, frozen weights in bf16.

The first two are fields of the spec (`class_query`, `merged_eval`): they change the order of float sums, so a record
must say so. Where a form would be more than that, it is refused with a sentence, before anything runs where the words
of the method tell (`refusals`, also for `compiled` and `eval_batch_size`), else when the model is built. The third
changes no number: autocast rounds the same weights to the same bfloat16 in every step; stored so, they take half the
memory and are not copied again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from methods import on_decoder, on_text
from methods.grammar import MethodError, MethodText

from .backbones import EMBEDDED_TEXT, FAMILIES, PAIR, TEXT

if TYPE_CHECKING:
    from torch import Tensor, nn

    from datasets.card import Card
    from methods.base import Fit

MIXING = {"convpass": "its convolution mixes neighbouring tokens",
          "peft": "a tuner of peft may draw for every token of the last block"}
OWN_BLOCKS = ("vfpt", "e2vpt", "cvpt")  # whose blocks or attention have a forward of their own
SIDE = ("sherl", "unipt", "lst", "side_tuning", "sherl_t5", "lst_t5")
ONE_PASS = ("l2_sp", "mars_sp", "ftp", "mars_pgm", "l2_pgm", "wise", "spd", "ema", "dare",
            "digrap")  # parts beside which a step is one plain pass


def refusals(text: MethodText, family: str, class_query: bool, merged_eval: bool,
             compiled: bool | str = False, eval_batch_size: int = 1) -> list[str]:
    """Why a method cannot take these forms on a family of backbones, a sentence each. No torch."""
    adapting = [part.name for part in text.parts if dict(part.options).get("tta", "none") != "none"]
    problems = [f"eval_batch_size=0 (by memory) does not fit {text.name!r}: {name} adapts to each test batch, so its "
                "size is part of the method" for name in adapting if not eval_batch_size]
    if compiled:
        problems += [f"compiled={compiled} does not fit {text.name!r}: {part.name} reads, moves or repeats what "
                     "happens inside a step, where only a plain pass can be compiled" for part in text.parts[1:]
                     if part.name not in ONE_PASS]
    if class_query and family != PAIR:
        where = f"class_query=True does not fit {text.name!r}"
        adapter = text.adapter.name
        if family != "vit":
            problems.append(f"class_query=True needs a ViT that pools its class token, not family {family}")
        if adapter in MIXING:
            problems.append(f"{where}: {MIXING[adapter]}")
        if adapter in OWN_BLOCKS:
            problems.append(f"{where}: the blocks of {adapter} have a forward of their own, without a short form")
        if adapter in SIDE:
            problems.append(f"{where}: a side network reads the states of the frozen network"
                            + ("; sherl has an option of its own, sherl.class_query" if adapter == "sherl" else ""))
        for part in text.parts[1:]:
            if part.needs & {"tokens", "delta"}:
                problems.append(f"{where}: {part.name} works on every token of the last block")
    if merged_eval:
        if not text.adapter.mergeable:
            problems.append(f"merged_eval=True: {text.adapter.name!r} cannot be merged")
        problems += [f"merged_eval=True: {name} moves the weights while it predicts, so nothing can be merged"
                     for name in adapting]
    return problems


def input_problems(text: MethodText, family: str, card: Card, decodes: bool = False) -> list[str]:
    """Why a method on such a backbone cannot read what the data set holds, or answer what it asks. No torch.

    `decodes`: the backbone answers by a decoder.
    """
    if family == PAIR and card.input == "pair":
        return _pair_problems(text)
    if card.input == "pair":
        return [f"{card.name!r} holds pictures with captions and needs a pair of towers, as regatta_vit_64:"
                "minilm.package"]
    if family == PAIR:
        return [f"{card.name!r} holds {card.things}, which a pair of towers does not read; name one of its towers"]
    if card.input == "text" and family != TEXT:
        return [f"{card.name!r} holds texts and needs a text backbone, as {EMBEDDED_TEXT}"]
    if family != TEXT:
        return []
    if card.input != "text":
        return [f"{card.name!r} holds images, which a text backbone does not read"]
    if decodes and card.task != "classify":
        return [f"{card.name!r} asks for a number, which is several tokens of T5's decoder; use t5, its encoder with a "
                "head"]
    return on_decoder.refusals(text) if decodes else on_text.refusals(text, card.task)


def _pair_problems(text: MethodText) -> list[str]:
    """Why a method cannot be built on two towers."""
    found = [f"{part.name!r} does not run on a pair of towers: only adapters do; leave it out"
             for part in text.parts[1:]]
    name, options = text.adapter.name, dict(text.adapter.options)
    if name == "lst" and options.get("init", "fisher") == "fisher":
        found.append("lst(init='fisher') does not run on a pair of towers: it reads the loss of single images, and a "
                     "pair alone has none; write lst(init='magnitude')")
    told = on_text.refusals(MethodText((text.adapter,)), "match")
    return found + [one.replace("does not run on text", "does not run on a pair of towers") for one in told]


# Field of the spec -> what it must be on a pair, and why.
ON_PAIRS: dict[str, tuple[Any, str]] = {
    "augment": ("none", "a crop or a flip may make a caption wrong"),
    "label_smoothing": (0.0, "there are no classes to smooth over"),
    "fold": ("", "captions of one picture would lie in several folds"),
    "compiled": (False, "its batches are two tensors"),
    "merged_eval": (False, "two towers are not merged"),
    "class_query": (False, "it is written for one tower"),
    "batch_norm": ("method", "only the method's own way is tried there"),
    "head_seed": (None, "there are two heads")}


# Field of the spec that is about pictures -> what it is on texts alone.
OF_PICTURES: dict[str, Any] = {"image_size": 0, "normalise": "none", "augment": "none"}


def setting_problems(family: str, fields: Mapping[str, Any]) -> list[str]:
    """Why settings do not fit such a backbone, a sentence each. No torch."""
    if family != PAIR:
        return [f"loss={fields['loss']!r} brings pictures and their captions together and needs a pair of towers, as "
                "regatta_vit_64:minilm.package; leave it out"] if fields.get("loss") else []
    found = [f"{name}={fields[name]!r} does not fit a pair of towers: {why}; leave it out"
             for name, (wanted, why) in ON_PAIRS.items() if fields.get(name, wanted) != wanted]
    if fields.get("batch_size", 2) < 2:
        found.append(f"batch_size={fields['batch_size']} does not fit a pair of towers: a pair is told from the others "
                     "of its batch, so one alone teaches nothing; say 2 or more")
    return found


def card_problems(card: Card, fields: Mapping[str, Any]) -> list[str]:
    """Why settings do not fit what the data set asks, a sentence each. No torch."""
    smoothing = fields.get("label_smoothing", 0.0)
    return [f"label_smoothing={smoothing} does not fit {card.name!r}, whose answers are numbers: there are no classes "
            "to smooth over; leave it out"] if smoothing and card.task == "regress" else []


def picture_problems(card: Card, typed: Mapping[str, Any]) -> list[str]:
    """Why settings that were typed say nothing to a set of texts, a sentence each: a suite may bring them along."""
    return [f"{name}={typed[name]!r} is about pictures, and {card.name!r} holds texts alone; leave it out"
            for name, wanted in OF_PICTURES.items() if card.input == "text" and typed.get(name, wanted) != wanted]


def check_settings(family: str, fields: Mapping[str, Any], card: Card | None = None) -> None:
    """Raises MethodError with the first of `setting_problems` and `card_problems`."""
    if problems := setting_problems(family, fields) + (card_problems(card, fields) if card else []):
        raise MethodError(problems[0])


def check_input(text: MethodText, family: str, card: Card, decodes: bool = False) -> None:
    """Raises MethodError with the first of `input_problems`."""
    if problems := input_problems(text, family, card, decodes):
        raise MethodError(problems[0])


NORMED = ("resnet", "efficientnet", "mobilenet")  # families whose batch norms have running statistics
ONCE = ("linear", "lora_last", "partial_k")  # what is frozen in front of these is computed once for each image


def normed(text: MethodText, family: str, batch_norm: str) -> str:
    """Why the batch norms cannot be treated so, or nothing. A family that we do not know may have some."""
    if batch_norm == "method" or family == PAIR:  # which `setting_problems` refuses
        return ""
    if family == TEXT or (family in FAMILIES and family not in NORMED):
        told = "text tower" if family == TEXT else family
        return f"batch_norm={batch_norm!r} means nothing on a {told}, which has no batch norm; leave it out"
    adapter = text.adapter
    if batch_norm == "train" and (adapter.name in ONCE or adapter.info.facts.get("frozen_backbone")):
        return (f"batch_norm='train' does not fit {adapter.name!r}, whose frozen network is computed once for each "
                "image; statistics of the batch would change it in every step")
    return ""


def check(text: MethodText, family: str, class_query: bool, merged_eval: bool,
          compiled: bool | str = False, eval_batch_size: int = 1) -> None:
    """Raises MethodError with the first of `refusals`."""
    for problem in refusals(text, family, class_query, merged_eval, compiled, eval_batch_size):
        raise MethodError(problem)


def use_class_query(model: nn.Module) -> None:
    """Let the last block compute the class token's output alone. Raises MethodError where that would not be exact."""
    from timm.layers.attention import Attention
    from timm.models.deit import VisionTransformerDistilled
    from timm.models.vision_transformer import Block, VisionTransformer
    from torch import nn

    from methods.vit import AdaptedBlock, PromptedBlock

    net: Any = model
    plain = isinstance(model, VisionTransformer) and not isinstance(model, VisionTransformerDistilled)
    if not plain or type(net.blocks[-1]) not in (Block, AdaptedBlock, PromptedBlock) or (
            type(net.blocks[-1].attn) is not Attention):
        raise MethodError(f"class_query=True needs a plain ViT, not this {type(model).__name__}")
    if net.global_pool != "token" or net.attn_pool is not None:
        raise MethodError(f"class_query=True needs a ViT that pools its class token; this one pools by "
                          f"{net.global_pool!r}")
    block = net.blocks[-1]
    for module in block.modules():
        if isinstance(module, nn.Dropout) and module.p:
            raise MethodError("class_query=True: dropout in the last block draws for every token, so its draws "
                              "would be others")
        if isinstance(module, nn.Conv1d | nn.Conv2d) and max(module.kernel_size) > 1:
            raise MethodError("class_query=True: a convolution in the last block mixes neighbouring tokens")
    block.__class__ = type(f"ClassQuery{type(block).__name__}", (_ClassQuery, type(block)), {})


class _ClassQuery:
    """Mixed into a block's class."""

    def forward(self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
        """(B, N, D) -> (B, 1, D)."""
        import torch

        b: Any = self
        if getattr(b, "prompts", None) is not None:
            prompts = b.prompt_dropout(b.prompts.to(x.dtype).expand(x.shape[0], -1, -1))
            x = torch.cat([x[:, :b.prefix], prompts, x[:, b.prefix:]], dim=1)
        at = getattr(b, "points", {})

        def added(y: Tensor, point: str, read: Tensor) -> Tensor:
            return y + at[point](read) if point in at else y

        n1 = b.norm1(x)
        a = b.ls1(attend(b.attn, n1))
        a = b.drop_path1(added(a, "in_attn", a))
        a = added(a, "post_attn", a)
        x1 = added(x[:, :1] + a, "par_attn", n1[:, :1])
        n2 = b.norm2(x1)
        m = b.ls2(b.mlp(n2))
        m = b.drop_path2(added(m, "in_mlp", m))
        m = added(m, "post_mlp", m)
        out = added(x1 + m, "par_mlp", x1)
        out = added(out, "par_norm2", n2)
        return added(out, "post_block", out)


def attend(attn: Any, n1: Tensor) -> Tensor:
    """Self-attention's output for the first token: (B, N, D) -> (B, 1, D); keys and values of all tokens."""
    import torch.nn.functional as F

    batch, count, _ = n1.shape
    q, kv = _projections(attn.qkv, n1, attn.num_heads * attn.head_dim)
    q = attn.q_norm(q.reshape(batch, 1, attn.num_heads, attn.head_dim).transpose(1, 2))
    k, v = kv.reshape(batch, count, 2, attn.num_heads, attn.head_dim).permute(2, 0, 3, 1, 4).unbind(0)
    k = attn.k_norm(k)
    if attn.fused_attn:
        out = F.scaled_dot_product_attention(q, k, v)
    else:
        out = ((q * attn.scale) @ k.transpose(-2, -1)).softmax(dim=-1) @ v
    out = attn.norm(out.transpose(1, 2).reshape(batch, 1, -1))
    out = out if attn.gate is None else out * attn.gate(n1[:, :1]).sigmoid()
    return attn.proj_drop(attn.proj(out))  # type: ignore[no-any-return]


def _projections(qkv: Any, n1: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Query of the first token (B, 1, W), keys and values of all (B, N, 2 W)."""
    import torch.nn.functional as F
    from torch import nn

    from methods.adapters.lowrank import LoraLinear

    pairs: list[Any] = list(qkv.lora.values()) if type(qkv) is LoraLinear else []
    split = all(rows.stop <= width or rows.start >= width for pair in pairs for rows in pair.rows) and all(
        len({rows.start < width for rows in pair.rows}) == 1 for pair in pairs)
    if type(qkv) not in (nn.Linear, LoraLinear) or not split:
        y = qkv(n1)
        return y[:, :1, :width], y[..., width:]
    bias = (None, None) if qkv.bias is None else (qkv.bias[:width], qkv.bias[width:])
    q = F.linear(n1[:, :1], qkv.weight[:width], bias[0])
    kv = F.linear(n1, qkv.weight[width:], bias[1])
    for pair in pairs:
        onto, read, base = (q, n1[:, :1], 0) if pair.rows[0].start < width else (kv, n1, width)
        update, start = pair(read), 0
        for rows in pair.rows:
            length = rows.stop - rows.start
            onto[..., rows.start - base:rows.stop - base].add_(update[..., start:start + length])
            start += length
    return q, kv


def merged(fit: Fit) -> Fit:
    """A fit to predict with: a copy whose adapter is folded in. The given one stays as it is."""
    from methods.weights import merged_copy

    from . import compiling

    assert fit.adapter is not None
    model = merged_copy(fit.adapter, fit.model)
    for name in ("forward", "forward_features", "early"):  # a prefix at work in the original belongs to that alone
        vars(model).pop(name, None)
    compiling.plain_again(model)
    return replace(fit, model=model, trainable={})


def store_frozen_in_bf16(model: nn.Module) -> int:
    """Frozen matrices that autocast would round in every step are rounded once, in place; returns how many."""
    import torch
    from torch import nn

    from methods.adapters.lowrank import LoraLinear

    done = 0
    for module in model.modules():
        if type(module) in (nn.Linear, nn.Conv2d, LoraLinear) and not module.weight.requires_grad:
            assert isinstance(module, nn.Linear | nn.Conv2d)
            for p in (module.weight, module.bias):
                if p is not None and not p.requires_grad:
                    p.data = p.data.to(torch.bfloat16)
            done += 1
    return done
