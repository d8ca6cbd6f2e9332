"""What was asked: the words of a command, and the answer to words that cannot be."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal


class UsageError(Exception):
    """What the user asked for cannot be; one sentence per problem."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = list(dict.fromkeys(problems))
        super().__init__("; ".join(self.problems))


@dataclass(frozen=True)
class Request:
    """What was typed; None where nothing was."""

    suite: str | None = None
    datasets: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    backbones: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    sets: tuple[str, ...] = ()
    epochs: int | None = None
    batch_size: int | None = None
    data: str | None = None  # a folder, or "standin"
    weights: Path | None = None
    head: Path | None = None  # a file of class embeddings that the head starts from
    no_pretrained: bool = False
    download: bool = False
    partial: bool = False  # real data that break their card's promise are run, and marked
    phase: Literal["tune", "final", "peek"] = "final"
    tuned: bool = False  # settings come from the selection
    name: str = ""  # of one's own experiment: its set, chapter and page
    recipe: Literal["common", "paper"] = "common"  # the suite's settings for all, or each method's published ones
