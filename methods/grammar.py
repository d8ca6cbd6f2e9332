"""The grammar of methods, `adapter(options)+part+part`: parsing, the canonical form, and every refusal. No torch.

Parsed with `ast`: a name or a call with keyword literals, nothing is evaluated. Canonical order: the adapter, the
part that owns the forward pass, other regularizers as written, the one that wants the last word on the gradient, a mean
of the weights, other constraints as written.
"""

from __future__ import annotations

import ast
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches

from .catalog import PartInfo, Scalar, aliases, broken_part, catalog

LONGEST = 2000  # characters of a method's text
FEATURES = {
    "delta": "marked residual branches to perturb",
    "anchor": "a state that is the pre-trained function",
    "tokens": "patch tokens that can be read",
    "head": "a head that fits the classes before training",
}


class MethodError(ValueError):
    """The text of a method is wrong, or its parts do not go together; the message is one sentence for the user."""


class NeedsNumbers(MethodError):
    """An adapter cannot be built on the meta device: its start reads the weights."""


@dataclass(frozen=True)
class Choice:
    """A part with all its options resolved."""

    info: PartInfo
    options: tuple[tuple[str, Scalar], ...]

    @property
    def name(self) -> str:
        return self.info.name

    @property
    def needs(self) -> frozenset[str]:
        """Features the adapter must offer: the part's own, and those that hold for its options (`needs_if`)."""
        extra = dict(self.info.facts.get("needs_if", {}))
        return self.info.needs.union(*(f for rule, f in extra.items() if _holds(rule, dict(self.options))))

    @property
    def recorded(self) -> tuple[tuple[str, Scalar], ...]:
        """The options that name a run: all but those that came `later` and hold their default."""
        default, later = {o.name: o.default for o in self.info.options}, self.info.facts.get("later", ())
        return tuple((k, v) for k, v in self.options if k not in later or v != default[k])

    @property
    def offers(self) -> frozenset[str]:
        """Features of an adapter, without those that it lacks with its options (`lacks_if`)."""
        lost = dict(self.info.facts.get("lacks_if", {}))
        return self.info.offers.difference(*(f for rule, f in lost.items() if _holds(rule, dict(self.options))))

    @property
    def mergeable(self) -> bool:
        """Whether an adapter can be merged with its options (`unmerged_if`)."""
        return bool(self.info.facts.get("mergeable")) and not self.holds("unmerged_if")

    def holds(self, fact: str) -> bool:
        """Whether the rule between options that a class variable states holds; one that states none holds never."""
        rule = self.info.facts.get(fact)
        return bool(rule) and _holds(str(rule), dict(self.options))

    def text(self, full: bool = False) -> str:
        """`lora(rank=4)`: options that differ from the defaults, or all that are recorded."""
        default = {o.name: o.default for o in self.info.options}
        shown = [f"{k}={v!r}" for k, v in self.recorded if full or v != default[k]]
        return f"{self.name}({', '.join(shown)})" if shown else self.name


@dataclass(frozen=True)
class MethodText:
    """A parsed, checked method: parts in canonical order, options resolved."""

    parts: tuple[Choice, ...]

    @property
    def adapter(self) -> Choice:
        return self.parts[0]

    @property
    def name(self) -> str:
        """`lora+pace`: the names alone, as in the record."""
        return "+".join(p.name for p in self.parts)

    @property
    def options(self) -> tuple[tuple[str, Scalar], ...]:
        """(("lora.rank", 8), ("pace.sigma", 1.0), ...): the options of every part, sorted within a part."""
        return tuple((f"{p.name}.{k}", v) for p in self.parts for k, v in sorted(p.recorded))

    def text(self, full: bool = False) -> str:
        return "+".join(p.text(full) for p in self.parts)

    @property
    def requires(self) -> tuple[str, ...]:
        """Packages that the parts need beside what every installation has; their versions are in the record."""
        return tuple(dict.fromkeys(r for p in self.parts for r in p.info.facts.get("requires", ())))

    @property
    def source_hash(self) -> str:
        """Changes when a file of the method changes."""
        from hashlib import sha256

        return sha256("".join(p.info.source_hash for p in self.parts).encode()).hexdigest()


def parse(text: str, overrides: dict[str, Scalar] | None = None) -> MethodText:
    """`lora(rank=4)+pace` -> its parts, defaults filled in; `overrides` are `lora.rank` = 4 from `--set`.

    Raises MethodError with one sentence that names what was given, what is possible, and the nearest right name.
    """
    if len(text) > LONGEST:
        raise MethodError(f"a method has at most {LONGEST} characters, not {len(text)}: {text!r:.80} ...")
    if not text.strip():
        raise MethodError("a method is empty; write for instance 'lora' or 'lora(rank=4)+pace'")
    chosen = [_choice(piece, text, overrides or {}) for piece in _split(text)]
    _check_composition(chosen)
    chosen.sort(key=lambda c: _place(c.info))
    return MethodText(tuple(chosen))


