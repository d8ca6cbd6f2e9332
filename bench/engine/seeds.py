"""Every random stream of a run, derived from its seed and a purpose: none of them moves when another is used."""

from __future__ import annotations

import random
from hashlib import sha256

import numpy as np
import torch


def derive(seed: int, *purpose: str | int) -> int:
    """A 63-bit seed for one purpose ("init", "order", ...)."""
    text = ":".join(str(p) for p in (seed, *purpose))
    return int.from_bytes(sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *purpose: str | int) -> torch.Generator:
    """A CPU generator for one purpose."""
    return torch.Generator().manual_seed(derive(seed, *purpose))


def seed_all(seed: int, purpose: str) -> None:
    """Set the global streams (initialisation, dropout) for one purpose."""
    value = derive(seed, purpose)
    random.seed(value)
    np.random.seed(value % 2**32)
    torch.manual_seed(value)
