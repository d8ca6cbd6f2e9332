"""Backbones that we know by name: those whose weights lie in the repository, timm's usual ones, families. No torch."""

from __future__ import annotations

import re
from pathlib import Path

from methods import towers

from ..embedded import language
from . import halves, packaged

EMBEDDED = "regatta_vit_48"  # of the demo, of stand-ins and of every miniature
DISTILLED = "regatta_vit_64"
SHIPPED = {EMBEDDED: ("weights.safetensors", 48), DISTILLED: ("distilled.safetensors", 64)}  # file, pixels on a side
EMBEDDED_TEXT = language.NAME
SHIPPED_TEXT = {EMBEDDED_TEXT: ("text.safetensors", language.TOWER)}  # file, tower; beside it tokenizer.json
HERE = Path(__file__).parents[1] / "embedded"
USUAL = 224  # pixels on a side, in most papers
FAMILIES = {"eva": r"eva02|eva_giant|vit_pe_|vit_\w+_(dinov3|lingbot|sapiens2|rope)",
            "vit": r"regatta_vit|vit_|deit|test_vit|flexivit|aimv2|beit3|eva_large",
            "beit": r"beit_|beitv2", "swinv2": r"swinv2_(?!cr)", "swin": r"swin_",
            "resnet": r"resnet|resnext|(se|eca)resne[xt]|wide_resnet|test_resnet",
            "convnext": r"convnext|test_convnext", "mobilenet": r"(tf_)?mobilenetv[34]_",
            "efficientnet": r"(tf_|test_)?efficientnet|mobilenetv[12]_|(se)?mnasnet|(tf_)?mixnet|tinynet"}
KNOWN = {
    EMBEDDED: "small ViT with weights in this repository, pre-trained on generated scenes; runs anywhere",
    DISTILLED: "small ViT with weights in this repository, distilled from EfficientNet-Lite0 (Apache-2.0) on Open Clip "
               "Art (public domain) and Fashion-MNIST (MIT), less every card's val and test images (docs/embedded.md)",
    EMBEDDED_TEXT: "small BERT for texts with weights in this repository, pre-trained on generated sentences; runs "
                   "anywhere (docs/embedded.md)",
    "vit_base_patch16_224.augreg_in21k": "ViT-B/16, ImageNet-21k, AugReg: the harness's default for real data",
    "vit_base_patch16_224.orig_in21k": "ViT-B/16, ImageNet-21k, original weights: what most papers used",
    "vit_large_patch16_224.augreg_in21k": "ViT-L/16, ImageNet-21k, AugReg",
    "vit_small_patch16_224.augreg_in21k": "ViT-S/16, ImageNet-21k, AugReg",
    "vit_tiny_patch16_224.augreg_in21k": "ViT-Ti/16, ImageNet-21k, AugReg",
    "swin_base_patch4_window7_224.ms_in22k": "Swin-B, ImageNet-22k",
    "resnet50.a1_in1k": "ResNet-50, ImageNet-1k",
    "convnext_tiny.fb_in22k": "ConvNeXt-T, ImageNet-22k",
}
TEXT = "text"  # the family of text towers, which are none of timm's
DECODER = ".decoder"  # behind a T5's name: with its decoder, which answers in the labels' words
PAIR = "pair"  # of a tower for pictures with one for texts, as regatta_vit_64:minilm.package


class BackboneError(ValueError):
    """No such backbone, or its weights are not here; one sentence for the user."""


def plain(name: str) -> str:
    """A name without the mark of a package, or of a decoder; of a text tower in this repository all its numbers."""
    return SHIPPED_TEXT[name][1] if name in SHIPPED_TEXT else packaged.plain(name).removesuffix(DECODER)


def spoken(name: str) -> list[str]:
    """The names of KNOWN backbones that are called so in papers: `ViT-B/16`, `vit-b`, `resnet 50`."""
    said = _squeezed(name)
    return [known for known, about in KNOWN.items() if len(said) > 3 and _squeezed(about).startswith(said)]


def _squeezed(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.lower())


def is_text(name: str) -> bool:
    """Whether it is a text tower."""
    return towers.is_tower(plain(name))


def tower_of(name: str) -> towers.Tower:
    """The text tower of a name, or of a pair's second half. Raises TowerError where its numbers can be none."""
    full = plain(halves.text_of(name))
    try:
        found = towers.tower(full)
    except ZeroDivisionError:
        found = None
    if found is None or min(found.width, found.heads, found.hidden) < 1:
        raise towers.TowerError(f"{full!r} is no text tower: its width and its heads are at least 1")
    return found


def decodes(name: str) -> bool:
    """Whether a backbone answers by a decoder."""
    return towers.is_tower(name) and name.endswith(DECODER)


def family(name: str) -> str:
    """A key of FAMILIES, or the name itself where we know nothing about it.

    Told by the beginning of the name, at once; a test compares it with the classes that timm builds.
    """
    if halves.is_pair(name):
        return PAIR
    if is_text(name):
        return TEXT
    for known, beginning in FAMILIES.items():
        if re.match(beginning, name):
            return known
    return name.partition(".")[0]
