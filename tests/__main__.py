"""`make test`: all tests in two halves at once, one for each of two cores; with words, what pytest does with them.

    python -m tests                       both halves; the second half's output follows the first's
    python -m tests tests/methods -k lora
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FIRST = ("bench", "perf")  # what is not named here is the second half; they take equally long


def halves(folders: list[str]) -> tuple[list[str], list[str]]:
    """Folders of tests, each in one half."""
    return [f for f in folders if f in FIRST], [f for f in folders if f not in FIRST]


def main(words: list[str]) -> int:
    """The exit status of pytest, or the first that is not 0 of two."""
    pytest = [sys.executable, "-m", "pytest"]
    if words:
        return subprocess.run([*pytest, *words], cwd=ROOT, check=False).returncode
    folders = sorted(p.name for p in (ROOT / "tests").iterdir() if any(p.glob("**/test_*.py")))
    first, second = ([*pytest, *(f"tests/{name}" for name in half)] for half in halves(folders))
    with tempfile.TemporaryFile() as log:
        beside = subprocess.Popen([*second, "-p", "no:cacheprovider"], cwd=ROOT, stdout=log, stderr=subprocess.STDOUT)
        try:
            status = subprocess.run(first, cwd=ROOT, check=False).returncode
            other = beside.wait()
        finally:
            beside.kill()
        log.seek(0)
        sys.stdout.flush()
        sys.stdout.buffer.write(log.read())
    return status or other


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
