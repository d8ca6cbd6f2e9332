"""Heads of random class embeddings for the tiny data set, and a whole CLIP so small that it is made at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from bench.engine import zeroshot
from bench.engine.zeroshot import ClassHead
from results.schema import RunSpec

from . import tiny

NAMES = ("black", "dark", "pale", "white")
WIDTH, FEATURE, SCALE = 10, 24, 3.0  # of the common space, of tiny's ViT; the logarithm of 20


def head(seed: int = 0, feature: int = FEATURE, shift: bool = True, **changes: Any) -> ClassHead:
    """Of the tiny set's four classes; its embeddings are not of length 1."""
    dice = np.random.default_rng(seed)
    values: dict[str, Any] = dict(
        embeddings=dice.normal(size=(len(NAMES), WIDTH)).astype(np.float32),
        projection=dice.normal(size=(WIDTH, feature)).astype(np.float32),
        shift=dice.normal(size=WIDTH).astype(np.float32) if shift else None, logit_scale=SCALE, classes=NAMES,
        templates=("a picture of a {}.",), origin="nowhere")
    return ClassHead(**values | changes)


def spec(file: Path, method: str = "full", **changes: Any) -> RunSpec:
    return tiny.spec(method, zero_shot=zeroshot.read(file).digits, **changes)


def naive(features: Any, one: ClassHead) -> Any:
    """Logits (B, C) from features (B, D), written from the formula in float64."""
    scale = np.exp(one.logit_scale)
    found = np.empty((len(features), len(one.embeddings)))
    for b, feature in enumerate(np.asarray(features, dtype=np.float64)):
        point = np.array([row @ feature for row in one.projection]) if one.projection is not None else feature
        point = point + one.shift if one.shift is not None else point
        for c, name in enumerate(one.embeddings.astype(np.float64)):
            found[b, c] = scale * (point @ name) / np.sqrt((point @ point) * (name @ name))
    return found


WORDS = ("[PAD]", "<start>", "[UNK]", "a", "photo", "of", "black", "dark", "pale", "white", "drawing", "<end>")
END = len(WORDS) - 1


def tokenizer(file: Path) -> None:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from tokenizers.processors import TemplateProcessing

    made = Tokenizer(WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    made.add_special_tokens([*WORDS[:3], WORDS[END]])
    made.pre_tokenizer = Whitespace()
    made.post_processor = TemplateProcessing(single="<start> $A <end>", special_tokens=[("<start>", 1), ("<end>", END)])
    made.save(str(file))


def clip(at: Path) -> Any:
    """A folder as transformers writes it, and the model of theirs: images of 16 pixels, features of 24 numbers."""
    import torch
    from safetensors.torch import save_file
    from transformers import CLIPConfig, CLIPModel

    sizes = dict(num_hidden_layers=2, num_attention_heads=4, intermediate_size=40)
    text = sizes | dict(hidden_size=32, vocab_size=len(WORDS), max_position_embeddings=12, eos_token_id=END,
                        bos_token_id=1, pad_token_id=0)
    vision = sizes | dict(hidden_size=FEATURE, image_size=tiny.SIZE, patch_size=8)
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=WIDTH)
    torch.manual_seed(0)
    model = CLIPModel(config).eval()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn_like(p))
        model.logit_scale.fill_(SCALE)
    at.mkdir(parents=True, exist_ok=True)
    save_file({name: t.contiguous() for name, t in model.state_dict().items()}, at / "model.safetensors")
    (at / "config.json").write_text(json.dumps(config.to_dict()))
    tokenizer(at / "tokenizer.json")
    return model
