"""When two texts are the same, and what follows: which are left out of a split of our own, which are told of another's.

Texts are compared without regard to case and to how many blanks stand where; of two texts both must agree, in order.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256

from .card import Item, Text


def plain(text: Text) -> str:
    """What is compared: NFC, folded case, single blanks; the second text behind a character that no text holds."""
    parts = (text.a,) if text.b is None else (text.a, text.b)
    return "\x1f".join(" ".join(unicodedata.normalize("NFC", part).casefold().split()) for part in parts)


def print_of(text: Text) -> str:
    """SHA-256 of `plain`."""
    return sha256(plain(text).encode()).hexdigest()


def texts(items: Iterable[Item]) -> list[Text]:
    """The texts of items that have one: of a text itself, of a picture's caption."""
    found = (getattr(item.image, "text", item.image) for item in items)
    return [text for text in found if isinstance(text, Text)]


def kept(row: Iterable[Text], barred: set[str]) -> list[Text]:
    """Those that are the same as none before them and as none of `barred`, to which they are added."""
    found = []
    for text in row:
        if (words := plain(text)) not in barred:
            barred.add(words)
            found.append(text)
    return found


def shared(listed: Mapping[str, Sequence[Item]]) -> list[str]:
    """A sentence about the test texts that are trained on, where there are any."""
    training = _training(listed)
    known = {plain(text): text for text in texts(listed.get(training, ()))}
    both = [text for text in texts(listed.get("test", ())) if plain(text) in known]
    return [f"{len(both)} of {len(listed['test'])} test texts {'is' if len(both) == 1 else 'are'} in {training} too, "
            f"first {both[0].name}, which is {known[plain(both[0])].name}"] if both else []


def twice(listed: Mapping[str, Sequence[Item]]) -> list[str]:
    """A sentence for each list in which texts stand more than once, whatever their labels."""
    told = []
    for split in (_training(listed), "test"):
        rows = texts(listed.get(split, ()))
        again = len(rows) - len({plain(text) for text in rows})
        if again:
            told.append(f"{again} of {len(rows)} texts of {split} stand{'s' if again == 1 else ''} there before")
    return told


def _training(listed: Mapping[str, Sequence[Item]]) -> str:
    return "trainval" if "trainval" in listed else "train"
