"""What this program does with a GPU, in one command and eight minutes at most: `python -m tests.perf.on_gpu`.

Steps stand in the order of their value, and each figure is in the record (results/perf, or `--out`) as soon as it is
there, so that a machine that is taken away leaves what it has shown:

    ledger       bytes of the ledger against the allocator's peak: LoRA, full, SHERL
    waiting      device synchronisations in a step, by torch's own count
    rates        images/s of a LoRA step in every form, as a share of the matrix product's rate, beside peft's loop
    run          one run shaped as VTAB-1k's: 1000 images x 100 epochs, then test images; the row that follows from it
    together     1, 2 and 4 runs on one GPU
    cohort       runs that share a backbone: not built, see docs/performance.md

`--small` is the same on a tiny scale, on a CPU where there is no GPU: a test runs it, so that it cannot rot. Its rates
mean nothing. What a device cannot do is a figure without a number, and a note says why.
"""

from __future__ import annotations

import argparse
import multiprocessing as mp
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from bench.engine import env, meter
from bench.engine.backbones import EMBEDDED
from bench.engine.evaluate import predict
from bench.engine.forecast import forecast
from bench.perf.machine import DTYPES, describe, product, synchronised
from bench.perf.measure import Found, out_of_memory, yardstick
from bench.perf.rig import CLASSES, Rig, Variant, made_up, release, variant
from bench.perf.timing import Work, in_turns, scaled
from bench.planning.request import UsageError
from methods.grammar import MethodError
from results import measured
from results.measured import Measurement
from tests.perf.against_peft import LORA, Other
from tests.perf.claims import tell

FORMS = {"fp32": "precision=fp32", "tf32": "precision=tf32", "bf16": "precision=bf16",
         "bf16 graph": "precision=bf16,compiled=graph", "bf16 blocks": "precision=bf16,compiled=blocks"}
LEDGERS = ("lora", "full", "sherl")
ROW_SETS, ROW_TEST = 19, 387_904  # VTAB-1k: data sets, and test images of all of them


@dataclass(frozen=True)
class Scale:
    """How large everything is."""

    backbone: str
    batch: int
    images: int  # of the run
    epochs: int
    tested: int  # images that the run predicts
    turns: int
    steps: int  # of a turn
    together: tuple[int, ...]
    steady_s: float  # for which runs beside each other are watched
    small: bool = False  # to see that it works: no search for the fastest product, no other process for peft
    settings: tuple[str, ...] = ("drop_path=0.0",)


WHOLE = Scale("vit_base_patch16_224.augreg_in21k", 64, 1000, 100, 4096, 5, 10, (1, 2, 4), 8.0)
SMALL = Scale(EMBEDDED, 4, 8, 1, 4, 1, 1, (1,), 0.1, small=True)
SHAPE = (64, 64, 64)  # of the product that stands for the peak on the small scale
PATIENCE_S = 300.0  # for processes to start and to end


class Sheet(Found):
    """Figures that are written down one by one."""

    def __init__(self, scale: Scale, device: torch.device, folder: Path) -> None:
        super().__init__()
        self.scale, self.device, self.folder = scale, device, folder
        self.started, self.began, self.machine = env.now(), time.perf_counter(), describe(device)

    def add(self, *told: Any, **more: Any) -> None:
        super().add(*told, **more)
        last = self.figures[-1]
        tell(f"{last.subject}: {last.quantity} {'-' if last.value is None else f'{last.value:.5g}'} {last.unit}"
             + (f" ({last.note})" if last.note else ""))
        self.keep()

    def keep(self) -> Path:
        """The record as it is; the same file each time."""
        scale = self.scale
        return measured.save(Measurement(
            "on-gpu", "One GPU: memory, rates, a whole run", self.started, time.perf_counter() - self.began,
            self.machine, {"backbone": scale.backbone, "batch_size": scale.batch, "images": scale.images,
                           "epochs": scale.epochs, "turns": scale.turns}, tuple(self.figures), (), tuple(self.notes)),
            self.folder)

    def value(self, subject: str, quantity: str) -> float | None:
        return next((f.value for f in self.figures if f.name == (subject, quantity)), None)


def made(sheet: Sheet, text: str, fields: str = "") -> Variant:
    """A variant at the sheet's scale. Raises UsageError, MethodError."""
    scale = sheet.scale
    return variant(f"{text}@{fields}" if fields else text, scale.backbone, scale.batch, scale.settings)


