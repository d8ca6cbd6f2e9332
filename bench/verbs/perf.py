"""`python -m bench perf`: time methods in turns, probe the machine, say which batch fits; print it, store a record."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from results import measured
from results.measured import Figure, Measurement
from results.spoken import many
from results.visible import bare, visible

from ..engine.backbones import EMBEDDED
from ..planning.request import UsageError
from ..planning.settings import whole
from ..suites import CORE, SUITES
from .words import Verb, on_device

if TYPE_CHECKING:
    from ..perf.measure import Found
    from ..perf.rig import Variant


GB = 1e9

ORDER = 130  # in the list of commands


def add(verb: Verb) -> None:
    """Add the command to the parser of `cli`."""
    parser = verb("perf", act, "time training and evaluation of several methods in turns, in one process, against "
                  "references and the machine's matrix-product peak; writes a record below results/perf")
    timed = parser.add_argument_group("what is timed")
    timed.add_argument("--methods", nargs="+", default=[], metavar="TEXT",
                       help="for instance lora 'lora@precision=bf16,attention=plain' (default: the demo's)")
    timed.add_argument("--suite", help="take methods, backbone and protocol of a suite")
    timed.add_argument("--backbone", "--backbones", default="", metavar="NAME",
                       help=f"default: {EMBEDDED}; weights are random, which changes no time")
    timed.add_argument("--batch-size", "--batch", type=whole, default=0, metavar="N", help="default: the suite's; 16")
    timed.add_argument("--precision", choices=("fp32", "bf16", "tf32"),
                       help="of all that do not say otherwise behind @")
    timed.add_argument("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", dest="sets",
                       help="attention=plain, drop_path=0.1, lora.rank=4, ...: for all variants")
    way = parser.add_argument_group("how it is timed")
    way.add_argument("--references", nargs="*", default=["linear", "full"], metavar="TEXT",
                     help="what every method is compared with (default: linear full)")
    way.add_argument("--turns", type=whole, default=20, help="each is two timed steps per variant, forwards and "
                     "backwards (default: 20)")
    way.add_argument("--warmup", type=whole, default=5, help="turns that are not counted (default: 5)")
    way.add_argument("--no-eval", action="store_true", help="time training alone")
    way.add_argument("--no-probe", action="store_true", help="do not probe the attention kernels")
    way.add_argument("--fit", nargs="*", type=float, metavar="GB", help="the largest batch in so many GB (1e9 "
                     "bytes), and no timing; without a number: in this device's memory")
    where = parser.add_argument_group("where, and what is kept")
    on_device(where)
    where.add_argument("--out", type=Path, default=measured.FOLDER, help="folder of the record (results/perf)")
    where.add_argument("--no-record", action="store_true", help="print only")


def act(args: argparse.Namespace) -> int:
    """Check, measure, print, store."""
    problems = [f"--{n} must be {low} or more, not {v}" for n, v, low in
                (("turns", args.turns, 1), ("warmup", args.warmup, 0), ("batch-size", args.batch_size, 0)) if v < low]
    problems += [f"--fit takes positive numbers of GB, not {g:g}" for g in args.fit or [] if g <= 0]
    if args.suite and args.suite not in SUITES:
        problems.append(f"no suite is called {args.suite!r}; there are: {', '.join(SUITES)}")
    if problems:
        raise UsageError(problems)
    from ..engine import env
    from ..perf.timing import clock_for
    from . import here

    started, began = env.now(), time.perf_counter()
    variants, backbone = _variants(args)
    device = here.device_of(args.device)
    spec = variants[0].spec
    settings: dict[str, Any] = {"backbone": backbone, "batch_size": spec.batch_size, "image_size": spec.image_size,
                                "precision": spec.precision, "attention": spec.attention, "turns": args.turns,
                                "warmup": args.warmup, "set": " ".join(args.sets),
                                "clock": clock_for(device, spec.threads)[0]}
    if args.fit is not None:
        found = _fit(args, variants, device)
        print(_fit_table(found.figures))
    else:
        found = _timed(args, variants, device)
        print(_table(found.figures, [v.name for v in variants]))
    for note in found.notes:
        print(note)
    if not args.no_record:
        import torch

        from ..perf.machine import describe

        torch.set_num_threads(spec.threads)
        path = measured.save(Measurement(
            "perf-fit" if args.fit is not None else "perf", f"{many(len(variants), 'variant')} on {backbone}",
            started, time.perf_counter() - began, describe(torch.device(device)), settings, tuple(found.figures),
            notes=tuple(found.notes)), args.out)
        print(f"record: {args.out.name}/{path.name}")
    return 1 if any(f.value is None and f.quantity == "train" for f in found.figures) else 0


def _variants(args: argparse.Namespace) -> tuple[list[Variant], str]:
    from ..perf.rig import variant

    suite = args.suite or "custom"
    known = SUITES[suite]()
    backbone = args.backbone or (known.backbones[0] if args.suite else EMBEDDED)
    batch = args.batch_size or (known.protocol["batch_size"] if args.suite else 16)
    texts = args.methods or list(known.methods) or list(CORE)
    general = [*([f"precision={args.precision}"] if args.precision else []), *args.sets]
    references = args.references if args.fit is None else []
    from .words import words_of

    words = [*references, *(w for t in texts for w in words_of(t))]
    return list({v.name: v for v in (variant(w, backbone, batch, general, suite) for w in words)}.values()), backbone


def _timed(args: argparse.Namespace, variants: list[Variant], device: str) -> Found:
    from ..perf.measure import measure

    names = [v.name for v in variants][:len(args.references)]
    found = measure(variants, device, args.turns, args.warmup, names, not args.no_eval, _tell)
    if not args.no_probe:
        _probe(variants, device, found)
    print(file=sys.stderr)
    return found


def _probe(variants: list[Variant], device: str, found: Found) -> None:
    """The attention kernels at the first variant's shape, in every precision that occurs."""
    import torch

    from ..perf.machine import probe_attention
    from ..perf.measure import attention_shape

    shape = attention_shape(variants[0].spec)
    if shape is None:
        return
    for precision in dict.fromkeys(v.spec.precision for v in variants):
        probe = probe_attention(shape, precision, torch.device(device))
        found.add(f"attention {precision}", "plain / fused", "ratio", probe.faster,
                  f"(images, heads, tokens, width) {shape}")
        found.notes.append(probe.advice)


