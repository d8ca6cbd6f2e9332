"""What the fork server imports, and nothing else: a child forked from it starts in hundredths of a second.

Nothing here may compute: a fork of a process whose thread pool has run once can hang.
"""

import signal

signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the runner's; `warm` lets it through again for the children

import timm  # noqa: E402, F401
import torch  # noqa: E402, F401

import datasets.registry  # noqa: E402, F401
import methods.compose  # noqa: E402, F401