def ledger(sheet: Sheet) -> None:
    """What the ledger leaves out: temporaries, and the allocator's gaps."""
    for name in LEDGERS:
        cuda = sheet.device.type == "cuda"
        before = torch.cuda.memory_allocated(sheet.device) if cuda else 0
        rig = Rig(made(sheet, name).spec, str(sheet.device))
        counted = meter.total_bytes(rig.first_step())
        if cuda:
            torch.cuda.synchronize(sheet.device)
            torch.cuda.reset_peak_memory_stats(sheet.device)
            rig.train_once()
            torch.cuda.synchronize(sheet.device)
            peak, how = torch.cuda.max_memory_allocated(sheet.device) - before, "the allocator's"
        else:
            moments = (v for s in rig.optimizer.state.values() for v in s.values())
            there = [*meter.fixed_tensors(rig.fit.model), *moments]
            rig.optimizer.zero_grad(set_to_none=True)
            with meter.PeakLive() as live:
                rig.train_once()
            peak, how = live.peak + meter.tensor_bytes(there), "of what operations make, counted; no allocator here"
        sheet.add(name, "ledger", "bytes", float(counted))
        sheet.add(name, "peak of a step", "bytes", float(peak), how)
        sheet.add(name, "peak / ledger", "ratio", peak / counted)
        del rig
        release(sheet.device)


def waiting(sheet: Sheet) -> None:
    """How often a step waits for the device; torch counts most of the ways to."""
    if sheet.device.type != "cuda":
        sheet.add("lora", "synchronisations in a step", "count", None, "no GPU; a test counts what asks for a number")
        return
    rig = Rig(made(sheet, "lora", "precision=bf16").spec, str(sheet.device))
    for _ in range(3):
        rig.train_once()
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            for _ in range(sheet.scale.steps):
                rig.train_once()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    count = sum("synchroniz" in str(one.message) for one in seen)
    sheet.add("lora", "synchronisations in a step", "count", count / sheet.scale.steps)
    del rig
    release(sheet.device)


def rates(sheet: Sheet) -> None:
    """Every form of the step and peft's loop, in turns."""
    scale, rigs, variants = sheet.scale, dict[str, Rig](), dict[str, Variant]()
    for name, fields in FORMS.items():
        try:
            variants[name] = made(sheet, LORA, fields)
            rigs[name] = Rig(variants[name].spec, str(sheet.device))
            rigs[name].first_step()
            for _ in range(3):  # what is compiled is compiled here
                rigs[name].train_once()
            if rigs[name].compiling.report().get("compiled") == 0:
                raise MethodError("the compiled form fell back to the plain one")
        except (UsageError, MethodError, MemoryError, RuntimeError) as error:
            if not isinstance(error, UsageError | MethodError) and not out_of_memory(error):
                raise
            sheet.add(f"lora {name}", "train", "images/s", None, str(error).splitlines()[0][:200])
            rigs.pop(name, None)
            release(sheet.device)

    def several(once: Callable[[], object]) -> Callable[[], None]:
        def work() -> None:
            for _ in range(scale.steps):
                once()
        return work

    alive = [variants[n] for n in rigs]
    peaks = {p: product(SHAPE, DTYPES[p], sheet.device) if scale.small else yardstick(alive, p, sheet.device)
             for p in dict.fromkeys(str(v.spec.precision) for v in alive)}
    works: dict[str, Work] = {f"matmul {p}": peak.work for p, peak in peaks.items()}
    works |= {f"lora {n}": synchronised(several(rig.train_once), sheet.device) for n, rig in rigs.items()}
    other = _peft(sheet)
    if other is not None:
        works |= {f"peft {p}": other.does(f"train {p} {scale.steps}") for p in ("fp32", "bf16")}
    timed = in_turns(works, scale.turns, 1, report=lambda n: tell(f"rates: turn {n}"))
    if other is not None:
        other.close()
    flops = _step_flops(variants["fp32"])
    for p, peak in peaks.items():
        sheet.add(f"matmul {p}", "rate", "FLOP/s", timed.rate(f"matmul {p}", peak.flops))
    for name in rigs:
        sheet.add(f"lora {name}", "train", "images/s", timed.rate(f"lora {name}", scale.batch * scale.steps))
        precision = str(variants[name].spec.precision)
        share = flops * scale.batch * scale.steps / peaks[precision].flops
        sheet.add(f"lora {name}", "train of peak", "ratio",
                  scaled(timed.ratio(f"lora {name}", f"matmul {precision}"), share))
    for name in (n for n in works if n.startswith("peft")):
        sheet.add(name, "train", "images/s", timed.rate(name, scale.batch * scale.steps))
    rigs.clear()
    release(sheet.device)


def _step_flops(one: Variant) -> float:
    return forecast(one.spec, CLASSES).step_flops or 0.0


def _peft(sheet: Sheet) -> Other | None:
    """peft's plain loop in a process of its own; None, and a note, where it does not run."""
    scale = sheet.scale
    if scale.small:
        sheet.notes.append("peft's loop is left out on the small scale")
        return None
    try:
        return Other([scale.backbone, str(scale.batch), "224", "8", sheet.device.type])
    except SystemExit as error:
        sheet.notes.append(str(error))
        return None


