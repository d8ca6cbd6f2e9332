"""CIFAR's Python pickles, read without `pickle`: a pickle is a program, and only a few of its instructions run here.

What can come out: whole numbers, floats, text, bytes, lists, tuples, dicts, None, truth, and arrays of uint8. The four
names that these files hold (numpy's `_reconstruct`, `ndarray`, `dtype`, and `_codecs.encode`) are never looked up; the
forms in which they occur are known, anything else is refused, and numpy is given bytes and sizes that match. Protocols
2 (Python 2 and the files as distributed) to 4. Source of the instructions: Python's `pickletools`.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

NAMES = {
    ("numpy.core.multiarray", "_reconstruct"): "_reconstruct",
    ("numpy._core.multiarray", "_reconstruct"): "_reconstruct",
    ("numpy", "ndarray"): "ndarray", ("numpy", "dtype"): "dtype", ("_codecs", "encode"): "encode",
}  # fmt: skip
BYTE = ("u1", "|u1", "uint8", "B")
LONGEST_NAME = 100


class Name(NamedTuple):
    """One of the four, unevaluated."""

    text: str


class Empty(NamedTuple):
    """An array of which only the kind is known yet: numpy fills it with the next instruction."""


class Byte(NamedTuple):
    """The type uint8."""


class Reader:
    """One pickle, run to its end."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []  # stacks put aside by MARK
        self.memo: dict[int, Any] = {}

    def take(self, count: int) -> bytes:
        """The next bytes."""
        if count > len(self.data) - self.at:
            raise ValueError(f"it is cut off at byte {self.at}")
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self, form: str) -> Any:
        return struct.unpack("<" + form, self.take(struct.calcsize(form)))[0]

    def line(self) -> str:
        """Up to the next line end (a name)."""
        stop = self.data.find(b"\n", self.at, self.at + LONGEST_NAME)
        if stop < 0:
            raise ValueError(f"a name at byte {self.at} does not end")
        return self.take(stop + 1 - self.at)[:-1].decode("ascii", "replace")

    def pop(self) -> Any:
        if not self.stack:
            raise ValueError(f"nothing is there to be taken at byte {self.at}")
        return self.stack.pop()

    def top(self, kind: type) -> Any:
        if not self.stack or type(self.stack[-1]) is not kind:
            raise ValueError(f"no {kind.__name__} is there at byte {self.at}")
        return self.stack[-1]

    def marked(self) -> list[Any]:
        """What was put there since the last MARK."""
        if not self.below:
            raise ValueError(f"no mark is there at byte {self.at}")
        found, self.stack = self.stack, self.below.pop()
        return found

    def mark(self) -> None:
        self.below.append(self.stack)
        self.stack = []

    def fetch(self, key: int) -> None:
        if key not in self.memo:
            raise ValueError(f"nothing was kept under {key}")
        self.stack.append(self.memo[key])

    def keep(self, key: int) -> None:
        if not self.stack:
            raise ValueError(f"nothing is there to be kept at byte {self.at}")
        self.memo[key] = self.stack[-1]

    def name(self, module: object, text: object) -> None:
        if not isinstance(module, str) or not isinstance(text, str):
            raise ValueError(f"it asks for a {type(text).__name__} by name")
        if (module, text) not in NAMES:
            raise ValueError(f"it asks for {module[:LONGEST_NAME]}.{text[:LONGEST_NAME]}, which no CIFAR file does")
        self.stack.append(Name(NAMES[module, text]))

    def append(self, values: list[Any]) -> None:
        self.top(list).extend(values)

    def set(self, values: list[Any]) -> None:
        target = self.top(dict)
        if len(values) % 2:
            raise ValueError("a key has no value")
        for key, value in zip(values[::2], values[1::2], strict=True):
            if type(key) not in (str, bytes, int):
                raise ValueError(f"a key is a {type(key).__name__}")
            target[key] = value

    def pack(self, count: int) -> None:
        values = [self.pop() for _ in range(count)]
        self.stack.append(tuple(values[::-1]))

    def call(self) -> None:
        """The three calls that occur, each in the one form in which numpy and Python write it."""
        given, name = self.pop(), self.pop()
        if type(name) is not Name or type(given) is not tuple:
            raise ValueError(f"byte {self.at} calls what cannot be called")
        if name.text == "encode" and len(given) == 2 and given[1] in ("latin1", "latin-1") and type(given[0]) is str:
            self.stack.append(given[0].encode("latin-1"))
        elif name.text == "dtype" and given and type(given[0]) is str and given[0] in BYTE:
            self.stack.append(Byte())
        elif name.text == "_reconstruct" and len(given) == 3 and type(given[0]) is Name and given[0].text == "ndarray":
            self.stack.append(Empty())
        else:
            raise ValueError(f"byte {self.at} calls {name.text} in a way that no CIFAR file does")

    def build(self) -> None:
        """Fill the array, or pass over the state of the type, which is uint8's whatever it says."""
        state, target = self.pop(), self.pop()
        if type(target) is Byte:
            self.stack.append(target)
            return
        if type(target) is not Empty or type(state) is not tuple or len(state) != 5:
            raise ValueError(f"byte {self.at} fills what cannot be filled")
        _, shape, kind, fortran, raw = state
        raw = raw.encode("latin-1") if type(raw) is str else raw
        good = type(shape) is tuple and len(shape) <= 8 and all(type(n) is int and n >= 0 for n in shape)
        if not good or type(kind) is not Byte or type(raw) is not bytes or math.prod(shape) != len(raw):
            raise ValueError("an array is not of bytes, or not as long as its sizes say")
        import numpy as np

        flat = np.frombuffer(raw, np.uint8)
        array = flat.reshape(shape[::-1]).T if fortran is True or fortran == 1 else flat.reshape(shape)
        for key, value in self.memo.items():
            if value is target:
                self.memo[key] = array
        self.stack.append(array)


