"""What the README shows works: its example files, its commands, its links."""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer

from bench import cli
from methods import catalog

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TEXT = (ROOT / "README.md").read_text()


def _blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_relative_link_resolves(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_nothing_is_left_to_be_filled_in() -> None:
    assert not re.search(r"\b[A-Z]{4,}_[A-Z]{4,}\b", re.sub(r"`[^`]*`|```.*?```", "", TEXT, flags=re.DOTALL))


def _module(text: str, package: str, name: str) -> types.ModuleType:
    module = types.ModuleType(f"{package}.{name}")
    module.__package__ = package
    sys.modules[module.__name__] = module
    exec(compile(text, name, "exec"), module.__dict__)
    return module


def test_the_method_of_the_readme_is_found_and_trains(tmp_path: Path) -> None:
    text = next(b for b in _blocks("python") if "@part(" in b)
    path = tmp_path / "token_shift.py"
    path.write_text(text)
    (info,) = catalog._read(path, "adapter")
    assert info.name == "token_shift" and info.offers == {"delta", "tokens"}
    assert [(o.name, o.default, o.range) for o in info.options] == [("scale", 1.0, "> 0")]
    module = _module(text, "methods.adapters", "token_shift")
    model = module.TokenShift().build(VisionTransformer(img_size=32, patch_size=8, embed_dim=48, depth=3, num_heads=3,
                                                        num_classes=0), 5)
    model(torch.randn(2, 3, 32, 32)).sum().backward()
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    assert sum(p.numel() for n, p in trained.items() if "head" not in n) == 48 * 3
    assert all(p.grad is not None for p in trained.values())


def test_the_data_set_of_the_readme_registers() -> None:
    from datasets import registry

    text = next(b for b in _blocks("python") if "register(Card(" in b)
    registry.names()
    try:
        _module(text, "datasets", "mushrooms")
        assert registry.get("mushrooms").classes == 9
    finally:
        registry._cards.pop("mushrooms", None)
        registry._aliases.pop("mushrooms", None)


def _commands() -> list[str]:
    lines = [line.strip() for b in _blocks("bash") for line in b.splitlines()]
    return [line for line in lines if line.startswith("python -m bench")]


@pytest.mark.parametrize("line", _commands())
def test_every_command_of_the_readme_is_one(line: str) -> None:
    import shlex

    cli._parser().parse_args(shlex.split(line, comments=True)[3:])


def test_every_make_target_of_the_readme_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z]+)", TEXT)) - {"sense", "sure"} <= targets
