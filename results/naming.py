"""What the file of a record is called: safe in every shell and file system."""

from __future__ import annotations

import re
from typing import Any


def folder_of(dataset: str) -> str:
    """The folder of a data set's records."""
    return re.sub(r"[^A-Za-z0-9_.]", "_", dataset)


def stem(method: str, model: str, seed: int, run_id: str) -> str:
    """`lora+pace-regatta_vit_48-s0-0123456789ab`."""
    shown = method if len(method) <= 80 else method[:79] + "~"
    return f"{shown}-{re.sub(r'[^A-Za-z0-9_.]', '_', model)}-s{seed}-{run_id}"


def name_of(body: dict[str, Any]) -> str:
    """`<dataset>/<stem>.json` of a parsed record."""
    spec = body["spec"]
    return f"{folder_of(spec['dataset'])}/{stem(spec['method'], spec['model'], int(spec['seed']), body['run_id'])}.json"
