"""Every tuner of Hugging Face's peft that runs on timm's linear layers, as one adapter: `peft(type='vera', r=64)`.

The layers are chosen by full paths, for a suffix such as `proj` would also catch the patch embedding. The head is made
afterwards, because a tuner freezes all that it did not make. peft puts its layer in the place of the one it tunes and
renames that; here the plain layer keeps its place and names and the tuner hangs below it (`Tuned`), so that what is
frozen, stored, counted and merged is called as in the plain backbone.

peft is an extra and takes seconds to import, with a thousand modules: it is imported in `build` alone. New weights are
drawn from the run's seed; what a tuner draws from a seed of its own (`key`) does not vary with the run, and is not
stored. Longer than a method's file usually is, for it refuses thirteen types with a reason each.
"""

from __future__ import annotations

import re
import sys
import warnings
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from ..base import Adapter, Feature
from ..compose import part
from ..faults import lacking
from ..grammar import MethodError, NeedsNumbers
from ..insertion import AdaptedLinear, Site, fold_linears, linears, require
from ..vit import freeze, head_names, replace_head
from .peft_words import QUIET, START, UNMERGED, exactly, read_options, settings


class Under(AdaptedLinear):
    """The plain layer below a tuner: of its own type, so that nobody rounds the weights that the tuner reads."""


class Tuned(AdaptedLinear):
    """The plain layer in its place, computing what the tuner's layer computes; both hold the same weight and bias."""

    def __init__(self, base: nn.Linear, tuner: nn.Module) -> None:
        super().__init__(base)
        tuner.base_layer = Under(base)
        self.tuner = tuner.train(base.training)

    def forward(self, x: Tensor) -> Tensor:
        """(..., i) -> (..., o)."""
        y: Tensor = self.tuner(x)
        return y

    def plain(self) -> nn.Linear:
        """The layer with the tuner folded in; this one is used up."""
        with torch.no_grad():
            self.tuner.merge(safe_merge=True)  # type: ignore[operator]
        base = self.tuner.get_base_layer()  # type: ignore[operator]
        assert isinstance(base, nn.Linear)
        return base


