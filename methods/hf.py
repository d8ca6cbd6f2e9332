"""A text checkpoint as Hugging Face keeps it -> one of our towers: names brought to timm's, q, k and v stacked.

What is read is a folder with config.json and model.safetensors (or pytorch_model.bin, tensors alone); no library of
theirs is needed. Prefixes (`bert.`, `text_model.`), old names (`gamma`, `beta`) and whatever lies beside the tower (a
head for masked words, a pooler, T5's decoder, CLIP's image tower) are known by name; anything else that is left over
is an error, so that no checkpoint of another form is half read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .towers import Tower, TowerError, from_config

# What a checkpoint may hold beside its text tower.
BESIDE = {"bert": r"(cls|pooler|classifier|qa_outputs|nsp|mlm)\b.*|.*\bposition_ids",
          "t5": r"decoder\..*|lm_head\.weight|encoder\.embed_tokens\.weight",
          "clip_text": r"vision_model\..*|visual_projection\..*|text_projection\..*|logit_scale|.*\bposition_ids"}
PREFIXES = {"bert": ("bert.", "model."), "t5": ("transformer.",), "clip_text": ("text_model.", "clip.text_model.")}
Names = Mapping[str, str | tuple[str, ...]]  # ours -> theirs, {i} the block; several are stacked
BERT: Names = {
        "patch_embed.word": "embeddings.word_embeddings", "patch_embed.position": "embeddings.position_embeddings",
        "patch_embed.segment": "embeddings.token_type_embeddings", "patch_embed.norm": "embeddings.LayerNorm",
        "blocks.{i}.attn.qkv": ("encoder.layer.{i}.attention.self.query", "encoder.layer.{i}.attention.self.key",
                                "encoder.layer.{i}.attention.self.value"),
        "blocks.{i}.attn.proj": "encoder.layer.{i}.attention.output.dense",
        "blocks.{i}.norm1": "encoder.layer.{i}.attention.output.LayerNorm",
        "blocks.{i}.mlp.fc1": "encoder.layer.{i}.intermediate.dense",
        "blocks.{i}.mlp.fc2": "encoder.layer.{i}.output.dense",
        "blocks.{i}.norm2": "encoder.layer.{i}.output.LayerNorm"}
T5: Names = {"patch_embed.word": "shared", "norm": "encoder.final_layer_norm",
      "distance": "encoder.block.0.layer.0.SelfAttention.relative_attention_bias",
      "blocks.{i}.attn.qkv": tuple(f"encoder.block.{{i}}.layer.0.SelfAttention.{n}" for n in "qkv"),
      "blocks.{i}.attn.proj": "encoder.block.{i}.layer.0.SelfAttention.o",
      "blocks.{i}.norm1": "encoder.block.{i}.layer.0.layer_norm",
      "blocks.{i}.mlp.fc1": "encoder.block.{i}.layer.1.DenseReluDense.wi",
      "blocks.{i}.mlp.fc2": "encoder.block.{i}.layer.1.DenseReluDense.wo",
      "blocks.{i}.norm2": "encoder.block.{i}.layer.1.layer_norm"}
CLIP: Names = {
        "patch_embed.word": "embeddings.token_embedding", "patch_embed.position": "embeddings.position_embedding",
        "norm": "final_layer_norm",
        "blocks.{i}.attn.qkv": tuple(f"encoder.layers.{{i}}.self_attn.{n}_proj" for n in "qkv"),
        "blocks.{i}.attn.proj": "encoder.layers.{i}.self_attn.out_proj",
        "blocks.{i}.norm1": "encoder.layers.{i}.layer_norm1", "blocks.{i}.mlp.fc1": "encoder.layers.{i}.mlp.fc1",
        "blocks.{i}.mlp.fc2": "encoder.layers.{i}.mlp.fc2", "blocks.{i}.norm2": "encoder.layers.{i}.layer_norm2"}
TABLES: dict[str, Names] = {"bert": BERT, "t5": T5, "clip_text": CLIP}


def described(folder: Path) -> Tower:
    """The tower that a folder's config.json describes; BERT's separator is looked up in its tokenizer.

    No torch tensor is made. Raises TowerError naming the file.
    """
    mean = _json(folder / "1_Pooling" / "config.json", missing={}).get("pooling_mode_mean_tokens") is True
    return from_config(_json(folder / "config.json"), mean, separator(folder / "tokenizer.json"))


def separator(tokenizer: Path) -> int | None:
    """The number of [SEP] in a tokenizer.json, None where it has none or is not there."""
    added = _json(tokenizer, missing={}).get("added_tokens", [])
    return next((int(t["id"]) for t in added if t.get("content") == "[SEP]"), None)


def _json(path: Path, missing: dict[str, Any] | None = None) -> dict[str, Any]:
    if missing is not None and not path.is_file():
        return missing
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise TowerError(f"{path.parent.name}/ has no {path.name}; a folder of a checkpoint holds config.json, "
                         "model.safetensors and tokenizer.json") from None
    except (OSError, ValueError) as error:
        raise TowerError(f"{path.name} of {path.parent.name}/ cannot be read ({type(error).__name__})") from None
    if not isinstance(found, dict):
        raise TowerError(f"{path.name} of {path.parent.name}/ is no JSON object")
    return found


def weights_in(folder: Path) -> Path:
    """The file of weights in a checkpoint's folder. Raises TowerError."""
    for name in ("model.safetensors", "pytorch_model.bin"):
        if (folder / name).is_file():
            return folder / name
    raise TowerError(f"{folder.name}/ has no model.safetensors; a folder of a checkpoint holds config.json, "
                     "model.safetensors and tokenizer.json")