def _place(info: PartInfo) -> int:
    """Where a part stands in the canonical order; parts of one place stand as written."""
    if info.kind == "regularizer":
        return 1 if info.facts.get("owns_forward") else 3 if info.facts.get("outermost") else 2
    return 0 if info.kind == "adapter" else 4 if info.facts.get("averages") else 5


def usable(text: str) -> list[MethodText]:
    """The method of a suite, or nothing while a broken file holds one of its parts."""
    with suppress(MethodError):
        return [parse(text)]
    return []


def canonical(text: str) -> str:
    """The text of a suite's method as tables write it; as it stands while a broken file holds one of its parts."""
    return next((method.text() for method in usable(text)), text)


def from_record(name: str, options: tuple[tuple[str, Scalar], ...]) -> MethodText:
    """The inverse of (MethodText.name, MethodText.options)."""
    per: dict[str, dict[str, Scalar]] = {n: {} for n in name.split("+")}
    for key, value in options:
        part, _, option = key.partition(".")
        per[part][option] = value
    text = "+".join(f"{n}({', '.join(f'{k}={v!r}' for k, v in o.items())})" if o else n for n, o in per.items())
    return parse(text)


def near(given: str, known: list[str]) -> str:
    """'; did you mean lora?' or the whole list when nothing is near."""
    hits = get_close_matches(given, known, n=3, cutoff=0.6)
    return f"; did you mean {' or '.join(hits)}?" if hits else f"; there are: {', '.join(known)}"


def _split(text: str) -> list[str]:
    """Cut at every + outside brackets and quotes."""
    pieces, depth, quote, piece = [], 0, "", ""
    for char in text:
        if quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        elif char in "([":
            depth += 1
        elif char in ")]":
            depth -= 1
        if char == "+" and depth == 0 and not quote:
            pieces.append(piece)
            piece = ""
        else:
            piece += char
    if depth or quote:
        raise MethodError(f"{text!r} has an open {'quote' if quote else 'bracket'}")
    return [*pieces, piece]


def _choice(piece: str, text: str, overrides: dict[str, Scalar]) -> Choice:
    name, bracket, rest = piece.strip().partition("(")
    name = aliases().get(name.strip().replace("-", "_"), name.strip().replace("-", "_"))
    if not name:
        raise MethodError(f"{text!r} has an empty part beside a '+'")
    if why := broken_part(name):
        raise MethodError(why)
    if name not in catalog():
        raise MethodError(f"no part is called {piece.strip().partition('(')[0]!r}"
                          f"{near(name, [*catalog(), *aliases()])}")
    info = catalog()[name]
    given = _keywords(bracket + rest, piece, text) if bracket else {}
    given |= {key.partition(".")[2]: value for key, value in overrides.items() if key.partition(".")[0] == name}
    known = {o.name: o for o in info.options}
    for key, value in given.items():
        if key not in known:
            listed = ", ".join(f"{o.name}={o.default!r}" for o in info.options) or "no options at all"
            close = get_close_matches(key, known, n=1)
            hint = f" (did you mean {close[0]}?)" if close else ""
            raise MethodError(f"{name!r} has no option {key!r}{hint}; it has: {listed}")
        if why := dict(info.facts.get("refused", {})).get(key, {}).get(value):
            raise MethodError(f"{name!r} does not take {key}={value!r}: {why}")
        if problem := known[key].problem(value):
            raise MethodError(f"option {key!r} of {name!r} {problem}, not {value!r:.60}")
    resolved = {o.name: o.normal(given.get(o.name, o.default)) for o in info.options}
    for key, allowed in dict(info.facts.get("lists", {})).items():
        further = tuple(dict(info.facts.get("further", {})).get(key, ()))
        why = dict(info.facts.get("lists_why", {})).get(key, "")
        resolved[key] = _listed(str(resolved[key]), allowed, further, f"option {key!r} of {name!r}", why)
    for rule, message in dict(info.facts.get("checks", {})).items():
        if not _holds(rule, resolved):
            raise MethodError(f"{name!r}: {message}")
    return Choice(info, tuple(resolved.items()))


