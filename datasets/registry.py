"""The cards by name. Modules of this package are found by themselves, so a new data set is a new file.

A file that cannot be imported is `broken`: its data sets are refused when they are asked for, the others go on. So it
is with files of folders outside the checkout (`outside`); a name that ours has stays ours.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
import sys
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import NamedTuple

from . import outside
from .card import SPLITS, Card, DataError, Group
from .own import note

ORDER: tuple[Group, ...] = (
    "natural",
    "specialized",
    "structured",
    "fgvc",
    "imagenet",
    "real",
    "fewshot",
    "shift",
    "glue",
    "text",
    "captions",
    "own",
    "other",
)

# hold no cards; skipped so that listing stays instant
TOOLS = ("check", "convert", "exclusion", "fetch", "folder", "identity", "outside", "own", "packages", "promises",
         "raw", "sameness", "standins", "stratify")

_cards: dict[str, Card] = {}
_aliases: dict[str, str] = {}
_owners: dict[str, str] = {}  # card -> the module that registered it


class Broken(NamedTuple):
    """A file whose data sets cannot be used, why, and their names as far as they can be read."""

    file: str
    why: str
    names: tuple[str, ...]
    outside: bool = False  # of a folder outside the checkout

    def __str__(self) -> str:
        return f"{self.file} cannot be used: {self.why}"


class TwiceError(AssertionError):
    """Two files register one name; neither gets it, for nobody could say whose images a result was made on."""

    def __init__(self, name: str, first: str) -> None:
        super().__init__(f"{name!r} is registered twice, first by {first}")
        self.name = name


_broken: list[Broken] = []
_further: dict[str, Path] = {}  # package -> the folder outside whose files were imported below it
_origins: dict[str, str] = {}  # module from there -> folder and hash of its file


class UnknownDataset(DataError, KeyError):
    """No card has this name; the text proposes the nearest ones."""

    def __str__(self) -> str:  # KeyError would print the text in quotes
        return str(self.args[0])


def register(card: Card) -> Card:
    """Make a card known under its name and aliases; a second owner of either is its author's mistake."""
    module = sys._getframe(1).f_globals.get("__name__", "")
    taken = [name for name in (card.name, *card.aliases) if name in _aliases]
    if taken:
        raise TwiceError(taken[0], _owners.get(_aliases[taken[0]], "?"))
    assert set(card.splits) <= set(SPLITS), f"{card.name} has a split that is none of {SPLITS}"
    _aliases.update(dict.fromkeys((card.name, *card.aliases), card.name))
    _cards[card.name], _owners[card.name] = card, module
    return card


def _discover() -> None:
    """Import every sibling once, and the files of the folders outside once for as long as these are named."""
    _siblings()
    if tuple(_further.values()) == outside.folders():
        return
    for module in _further:
        _forget(module)
    _broken[:] = [b for b in _broken if not b.outside]
    _further.clear()
    _origins.clear()
    for folder in outside.folders():
        package = outside.package(folder)
        _further[package] = folder
        for found in pkgutil.iter_modules([str(folder / outside.KIND)]):
            try:
                _origins[f"{package}.{found.name}"] = f"{folder.name} {outside.source_hash(folder, found.name)}"
                with outside.staying():
                    importlib.import_module(f"{package}.{found.name}")
            except (Exception, SystemExit) as error:  # whatever a user's file says while it is imported
                _set_aside(f"{package}.{found.name}", error)


@cache
def _siblings() -> None:
    """A family of data sets is a package whose `__init__` imports its cards."""
    from . import __name__ as package
    from . import __path__ as folder

    for module in pkgutil.iter_modules(folder):
        if module.name not in TOOLS:
            try:
                importlib.import_module(f"{package}.{module.name}")
            except Exception as error:  # whatever a user's file says while it is imported
                _set_aside(f"{package}.{module.name}", error)


