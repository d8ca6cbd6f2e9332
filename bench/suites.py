"""The suites: which data sets, methods and protocol belong together, and what they cost. No torch.

A suite is a function that returns a `Suite`; its docstring says what it costs. Stand-in suites use the embedded
backbone and generated miniatures and run anywhere; the others need real data (`DATA`) and real weights.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from datasets import registry

from .engine.backbones import EMBEDDED

VIT_B = "vit_base_patch16_224.augreg_in21k"
CORE = ("linear", "full", "bitfit", "vpt", "adapter", "lora", "lora+pace", "full+tpgm")
GROUPS = {"natural": "Natural", "specialized": "Specialized", "structured": "Structured", "fgvc": "FGVC",
          "imagenet": "ImageNet-1k", "real": "Real data", "fewshot": "Few-shot", "shift": "Shift",
          "other": "Others"}

# What every method of a suite shares. PEFT practice on VTAB-1k, see the README's fairness rules.
VTAB = dict(epochs=100, batch_size=64, eval_batch_size=256, lr=1e-3, weight_decay=1e-4, warmup_epochs=10,
            augment="none", normalise="native", precision="fp32", optimizer="adamw", schedule="cosine", clip=0.0,
            drop_path=0.1, head_lr_scale=1.0, drop_last=True, attention="fused", holdout=0.1, label_smoothing=0.0)
# Small images, few of them, a small network: small batches, no DropPath.
SMALL = VTAB | dict(epochs=10, batch_size=8, eval_batch_size=100, lr=3e-3, warmup_epochs=1, clip=1.0, drop_path=0.0,
                    drop_last=False)


@dataclass(frozen=True)
class Suite:
    """What a suite's name stands for."""

    name: str
    title: str
    note: str
    datasets: tuple[str, ...]
    methods: tuple[str, ...]
    backbones: tuple[str, ...]
    seeds: tuple[int, ...]
    protocol: dict[str, Any]  # fields of RunSpec
    standins: bool
    rates: dict[str, dict[str, Any]] = field(default_factory=dict)  # method text -> fields that were tuned for it
    budget: str = ""
    cost: str = ""


def _standin_sets() -> tuple[str, ...]:
    return tuple(registry.names("natural", "specialized", "structured", "fgvc", "imagenet"))


# Learning rates of the demo, chosen on the validation split of the stand-ins alone; tests/perf/tune_demo.py made them.
DEMO_RATES: dict[str, dict[str, Any]] = {
    "linear": {"lr": 1e-2},
    "full": {"lr": 1e-3},
    "bitfit": {"lr": 1e-2},
    "vpt": {"lr": 1e-2},
    "adapter": {"lr": 5e-3},
    "lora": {"lr": 5e-3},
    "lora+pace": {"lr": 5e-3},
    "full+tpgm": {"lr": 1e-3},
}


def demo() -> Suite:
    """25 stand-in data sets and digits x 8 methods on the embedded backbone, one seed: minutes on two cores."""
    return Suite(
        name="demo", title="Demo: 25 stand-in data sets and digits, 8 methods, embedded backbone",
        note="Stand-ins are generated miniatures written in the real formats (128 training, 32 validation, 200 test "
             "images each): they show that the program works and what its tables look like, and say nothing about the "
             "data sets whose names they bear. Digits is real (scikit-learn's 8x8 digits). Learning rates were chosen "
             "per method on the validation split of the stand-ins, never on test.",
        datasets=(*_standin_sets(), "digits"), methods=CORE, backbones=(EMBEDDED,), seeds=(0,), protocol=SMALL,
        standins=True, rates=DEMO_RATES, budget="4 learning rates on val, one for all data sets",
        cost="208 runs of about 5 s: minutes on two cores")


def vtab1k() -> Suite:
    """19 tasks x 8 methods x 3 seeds on ViT-B/16 at 224: 456 runs, about 100,000 training images each."""
    return Suite(
        name="vtab1k", title="VTAB-1k", note="19 tasks of 1000 training images each; trained on train800val200, tested "
        "once.", datasets=tuple(registry.names("natural", "specialized", "structured")), methods=CORE,
        backbones=(VIT_B,), seeds=(0, 1, 2), protocol=VTAB, standins=False,
        rates={"full": {"lr": 1e-4}, "full+tpgm": {"lr": 1e-4}}, budget="not tuned: one common recipe",
        cost="456 runs of 100,000 training images at 224 pixels: hours on a GPU, weeks on a CPU")


def fgvc() -> Suite:
    """Five fine-grained sets x 8 methods x 3 seeds on ViT-B/16 at 224: 120 runs of up to 2.1 M training images."""
    return Suite(
        name="fgvc", title="FGVC", note="Five fine-grained data sets on VPT's 90 % training lists; resize 256, random "
        "crop and flip, centre crop at evaluation.", datasets=tuple(registry.names("fgvc")), methods=CORE,
        backbones=(VIT_B,), seeds=(0, 1, 2), protocol=VTAB | dict(augment="crop_flip"), standins=False,
        rates={"full": {"lr": 1e-4}, "full+tpgm": {"lr": 1e-4}}, budget="not tuned: one common recipe",
        cost="120 runs of 100,000 to 2.1 million training images at 224 pixels")


def custom() -> Suite:
    """Whatever --datasets, --methods and --backbones name, on your data, with VTAB's common recipe."""
    return Suite(
        name="custom", title="Custom", note="Chosen on the command line.", datasets=(), methods=(), backbones=(VIT_B,),
        seeds=(0,), protocol=VTAB, standins=False, budget="not tuned: one common recipe",
        cost="depends on what you name")


SUITES: dict[str, Callable[[], Suite]] = {f.__name__: f for f in (demo, vtab1k, fgvc, custom)}
