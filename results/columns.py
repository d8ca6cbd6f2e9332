"""What tables need of every record, as columns: numbers as arrays of doubles (NaN is unknown), texts as lists.

A hundred thousand records kept as dictionaries take two gigabytes; as columns they take eighty megabytes.
"""

from __future__ import annotations

import math
import sys
from array import array
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .schema import RecordError
from .strict import short_hash

TEXT = (
    "run_id", "cell_id", "phase", "status", "spec.dataset", "spec.model", "spec.method", "spec.data", "spec.precision",
    "spec.weights", "method.text", "method.source_hash", "method.ours", "method.adapts_at_test", "failure.kind",
    "failure.message", "failure.stage", "dataset.split_hash", "throughput.source", "provenance.commit",
    "provenance.device", "provenance.cpu",
)
NUMBER = (
    "spec.seed", "spec.epochs", "spec.batch_size", "spec.image_size", "spec.lr", "spec.weight_decay", "failure.step",
    "dataset.classes", "dataset.train", "dataset.test", "test_passes", "params.total", "params.trained",
    "params.trained_adapter", "params.trained_head", "params.trained_backbone", "params.extra_inference",
    "params.extra_inference_merged", "params.stored_bytes", "memory.saved_bytes", "memory.saved_bytes_per_image",
    "memory.weights_frozen_bytes", "memory.weights_trained_bytes", "memory.gradients_bytes", "memory.optimizer_bytes",
    "memory.cuda_peak_allocated_bytes", "memory.cuda_peak_reserved_bytes", "memory.eval_cuda_peak_allocated_bytes",
    "time.train_s", "time.evaluate_s", "time.total_s", "throughput.train_images_per_s",
    "throughput.eval_images_per_s", "provenance.dirty", "provenance.cores",
)
FREE = ("metrics", "diagnostics")  # their keys become columns: "metrics.test.top1"
PROTOCOL_FREE = frozenset({"dataset", "method", "options", "seed", "data", "lr", "weight_decay", "head_lr_scale",
                           "holdout"})  # as in RunSpec.protocol_id; a test compares the two
NAN = math.nan
_PROTOCOLS: dict[tuple[Any, ...], str] = {}
def _by_section(names: tuple[str, ...]) -> list[tuple[str, list[tuple[str, str]]]]:
    sections: dict[str, list[tuple[str, str]]] = {}
    for name in names:
        section, _, key = name.partition(".")
        sections.setdefault(section, []).append((key, name))
    return list(sections.items())


_TEXTS, _NUMBERS = _by_section(TEXT), _by_section(NUMBER)


@dataclass
class Columns:
    """Column stores of equal length; `path` is relative to the root, `sha256` of the file's bytes (16 digits)."""

    root: Path
    number: dict[str, array[float]] = field(default_factory=dict)
    text: dict[str, list[str]] = field(default_factory=dict)
    stamp: list[tuple[int, int]] = field(default_factory=list)  # size, mtime_ns
    unreadable: list[RecordError] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.stamp)

    def get_number(self, name: str, row: int) -> float | None:
        """None where the record does not say."""
        column = self.number.get(name)
        value = NAN if column is None else column[row]
        return None if value != value else value

    def get_text(self, name: str, row: int) -> str:
        """Empty where the record does not say."""
        column = self.text.get(name)
        return "" if column is None else column[row]

    def by_run(self) -> dict[str, int]:
        """run_id -> row. Two files with one id cannot come from the store; they are refused."""
        ids = self.text.get("run_id", [])
        found = {run_id: row for row, run_id in enumerate(ids)}
        if len(found) != len(ids):
            twice = next(r for row, r in enumerate(ids) if found[r] != row)
            where = [p for p, r in zip(self.text["path"], ids, strict=True) if r == twice]
            raise RecordError(f"{where[0]}: field 'run_id' is {twice!r}, as in {where[1]}; a run has one record")
        return found

    def extend(self, more: Columns) -> None:
        """Put another store's rows behind these."""
        count, new = len(self.stamp), len(more.stamp)
        for name in more.number.keys() - self.number.keys():
            self.number[name] = array("d", [NAN]) * count
        for name in more.text.keys() - self.text.keys():
            self.text[name] = [""] * count
        for name, column in self.number.items():
            column.extend(more.number.get(name) or array("d", [NAN]) * new)
        for name, words in self.text.items():
            words.extend(map(sys.intern, more.text[name]) if name in more.text else [""] * new)
        self.stamp += more.stamp
        self.unreadable += more.unreadable

    def append(self, path: str, stamp: tuple[int, int], numbers: dict[str, float], texts: dict[str, str]) -> None:
        count = len(self.stamp)
        for name, value in numbers.items():
            column = self.number.get(name)
            if column is None:
                column = self.number[name] = array("d", [NAN]) * count
            column.append(value)
        for name, words in texts.items():
            column_ = self.text.get(name)
            if column_ is None:
                column_ = self.text[name] = [""] * count
            column_.append(sys.intern(words))
        self.stamp.append(stamp)
        if len(numbers) < len(self.number):
            for column in self.number.values():
                if len(column) == count:
                    column.append(NAN)
        if len(texts) < len(self.text):
            for column_ in self.text.values():
                if len(column_) == count:
                    column_.append("")


def flatten(body: dict[str, Any], where: str = "record") -> tuple[dict[str, float], dict[str, str]]:
    """The numbers and texts of one parsed record; unknown fields are left out."""
    numbers: dict[str, float] = {}
    texts: dict[str, str] = {}
    for section, keys in _TEXTS:
        part = body.get(section)
        if part is not None:
            for key, name in keys:
                value = part if key == "" else part.get(key)
                if value is not None:
                    texts[name] = value
    for section, keys in _NUMBERS:
        part = body.get(section)
        if part is not None:
            for key, name in keys:
                value = part if key == "" else part.get(key)
                if value is not None:
                    numbers[name] = value
    for section in FREE:
        for key, value in body[section].items():
            if value is not None:
                if value in (math.inf, -math.inf):  # 1e999 is JSON
                    raise RecordError(f"{where}: field '{section}.{key}' is not finite")
                numbers[f"{section}.{key}"] = value
    for artifact in body["artifacts"]:
        kind, path = artifact["kind"], artifact["path"]
        if kind == "predictions":  # of further test sets: <record>.<split>.npz beside <record>.npz
            split = path.removesuffix(".npz").removeprefix(where.rpartition("/")[2].removesuffix(".json"))
            if split.startswith("."):
                kind = f"predictions:{split[1:].removeprefix('test:')}"
        texts[f"artifact.{kind}"] = path
    shared = tuple([str(v) if type(v) is list else v for k, v in body["spec"].items() if k not in PROTOCOL_FREE])
    protocol = _PROTOCOLS.get(shared)
    if protocol is None:
        protocol = short_hash({k: v for k, v in body["spec"].items() if k not in PROTOCOL_FREE})
        if len(_PROTOCOLS) < 10_000:
            _PROTOCOLS[shared] = protocol
    texts["protocol_id"] = protocol
    return numbers, texts
