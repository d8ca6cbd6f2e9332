"""Shared by all tests: one thread, so that sums do not depend on the machine's cores."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_configure() -> None:
    import torch

    torch.set_num_threads(1)
