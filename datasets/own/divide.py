"""A user's images divided into train, val and test: as she gave them, and drawn by hash where she did not.

What is drawn follows from the contents and a seed alone: within a class, images are ordered by the hash of seed and
content. A fifth of each class is test, a fifth of the rest is val, one image of each at least. Images of equal bytes
stay together, because one of them is kept.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace
from hashlib import sha256

from .scan import Found, Photo

SHARE = 0.2  # of a class, for each split that is drawn
SKEWED = 3.0  # times as many images in the largest class as in the smallest, from which accuracy alone says little
DRAWN = {"test": "test and val were drawn", "val": "val was drawn"}


def divide(found: Found, seed: int = 0) -> list[Photo]:
    """Every image with its split. What stands in the way is added to the problems, what is worth knowing told."""
    photos = _without_copies(found)
    if len(found.classes) == 1:
        found.problems.append(f"there is one class only ({found.classes[0]}); a classifier needs two or more")
    photos = _given(found, photos, seed)
    _judge(found, photos)
    return photos


def _without_copies(found: Found) -> list[Photo]:
    """Each content once. Under two labels, or in training and in test, equal files are a problem, not a copy."""
    groups: dict[str, list[Photo]] = defaultdict(list)
    for photo in found.photos:
        groups[photo.sha256].append(photo)
    labels = [g for g in groups.values() if len({p.label for p in g}) > 1]
    sides = [g for g in groups.values() if len({p.split for p in g}) > 1 and g not in labels]
    for many, what, act in ((labels, "under different labels", "keep each under the label that is right"),
                            (sides, "in different splits", "keep each in one split")):
        if many:
            pair = sorted(p.path for p in many[0])
            found.problems.append(f"{len(many)} image{'s stand' if len(many) > 1 else ' stands'} {what} with equal "
                                  f"content, first {pair[0]} and {pair[1]}; {act} and remove the other file or row")
    copies = sum(len(g) - 1 for g in groups.values() if g not in labels and g not in sides)
    if copies:
        found.remarks.append(f"{copies} cop{'ies' if copies > 1 else 'y'} of an image of the same class left aside")
    return [min(g, key=lambda p: p.path) for g in groups.values()]


def _given(found: Found, photos: list[Photo], seed: int) -> list[Photo]:
    """The splits that were given are kept; val stands for test where there is no test, as ImageNet's does."""
    splits = {p.split for p in photos}
    if "" in splits and len(splits) > 1:
        bare = sorted(p.path for p in photos if not p.split)
        found.problems.append(f"{len(bare)} of the images have no split while others have one, first {bare[0]}")
        return photos
    if "val" in splits and "test" not in splits:
        found.remarks.append("there is no test split: val is taken as test, and a val is drawn from train")
        photos = [replace(p, split="test") if p.split == "val" else p for p in photos]
    elif splits == {"train"}:
        photos = [replace(p, split="") for p in photos]
    if not photos:
        return photos
    drawn = [name for name in ("test", "val") if name not in {p.split for p in photos}]
    for name in drawn:
        photos = _draw(photos, name, seed)
    if drawn:
        found.remarks.append(f"{DRAWN[drawn[0]]} from what is not given: {SHARE:.0%} of each class, by hash of its "
                             f"contents and seed {seed}; your folder stays as it is")
    return [replace(p, split=p.split or "train") for p in photos]


def _draw(photos: list[Photo], name: str, seed: int) -> list[Photo]:
    """A share of every class of what is train, or undecided."""
    pool: dict[str, list[Photo]] = defaultdict(list)
    for photo in photos:
        if photo.split in ("", "train"):
            pool[photo.label].append(photo)
    chosen = set()
    for several in pool.values():
        order = sorted(several, key=lambda p: sha256(f"{seed}|{name}|{p.sha256}".encode()).digest())
        chosen |= {p.path for p in order[:max(1, round(SHARE * len(several)))]}
    return [replace(p, split=name) if p.path in chosen else p for p in photos]


def _judge(found: Found, photos: list[Photo]) -> None:
    """Classes that a split lacks, and how unequal they are."""
    held: dict[str, set[str]] = defaultdict(set)
    for photo in photos:
        held[photo.split].add(photo.label)
    if not photos or (len(found.problems) and "" in held):
        return
    counts = Counter(p.label for p in photos)
    small = sorted(name for name, count in counts.items() if count < 3)
    if small:
        found.problems.append(f"{len(small)} class{'es have' if len(small) > 1 else ' has'} fewer than three images, "
                              f"one for each of train, val and test: {', '.join(small[:5])}")
    for split in ("val", "test"):
        if outside := sorted(held[split] - held["train"] - set(small)):
            found.problems.append(f"{split} has labels that train has not: {', '.join(outside[:5])}")
    for split in ("train", "val", "test"):
        missing = sorted(counts.keys() - held[split] - set(small))
        if missing and (split != "train"):
            found.remarks.append(f"{split} has no image of {', '.join(missing[:5])}")
    most, least = max(counts.values()), min(counts.values())
    share = most / len(photos)
    if most >= SKEWED * least:
        name = max(counts, key=lambda c: counts[c])
        found.remarks.append(f"the classes are unequal ({least} to {most} images): accuracy says little, a constant "
                             f"answer {name!r} has {share:.0%}; read the mean per class and macro-F1 beside it")
