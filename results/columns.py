"""What tables need of every record, as columns: numbers as arrays of doubles (NaN is unknown), texts as lists.

A hundred thousand records kept as dictionaries take two gigabytes; as columns they take eighty megabytes.
"""

from __future__ import annotations

import math
import sys
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from .schema import RecordError
from .strict import short_hash

TEXT = (
    "run_id", "cell_id", "phase", "status", "spec.dataset", "spec.model", "spec.method", "spec.data", "spec.precision",
    "spec.weights", "spec.combined", "spec.tokenizer", "method.text", "method.source_hash", "method.ours",
    "method.adapts_at_test", "failure.kind", "failure.message", "failure.stage", "dataset.split_hash",
    "dataset.content_hash", "throughput.source", "provenance.commit", "provenance.device", "provenance.cpu",
)
NUMBER = (
    "spec.seed", "spec.epochs", "spec.until", "spec.batch_size", "spec.image_size", "spec.text_length", "spec.lr",
    "spec.weight_decay", "failure.step", "dataset.classes", "dataset.train", "dataset.test", "dataset.left_out",
    "test_passes", "params.total", "params.trained", "params.trained_adapter", "params.trained_head",
    "params.trained_backbone", "params.extra_inference", "params.extra_inference_merged", "params.stored_bytes",
    "memory.saved_bytes", "memory.saved_bytes_per_image", "memory.weights_frozen_bytes",
    "memory.weights_trained_bytes", "memory.gradients_bytes", "memory.optimizer_bytes",
    "memory.cuda_peak_allocated_bytes", "memory.cuda_peak_reserved_bytes", "memory.eval_cuda_peak_allocated_bytes",
    "time.train_s", "time.evaluate_s", "time.total_s", "throughput.train_images_per_s",
    "throughput.eval_images_per_s", "provenance.dirty", "provenance.cores",
)
FREE = ("metrics", "diagnostics")  # their keys become columns: "metrics.test.top1"
# As in RunSpec.protocol_id; a test compares the two.
PROTOCOL_FREE = frozenset({"dataset", "method", "options", "seed", "data", "lr", "weight_decay", "head_lr_scale",
                           "holdout", "held_as", "ingredients", "text_length"})
Stamp = tuple[int, int, int]  # size, newest mtime_ns of the record and its predictions, names and stamps of these
OWN = ("path", "sha256", "run_id", "cell_id")  # words that are rarely the same twice
NAN, LARGEST = math.nan, sys.float_info.max
_PROTOCOLS: dict[tuple[Any, ...], str] = {}
def _by_section(names: tuple[str, ...]) -> list[tuple[str, list[tuple[str, str]]]]:
    sections: dict[str, list[tuple[str, str]]] = {}
    for name in names:
        section, _, key = name.partition(".")
        sections.setdefault(section, []).append((key, name))
    return list(sections.items())


