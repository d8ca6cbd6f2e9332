"""The order in which torch shuffles: `torch.randperm(n)` of a generator with that seed, without torch.

The splits of papers whose code holds no lists are such shuffles. torch draws 32-bit words of the Mersenne Twister
(Matsumoto and Nishimura, 1998) and swaps entry i with entry i + word mod (n - i), for each i but the last; a test
compares with torch itself.
"""

from __future__ import annotations

from functools import lru_cache
from random import Random

STATE, WORD = 624, 0xFFFFFFFF  # words of the twister's state, the largest word


def twister(seed: int) -> Random:
    """The twister as its authors start it from one word; Python's own start from a number is another."""
    words = [seed & WORD]
    for i in range(1, STATE):
        words.append((1812433253 * (words[-1] ^ words[-1] >> 30) + i) & WORD)
    source = Random()
    source.setstate((3, (*words, STATE), None))
    return source


@lru_cache(maxsize=16)
def permutation(size: int, seed: int) -> tuple[int, ...]:
    """The numbers 0 to size - 1 in torch's order."""
    word, order = twister(seed).getrandbits, list(range(size))
    for i in range(size - 1):
        other = i + word(32) % (size - i)
        order[i], order[other] = order[other], order[i]
    return tuple(order)
