"""A pre-training that is stopped goes on where it was: its checkpoint, written whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn


def keep(work: Path, settings: dict[str, Any], student: nn.Module, optimizers: list[torch.optim.Optimizer],
         progress: dict[str, Any]) -> None:
    """Under another name first, so that a stop leaves the former one whole."""
    work.mkdir(parents=True, exist_ok=True)
    draft = work / "checkpoint.part"
    torch.save({"settings": settings, "progress": progress, "student": student.state_dict(),
                "optimizers": [optimizer.state_dict() for optimizer in optimizers]}, draft)
    draft.replace(work / "checkpoint.pt")


def found(work: Path, settings: dict[str, Any], student: nn.Module,
          optimizers: list[torch.optim.Optimizer]) -> dict[str, Any]:
    """The progress that `keep` left of the same settings, the rest put into student and optimizers; else nothing."""
    if not (work / "checkpoint.pt").is_file():
        return {}
    stored = torch.load(work / "checkpoint.pt", weights_only=True)
    if stored["settings"] != settings:
        return {}
    student.load_state_dict(stored["student"])
    for optimizer, state in zip(optimizers, stored["optimizers"], strict=True):
        optimizer.load_state_dict(state)
    progress: dict[str, Any] = stored["progress"]
    return progress
