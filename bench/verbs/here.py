"""Runs carried out on this machine, as the options say; shared by the commands that run things."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from results.received import Received, accepted
from results.schema import RunResult
from results.spoken import word

from .. import checkout
from ..planning.plan import Plan, make
from ..planning.request import UsageError
from ..planning.resolve import Planned
from .words import request_of, workers

if TYPE_CHECKING:
    from ..dispatch.local import Tally


def claims() -> Any:
    from ..dispatch.state import Claims

    return Claims(checkout.CLAIMS)


def made(args: argparse.Namespace) -> Plan:
    return make(request_of(args), checkout.RUNS, alive=claims().living(), counted=counted(args))


def counted(args: argparse.Namespace) -> dict[str, Received]:
    """The received runs that this command counts, by run. Raises RecordError for a pack that was not checked."""
    wanted = getattr(args, "accept", None)
    return accepted(wanted, args.at_least, checkout.RECEIVED) if wanted else {}


def tell_received(plan: Plan) -> None:
    """A line that says how many of the done runs were made elsewhere, and what they are worth."""
    found = plan.received()
    if found:
        kinds = ", ".join(f"{found.count(kind)} {kind}" for kind in dict.fromkeys(found))
        print(f"{len(found)} of the done runs were not made here: {kinds}")


def carry_out(args: argparse.Namespace, todo: Sequence[Planned], report: Callable[[float, str], None]) -> Tally:
    """Do these runs on this machine; `report(runs done, what is at work)` as things move."""
    from ..dispatch.local import Job, run_all

    device = device_of(args.device)
    places = places_of(args, todo, device)
    check_precision(todo, device)
    need_standins(todo)
    where = {root: where_of(args, root, device) for root in {r.data_root for r in todo}}
    jobs = [Job(r.spec, r.passed, where[r.data_root].with_files(r.weights, r.head), again=r.record is not None)
            for r in todo]
    return run_all(jobs, checkout.RUNS, claims(), min(workers(args), len(jobs)), report, places=places)


def check_device(args: argparse.Namespace) -> None:
    """Refuse a device or GPUs that are not here, before it is known whether anything is left to run.

    torch is asked only where something else than the default or the CPU is named. Raises UsageError.
    """
    if args.device not in ("auto", "cpu") or _named(args):
        _gpus(args, device_of(args.device))


def _named(args: argparse.Namespace) -> list[str]:
    """The options for GPUs alone that were typed."""
    return [f"--{word.replace('_', '-')}" for word in ("devices", "per_device")
            if getattr(args, word, None) is not None]


def _gpus(args: argparse.Namespace, device: str) -> tuple[int, ...]:
    """The numbers of the GPUs that runs may be spread over; none where they have no choice.

    Raises UsageError for GPUs that are not there, or that the other options rule out.
    """
    from ..dispatch import devices

    each, named = getattr(args, "per_device", None), _named(args)
    if each is not None and each < 1:
        raise UsageError([f"--per-device must be 1 or more, not {each}"])
    if device != "cuda":
        if named:
            raise UsageError([f"{named[0]} is for GPUs, and --device {args.device} means {device} here; leave one "
                              "out"])
        return ()
    told = getattr(args, "devices", None)
    return devices.chosen("all" if told is None else told, len(devices.visible()), devices.VISIBLE in os.environ)


def places_of(args: argparse.Namespace, todo: Sequence[Planned], device: str) -> tuple[str, ...]:
    """The GPUs that the runs get, each as often as runs may share it; none on the CPU. Raises UsageError."""
    from ..dispatch import devices

    gpus = _gpus(args, device)
    if device != "cuda":
        return () if device == "cpu" else (device,)
    each = args.per_device or _fitting(todo, gpus)
    places = devices.slots(gpus, each)
    print(f"{len(gpus)} GPU{'s' * (len(gpus) > 1)} ({', '.join(map(str, gpus))}), {each} "
          f"run{'s' * (each > 1)} at once on each", file=sys.stderr)
    return places[:args.jobs or len(places)]


def _fitting(todo: Sequence[Planned], gpus: Sequence[int]) -> int:
    """Runs on each GPU, by the forecast of the largest and the smallest GPU's memory."""
    from ..dispatch import devices, local
    from ..planning.memory import largest

    seen = devices.look(local.forking())
    if len(seen) <= max(gpus):
        return 1
    cores = len(os.sched_getaffinity(0))
    return devices.fitting(largest(todo), min(seen[n].bytes for n in gpus), cores, len(gpus))


def check_precision(todo: Sequence[Planned], device: str) -> None:
    """Say what a CPU makes of bf16, before hours show it. Raises UsageError for runs in TF32, which it has not."""
    if device != "cpu":
        return
    if any(r.spec.precision == "tf32" for r in todo):
        raise UsageError(["precision=tf32 exists on GPUs alone and these runs are for the CPU; leave it out, or use "
                          "--device cuda where there is one"])
    if rounded := sum(r.spec.precision == "bf16" for r in todo):
        from ..perf.machine import rates, slow_bf16

        if told := slow_bf16(rates(), rounded):
            print(f"regatta: {told}", file=sys.stderr)


