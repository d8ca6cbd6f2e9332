"""What a suite is, the protocols that suites share, and the register of suites. No torch."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from results.pools import Pool

from ..engine.backbones import DISTILLED, EMBEDDED, EMBEDDED_TEXT, PAIR, TEXT, decodes, family

SMALL_PAIR = f"{DISTILLED}:{EMBEDDED_TEXT}"  # of pictures with captions: both embedded
VIT_B = "vit_base_patch16_224.augreg_in21k"
CORE = ("linear", "full", "bitfit", "vpt", "adapter", "lora", "lora+pace", "full+tpgm(proj_every=2)")
GROUPS = {"natural": "Natural", "specialized": "Specialized", "structured": "Structured", "fgvc": "FGVC",
          "imagenet": "ImageNet-1k", "real": "Real data", "id": "In distribution", "ood": "Out of distribution",
          "ood_all": "The same, among all classes",
          **{f"shots{n}": f"{n} shot{'s' if n > 1 else ''}" for n in (1, 2, 4, 8, 16)},
          "fewshot": "Few-shot", "shift": "Shift", "glue": "GLUE", "text": "Real texts",
          "captions": "Pictures and captions", "own": "Your own images", "other": "Others"}

# What every method of a suite shares. PEFT practice on VTAB-1k, see the README's fairness rules.
VTAB = dict(epochs=100, batch_size=64, eval_batch_size=256, lr=1e-3, weight_decay=1e-4, warmup_epochs=10,
            augment="none", normalise="native", precision="fp32", optimizer="adamw", schedule="cosine", clip=0.0,
            drop_path=0.1, head_lr_scale=1.0, drop_last=True, attention="fused", holdout=0.1, label_smoothing=0.0,
            decay="timm")
# Small images, few of them, a small network: small batches, no DropPath. Its weight decay is the one of the committed
# runs; DECAYED says what that means.
SMALL = VTAB | dict(epochs=5, batch_size=8, eval_batch_size=100, lr=1e-2, warmup_epochs=1, clip=1.0, drop_path=0.0,
                    drop_last=False, decay="matrices")
DECAYED = ("In rows that train the whole network, weight decay shrinks class token and positions too, which the suites "
           "of real data spare: on two sets that moved the accuracy of full by nothing and its test loss by 1e-6.")
SUFFIX = "-standin"  # of the miniature of a suite that needs real data


@dataclass(frozen=True)
class Tuning:
    """How `tune` searches this suite when the command line says nothing else."""

    datasets: tuple[str, ...] = ()  # one setting for all sets, chosen on val of these; () for a setting per data set
    sampler: Literal["grid", "random", "tpe"] = "tpe"
    search: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)  # in place of the methods' own spaces
    own: Mapping[str, Mapping[str, tuple[Any, ...]]] = field(default_factory=dict)  # adapter -> words that go before

    def space(self, adapter: str) -> dict[str, tuple[Any, ...]]:
        """What is searched for the methods of an adapter; empty: their own spaces."""
        return {**self.search, **self.own.get(adapter, {})}


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
    rates: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # method text -> fields chosen for it
    per_dataset: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # data set -> fields, and part.option
    also_test: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # data set -> further test sets
    per_backbone: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # backbone -> fields
    carries: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # backbone -> its part of the methods
    tuning: Tuning = Tuning()
    budget: str = ""
    pool: Pool = "plain"  # of the suite's own methods with the settings that it brings along
    cost: str = ""
    reference: str = "linear"  # the row that others are compared with
    kind: Literal["table", "fewshot", "shift"] = "table"
    zero_shot: bool = False  # heads start from the names of the classes, whose embeddings the user gives (--head)

    def shows(self, backbone: str, text: str) -> bool:
        """Whether a method stands on a backbone: all that were typed, and of the suite's own those that it carries."""
        return text not in self.methods or text in self.carries.get(backbone, self.methods)


Maker = Callable[[], Suite]
SUITES: dict[str, Maker] = {}


def suite(make: Maker) -> Maker:
    """Register a function under its name, `_` written as `-`; its docstring's first line is the suite's card."""
    SUITES[make.__name__.replace("_", "-")] = make
    return make


def find(name: str) -> Maker | None:
    """The suite of this name, or the miniature of the suite that bears it without the suffix; None for neither."""
    if name in SUITES:
        return SUITES[name]
    make = SUITES.get(name.removesuffix(SUFFIX)) if name.endswith(SUFFIX) else None
    return (lambda: miniature(make())) if make is not None and not make().standins else None


def about(name: str) -> str:
    """The docstring of a suite's function."""
    return inspect.getdoc(SUITES[name.removesuffix(SUFFIX)]) or ""


def miniature(suite: Suite) -> Suite:
    """The same methods on the stand-ins of the same data sets, with the embedded backbone, one seed, minutes.

    One of pairs takes small towers; one of T5's decoder keeps its backbone, for none is embedded.
    """
    families = {family(name) for name in suite.backbones}
    small = suite.backbones if any(map(decodes, suite.backbones)) else (
        SMALL_PAIR if PAIR in families else EMBEDDED_TEXT if TEXT in families else EMBEDDED,)
    told = "" if small == suite.backbones else (
        f", the backbone is {small[0]}" if PAIR in families else ", the backbone is the embedded one")
    heads = ", heads are new ones and know no class names" if suite.zero_shot else ""
    rates = {method: {k: v for k, v in values.items() if k not in ("epochs", "batch_size", "lr", "warmup_epochs")}
             for method, values in suite.rates.items()}
    per = {name: {k: v for k, v in values.items() if "." in k} for name, values in suite.per_dataset.items()}
    kept = {k: v for k, v in suite.protocol.items() if k in ("optimizer", "schedule", "normalise", "decay",
                                                            "loss")}
    return replace(
        suite, name=suite.name + SUFFIX, title=f"{suite.title}, in miniature on stand-ins",
        note=f"Stand-ins are generated miniatures written in the real formats{told}{heads}: they show that the suite "
             f"works and say nothing about the data sets whose names they bear. {suite.note}",
        backbones=small, seeds=suite.seeds[:1],
        protocol=SMALL | kept | {"augment": "none"}, standins=True, rates=rates, per_dataset=per,
        per_backbone={}, carries={}, budget="not tuned: one common recipe", pool="plain",
        zero_shot=False,
        cost="some seconds for each run on one core")
