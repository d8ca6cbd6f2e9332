"""What a record's numbers can be: shares lie in [0, 1], counts and seconds are not negative, a test has images.

A number outside is damage or tampering, and the record is refused as one that cannot be read.
"""

from __future__ import annotations

import math
import sys
from typing import Any

from .scores import NAMES

SLACK = 1e-9  # a sum of shares may pass 1 by a rounding
SHARES = frozenset({"top1", "class_mean", "ece", "macro_f1", "majority", "chance", "se", "f1"})
SIGNED = frozenset({"score", "mcc", "pearson", "spearman"})
NOT_NEGATIVE = ("dataset", "params", "memory", "time", "throughput")  # sections whose numbers are sizes
MAY_FALL = frozenset({"extra_inference", "extra_inference_merged"})  # a method may take weights away
SPEC = ("epochs", "image_size", "eval_batch_size", "lr", "weight_decay", "warmup_epochs", "clip", "head_lr_scale")
SPEC_SHARES = ("drop_path", "holdout", "label_smoothing")
SPEC_AT_LEAST_ONE = ("batch_size",)
LARGEST = sys.float_info.max
_SPEC_LIMITS: tuple[tuple[tuple[str, ...], float, float, str], ...] = (
    (SPEC, 0, math.inf, "it cannot be negative"), (SPEC_AT_LEAST_ONE, 1, math.inf, "it is at least 1"),
    (SPEC_SHARES, 0, 1, "a share lies between 0 and 1"))
_NUMBERS: frozenset[object] = frozenset({int, float})

_LIMITS: dict[str, tuple[float, float]] = {}  # metric -> what `_metric` allows, for the names that were met


def possible(body: dict[str, Any]) -> bool:
    """False where `problem` may have something to say: the same checks in bulk, for a hundred thousand records."""
    for name, value in body["metrics"].items():
        if value is not None:
            low, high = _LIMITS.get(name) or _limits(name)
            if not low <= value <= high or (low == 1.0 and value % 1):
                return False
    for section in NOT_NEGATIVE:
        part = body[section]
        if part is not None and [v for k, v in part.items() if v.__class__ in _NUMBERS and v < 0 and k not in MAY_FALL]:
            return False
    for line in body["history"]:
        for name, value in line.items():
            if value is not None and not 0 <= value <= 1 and name.endswith("top1"):
                return False
    return not (_spec(body["spec"]) or _rest(body))


def _limits(name: str) -> tuple[float, float]:
    kind = name.rpartition(".")[2]
    found = (0.0, 1.0) if kind in SHARES else (-1.0, 1.0) if kind in SIGNED else (
        1.0, LARGEST) if kind == "n" else (0.0, LARGEST) if kind == "nll" else (-LARGEST, LARGEST)
    if len(_LIMITS) < 1000:
        _LIMITS[name] = found
    return found


def problem(body: dict[str, Any]) -> str:
    """The first number of a parsed record, of the right types, that cannot be; "" when there is none.

    That 1e999 is no number is said elsewhere.
    """
    for name, value in body["metrics"].items():
        if value is not None and abs(value) != math.inf and (told := _metric(name, value)):
            return f"field 'metrics.{name}' is {value!r}; {told}"
    for number, line in enumerate(body["history"]):
        for name, value in line.items():
            if value is not None and name.endswith("top1") and not -SLACK <= value <= 1 + SLACK:
                return f"field 'history[{number}].{name}' is {value!r}; a share lies between 0 and 1"
    for section in NOT_NEGATIVE:
        for name, value in (body[section] or {}).items():
            if (type(value) is int or type(value) is float) and value < 0 and name not in MAY_FALL:
                return f"field '{section}.{name}' is {value!r}; it cannot be negative"
    return _spec(body["spec"]) or _rest(body)


def _metric(name: str, value: float) -> str:
    kind = name.rpartition(".")[2]
    if kind in SHARES and not -SLACK <= value <= 1 + SLACK:
        return "a share lies between 0 and 1"
    if kind in SIGNED and not -1 - SLACK <= value <= 1 + SLACK:
        return "a score lies between -1 and 1"
    if kind == "n" and not (value >= 1 and value == int(value)):
        return "a number of images is a whole number from 1 on"
    if kind == "nll" and value < -SLACK:
        return "it cannot be negative"
    return ""


def _spec(spec: dict[str, Any]) -> str:
    for names, low, high, told in _SPEC_LIMITS:
        for name in names:
            if not low <= spec[name] <= high:
                return f"field 'spec.{name}' is {spec[name]!r}; {told}"
    if not spec["image_size"] and not spec.get("text_length"):
        return f"field 'spec.image_size' is {spec['image_size']!r}; of images it is at least 1"
    return ""


def _rest(body: dict[str, Any]) -> str:
    if body["test_passes"] < 0:
        return f"field 'test_passes' is {body['test_passes']!r}; it cannot be negative"
    metric = (body["dataset"] or {}).get("metric", "top1")
    if metric not in NAMES:
        return f"field 'dataset.metric' is {metric!r}; known are {', '.join(NAMES)}"
    for artifact in body["artifacts"]:
        if artifact["bytes"] < 0:
            return f"field 'artifacts' has a file of {artifact['bytes']!r} bytes"
    return ""
