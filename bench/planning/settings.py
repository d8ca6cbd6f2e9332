"""What `--set NAME=VALUE` and the file of `--config` may say, and of which types and ranges. No torch."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from dataclasses import fields
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from methods.catalog import Scalar
from methods.grammar import Choice, MethodText
from results.ladder import SUFFIX
from results.schema import WHOLE, RunSpec

from ..suites import Suite, find

if TYPE_CHECKING:
    from .request import Request


SETTABLE = ("lr", "weight_decay", "warmup_epochs", "epochs", "batch_size", "eval_batch_size", "clip", "drop_path",
            "head_lr_scale", "drop_last", "label_smoothing", "holdout", "augment", "normalise", "precision",
            "optimizer", "schedule", "attention", "threads", "image_size", "class_query", "merged_eval", "compiled",
            "decay", "warmup_steps", "head_seed", "batch_norm", "text_length", "loss")
CHOICES: dict[str, tuple[str, ...]] = {
    "augment": ("none", "crop_flip", "crop_flip_bilinear", "resized_crop_flip", "resized_crop_90"),
    "normalise": ("native", "peer", "none"), "precision": ("fp32", "bf16", "tf32"),
    "optimizer": ("adamw", "sgd", "sgd_plain"),
    "schedule": ("cosine", "cosine_zero", "cosine_epoch", "cosine_timm", "linear", "constant"),
    "attention": ("fused", "plain"),
    "decay": ("matrices", "timm", "all"),
    "batch_norm": ("method", "eval", "train"),
    "loss": ("", "triplet")}  # "": the task's own
AT_LEAST_ONE = ("epochs", "batch_size", "threads", "image_size", "text_length")
COMPILED = (False, True, "blocks", "graph")
LONGEST = 1000  # characters of a value; what is longer is no number
MOST = 1e308  # of settings that are no whole numbers: whatever a double holds

def sets(request: Request, suite: Suite, problems: list[str]) -> tuple[dict[str, Any], dict[str, Scalar]]:
    """`lr=1e-3` -> a field of the spec; `lora.rank=4` -> an option of a part."""
    values: dict[str, Any] = {}
    overrides: dict[str, Scalar] = {}
    for text in request.sets:
        key, equals, raw = text.partition("=")
        if not equals or not key:
            problems.append(f"--set takes name=value, as in lr=1e-3 or lora.rank=4, not {text!r}")
        elif "." in key:
            overrides[key] = _value(raw)
        elif key not in SETTABLE:
            near = get_close_matches(key, SETTABLE, n=3, cutoff=0.5)
            problems.append(f"--set knows no {key!r}; " + (f"did you mean {' or '.join(near)}?" if near else
                                                            f"there are: {', '.join(SETTABLE)}, and part.option"))
        else:
            _take(key, _value(raw), values, problems)
    for key in ("epochs", "batch_size"):
        if getattr(request, key) is not None:
            _take(key, getattr(request, key), values, problems)
    if values.get("warmup_epochs", 0) >= values.get("epochs", suite.protocol["epochs"]):
        problems.append(f"warmup_epochs={values['warmup_epochs']} must be below the number of epochs")
    return values, overrides


def name_problem(name: str) -> str:
    """Why no experiment may be called so, or nothing: it names files, and suites have their own."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,59}", name):
        return ("--name takes at most 60 letters, digits and signs among . _ + -, the first a letter or a digit, not "
                f"{shown(name)}")
    if name.lower() == "index":
        return "--name index: the first page is called so; take another name"
    bare = name.removesuffix("-tuned").removesuffix("-paper").removesuffix(SUFFIX)
    return f"--name {name}: a suite is called so; take another name" if find(name) or find(bare) else ""


def recipe_of(method: MethodText) -> dict[str, Any]:
    """Fields of the published recipe that a method's file states as `recipe`: the last part's that states one.

    An option of a later paper (PiSSA's start in LoRA's file) makes another method of a part, which the file's recipe,
    published before, is not for.
    """
    stated = [dict(part.info.facts["recipe"]) for part in method.parts
              if part.info.facts.get("recipe") and not of_later_papers(part)]
    return stated[-1] if stated else {}