@part("peft")
class Peft(Adapter):
    """A tuner of Hugging Face's peft (an extra) beside the linear layers of the blocks."""

    title = "peft"
    paper = "Hugging Face's peft (Mangrulkar et al., 2022); each type's own paper is named in its documentation"
    ours = ("peft's defaults for what is not named; on all four linear layers of a block, qkv as one; no decay of "
            "ia3_l, boft_s, randlora_gamma and of vectors")
    formula = "what the tuner adds, counted after it is built"
    requires = ("peft",)
    offers: ClassVar[frozenset[Feature]] = frozenset({"anchor", "tokens"})
    lacks_if: ClassVar[dict[str, frozenset[str]]] = {
        "type in ('c3a', 'fourierft', 'unilora', 'vblora') or 'init' in options": frozenset({"anchor"})}
    families: ClassVar[frozenset[str]] = frozenset({"vit", "swin"})
    mergeable = True
    unmerged_if = "type == 'lily'"
    sparse_if = "type in ('frod', 'shira')"  # a step works on sparse tensors, which have no forecast
    at_start = "near"
    search = {"lr": (3e-4, 3e-2, "log")}
    recipe_from = ("the papers of its tuners have settings of their own, for language models; none are the library's "
                   "for images")

    lists: ClassVar[dict[str, tuple[str, ...]]] = {"targets": ("qkv", "proj", "fc1", "fc2")}
    lists_why: ClassVar[dict[str, str]] = {
        "targets": "q, k and v are one layer to peft; adapters of our own such as lora take them apart"}
    refused: ClassVar[dict[str, dict[str, str]]] = {"type": {
        "adalora": "it needs its ranks set anew in every step and a loss that only models of transformers add",
        "ln_tuning": "on a linear layer it trains a copy of the whole layer; norms alone are trained by ln_tune",
        "poly": "it wants the number of a task in every forward pass",
        "trainable_tokens": "it trains word embeddings, and a backbone here has none",
        "adaption_prompt": "it needs a language model of transformers", "xlora": "it needs a language model of "
        "transformers", "shadow": "it needs a language model of transformers",
        "cpt": "its prompts need a language model of transformers; vpt_deep is ours",
        "cartridge": "its prompts need a language model of transformers; vpt_deep is ours",
        "prompt_tuning": "its prompts need a language model of transformers; vpt_shallow is ours",
        "multitask_prompt_tuning": "its prompts need a language model of transformers; vpt_shallow is ours",
        "p_tuning": "its prompts need a language model of transformers; vpt_shallow is ours",
        "prefix_tuning": "its prefixes need a language model of transformers; vpt_deep is ours"}}
    checks: ClassVar[dict[str, str]] = {
        "r is None or type not in ('beft', 'frod', 'ia3', 'supertuning')": "this type has no rank; leave r out",
        "alpha is None or type in ('deft', 'delora', 'fourierft', 'gralora', 'lily', 'loha', 'lokr', 'lora', 'peanut', "
        "'psoft', 'randlora', 'waveft')": "this type has no scale; leave alpha out",
        "key is None or type in ('adamss', 'fourierft', 'frod', 'psoft', 'pvera', 'randlora', 'shira', 'tinylora', "
        "'unilora', 'vera', 'waveft')": "this type draws nothing from a seed of its own; leave key out"}

    type: Annotated[Literal[
        "vera", "adamss", "beft", "boft", "c3a", "deft", "delora", "fourierft", "frod", "glora", "gralora", "hira",
        "hra", "ia3", "lily", "loha", "lokr", "lora", "miss", "oft", "osf", "peanut", "psoft", "pvera", "randlora",
        "road", "shira", "supertuning", "tinylora", "unilora", "vblora", "waveft"],
        "peft's name of the tuner, in small letters; lily cannot be merged, fourierft starts elsewhere"] = "vera"
    r: Annotated[int | None, ">= 1", "rank; blocks' size of boft, c3a, oft, groups' of road; frequencies of "
                                     "fourierft, waveft; None: peft's default"] = None
    alpha: Annotated[float | None, "> 0", "its scale, where the type has one; None: peft's default"] = None
    targets: Annotated[str, "what is tuned: some of qkv, proj, fc1, fc2 joined by commas, or 'all'"] = "all"
    key: Annotated[int | None, ">= 0", "the tuner's own seed, of projections and places; None: peft's default"] = None
    options: Annotated[str, "further options in peft's own words, as in 'use_dora=True, lora_dropout=0.1'"] = ""

    def __post_init__(self) -> None:
        read_options(self.options)
        vars(self).update(at_start=START.get(self.type, "exact"), mergeable=self.type not in UNMERGED)

    def build(self, backbone: nn.Module, classes: int) -> nn.Module:
        require(self, backbone)
        sites = [s for s in linears(backbone) if self.targets == "all" or s.role in self.targets.split(",")]
        library()  # before anything is changed
        bare = [s.path for s in sites if s.linear.bias is None]
        if self.type == "beft" and bare:
            raise MethodError(f"peft(type='beft') trains what is added to a bias, and {bare[0]} has none")
        freeze(backbone)
        self._inject(backbone, sites)
        for site in sites:
            layer = backbone.get_submodule(site.path)
            if layer is site.linear or layer.get_base_layer() is not site.linear:  # type: ignore[operator]
                raise MethodError(f"peft(type={self.type!r}) leaves {site.path} as it was")
            backbone.set_submodule(site.path, Tuned(site.linear, layer).to(site.linear.weight.dtype))
        if not any(p.requires_grad for p in backbone.parameters()):
            raise MethodError(f"peft(type={self.type!r}) trains nothing on this backbone")
        return replace_head(backbone, classes)

    def _inject(self, backbone: nn.Module, sites: list[Site]) -> None:
        """Let the tuner put its layers in. Raises MethodError with peft's words, NeedsNumbers on the meta device."""
        from peft import PeftType
        from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_TUNER_MAPPING

        kind = getattr(PeftType, self.type.upper(), None)
        if kind is None:
            raise MethodError(f"the installed peft has no {self.type!r}; install the version of constraints.txt")
        known = {f.name for f in fields(PEFT_TYPE_TO_CONFIG_MAPPING[kind])}
        told = settings(self.type, self.r, self.alpha, self.key, self.options)
        if wrong := sorted(told.keys() - known):
            raise MethodError(f"peft's {self.type!r} has no option {wrong[0]!r}; it has: {', '.join(sorted(known))}")
        told = {k: v for k, v in QUIET.items() if k in known} | told
        if "feedforward_modules" in known:  # IA3 scales the input of these, the output of the others
            told["feedforward_modules"] = exactly([s.path for s in sites if s.role == "fc2"])
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                told["target_modules"] = exactly([s.path for s in sites])
                PEFT_TYPE_TO_TUNER_MAPPING[kind](backbone, PEFT_TYPE_TO_CONFIG_MAPPING[kind](**told), "default")
        except Exception as error:
            if any(s.linear.weight.is_meta for s in sites) and not isinstance(error, ValueError):
                raise NeedsNumbers(f"peft's {self.type!r} starts from the numbers of the weights") from error
            said = re.sub(r"\s+", " ", str(error)).strip()
            raise MethodError(f"peft refuses type {self.type!r} with these options: {said or type(error).__name__}"
                              ) from error

    def anchors(self, model: nn.Module) -> dict[str, Tensor]:
        """All trained tensors as they start, where the start is the pre-trained function."""
        head = head_names(model)
        return {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad and n not in head}

    def merge(self, model: nn.Module) -> nn.Module:
        if self.type in UNMERGED:
            raise MethodError(f"peft(type={self.type!r}) cannot be merged: what it adds depends on the input")
        for path, module in list(model.named_modules()):
            if isinstance(module, Tuned):
                model.set_submodule(path, module.plain())
        return fold_linears(model)


def library() -> Any:
    """peft, imported. Raises MethodError where it is not installed, or brings another package called `datasets`."""
    if missing := lacking(Peft.requires):
        raise MethodError(f"'peft' {missing}")
    ours = Path(__file__).resolve().parents[2]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import peft
    loaded = getattr(sys.modules.get("datasets"), "__file__", None)
    if loaded and not Path(loaded).resolve().is_relative_to(ours):
        raise MethodError("importing peft brought another package called 'datasets' in; run from the checkout's root")
    return peft
