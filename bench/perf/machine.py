"""The machine: what it is, how fast it multiplies matrices, and which attention kernel suits it."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F

from results.measured import Machine

from ..engine import env
from .timing import Spread, clock_for, in_turns

PROBE_S = 0.03  # seconds that one repetition of a probe should take
SLOW = 2.0  # bf16 that many times slower than float32 is worth a word
SMALL = 192  # rows and columns: a product of 14 MFLOP, 18 ms at the slowest rate seen
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "tf32": torch.float32}  # tf32: a flag, see engine.precision


def describe(device: torch.device) -> Machine:
    """For the record: no names, no paths."""
    cuda = device.type == "cuda"
    commit, dirty, diff = env.code_state()
    return Machine(
        device=torch.cuda.get_device_name(device) if cuda else "cpu", cpu=env.cpu_name(), cores=os.cpu_count() or 1,
        threads=torch.get_num_threads(), memory_bytes=memory_bytes("MemTotal"),
        device_memory_bytes=torch.cuda.get_device_properties(device).total_memory if cuda else None,
        driver=torch.version.cuda if cuda else None, versions=env.versions(), commit=commit, dirty=dirty,
        diff_hash=diff)


def memory_bytes(field: str) -> int | None:
    """MemTotal or MemAvailable as the kernel says."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(field + ":")), None)


def synchronised(work: Callable[[], object], device: torch.device) -> Callable[[], None]:
    """The work, over when the device has done it."""

    def run() -> None:
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return run


@dataclass(frozen=True)
class Product:
    """A matrix product of the backbone's shapes, as a repetition of `flops` operations."""

    shape: tuple[int, int, int]  # (rows, in, out)
    work: Callable[[], None]
    flops: float


def product(shape: tuple[int, int, int], dtype: torch.dtype, device: torch.device, repeat: int = 1) -> Product:
    """`F.linear` of (rows, in) with (out, in), `repeat` times."""
    rows, inputs, outputs = shape
    x = torch.randn(rows, inputs, device=device).to(dtype)
    weight = torch.randn(outputs, inputs, device=device).to(dtype)

    def multiply() -> None:
        with torch.no_grad():
            for _ in range(repeat):
                F.linear(x, weight)

    return Product(shape, synchronised(multiply, device), 2.0 * rows * inputs * outputs * repeat)


def rates(budget_s: float = 0.1) -> dict[str, float]:
    """FLOP/s of a small matrix product on this CPU, in float32 and bf16; takes about the budget.

    A processor without instructions for bf16 takes eighty times as long (seen: 0.8 against 66.8 GFLOP/s, one thread).
    """
    found = {}
    for name in ("fp32", "bf16"):
        one = product((SMALL,) * 3, DTYPES[name], torch.device("cpu"))
        one.work()  # the first call makes the kernel
        least, until = math.inf, time.perf_counter() + budget_s / 3
        while least == math.inf or time.perf_counter() < until:
            began = time.perf_counter()
            one.work()
            least = min(least, time.perf_counter() - began)
        found[name] = one.flops / least
    return found


def slow_bf16(found: dict[str, float], runs: int) -> str:
    """One sentence where bf16 is much slower than float32, for the `runs` that ask for it; empty otherwise."""
    ratio = found["fp32"] / found["bf16"]
    if ratio < SLOW:
        return ""
    return (f"precision=bf16 is {ratio:.0f} times slower than float32 on this processor ({found['bf16'] / 1e9:.1f} "
            f"against {found['fp32'] / 1e9:.1f} GFLOP/s in a matrix product), and {runs} "
            f"run{'s ask' if runs > 1 else ' asks'} for it; precision=fp32 is the quick one here")


def shapes(tokens: int, width: int) -> list[tuple[int, int, int]]:
    """The products of a transformer block on so many tokens, and a square one."""
    return [(tokens, width, 3 * width), (tokens, width, 4 * width), (tokens, 4 * width, width), (2048, 2048, 2048)]


def fastest_product(tokens: int, width: int, dtype: torch.dtype, device: torch.device) -> Product:
    """The shape with the highest rate, repeated so that it takes long enough to be timed: the peak's yardstick."""
    candidates = [product(shape, dtype, device) for shape in shapes(tokens, width)]
    clock = clock_for(device.type, torch.get_num_threads())[1]
    turns = in_turns({str(c.shape): c.work for c in candidates}, turns=3, clock=clock)
    best = max(candidates, key=lambda c: turns.rate(str(c.shape), c.flops).median)
    repeat = max(1, round(PROBE_S / turns.spread(str(best.shape)).median))
    return product(best.shape, dtype, device, repeat)


@dataclass(frozen=True)
class AttentionProbe:
    """Forward and backward of one attention layer by both kernels."""

    shape: tuple[int, int, int, int]  # (images, heads, tokens, width of a head)
    precision: str
    fused: Spread  # seconds
    plain: Spread
    faster: Spread  # fused seconds over plain seconds, paired
    extra_bytes_per_image: int  # what plain attention keeps for backward beyond the fused kernel, one layer

    @property
    def advice(self) -> str:
        """One sentence: which kernel, and what it costs."""
        more = f"{self.extra_bytes_per_image / 2**20:.2f} MiB more per image and block kept for backward"
        if self.faster.low is not None and self.faster.low > 1.05:
            return (f"plain attention is {self.faster.median:.1f} times as fast here in {self.precision}, for {more}: "
                    "--set attention=plain")
        if self.faster.high is not None and self.faster.high < 0.95:
            return f"the fused kernel is {1 / self.faster.median:.1f} times as fast here in {self.precision}: keep it"
        return f"the two kernels do not differ much here in {self.precision}: keep the fused one, it keeps less"


def probe_attention(shape: tuple[int, int, int, int], precision: str, device: torch.device,
                    turns: int = 7) -> AttentionProbe:
    """Time both kernels in turns on random q, k, v."""
    dtype = DTYPES[precision]
    q, k, v = (torch.randn(shape, device=device).to(dtype).requires_grad_() for _ in range(3))
    above = torch.randn(shape, device=device).to(dtype)

    def fused() -> None:
        F.scaled_dot_product_attention(q, k, v).backward(above)  # type: ignore[no-untyped-call]

    def plain() -> None:
        weights = (q * shape[3] ** -0.5 @ k.mT).softmax(-1)
        (weights @ v).backward(above)  # type: ignore[no-untyped-call]

    found = in_turns({"fused": synchronised(fused, device), "plain": synchronised(plain, device)}, turns,
                     clock=clock_for(device.type, torch.get_num_threads())[1])
    _, heads, tokens, _ = shape
    extra = heads * tokens * tokens * q.element_size() - heads * tokens * 4  # probabilities against a log-sum-exp
    return AttentionProbe(shape, precision, found.spread("fused"), found.spread("plain"),
                          found.ratio("plain", "fused"), extra)
