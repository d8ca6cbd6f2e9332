"""From a card to batches: which images a phase may see, how they are resized, normalised and ordered.

The test split is sealed by type. `TuneData` has no door to it at all; `FinalData.test()` opens once, after training
has been declared over; only `PeekData` may look along the way, and its records are refused by every leaderboard.
Decoded images are kept as uint8 and shared between runs through a memory map.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from datasets.card import Card, DataError, Item, Pair, Source
from datasets.images import open_rgb
from methods.base import Batch
from methods.pair import Inputs
from methods.tasks import TASKS
from results.schema import RunSpec

from .cache import ImageCache
from .feeding import Normaliser, ahead
from .holdout import as_scored, stratified
from .pictures import Pictures
from .seeds import derive, generator
from .tokens import Couples, Tokens
from .transforms import evaluation, transformed
from .wording import Wording

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


class SealedTest(RuntimeError):
    """Something asked for the test split where the protocol forbids it."""


class TuneData:
    """What phase `tune` sees: the training list and the validation list. It has no test split to give."""

    def __init__(self, card: Card, root: Path, spec: RunSpec, cache: ImageCache, words: Wording | None = None) -> None:
        self._card, self._root, self._spec, self._cache, self._words = card, root, spec, cache, words
        self.train, self.val = self._training()

    def _training(self) -> tuple[Pictures, Pictures | None]:
        if not self._spec.fold:
            return self._open("train"), self._open("val")
        number, of = (int(n) for n in self._spec.fold.split("/"))
        every = self._open("trainval")
        rows = stratified(every.labels, 1 / of, seed=0, part=number - 1)
        inside = set(rows)
        return every.take([i for i in range(len(every)) if i not in inside]), as_scored(every.take(rows), self._spec)

    def _open(self, split: str) -> Pictures:
        return _open(self._card, self._root, self._spec, self._cache, split, self._words)

    def finish_training(self) -> None:
        """Training is over; only phase `final` cares."""

    def resume(self, passes: int) -> None:
        """A killed run goes on; only phase `peek` has passes over test to count on from."""

    def test(self) -> Pictures:
        raise SealedTest(f"phase {self._spec.phase!r} must not look at the test split of {self._card.name!r}")

    def further(self, card: Card) -> Pictures:
        """The test split of another data set with the same classes (distribution shift); sealed as the own one is."""
        raise SealedTest(f"phase {self._spec.phase!r} must not look at the test split of {card.name!r}")

    @property
    def test_passes(self) -> int:
        return 0


class FinalData(TuneData):
    """Phase `final`: trains on train and val together, may read test exactly once, after the last epoch."""

    def __init__(self, card: Card, root: Path, spec: RunSpec, cache: ImageCache, words: Wording | None = None) -> None:
        super().__init__(card, root, spec, cache, words)
        self._over, self._passes = False, 0
        self._read: set[str] = set()

    def _training(self) -> tuple[Pictures, Pictures | None]:
        return self._open("trainval"), None

    def finish_training(self) -> None:
        self._over = True

    def test(self) -> Pictures:
        if not self._over:
            raise SealedTest(f"the test split of {self._card.name!r} is sealed until training is over")
        if self._passes:
            raise SealedTest(f"the test split of {self._card.name!r} was read already; a final run reads it once")
        self._passes += 1
        return self._open("test")

    def further(self, card: Card) -> Pictures:
        if not self._over:
            raise SealedTest(f"the test split of {card.name!r} is sealed until training is over")
        if card.name in self._read:
            raise SealedTest(f"the test split of {card.name!r} was read already; a final run reads it once")
        self._read.add(card.name)
        return _open(card, self._root, self._spec, self._cache, "test", self._words)

    @property
    def test_passes(self) -> int:
        return self._passes


class PeekData(FinalData):
    """Phase `peek`: looks at test whenever asked, and counts how often."""

    _seen: Pictures | None = None

    def test(self) -> Pictures:
        self._passes += 1
        if self._seen is None:
            self._seen = self._open("test")
        return self._seen

    def resume(self, passes: int) -> None:
        """Count on from what the attempts before have looked at."""
        self._passes = passes


def open_data(card: Card, root: Path, spec: RunSpec, cache: ImageCache, words: Wording | None = None) -> TuneData:
    """The data as the spec's phase may see it; `words`: the tokenizer of a run on texts."""
    kinds: dict[str, type[TuneData]] = {"tune": TuneData, "final": FinalData, "peek": PeekData}
    return kinds[spec.phase](card, root, spec, cache, words)


