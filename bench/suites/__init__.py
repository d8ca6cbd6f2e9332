"""The suites: which data sets, methods and protocol belong together, and what they cost. No torch.

A suite is a function that returns a `Suite`; its docstring says what it costs. Stand-in suites use the embedded
backbone and generated miniatures and run anywhere; the others need real data (`DATA`) and real weights, and have a
miniature, `<name>-standin`, that runs anywhere too.
"""

from __future__ import annotations

from . import basic as _basic
from . import constrained as _constrained
from . import pairs as _pairs
from . import real as _real
from . import regularised as _regularised
from . import texts as _texts
from . import transfer as _transfer
from .base import CORE as CORE
from .base import GROUPS as GROUPS
from .base import SUFFIX as SUFFIX
from .base import SUITES as SUITES
from .base import Suite as Suite
from .base import find as find
from .base import miniature as miniature

# Importing them registers suites, in this order.
_FAMILIES = (_basic, _regularised, _constrained, _transfer, _real, _texts, _pairs)
