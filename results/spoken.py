"""Counts in sentences: `1 run`, `2 runs`. What may be one and stands before its noun is said by these.

And what is counted: a run's items are images, texts, or pairs of both.
"""

from __future__ import annotations


def word(count: float, one: str, more: str = "") -> str:
    """The form that goes with a count; `more` where it is not `one` with an s: `has`, `have`."""
    return one if count == 1 else more or f"{one}s"


def many(count: int, one: str, more: str = "") -> str:
    """`1 data set`, `3 classes`."""
    return f"{count} {word(count, one, more)}"


def thing(pixels: float | None, tokenizer: str | None) -> str:
    """What one item of a run is, by its spec's `image_size` and `tokenizer`: `image`, `text` or `pair`."""
    if not pixels:
        return "text"
    return "pair" if tokenizer else "image"
