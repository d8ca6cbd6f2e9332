"""What parts exist, read from their source with `ast`: nothing is imported, so a list of methods needs no torch.

A part is a class in adapters/, regularizers/ or constraints/ decorated with `@part("name", "alias", ...)`. Its
annotated fields are its options, written `rank: Annotated[int, ">= 1", "rank of each update"] = 8`: type, allowed
range, meaning, default. Class variables with literal values (`offers`, `needs`, `paper`, ...) are read as they stand.
A file that cannot be read is `broken`: its parts are refused when they are asked for, the others go on. Folders outside
the checkout (`outside`) hold further parts; one that takes a name of ours is broken, and ours stays.
"""

from __future__ import annotations

import ast
import operator
import re
from dataclasses import dataclass, field, replace
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from . import outside
from .faults import Broken, PartError, missing_import, parsed, told
from .formula import problem as formula_problem
from .pointing import shown
from .slips import check as check_slips

Scalar = str | int | float | bool | None
WHOLE = 2**53 - 1  # the largest whole number, as in results.schema; a test compares the two
KINDS = {"adapters": "adapter", "regularizers": "regularizer", "constraints": "constraint"}
_BOUND = r"\s*(?:>=|<=|>|<)\s*[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?\s*"
RANGE = re.compile(f"{_BOUND}(?:,{_BOUND})*")
_COMPARE = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}


@dataclass(frozen=True)
class Option:
    """One option of a part: how it is typed, what values it takes, what it means."""

    name: str
    type: str  # "int", "float", "bool", "str"; a trailing "?" when None is allowed
    default: Scalar
    range: str = ""  # ">= 1", "> 0, <= 1", or "" for any
    choices: tuple[Scalar, ...] = ()
    doc: str = ""

    def problem(self, value: Scalar) -> str:
        """A phrase that says what is wrong with the value, or nothing."""
        if value is None:
            return "" if self.type.endswith("?") else f"must be {self._kind}"
        kind = self.type.rstrip("?")
        if self.choices:
            if type(value) in {type(c) for c in self.choices} and value in self.choices:
                return ""
            return "must be one of " + ", ".join(repr(c) for c in self.choices)
        wanted: dict[str, tuple[type, ...]] = {"int": (int,), "float": (int, float), "bool": (bool,), "str": (str,)}
        if not isinstance(value, wanted[kind]) or (isinstance(value, bool) and kind != "bool"):
            return f"must be {self._kind}"
        if isinstance(value, float) and value - value != 0:  # NaN and infinity cannot be recorded
            return "must be a number"
        if not isinstance(value, bool | str | float) and abs(value) > WHOLE:
            return f"must be {self._kind} of at most {WHOLE}"
        if self.range and not all(_COMPARE[sign](value, float(bound)) for sign, bound in _bounds(self.range)):
            return f"must be {self.range}"
        return ""

    def normal(self, value: Scalar) -> Scalar:
        """One spelling per value: 1 and 1.0 are the same float option."""
        return float(value) if self.type.startswith("float") and isinstance(value, int) else value

    @property
    def _kind(self) -> str:
        names = {"int": "a whole number", "float": "a number", "bool": "True or False", "str": "a text in quotes"}
        return names[self.type.rstrip("?")]


@dataclass(frozen=True)
class PartInfo:
    """What can be known of a part without importing it."""

    name: str
    kind: str  # adapter, regularizer, constraint
    cls: str
    module: str  # dotted, relative to `methods`
    path: Path
    doc: str  # first sentence of the class's or module's docstring
    aliases: tuple[str, ...] = ()
    options: tuple[Option, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict, hash=False)  # literal class variables
    folder: str = ""  # outside the checkout that it comes from: its last name

    @property
    def file(self) -> str:
        """As its author calls it: `methods/adapters/lora.py`, `mine/adapters/rest.py`."""
        return shown(self.path)

    @property
    def offers(self) -> frozenset[str]:
        return frozenset(self.facts.get("offers", ()))

    @property
    def needs(self) -> frozenset[str]:
        return frozenset(self.facts.get("needs", ()))

    @property
    def families(self) -> frozenset[str]:
        return frozenset(self.facts.get("families", ("vit",)))

    def takes(self, adapter: PartInfo) -> bool:
        """Whether the adapter offers what the part needs, or is one of those that it `accepts` by name."""
        return self.needs <= adapter.offers or adapter.name in self.facts.get("accepts", ())

    @property
    def source_hash(self) -> str:
        """Of the part's file and of every file of ours that it builds on, the core types excepted.

        What a file says of `search`, `recipe` and `recipe_from` does not count: it is what to try, not what a run does.
        """
        return sha256(b"".join(_behaviour(path, path.stat().st_mtime_ns) for path in _sources(self.path))).hexdigest()


UNCOUNTED = ("search", "recipe", "recipe_from")
# Shared by every method, or by none: a change there is a change of the program.
CORE = {"base", "catalog", "compose", "faults", "grammar", "outside", "pointing"}


