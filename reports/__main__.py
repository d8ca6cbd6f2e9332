"""python -m reports build | check | compare A B | recompute | published | import TABLE | runs | serve"""

from __future__ import annotations

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