def _open(card: Card, root: Path, spec: RunSpec, cache: ImageCache, split: str,
          words: Wording | None = None) -> Pictures:
    """A split as the spec wants it: listed, its labels checked, decoded where nothing is augmented, or tokenised."""
    items = list(card.items(card.place(root), split))
    if not items:
        raise DataError(f"split {split!r} of {card.name!r} lists no image")
    task = TASKS[card.task]
    labels = torch.tensor([i.label for i in items], dtype=task.labels)
    wrong = int(labels.max())
    if task.name == "classify" and (wrong >= card.classes or int(labels.min()) < 0):
        raise DataError(f"split {split!r} of {card.name!r} has the label {wrong}; its card promises "
                        f"{card.classes} classes, 0 to {card.classes - 1}")
    if card.input == "text":
        if words is None:
            raise DataError(f"{card.name!r} holds texts and needs a text backbone")
        numbers, cut = words.numbers(items, spec.text_length)
        return Pictures(items, labels, numbers, spec.text_length, "none", cut)
    if card.input == "pair":
        if words is None:
            raise DataError(f"{card.name!r} holds pictures with captions and needs a pair of towers")
        numbers, cut = words.numbers(items, spec.text_length)
        pixels = cache.pixels(f"{card.name}-{split}-{spec.data}", each_picture(items), spec.image_size)
        return Pictures(items, labels, pixels, spec.image_size, "none", cut, numbers)
    augmented = spec.augment != "none"
    pixels = None if augmented else cache.pixels(f"{card.name}-{split}-{spec.data}", items, spec.image_size)
    augment = spec.augment if split in ("train", "trainval") else evaluation(spec.augment)
    return Pictures(items, labels, pixels, spec.image_size, augment)


def each_picture(items: Sequence[Item]) -> list[Item]:
    """Of pairs: every picture once, in the order of their numbers. Raises DataError where a number is left out."""
    found: dict[int, Item] = {}
    for item in items:
        if isinstance(item.image, Pair):
            found.setdefault(int(item.label), Item(item.image.image, item.label))
    if sorted(found) != list(range(len(found))):
        raise DataError(f"the pictures of pairs are not numbered from 0 to {len(found) - 1}")
    return [found[number] for number in range(len(found))]


class Batches:
    """Endless or one-epoch batches of one split; index counts positions in the split."""

    def __init__(self, pictures: Pictures, normalise: Normaliser | Tokens | Couples, batch_size: int, seed: int,
                 drop_last: bool = False, cast: torch.dtype | None = None) -> None:
        self.pictures, self.normalise, self.seed, self.cast = pictures, normalise, seed, cast
        self.batch_size = min(batch_size, len(pictures))  # a list shorter than a batch is one batch
        self.drop_last = drop_last

    def __len__(self) -> int:
        full, rest = divmod(len(self.pictures), self.batch_size)
        return full + (1 if rest and not self.drop_last else 0)

    def epoch(self, number: int, first: int = 0, lazy: bool = False) -> Iterator[Batch]:
        """One shuffled pass, from its batch `first` on; the order follows from (seed, number) alone.

        The pixels of a lazy batch are made when something reads them.
        """
        order = torch.randperm(len(self.pictures), generator=generator(self.seed, "order", number))
        made = (self.batch(order[start * self.batch_size:(start + 1) * self.batch_size], number, lazy)
                for start in range(first, len(self)))
        return ahead(made) if self.normalise.device.type == "cuda" else made

    def in_order(self) -> Iterator[Batch]:
        """Every image once, in the list's order, last batch short: for evaluation."""
        made = (self.batch(torch.arange(start, min(start + self.batch_size, len(self.pictures))), 0)
                for start in range(0, len(self.pictures), self.batch_size))
        return ahead(made) if self.normalise.device.type == "cuda" else made

    def endless(self) -> Endless:
        """Reshuffled for ever, full batches only."""
        return Endless(self)

    def batch(self, rows: Tensor, epoch: int, lazy: bool = False) -> Batch:
        """(B,) positions -> the batch."""
        images, upload = partial(self._images, rows, epoch), self.normalise.upload
        return Batch(images if lazy else images(), upload(self.pictures.labels[rows]), upload(rows))

    def _images(self, rows: Tensor, epoch: int) -> Tensor:
        pictures = self.pictures
        if pictures.texts is not None:
            return self.pairs(rows)  # type: ignore[return-value]
        assert not isinstance(self.normalise, Couples)
        if pictures.pixels is not None:
            x = self.normalise.rows(pictures.pixels, rows)
        else:
            x = self.normalise(torch.stack([
                transformed(open_rgb(pictures.items[int(r)].image), pictures.augment, pictures.size,
                            derive(self.seed, "augment", epoch, int(r))) for r in rows]))
        return x if self.cast is None else x.to(self.cast)

    def pairs(self, rows: Tensor) -> Inputs:
        """(B,) positions -> pictures beside captions."""
        return Inputs(self.shown(self.pictures.labels[rows], rows), self.told(rows))

    def shown(self, numbers: Tensor, rows: Tensor) -> Tensor:
        """Of pairs: pictures (B,) by number -> (B, 3, S, S); `rows`: a position of each, read where none is held."""
        assert isinstance(self.normalise, Couples)
        pictures = self.pictures
        if pictures.pixels is not None:
            return self.normalise.pictures.rows(pictures.pixels, numbers)
        return self.normalise.pictures(torch.stack([
            transformed(open_rgb(_picture(pictures.items[int(r)])), "none", pictures.size, 0) for r in rows]))

    def told(self, rows: Tensor) -> Tensor:
        """Of pairs: captions at positions (B,) -> (B, L)."""
        assert isinstance(self.normalise, Couples) and self.pictures.texts is not None
        return self.normalise.texts.rows(self.pictures.texts, rows)