def tensors(file: Path) -> dict[str, Tensor]:
    """The tensors of a file; nothing in it is executed. Raises TowerError."""
    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(file)
        return dict(torch.load(file, map_location="cpu", weights_only=True))
    except Exception as error:  # of whatever damage there is
        raise TowerError(f"{file.name} of {file.parent.name}/ cannot be read as tensors ({type(error).__name__})"
                         ) from None


def renamed(given: Mapping[str, Tensor], tower: Tower) -> dict[str, Tensor]:
    """A checkpoint's tensors -> the tower's state dict. Raises TowerError naming the first name that is odd."""
    left = {_known(name, tower.kind): value for name, value in given.items()}
    left = {name: value for name, value in left.items() if not re.fullmatch(BESIDE[tower.kind], name)}
    if tower.kind == "t5" and "shared.weight" not in left and "encoder.embed_tokens.weight" in given:
        left["shared.weight"] = given["encoder.embed_tokens.weight"]
    kinds = ("weight",) if tower.kind == "t5" else ("weight", "bias")
    made: dict[str, Tensor] = {}
    for ours, theirs in TABLES[tower.kind].items():
        for i in range(tower.depth if "{i}" in ours else 1):
            sources = (theirs,) if isinstance(theirs, str) else theirs
            for kind in kinds:
                names = [f"{source.format(i=i)}.{kind}" for source in sources]
                if kind == "bias" and ours in ("patch_embed.word", "patch_embed.position", "patch_embed.segment"):
                    continue
                if missing := [name for name in names if name not in left]:
                    raise TowerError(f"the checkpoint lacks {missing[0]!r}, which its {tower.kind} tower needs")
                made[f"{ours.format(i=i)}.{kind}"] = torch.cat([left.pop(name).float() for name in names])
    if left:
        raise TowerError(f"the checkpoint holds {min(left)!r}, which is no part of a {tower.kind} tower of "
                         f"{tower.depth} blocks")
    return made


def _known(name: str, kind: str) -> str:
    """Without a prefix, and by its new name."""
    for prefix in PREFIXES[kind]:
        name = name.removeprefix(prefix)
    return re.sub(r"\.gamma$", ".weight", re.sub(r"\.beta$", ".bias", name))
