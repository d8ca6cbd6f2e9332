"""Recall among pictures and captions, with ties counted against: what a model of pairs is scored by.

A picture asks for any of its captions, a caption for its picture. The rank is the number of *other* candidates that
score as high or higher, so that equal embeddings find nothing, where a sort would find everything; what is no number
never wins. RSUM (Faghri et al., BMVC 2018, arXiv:1707.05612) is the sum of the six recalls at 1, 5 and 10 in percent;
here everything is a fraction, and `rmean` is RSUM / 600. COCO's "1K" numbers are means over five folds of 1,000
pictures, each ranked alone. Needs numpy.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import comb
from typing import TYPE_CHECKING, Any, NamedTuple

from .spoken import many

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

AT = (1, 5, 10)
CHUNK = 1024  # pictures, or captions, whose scores are held at once


class Ranks(NamedTuple):
    """Of N pictures with M captions, 0 for the first."""

    of_text: Array  # (N,) of a picture's best caption among the captions of others
    of_image: Array  # (M,) of a caption's picture among the pictures
    owner: Array  # (M,) the picture of a caption, 0 to N - 1


def ranks(image: Array, text: Array, owner: Array) -> Ranks:
    """(N, D) and (M, D) embeddings, scored by their inner product, and each caption's picture (M,) -> the ranks.

    Every picture has a caption at least. Raises ValueError where the shapes do not fit.
    """
    import numpy as np

    if image.ndim != 2 or text.shape != (len(owner), image.shape[1]) or \
            not np.array_equal(np.unique(owner), np.arange(len(image))):
        raise ValueError(f"{many(len(image), 'picture')}, {many(len(text), 'caption')} and the pictures of "
                         f"{len(owner)} do not fit")
    of_text, of_image = np.empty(len(image), np.int64), np.empty(len(text), np.int64)
    for start in range(0, len(image), CHUNK):
        rows = np.arange(start, min(start + CHUNK, len(image)))
        scores = image[rows] @ text.T  # (rows, M)
        own = owner[None] == rows[:, None]
        best = np.where(own, scores, -np.inf).max(1)  # nan where one of its captions has no score
        of_text[rows] = (~(scores < best[:, None]) & ~own).sum(1)
    for start in range(0, len(text), CHUNK):
        rows = np.arange(start, min(start + CHUNK, len(text)))
        scores = text[rows] @ image.T  # (rows, N)
        right = scores[np.arange(len(rows)), owner[rows]]
        of_image[rows] = (~(scores < right[:, None])).sum(1) - 1  # the right one is among them
    return Ranks(of_text, of_image, owner)


def folded(image: Array, text: Array, owner: Array, folds: int) -> Ranks:
    """The ranks within each of so many runs of pictures, as equal as can be, in their order."""
    import numpy as np

    of_text, of_image = np.empty(len(image), np.int64), np.empty(len(text), np.int64)
    for pictures in np.array_split(np.arange(len(image)), folds):
        captions = np.flatnonzero((owner >= pictures[0]) & (owner <= pictures[-1]))
        found = ranks(image[pictures], text[captions], owner[captions] - pictures[0])
        of_text[pictures], of_image[captions] = found.of_text, found.of_image
    return Ranks(of_text, of_image, owner)


def recalls(found: Ranks) -> dict[str, float]:
    """`text_r1` (a picture's captions), `image_r1` (a caption's picture) and so on; `rmean`, the mean of the six."""
    told = {f"text_r{k}": float((found.of_text < k).mean()) for k in AT}
    told |= {f"image_r{k}": float((found.of_image < k).mean()) for k in AT}
    return told | {"rmean": sum(told.values()) / len(told)}


def each(found: Ranks) -> Array:
    """(N,) what every picture, with its captions, adds to `rmean`: the mean over pictures with as many captions each.

    For draws of pictures with replacement: a caption goes with its picture.
    """
    import numpy as np

    captions = np.bincount(found.owner, minlength=len(found.of_text))
    parts = [(found.of_text < k).astype(float) for k in AT]
    parts += [np.bincount(found.owner, weights=found.of_image < k, minlength=len(captions)) / captions for k in AT]
    mean: Array = np.mean(parts, axis=0)
    return mean


def rsum(values: Sequence[float]) -> float:
    """RSUM of six recalls as fractions: 0 to 600."""
    if len(values) != 2 * len(AT):
        raise ValueError(f"RSUM is the sum of {2 * len(AT)} recalls; there are {len(values)}")
    return 100 * sum(values)


def chance(pictures: int, captions: int = 5) -> float:
    """`rmean` of a blind order, of so many captions of each picture."""
    every = pictures * captions
    told = [min(1.0, k / pictures) for k in AT]
    told += [1 - comb(every - captions, k) / comb(every, k) if k <= every else 1.0 for k in AT]
    return sum(told) / len(told)
