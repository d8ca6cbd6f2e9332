"""A tiny set of pictures with captions that lives in memory: coloured squares, two sentences each.

The towers are the embedded ViT and the text tower of `tiny_texts`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from bench.engine import backbones
from datasets import registry
from datasets.card import Card, Item, Pair, Text
from results.schema import RunSpec

from . import tiny_texts
from .tiny_texts import WORDS

NAME = "tiny_pairs"
MODEL = f"regatta_vit_48:{tiny_texts.MODEL}"
PICTURES = {"train": (0, 16), "val": (16, 22), "trainval": (0, 22), "test": (22, 34)}
CAPTIONS = 2
SEEN: list[str] = []  # the splits that were listed, in order


@dataclass(frozen=True)
class Square:
    number: int

    @property
    def name(self) -> str:
        return f"square/{self.number}"

    def open(self) -> Image.Image:
        n = self.number
        return Image.new("RGB", (8, 8), (n * 53 % 256, n * 97 % 256, n * 151 % 256))


def items(root: Path, split: str) -> list[Item]:
    SEEN.append(split)
    start, stop = PICTURES[split]
    told = [f"{WORDS[4 + n % 6]} {WORDS[10 + n // 6 % 6]}" for n in range(stop)]
    return [Item(Pair(Square(n), Text(f"square/{n}#{i}", f"{lead} {told[n]}")), n - start)
            for n in range(start, stop) for i, lead in enumerate(("the", "a")[:CAPTIONS])]


def use() -> None:
    """Register the set, once."""
    tiny_texts.use()
    SEEN.clear()
    if NAME not in registry.names("captions"):
        registry.register(Card(
            name=NAME, title="Squares", group="captions", classes=1,
            splits={split: CAPTIONS * (stop - start) for split, (start, stop) in PICTURES.items()}, source="none",
            license="none", cite="none", folder="", layout="nothing", items=items, metric="rmean", task="match",
            input="pair"))


def forget() -> None:
    tiny_texts.forget()
    for known in (registry._cards, registry._aliases, registry._owners):
        known.pop(NAME, None)


def spec(method: str, at: Path, **changes: Any) -> RunSpec:
    own = dict(dataset=NAME, model=MODEL, image_size=48, normalise="native", batch_size=8, drop_last=True,
               eval_batch_size=5, text_length=8, weights=backbones.find_weights(MODEL, at).sha256)
    return tiny_texts.spec(method, at, **own | changes)