@cache
def _sources(path: Path) -> tuple[Path, ...]:
    """The file and what it imports of ours and of its own folder, directly or not, sorted."""
    found: set[Path] = set()
    waiting = [path]
    while waiting:
        file = waiting.pop()
        if file not in found:
            found.add(file)
            waiting += _siblings(file)
    return tuple(sorted(found, key=outside.order))


@cache
def _behaviour(path: Path, mtime_ns: int) -> bytes:
    """The file without the lines of its classes that say what to try (UNCOUNTED)."""
    source = path.read_bytes()
    if not re.search(rb"^    (search|recipe|recipe_from)\b", source, re.MULTILINE):
        return source
    lines = source.decode().splitlines(keepends=True)
    for node in (n for c in ast.parse(source).body if isinstance(c, ast.ClassDef) for n in c.body):
        targets = [node.target] if isinstance(node, ast.AnnAssign) else getattr(node, "targets", [])
        if targets and getattr(targets[0], "id", "") in UNCOUNTED:
            lines[node.lineno - 1:node.end_lineno] = [""] * ((node.end_lineno or node.lineno) - node.lineno + 1)
    return "".join(lines).encode()


@cache
def _siblings(file: Path) -> tuple[Path, ...]:
    """Files that one imports by `from ..x import y` or `from methods.x import y` at the margin, the core excepted."""
    modules = []
    lines = re.findall(r"^from (\.+|methods\b)([\w.]*) import \(?([\w, ]*)", file.read_text(encoding="utf-8"),
                       re.MULTILINE)
    for lead, module, names in lines:
        start = outside.HERE if lead == "methods" else outside.above(file, len(lead))
        folder = start.joinpath(*filter(None, module.split(".")))
        modules += [folder] + [folder / name.strip() for name in names.split(",") if name.strip()]
    files = [m.with_suffix(".py") for m in modules if m.stem not in CORE]
    return tuple(f for f in files if f.is_file())


def _bounds(text: str) -> list[tuple[str, str]]:
    return re.findall(r"(>=|<=|>|<)\s*([-+.\de]+)", text)


def _literal(node: ast.expr) -> Any:
    """The value of a literal, of `frozenset({...})`, of dicts of them; raises ValueError for anything else."""
    if isinstance(node, ast.Dict) and all(k is not None for k in node.keys):
        return {_literal(k): _literal(v) for k, v in zip(node.keys, node.values, strict=True) if k is not None}
    if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "frozenset":
        return frozenset(_literal(node.args[0])) if node.args else frozenset()
    return ast.literal_eval(node)


def _option(node: ast.AnnAssign) -> Option:
    assert isinstance(node.target, ast.Name)
    name, annotation, words = node.target.id, node.annotation, []
    if node.value is None:
        raise PartError(f"line {node.lineno}: option {name!r} has no default")
    try:
        default = ast.literal_eval(node.value)
    except ValueError:
        raise PartError(f"line {node.lineno}: the default of option {name!r} must be a number, a text, True, False or "
                        "None, written out") from None
    if isinstance(annotation, ast.Subscript) and getattr(annotation.value, "id", "") == "Annotated":
        assert isinstance(annotation.slice, ast.Tuple)
        annotation, *rest = annotation.slice.elts
        words = [str(ast.literal_eval(w)) for w in rest]
    optional = isinstance(annotation, ast.BinOp)
    if isinstance(annotation, ast.BinOp):
        annotation = annotation.left
    choices: tuple[Scalar, ...] = ()
    if isinstance(annotation, ast.Subscript) and getattr(annotation.value, "id", "") == "Literal":
        inner = annotation.slice
        choices = tuple(ast.literal_eval(e) for e in (inner.elts if isinstance(inner, ast.Tuple) else [inner]))
        kind = type(choices[0]).__name__
    else:
        kind = ast.unparse(annotation)
    if not choices and kind not in ("int", "float", "bool", "str"):
        raise PartError(f"line {node.lineno}: option {name!r} is of type {kind}; it must be int, float, bool, str or a "
                        "Literal")
    limit = next((w for w in words if _bounds(w) and not re.search(r"[a-df-z]", w)), "")
    for word in words:
        if word.lstrip()[:1] in tuple("<>=≤≥") and not (kind in ("int", "float") and RANGE.fullmatch(word)):
            raise PartError(f"line {node.lineno}: the range {word[:60]!r} of option {name!r} must be signs and "
                            "numbers, as in '>= 1' or '> 0, <= 1', of an int or a float")
    doc = next((w for w in words if w != limit), "")
    return Option(name, kind + ("?" if optional else ""), default, limit, choices, doc)


