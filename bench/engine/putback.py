"""What a run changes as it goes, taken and put back: its weights, and every random stream."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


def random_state() -> dict[str, Any]:
    """Every global random stream; of GPUs that of the run's own, which may be another when the run goes on."""
    name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    version, words, gauss = random.getstate()
    started = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    return {"python": (version, torch.tensor(words), gauss), "torch": torch.get_rng_state(),
            "numpy": (str(name), torch.from_numpy(np.asarray(keys, np.int64)), int(position), int(has_gauss),
                      float(cached)),
            "cuda": [torch.cuda.get_rng_state()] if started else []}


def restore_random(state: dict[str, Any]) -> None:
    """Back to `random_state`."""
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words.tolist()), gauss))
    name, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, keys.cpu().numpy().astype(np.uint32), position, has_gauss, cached))
    torch.set_rng_state(state["torch"].cpu())
    if state["cuda"]:
        torch.cuda.set_rng_state(state["cuda"][0].cpu())


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """What training may change, not copied: weights that require a gradient, and every buffer."""
    return ({f"p.{n}": p.detach() for n, p in model.named_parameters() if p.requires_grad}
            | {f"b.{n}": b.detach() for n, b in model.named_buffers()})


@torch.no_grad()
def restore_weights(model: nn.Module, state: dict[str, Tensor]) -> None:
    """Back to `weights_of`."""
    for name, p in model.named_parameters():
        if p.requires_grad:
            p.copy_(state[f"p.{name}"])
    for name, b in model.named_buffers():
        b.copy_(state[f"b.{name}"])
