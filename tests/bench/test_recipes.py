"""Published recipes: each names settings of a run, and `--recipe paper` takes them whole."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bench.planning import settings
from bench.planning.plan import make
from bench.planning.request import Request, UsageError
from methods.catalog import catalog

from . import tiny


@pytest.fixture(autouse=True, scope="module")
def tiny_world() -> Iterator[None]:
    tiny.use()
    yield
    tiny.forget()


def _request(methods: tuple[str, ...], **changes: object) -> Request:
    base = Request(suite="custom", datasets=(tiny.DATASET,), methods=methods, backbones=(tiny.MODEL,), data="/",
                   no_pretrained=True)
    return replace(base, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", [n for n, p in catalog().items() if p.facts.get("recipe")])
def test_a_published_recipe_names_settings_of_a_run(name: str) -> None:
    recipe = catalog()[name].facts["recipe"]
    assert set(recipe) <= set(settings.SETTABLE)
    for key, value in recipe.items():
        assert value in settings.CHOICES.get(key, (value,))
        spec = replace(tiny.spec(), **{key: value})
        assert type(getattr(spec, key)) is type(getattr(tiny.spec(), key)), f"{key} is written {value!r}"


def test_a_method_may_run_under_its_published_recipe(tmp_path: Path) -> None:
    found = make(_request(("lora", "lora+pace", "full+tpgm"), sets=("image_size=16",), recipe="paper"), tmp_path)
    specs = {p.text: p.spec for p in found.runs}
    assert (specs["lora"].epochs, specs["lora"].schedule, specs["lora"].normalise) == (100, "cosine_timm", "peer")
    assert specs["lora+pace"].epochs == 300, "the last part's recipe counts, as a whole"
    assert (specs["full+tpgm"].optimizer, specs["full+tpgm"].precision) == ("sgd", "fp32")
    assert found.view.name == "custom-paper-image_size16" and found.runs[0].passed["recipe"] == "paper"
    common = make(_request(("lora",), sets=("image_size=16",)), tmp_path)
    assert common.runs[0].spec.id != found.runs[0].spec.id and common.view.name == "custom-image_size16"
    own = make(_request(("lora",), sets=("image_size=16", "epochs=7"), recipe="paper"), tmp_path)
    assert own.runs[0].spec.epochs == 7, "what the user sets herself wins"


def test_a_method_without_a_published_recipe_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no published recipe is stated for 'dora'; leave it out or"):
        make(_request(("dora", "lora"), recipe="paper"), tmp_path)
