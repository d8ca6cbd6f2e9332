"""The cards by name. Modules of this package are found by themselves, so a new data set is a new file."""

from __future__ import annotations

import importlib
import pkgutil
from difflib import get_close_matches
from functools import cache

from .card import SPLITS, Card, DataError, Group

ORDER: tuple[Group, ...] = (
    "natural",
    "specialized",
    "structured",
    "fgvc",
    "imagenet",
    "real",
    "fewshot",
    "shift",
    "other",
)

# hold no cards; skipped so that listing stays instant
TOOLS = ("check", "convert", "fetch", "fewshot_raw", "fgvc_raw", "folder", "standins")

_cards: dict[str, Card] = {}
_aliases: dict[str, str] = {}


class UnknownDataset(DataError, KeyError):
    """No card has this name; the text proposes the nearest ones."""

    def __str__(self) -> str:  # KeyError would print the text in quotes
        return str(self.args[0])


def register(card: Card) -> Card:
    """Make a card known under its name and aliases; a second owner of either is our own mistake."""
    for name in (card.name, *card.aliases):
        owner = _aliases.get(name, card.name)
        assert owner == card.name and (name != card.name or name not in _cards), f"{name!r} is registered twice"
        _aliases[name] = card.name
    assert set(card.splits) <= set(SPLITS), f"{card.name} has a split that is none of {SPLITS}"
    _cards[card.name] = card
    return card


@cache
def _discover() -> None:
    """Import every sibling once; a family of data sets is a package whose `__init__` imports its cards."""
    from . import __name__ as package
    from . import __path__ as folder

    for module in pkgutil.iter_modules(folder):
        if module.name not in TOOLS:
            importlib.import_module(f"{package}.{module.name}")


def get(name: str) -> Card:
    """The card of that name or alias."""
    _discover()
    if name in _aliases:
        return _cards[_aliases[name]]
    close = get_close_matches(name.lower().replace("-", "_"), _aliases, n=6, cutoff=0.55)
    near = list(dict.fromkeys(_aliases[match] for match in close))[:3]
    some = names(*ORDER[:ORDER.index("fewshot")])  # the lists of shots and the sets under shift are hundreds of names
    hint = f"did you mean {' or '.join(near)}?" if near else (
        f"there are: {', '.join(some)}, and {len(names()) - len(some)} more that `python -m bench list datasets` folds")
    raise UnknownDataset(f"no data set is called {name!r}; {hint}")


def cards(*groups: Group) -> list[Card]:
    """All cards, or those of some groups, in the order of the tables."""
    _discover()
    found = [card for card in _cards.values() if not groups or card.group in groups]
    return sorted(found, key=lambda card: ORDER.index(card.group))


def names(*groups: Group) -> list[str]:
    """The names of `cards(*groups)`."""
    return [card.name for card in cards(*groups)]
