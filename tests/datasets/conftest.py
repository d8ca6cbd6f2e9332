"""Stand-ins written once for all tests of the data layer."""

from __future__ import annotations

from pathlib import Path

import pytest

from datasets import registry, standins

KEPT = ("cifar100", "cub", "imagenet1k")  # one of each list layout


@pytest.fixture(scope="session")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with every stand-in. Read only: a test that changes files copies them first."""
    root = tmp_path_factory.mktemp("data")
    standins.write_all(None, root)
    return root


@pytest.fixture(scope="session")
def raw_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every raw stand-in, a folder each. Read only."""
    from datasets.standins.raw import FINE_WRITERS, VTAB_WRITERS, write_raw

    root = tmp_path_factory.mktemp("raw")
    sets = {card.facts["set"] for card in registry.cards("fewshot")}
    for name in (*VTAB_WRITERS, *FINE_WRITERS):
        write_raw(f"{name}_16shot_s0" if name in sets else name, root)
    return root


@pytest.fixture(scope="session")
def suite_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One stand-in of every folder that the cards of the few-shot and shift suites read. Read only."""
    root = tmp_path_factory.mktemp("suites")
    for card in registry.cards("fewshot", "shift"):
        standins.write(card.name, root)
    return root


@pytest.fixture(scope="session")
def package_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stand-in of every folder that a package brings. Read only."""
    root = tmp_path_factory.mktemp("packages")
    for card in registry.cards("real"):
        if card.folder:
            standins.write(card.name, root)
    return root


@pytest.fixture(scope="session")
def text_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stand-ins of all texts and of captions with their pictures. Read only."""
    root = tmp_path_factory.mktemp("texts")
    for card in registry.cards("glue", "text", "captions"):
        standins.write(card.name, root)
    return root