def tell_graphs(runs: Sequence[Planned], device: str = "") -> None:
    """One line where recorded steps are wanted of a CPU; `device` empty: it is not known yet where they will run."""
    count = sum(r.spec.compiled == "graph" for r in runs)
    if count and device in ("cpu", ""):
        where = "so" if device else "and there"
        some = f"{count} " + word(count, "run falls back to plain steps and says so in its record",
                                  "runs fall back to plain steps and say so in their records")
        print(f"regatta: compiled=graph: a CPU has no CUDA graphs, {where} {some} (diagnostics: compiled 0)",
              file=sys.stderr)


def tell_failures(failures: Sequence[RunResult]) -> None:
    """A line for each run that did not end well, on stderr."""
    for record in failures:
        message = record.failure.message if record.failure else ""
        print(f"regatta: {record.spec.dataset} {record.method.text} seed {record.spec.seed}: {record.status}: "
              f"{message}", file=sys.stderr)


def tell_uncompiled(runs: Sequence[Planned]) -> None:
    """One line when runs that were to be compiled could not be."""
    from results import store

    for graph, how in ((False, "torch.compile"), (True, "recording the step as a CUDA graph")):
        paths = [store.path_of(r.spec, checkout.RUNS) for r in runs if r.spec.compiled
                 and (r.spec.compiled == "graph") == graph]
        count = sum(store.load(p).diagnostics.get("compiled") == 0 for p in paths if p.exists())
        if count:
            print(f"regatta: {how} failed in {count} of {len(paths)} {word(len(paths), 'run')}, which went on "
                  f"uncompiled and {word(count, 'says so in its record', 'say so in their records')} "
                  "(diagnostics: compiled 0)", file=sys.stderr)


def report(args: argparse.Namespace) -> int:
    """Rewrite the tables from every record and suite there is, and from what this command accepts."""
    import subprocess

    wanted = getattr(args, "accept", None)
    more = ["--accept", *wanted, "--at-least", args.at_least] if wanted else []
    done = subprocess.run([sys.executable, "-m", "reports", "build", "--keep-going", *more], check=False)
    return done.returncode


def device_of(wanted: str) -> str:
    """What `--device` means on this machine. Raises UsageError for a device that is not here."""
    import torch

    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, number = wanted.partition(":")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if kind == "cuda" and int(number or 0) >= count:
        there = ", ".join(["cpu", "cuda", *(f"cuda:{n}" for n in range(count))]) if count else "cpu alone"
        raise UsageError([f"there is no device {wanted!r} here; this machine has {there}"])
    return wanted


def where_of(args: argparse.Namespace, root: Path, device: str) -> Any:
    from ..engine.where import Where

    return Where(data_root=root, cache_root=None if args.no_cache else checkout.CACHE, weights_file=None, device=device,
                 deterministic=args.strict or device == "cpu", checkpoints=checkpoints(),
                 checkpoint_every_s=max(0.0, args.checkpoint_every), checkpoint_every_epochs=args.checkpoint_epochs,
                 time_limit_s=args.time_limit, keep_weights=args.keep_weights,
                 keep_members=getattr(args, "members", "none"),
                 follow=_writable(checkout.RUNS.parent / args.follow) if args.follow else None)


@cache
def _writable(folder: Path) -> Path | None:
    """The folder, where curves can be written there; else nothing, which is told once: curves are not worth a run."""
    there = next(p for p in (folder, *folder.parents) if os.path.lexists(p))
    if there.is_dir() and os.access(there, os.W_OK | os.X_OK):
        return folder
    place = f"{folder.parent.name}/{folder.name}"
    why = "may not be written" if there.is_dir() else f"cannot be a folder: {there.name} is a file"
    print(f"regatta: --follow {folder.name}: {place} {why}; the runs go on and write no curves", file=sys.stderr)
    return None


def checkpoints() -> Path:
    """Where runs at work store how far they are."""
    return checkout.RUNS.parent / "checkpoints"


def need_standins(todo: Sequence[Planned]) -> None:
    """Write the stand-ins that the runs need and that are not there yet."""
    from datasets.standins import write_all

    from ..progress import Bar

    names = list(dict.fromkeys(n for r in todo if r.spec.standin for n in (r.spec.dataset, *r.spec.also_test)))
    if names:
        with Bar(len(names), "stand-ins") as bar:
            write_all(names, checkout.STANDINS, bar.one_more)


def tell_inflation(runs: Path) -> None:
    """What peeking at test would have gained, per method, from every record of phase peek."""
    from tabulate import tabulate

    from results.index import read
    from results.peeking import inflation

    found = inflation(read(runs, on_error=lambda error: None))
    if found:
        print("\nWhat keeping the best epoch on test would have gained (no leaderboard accepts these):")
        print(tabulate([(r.method, r.datasets, f"{100 * r.last:.1f}", f"{100 * r.best:.1f}", f"{100 * r.gain:+.1f}",
                         f"{r.worst} {100 * r.worst_gain:+.1f}") for r in found],
                       ("method", "data sets", "last epoch", "best epoch", "gain", "most on"), disable_numparse=True))
