"""VADER's rated snippets (Hutto and Gilbert, ICWSM 2014), from a package's source: films, products, editorials, tweets.

Each snippet has the mean of twenty people's ratings, -4 to 4. It is negative below -0.5, positive above 0.5; what lies
between is in none of the sets of two classes. There is no official split: 400 of each class train, 100 are val, up to
1,000 are test, in the order of a hash. `vader_movies_score` asks for the rating itself, of 800, 200 and 2,000 snippets
of all ratings. A snippet that stands twice is taken once; two of one review may lie on both sides.
"""

from __future__ import annotations

import io
import tarfile
import zlib
from functools import lru_cache, partial
from pathlib import Path

from . import door, sameness, stratify
from .card import SPLITS, Card, DataError, File, Item, Text
from .packages import PACKAGES
from .registry import register
from .tsv import Form, parse

PACKAGE = PACKAGES["vaderSentiment"]
ARCHIVE, INNER = "vaderSentiment-3.3.2.tar.gz", "hutto_ICWSM_2014"
LAYOUT = f"{ARCHIVE}, or {INNER}/*_GroundTruth.txt of it"
LIMIT = 256 << 20  # bytes that an archive may unpack to; the real one has 6 million
EDGE = 0.5  # of a rating: below its negative a snippet is negative, above it positive
TRAIN, VAL, TEST = 400, 100, 1000  # of a class
SOURCES = {"movies": ("movieReviewSnippets", "films"), "amazon": ("amazonReviewSnippets", "products"),
           "nyt": ("nytEditorialSnippets", "editorials"), "tweets": ("tweets", "tweets")}
Pool = dict[int, list[Text]]  # class -> its snippets


def _unpacked(data: bytes, where: Path) -> bytes:
    """The tar in a gzip file. Raises DataError for one that is broken or too large."""
    unpacker = zlib.decompressobj(31)
    try:
        out = unpacker.decompress(data, LIMIT)
    except zlib.error as error:
        raise DataError(f"{where} is no whole gzip file: {error}") from None
    if not unpacker.eof:
        raise DataError(f"{where} is cut off, or unpacks to more than {LIMIT} bytes, which are refused there")
    return out


def _member(tar: bytes, path: str, where: Path) -> bytes:
    """A plain file of a tar, by the end of its path."""
    try:
        with tarfile.open(fileobj=io.BytesIO(tar), mode="r:") as held:
            for member in held:
                if member.isreg() and f"/{member.name}".endswith(f"/{path}") and (found := held.extractfile(member)):
                    return found.read()
    except tarfile.TarError as error:
        raise DataError(f"{where} is no tar archive: {error}") from None
    raise DataError(f"{where} holds no {path}; expected: {LAYOUT}")


def _table(base: Path, stem: str) -> tuple[Item, ...]:
    """The rated snippets of a file, in its order. Raises DataError for what is missing or malformed."""
    name = f"{stem}_GroundTruth.txt"
    file = base / INNER / name if (base / INNER).is_dir() else base / ARCHIVE
    try:
        data = door.read(file, "annotations")
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror}; expected there: {LAYOUT}") from None
    path = file
    if file.name == ARCHIVE:
        path = file / f"{INNER}.tar.gz" / name
        inner = _unpacked(_member(_unpacked(data, file), f"additional_resources/{INNER}.tar.gz", file), path.parent)
        data = _member(inner, f"{INNER}/{name}", path.parent)
    form = Form("vader", ("text",), "rating", low=-4, high=4, header=("id", "rating", "text"))
    found = parse(data, path, file, form, LAYOUT)
    if found.faults:
        raise DataError(found.faults[0])
    return found.items


@lru_cache(maxsize=8)
def _parts(base: Path, stem: str, scored: bool) -> dict[str, dict[int, list[Text]]]:
    """Split -> class -> snippets; ratings are one class, and cut in the same shares."""
    rows = [(item.image, item.label) for item in _table(base, stem) if isinstance(item.image, Text)]
    classes: Pool = {0: [text for text, _ in rows]} if scored else {
        0: [text for text, rating in rows if rating < -EDGE], 1: [text for text, rating in rows if rating > EDGE]}
    barred: set[str] = set()
    parts: dict[str, Pool] = {"train": {}, "val": {}, "test": {}}
    for label, members in classes.items():
        row = sameness.kept(stratify.ordered(stem, members), barred)
        fold = 2 if scored else 1
        train, val = min(TRAIN * fold, len(row) * 4 // 10), min(VAL * fold, len(row) // 10)  # shares of a miniature
        parts["train"][label], parts["val"][label] = row[:train], row[train:train + val]
        parts["test"][label] = row[train + val:train + val + TEST * fold]
    return parts


def items(root: Path, split: str, stem: str, scored: bool = False) -> list[Item]:
    """The items of one split."""
    if split not in SPLITS:
        raise DataError(f"no split is called {split!r}; there are: {', '.join(SPLITS)}")
    base = PACKAGE.base(root, LAYOUT)
    found = stratify.listed(stem, _parts(base, stem, scored), split)
    if not scored:
        return found
    ratings = {item.image: item.label for item in _table(base, stem)}
    return [Item(item.image, ratings[item.image]) for item in found]


SIZES = {"train": 800, "val": 200, "trainval": 1000}
TESTS = {"movies": 2000, "amazon": 1716, "nyt": 1588, "tweets": 1532}
PINNED = {"movies": "61cfb30abba2d0c2", "amazon": "bd30e6cc0cf60dce", "nyt": "914b44946b060a88",
          "tweets": "1a28a86e4410a57d", "score": "ee265fb0413047ba"}


def _card(name: str, title: str, stem: str, tests: int, pinned: str, scored: bool = False) -> None:
    register(Card(
        name=name, title=title, group="text", classes=1 if scored else 2, splits=SIZES | {"test": tests},
        source="https://github.com/cjhutto/vaderSentiment", license=PACKAGE.license, cite="hutto2014vader",
        folder=PACKAGE.folder, layout=LAYOUT, items=partial(items, stem=stem, scored=scored),
        metric="pearson_spearman" if scored else "top1", by_hand=f"install the package {PACKAGE.name}: "
        f"{PACKAGE.command}", files=(File(ARCHIVE, "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9",
                                          2_466_783),),
        note="no official split, snippets of one review may lie on both sides"
        + ("; the mean rating of twenty people, -4 to 4" if scored else
           "; ratings between -0.5 and 0.5 are left out"),
        facts={"package": PACKAGE.name, "pinned": pinned}, task="regress" if scored else "classify", input="text",
        texts=1))


for _name, (_stem, _of) in SOURCES.items():
    _card(f"vader_{_name}", f"VADER, {_of}", _stem, TESTS[_name], PINNED[_name])
_card("vader_movies_score", "VADER, films, ratings", SOURCES["movies"][0], 2000, PINNED["score"], scored=True)
