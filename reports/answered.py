"""Which items each run got right, kept beside the records: five thousand files of predictions are not unpacked again.

The cache (`.answers` beside the records, deletable, ignored by git) holds a bit per item by the predictions file's
path, size and modification time, as `.index` does for records; without it the tables are the same.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from results import door, sealed
from results.store import write_atomic

FILE = ".answers"
MOST = 64 << 20  # bytes; more is not kept
RECENT_NS = 2_000_000_000  # a file this young may change again within its time stamp
Answer = tuple[str, NDArray[np.bool_]]  # hash of the items and their labels, right or not


class Answered:
    """The cache of one folder of records. `save` writes it when something in it is new."""

    def __init__(self, root: Path, code: str) -> None:
        self.root, self.code, self.fresh = root, code, False
        self.known: dict[str, tuple[int, int, str, int, bytes]] = {}  # path -> size, time, items, n, packed bits
        self.used: set[str] = set()
        self._read()

    def of(self, name: str, read: Callable[[], Answer]) -> Answer:
        """The answers of a file below the root; `read` reads it where the cache does not know it as it is."""
        try:
            stat = (self.root / name).stat()
        except (OSError, ValueError):
            return read()  # says what is wrong
        held = self.known.get(name)
        if held is not None and held[:2] == (stat.st_size, stat.st_mtime_ns):
            self.used.add(name)
            return held[2], np.unpackbits(np.frombuffer(held[4], np.uint8), count=held[3]).view(np.bool_)
        items, correct = read()
        if stat.st_mtime_ns < time.time_ns() - RECENT_NS:
            self.known[name] = (stat.st_size, stat.st_mtime_ns, items, len(correct), np.packbits(correct).tobytes())
            self.used.add(name)
            self.fresh = True
        return items, correct

    def save(self) -> None:
        """Write what was used, atomically; a folder that cannot be written is left without the cache."""
        if not self.fresh:
            return
        kept = {name: self.known[name] for name in sorted(self.known) if name in self.used
                or (self.root / name).is_file()}
        body = [bits for *_, bits in kept.values()]
        if sum(map(len, body)) > MOST:
            return
        words = {word: i for i, word in enumerate(dict.fromkeys(items for _, _, items, _, _ in kept.values()))}
        head = {"code": self.code, "items": list(words),
                "files": [[name, size, when, words[items], n] for name, (size, when, items, n, _) in kept.items()]}
        try:
            write_atomic(self.root / FILE, partial(sealed.write, [json.dumps(head).encode(), b"\n", *body]))
            self.fresh = False
        except OSError:
            return

    def _read(self) -> None:
        """A cache of another program's making, or a damaged one, counts as none."""
        try:
            view = sealed.opened(door.read(self.root / FILE, 2 * MOST))
            if view is None:
                return
            data = bytes(view)
            end = data.index(b"\n")
            head = json.loads(data[:end])
            if head["code"] != self.code:
                return
            at, found = end + 1, {}
            for name, size, when, word, n in head["files"]:
                found[name] = (size, when, head["items"][word], n, data[at:at + (n + 7) // 8])
                at += (n + 7) // 8
        except (OSError, ValueError, KeyError, TypeError, IndexError, RecursionError):
            return
        self.known = found
