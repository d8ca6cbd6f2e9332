"""Records things: what was asked, what happened, where it ran. Standard library only: a table needs no torch."""

from .schema import RecordError, RunResult, RunSpec
from .store import Store, load, load_all, path_of, save

__all__ = ["RecordError", "RunResult", "RunSpec", "Store", "load", "load_all", "path_of", "save"]
