"""A text tower of two blocks in a checkpoint's folder, with a tokenizer, and three tiny sets of texts; no network.

`folder` writes what Hugging Face would; the sets are cards that live in memory alone: a class, MCC, and a score.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from bench.engine import backbones
from bench.engine.record import execute
from bench.engine.where import Where
from bench.engine.wording import file_hash
from datasets import registry
from datasets.card import Card, Item, Text
from methods import hf
from methods.grammar import parse
from methods.text import built
from methods.towers import tower
from results.schema import RunResult, RunSpec

WORDS = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "good", "bad", "fine", "poor", "film", "story", "not", "very", "the", "a",
         "was", "it"]
MODEL = f"bert_l2_d32_h4_f64_v{len(WORDS)}_n40_s2"
COUNTS = {"train": 48, "val": 16, "trainval": 64, "test": 40}
SETS: dict[str, dict[str, Any]] = {"tiny_film": {}, "tiny_mcc": {"metric": "mcc"},
                                   "tiny_score": {"metric": "pearson_spearman", "task": "regress", "classes": 1}}


def _text(i: int, scored: bool) -> Item:
    """Praise or blame of some length; scored: how alike two are."""
    kind = i * 7919 % 2
    words = ["the", "film", "was", *["very"] * (i % 4), ("good", "bad")[kind], *["it"] * (i % 5)]
    if scored:
        other = ["the", "story", "was", ("good", "bad")[i % 2]]
        return Item(Text(f"tiny/{i}", " ".join(words), " ".join(other)), 5.0 * (kind == i % 2) * (i % 4 + 1) / 4)
    return Item(Text(f"tiny/{i}", " ".join(words)), kind)


def use() -> None:
    """Register the sets, once."""
    torch.set_num_threads(1)
    for name, more in SETS.items():
        if name not in registry.names("text"):
            def items(root: Path, split: str, scored: bool = "task" in more) -> list[Item]:
                start, stop = {"train": (0, 48), "val": (48, 64), "trainval": (0, 64), "test": (64, 104)}[split]
                return [_text(i, scored) for i in range(start, stop)]

            registry.register(Card(**dict(
                name=name, title=name, group="text", classes=2, splits=COUNTS, source="none", license="none",
                cite="none", folder="", layout="nothing", items=items, input="text") | more))


def forget() -> None:
    for name in SETS:
        registry._cards.pop(name, None)
        registry._aliases.pop(name, None)
        registry._owners.pop(name, None)


def folder(at: Path, **changes: Any) -> Path:
    """config.json, model.safetensors under theirs names, tokenizer.json."""
    at.mkdir(parents=True, exist_ok=True)
    own = tower(MODEL)
    config = {"model_type": "bert", "num_hidden_layers": own.depth, "hidden_size": own.width,
              "num_attention_heads": own.heads, "intermediate_size": own.hidden, "vocab_size": own.words,
              "max_position_embeddings": own.positions}
    (at / "config.json").write_text(json.dumps(config | changes))
    torch.manual_seed(0)
    state, theirs = built(own).state_dict(), {}
    for ours, names in hf.BERT.items():
        for i in range(own.depth if "{i}" in ours else 1):
            for kind in ("weight", "bias"):
                if (value := state.get(f"{ours.format(i=i)}.{kind}")) is not None:
                    sources = (names,) if isinstance(names, str) else names
                    theirs |= {f"{s.format(i=i)}.{kind}": part.contiguous()
                               for s, part in zip(sources, value.chunk(len(sources)), strict=True)}
    save_file(theirs, at / "model.safetensors")
    write_tokenizer(at / "tokenizer.json")
    return at


def write_tokenizer(file: Path) -> None:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from tokenizers.processors import TemplateProcessing

    made = Tokenizer(WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    made.add_special_tokens(WORDS[:4])
    made.pre_tokenizer = Whitespace()
    made.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1",
                                             special_tokens=[("[CLS]", 1), ("[SEP]", 2)])
    made.save(str(file))


def spec(method: str, at: Path, **changes: Any) -> RunSpec:
    text = parse(method)
    values: dict[str, Any] = dict(
        dataset="tiny_film", model=MODEL, method=text.name, options=text.options, seed=0, epochs=2, batch_size=16,
        eval_batch_size=32, lr=3e-3, weight_decay=1e-4, warmup_epochs=0, image_size=0, augment="none",
        normalise="none", precision="fp32", phase="final", select="last", data="none",
        weights=backbones.find_weights(MODEL, at).sha256, optimizer="adamw", schedule="cosine", clip=1.0,
        drop_path=0.0, head_lr_scale=1.0, drop_last=False, attention="fused", threads=1, holdout=0.25, text_length=16,
        tokenizer=file_hash(at / "tokenizer.json"))
    return RunSpec(**values | changes)


def where(at: Path, root: Path, cached: bool = True, **changes: Any) -> Where:
    return Where(root, root / "cache" if cached else None, at / "model.safetensors", **changes)


def run(one: RunSpec, at: Path, root: Path, **changes: Any) -> RunResult:
    """Below `root`; it must end well."""
    found = execute(one, {}, where(at, root, **changes), root / "runs")
    assert found.status == "ok", found.failure
    return found
