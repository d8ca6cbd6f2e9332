"""A tree of rotations in planes of two coordinates (Ma et al., ICML 2024, arXiv:2404.04316), applied without a matrix.

Level l pairs coordinate k, a multiple of 2^(l+1), with k + 2^l, and maps each pair by a 2 x 2 matrix; a coordinate
without a partner waits for a later level. Behind its level k + 2^l takes part no more, so the levels work on halves,
quarters, ...: i - 1 pairs and as many small products for i coordinates. Level 0 acts first, as in the authors' code.

The authors' fast form moves the cosines with the level but always swaps neighbours, which shears from level 1 on and
is not orthogonal; this is the product of dense rotations, as a test shows.
"""

from __future__ import annotations

import torch
from torch import Tensor


def turn(x: Tensor, pairs: Tensor) -> Tensor:
    """x (..., i), pairs (i - 1, 2, 2) in order of level and coordinate -> (..., i)."""
    size = x.shape[-1]
    if size == 1:
        return x
    half = size // 2
    a, b, m = x[..., 0:2 * half:2], x[..., 1::2], pairs[:half]
    done = m[:, 1, 0] * a + m[:, 1, 1] * b
    going = m[:, 0, 0] * a + m[:, 0, 1] * b
    if size % 2:
        going = torch.cat([going, x[..., -1:]], -1)
    going = turn(going, pairs[half:])
    joined = torch.stack([going[..., :half], done], -1).flatten(-2)
    return torch.cat([joined, going[..., half:]], -1) if size % 2 else joined
