"""Where a run stands: put back before its next step, stored between two steps when it is time, or stopped there."""

from __future__ import annotations

import math
import time

from results.schema import Status

from .build import Built
from .checkpoint import STOP, Checkpoints, Interrupted
from .course import Course, set_train_mode
from .loaders import TuneData
from .putback import random_state, restore_random, restore_weights, weights_of
from .seeds import seed_all


class Standing:
    """A run between two steps. `saver` None stores nothing; `deadline` is a reading of `time.monotonic`."""

    def __init__(self, run: Built, course: Course, data: TuneData, saver: Checkpoints | None = None,
                 deadline: float = math.inf) -> None:
        self.run, self.course, self.data, self.saver, self.deadline = run, course, data, saver, deadline
        self.began = time.perf_counter()  # of this attempt's training

    def put_back(self) -> None:
        """Ready for the first step, or for the one after the last checkpoint."""
        set_train_mode(self.run.fit)
        seed_all(self.run.spec.seed, "train")
        state = self.saver.load(self.run.device, self.run.spec.until) if self.saver is not None else None
        if self.saver is not None and state is not None:
            restore_weights(self.run.fit.model, state["weights"])
            self.run.optimizer.load_state_dict(state["optimizer"])
            self.run.method.restore(state["parts"])
            if self.run.holdout is not None:
                self.run.holdout.position = state["holdout"]
            self.course.put_back(state["course"])
            self.data.resume(self.course.passes)
            self.run.fit.step = self.saver.resumed_from
            restore_random(state["random"])
        self.began = time.perf_counter()

    def after_step(self) -> None:
        """Store where the run stands when it is time to, and stop when that is wanted: raises Interrupted."""
        stop: Status | None = STOP.wanted or ("timeout" if time.monotonic() > self.deadline else None)
        if self.saver is not None and (stop or self.saver.due()):
            self._save(self.saver)
        if stop:
            raise Interrupted(stop, self.run.fit.step)

    def after_epoch(self) -> None:
        """Store it after every so many epochs too, the last apart; and where the spec stops the run before its end."""
        spec, epoch = self.run.spec, self.course.epoch
        if self.saver is not None and epoch < spec.epochs and (epoch == spec.until or self.saver.due(epoch)):
            self._save(self.saver)

    def _save(self, saver: Checkpoints) -> None:
        self.course.read()  # a loss that is not finite ends the run here, and nothing of it is stored
        course = dict(vars(self.course))
        course["train_s"] += time.perf_counter() - self.began
        course["passes"] = self.data.test_passes
        saver.save(self.run.fit.step, {
            "course": course, "weights": weights_of(self.run.fit.model),
            "optimizer": self.run.optimizer.state_dict(), "parts": self.run.method.state(), "random": random_state(),
            "holdout": self.run.holdout.position if self.run.holdout else 0})