def _set_aside(module: str, error: BaseException) -> None:
    """Forget what the module has registered so far, and remember why it went no further."""
    from . import __path__ as folder

    package = module.rpartition(".")[0]
    away = _further.get(package)
    top = away / outside.KIND if away else Path(folder[0])
    place = top / module.rpartition(".")[2]
    path = place.with_suffix(".py") if place.with_suffix(".py").is_file() else place / "__init__.py"
    file = Path(away.name if away else "") / top.name / path.relative_to(top)
    if isinstance(error, SyntaxError):
        at = Path(error.filename or path).resolve()
        where = "" if at == path.resolve() else f"{at.name}, "
        why = f"{where}line {error.lineno}: {error.msg}"
    else:
        why = str(error) if isinstance(error, AssertionError | DataError) and str(error) else \
            f"{type(error).__name__}: {error}"
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    gone = _forget(module)
    names = [*gone, *re.findall(r"\bname\s*=\s*['\"]([\w-]+)['\"]", text), module.rpartition(".")[2]]
    if isinstance(error, TwiceError):
        names.append(error.name)
    if away:
        names = [name for name in names if name not in _aliases]  # what has the name already keeps it
        why += _absolute(why, package)
    _broken.append(Broken(file.as_posix(), why, tuple(dict.fromkeys(names)), bool(away)))


def _forget(module: str) -> list[str]:
    """Take back what a module, or one below it, has registered; the names of its cards."""
    gone = [name for name, owner in _owners.items() if owner == module or owner.startswith(f"{module}.")]
    for name in gone:
        del _owners[name], _cards[name]
        for alias in [a for a, owner in _aliases.items() if owner == name]:
            del _aliases[alias]
    return gone


def _absolute(why: str, package: str) -> str:
    """What a file outside should write that asks its own folder for what is ours; or nothing."""
    asked = re.search(rf"No module named '{re.escape(package)}\.(\w+)", why)
    there = asked and (Path(__file__).parent / f"{asked[1]}.py").is_file()
    return f"; write from {__package__}.{asked[1]} import" if asked and there else ""


def origin(name: str) -> str:
    """Of a card from a folder outside the checkout: `mine 0123456789ab`, the folder's last name and the hash of its
    file when it was imported; nothing for a card of ours."""
    _discover()
    owner = _owners.get(name, "")
    return next((told for module, told in _origins.items() if f"{owner}.".startswith(f"{module}.")), "")


def broken() -> list[Broken]:
    """The files whose data sets cannot be used, and why."""
    _discover()
    return list(_broken)


def get(name: str, root: Path | None = None) -> Card:
    """The card of that name or alias, or of a user's folder that was named before.

    `root` is the data root of a run: for a user's folder the place of its note, which another process may not know.
    """
    if note.MARK in name:
        return note.card(name, root if root is not None and note.there(name, root) else note.folder())
    _discover()
    hit = next((b for b in _broken if name in b.names), None)
    if hit is not None:
        raise UnknownDataset(f"{name!r} cannot be used until {hit.file} is mended: {hit.why}")
    if name in _aliases:
        return _cards[_aliases[name]]
    close = get_close_matches(name.lower().replace("-", "_"), _aliases, n=6, cutoff=0.55)
    near = list(dict.fromkeys(_aliases[match] for match in close))[:3]
    some = names(*ORDER[:ORDER.index("fewshot")])  # the lists of shots and the sets under shift are hundreds of names
    hint = f"did you mean {' or '.join(near)}?" if near else (
        f"there are: {', '.join(some)}, and {len(names()) - len(some)} more that `python -m bench list datasets` folds")
    if not near and Path(name).is_dir():
        hint = f"images of your own are folder:{name}"
    raise UnknownDataset(f"no data set is called {name!r}; {hint}")


def cards(*groups: Group) -> list[Card]:
    """All cards, or those of some groups, in the order of the tables."""
    _discover()
    found = [card for card in _cards.values() if not groups or card.group in groups]
    return sorted(found, key=lambda card: ORDER.index(card.group))


def rank(name: str) -> tuple[int, str]:
    """What the tables sort data sets by: registered cards in their order, then users' folders by name."""
    order = names()
    return (order.index(name), "") if name in order else (len(order), name)


def known(name: str) -> bool:
    """Whether there is a card of that name (no alias), users' folders included."""
    return name in _cards or (note.MARK in name and note.there(name))


def names(*groups: Group) -> list[str]:
    """The names of `cards(*groups)`."""
    return [card.name for card in cards(*groups)]
