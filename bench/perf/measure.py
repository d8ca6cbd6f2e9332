"""What `perf` measures: each variant alone (ledger, operations), then all of them in turns (training, evaluation).

A turn also runs the machine's fastest matrix product in every precision at hand, so that each step's operations per
second are stated as a fraction of a peak that was measured in the same seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from methods.families import face_of
from results.measured import Figure, Unit
from results.schema import RunSpec

from ..engine import backbones
from ..engine.forecast import Forecast, forecast
from ..engine.precision import settle
from .machine import DTYPES, Product, fastest_product, synchronised
from .rig import BATCHES, CLASSES, Rig, Variant, made_up, release
from .timing import Spread, Turns, Work, clock_for, in_turns, scaled

REFERENCES = ("linear", "full")
PEAK_STEPS = 3  # of the separate pass that the allocator's peak is read after
Tell = Callable[[str], None]


@dataclass
class Found:
    """Figures as they come in, and sentences on what is missing."""

    figures: list[Figure] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, subject: str, quantity: str, unit: Unit, value: Spread | float | None, note: str = "") -> None:
        """A figure of a spread, or of a single number."""
        if isinstance(value, Spread):
            self.figures.append(Figure(subject, quantity, unit, value.median, value.low, value.high, value.coverage,
                                       value.n, note))
        else:
            self.figures.append(Figure(subject, quantity, unit, value, note=note))


def out_of_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "out of memory" in str(error).lower()


def measure(variants: Sequence[Variant], device: str, turns: int, warmup: int, references: Sequence[str] = REFERENCES,
            evaluate: bool = True, tell: Tell = lambda text: None) -> Found:
    """Every figure of the variants; a reference that is not among them gets no ratio."""
    found, where = Found(), torch.device(device)
    torch.manual_seed(0)
    pictures = {size: made_up(BATCHES * size[0], size[1]) for size in
                {(v.spec.batch_size, v.spec.image_size) for v in variants}}
    rigs: dict[str, Rig] = {}
    expected: dict[str, Forecast] = {}
    for one in variants:
        tell(f"{one.name}: ledger")
        expected[one.name] = forecast(one.spec, CLASSES, BATCHES * one.spec.batch_size)
        try:
            rig = Rig(one.spec, device, pictures[one.spec.batch_size, one.spec.image_size])
            _alone(one, rig, expected[one.name], found, where)
            rigs[one.name] = rig
        except Exception as error:
            if not out_of_memory(error):
                raise
            found.add(one.name, "train", "images/s", None, f"out of memory at batch {one.spec.batch_size}")
        del rig
        release(where)
    alive = [v for v in variants if v.name in rigs]
    if not alive:
        return found
    yardsticks: dict[str, Product] = {p: yardstick(alive, p, where)
                                      for p in dict.fromkeys(str(v.spec.precision) for v in alive)}
    base: dict[str, Work] = {f"matmul {p}": y.work for p, y in yardsticks.items()}
    for rig in rigs.values():
        rig.training()
    _, clock = clock_for(where.type, alive[0].spec.threads)
    timed = in_turns(base | {n: synchronised(r.train_once, where) for n, r in rigs.items()}, turns, warmup, clock,
                     report=lambda done: tell(f"training: turn {done} of {warmup + turns}"))
    for precision, y in yardsticks.items():
        found.add(f"matmul {precision}", "rate", "FLOP/s", timed.rate(f"matmul {precision}", y.flops),
                  "rows x in x out: " + " x ".join(map(str, y.shape)))
    for one in alive:
        _trained(one, timed, references, expected[one.name], yardsticks, found)
    if evaluate:
        _evaluated(alive, rigs, expected, yardsticks, base, turns, warmup, where, found, tell)
    if turns * 2 < 40 or warmup * 2 < 10:
        found.notes.append(f"informal: {2 * warmup} steps of warm-up and {2 * turns} timed ones; a published figure "
                           "has at least 10 and 40")
    return found


def plain_backbone(spec: RunSpec) -> Any:
    """The backbone without numbers: its widths and grids."""
    with torch.device("meta"):
        return backbones.create(spec.model, size=spec.image_size)


def attention_shape(spec: RunSpec) -> tuple[int, int, int, int] | None:
    """(images, heads, tokens, width of a head) of the backbone's attention; None where blocks differ in it."""
    face = face_of(plain_backbone(spec))
    found = None if face.other_form() else face.attention()
    return None if found is None else (spec.batch_size, *found)


