"""Weights that move and come back, and random streams that leave no trace: what every two-pass method stands on.

Weights are restored by copying saved values. Adding the move and subtracting it again does not restore them: float32
rounding left only about 93 % of the entries as they were when we measured it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256

import torch
from torch import Tensor, nn


@contextmanager
def kept(weights: Iterable[Tensor]) -> Iterator[None]:
    """Whatever happens to these tensors inside, they leave as they came, bit for bit, also after an exception."""
    weights = list(weights)
    saved = [w.detach().clone() for w in weights]
    try:
        yield
    finally:
        with torch.no_grad():
            for weight, value in zip(weights, saved, strict=True):
                weight.copy_(value)


@contextmanager
def moved(weights: Iterable[Tensor], steps: Iterable[Tensor]) -> Iterator[None]:
    """Inside, each weight stands at weight + step; outside, where it was, bit for bit.

    A backward pass over what was computed inside belongs inside too: restoring changes tensors that it saved.
    """
    weights, steps = list(weights), list(steps)
    with kept(weights):
        move(weights, steps)
        yield


@contextmanager
def placed(weights: Iterable[Tensor], values: Iterable[Tensor]) -> Iterator[None]:
    """Inside, the weights hold these values; outside, their own, bit for bit."""
    weights = list(weights)
    with kept(weights):
        with torch.no_grad():
            for weight, value in zip(weights, values, strict=True):
                weight.copy_(value)
        yield


@torch.no_grad()
def move(weights: Sequence[Tensor], steps: Sequence[Tensor]) -> None:
    """weight += step, in place and for good."""
    for weight, step in zip(weights, steps, strict=True):
        weight.add_(step)


def derived_seed(*words: object) -> int:
    """A seed that depends on all the words and on nothing else: stable across processes and machines."""
    digest = sha256("/".join(str(w) for w in words).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1  # 63 bits: torch takes signed integers


@contextmanager
def isolated(device: torch.device, seed: int | None = None) -> Iterator[None]:
    """torch's random streams (CPU, and the device's own) leave as they came; inside they start from `seed`.

    Without a seed they go on from where they are, so the code after the block repeats the same draws.
    """
    cuda = device.type == "cuda"
    index = torch.cuda.current_device() if cuda and device.index is None else device.index
    with torch.random.fork_rng(devices=[index] if cuda else []):
        if seed is not None:
            torch.default_generator.manual_seed(seed)
            if cuda:
                torch.cuda.default_generators[index].manual_seed(seed)
        yield


@contextmanager
def kept_statistics(model: nn.Module) -> Iterator[None]:
    """Running statistics of batch norms leave as they came: an auxiliary pass must not leak through them."""
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    with kept(b for m in norms for b in m.buffers(recurse=False)):
        yield


def global_norm(tensors: Iterable[Tensor]) -> Tensor:
    """L2 norm of all entries together, () in float32 at least."""
    norms = [torch.linalg.vector_norm(t if t.dtype == torch.float64 else t.float()) for t in tensors]
    return torch.linalg.vector_norm(torch.stack(norms))


def inner(a: Iterable[Tensor], b: Iterable[Tensor]) -> Tensor:
    """Sum of products of all entries, ()."""
    return torch.stack([(x * y).sum() for x, y in zip(a, b, strict=True)]).sum()
