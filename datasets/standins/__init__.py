"""Miniature data sets, drawn by a program and written in the layouts of the real ones.

Each set has 128 training, 32 validation (160 together, in VTAB-1k's interleave) and 200 test pictures of 64x64 pixels,
stored as JPEG of quality 95 without chroma subsampling because the export's files are `.jpg`. The class tables stay
official; only 4 to 10 classes are populated. A folder is written under another name and renamed when it is whole.
"""

from __future__ import annotations

from .writer import SHARED_GROUPS as SHARED_GROUPS
from .writer import has_standin as has_standin
from .writer import is_fresh as is_fresh
from .writer import standin_hash as standin_hash
from .writer import write as write
from .writer import write_all as write_all


def __getattr__(name: str) -> tuple[str, ...]:
    """TEXTURES on demand: naming the families needs numpy, importing this package must not."""
    if name == "TEXTURES":
        from .textures import TEXTURES

        return TEXTURES
    raise AttributeError(name)
