"""Where things lie in this checkout: records, claims, caches, stand-ins, submissions; the one place to change."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STANDINS = ROOT / "data" / "standins"
CACHE = ROOT / ".cache" / "images"
RUNS = ROOT / "results" / "runs"
REFERENCE = ROOT / "results" / "reference"  # the committed runs, a pack for each suite
RECEIVED = ROOT / "results" / "received"  # packs that came from elsewhere, a folder for each
CLAIMS = ROOT / "results" / "claims"
FOLDERS = ROOT / "results" / "folders"  # notes of users' folders of images
SITE = ROOT / "reports" / "site"  # pages and their files
JOBS = ROOT / "results" / "jobs"
SNAPSHOTS = ROOT / ".snapshots"
