"""What the fork server imports, and nothing else: a child forked from it starts in hundredths of a second.

Nothing here may compute: a fork of a process whose thread pool has run once can hang.
"""

import timm  # noqa: F401
import torch  # noqa: F401

import datasets.registry  # noqa: F401
import methods.compose  # noqa: F401
