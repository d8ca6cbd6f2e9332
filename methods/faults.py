"""Why a file of a method cannot be used, told without importing it: it is no Python, or imports what is not there.

A method's file is a user's. One that is broken must not take the others with it; whoever asks for it wants the line.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from stat import S_ISREG

from .outside import HERE, above, home
from .pointing import shown

# What every installation has; where it is missing, the program says how to install it, and lists of methods still work.
INSTALLED = {"torch", "timm", "torchvision", "numpy", "safetensors", "PIL", "__future__"}


class PartError(ValueError):
    """A part is written in a way that the catalog cannot read; the message is a phrase for its author."""


@dataclass(frozen=True)
class Broken:
    """A file that holds parts which cannot be used."""

    path: Path
    why: str
    names: tuple[str, ...] = ()  # of the parts in it, as far as they can be read

    @property
    def file(self) -> str:
        """`methods/adapters/x.py`; of a folder outside the checkout, `mine/adapters/x.py`."""
        return shown(self.path)

    def __str__(self) -> str:
        return f"{self.file} cannot be used: {self.why}"


def told(error: Exception) -> str:
    """What reading a file raised, as a phrase."""
    if isinstance(error, SyntaxError):
        return f"line {error.lineno}: {error.msg}"
    if isinstance(error, PartError):
        return str(error)
    if isinstance(error, UnicodeDecodeError):
        return f"byte {error.start} is not UTF-8"
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return f"{type(error).__name__}: {error}"


def parsed(path: Path) -> ast.Module:
    """The file as Python reads it, parsed once while it stays as it is: most of a list's time is parsing.

    Raises UnicodeDecodeError, SyntaxError, ValueError, OSError.
    """
    found = path.stat()
    if not S_ISREG(found.st_mode):  # reading a pipe would wait for ever
        raise PartError("it is no plain file")
    return _parsed(path, found.st_mtime_ns)


@cache
def _parsed(path: Path, mtime_ns: int) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def _names(path: Path) -> frozenset[str]:
    return frozenset(_defined(parsed(path).body))


_found: dict[Path, str] = {}  # what is under way counts as right: modules may import one another


def missing_import(path: Path) -> str:
    """The first import, in the file or in ours that it imports, of something that is not there; or nothing.

    Raises what parsing the file raises; one of ours that cannot be parsed is told.
    """
    if path not in _found:
        _found[path] = ""
        _found[path] = _missing(path)
    return _found[path]


def _missing(path: Path) -> str:
    for node in parsed(path).body:
        if isinstance(node, ast.Import):
            absent = [a.name for a in node.names if not _is_there(a.name)]
            if absent:
                return f"line {node.lineno}: there is no module {absent[0]!r}"
        elif isinstance(node, ast.ImportFrom) and not node.level and not _ours(node):
            if not _is_there(node.module or ""):
                return f"line {node.lineno}: there is no module {node.module!r}"
        elif isinstance(node, ast.ImportFrom):
            found = _relative(node, path)
            if found:
                return f"line {node.lineno}: {found}"
    return ""


def lacking(packages: Iterable[str]) -> str:
    """Which of the packages is not installed, as a phrase that says what to do; or nothing. Extras bear their names."""
    absent = next((p for p in packages if not _is_there(p)), "")
    return absent and (f"needs {absent}, which is not installed: python -m pip install -c constraints.txt -e "
                       f"'.[{absent}]'")


def _is_there(module: str) -> bool:
    top = module.partition(".")[0]
    try:
        return top in INSTALLED or find_spec(top) is not None
    except (ImportError, ValueError):  # a module without a spec is there, and is running
        return True


def _ours(node: ast.ImportFrom) -> bool:
    """Whether it is `from methods...`, as a file outside the checkout may spell what is ours."""
    return (node.module or "").partition(".")[0] == HERE.name


def _relative(node: ast.ImportFrom, path: Path) -> str:
    base = (above(path, node.level) if node.level else HERE.parent).joinpath(*(node.module or "").split("."))
    file = base.with_suffix(".py") if node.module else base / "__init__.py"
    if not file.is_file():
        file = base / "__init__.py"
    if not file.is_file():
        ours = home(path) and node.level and HERE.joinpath(f"{(node.module or '').replace('.', '/')}.py").is_file()
        hint = f"; write from {HERE.name}.{node.module} import" if ours else ""
        return f"there is no module {'.' * node.level}{node.module or ''}{hint}"
    try:
        known, inner = _names(file), missing_import(file)
    except (SyntaxError, ValueError, OSError) as error:
        inner = told(error)
    if inner:
        return f"{file.name}, {inner}"
    absent = [a.name for a in node.names if a.name not in known | {"*"} and "__getattr__" not in known
              and not (base / f"{a.name}.py").is_file()]
    return f"{file.name} has no {absent[0]!r}" if absent else ""


def _defined(body: list[ast.stmt]) -> Iterator[str]:
    """The names that statements at the top of a module may define."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from ((a.asname or a.name).partition(".")[0] for a in node.names)
        else:
            yield from (n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store))
            yield from (n.name for n in ast.walk(node) if isinstance(n, ast.FunctionDef | ast.ClassDef))
            yield from ((a.asname or a.name).partition(".")[0] for n in ast.walk(node)
                        if isinstance(n, ast.Import | ast.ImportFrom) for a in n.names)
