"""What a check found, and how the error that a part raised is told: where, of what kind, and what to write."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from torch import Tensor, nn

from methods.grammar import MethodError
from methods.pointing import in_error

SHAPES = re.compile(r"shape|size|dimension|expand|broadcast|mat1", re.IGNORECASE)


class Wrong(Exception):
    """What a check refuses; the text is one sentence for the part's author."""


@dataclass(frozen=True)
class Verdict:
    """One check: its name, whether it passed, what it saw or what is wrong."""

    name: str
    good: bool
    told: str


def judge(checks: Iterator[tuple[str, Callable[[], str]]]) -> Iterator[Verdict]:
    """Each check in turn; a check returns what it saw and raises what is wrong; the others go on."""
    for name, check in checks:
        try:
            yield Verdict(name, True, check())
        except (Wrong, MethodError) as error:
            yield Verdict(name, False, str(error))
        except Exception as error:  # of a user's file: whatever it says
            yield Verdict(name, False, explained(error))


def explained(error: Exception) -> str:
    """The kind of an error, its first line, its place in the part's file, and the nearest right name."""
    said = (str(error).strip().splitlines() or [""])[0]
    place = in_error(error)
    told = f"{type(error).__name__}: {said}" + (f" ({place})" if place else "")
    if isinstance(error, AttributeError) and error.name:
        owner: Any = error.obj
        known = [*dir(owner), *getattr(owner, "_parameters", {}), *getattr(owner, "_modules", {})]
        near = get_close_matches(error.name, known, n=1)
        told += f"; did you mean {near[0]!r}?" if near else ""
        if type(owner) is nn.Identity:
            told += ("; an Identity stands where a form of ViT has no such layer (one without a class token has "
                     "fc_norm in the place of norm): ask for the type before you train it")
    told += "".join(f"; on a ViT with {form}" for form in getattr(error, "__notes__", ()))
    where = getattr(error, "regatta_module", "")
    return told + (f"; {where}" if where and SHAPES.search(said) else "")


@contextmanager
def following(model: nn.Module) -> Iterator[None]:
    """Notes on an error that a forward pass raises which module it broke in, and what that module was given."""
    stack: list[str] = []

    def enter(path: str) -> Callable[..., None]:
        def note(module: nn.Module, args: tuple[Any, ...]) -> None:
            given = [tuple(a.shape) for a in args if isinstance(a, Tensor)]
            stack.append(f"it broke in {path!r} ({type(module).__name__}), which was given "
                         f"{', '.join(map(str, given)) or 'no tensor'}")
        return note

    def leave(module: nn.Module, args: tuple[Any, ...], out: Any) -> None:
        stack.pop()

    handles = []
    for path, module in model.named_modules():
        handles += [module.register_forward_pre_hook(enter(path)), module.register_forward_hook(leave)] if path else []
    try:
        yield
    except Exception as error:
        if stack:
            error.regatta_module = stack[-1]  # type: ignore[attr-defined]
        raise
    finally:
        for handle in handles:
            handle.remove()
