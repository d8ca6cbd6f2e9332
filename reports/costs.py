"""What accuracy costs: memory and parameters, then throughput, in the row order of the accuracy tables."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from results.suites import Row

from . import fields, rules
from .table import Field, Table, legend_of
from .world import World, foreign, name_header, names, title_of

TRAIN = "throughput.train_images_per_s"
STEADY = 2.0  # runs of one row that differ by more were timed on a machine that did other things too

LEDGER = (
    ("Kept for backward per {thing}", "memory.saved_bytes_per_image"), ("Kept for backward", "memory.saved_bytes"),
    ("Frozen weights", "memory.weights_frozen_bytes"), ("Trained weights", "memory.weights_trained_bytes"),
    ("Gradients", "memory.gradients_bytes"), ("Optimiser state", "memory.optimizer_bytes"),
    ("Peak allocated", "memory.cuda_peak_allocated_bytes"), ("Peak reserved", "memory.cuda_peak_reserved_bytes"),
    ("Peak in evaluation", "memory.eval_cuda_peak_allocated_bytes"),
)
COUNTS = (
    ("Trained: adapter", "params.trained_adapter"), ("Trained: head", "params.trained_head"),
    ("Trained: backbone", "params.trained_backbone"), ("Added at inference", "params.extra_inference"),
    ("Added when merged", "params.extra_inference_merged"),
)


def memory(world: World) -> Table:
    """Kept for backward first, then the ledger; parameters of adapter and head apart."""
    found = {name: [world.values(row, name) for row in world.rows] for _, name in (*LEDGER, *COUNTS)}
    shown = [(label, name) for label, name in LEDGER if name == LEDGER[0][1] or any(found[name])]
    counts = [(label, name) for label, name in COUNTS if any(found[name])]
    units = {name: fields.unit_of([v for values in found[name] for v in values]) for _, name in shown}
    header = [*name_header(world), *(f"{label.format(thing=world.thing)}, {units[name][0]}" for label, name in shown),
              *(label for label, _ in counts)]
    body = tuple((*names(world, row), *(fields.spread(found[name][i], units[name][1]) for _, name in shown),
                  *(fields.spread(found[name][i], whole=True) for _, name in counts))
                 for i, row in enumerate(world.rows))
    words = ("kept for backward: bytes of unique storages that autograd keeps during one training step, parameters "
             "excluded, at their peak; the same on every device",
             "median (least–most) over data sets where they differ, as heads grow with classes"
             f"{' and texts with their length' if world.thing != 'image' else ''}",
             "–: not measured, never 0", *legend_of(body, rules.LEGEND))
    return Table(f"{world.key}-memory", title_of(world, "Memory and parameters"), batch(world), tuple(header), body,
                 words, (), frozenset(range(len(name_header(world)), len(header))), world.rows)


def throughput(world: World) -> Table:
    """Images or texts per second; informal until `bench perf` has measured it."""
    grid = world.grid
    header = [*name_header(world), f"Training {world.thing}s/s", f"Evaluation {world.thing}s/s",
              f"Training / {grid.suite.reference}", "Training, s per run", "Whole run, s", "Source"]
    body, shaky = [], False
    for row in world.rows:
        train, source = world.values(row, TRAIN), world.words("throughput.source", row)
        gain = _ratio(world, row)
        shaky |= gain is None
        body.append((*names(world, row), fields.spread(train),
                     fields.spread(world.values(row, "throughput.eval_images_per_s")),
                     gain or Field("–"),
                     fields.spread(world.values(row, "time.train_s")),
                     fields.spread(world.values(row, "time.total_s")), Field(", ".join(source) or "–")))
    informal = any("informal" in line[-1].text for line in body)
    words = [f"each training {world.thing} counts once per step however many passes a method makes",
             "median (least–most) over data sets and seeds"]
    if informal:
        words.append("informal: from training logs of runs that may have shared the machine; "
                     "`python -m bench perf` measures it")
    if shaky:
        words.append(f"no ratio where a row's own runs, or those of {grid.suite.reference}, differ by more than a "
                     "factor of two")
    what = "Throughput (INFORMAL)" if informal else "Throughput"
    return Table(f"{world.key}-throughput", title_of(world, what), batch(world), tuple(header), tuple(body),
                 (*words, *legend_of(body, rules.LEGEND)), tuple(foreign(world)),
                 frozenset(range(len(name_header(world)), len(header) - 1)), world.rows)


def _ratio(world: World, row: Row) -> Field | None:
    """Training speed over the reference row's; None where informal figures of one row are too far apart to say."""
    other = world.reference(row)
    train, base = world.values(row, TRAIN), world.values(other, TRAIN) if other else []
    if other is None or not train or not base or not median(base) or row in world.foreign:
        return Field("–")
    if any(_informal(world, one) and not _steady(own) for one, own in ((row, train), (other, base))):
        return None
    return fields.ratio(median(train) / median(base))


def _informal(world: World, row: Row) -> bool:
    return any("informal" in word for word in world.words("throughput.source", row))


def _steady(values: Sequence[float]) -> bool:
    return max(values) <= STEADY * min(values)


def batch(world: World) -> str:
    """What memory and speed depend on."""
    parts = (("batch", "spec.batch_size"), ("image size", "spec.image_size"), ("tokens", "spec.text_length"),
             ("precision", "spec.precision"),
             ("device", "provenance.device"), ("CPU", "provenance.cpu"))
    known = [(label, found) for label, name in parts if (found := world.words(name)) not in ([], ["0"])]
    return "; ".join(f"{label} {', '.join(found)}" for label, found in known) + "."
