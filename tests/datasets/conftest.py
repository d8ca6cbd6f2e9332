"""Stand-ins written once for all tests of the data layer."""

from __future__ import annotations

from pathlib import Path

import pytest

from datasets import standins

KEPT = ("cifar100", "cub", "imagenet1k")  # one of each list layout


@pytest.fixture(scope="session")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with every stand-in. Read only: a test that changes files copies them first."""
    root = tmp_path_factory.mktemp("data")
    standins.write_all(None, root)
    return root
