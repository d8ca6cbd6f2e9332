"""A copy of the sources in a folder of its own, for tests that add files to `methods/` or `datasets/`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("bench", "datasets", "methods", "reports")
MADE = {"__pycache__", "reference", "site", "img"}


def copy_to(folder: Path, *also: str) -> Path:
    """The packages and what else is named; of `results` and `reports` the program alone."""
    for name in (*PACKAGES, *also):
        shutil.copytree(ROOT / name, folder / name, ignore=lambda _, names: [n for n in names if n in MADE])
    shutil.copytree(ROOT / "results", folder / "results", ignore=lambda where, names: [
        n for n in names if n in MADE or (Path(where) == ROOT / "results" and not n.endswith(".py"))])
    if (ROOT / "results" / "published").is_dir():
        shutil.copytree(ROOT / "results" / "published", folder / "results" / "published")
    for name in ("pyproject.toml", "README.md", "tests/__init__.py", "tests/conftest.py"):
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    return folder


def python(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """`python -m WORDS` in that folder."""
    env = {k: v for k, v in os.environ.items() if k not in ("DATA", "PYTHONPATH")}
    return subprocess.run([sys.executable, "-m", *words], cwd=folder, capture_output=True, text=True, check=False,
                          env=env | {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"})
