"""One-colour pictures and lists of lines that tests write in the forms of data sets."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from PIL import Image


def picture(file: Path, tone: int = 99) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (tone % 256, 60, 90)).save(file, "PNG")
    return file


def listing(file: Path, rows: Iterable[str]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(f"{row}\n" for row in rows))