def _fit(args: argparse.Namespace, variants: list[Variant], device: str) -> Found:
    import torch

    from ..perf.fit import by_trying, from_ledger, ledger_bytes
    from ..perf.machine import memory_bytes
    from ..perf.measure import Found

    found = Found()
    cuda = device.startswith("cuda")
    whole = torch.cuda.get_device_properties(device).total_memory if cuda else memory_bytes("MemAvailable") or 0
    budgets = [g * GB for g in args.fit] or [float(whole)]
    for number, one in enumerate(variants, 1):
        if not sys.stderr.isatty():  # a method may take a minute on a large backbone
            print(f"regatta: {one.name} ({number} of {len(variants)})", file=sys.stderr, flush=True)
        taken = ledger_bytes(one.spec, one.spec.batch_size)
        found.add(one.name, f"batch {one.spec.batch_size} takes", "bytes", None if taken is None else float(taken),
                  "" if taken is not None else "cannot be forecast")
        for budget in budgets:
            _tell(f"{one.name}: {budget / GB:g} GB ({number} of {len(variants)})")
            answer = by_trying(one, budget, device) if cuda else from_ledger(one, budget)
            found.add(one.name, f"largest batch in {budget / GB:.3g} GB", "images",
                      None if answer.batch is None else float(answer.batch), answer.how)
    if not cuda:
        found.notes.append("from the ledger: temporaries of a step come on top, some ten percent")
    print(file=sys.stderr)
    return found


def _tell(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r{visible(text)[:100]:<100}", end="", file=bare(sys.stderr), flush=True)


def _table(figures: list[Figure], names: list[str]) -> str:
    """A row per variant: speed, ratios, share of the peak, bytes and operations; then the yardsticks."""
    from tabulate import tabulate

    known = {f.name: f for f in figures}
    ratios = [q for q in dict.fromkeys(f.quantity for f in figures) if q.startswith("train / ")]
    heads = ["method", "train images/s", *(f"× {q.removeprefix('train / ')}" for q in ratios), "of peak",
             "eval images/s", "merged", "saved MiB/image", "GFLOP/image"]
    quantities = [("train", 1.0), *((q, 1.0) for q in ratios), ("train of peak", 1.0), ("eval", 1.0),
                  ("eval merged", 1.0), ("saved per image", 2.0**20), ("step per image", 1e9)]
    rows = [[name, *(_cell(known.get((name, q)), scale) for q, scale in quantities)] for name in names]
    lines = [tabulate(rows, heads, disable_numparse=True)]
    for f in figures:
        if f.subject.startswith("matmul"):
            lines.append(f"{f.subject}: peak {_cell(f, 1e9)} GFLOP/s ({f.note})")
    return "\n".join(lines)


def _cell(figure: Figure | None, scale: float) -> str:
    """`12.3 [12.1, 12.6]`."""
    if figure is None:
        return ""
    if figure.value is None:
        return figure.note or "unknown"
    text = f"{figure.value / scale:.4g}"
    if figure.low is not None and figure.high is not None:
        text += f" [{figure.low / scale:.3g}, {figure.high / scale:.3g}]"
    return text


def _fit_table(figures: list[Figure]) -> str:
    from tabulate import tabulate

    quantities = list(dict.fromkeys(f.quantity for f in figures))
    known = {f.name: f for f in figures}
    rows = []
    for subject in dict.fromkeys(f.subject for f in figures):
        found = [known[subject, q] for q in quantities]
        rows.append([subject, *(_fitting(f) for f in found)])
    return tabulate(rows, ["method", *quantities], disable_numparse=True)


def _fitting(figure: Figure) -> str:
    """Images as a whole number, bytes in the unit that budgets are given in."""
    if figure.value is None:
        return figure.note
    return f"{figure.value / GB:.3g} GB" if figure.unit == "bytes" else str(int(figure.value))
