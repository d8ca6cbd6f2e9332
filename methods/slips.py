"""A beginner's slips in a part's file, seen by reading it: no decorator, another base class, a name that nobody reads.

Each of these runs without a word: a class without `@part` is not listed, a misspelt fact or method is never asked for,
a number without a type is no option. Raised as PartError with the line and what to write; a file of shared classes
that others of its folder import is no slip.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path

from .faults import PartError

BASES = {"adapter": "Adapter", "regularizer": "Regularizer", "constraint": "Constraint"}
FACTS = frozenset({
    "title", "paper", "ours", "formula", "offers", "needs", "families", "at_start", "search", "recipe", "recipe_from",
    "mergeable", "lists", "lists_why", "checks", "frozen_backbone", "later", "wants_holdout", "requires", "lacks_if",
    "unmerged_if", "sparse_if", "refused", "needs_if", "outermost", "excludes", "excludes_why", "accepts",
    "further", "reads_images", "owns_forward", "averages", "holdout_batch"})
SHARED = ("state", "restore", "report")
FUNCTIONS = {"adapter": (*SHARED, "build", "prepare", "anchors", "views", "rates", "frozen_blocks", "merge"),
             "regularizer": (*SHARED, "attach", "loss", "grads", "predict", "start_split", "probe"),
             "constraint": (*SHARED, "attach", "after_step", "finish")}


def check(tree: ast.Module, path: Path, kind: str) -> None:
    """Raises PartError for the first slip in a file of parts of this kind."""
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    parts = [node for node in classes.values() if any(_is_part(d) for d in node.decorator_list)]
    if not parts:
        _undecorated(classes, path)
    for node in parts:
        _decorated(node, path)
        found = set(_ancestors(node, classes))
        if not found & {*BASES.values(), "Part", "?"} or (found & {*BASES.values()} and BASES[kind] not in found):
            given = f"inherits from {', '.join(sorted(found - {'?'}))}" if found else "inherits from nothing"
            raise PartError(f"line {node.lineno}: {node.name} lies in {path.parent.name}/ and {given}; write class "
                            f"{node.name}({BASES[kind]}): and import {BASES[kind]} from {_package(path)}base")
        _names(node, kind)


def _is_part(decorator: ast.expr) -> bool:
    return getattr(decorator.func if isinstance(decorator, ast.Call) else decorator, "id", "") == "part"


def _package(path: Path) -> str:
    """How a file of this folder spells what is ours: `..` in the checkout, `methods.` elsewhere."""
    return ".." if path.resolve().parents[1] == Path(__file__).resolve().parent else "methods."


def _undecorated(classes: dict[str, ast.ClassDef], path: Path) -> None:
    for node in classes.values():
        if set(_ancestors(node, classes)) & {*BASES.values()} and not _shared(path):
            raise PartError(f"line {node.lineno}: {node.name} has no decorator, so that nobody finds it; write "
                            f"@part({path.stem!r}) above the class, and from {_package(path)}compose import part")


def _shared(path: Path) -> bool:
    """Whether another file of the folder builds on this one."""
    wanted = re.compile(rf"^from [\w.]*\.{re.escape(path.stem)} import ", re.MULTILINE)
    return any(wanted.search(other.read_text(encoding="utf-8", errors="replace"))
               for other in path.parent.glob("*.py") if other != path)


def _decorated(node: ast.ClassDef, path: Path) -> None:
    """The decorator is called with the name, written out."""
    for one in filter(_is_part, node.decorator_list):
        if not isinstance(one, ast.Call) or not one.args or not all(
                isinstance(a, ast.Constant) and isinstance(a.value, str) for a in one.args):
            raise PartError(f"line {one.lineno}: the decorator of {node.name} has no name; write "
                            f"@part({path.stem!r})")


def _ancestors(node: ast.ClassDef, classes: dict[str, ast.ClassDef]) -> Iterator[str]:
    """What a class comes from at last: names of ours as they stand, `?` for what another file defines."""
    for base in node.bases:
        name = base.attr if isinstance(base, ast.Attribute) else getattr(base, "id", "?")
        if name in classes and classes[name] is not node:
            yield from _ancestors(classes[name], classes)
        else:
            yield name if name in {*BASES.values(), "Part", "Module"} else "?"


def _names(node: ast.ClassDef, kind: str) -> None:
    """Facts and functions whose names are nearly those that are read."""
    own = {f.name for f in node.body if isinstance(f, ast.FunctionDef)}
    for line in node.body:
        if isinstance(line, ast.FunctionDef) and not line.name.startswith("_") and line.name not in FUNCTIONS[kind]:
            near = get_close_matches(line.name, set(FUNCTIONS[kind]) - own, n=1, cutoff=0.8)
            if near:
                raise PartError(f"line {line.lineno}: nothing calls {line.name!r}; write def {near[0]}, or give it a "
                                "name of its own")
        free = isinstance(line, ast.AnnAssign) and "ClassVar" in ast.unparse(line.annotation)
        target = line.targets[0] if isinstance(line, ast.Assign) else line.target if free else None  # type: ignore
        name = getattr(target, "id", "")
        if not name or name in FACTS or name.startswith("_") or name.isupper():
            continue
        near = get_close_matches(name, FACTS, n=1, cutoff=0.8)
        if near:
            raise PartError(f"line {line.lineno}: nothing reads {name!r}; write {near[0]} = ...")
        value = getattr(line.value, "value", None)  # type: ignore[attr-defined]
        if isinstance(line, ast.Assign) and isinstance(value, bool | int | float):
            raise PartError(f"line {line.lineno}: {name!r} has no type, so that it is no option; write "
                            f"{name}: {type(value).__name__} = {value!r}")