def yardstick(variants: Sequence[Variant], precision: str, device: torch.device) -> Product:
    """The matrix product that stands for the machine's peak, at the size of the first variant's blocks."""
    spec = variants[0].spec
    shape = attention_shape(spec)
    rows = spec.batch_size * (shape[2] if shape else 197)
    settle(precision, device)
    best = fastest_product(rows, int(plain_backbone(spec).num_features), DTYPES[precision], device)

    def work() -> None:
        settle(precision, device)  # what runs between two turns may have another
        best.work()

    return replace(best, work=work)


def _alone(one: Variant, rig: Rig, expected: Forecast, found: Found, device: torch.device) -> None:
    """What needs no clock: bytes and operations."""
    cuda = device.type == "cuda"
    before = torch.cuda.memory_allocated(device) if cuda else 0
    memory = rig.first_step()
    found.add(one.name, "saved per image", "bytes", memory.saved_bytes_per_image)
    told = expected.memory.saved_bytes if expected.memory else None
    found.add(one.name, "saved forecast / measured", "ratio",
              told / memory.saved_bytes if told is not None and memory.saved_bytes else None, expected.why)
    for name in ("weights_frozen", "weights_trained", "gradients", "optimizer"):
        found.add(one.name, name.replace("_", " "), "bytes", float(getattr(memory, f"{name}_bytes")))
    found.add(one.name, "forward per image", "FLOP", expected.forward_flops)
    found.add(one.name, "step per image", "FLOP", expected.step_flops)
    if cuda:
        torch.cuda.reset_peak_memory_stats(device)
        for _ in range(PEAK_STEPS):
            rig.train_once()
        torch.cuda.synchronize(device)
        found.add(one.name, "cuda allocated peak", "bytes", float(torch.cuda.max_memory_allocated(device)),
                  f"{before} bytes of it were there before the first step: the model, and other variants' models")
        found.add(one.name, "cuda reserved peak", "bytes", float(torch.cuda.max_memory_reserved(device)))


def _trained(one: Variant, timed: Turns, references: Sequence[str], expected: Forecast,
             yardsticks: Mapping[str, Product], found: Found) -> None:
    batch, precision = one.spec.batch_size, one.spec.precision
    found.add(one.name, "train", "images/s", timed.rate(one.name, batch))
    for reference in references:
        if reference in timed.seconds and reference != one.name:
            found.add(one.name, f"train / {reference}", "ratio", timed.ratio(one.name, reference))
    if expected.step_flops:
        share = expected.step_flops * batch / yardsticks[precision].flops
        found.add(one.name, "train of peak", "ratio", scaled(timed.ratio(one.name, f"matmul {precision}"), share))


def _evaluated(alive: Sequence[Variant], rigs: Mapping[str, Rig], expected: Mapping[str, Forecast],
               yardsticks: Mapping[str, Product], base: Mapping[str, Work], turns: int, warmup: int,
               device: torch.device, found: Found, tell: Tell) -> None:
    works: dict[str, Work] = dict(base)
    for one in alive:
        rig = rigs[one.name]
        rig.evaluating()
        works[one.name] = synchronised(rig.predict_once, device)
        if rig.merge():
            works[f"{one.name} merged"] = synchronised(rig.predict_merged, device)
    _, clock = clock_for(device.type, alive[0].spec.threads)
    timed = in_turns(works, turns, warmup, clock,
                     lambda done: tell(f"evaluation: turn {done} of {warmup + turns}"))
    for one in alive:
        batch, precision = one.spec.batch_size, one.spec.precision
        found.add(one.name, "eval", "images/s", timed.rate(one.name, batch))
        forward = expected[one.name].forward_flops
        if forward:
            share = forward * batch / yardsticks[precision].flops
            found.add(one.name, "eval of peak", "ratio", scaled(timed.ratio(one.name, f"matmul {precision}"), share))
        if f"{one.name} merged" in timed.seconds:
            found.add(one.name, "eval merged", "images/s", timed.rate(f"{one.name} merged", batch))
            found.add(one.name, "eval merged / eval", "ratio", timed.ratio(f"{one.name} merged", one.name))
