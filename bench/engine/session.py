"""One run from its spec to what its record tells, stage after stage.

    data      the images that the phase may see                    `loaders`
    build     method, backbone, model, batches, optimizer          `build`
    train     the loop, its steps, a look after each epoch         `train`, `step`, `epochend`, `resume`
    evaluate  the splits that the phase scores                     `phases`
    collect   what the record gets                                 `outcome`
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path

from datasets.card import Card
from methods import towers, weights
from results.schema import RunSpec

from . import backbones
from .build import Built, settle_torch
from .cache import ImageCache
from .checkpoint import Checkpoints
from .course import Course, Timer
from .evaluate import Found
from .follow import Follower
from .halves import text_of
from .loaders import TuneData, open_data
from .outcome import Trained, collect
from .phases import score, score_further
from .resume import Standing
from .train import train
from .where import Where
from .wording import Wording


class Session:
    """One run, once. What it has reached (`stage`, `step`, `seconds`) can be asked after it failed as well."""

    built: Built  # from stage `train` on

    def __init__(self, spec: RunSpec, card: Card, where: Where, saver: Checkpoints | None = None) -> None:
        self.spec, self.card, self.where, self.saver = spec, card, where, saver
        self.stage, self.seconds, self.course = "data", dict[str, float](), Course()
        self.deadline = time.monotonic() + where.time_limit_s if where.time_limit_s else math.inf
        self.device = settle_torch(spec, where)

    @property
    def step(self) -> int:
        """Steps taken, those of earlier attempts among them."""
        return self.built.fit.step if "built" in vars(self) else 0

    def run(self, progress: Callable[[int, int], None] | None = None) -> Trained:
        """Everything; `progress(step, steps)` is called after each step."""
        with self._timed("data"):
            data = self.data()
        self.stage = "build"
        with self._timed("build"):
            self.built = Built(self.spec, self.card, self.where, data)
        self.stage = "train"
        standing = Standing(self.built, self.course, data, self.saver, self.deadline)
        standing.put_back()
        follower = Follower(self.spec, self.where, self.course)
        follower.start()

        def stepped(step: int, steps: int) -> None:
            follower.look()
            if progress is not None:
                progress(step, steps)

        try:
            with self._timed("train"):
                train(self.built, self.course, data, standing, stepped)
            self.seconds["train"] += self.course.train_s
            self.stage = "evaluate"
            data.finish_training()
            with self._timed("evaluate"):
                scores = score(self.built, self.course, data)
                score_further(self.built, data, scores)
            follower.finish(scores.metrics)
        finally:
            follower.close()
        return collect(self.built, self.course, data, scores, self.seconds)

    def test_again(self, stored: Path) -> tuple[Found, str]:
        """(predictions on test of weights that a finished run has stored, hash of the items); nothing is trained."""
        data = self.data()
        self.built = Built(self.spec, self.card, self.where, data, prepare=False)
        weights.load(stored, self.built.fit.model, backbone=self.spec.model, backbone_hash=self.spec.weights,
                     method=self.built.method.text.text(full=True))
        data.finish_training()
        scores = score(self.built, self.course, data)
        return scores.predictions["test"], scores.hashes["test"]

    def data(self) -> TuneData:
        """The images or texts that the phase may see."""
        words = None
        if self.spec.text_length:
            file = backbones.tokenizer_file(self.spec.model, self.where.weights_file)
            asks = self.card.name if backbones.decodes(self.spec.model) else ""
            words = Wording(file, towers.tower(backbones.plain(text_of(self.spec.model))).pad, asks)
        return open_data(self.card, self.where.data_root, self.spec, ImageCache(self.where.cache_root), words)

    def _timed(self, name: str) -> Timer:
        return Timer(self.seconds, name, self.device)
