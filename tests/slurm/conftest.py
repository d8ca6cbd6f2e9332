"""Clusters for the tests, started when the first test wants one; without SLURM those tests are skipped.

REQUIRE_SLURM=1 (CI sets it) turns the skip into a failure.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from .checkout import Checkout
from .cluster import Cluster, lacking


def _started(accounting: bool) -> Iterator[Cluster]:
    reason = lacking(accounting)
    if reason and os.environ.get("REQUIRE_SLURM", "") not in ("", "0"):
        pytest.fail(f"REQUIRE_SLURM is set, but {reason}", pytrace=False)
    if reason:
        pytest.skip(reason)
    with Cluster(accounting) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def plain_cluster() -> Iterator[Cluster]:
    """Without accounting: sacct fails, as it does at many sites."""
    yield from _started(accounting=False)


@pytest.fixture(scope="session")
def accounting_cluster() -> Iterator[Cluster]:
    """With MariaDB and slurmdbd: sacct answers."""
    yield from _started(accounting=True)


@pytest.fixture(params=["no accounting"])
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """An idle cluster; a test that wants both kinds is marked with `both_kinds`."""
    name = "accounting_cluster" if request.param == "accounting" else "plain_cluster"
    found: Cluster = request.getfixturevalue(name)
    found.reset()
    yield found
    found.reset()


@pytest.fixture(scope="session")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of this checkout's sources under git, from which each test takes its own."""
    from .checkout import copy_sources

    return copy_sources(tmp_path_factory.mktemp("sources"))


@pytest.fixture
def checkout(sources: Path, tmp_path: Path, cluster: Cluster) -> Checkout:
    """A checkout of the test's own, its commands pointed at the cluster."""
    return Checkout(sources, tmp_path / "regatta", cluster)
