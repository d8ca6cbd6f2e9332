"""What a stored run says of images that belong to no data set: probabilities of its classes, image after image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from datasets.card import DataError
from datasets.images import open_rgb

from .stored import Stored
from .transforms import evaluation, transformed

BATCH = 32  # images at a time, where the run's size is by memory


@dataclass(frozen=True)
class Answer:
    """`shares` are the likeliest classes with their probabilities, first the likeliest; `problem` says why none."""

    image: Path
    shares: tuple[tuple[int, float], ...] = ()
    problem: str = ""


def answers(stored: Stored, images: Sequence[Path], top: int, device: str = "cpu") -> Iterator[Answer]:
    """One for each image in their order, as they are ready; one that cannot be read stops no other."""
    spec, ask = stored.record.spec, stored.asked(device)
    augment, size = evaluation(spec.augment), spec.eval_batch_size or BATCH
    for start in range(0, len(images), size):
        asked = images[start:start + size]
        read: dict[int, torch.Tensor] = {}
        problems: dict[int, str] = {}
        for i, image in enumerate(asked):
            try:
                read[i] = transformed(open_rgb(image), augment, spec.image_size, 0)
            except DataError as error:
                problems[i] = str(error)
        shares = ask(torch.stack([*read.values()])).softmax(dim=1).cpu() if read else torch.empty(0)
        found = dict(zip(read, shares, strict=True))
        for i, image in enumerate(asked):
            if i in problems:
                yield Answer(image, problem=problems[i])
                continue
            best = found[i].topk(min(top, len(found[i])))
            yield Answer(image, tuple(zip(best.indices.tolist(), best.values.tolist(), strict=True)))
