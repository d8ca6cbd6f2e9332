"""Curves of a run while it trains, for TensorBoard: `--follow tensorboard`. Off unless asked for.

No number depends on it. What is written is the record's own: the history after each epoch, the metrics at the end,
under results/tensorboard, a folder for each run. An epoch's number is the step, so that runs of several batch sizes lie
over one another. A run that goes on from a checkpoint takes back what was written of later epochs. A follower that
cannot write says so and stops writing; the run goes on.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

from results import store
from results.schema import RunSpec

from .course import Course
from .where import Where


class Follower:
    """Writes what is new in a course's history; without a folder in `where.follow` it does nothing."""

    def __init__(self, spec: RunSpec, where: Where, course: Course) -> None:
        self.spec, self.where, self.course = spec, where, course
        self.done = 0  # epochs of the history that are written
        self.writer: Any = None

    def start(self) -> None:
        """Once the course is where the run goes on from."""
        self.done = len(self.course.history)
        if self.where.follow is None:
            return
        from torch.utils.tensorboard.writer import SummaryWriter

        place = store.path_of(self.spec, self.where.follow).with_suffix("")
        self._try(lambda: SummaryWriter(str(place), purge_step=self.done + 1))  # type: ignore[no-untyped-call]

    def look(self) -> None:
        """After a step; writes only where an epoch has ended since."""
        while self.writer is not None and self.done < len(self.course.history):
            told = self.course.history[self.done]
            self.done += 1
            self._write({k: v for k, v in told.items() if k != "epoch"}, self.done)

    def finish(self, metrics: Mapping[str, float | None]) -> None:
        """The record's metrics, at the last epoch."""
        self.look()
        self._write(metrics, len(self.course.history))

    def close(self) -> None:
        """Whatever became of the run."""
        self.look()
        if self.writer is not None:
            self._try(self.writer.close)
            self.writer = None

    def _write(self, values: Mapping[str, float | None], epoch: int) -> None:
        def write() -> Any:
            for name, value in values.items():
                if value is not None:
                    self.writer.add_scalar(name.replace(".", "/", 1), value, epoch)
            self.writer.flush()
            return self.writer

        if self.writer is not None:
            self._try(write)

    def _try(self, act: Callable[[], Any]) -> None:
        try:
            self.writer = act()
        except OSError as error:  # a full disk, a lost folder: curves are not worth a run
            self.writer = None
            print(f"regatta: no more curves of run {self.spec.id}, which goes on: {error.strerror or error}",
                  file=sys.stderr, flush=True)
