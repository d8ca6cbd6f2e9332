"""What the lists of a data set must keep of its card: counts, classes, no line twice, no image on both sides.

`data check` tells it, a plan refuses to run without. No image is opened. What holds for a set as it is published
stands in its card's facts: `train_classes`, how many classes its training list holds where that is not all of them;
`repeats`, why some of its test images are training images too; `lists`, splits that it has and promises no count of;
`pinned`, the names of its training, validation and test images in one hash, where the split is our own; `left_out`, how
many images of a user's folder could not be read and are not among them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path

from .card import Card, Item, Pair, Source
from .images import name_of, split_hash

TRAINING = ("train", "val", "trainval")


def splits_of(card: Card) -> tuple[str, ...]:
    """Every split that the card's reader lists."""
    return tuple(dict.fromkeys((*card.splits, *card.facts.get("lists", "").split())))


def broken(card: Card, listed: Mapping[str, Sequence[Item]], sizes: Mapping[str, int],
           classes: bool = True) -> list[str]:
    """Every promise that the lists break; `sizes`: images per split, `classes`: whether theirs are promised too."""
    found = [f"{split} has {card.many(len(listed[split]))}; expected {size}" for split, size in sizes.items()
             if split in listed and len(listed[split]) != size]
    for split, items in listed.items():
        twice = [image for image, times in Counter(item.image for item in items).items() if times > 1]
        if twice:
            found.append(f"{split}: {card.many(len(twice))} stand{'s' if len(twice) == 1 else ''} twice or more, first "
                         f"{name_of(twice[0])}")
    found += _shared(card, listed)
    if count := int(card.facts.get("left_out", 0)):
        found.append(f"{count} image{'s' if count > 1 else ''} that cannot be read left out")
    return found + ([*_classes(card, listed), *_pinned(card, listed)] if classes else [])


def pin(card: Card, listed: Mapping[str, Sequence[Item]]) -> str:
    """16 digits over the names and labels of every list that the card promises, in order."""
    return sha256("".join(split_hash(listed.get(split, ())) for split in sorted(card.splits)).encode()).hexdigest()[:16]


def _pinned(card: Card, listed: Mapping[str, Sequence[Item]]) -> list[str]:
    """A split of our own that is another than the published one; counts, which say more, go first."""
    expected = card.facts.get("pinned")
    if expected is None or any(len(listed.get(split, ())) != size for split, size in card.splits.items()):
        return []
    found = pin(card, listed)
    return [] if found == expected else [f"the lists have other {card.things} than those of the version that the card "
                                         f"names (hash {found}; expected {expected})"]


def _shared(card: Card, listed: Mapping[str, Sequence[Item]]) -> list[str]:
    """Images in training and in test; in train and in val, where trainval is to be the two together."""
    pairs = [(split, "test") for split in TRAINING]
    sizes = card.splits
    if sizes.get("trainval", 0) == sizes.get("train", 0) + sizes.get("val", 0):
        pairs.append(("train", "val"))
    found = []
    for one, other in pairs:
        held = images(listed.get(other, ()))
        both = [image for image in images(listed.get(one, ())) if image in held]
        if both:
            found.append(f"{name_of(both[0])} is in {one} and in {other}, as are {len(both) - 1} more")
    return found


def images(*lists: Iterable[Item]) -> dict[Path | Source, None]:
    """The images of some lists, those of pairs too, each once, in order; a text stands for itself."""
    return {item.image.image if isinstance(item.image, Pair) else item.image: None for items in lists for item in items}


def _classes(card: Card, listed: Mapping[str, Sequence[Item]]) -> list[str]:
    """Classes without an image: in all splits together, and in what is trained on where its count is promised."""
    if card.task != "classify":
        return []
    held = {item.label for items in listed.values() for item in items}
    found = [f"{len(held)} class{' has' if len(held) == 1 else 'es have'} {card.things}; expected {expected}"
             ] if held and (expected := _held(card)) and len(held) != expected else []
    wanted = int(card.facts.get("train_classes", card.classes))
    for split in ("trainval", "train"):
        if split in card.splits and listed.get(split):
            learnt = {item.label for item in listed[split]}
            if len(learnt) < wanted:
                found.append(f"{split} has {card.things} of {len(learnt)} "
                             f"class{'' if len(learnt) == 1 else 'es'}; expected {wanted}")
            break
    return found


def _held(card: Card) -> int | None:
    """Classes that have images; None where nobody promises it (a domain's test list alone)."""
    if "mask" in card.facts:
        from .shift import masks

        return len(masks()[card.facts["mask"]])
    return card.classes if "trainval" in card.splits or "domain" not in card.facts else None
