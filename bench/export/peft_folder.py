"""A run as a folder of Hugging Face's peft: `PeftModel.from_pretrained(timm model, folder)` computes the same.

What peft ran (`peft(type=...)`) goes back under peft's own names. Of ours, what lies beside linear layers is put into
peft's form of it, exactly: timm fuses q, k and v into one layer, where peft sees one matrix and ours are pairs on rows
of their own, so A holds the pairs' rows below each other and B each pair's columns on its own rows, zero elsewhere.

    lora       rank: the sum of the pairs' ranks, and B A is the sum of all products
               and on a convolution, ours is peft's own form already
    dora       the same, with the magnitudes of untouched rows at their own length, where they change nothing
    vera       one block of the shared projections for each target; d is zero for the blocks of other layers
"""

from __future__ import annotations

import copy
import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from timm.layers.conv2d_same import Conv2dSame
from torch import Tensor, nn

from methods.adapters import vera
from methods.adapters.dora import DoraLinear
from methods.adapters.experts import Experts
from methods.adapters.lowrank import LoraLinear, LowRank
from methods.adapters.lowrank_conv import LoraConv
from methods.adapters.peft_bridge import Tuned, library
from methods.adapters.peft_words import exactly
from methods.adapters.principal import Principal
from methods.insertion import AdaptedLinear
from methods.vit import head_names
from methods.weights import StoredError

from ..engine.stored import Stored
from .plain import plain_name

HERE = "base_model.model."  # in front of every name of the plain model


@dataclass(frozen=True)
class Told:
    """What peft is told: its configuration, and the tensors to put in by their names in the peft model."""

    config: Any
    tensors: dict[str, Tensor]


def write(stored: Stored, base: nn.Module, out: Path) -> None:
    """Write the adapter into the folder; `base` is the plain pre-trained model with a head, and is used up.

    Raises StoredError where the method has no form in peft, MethodError where peft is not installed.
    """
    peft = library()
    told = _told(stored, peft)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = peft.get_peft_model(base, told.config)
        own = dict(_tensors(model))
        with torch.no_grad():
            for name, value in told.tensors.items():
                own[name].copy_(value)
        told.config.base_model_name_or_path = stored.record.spec.model
        model.save_pretrained(str(out), save_embedding_layers=False)


def load(base: nn.Module, folder: Path) -> nn.Module:
    """What a reader of the folder gets; `base` is used up."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model: nn.Module = library().PeftModel.from_pretrained(base, str(folder)).eval()
    return model


def _told(stored: Stored, peft: Any) -> Told:
    model = stored.model
    convs = {path: m for path, m in model.named_modules() if isinstance(m, LoraConv)}
    layers = {path: m for path, m in model.named_modules() if isinstance(m, AdaptedLinear) and _outer(path)}
    kinds = {type(m) for m in layers.values()}
    pairs = [p for m in layers.values() if isinstance(m, LoraLinear) for p in _parts(m)]
    if kinds == {Tuned}:
        told = _tuned(model)
    elif kinds == {DoraLinear}:
        told = _lora({p: _parts(m) for p, m in layers.items()}, layers, peft, dora=True)
    elif kinds | {LoraLinear} == {LoraLinear} and (pairs or convs) and all(
            type(p) in (LowRank, Experts, Principal) for p in pairs):
        told = _lora({p: _parts(m) for p, m in layers.items()}, layers, peft, convs=_fitting(convs, stored))
    elif kinds == {LoraLinear} and all(type(p) is vera.Scaled for p in pairs):
        told = _vera(layers, peft)
    else:
        raise StoredError(f"{stored.record.method.text} has no form that peft knows; export it --as "
                          + ("timm" if stored.method.adapter.mergeable else "state-dict"))
    inside = tuple(f"{path}." for path in (*layers, *convs))
    other = [n for n, p in model.named_parameters() if p.requires_grad and n not in head_names(model)
             and not n.startswith(inside)]
    if other:
        raise StoredError(f"{stored.record.method.text} trains {other[0]} too, which is no part of a peft adapter; "
                          "export it --as timm or --as state-dict")
    heads = {plain_name(n): model.get_parameter(n).detach() for n in sorted(head_names(model))}
    told.config.modules_to_save = sorted({n.rpartition(".")[0] for n in heads})
    told.config.inference_mode = True
    classifier = {f"{HERE}{n.rpartition('.')[0]}.modules_to_save.default.{n.rpartition('.')[2]}": value
                  for n, value in heads.items()}
    return Told(told.config, told.tensors | classifier)


def _parts(layer: Any) -> list[Any]:
    """What stands beside the layer's weight."""
    return list((layer.dora if isinstance(layer, DoraLinear) else layer.lora).values())


def _fitting(convs: dict[str, LoraConv], stored: Stored) -> dict[str, LoraConv]:
    """The convolutions. Raises StoredError for one whose padding a pair of peft's would not have."""
    for path, m in convs.items():
        if issubclass(m.kind, Conv2dSame) and max(m.kernel_size) > 1:
            raise StoredError(f"{stored.record.method.text} has no form that peft knows: {path} pads by the image's "
                              "size, which a pair of peft's does not; export it --as timm")
    return convs


def _outer(path: str) -> bool:
    """Not what a tuner of peft keeps of the plain layer."""
    return ".tuner." not in path


