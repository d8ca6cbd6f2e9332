"""docs/submitting.md: every command on it, in order, in a clean clone, and nothing else, ends in a verified row."""

from __future__ import annotations

import csv
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def clone(folder: Path) -> dict[str, str]:
    """A clean clone of what is committed, whose .venv is this Python; returns the environment of its reader.

    `make setup` finds .venv installed: what it installs is not this page's to try.
    """
    subprocess.run(["git", "clone", "-q", ROOT, folder], check=True)
    home = folder / ".venv" / "bin"
    home.mkdir(parents=True)
    (home / "python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (home / "python").chmod(0o755)
    (home / "activate").write_text(f"PATH={home}:$PATH\n")
    (folder / ".venv" / ".installed").touch()
    clean = {k: v for k, v in os.environ.items() if k not in ("DATA", "PYTHONPATH")}
    who = {f"GIT_{role}_{what}": "a@b.invalid" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    return clean | who | {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="what is committed is known in a clone alone")
def test_its_commands_in_order_and_nothing_else_lead_to_a_verified_row(tmp_path: Path) -> None:
    here = clone(tmp_path / "mine")
    page = (tmp_path / "mine" / "docs" / "submitting.md").read_text()
    lines = [line for block in re.findall(r"```bash\n(.*?)```", page, re.DOTALL) for line in block.splitlines()]
    assert len(lines) == 21 and not [line for line in lines if line.startswith(("pip", "curl", "sudo"))]
    script = "\n".join(["set -ex", *lines])
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path / "mine", env=here, capture_output=True, text=True,
                          timeout=1200)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    for said in ("methods/adapters/my_adapter.py written", "suite my-entry: 2 runs, 0 done, 2 missing", "2 ok",
                 "2 runs, 2 of them with weights", "2 done, 0 missing", "suite my-entry: nothing to run; 2 done",
                 "2 of the done runs were not made here: 2 received in pack"):
        assert said in done.stdout, f"{said!r} is not in:\n{done.stdout}"
    there = tmp_path / "the-other-side"
    (table,) = (there / "reports" / "site").glob("my-entry-*-accuracy.csv")
    found = {row["Method"]: (row["Received"], row["Verdict"]) for row in csv.DictReader(table.open())}
    assert found == {"linear": ("1", "verified"), "my_adapter": ("1", "verified")}
    assert not list((there / "results").glob("runs/*/*.json")), "nothing was run there"
    (suite,) = (there / "site" / "suites").glob("received-*my-entry*.html")
    told = "".join(p.read_text() for p in (there / "site" / "runs").glob("received-*/*.html"))
    assert suite.is_file() and told.count("verified: ") == 2