@dataclass
class Columns:
    """Column stores of equal length; `path` is relative to the root, `sha256` of the file's bytes (16 digits)."""

    root: Path
    number: dict[str, array[float]] = field(default_factory=dict)
    text: dict[str, list[str]] = field(default_factory=dict)
    stamp: list[Stamp] = field(default_factory=list)
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

    def add(self, body: dict[str, Any], path: str, stamp: Stamp, digest: str,
            faults: Mapping[str, tuple[str, str]] | None = None) -> None:
        """One parsed and checked record, as the next row; what it does not say is unknown.

        `faults` of its predictions become texts "contradicted.<split>" and "unproven.<split>", which say why.
        """
        count = len(self.stamp)
        free = [(f"{section}.{key}", value) for section in FREE for key, value in body[section].items()
                if value is not None]
        fixed = [(append, NAN if value is None else value) for section, numbers in self._numbers
                 for part in (body.get(section),) for key, append in numbers
                 for value in ((part.get(key) if key else part) if part is not None else None,)]
        for name, value in free:
            if not -LARGEST <= value <= LARGEST:  # 1e999 is JSON, and so are 400 digits
                raise RecordError(f"{path}: field {name!r} is not finite")
        if any(value > LARGEST or value < -LARGEST for _, value in fixed):
            raise RecordError(f"{path}: a number is not finite")
        for section, texts in self._texts:
            part = body.get(section)
            for key, append_text in texts:
                word = (part.get(key) if key else part) if part is not None else None
                append_text("" if word is None else word)
        for append_number, value in fixed:
            append_number(value)
        for name, value in free:
            column = self.number.get(name)
            if column is None:
                column = self.number[name] = array("d")
            if len(column) < count:  # rows before this one did not have it
                column.extend(array("d", [NAN]) * (count - len(column)))
            column.append(value)
        own = {"path": path, "sha256": digest, "protocol_id": _protocol(body["spec"]), **_artifacts(body, path),
               **{f"{kind}.{split}": why for split, (kind, why) in (faults or {}).items()}}
        for name, word in own.items():
            words = self.text.setdefault(name, [])
            if len(words) < count:
                words.extend([""] * (count - len(words)))
            words.append(word)
        self.stamp.append(stamp)

    @cached_property
    def _texts(self) -> list[tuple[str, list[tuple[str, Callable[[str], None]]]]]:
        return [(section, [(key, self.text.setdefault(name, []).append) for key, name in keys])
                for section, keys in _by_section(TEXT)]

    @cached_property
    def _numbers(self) -> list[tuple[str, list[tuple[str, Callable[[float], None]]]]]:
        return [(section, [(key, self.number.setdefault(name, array("d")).append) for key, name in keys])
                for section, keys in _by_section(NUMBER)]

    def close(self) -> None:
        """Bring columns that only some records have to full length, and keep each word once."""
        count = len(self.stamp)
        for column in self.number.values():
            column.extend(array("d", [NAN]) * (count - len(column)))
        for name, words in self.text.items():
            words.extend([""] * (count - len(words)))
            if name not in OWN:
                self.text[name] = list(map(sys.intern, words))
        self.__dict__.pop("_texts", None)  # they hold the lists that were replaced
        self.__dict__.pop("_numbers", None)

    def part(self, start: int, end: int) -> Columns:
        """Rows from `start` to before `end`; a column that says nothing of them is left out."""
        own = {name: column[start:end] for name, column in self.number.items()}
        words = {name: column[start:end] for name, column in self.text.items()}
        return Columns(self.root, {n: c for n, c in own.items() if any(v == v for v in c)},
                       {n: w for n, w in words.items() if any(w)}, self.stamp[start:end])

    def rows(self, chosen: Sequence[int]) -> Columns:
        """These rows alone, in this order."""
        return Columns(self.root, {n: array("d", [c[i] for i in chosen]) for n, c in self.number.items()},
                       {n: [w[i] for i in chosen] for n, w in self.text.items()}, [self.stamp[i] for i in chosen],
                       list(self.unreadable))


def _artifacts(body: dict[str, Any], where: str) -> dict[str, str]:
    """Column -> path beside the record. Predictions of further test sets are <record>.<split>.npz."""
    found = {}
    for artifact in body["artifacts"]:
        kind, path = artifact["kind"], artifact["path"]
        if kind == "predictions":
            split = path.removesuffix(".npz").removeprefix(where.rpartition("/")[2].removesuffix(".json"))
            if split.startswith("."):
                kind = f"predictions:{split[1:].removeprefix('test:')}"
        found[f"artifact.{kind}"] = path
    return found


def _protocol(spec: dict[str, Any]) -> str:
    """RunSpec.protocol_id of a parsed spec; few protocols are shared by many records."""
    shared = tuple([str(v) if type(v) is list else v for k, v in spec.items() if k not in PROTOCOL_FREE])
    found = _PROTOCOLS.get(shared)
    if found is None:
        found = short_hash({k: v for k, v in spec.items() if k not in PROTOCOL_FREE})
        if len(_PROTOCOLS) < 10_000:
            _PROTOCOLS[shared] = found
    return found
