"""Several finished runs as one: their probabilities averaged (an ensemble) or their weights (a soup), tested once.

    Caruana, Niculescu-Mizil, Crew & Ksikes, ICML 2004: ensemble selection (the choice itself is `tuning.ensembles`)
    Wortsman et al., ICML 2022 (arXiv:2203.05482): uniform and greedy soups
    Jang, Yun & Han, ECCV 2024 (arXiv:2403.19522): Model Stock, a mean drawn towards the start, tensor by tensor

Nothing is chosen here: who takes part, and how often, stands in the spec before test is opened. The stored weights of
each ingredient are loaded into a model of its own spec; a soup is of one such model, so its ingredients must have had
one start.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from datasets import registry
from datasets.images import split_hash
from methods import weights
from methods.base import Adapter
from methods.grammar import MethodError
from methods.weights import StoredError
from results.schema import RunResult, RunSpec

from .build import Built
from .evaluate import Found, Predictions, from_probabilities, metrics_of, predict
from .loaders import TuneData
from .session import Session
from .where import Where

Weights = dict[str, Tensor]


@dataclass(frozen=True)
class Ingredient:
    """A finished run that takes part, `times` over; `weights` is its stored file."""

    record: RunResult
    weights: Path
    times: int = 1

    @property
    def spec(self) -> RunSpec:
        return self.record.spec


def opened(spec: RunSpec, where: Where) -> TuneData:
    """The data as the spec's phase may see them, nothing left to train."""
    data = Session(spec, registry.get(spec.dataset, where.data_root), where).data()
    data.finish_training()
    return data


def begun(one: Ingredient, like: RunSpec, where: Where, data: TuneData) -> Built:
    """The ingredient's model before training; `like` has the phase in which it is asked."""
    spec = replace(one.spec, phase=like.phase, fold="", until=0, combined="", ingredients=())
    return Built(spec, registry.get(spec.dataset, where.data_root), where, data, prepare=False)


def trained(parts: Sequence[Ingredient], like: RunSpec, where: Where, data: TuneData) -> Iterator[tuple[Built, float]]:
    """(each ingredient's model with its stored weights, its share), one after the other."""
    for one in parts:
        run = begun(one, like, where, data)
        weights.load(one.weights, run.fit.model, backbone=one.spec.model, backbone_hash=one.spec.weights,
                     method=run.method.text.text(full=True))
        yield run, one.times / sum(p.times for p in parts)


def tested(models: Iterator[tuple[Built, float]], where: Where, data: TuneData) -> tuple[Found, str]:
    """(mean predictions on test, hash of its items); the split is read once, for all the models."""
    images = data.test()
    total, label = None, None
    for run, share in models:
        told = predict(run.method, run.judged(), run.splits.of(images), probabilities=True)
        if share == 1.0:  # one model: its own margins, from its logits
            return told, split_hash(images.items, where.data_root)
        if not isinstance(told, Predictions) or told.probabilities is None:
            raise MethodError("answers that are numbers and no classes have no probabilities to average")
        part = share * told.probabilities.astype(np.float64)
        total, label = part if total is None else total + part, told.label
    assert total is not None and label is not None
    return from_probabilities(total, label), split_hash(images.items, where.data_root)


# Soups.

class Soup:
    """The weights of runs that began alike, ready to be averaged; raises StoredError where they did not."""

    def __init__(self, spec: RunSpec, parts: Sequence[Ingredient], where: Where, data: TuneData) -> None:
        self.spec, self.where, self.data = spec, where, data
        start: Weights | None = None
        frozen: dict[str, str] = {}
        self.all: list[Weights] = []
        for one in parts:
            self.run = begun(one, spec, where, data)
            if type(self.run.method.adapter).prepare is not Adapter.prepare:
                raise StoredError(f"{spec.method} begins where its training images lead it, each run elsewhere; there "
                                  "is no soup of it")
            own = {n: t.detach().clone() for n, t in weights.trained(self.run.fit.model).items()}
            rest = {n: _digest(t) for n, t in self.run.fit.model.state_dict().items() if n not in own}
            frozen = frozen or rest
            apart = next((n for n in rest if rest[n] != frozen[n]), "") or next(
                (n for n in own if start is not None and not torch.equal(own[n], start[n])), "")
            if apart:
                raise StoredError(f"runs of {spec.method} with seeds {parts[0].spec.seed} and {one.spec.seed} do not "
                                  f"begin alike: {apart!r} differs"
                                  + ("; `--set head_seed=0` gives all seeds one head" if apart in self.run.fit.head
                                     else ", which is drawn from the seed; take configurations of one seed"))
            start = own
            self.all.append(load_file(one.weights))
        assert start is not None
        self.start = start
        moved = [n for n, _ in self.run.fit.model.named_buffers() if n in start
                 and any(not torch.equal(w[n], self.all[0][n]) for w in self.all)]
        if moved:
            raise StoredError(f"the statistics {moved[0]!r} moved in training, and a mean of them is none of the "
                              "averaged weights; there is no soup of these runs")

    def put(self, mixed: Weights) -> Built:
        """A model with these weights; the last ingredient's spec, whose method all share."""
        with torch.no_grad():
            for name, tensor in weights.trained(self.run.fit.model).items():
                tensor.copy_(mixed[name])
        return self.run

    def val(self, mixed: Weights) -> float:
        """Top-1 on the validation images, or the data set's own score."""
        run = self.put(mixed)
        assert self.data.val is not None
        found = predict(run.method, run.judged(), run.splits.of(self.data.val))
        told = metrics_of(found, "val", metric=run.card.metric)
        value = told.get("val.score", told.get("val.top1"))
        return -1.0 if value is None else value


def _digest(tensor: Tensor) -> str:
    return sha256(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes()
                  if tensor.ndim else str(tensor.item()).encode()).hexdigest()


def uniform(every: Sequence[Weights]) -> Weights:
    """The mean of each tensor, summed in float64."""
    return {n: (sum(w[n].double() for w in every) / len(every)).to(t.dtype) if t.is_floating_point() else t  # type: ignore[union-attr]
            for n, t in every[0].items()}


def greedy(soup: Soup) -> list[int]:
    """Which go in, the ingredients being given best first: each that does not lower validation accuracy."""
    taken, best = [0], soup.val(soup.all[0])
    for i in range(1, len(soup.all)):
        found = soup.val(uniform([soup.all[k] for k in (*taken, i)]))
        if found >= best:
            taken, best = [*taken, i], found
    return taken


def model_stock(every: Sequence[Weights], start: Weights) -> Weights:
    """t x mean + (1 - t) x start of each tensor, t = N cos / (1 + (N - 1) cos), cos the mean over pairs of the angle
    between what two runs have moved. What points apart is left at the start: t is not below 0."""
    mean, count = uniform(every), len(every)
    mixed = {}
    for name, tensor in mean.items():
        if not tensor.is_floating_point():
            mixed[name] = tensor
            continue
        moved = [(w[name].double() - start[name].double()).flatten() for w in every]
        angles = [float(a @ b / (a.norm() * b.norm())) if a.any() and b.any() else 1.0
                  for a, b in combinations(moved, 2)]
        cosine = math.fsum(angles) / len(angles) if angles else 1.0
        share = max(0.0, count * cosine / (1 + (count - 1) * cosine)) if 1 + (count - 1) * cosine > 0 else 0.0
        mixed[name] = (share * tensor.double() + (1 - share) * start[name].double()).to(tensor.dtype)
    return mixed
