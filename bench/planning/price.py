"""What the missing runs of a plan would cost: time with an interval, memory, disk; from past records of like runs.

No torch. A run's time is the median of the records most like it: the same cell with any seed; else the same method on
the same backbone; else the same method with other options; else any method on that backbone, each scaled by the images
that pass through. The interval comes from how far such records lie from their own median, drawn anew 400 times, one
draw for all runs that rest on the same records (their errors are shared). Memory is the ledger of the like record.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from statistics import median

from datasets import registry
from results.columns import Columns
from results.index import read
from results.schema import RunSpec

from ..units import duration, size
from .profile import Profile
from .request import UsageError
from .resolve import Planned

BYTES_PER_RECORD = 9_000  # a record and its predictions, measured on the demo; used until there are records
SAMPLE = 64  # records whose files are looked at to learn their size
DRAWS, LOW, HIGH = 400, 0.1, 0.9
PROCESS_BYTES = 800_000_000  # resident memory of a process that has imported everything and holds no model yet
CONTEXT_BYTES = 800_000_000  # what a CUDA context, its libraries and the allocator's gaps take beside the ledger
HELD_BYTES = 2 * 2**30  # a split whose decoded images take more is not held (bench/engine/cache.py)
HEADROOM = 1.2  # over the ledger: temporaries of a step
EVAL_SHARE = 1 / 3  # a test image takes the forward pass alone
LEVELS = ("the same cell", "the same method and backbone", "the same method with other options", "the same backbone")

Key = tuple[object, ...]


@dataclass(frozen=True)
class Need:
    """Memory of the heaviest run of a method on a backbone; None where no record is like it."""

    method: str
    model: str
    batch: int
    host_bytes: float | None
    gpu_bytes: float | None


@dataclass(frozen=True)
class Price:
    """Of the missing runs; None where nothing like them is recorded."""

    runs: int
    seconds: float | None  # of all runs, one after the other
    low: float | None  # 80 % interval
    high: float | None
    levels: dict[str, int] = field(default_factory=dict)  # how like the records were -> runs
    unknown: int = 0  # runs that nothing is like; they are in no sum
    per_run: dict[str, float] = field(default_factory=dict)  # run id -> seconds
    disk_bytes: float = 0.0
    saved_bytes: float | None = None  # kept for backward, the largest
    needs: tuple[Need, ...] = ()
    device: str = ""  # where the like runs ran


@dataclass
class _Past:
    """The records of one kind of device, by how much they share."""

    columns: Columns
    gpu: bool
    rows: list[int]
    seconds: list[dict[Key, list[float]]] = field(default_factory=lambda: [{} for _ in LEVELS])
    spread: list[list[float]] = field(default_factory=lambda: [[] for _ in LEVELS])
    memory: dict[Key, int] = field(default_factory=dict)  # (method, model, image size) -> row
    images: dict[str, tuple[float, float]] = field(default_factory=dict)  # data -> trained on, tested on


def past(runs: Path) -> Columns:
    """Every record there is, from the index; what cannot be read is not past experience."""
    return read(runs, on_error=lambda error: None)


def price(todo: Sequence[Planned], columns: Columns, gpu: bool | None = None) -> Price:
    """Of these runs. `gpu`: from runs on a GPU, on a CPU, or (None) on whatever most ran on."""
    known = _gather(columns, gpu)
    levels: dict[str, int] = {}
    groups: dict[tuple[int, Key], float] = {}
    per_run: dict[str, float] = {}
    for planned in todo:
        found = _seconds(planned, known)
        if found is not None:
            level, key, seconds = found
            levels[LEVELS[level]] = levels.get(LEVELS[level], 0) + 1
            groups[level, key] = groups.get((level, key), 0.0) + seconds
            per_run[planned.spec.id] = seconds
    middle, low, high = _interval(groups, known)
    needs = _needs(todo, known)
    saved = [b for p in todo if (b := _saved(p, known)) is not None]
    total = (middle or sum(groups.values())) if groups else None
    return Price(len(todo), total, low, high, levels, len(todo) - len(per_run), per_run,
                 _disk(columns) * len(todo), max(saved, default=None), needs,
                 columns.get_text("provenance.device", known.rows[-1]) if known.rows else "")


def misfits(needs: Sequence[Need], host_bytes: float | None, gpu_bytes: float | None) -> list[str]:
    """A sentence for every method that cannot fit into so much memory; what is not known is not refused."""
    problems = []
    for need in needs:
        for word, wanted, given in (("memory", need.host_bytes, host_bytes), ("GPU memory", need.gpu_bytes, gpu_bytes)):
            if wanted is not None and given is not None and wanted > given:
                problems.append(f"{need.method!r} on {need.model} with batch {need.batch} is expected to take "
                                f"{wanted / 1e9:.1f} GB of {word}, a task gets {given / 1e9:.1f} GB")
    return problems


def refuse(todo: Sequence[Planned], columns: Columns, profile: Profile, forecast: bool = False) -> None:
    """Raises UsageError naming every method that a task of the profile has no room for.

    `forecast`: a method that no record is like is forecast, which imports torch; else nothing is said of it.
    """
    if profile.mem_gb is None and profile.gpu_mem_gb is None:
        return
    host = profile.mem_gb * 1e9 if profile.mem_gb is not None else None
    gpu = profile.gpu_mem_gb * 1e9 if profile.gpu_mem_gb is not None and profile.gpus else None
    needs = price(todo, columns, profile.gpus > 0 or None).needs
    if forecast:
        needs = tuple(n if n.host_bytes is not None else _forecast(n, todo, profile.gpus > 0) for n in needs)
    problems = misfits(needs, host, gpu)
    if problems:
        raise UsageError([*problems, "give more with --mem-gb or another profile, or take a smaller --batch-size"])


def _forecast(need: Need, todo: Sequence[Planned], on_gpu: bool) -> Need:
    """The same need with the exact ledger of a step that was never taken; as it is where that cannot be told."""
    from ..engine.forecast import forecast

    one = max((p for p in todo if (p.text, p.spec.model) == (need.method, need.model)), key=lambda p: p.spec.batch_size)
    card = registry.get(one.spec.dataset)
    found = forecast(one.spec, card.classes, card.splits.get("trainval", card.splits.get("train", 1000)),
                     one.head)
    if found.total_bytes is None or found.memory is None:
        return need
    held = found.memory.weights_frozen_bytes + found.memory.weights_trained_bytes if on_gpu else \
        HEADROOM * found.total_bytes
    return replace(need, host_bytes=PROCESS_BYTES + held, gpu_bytes=CONTEXT_BYTES + HEADROOM * found.total_bytes)


def hours(seconds: float | None, units: int) -> float | None:
    """GPU-hours or core-hours of that many units at work all the time."""
    return None if seconds is None else seconds * units / 3600


def _gather(columns: Columns, gpu: bool | None) -> _Past:
    on_gpu = {True: [], False: []}  # type: dict[bool, list[int]]
    for row in range(len(columns)):
        whole = columns.get_text("status", row) == "ok" and not columns.get_number("spec.until", row)
        if whole and columns.get_number("time.total_s", row):
            on_gpu[columns.get_text("provenance.device", row) != "cpu"].append(row)
    kind = gpu if gpu is not None else len(on_gpu[True]) > len(on_gpu[False])
    known = _Past(columns, kind, on_gpu[kind])
    number, text = columns.get_number, columns.get_text
    for row in (*on_gpu[not kind], *on_gpu[kind]):  # bytes are the same everywhere; those of our own kind count first
        known.memory[text("method.text", row), text("spec.model", row), number("spec.image_size", row)] = row
        known.images[text("spec.data", row)] = (number("dataset.train", row) or 0.0, number("dataset.test", row) or 0.0)
    for row in known.rows:
        train, test = number("dataset.train", row) or 0.0, number("dataset.test", row) or 0.0
        seconds = number("time.total_s", row) or 0.0
        work = _work(number("spec.epochs", row) or 1, train, test)
        method, model, size = (text("method.text", row), text("spec.model", row), number("spec.image_size", row))
        for level, key in enumerate(_keys(method, text("spec.method", row), model, size, text("spec.dataset", row),
                                          number("spec.epochs", row), number("spec.batch_size", row))):
            known.seconds[level].setdefault(key, []).append(seconds if level == 0 else seconds / work)
    for level, found in enumerate(known.seconds):
        for values in found.values():
            if len(values) > 2:
                middle = median(values)
                known.spread[level] += [v / middle for v in values]
    return known


def _keys(text: str, method: str, model: str, size: float | None, dataset: str, epochs: float | None,
          batch: float | None) -> tuple[Key, Key, Key, Key]:
    """What a record shares with a run, level by level; `LEVELS` names them."""
    return (text, model, size, dataset, epochs, batch), (text, model, size), (method, model, size), (model, size)


def _work(epochs: float, train: float, test: float) -> float:
    """Images that pass through, forward and back."""
    return max(1.0, epochs * train + EVAL_SHARE * test)


def _seconds(planned: Planned, known: _Past) -> tuple[int, Key, float] | None:
    spec = planned.spec
    keys = _keys(planned.text, spec.method, spec.model, float(spec.image_size), spec.dataset, float(spec.epochs),
                 float(spec.batch_size))
    for level, key in enumerate(keys):
        values = known.seconds[level].get(key)
        if values:
            return level, key, median(values) * (1.0 if level == 0 else _work(spec.epochs, *_images(spec, known)))
    return None


def _images(spec: RunSpec, known: _Past) -> tuple[float, float]:
    """How many images it trains and tests on: as recorded for these data, as for other stand-ins, or from the card."""
    if spec.data in known.images:
        return known.images[spec.data]
    alike = [found for data, found in known.images.items() if data.startswith("standin:")] if spec.standin else []
    if alike:
        return median(a for a, _ in alike), median(b for _, b in alike)
    splits = registry.get(spec.dataset).splits
    train = splits.get("train" if spec.phase == "tune" else "trainval", splits.get("train", 1000))
    return float(train), float(splits.get("val" if spec.phase == "tune" else "test", 0))


def _interval(groups: dict[tuple[int, Key], float], known: _Past) -> tuple[float | None, float | None, float | None]:
    """(middle, low, high) from how like records lie around their median; None where no record has two companions."""
    if not groups or not any(known.spread):
        return None, None, None
    everything = [r for pool in known.spread for r in pool]
    pools = [(seconds, _own_spread(known, level, key) or known.spread[level] or everything)
             for (level, key), seconds in groups.items()]
    rng = Random(0)
    totals = sorted(sum(seconds * rng.choice(pool) for seconds, pool in pools) for _ in range(DRAWS))
    return totals[DRAWS // 2], totals[int(LOW * DRAWS)], totals[int(HIGH * DRAWS) - 1]


def _own_spread(known: _Past, level: int, key: Key) -> list[float]:
    values = known.seconds[level][key]
    return [v / median(values) for v in values] if len(values) >= 5 else []


def _disk(columns: Columns) -> float:
    """Bytes that a run leaves: its record and what lies beside it, the mean over some records spread over all."""
    rows = range(0, len(columns), max(1, len(columns) // SAMPLE))
    sizes = []
    for row in rows:
        if columns.get_text("status", row) == "ok":
            names = [columns.text["path"][row], *(f"{columns.text['path'][row].rpartition('/')[0]}/{beside}"
                     for name in columns.text if name.startswith("artifact.") and (beside := columns.text[name][row]))]
            sizes.append(sum(_size(columns.root / name) for name in names))
    return sum(sizes) / len(sizes) if sizes else float(BYTES_PER_RECORD)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _like(planned: Planned, known: _Past) -> tuple[int, float] | None:
    """(row of the record with the same method and backbone, how many times its batch this run has)."""
    row = known.memory.get((planned.text, planned.spec.model, float(planned.spec.image_size)))
    if row is None:
        return None
    return row, planned.spec.batch_size / (known.columns.get_number("spec.batch_size", row) or planned.spec.batch_size)


def _saved(planned: Planned, known: _Past) -> float | None:
    like = _like(planned, known)
    saved = known.columns.get_number("memory.saved_bytes", like[0]) if like else None
    return saved * like[1] if like and saved is not None else None


def _needs(todo: Sequence[Planned], known: _Past) -> tuple[Need, ...]:
    heaviest: dict[tuple[str, str], Need] = {}
    for planned in todo:
        spec = planned.spec
        need = Need(planned.text, spec.model, spec.batch_size, *_memory(planned, known))
        before = heaviest.get((need.method, need.model))
        if before is None or (need.host_bytes or 0) > (before.host_bytes or 0):
            heaviest[need.method, need.model] = need
    return tuple(sorted(heaviest.values(), key=lambda n: -(n.host_bytes or 0)))


def _memory(planned: Planned, known: _Past) -> tuple[float | None, float | None]:
    """(host, GPU): the ledger, its saved activations scaled to the batch; without a GPU it all lies in the host's."""
    like, saved = _like(planned, known), _saved(planned, known)
    if like is None or saved is None:
        return None, None
    row, times = like
    number: Callable[[str, int], float | None] = known.columns.get_number
    model = sum(number(f"memory.{name}_bytes", row) or 0.0
                for name in ("weights_frozen", "weights_trained", "gradients", "optimizer"))
    ledger = model + saved
    train, test = _images(planned.spec, known)
    pixels = sum(b for n in (train, test) if (b := n * 3 * planned.spec.image_size ** 2) <= HELD_BYTES)
    reserved = number("memory.cuda_peak_reserved_bytes", row)
    gpu = CONTEXT_BYTES + (reserved * max(1.0, times) if reserved else HEADROOM * ledger)
    return PROCESS_BYTES + pixels + (model if known.gpu else HEADROOM * ledger), gpu