def _tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Every parameter and buffer under each of its names, those that are not stored among them."""
    yield from module.named_parameters(remove_duplicate=False)
    yield from module.named_buffers(remove_duplicate=False)


def _tuned(model: nn.Module) -> Told:
    """peft's own tuner, by its own names; projections that follow from a key are stored too."""
    config = copy.deepcopy(model.peft_config["default"])  # type: ignore[index, union-attr]
    if hasattr(config, "save_projection"):
        config.save_projection = True
    found = {HERE + name.replace(".tuner.", ".", 1): value.detach() for name, value in _tensors(model)
             if ".tuner." in name and ".base_layer." not in name}
    return Told(config, found)


def _lora(parts: dict[str, list[Any]], layers: dict[str, Any], peft: Any, dora: bool = False,
          convs: Mapping[str, LoraConv] = MappingProxyType({})) -> Told:
    """Pairs on rows as one pair per layer; a pair of a convolution as it is."""
    every = [p for held in parts.values() for p in held] + [m.lora for m in convs.values()]
    scales = {1.0 if isinstance(p, Experts | Principal) else p.scale for p in every}
    scale = scales.pop() if len(scales) == 1 else 1.0
    tensors, ranks = {}, {}
    for path, held in parts.items():
        factors = [_factors(p, scale) for p in held]
        ranks[path] = sum(len(down) for down, _ in factors)
        up = _on_rows(layers[path], held, [up for _, up in factors])
        tensors[f"{HERE}{path}.lora_A.default.weight"] = torch.cat([down for down, _ in factors])
        tensors[f"{HERE}{path}.lora_B.default.weight"] = up
        if dora:
            length = torch.linalg.vector_norm(layers[path].weight.detach(), dim=1)
            for p in held:
                length[p.rows[0]] = p.magnitude.detach()
            tensors[f"{HERE}{path}.lora_magnitude_vector.default.weight"] = length
    for path, conv in convs.items():
        ranks[path] = len(conv.lora.down)
        tensors[f"{HERE}{path}.lora_A.default.weight"] = conv.lora.down.detach()
        up = conv.lora.up.detach() * (conv.lora.scale / scale)
        tensors[f"{HERE}{path}.lora_B.default.weight"] = up[:, :, None, None]
    rank = max(ranks.values())
    others = {re.escape(path): r for path, r in ranks.items() if r != rank}
    config = peft.LoraConfig(r=rank, lora_alpha=_whole(scale * rank), target_modules=exactly(list(ranks)),
                             rank_pattern=others, alpha_pattern={path: _whole(scale * r) for path, r in others.items()},
                             use_dora=dora)
    return Told(config, tensors)


def _whole(value: float) -> float:
    """A whole number as one: peft's folders mostly have whole numbers there."""
    return int(value) if float(value).is_integer() else value


def _factors(part: Any, scale: float) -> tuple[Tensor, Tensor]:
    """A (r, i) and B (o, r) with scale * B A = what the pair adds."""
    down, up = part.down.detach(), part.up.detach()
    if isinstance(part, Experts):
        return part.expert.detach()[:, None] * down, up / scale
    if isinstance(part, Principal):
        return torch.cat([down, part.down0]), torch.cat([up, -part.up0], dim=1) * (part.scale / scale)
    return down, up * (part.scale / scale)


def _on_rows(layer: Any, held: list[Any], ups: list[Tensor]) -> Tensor:
    """Each part's columns on the rows of the layer that it adds to: (o, sum of r)."""
    full = torch.zeros(layer.out_features, sum(u.shape[1] for u in ups))
    column = 0
    for part, up in zip(held, ups, strict=True):
        start = 0
        for rows in part.rows:
            length = rows.stop - rows.start
            full[rows, column:column + up.shape[1]] = up[start:start + length]
            start += length
        column += up.shape[1]
    return full


def _vera(layers: dict[str, Any], peft: Any) -> Told:
    """A block of rows of A and of columns of B for each place that a target has in its layer; `b` lies on its rows."""
    places = dict.fromkeys(_place(p) for m in layers.values() for p in m.lora.values())
    blocks = {place: i for i, place in enumerate(places)}
    one = next(iter(next(iter(layers.values())).lora.values()))
    pair, rank = one._shared[0], len(one.d)
    wide = max(m.in_features for m in layers.values())
    down = torch.cat([pair.down[:, :wide]] * len(blocks))
    up = torch.zeros(max(m.out_features for m in layers.values()), rank * len(blocks))
    tensors = {}
    for path, layer in layers.items():
        d, b = torch.zeros(rank * len(blocks)), torch.zeros(layer.out_features)
        for part in layer.lora.values():
            block = slice(rank * blocks[_place(part)], rank * (blocks[_place(part)] + 1))
            d[block] = part.d.detach()
            start = 0
            for rows in part.rows:
                length = rows.stop - rows.start
                up[rows, block] = pair.up[start:start + length]
                b[rows] = part.b.detach()[start:start + length]
                start += length
        tensors[f"{HERE}{path}.vera_lambda_d.default"] = d
        tensors[f"{HERE}{path}.vera_lambda_b.default"] = b
        tensors[f"{HERE}{path}.vera_A.default"], tensors[f"{HERE}{path}.vera_B.default"] = down, up
    return Told(peft.VeraConfig(r=rank * len(blocks), target_modules=exactly(list(layers)), save_projection=True),
                tensors)


def _place(part: Any) -> tuple[tuple[int, int], ...]:
    """The rows that a target takes; those of a Swin differ from stage to stage."""
    return tuple((rows.start, rows.stop) for rows in part.rows)
