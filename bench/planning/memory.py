"""What `plan --memory` and `show NAME --backbone B` print: a method's training memory before anything runs.

Exact to the byte and without a GPU (`engine.forecast`); importing torch is what takes the time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from datasets import registry
from results.schema import RunSpec

from ..units import size

if TYPE_CHECKING:
    from .resolve import Planned


HEADS = ("method", "backbone", "batch", "precision", "kept per image", "kept per step", "weights", "gradients",
         "optimizer", "sum", "GFLOP per image")


def table(planned: Sequence[Planned]) -> str:
    """A row for every method, backbone, batch and precision of the plan, with the head of most classes."""
    from tabulate import tabulate

    heads = {one.spec.zero_shot: one.head for one in planned}
    rows = [_row(kind, *about, heads[kind.zero_shot]) for kind, about in _kinds(planned).items()]
    return tabulate(rows, HEADS, disable_numparse=True) + (
        "\nkept for backward, exact for the first step; a step's temporaries (some ten percent of the sum) are in no "
        "column")


def _kinds(planned: Sequence[Planned]) -> dict[RunSpec, tuple[str, int, int]]:
    """What needs memory in its own way -> the method as shown, the most classes and the most images."""
    kinds: dict[RunSpec, tuple[str, int, int]] = {}
    for one in planned:
        card = registry.get(one.spec.dataset)
        images = card.splits.get("trainval", card.splits.get("train", 1000))
        kind = replace(one.spec, dataset="", data="", seed=0, lr=0.0, also_test=(), fold="", epochs=100)
        before = kinds.get(kind, ("", 0, 0))
        kinds[kind] = (one.text, max(before[1], card.classes), max(before[2], images))
    return kinds


def largest(planned: Sequence[Planned]) -> int | None:
    """Bytes that the largest of these runs is forecast to hold in a training step; None where one is not known."""
    from ..engine.forecast import forecast

    most = 0
    heads = {one.spec.zero_shot: one.head for one in planned}
    for kind, (_, classes, images) in _kinds(planned).items():
        found = forecast(kind, classes, images, heads[kind.zero_shot]).total_bytes
        if found is None:
            return None
        most = max(most, found)
    return most


def _row(spec: RunSpec, text: str, classes: int, images: int, head: Path | None) -> tuple[str, ...]:
    from ..engine.forecast import forecast

    found = forecast(spec, classes, images, head)
    lead = (text, spec.model, str(spec.batch_size), spec.precision)
    memory = found.memory
    if memory is None or memory.saved_bytes is None or found.total_bytes is None or found.step_flops is None:
        return (*lead, found.why)
    return (*lead, size(memory.saved_bytes / spec.batch_size), size(memory.saved_bytes),
            size(memory.weights_frozen_bytes + memory.weights_trained_bytes), size(memory.gradients_bytes),
            size(memory.optimizer_bytes), size(found.total_bytes), f"{found.step_flops / 1e9:.3g}")


def line(text: str, backbone: str, classes: int) -> str:
    """One line for a method's card, at the batch and the precision of the common recipe."""
    from methods.grammar import parse

    from ..engine import backbones
    from ..engine.forecast import forecast
    from ..engine.wording import LONGEST
    from ..suites.base import VTAB

    method = parse(text)
    fields = VTAB | {"drop_path": 0.0, "image_size": backbones.image_size(backbone), "threads": 1,
                     "text_length": min(LONGEST, backbones.longest(backbone)) if backbones.is_text(backbone) else 0}
    spec = RunSpec(dataset="", model=backbone, method=method.name, options=method.options, seed=0, phase="final",
                   select="last", data="", weights="random", **fields)  # type: ignore[arg-type]
    found = forecast(spec, classes)
    if found.memory is None or found.memory.saved_bytes is None or found.step_flops is None:
        return f"memory: not known before the first step ({found.why})"
    memory = found.memory
    return (f"training memory, {spec.precision}, batch {spec.batch_size}: {size(memory.saved_bytes_per_image or 0.0)} "
            f"per image kept for backward; weights {size(memory.weights_frozen_bytes + memory.weights_trained_bytes)}, "
            f"gradients {size(memory.gradients_bytes)}, optimizer {size(memory.optimizer_bytes)}; "
            f"{found.step_flops / 1e9:.3g} GFLOP per image and step")