def whole_run(sheet: Sheet) -> None:
    """1000 images x 100 epochs as the loop takes them, then the test images; and what a row of VTAB-1k would take."""
    scale, cuda = sheet.scale, sheet.device.type == "cuda"
    one = made(sheet, "lora", "precision=bf16" if cuda else "precision=fp32")
    began = time.perf_counter()
    rig = Rig(one.spec, str(sheet.device), made_up(scale.images, one.spec.image_size))
    sheet.add("run", "build", "s", time.perf_counter() - began)

    def train() -> None:
        for number in range(scale.epochs):
            for batch in rig.batches.epoch(number):
                rig.batch = batch
                rig.train_once()
            rig.course.read()

    took = _seconds(train, sheet.device)
    shown = scale.images * scale.epochs
    sheet.add("run", "training", "s", took, f"{shown} images, {one.spec.precision}")
    tested = made_up(scale.tested, one.spec.image_size)
    seen = _seconds(lambda: predict(rig.method, rig.fit, rig.splits.of(tested)), sheet.device)
    sheet.add("run", "evaluation", "images/s", scale.tested / seen)
    if not scale.small:
        row = ROW_SETS * took + ROW_TEST * seen / scale.tested
        sheet.add("row of VTAB-1k", "projected", "s", row, "19 such runs and 387,904 test images, decoded already")


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    began = time.perf_counter()
    synchronised(work, device)()
    return time.perf_counter() - began


def together(sheet: Sheet) -> None:
    """Runs in processes of their own on one GPU: images/s of all of them, over the seconds when all are at work."""
    cuda = sheet.device.type == "cuda"
    one = made(sheet, "lora", "precision=bf16" if cuda else "precision=fp32")
    for count in sheet.scale.together:
        context = mp.get_context("spawn")
        start, ours = context.Barrier(count + 1), context.SimpleQueue()
        workers = [context.Process(target=_steady, args=(one, str(sheet.device), sheet.scale.steady_s, start, ours),
                                   daemon=True) for _ in range(count)]
        for worker in workers:
            worker.start()
        try:
            start.wait(PATIENCE_S)
            for worker in workers:
                worker.join(PATIENCE_S)
            found = [ours.get() for _ in workers if not ours.empty()]
        except Exception as error:  # a worker that died breaks the barrier
            found = []
            sheet.notes.append(f"{count} runs together: {type(error).__name__}")
        finally:
            for worker in workers:
                worker.kill()
        whole = len(found) == count
        sheet.add(f"{count} run{'s' * (count > 1)} on one device", "train", "images/s", sum(found) if whole else None,
                  "" if whole else "not all of them worked")


def _steady(one: Variant, device: str, seconds: float, start: Any, told: Any) -> None:
    """Steps for so long, at the same time as the others; tells images/s."""
    rig = Rig(one.spec, device)
    rig.first_step()
    for _ in range(2):
        rig.train_once()
    rig.course.read()
    start.wait(PATIENCE_S)
    began, steps = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        rig.train_once()
        steps += 1
    rig.course.read()
    told.put(steps * one.spec.batch_size / (time.perf_counter() - began))


def cohort(sheet: Sheet) -> None:
    """Four runs that share a backbone."""
    sheet.add("cohort of 4", "train", "images/s", None, "not built: docs/performance.md has the experiment")


STEPS: tuple[tuple[str, Callable[[Sheet], None], float], ...] = (  # with the seconds that each may take on an H200
    ("ledger", ledger, 30.0), ("waiting", waiting, 15.0), ("rates", rates, 150.0), ("run", whole_run, 60.0),
    ("together", together, 90.0), ("cohort", cohort, 1.0))


def main(words: Sequence[str] | None = None) -> int:
    """The exit status: 1 where a step failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true", help="a tiny scale, to see that it works")
    parser.add_argument("--minutes", type=float, default=8.0, help="begin no step that would not end by then")
    parser.add_argument("--only", nargs="+", choices=[name for name, _, _ in STEPS], help="these steps alone")
    parser.add_argument("--backbone", help="another one")
    parser.add_argument("--out", type=Path, default=measured.FOLDER, help="folder of the record (results/perf)")
    args = parser.parse_args(words)
    if args.device.startswith("cuda") and not torch.cuda.is_available():
        print("there is no GPU here; --small --device cpu shows that the script works", file=sys.stderr)
        return 2
    torch.manual_seed(0)
    sheet = Sheet(_scale(args.small, args.backbone), torch.device(args.device), args.out)
    until = sheet.began + 60 * args.minutes
    failed = 0
    for name, step, cost in STEPS:
        if args.only and name not in args.only:
            continue
        if not args.small and time.perf_counter() + cost > until:
            sheet.notes.append(f"{name}: not measured, it would not have ended in time")
            continue
        tell(f"--- {name}, {time.perf_counter() - sheet.began:.0f} s")
        release(sheet.device)
        try:
            step(sheet)
        except Exception as error:  # the steps behind it are worth having all the same
            failed += 1
            sheet.notes.append(f"{name} failed: {type(error).__name__}: {str(error).splitlines()[0][:200]}")
            tell(sheet.notes[-1])
    print(f"record: {sheet.keep().name}")
    return 1 if failed else 0


def _scale(small: bool, backbone: str | None) -> Scale:
    found = SMALL if small else WHOLE
    return replace(found, backbone=backbone) if backbone else found


if __name__ == "__main__":
    sys.exit(main())