def _float(reader: Reader) -> None:
    reader.stack.append(struct.unpack(">d", reader.take(8))[0])


def _long(reader: Reader) -> None:
    size = reader.take(1)[0]
    if size > 8:
        raise ValueError(f"a whole number has {size} bytes")
    reader.stack.append(int.from_bytes(reader.take(size), "little", signed=True))


def _protocol(reader: Reader) -> None:
    if not 2 <= (found := reader.take(1)[0]) <= 4:
        raise ValueError(f"it is of the protocol {found}; 2 to 4 are read")


def _text(form: str, encoding: str) -> Callable[[Reader], None]:
    def run(reader: Reader) -> None:
        reader.stack.append(reader.take(reader.number(form)).decode(encoding))

    return run


def _raw(form: str) -> Callable[[Reader], None]:
    return lambda reader: reader.stack.append(reader.take(reader.number(form)))


def _whole(form: str) -> Callable[[Reader], None]:
    return lambda reader: reader.stack.append(reader.number(form))


def _push(make: Callable[[], Any]) -> Callable[[Reader], None]:
    return lambda reader: reader.stack.append(make())


def _two(reader: Reader) -> None:
    text, module = reader.pop(), reader.pop()
    reader.name(module, text)


def _tuple(reader: Reader) -> None:
    values = tuple(reader.marked())  # takes the stack below it
    reader.stack.append(values)


def _pair(reader: Reader) -> None:
    value, key = reader.pop(), reader.pop()
    reader.set([key, value])


RUN: dict[int, Callable[[Reader], None]] = {  # the closed list
    0x80: _protocol, 0x95: lambda r: void(r.take(8)),
    ord("("): Reader.mark, ord("N"): _push(lambda: None), 0x88: _push(lambda: True), 0x89: _push(lambda: False),
    ord("J"): _whole("i"), ord("K"): _whole("B"), ord("M"): _whole("H"), ord("G"): _float, 0x8A: _long,
    ord("U"): _text("B", "latin-1"), ord("T"): _text("I", "latin-1"),
    ord("X"): _text("I", "utf-8"), 0x8C: _text("B", "utf-8"), 0x8D: _text("Q", "utf-8"),
    ord("C"): _raw("B"), ord("B"): _raw("I"), 0x8E: _raw("Q"),
    ord("]"): _push(list), ord("}"): _push(dict), ord(")"): _push(tuple),
    ord("a"): lambda r: r.append([r.pop()]), ord("e"): lambda r: r.append(r.marked()),
    ord("s"): _pair, ord("u"): lambda r: r.set(r.marked()),
    ord("t"): _tuple,
    0x85: lambda r: r.pack(1), 0x86: lambda r: r.pack(2), 0x87: lambda r: r.pack(3),
    ord("q"): lambda r: r.keep(r.number("B")), ord("r"): lambda r: r.keep(r.number("I")),
    0x94: lambda r: r.keep(len(r.memo)),
    ord("h"): lambda r: r.fetch(r.number("B")), ord("j"): lambda r: r.fetch(r.number("I")),
    ord("c"): lambda r: r.name(r.line(), r.line()), 0x93: _two,
    ord("R"): Reader.call, ord("b"): Reader.build,
}  # fmt: skip


def void(_: object) -> None:
    """Nothing is done with it."""


def load(data: bytes) -> dict[Hashable, Any]:
    """The dict that a pickle holds. Raises ValueError for any other content, instruction or name."""
    reader = Reader(data)
    while (code := reader.take(1)[0]) != ord("."):
        if code not in RUN:
            raise ValueError(f"the instruction {chr(code)!r} at byte {reader.at - 1} occurs in no CIFAR file")
        RUN[code](reader)
    found = reader.pop()
    if type(found) is not dict:
        raise ValueError(f"it holds a {type(found).__name__}, not a dict")
    return found
