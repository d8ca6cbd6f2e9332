"""What a stored run says of images or texts that belong to no data set: probabilities of its classes, one by one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from datasets.card import DataError, Item, Text
from datasets.images import open_rgb
from methods import towers
from methods.weights import StoredError

from . import backbones
from .stored import Stored
from .transforms import evaluation, transformed
from .wording import Wording, file_hash

BATCH = 32  # images at a time, where the run's size is by memory


@dataclass(frozen=True)
class Answer:
    """`shares` are the likeliest classes with their probabilities, first the likeliest; `problem` says why none."""

    asked: Path | Text
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
            yield Answer(image, _likeliest(found[i], top))


def of_texts(stored: Stored, texts: Sequence[Text], top: int, device: str = "cpu") -> Iterator[Answer]:
    """One for each text in their order, cut or padded to the run's length.

    Raises StoredError where the tokenizer here is not the run's.
    """
    spec, ask = stored.record.spec, stored.asked(device)
    file = backbones.tokenizer_file(spec.model, stored.plain.file)
    if file_hash(file) != spec.tokenizer:
        raise StoredError(f"{file.name} of {file.parent.name}/ is another than the one of run {stored.record.run_id}")
    words = Wording(file, towers.tower(backbones.plain(spec.model)).pad)
    size = spec.eval_batch_size or BATCH
    for start in range(0, len(texts), size):
        asked = texts[start:start + size]
        numbers, _ = words.numbers([Item(text, 0) for text in asked], spec.text_length)
        for text, shares in zip(asked, ask(torch.from_numpy(numbers)).softmax(dim=1).cpu(), strict=True):
            yield Answer(text, _likeliest(shares, top))


def _likeliest(shares: Tensor, top: int) -> tuple[tuple[int, float], ...]:
    best = shares.topk(min(top, len(shares)))
    return tuple(zip(best.indices.tolist(), best.values.tolist(), strict=True))
