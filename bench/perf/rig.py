"""One method on one backbone, ready to take steps on made-up images: what the engine builds, without its data.

Speed does not depend on what the images show nor on what the weights are, so both are random; everything else (model,
parts, optimizer, step, meter) is the code that a run executes.
"""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from datasets.card import Card, Item
from methods import weights
from methods.base import Fit
from methods.grammar import MethodText, parse
from results.schema import Memory, RunSpec

from ..engine import backbones, carry, step
from ..engine.build import Built, settle_torch
from ..engine.compiling import plain_again
from ..engine.course import Course, reading, set_train_mode
from ..engine.pictures import Pictures
from ..engine.precision import settle
from ..engine.seeds import seed_all
from ..engine.where import Where
from ..planning.request import Request, UsageError
from ..planning.settings import sets
from ..suites import SUITES

CLASSES = 100
BATCHES = 10  # in the made-up training list; a tenth of it, one batch, is held out where a part wants that
MORE = {"class_query", "merged_eval"}  # switches of the spec, beside what --set knows


@dataclass(frozen=True)
class Variant:
    """A method with fields of the spec, under the name that the tables show: `lora@precision=bf16`."""

    name: str
    spec: RunSpec


def variant(text: str, backbone: str, batch_size: int, settings: Sequence[str] = (), suite: str = "custom") -> Variant:
    """`lora(rank=4)@precision=bf16,attention=plain` -> a resolved variant. Raises UsageError, MethodError."""
    method_text, _, own = text.partition("@")
    problems: list[str] = []
    stated = [*settings, *(s for s in own.split(",") if s)]
    switches = {k: v for k, _, v in (s.partition("=") for s in stated) if k in MORE}
    problems += [f"{k} must be True or False, not {v!r}" for k, v in switches.items() if v not in ("True", "False")]
    known = SUITES[suite]()
    request = Request(sets=tuple(s for s in stated if s.partition("=")[0] not in MORE), batch_size=batch_size)
    values, overrides = sets(request, known, problems)
    if problems:
        raise UsageError(problems)
    method = parse(method_text, {k: v for k, v in overrides.items()
                                 if k.partition(".")[0] in {p.name for p in parse(method_text).parts}})
    backbones.check_name(backbone)
    if backbones.family(backbone) in (backbones.TEXT, backbones.PAIR):
        raise UsageError([f"perf times backbones that read images, and {backbone!r} reads texts; name another one with "
                          "--backbone"])
    size = values.get("image_size") or backbones.image_size(backbone)
    _check_family(backbone, method, size)
    fields: dict[str, Any] = {"image_size": size, "threads": 1} | known.protocol | values
    fields |= {k: v == "True" for k, v in switches.items()}
    spec = RunSpec(dataset="made-up", model=backbone, method=method.name, options=method.options, seed=0,
                   phase="final", select="last", data="made-up", weights="random", **fields)
    return Variant(method.text() + (f"@{own}" if own else ""), spec)


def _check_family(backbone: str, method: MethodText, size: int) -> None:
    """Raises UsageError where the backbone cannot carry the method."""
    family = backbones.family(backbone)
    if family not in method.adapter.info.families:
        raise UsageError([f"{method.text()!r} cannot run on {backbone!r} (family {family})"])
    if backbone not in backbones.KNOWN and (problems := carry.problems(backbone, [method], size)):
        raise UsageError(problems)


def made_up(count: int, size: int) -> Pictures:
    """Random pixels and labels."""
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (count, 3, size, size), dtype=np.uint8)
    labels = torch.from_numpy(random.integers(0, CLASSES, count))
    return Pictures([Item(Path("made-up"), int(label)) for label in labels], labels, pixels, size, "none")


class Rig(Built):
    """Built once; then `train_once` and `predict_once` as often as wanted."""

    def __init__(self, spec: RunSpec, device: str = "cpu", pictures: Pictures | None = None) -> None:
        card = Card("made-up", "Made up", "other", CLASSES, {}, "none", "none", "none", "", "nothing", lambda *_: [])
        where = Where(Path(), None, None, device=device, deterministic=device == "cpu")
        settle_torch(spec, where)
        pictures = pictures or made_up(BATCHES * spec.batch_size, spec.image_size)
        data: Any = SimpleNamespace(train=pictures, val=None)
        super().__init__(spec, card, where, data, prepare=False)
        self.course = Course()
        set_train_mode(self.fit)
        seed_all(spec.seed, "train")
        self.batch = next(iter(self.batches.epoch(0)))
        self.merged: Fit | None = None

    def first_step(self) -> Memory:
        """One step under the meter's hooks: the ledger."""
        step.take(self, self.course, self.batch, first=True)
        self._over()
        return Memory(**self.course.memory)

    def train_once(self) -> None:
        """One training step as the loop takes it."""
        settle(self.spec.precision, self.device)  # rigs of several precisions take turns
        step.take(self, self.course, self.batch, first=False)
        self._over()

    def _over(self) -> None:
        if len(self.course.unread) >= reading(self.device):
            self.course.read()
        self.fit.step += 1

    def training(self) -> None:
        set_train_mode(self.fit)

    def evaluating(self) -> None:
        self.fit.model.eval()

    def predict_once(self) -> None:
        """Predict the batch, the adapter unmerged."""
        settle(self.spec.precision, self.device)
        with torch.no_grad():
            self.method.predict(self.fit, self.batch.x)

    def merge(self) -> bool:
        """Prepare `predict_merged`; False when the adapter cannot be folded in."""
        if not self.method.adapter.mergeable:
            return False
        model = weights.merged_copy(self.method.adapter, self.fit.model).eval()
        vars(model).pop("forward", None)  # a compiled one belongs to the original
        plain_again(model)
        self.merged = replace(self.fit, model=model, adapter=None)
        return True

    def predict_merged(self) -> None:
        """Predict the batch with the adapter folded into plain weights."""
        assert self.merged is not None
        settle(self.spec.precision, self.device)
        with torch.no_grad():
            self.merged.forward(self.batch.x)


def release(device: torch.device) -> None:
    """Give back what dead rigs held."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