def _read(path: Path, kind: str, package: str, folder: str = "") -> list[PartInfo]:
    tree = parsed(path)
    check_slips(tree, path, kind)
    module_doc = ast.get_docstring(tree) or ""
    found = []
    for node in tree.body:
        if not isinstance(node, ast.ClassDef):
            continue
        names = [_literal(a) for d in node.decorator_list if isinstance(d, ast.Call)
                 and getattr(d.func, "id", "") == "part" for a in d.args]
        if not names:
            continue
        options, facts = [], {}
        for line in node.body:
            if isinstance(line, ast.AnnAssign) and "ClassVar" not in ast.unparse(line.annotation):
                options.append(_option(line))
            targets = [line.target] if isinstance(line, ast.AnnAssign) else getattr(line, "targets", [])
            if targets and not any(o.name == getattr(targets[0], "id", "") for o in options):
                try:
                    facts[targets[0].id] = _literal(line.value)  # type: ignore[union-attr, attr-defined]
                except ValueError:
                    continue
        _check_formula(node, names[0], options, facts.get("formula", ""))
        doc = (ast.get_docstring(node) or module_doc).split("\n\n")[0].replace("\n", " ")
        found.append(PartInfo(names[0], kind, node.name, f"{package}.{path.stem}", path, doc,
                              tuple(names[1:]), tuple(options), facts, folder))
    return found


def _check_formula(node: ast.ClassDef, name: str, options: list[Option], formula: Any) -> None:
    """What cannot be read was meant to be compared with the trained weights."""
    if not isinstance(formula, str):
        raise PartError(f"line {node.lineno}: the formula of {name!r} must be a text")
    if why := formula_problem(formula, {"d", "L", *(o.name for o in options if o.type in ("int", "float"))}):
        raise PartError(f"line {node.lineno}: the formula of {name!r} {why}")


def catalog() -> dict[str, PartInfo]:
    """Every part that can be used by its name, in order of kind and name."""
    return _all(outside.folders())[0]


def broken() -> tuple[Broken, ...]:
    """The files whose parts cannot be used, and why."""
    return _all(outside.folders())[1]


def broken_part(name: str) -> str:
    """A sentence that refuses this part because of its file, or nothing."""
    hit = next((b for b in broken() if name in b.names), None)
    return f"{name!r} cannot be used until {hit.file} is mended: {hit.why}" if hit else ""


@cache
def _all(further: tuple[Path, ...]) -> tuple[dict[str, PartInfo], tuple[Broken, ...]]:
    """Of this package and of the folders outside."""
    read: list[PartInfo] = []
    bad: list[Broken] = []
    places = [(outside.HERE / plural, kind, plural, "") for plural, kind in KINDS.items()]
    places += [(folder / plural, kind, outside.package(folder, plural), folder.name)
               for folder in further for plural, kind in KINDS.items()]
    for place, kind, package, folder_name in places:
        for path in sorted(place.glob("*.py")):
            try:
                found = _read(path, kind, package, folder_name)
                why = missing_import(path)
            except Exception as error:  # whatever a user's file makes the reader say
                found, why = [], told(error)
            if why:
                bad.append(Broken(path, why, _names_in(path)))
            read += [] if why else found
    ours = {name for info in read if not info.folder for name in (info.name, *info.aliases)}
    taken = [info for info in read if info.folder and ours & {info.name, *info.aliases}]
    bad += [Broken(info.path, _taken(info, ours), (info.name, *info.aliases)) for info in taken]
    read = [info for info in read if info not in taken]
    owners: dict[str, list[PartInfo]] = {}
    for info in read:
        for name in {info.name, *info.aliases}:
            owners.setdefault(name, []).append(info)
    clashes = {name: infos for name, infos in owners.items() if len(infos) > 1}
    for name, infos in clashes.items():  # neither: nobody could say whose numbers they are
        both = " and ".join(i.file.removeprefix("methods/") for i in infos)
        bad.append(Broken(infos[-1].path, f"{both} both register {name!r}", tuple({name, *(i.name for i in infos)})))
    clashing = {id(i) for infos in clashes.values() for i in infos}
    parts = {i.name: i for i in read if id(i) not in clashing}
    order = list(KINDS.values())
    bad = [b if outside.home(b.path) is None else replace(b, names=tuple(n for n in b.names if n not in ours))
           for b in bad]
    return dict(sorted(parts.items(), key=lambda kv: (order.index(kv[1].kind), kv[0]))), tuple(bad)


def _taken(info: PartInfo, ours: set[str]) -> str:
    name = next(n for n in (info.name, *info.aliases) if n in ours)
    return f"{name!r} is a name of Regatta's own; take another one in @part(...)"


def _names_in(path: Path) -> tuple[str, ...]:
    """The names of the parts in a file that cannot be parsed: those of its decorators, and the file's own."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    except OSError:
        text = ""
    calls = re.findall(r"@part\(([^)]*)\)", text)
    return tuple(dict.fromkeys([n for call in calls for n in re.findall(r"['\"]([\w-]+)['\"]", call)] or [path.stem]))


def aliases() -> dict[str, str]:
    """Short name -> name."""
    return {alias: info.name for info in catalog().values() for alias in info.aliases}
