"""What a page tells when a name or a cell is opened: the row in words with printed numbers, runs with losses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from results.published import PrintedTable, plain
from results.spoken import thing, word
from results.suites import Row
from results.visible import visible

from . import fields, inside
from .cards import cards_for, parts_of
from .ledger import number, paper_of
from .world import World

POINTS = 40  # of a curve; more are not seen at its width
WIDE, HIGH = 500, 150  # of the picture of losses


def about(world: World, papers: Sequence[PrintedTable]) -> dict[str, Any]:
    """parts: part of a method -> its lines; rows: of each row its parts' names, then [title, sentences] of itself."""
    cards = cards_for(world.grid.suite)
    parts = [[part for part in parts_of(row.method) if part in cards] for row in world.rows]
    return {"parts": {name: [visible(line) for line in cards[name]] for own in parts for name in own},
            "rows": [[own, _about(world, row, papers)] for own, row in zip(parts, world.rows, strict=True)]}


def _about(world: World, row: Row, papers: Sequence[PrintedTable]) -> list[list[Any]]:
    known = [row.note] if row.note else []
    known += [f"Ours, not the paper's: {words}." for words in world.words("method.ours", row)]
    known += [f"Tuning: {row.budget}."] if row.budget else []
    prices = [f"{label}: {fields.spread(values, whole=True).text}." for label, name in
              (("Trained weights", "params.trained"),
               (f"Bytes kept for backward per {world.thing}", "memory.saved_bytes_per_image"))
              if (values := world.values(row, name))]
    printed = [f"{paper_of(t)} ({t.benchmark}), {t.backbone}: "
               + ", ".join(f"{k} {number(v)}" for k, v in r.printed.items())
               for t in papers for r in t.rows if plain(r.method) == plain(row.method) and r.printed]
    found = [["What is known of it", known], ["Its price, median over its runs", prices],
             ["Printed in papers", printed]]
    return [[title, [visible(line) for line in lines]] for title, lines in found if lines]


def runs(world: World) -> dict[str, Any]:
    """"row,set" -> [a sentence for each run, then of their losses: title, largest, last epoch, `_curve` of each]."""
    found = {}
    for k, row in enumerate(world.rows):
        for d, column in enumerate(world.columns):
            cell = world.grid.cell(row, column)
            lines = [visible(_sentence(world, row, column.title, run)) for run in cell.runs]
            curves = {f"seed {seed}": points for seed, run in zip(cell.seeds, cell.runs, strict=True)
                      if (points := inside.losses(world, run, POINTS))}
            if lines:
                found[f"{k},{d}"] = [lines, *_drawn(curves)]
    return found


def _drawn(curves: Mapping[str, Sequence[tuple[float, float]]]) -> list[Any]:
    """[title, largest loss, last epoch, points of each line in a box of WIDE x HIGH, its origin on top]."""
    every = [point for points in curves.values() for point in points]
    if not every:
        return ["", "", "", []]
    last, most = (max(axis) or 1.0 for axis in zip(*every, strict=True))
    lines = [" ".join(f"{WIDE * epoch / last:.0f},{HIGH * (1 - loss / most):.0f}" for epoch, loss in points)
             for points in curves.values()]
    return [f"Training loss: {', '.join(curves)}", f"{most:.2g}", f"epoch {last:g}", lines]


def _sentence(world: World, row: Row, title: str, run: int) -> str:
    records = world.grid.records

    def held(name: str) -> float:
        value = records.get_number(name, run)
        return float("nan") if value is None else value

    count, epochs = held("dataset.train"), held("spec.epochs")
    one = thing(held("spec.image_size"), records.get_text("spec.tokenizer", run))
    return (f"Run {records.get_text('run_id', run)} trained {row.method} on {count:g} "
            f"{word(count, one)} of {title}: {epochs:g} {word(epochs, 'epoch')}, batches of "
            f"{held('spec.batch_size'):g}, learning rate {held('spec.lr'):g}, weight decay "
            f"{held('spec.weight_decay'):g}, seed {held('spec.seed'):g}; {held('time.train_s'):.1f} s of training on "
            f"{records.get_text('provenance.cpu', run) or records.get_text('provenance.device', run)}, at "
            f"commit {records.get_text('provenance.commit', run)[:8]}.")
