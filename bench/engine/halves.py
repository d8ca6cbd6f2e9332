"""The name of a pair of towers is that of the tower for pictures, a colon, that of the tower for texts. No torch."""

from __future__ import annotations

from hashlib import sha256

MARK = ":"


def is_pair(name: str) -> bool:
    """Whether a backbone's name is one of a pair."""
    return MARK in name


def parted(name: str) -> tuple[str, str]:
    """(tower for pictures, tower for texts)."""
    image, _, text = name.partition(MARK)
    return image, text


def parts(name: str) -> tuple[str, ...]:
    """The towers of a name: two, or one."""
    return parted(name) if is_pair(name) else (name,)


def joined(image: str, text: str) -> str:
    return f"{image}{MARK}{text}"


def image_of(name: str) -> str:
    """A pair's tower for pictures; any other name as it is."""
    return parted(name)[0]


def text_of(name: str) -> str:
    """A pair's tower for texts; any other name as it is."""
    return parted(name)[1] if is_pair(name) else name


def hash_of(image: str, text: str) -> str:
    """The hash of two hashes: what names the weights of a pair."""
    return sha256(f"{image}{MARK}{text}".encode()).hexdigest()
