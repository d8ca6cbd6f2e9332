"""The record of a measurement: figures with intervals, the machine they come from, the targets they are held against.

`python -m bench perf` and the scripts below tests/perf write such records to results/perf; published ones lie in
results/reference/perf. Units are in the figures; unknown is None. No user names, no absolute paths.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from . import door
from .parsing import parse
from .schema import RecordError, Scalar, _build
from .store import ROOT, write_text

SCHEMA = 1
FOLDER = ROOT / "perf"
Unit = Literal["images/s", "s", "bytes", "FLOP/s", "FLOP", "ratio", "images", "count"]
ABSOLUTE = {"images/s", "s", "FLOP/s"}  # such figures mean something on one machine only


@dataclass(frozen=True)
class Machine:
    """Where and with what."""

    device: str
    cpu: str
    cores: int
    threads: int
    memory_bytes: int | None
    device_memory_bytes: int | None
    driver: str | None
    versions: dict[str, str]
    commit: str
    dirty: bool
    diff_hash: str | None

    @property
    def same_as(self) -> tuple[str, str, int]:
        """What two machines must share before their seconds may be compared."""
        return self.device, self.cpu, self.threads


@dataclass(frozen=True)
class Figure:
    """One number: of what (`subject`), which (`quantity`), its unit, its interval and how it was come by."""

    subject: str  # a method or a variant of one, a loader, a step
    quantity: str  # "train", "eval merged", "saved per image", ...
    unit: Unit
    value: float | None  # the median where there are repeats; None where there is none, `note` says why
    low: float | None = None  # interval of the median
    high: float | None = None
    coverage: float | None = None  # its confidence; 0.95 or what so few repeats allow
    n: int = 1  # repeats
    note: str = ""

    @property
    def name(self) -> tuple[str, str]:
        return self.subject, self.quantity


@dataclass(frozen=True)
class Target:
    """A figure that must be at least (or at most) so much."""

    subject: str
    quantity: str
    wanted: float
    reached: bool | None  # None: not measured
    note: str = ""


@dataclass(frozen=True)
class Measurement:
    """One call of a measuring program."""

    kind: str  # "perf", or the script's name
    title: str
    started: str  # UTC, ISO 8601
    seconds: float
    machine: Machine
    settings: dict[str, Scalar]  # backbone, batch size, image size, repeats, ...
    figures: tuple[Figure, ...]
    targets: tuple[Target, ...] = ()
    notes: tuple[str, ...] = field(default=())
    schema: int = SCHEMA

    def figure(self, subject: str, quantity: str) -> Figure | None:
        return next((f for f in self.figures if f.name == (subject, quantity)), None)

    @property
    def stem(self) -> str:
        """`perf-vit_small-amd-epyc-9b45-1a2b3c4d`: what, where, which commit (+ where uncommitted sources ran)."""
        what = [self.kind, *([str(self.settings["backbone"])] if "backbone" in self.settings else [])]
        where = self.machine.device if self.machine.device != "cpu" else self.machine.cpu
        words = [*what, where, self.machine.commit[:8] + ("+" if self.machine.dirty else "")]
        return "-".join(re.sub(r"[^A-Za-z0-9_.+]+", "-", w).strip("-").lower() for w in words)


def save(found: Measurement, folder: Path = FOLDER) -> Path:
    """Write it under its own name and time; nothing is overwritten. Raises ValueError on NaN or infinity."""
    moment = re.sub(r"[^0-9TZ]", "", found.started)
    path = folder / f"{found.stem}-{moment}.json"
    write_text(path, json.dumps(asdict(found), indent=1, allow_nan=False, ensure_ascii=False) + "\n")
    return path


def load(path: Path) -> Measurement:
    """Strict: an unknown or missing field, a wrong type or an unknown schema raises RecordError."""
    try:
        body: Any = parse(door.read_text(path))
    except OSError as error:
        raise RecordError(f"{path.name}: cannot be read ({type(error).__name__})") from None
    except ValueError as error:
        raise RecordError(f"{path.name}: not valid JSON ({error})") from None
    if not isinstance(body, dict) or body.get("schema") != SCHEMA or "figures" not in body:
        raise RecordError(f"{path.name}: not a measurement of schema {SCHEMA}")
    found: Measurement = _build(Measurement, body, path.name, "")
    return found


def against(figures: Iterable[Figure], wanted: Iterable[tuple[str, str, float, str]]) -> tuple[Target, ...]:
    """(subject, quantity, at least, note) -> targets, judged by the figures' medians."""
    known = {f.name: f.value for f in figures}
    return tuple(Target(subject, quantity, least,
                        None if (value := known.get((subject, quantity))) is None else value >= least, note)
                 for subject, quantity, least, note in wanted)
