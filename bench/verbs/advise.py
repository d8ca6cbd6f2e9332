"""`advise`: which methods fit into so much memory, with which batch, time and accuracy; what is not known is said.

Nothing is run and no number is made up: `bench.perf.advice` says where each comes from.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from datasets import registry
from methods.catalog import catalog
from methods.grammar import MethodText, parse
from results.spoken import many, word

from .. import checkout
from ..engine import backbones
from ..planning import resolve, settings
from ..planning.inputs import data_problems
from ..planning.request import Request, UsageError
from ..suites import CORE
from ..units import duration
from . import printed
from .words import Verb, request_of

if TYPE_CHECKING:
    from ..perf.advice import Printed, Seen, Taken
    from ..planning.resolve import Planned

ORDER = 35  # in the list of commands
GB = 1e9
UNITS = {"": GB, "gb": GB, "g": GB, "gib": 2.0**30, "mb": 1e6, "mib": 2.0**20}
COUNTS = {"": 1.0, "k": 1e3, "m": 1e6}
UNKNOWN = "not known here"
ALL = "all"


@dataclass(frozen=True)
class Row:
    """What is known of a method; None and "" where nothing is."""

    text: str
    trained: int  # without the head
    batch: int
    bytes: float | None  # that a card needs for it
    batches: tuple[int, ...]  # the largest, for each budget; none where no step can be forecast
    seen: Seen | None
    lacks: str
    time: Taken | None
    printed: tuple[Printed, ...]

    @property
    def fits(self) -> bool:
        """Into the largest budget, with the batch that was asked for."""
        return bool(self.batches) and self.batches[-1] >= self.batch


def add(verb: Verb) -> None:
    """The command and its options."""
    made = verb("advise", act, "which methods fit into so much memory, with which batch, time and accuracy, as far as "
                "forecasts and records know; and the one command that settles the rest")
    asked = made.add_argument_group("what for")
    asked.add_argument("--datasets", nargs="+", required=True, metavar="NAME",
                       help="names of `list datasets`, or folder:PATH for images of your own")
    asked.add_argument("--backbone", metavar="NAME", help="left out: the embedded one")
    asked.add_argument("--methods", nargs="+", default=[], metavar="TEXT",
                       help=f"left out: {' '.join(CORE)}; {ALL}: every adapter that the backbone carries (minutes)")
    asked.add_argument("--epochs", type=settings.whole, help="of the runs; records of as many count (default: the "
                       "protocol's)")
    asked.add_argument("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", dest="sets",
                       help="settings of the runs, as precision=bf16")
    asked.add_argument("--root", "--data", dest="data", help="where real data lies, for the command at the end; "
                       "'standin': advice for the generated miniatures")
    asked.add_argument("--partial", action="store_true", help="of a folder, leave images aside that cannot be read; "
                       "given to the command at the end, too")
    bounds = made.add_argument_group("what is allowed")
    bounds.add_argument("--memory", nargs="+", type=_bytes, required=True, metavar="12GB",
                        help="of the card; several give a column each")
    bounds.add_argument("--batch", type=settings.whole, metavar="N", help="images per step that must fit (default: the "
                        "protocol's)")
    bounds.add_argument("--params", type=_count, metavar="0.3M", help="trained weights at most, without the head")
    bounds.add_argument("--merged", action="store_true", help="only what merges into the backbone: no cost when used")


def _bytes(text: str) -> float:
    found = re.fullmatch(r"\s*(\d+\.?\d*|\.\d+)\s*([a-z]*)\s*", text.lower())
    if not found or found[2] not in UNITS or not 0 < float(found[1]) < 1e9:
        raise argparse.ArgumentTypeError(f"takes a size as 12GB, 12GiB or 800MB, not {text!r}")
    return float(found[1]) * UNITS[found[2]]


def _count(text: str) -> float:
    found = re.fullmatch(r"\s*(\d+\.?\d*|\.\d+)\s*([km]?)\s*", text.lower())
    if not found:
        raise argparse.ArgumentTypeError(f"takes a number of weights as 0.3M, 300k or 300000, not {text!r}")
    return float(found[1]) * COUNTS[found[2]]


def act(args: argparse.Namespace) -> int:
    if args.batch is not None and args.batch < 1:
        raise UsageError([f"--batch takes a number of 1 or more, not {args.batch}"])
    from ..perf import advice
    from ..progress import Bar

    typed = list(args.datasets)
    methods = _methods(args)
    args.methods, args.backbones, args.seeds, args.batch_size = methods, [args.backbone] * bool(args.backbone), [0], \
        args.batch
    args.config = None
    request = request_of(args)
    planned = resolve.without_inputs(request)
    suite = resolve.suite_of(request)
    standin = suite.standins or request.data == "standin"
    runs: dict[str, list[Planned]] = {}
    for one in planned:
        runs.setdefault(one.text, []).append(one)
    budgets = sorted(set(args.memory))
    classes = max(registry.get(one.spec.dataset).classes for one in planned)
    known = advice.sources(checkout.RUNS, checkout.REFERENCE)
    told = {} if standin else _printed(list(runs), planned, typed)
    rows, out = [], list[str]()
    with Bar(len(runs), "forecasts") as bar:
        for text, own in runs.items():
            why = _refused(text, own[0], args)
            if why:
                out.append(f"{text}: {why}")
            else:
                needed, largest = advice.memory(own[0].spec, classes, budgets) or (None, ())
                seen, lacks = advice.accuracy(own, known, standin)
                rows.append(Row(text, _trained(text, own[0]), own[0].spec.batch_size, needed, largest, seen, lacks,
                                advice.taken(own, known), tuple(told.get(text, ()))))
            bar.one_more(text)
    print(_head(planned, classes, standin))
    print(_table(rows, budgets, planned[0].spec.batch_size))
    for line in (*_notes(rows), *(f"left out: {one}" for one in out)):
        print(line)
    print(_settling(rows, args, typed, request))
    return 0


def _methods(args: argparse.Namespace) -> list[str]:
    if args.methods != [ALL]:
        return list(args.methods) or list(CORE)
    name = args.backbone or backbones.EMBEDDED
    family = backbones.family(name)
    return [p.name for p in catalog().values() if p.kind == "adapter" and family in p.families
            and not p.facts.get("requires")]


def _refused(text: str, one: Planned, args: argparse.Namespace) -> str:
    """Why a method is left out before its memory is asked for; or nothing."""
    method: MethodText = parse(text)
    if args.merged and not method.adapter.mergeable:
        return "does not merge into the backbone"
    count = _trained(text, one) if args.params is not None else 0
    return f"trains {count:,} {word(count, 'weight')}" if args.params is not None and count > args.params else ""


def _trained(text: str, one: Planned) -> int:
    from ..engine.count import trained_weights

    return trained_weights(parse(text), one.spec.model, 2)[0]


def _printed(methods: Sequence[str], planned: Sequence[Planned], typed: Sequence[str]) -> dict[str, list[Printed]]:
    from results.printed import load_published

    from ..perf import advice

    names = list(dict.fromkeys(one.spec.dataset for one in planned))
    return advice.printed(load_published(on_error=lambda error: None), methods, planned[0].spec.model, names,
                          lambda row: printed.meant(row.method))


def _head(planned: Sequence[Planned], classes: int, standin: bool) -> str:
    spec, sets = planned[0].spec, list(dict.fromkeys(one.spec.dataset for one in planned))
    reads = f"images of {spec.image_size} pixels" if spec.image_size else "texts"
    return (f"{spec.model}, {reads}, {spec.precision}, {spec.optimizer}, {many(spec.epochs, 'epoch')}, a head of "
            f"{many(classes, 'class', 'classes')}; {', '.join(sets) if len(sets) < 5 else many(len(sets), 'data set')}"
            + (", as stand-ins where they are not shipped" if standin else ""))


def _table(rows: Sequence[Row], budgets: Sequence[float], batch: int) -> str:
    from tabulate import tabulate

    heads = ["method", "trained", f"bytes, batch {batch}", *(f"batch in {b / GB:.4g} GB" for b in budgets),
             "time of a seed", "accuracy, %", "printed, %", "Pareto"]
    best, _ = _pareto(rows)
    order = sorted(rows, key=lambda r: (not r.fits, -max(r.batches, default=0)))
    return tabulate([_cells(row, len(budgets), row.text in best) for row in order], heads, disable_numparse=True,
                    colalign=("left", *["right"] * (2 + len(budgets)), "left", "left", "left", "left"))


def _cells(row: Row, budgets: int, best: bool) -> list[str]:
    from ..perf.fit import LIMIT

    need = UNKNOWN if row.bytes is None else f"{row.bytes / GB:.2f} GB"
    largest = [f"{b:,}{'+' * (b == LIMIT)}" if b else "none" for b in row.batches] or ["?"] * budgets
    seen, time = row.seen, row.time
    accuracy = UNKNOWN + (f" ({row.lacks})" if row.lacks else "") if seen is None else (
        f"{100 * seen.mean:.1f} [{100 * seen.low:.1f}, {100 * seen.high:.1f}] {seen.source}{'*' * seen.older}")
    spent = UNKNOWN if time is None else duration(time.seconds) + (
        f" [{duration(time.low)}, {duration(time.high)}]" if time.low is not None and time.high is not None else "")
    values = sorted(p.percent for p in row.printed)
    paper = " to ".join(dict.fromkeys(f"{v:.1f}" for v in (*values[:1], *values[-1:])))
    return [row.text, f"{row.trained:,}", need, *largest, spent, accuracy, paper, "yes" if best else ""]


def _pareto(rows: Sequence[Row]) -> tuple[list[str], str]:
    """Of what fits and is known, what nothing beats that needs less memory; and whose numbers say so.

    Records count; without any, the one table of a paper that prints most of these methods, since numbers of several
    protocols are not compared. Nothing where fewer than two are known.
    """
    from ..perf.advice import undominated

    fitting = [r for r in rows if r.fits and r.bytes is not None]
    points = {r.text: (r.seen.mean, r.bytes or 0.0) for r in fitting if r.seen}
    if points:
        return (undominated(points), "records") if len(points) > 1 else ([], "")
    tables = Counter(where for r in fitting for where in {p.where for p in r.printed})
    where = min(tables, key=lambda name: (-tables[name], name), default="")
    points = {r.text: (p.percent, r.bytes or 0.0) for r in fitting for p in r.printed if p.where == where}
    return (undominated(points), where) if len(points) > 1 else ([], "")


def _notes(rows: Sequence[Row]) -> list[str]:
    """Where the numbers come from, as far as there are any."""
    found = ["memory: exact ledger of a step times 1.2 for its temporaries, and 0.8 GB of a CUDA context; "
             "`perf --fit` tries it on a GPU; trained: without the head"]
    unread = [r.text for r in rows if r.bytes is None]
    if unread:
        found.append(f"memory of {', '.join(unread)}: {UNKNOWN}, the step reads numbers; `run` measures the first one")
    times = [r.time for r in rows if r.time is not None]
    if times:
        found.append("time: of one seed on all the data sets, from " + "; ".join(dict.fromkeys(
            f"{t.source} runs on {t.device}, {t.like}" for t in times)) + "; in [ ] 80 %")
    else:
        found.append(f"time: {UNKNOWN}, no like run is recorded")
    seen = [r.seen for r in rows if r.seen is not None]
    if seen:
        seeds, sizes = sorted({s.seeds for s in seen}), sorted({b for s in seen for b in s.batch})
        found.append(f"accuracy: {' and '.join(dict.fromkeys(s.source for s in seen))} runs, "
                     f"{' to '.join(str(n) for n in dict.fromkeys((seeds[0], seeds[-1])))} {word(seeds[-1], 'seed')}, "
                     f"batch {', '.join(map(str, sizes))}; in [ ] 95 %: test images, and seeds where there are two"
                     + ("; *: made with an older source of the method" if any(s.older for s in seen) else ""))
    papers = dict.fromkeys(p.where for r in rows for p in r.printed)
    if papers:
        found.append("printed: papers' numbers under their own protocols, by the method's name whatever its options, "
                     f"and no records: {'; '.join(papers)}")
    if said := _pareto(rows)[1]:
        found.append("Pareto: of what fits and is known, nothing with less memory is as accurate"
                     + ("" if said == "records" else f"; as printed in {said}, which runs here may not repeat"))
    return found


def _settling(rows: Sequence[Row], args: argparse.Namespace, typed: Sequence[str], request: Request) -> str:
    """The command that makes known what is not, of the methods that fit."""
    open_ = [r for r in rows if r.seen is None and (r.fits or r.bytes is None)]
    if not open_:
        fitting = any(r.fits for r in rows)
        return "nothing is open: the accuracy of all that fits is known" if fitting else \
            "nothing fits: take a smaller --batch, more --memory, or another --backbone"
    words = ["python", "-m", "bench", "run", "--datasets", *typed, "--methods", *(r.text for r in open_)]
    words += ["--backbones", args.backbone] if args.backbone else []
    words += ["--seeds", "0", "1", "2"]
    words += ["--batch-size", str(args.batch)] if args.batch else []
    words += ["--epochs", str(args.epochs)] if args.epochs else []
    words += ["--set", *args.sets] if args.sets else []
    words += ["--root", args.data] if args.data else []
    words += ["--partial"] if args.partial else []
    for folder in args.extra:
        words += ["--extra", folder]
    lacking = _lacking(args, request)
    words += [word for more, _ in lacking for word in more]
    small = [f"{r.text} ({r.batches[-1]})" for r in rows if r.seen is None and not r.fits and max(r.batches, default=0)]
    told = f"\nnot among them, for they fit with a smaller batch alone: {', '.join(small)}" if small else ""
    total = sum(3 * r.time.seconds for r in open_ if r.time is not None)
    unknown = sum(r.time is None for r in open_)
    units = " and ".join(dict.fromkeys("core" if r.time.device == "cpu" else "GPU" for r in open_ if r.time))
    cost = f"its time is {UNKNOWN}" if unknown == len(open_) else (
        f"some {duration(total)} one after the other, {total / 3600:.2f} {units}-hours" + (
            f", and {many(unknown, 'method')} whose time is {UNKNOWN}" if unknown else ""))
    told += "".join(f"\n{why}" for _, why in lacking)
    return f"what is not known is settled by ({cost}):\n  {shlex.join(words)}{told}"


def _lacking(args: argparse.Namespace, request: Request) -> list[tuple[list[str], str]]:
    """(words that the command needs beside those that were typed, why) where data or weights are not here."""
    found = []
    if not (request.data or os.environ.get("DATA") or resolve.suite_of(request).standins) and \
            data_problems([registry.get(name) for name in request.datasets], Path(), ""):
        found.append((["--root", "FOLDER"], "FOLDER: where the real data lies; `data check NAME --root FOLDER` tries "
                      "it"))
    try:
        backbones.find_weights(args.backbone or backbones.EMBEDDED)
    except backbones.BackboneError:
        found.append((["--weights", "FILE"], f"FILE: the weights of {args.backbone}, which are not here; --download in "
                      "its place fetches them"))
    return found
