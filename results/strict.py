"""Is a parsed record exactly what the schema says? The answer `schema.from_json` gives, some forty times sooner.

The annotations of RunResult become nested checks once; what they do not accept goes to `from_json` for its message.
"""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from functools import cache
from hashlib import sha256
from operator import contains
from typing import Any, Literal

from .ranges import possible, problem
from .schema import SCHEMA, RunResult, RunSpec, later_of

Check = Callable[[Any], bool]
_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False)
HEAD = ("run_id", "cell_id", "phase")


def sound(body: Any) -> bool:
    """True when from_json would accept the record; False means: ask it (a number written 1 for 1.0 may still pass)."""
    if type(body) is not dict or body.get("schema") != SCHEMA or not body.keys() >= set(HEAD):
        return False
    head = {name: body.pop(name) for name in HEAD}
    good = fits(RunResult, body)
    body.update(head)
    if not good:
        return False
    spec = body["spec"]
    try:
        ids = _ids(spec)
        return ids == (head["run_id"], head["cell_id"]) and head["phase"] == spec["phase"] and (
            possible(body) or not problem(body))
    except (ValueError, OverflowError):  # 1e999 is JSON and no number
        return False


def _ids(spec: dict[str, Any]) -> tuple[str, str]:
    """run_id and cell_id, encoded once: without its seed the text of a spec lacks these letters and no others."""
    text = _ENCODER.encode(spec)
    cell = text.replace(f'"seed":{spec["seed"]},', "", 1)  # within a string the quotes would be escaped
    return sha256(text.encode()).hexdigest()[:12], sha256(cell.encode()).hexdigest()[:12]


def short_hash(data: dict[str, Any]) -> str:
    """12 hex digits of sha256 over sorted, compact JSON: how the schema names specs."""
    return sha256(_ENCODER.encode(data).encode()).hexdigest()[:12]


@cache
def _checks(cls: type) -> Check:
    return _compile(cls, exact=False)


def fits(cls: type, value: Any) -> bool:
    """True when parsed JSON is exactly what a dataclass's annotations say."""
    return _checks(cls)(value)


def _compile(hint: Any, exact: bool) -> Check:
    """A check for one annotation. `exact`: floats must be written as floats, as the spec's hash wants it."""
    leaves = _leaf(hint, exact)
    if leaves is not None:
        return lambda value: type(value) in leaves
    if is_dataclass(hint) and isinstance(hint, type):
        return _object(hint, exact or hint is RunSpec)
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        checks = [_compile(a, exact) for a in args if a is not type(None)]
        if len(checks) == 1 and len(args) == 2:
            only = checks[0]
            return lambda value: value is None or only(value)
        checks += [lambda value: value is None] if type(None) in args else []
        return lambda value: any(check(value) for check in checks)
    if origin is Literal:
        allowed = frozenset(args)
        return lambda value: type(value) is str and value in allowed
    if origin is tuple and len(args) == 2 and args[1] is Ellipsis:
        plain = _leaf(args[0], exact)
        if plain is not None:
            allowed_items = plain
            return lambda value: type(value) is list and allowed_items.issuperset(map(type, value))
        each = _compile(args[0], exact)
        return lambda value: type(value) is list and all(map(each, value))
    if origin is tuple:
        plains = [leaf for a in args if (leaf := _leaf(a, exact)) is not None]
        if len(plains) == len(args):
            return lambda value: (type(value) is list and len(value) == len(plains)
                                  and all(map(contains, plains, map(type, value))))
        parts = [_compile(a, exact) for a in args]
        return lambda value: (type(value) is list and len(value) == len(parts)
                              and all(p(v) for p, v in zip(parts, value, strict=True)))
    if origin is dict:
        plain = _leaf(args[1], exact)
        if plain is not None:
            allowed_values = plain
            return lambda value: type(value) is dict and allowed_values.issuperset(map(type, value.values()))
        every = _compile(args[1], exact)
        return lambda value: type(value) is dict and all(map(every, value.values()))
    raise TypeError(f"no check for {hint!r}")


def _object(cls: type, exact: bool) -> Check:
    hints = typing.get_type_hints(cls)
    names = {f.name for f in fields(cls)}
    later = later_of(cls).keys()
    found = [(n, _leaf(hints[n], exact)) for n in names]
    leaves = [(n, leaf) for n, leaf in found if leaf is not None]
    nested = [(n, _compile(hints[n], exact)) for n, leaf in found if leaf is None]
    known: set[tuple[str | type, ...]] = set()  # names and types that passed before

    def check(value: Any) -> bool:
        if type(value) is not dict:
            return False
        shape = (*value, *map(type, value.values()))
        if shape not in known:
            if not names - later <= value.keys() <= names or any(
                    type(value[name]) not in allowed for name, allowed in leaves if name in value):
                return False
            if len(known) < 1000:
                known.add(shape)
        for name, part in nested:  # noqa: SIM110 (a generator would take half as long again)
            if name in value and not part(value[name]):  # one that joined later may be absent
                return False
        return True

    return check


def _leaf(hint: Any, exact: bool) -> frozenset[type] | None:
    """The JSON types a plain annotation accepts, or None when it is not plain."""
    if hint is float:
        return frozenset({float} if exact else {float, int})
    if hint in (int, str, bool):
        return frozenset({hint})
    if hint is type(None) or hint is None:
        return frozenset({type(None)})
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        parts = [_leaf(a, exact) for a in typing.get_args(hint)]
        if all(p is not None for p in parts):
            return frozenset().union(*(p for p in parts if p is not None))
    return None