def of_later_papers(part: Choice) -> list[str]:
    """The part's options that came with papers after its own and are in use."""
    return [name for name, _ in part.recorded if name in part.info.facts.get("later", ())]


def why_none(method: MethodText) -> str:
    """Why the method has no published recipe, in brackets, as its adapter's file says; empty where it does not."""
    if later := of_later_papers(method.adapter):
        return f" (the one of {method.adapter.name} is for it without {', '.join(later)})"
    why = method.adapter.info.facts.get("recipe_from", "")
    return f" ({why})" if why else ""


def fit_warmup(protocol: dict[str, Any], chosen: Mapping[str, Any], typed: Mapping[str, Any]) -> None:
    """Whoever names epochs of warm-up means them; a shorter run warms up for the same share of it, or not at all."""
    told = {**chosen, **typed}
    if "warmup_epochs" in told and "warmup_steps" not in told:
        protocol["warmup_steps"] = 0
    if "warmup_epochs" not in typed:
        protocol["warmup_epochs"] = min(protocol["warmup_epochs"], protocol["epochs"] // 5)


def _take(key: str, value: Scalar, values: dict[str, Any], problems: list[str]) -> None:
    """Take a field's value, if it is one: what follows from a wrong one would be a second sentence of one mistake."""
    before = len(problems)
    typed = _typed(key, value, problems)
    if len(problems) == before:
        values[key] = typed


def _typed(key: str, value: Scalar, problems: list[str]) -> Any:
    """A spec field's value, of its type and in its range; what is wrong is added to the problems."""
    kind = {f.name: str(f.type) for f in fields(RunSpec)}[key]
    if value is None and kind.endswith(" | None"):
        return None
    kind = kind.removesuffix(" | None")
    if key in CHOICES:
        if value not in CHOICES[key]:
            known = ", ".join(one or "'' (the task's own)" for one in CHOICES[key])
            problems.append(f"{key} must be one of {known}, not {value!r}")
        return value
    if key == "compiled":
        if (type(value), value) not in [(type(one), one) for one in COMPILED]:
            problems.append(f"compiled must be True, False, blocks or graph, not {value!r}")
        return value
    if kind == "bool":
        if not isinstance(value, bool):
            problems.append(f"{key} must be True or False, not {value!r}")
        return value
    number = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < float("inf")
    low = 1 if key in AT_LEAST_ONE else 0  # eval_batch_size=0: by memory
    high = {"holdout": 0.9, "drop_path": 0.99, "label_smoothing": 0.99}.get(key, WHOLE if kind == "int" else MOST)
    if not number or (kind == "int" and value != int(value)) or not low <= value <= high:  # type: ignore[arg-type, operator]
        wanted = "a whole number" if kind == "int" else "a number"
        bound = f" and at most {high}" if high < 1 or (number and value > high) else ""  # type: ignore[operator]
        problems.append(f"{key} must be {wanted} of {low:g} or more{bound}, not {shown(value)}")
        return None
    return int(value) if kind == "int" else float(value)  # type: ignore[arg-type]


def whole(text: str) -> int:
    """A whole number that every record, table and index can hold: argparse's type of all of them."""
    try:
        value = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"takes a whole number, not {shown(text)}") from None
    if abs(value) > WHOLE:
        raise argparse.ArgumentTypeError(f"takes a whole number of at most {WHOLE}, not {shown(text)}")
    return value


def shown(value: Scalar) -> str:
    """What was given, as a message repeats it: not hundreds of digits."""
    if type(value) is int and abs(value) >= 10**40:  # Python writes no number of thousands of digits
        return "a number of more than 40 digits"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]} ..."


def _value(raw: str) -> Scalar:
    import ast

    if len(raw) > LONGEST:
        return raw
    try:
        value = ast.literal_eval(raw)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):  # the last two: a thousand signs
        return raw
    return value if isinstance(value, str | int | float | bool | None) else raw


def unused(overrides: dict[str, Scalar], methods: list[tuple[str, MethodText]], problems: list[str]) -> None:
    parts = {p.name for _, m in methods for p in m.parts}
    for key in overrides:
        part = key.partition(".")[0]
        if methods and part not in parts:
            problems.append(f"--set {key}: none of the methods has the part {part!r}; they have: "
                            f"{', '.join(sorted(parts))}")
