"""Suites of few shots and of distribution shift: NOAH's few-shot lists, ImageNet's shifted test sets, DomainNet."""

from __future__ import annotations

from datasets import registry

from .base import VIT_B, VTAB, Suite, suite

METHODS = ("linear", "bitfit", "vpt", "adapter", "lora", "lora+pace")
ROBUST = ("linear", "full", "lora", "lora+pace", "full+wise", "full+tpgm(proj_every=2)")
SHIFTED = ("imagenetv2", "imagenet_sketch", "imagenet_a", "imagenet_r", "imagenet_c")
DOMAINS = ("domainnet_sketch", "domainnet_painting", "domainnet_infograph", "domainnet_clipart")
MASKED = ("A and R hold 200 of the 1,000 classes: they are scored among those (masks imagenet_a, imagenet_r), as most "
          "of the field does, and apart among all. C is the mean over its 15 corruptions at 5 severities.")
FINE = {method: {"lr": 3e-5} for method in ROBUST if method.startswith("full")}


@suite
def fewshot() -> Suite:
    """5 sets x 1, 2, 4, 8, 16 shots x 3 lists x 6 methods on ViT-B/16 at 224: 450 runs.

    The three lists of each set and number of shots are the repetitions, each under seed 0; `--seeds 0 1 2` crosses
    them with seeds of training. A run trains 100 epochs over 37 to 3,136 images and tests on 2,463 to 30,300.
    """
    return Suite(
        name="fewshot", title="Few shots", datasets=tuple(registry.names("fewshot")), methods=METHODS,
        note="Food-101, Stanford Cars, Flowers-102, FGVC-Aircraft and Pets under NOAH's lists; a cell is the mean over "
             "three lists of shots. Resize 256, random crop and flip, centre crop at evaluation. The common recipe, "
             "not tuned for each number of shots.",
        backbones=(VIT_B,), seeds=(0,), protocol=VTAB | dict(augment="crop_flip"), standins=False,
        budget="not tuned: one common recipe", cost="450 runs of 3,700 to 313,600 training images at 224 pixels",
        kind="fewshot")


@suite
def shift() -> Suite:
    """ImageNet-1k x 6 methods, tested on its val, V2, Sketch, A, R and C: 6 runs of 10 epochs on ViT-B/16.

    12.8 million training images a run, then 3.9 million test images (C has 3.75 million): days on a GPU.
    """
    return Suite(
        name="shift", title="Trained on ImageNet-1k, tested under shift", datasets=("imagenet1k",), methods=ROBUST,
        note=f"No shifted image chooses anything. {MASKED}", backbones=(VIT_B,), seeds=(0,),
        protocol=VTAB | dict(epochs=10, batch_size=256, warmup_epochs=1, augment="crop_flip"), standins=False,
        rates=FINE, also_test={"imagenet1k": SHIFTED}, budget="not tuned: one common recipe",
        cost="6 runs of 12.8 million training images at 224 pixels", kind="shift")


@suite
def shift_16shot() -> Suite:
    """16 images of each ImageNet class x 3 lists x 6 methods, tested on val, V2, Sketch, A, R and C: 18 runs.

    The three lists are the repetitions. 1.6 million training images a run on ViT-B/16 at 224.
    """
    names = tuple(f"imagenet1k_16shot_s{i}" for i in range(3))
    return Suite(
        name="shift-16shot", title="Trained on 16 images a class of ImageNet-1k, tested under shift", datasets=names,
        note=f"NOAH's 16-shot lists. No shifted image chooses anything. {MASKED}", methods=ROBUST, backbones=(VIT_B,),
        seeds=(0,), protocol=VTAB | dict(augment="crop_flip"), standins=False, rates=FINE,
        also_test=dict.fromkeys(names, SHIFTED), budget="not tuned: one common recipe",
        cost="18 runs of 1.6 million training images at 224 pixels", kind="shift")


@suite
def domainnet() -> Suite:
    """DomainNet's Real x 6 methods x 3 seeds, tested on Real, Sketch, Painting, Infograph, Clipart: 18 runs.

    1.2 million training images a run on ViT-B/16 at 224. Quickdraw is never evaluated.
    """
    return Suite(
        name="domainnet", title="Trained on DomainNet's Real, tested on other domains", datasets=("domainnet_real",),
        note="The cleaned version; the mean out of distribution is over the four domains, quickdraw is left out as in "
             "TPGM. No image of another domain chooses anything.",
        methods=ROBUST, backbones=(VIT_B,), seeds=(0, 1, 2), standins=False,
        protocol=VTAB | dict(epochs=10, batch_size=256, warmup_epochs=1, augment="crop_flip"), rates=FINE,
        also_test={"domainnet_real": DOMAINS}, budget="not tuned: one common recipe",
        cost="18 runs of 1.2 million training images at 224 pixels", kind="shift")