def _picture(item: Item) -> Path | Source:
    assert isinstance(item.image, Pair)
    return item.image.image


def cuts(lengths: Sequence[int], size: int) -> list[list[tuple[int, int, int]]]:
    """Splits one behind the other in batches of `size`: each batch's pieces (split, start, stop); the last is short."""
    batches: list[list[tuple[int, int, int]]] = [[]]
    room = size
    for number, length in enumerate(lengths):
        start = 0
        while start < length:
            if not room:
                batches.append([])
                room = size
            stop = min(length, start + room)
            batches[-1].append((number, start, stop))
            start, room = stop, room - (stop - start)
    return batches if batches[0] else []


class InRow:
    """Several splits as one: batches go on over the seams, so that only the very last one is short."""

    def __init__(self, several: Sequence[Batches], batch_size: int) -> None:
        self.several = several
        self.batch_size = min(batch_size, len(self))

    def __len__(self) -> int:
        return sum(len(one.pictures) for one in self.several)

    def in_order(self) -> Iterator[Batch]:
        """Every image of every split once."""
        made = (self._batch(pieces) for pieces in cuts([len(one.pictures) for one in self.several], self.batch_size))
        return ahead(made) if self.several[0].normalise.device.type == "cuda" else made

    def _batch(self, pieces: Sequence[tuple[int, int, int]]) -> Batch:
        parts = [self.several[number].batch(torch.arange(start, stop), 0) for number, start, stop in pieces]
        return parts[0] if len(parts) == 1 else Batch(*(torch.cat(column) for column in zip(*parts, strict=True)))


class Endless(Iterator[Batch]):
    """Full batches for ever; `position` says how many were given, and may be set to go on from there."""

    def __init__(self, batches: Batches) -> None:
        self.batches, self.position = batches, 0
        self._shuffled: tuple[int, Tensor] | None = None

    def __next__(self) -> Batch:
        of, size = self.batches, self.batches.batch_size
        number, start = divmod(self.position, len(of.pictures) // size)
        if self._shuffled is None or self._shuffled[0] != number:
            self._shuffled = number, torch.randperm(len(of.pictures), generator=generator(of.seed, "endless", number))
        self.position += 1
        return of.batch(self._shuffled[1][start * size:(start + 1) * size], number)


def normalisation(spec: RunSpec, native: tuple[tuple[float, ...], tuple[float, ...]]
                  ) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """(mean, std) by the spec's name: the checkpoint's own, ImageNet's as the peers use, or none."""
    return {"native": native, "peer": IMAGENET, "none": ((0.0,) * 3, (1.0,) * 3)}[spec.normalise]

