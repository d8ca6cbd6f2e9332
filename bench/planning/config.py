"""What the YAML file of `--config` may say. No torch."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import Any

from results.schema import WHOLE

CONFIG_TYPES: dict[str, type] = {"suite": str, "data": str, "weights": str, "head": str, "recipe": str, "name": str,
                                 "epochs": int, "batch_size": int, "jobs": int, "no_pretrained": bool, "download": bool,
                                 "partial": bool}
CONFIG_KEYS = ("suite", "datasets", "methods", "backbones", "seeds", "epochs", "batch_size", "set", "data", "weights",
               "head", "no_pretrained", "download", "partial", "jobs", "recipe", "name")


def config(path: Path) -> dict[str, Any]:
    """A YAML file with the keys of the command line; lists where it takes several, `set` as a map."""
    from . import written
    from .request import UsageError

    told = written.read(path, f"--config {path.name}")
    if not isinstance(told, dict):
        raise UsageError([f"--config {path.name} must hold key: value lines"])
    problems: list[str] = []
    clean: dict[str, Any] = {}
    for key, value in told.items():
        name = str(key).replace("-", "_")
        if name in clean:
            problems.append(f"--config {path.name} has the key {name} twice, with - and with _")
        elif name not in CONFIG_KEYS:
            near = get_close_matches(name, CONFIG_KEYS, n=1)
            problems.append(f"--config {path.name} has the key {written.shown(key)}; "
                            + (f"did you mean {near[0]}?" if near else f"there are: {', '.join(CONFIG_KEYS)}"))
        elif name == "set":
            if not isinstance(value, dict) or not all(v is None or written.plain(v) for v in value.values()):
                problems.append(f"--config {path.name}: set must be a map such as {{lr: 0.001}}")
            else:
                clean["set"] = [f"{k}={v}" for k, v in value.items()]
        elif name in ("datasets", "methods", "backbones", "seeds"):
            clean[name] = value if isinstance(value, list) else [value]
            wanted = int if name == "seeds" else str
            if not all(isinstance(v, wanted) and not isinstance(v, bool) for v in clean[name]):
                problems.append(f"--config {path.name}: {name} takes {'numbers' if wanted is int else 'names'}")
            elif wanted is int and any(abs(v) > WHOLE for v in clean[name]):
                problems.append(f"--config {path.name}: seeds are whole numbers of at most {WHOLE}")
        elif name in CONFIG_TYPES and (not isinstance(value, CONFIG_TYPES[name])
                                       or (isinstance(value, bool) and CONFIG_TYPES[name] is not bool)):
            problems.append(f"--config {path.name}: {name} cannot be {written.shown(value)}")
        elif name == "jobs" and not 0 <= value <= WHOLE:
            problems.append(f"--config {path.name}: jobs must be a whole number of 1 or more, at most {WHOLE}, not "
                            f"{written.shown(value)}")
        else:
            clean[name] = value
    if problems:
        raise UsageError(problems)
    return clean