def lines(found: Price, at_once: int, units: int, unit: str, otherwise: str = "") -> list[str]:
    """The price in words. `units`: GPUs or cores that a run holds; `otherwise`: what is said when nothing is known."""
    out = []
    if found.seconds is None:
        out.append(f"time for the missing: no like run is recorded{f' ({otherwise})' if otherwise else ''}")
    else:
        total, low, high = (hours(s, units) for s in (found.seconds, found.low, found.high))
        spread = f" (80 % interval {low:.2f} to {high:.2f})" if low is not None and high is not None else ""
        out.append(f"time for the missing: {duration(found.seconds / at_once)} on {at_once} "
                   f"{'process' if at_once == 1 else 'processes'}; {total:.2f} {unit}-hours{spread}, from like runs on "
                   f"{found.device} ({', '.join(f'{n} by {level}' for level, n in found.levels.items())})")
        if found.unknown:
            out.append(f"nothing like {found.unknown} of the runs is recorded; they are not counted in")
    heaviest = next((n for n in found.needs if n.host_bytes is not None), None)
    memory = f"memory kept for backward: {size(found.saved_bytes)} at most in like records" if found.saved_bytes else \
        "memory kept for backward: not measured yet"
    if heaviest is not None and heaviest.host_bytes is not None:
        memory += f"; a process: {heaviest.host_bytes / 1e9:.1f} GB at most ({heaviest.method})"
    return [*out, f"{memory}; disk {size(found.disk_bytes)}"]
