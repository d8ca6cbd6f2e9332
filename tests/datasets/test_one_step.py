"""Every data set through one training step of a tiny network, from its list layout and, of images, its raw form."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import pytest
import torch
from PIL.Image import Resampling
from timm.models.vision_transformer import VisionTransformer

from datasets import registry
from datasets.card import Card, Item, Pair, Text
from datasets.images import ImageList, open_rgb, to_array
from datasets.raw import fewshot, fgvc
from datasets.standins.raw import FINE_WRITERS, VTAB_WRITERS
from datasets.vtab import scenes
from datasets.vtab.raw import RAW

SIDE, BATCH = 16, 4

PICTURES = [card for card in registry.cards() if card.input == "image"]


@pytest.fixture(autouse=True)
def small_eyes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The retina at a fifth of its size, for speed."""
    monkeypatch.setattr(scenes, "RADIUS", 60)


def one_step(items: Sequence[Item], classes: int) -> None:
    """Images spread over the list; the step must change the weights and leave them finite."""
    assert items and all(0 <= item.label < classes for item in items)
    chosen = [items[i * (len(items) - 1) // (BATCH - 1)] for i in range(BATCH)]
    pictures = [sample.image.resize((SIDE, SIDE), Resampling.BICUBIC) for sample in ImageList(chosen)]
    x = torch.stack([torch.from_numpy(to_array(p).copy()) for p in pictures]).permute(0, 3, 1, 2) / 255.0
    torch.manual_seed(0)
    model = VisionTransformer(img_size=SIDE, patch_size=8, embed_dim=12, depth=1, num_heads=2, num_classes=classes)
    before = model.patch_embed.proj.weight.detach().clone()
    loss = torch.nn.functional.cross_entropy(model(x), torch.tensor([item.label for item in chosen]))
    loss.backward()  # type: ignore[no-untyped-call]
    torch.optim.SGD(model.parameters(), 0.1).step()
    after = model.patch_embed.proj.weight
    assert torch.isfinite(loss) and torch.isfinite(after).all() and not torch.equal(before, after)


@pytest.mark.parametrize("card", PICTURES, ids=lambda card: card.name)
def test_one_step_from_the_list_layout(card: Card, data_root: Path, suite_root: Path, package_root: Path) -> None:
    root = {"fewshot": suite_root, "shift": suite_root, "real": package_root}.get(card.group, data_root)
    one_step(card.items(root, "trainval" if "trainval" in card.splits else "test"), card.classes)


def bag(texts: Sequence[Text], embed: torch.nn.EmbeddingBag) -> torch.Tensor:
    """(B, D): the mean over a text's words, each known by a hash of it; of two texts one behind the other."""
    ids = [[int.from_bytes(sha256(word.encode()).digest()[:4], "big") % embed.num_embeddings
            for word in f"{text.a} {text.b or ''}".split()] for text in texts]
    starts = [sum(map(len, ids[:i])) for i in range(len(ids))]
    found: torch.Tensor = embed(torch.tensor([i for row in ids for i in row]), torch.tensor(starts))
    return found


@pytest.mark.parametrize("card", [c for c in registry.cards() if c.input != "image"], ids=lambda card: card.name)
def test_one_step_on_texts_and_pairs(card: Card, text_root: Path) -> None:
    items = card.items(text_root, "trainval")
    chosen = [items[i * (len(items) - 1) // (BATCH - 1)] for i in range(BATCH)]
    held = [item.image for item in chosen]
    torch.manual_seed(0)
    embed, head = torch.nn.EmbeddingBag(64, 12), torch.nn.Linear(12, card.classes if card.task == "classify" else 1)
    look = torch.nn.Linear(3 * SIDE * SIDE, 12)
    before = embed.weight.detach().clone()
    features = bag([one.text if isinstance(one, Pair) else one for one in held if isinstance(one, Text | Pair)], embed)
    if card.task == "match":
        pictures = [open_rgb(one.image).resize((SIDE, SIDE)) for one in held if isinstance(one, Pair)]
        x = torch.stack([torch.from_numpy(to_array(p).copy()) for p in pictures]).flatten(1) / 255.0
        loss = torch.nn.functional.cross_entropy(look(x) @ features.T, torch.arange(BATCH))
    elif card.task == "regress":
        loss = torch.nn.functional.mse_loss(head(features)[:, 0], torch.tensor([item.label for item in chosen]))
    else:
        loss = torch.nn.functional.cross_entropy(head(features), torch.tensor([int(item.label) for item in chosen]))
    loss.backward()  # type: ignore[no-untyped-call]
    torch.optim.SGD(embed.parameters(), 0.1).step()
    assert len(features) == BATCH and torch.isfinite(loss) and not torch.equal(before, embed.weight)


def raw_items(key: str, root: Path) -> Sequence[Item]:
    """What the raw reader lists of a set, the images to train on where the raw form says which those are."""
    folder = root / (VTAB_WRITERS | FINE_WRITERS)[key][0]
    if key in RAW:
        pools = RAW[key].read(folder)
        return [Item(record.image, record.label) for record in pools.get("train", pools.get("all", []))]
    if key in fgvc.READERS:
        base = next((b for b in (folder, *folder.iterdir()) if (b / "images").is_dir()), folder)
        rows = fgvc.READERS[key](folder)["train"]
        rank = {identifier: label for label, identifier in enumerate(sorted({i for _, i in rows}))}
        return [Item(base / path, rank[identifier]) for path, identifier in rows]
    if key in fewshot.READERS:
        images = fewshot.split(fewshot.READERS[key](folder))["train"]
        return [Item(image.source, image.label) for image in images]
    assert key == "imagenet1k"  # its class folders are its raw form
    return registry.get(key).items(root, "train")


SETS = {card.facts["set"]: card.classes for card in registry.cards("fewshot")}


@pytest.mark.parametrize("key", [*VTAB_WRITERS, *FINE_WRITERS])
def test_one_step_from_the_raw_form(key: str, raw_root: Path) -> None:
    one_step(raw_items(key, raw_root), SETS.get(key) or registry.get(key).classes)


def test_every_card_has_a_raw_form_or_is_read_as_it_is_distributed() -> None:
    raw = {*VTAB_WRITERS, *FINE_WRITERS}
    rest = [card for card in PICTURES if card.facts.get("set", card.name) not in raw]
    assert {card.group for card in rest} == {"shift", "real"}, "class folders, official lists, packages, digits"