def _keywords(call: str, piece: str, text: str) -> dict[str, Scalar]:
    try:
        tree = ast.parse("f" + call.strip(), mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError):  # the last two: a thousand signs
        raise MethodError(f"{piece.strip()!r} in {text!r} is not a name or a call such as lora(rank=4)") from None
    if not isinstance(tree, ast.Call) or tree.args or any(k.arg is None for k in tree.keywords):
        raise MethodError(f"options are written name=value, as in lora(rank=4), not {piece.strip()!r}")
    given: dict[str, Scalar] = {}
    for keyword in tree.keywords:
        try:
            value = ast.literal_eval(keyword.value)
        except (ValueError, TypeError, MemoryError, RecursionError):
            value = ...
        if not isinstance(value, str | int | float | bool | None):
            raise MethodError(f"the value of {keyword.arg!r} in {piece.strip()!r} must be a number, a text in quotes, "
                              "True, False or None")
        given[str(keyword.arg)] = value
    return given


def _listed(text: str, allowed: tuple[str, ...], further: tuple[str, ...], what: str, why: str = "") -> str:
    """A comma-separated choice out of `allowed`, in their order; 'all' is every one. One spelling per meaning.

    `further` words are known too, of other backbones; they joined later and must not change what was 'all' before.
    """
    given = [t.strip() for t in text.split(",") if t.strip()]
    known = (*allowed, *further)
    wrong = [t for t in given if t not in known]
    if text.strip() in ("all", ",".join(allowed)):
        return "all"
    if wrong or not given:
        raise MethodError(f"{what} must be some of {', '.join(known)}, joined by commas, or 'all', not {text!r}"
                          + (f"; {why}" if why else ""))
    return ",".join(t for t in known if t in given)


_ALLOWED = (ast.Expression, ast.BinOp, ast.Mod, ast.BoolOp, ast.And, ast.Or, ast.Not, ast.UnaryOp, ast.USub,
            ast.Compare, ast.Name, ast.Load, ast.Constant, ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE,
            ast.In, ast.NotIn, ast.Tuple, ast.Is, ast.IsNot)


def _holds(rule: str, options: dict[str, Scalar]) -> bool:
    """A part's own rule between its options, for instance `K >= 1 or tta == 'none'`: comparisons only."""
    tree = ast.parse(rule, mode="eval")
    assert all(isinstance(node, _ALLOWED) for node in ast.walk(tree)), f"a rule compares options, nothing else: {rule}"
    return bool(eval(compile(tree, "<rule>", "eval"), {"__builtins__": {}}, dict(options)))


def _check_composition(chosen: list[Choice]) -> None:
    first, rest = chosen[0], chosen[1:]
    if first.info.kind != "adapter":
        fitting = _fitting(chosen)
        tries = " or ".join(repr(f"{a}+{first.name}") for a in fitting[:2])
        article = "an" if first.info.kind[0] in "aeiou" else "a"
        raise MethodError(f"{first.name!r} must begin with an adapter; {first.name!r} is {article} {first.info.kind}."
                          + (f" Try {tries}" if tries else ""))
    extra = [c.name for c in rest if c.info.kind == "adapter"]
    if extra:
        raise MethodError(f"{'+'.join(c.name for c in chosen)!r} has {1 + len(extra)} adapters: "
                          f"{', '.join([first.name, *extra])}")
    names = [c.name for c in chosen]
    for name in names:
        if names.count(name) > 1:
            raise MethodError(f"{'+'.join(names)!r} names {name!r} twice")
    owners = [c.name for c in rest if c.info.facts.get("owns_forward")]
    if len(owners) > 1:
        raise MethodError(f"{' and '.join(repr(o) for o in owners)} both run the model themselves; keep one of them")
    for part in rest:
        for feature in sorted(_missing(part, first.info, first.offers)):
            known = ", ".join(_fitting([part]))
            so = " with these options" if feature in first.info.offers else ""
            raise MethodError(f"{part.name!r} needs {feature!r} ({FEATURES[feature]}), which {first.name!r} does not "
                              f"offer{so}. Adapters that do: {known}")
        clash = set(part.info.facts.get("excludes", ())) & set(names)
        if clash:
            why = part.info.facts.get("excludes_why", "they act on the same thing")
            raise MethodError(f"{part.name!r} and {sorted(clash)[0]!r} cannot be combined: {why}")


def _missing(part: Choice, adapter: PartInfo, offers: frozenset[str]) -> frozenset[str]:
    """Features that the part needs and the adapter does not offer."""
    accepted = adapter.name in part.info.facts.get("accepts", ())
    return part.needs - offers - (part.info.needs if accepted else frozenset())


def _fitting(parts: list[Choice]) -> list[str]:
    """The adapters that offer what all the parts need."""
    return [i.name for i in catalog().values()
            if i.kind == "adapter" and not any(_missing(p, i, i.offers) for p in parts)]
