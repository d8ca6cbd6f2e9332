"""Published recipes: each names settings of a run, and `--recipe paper` takes them whole."""

from __future__ import annotations

import re
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


SURE = ("certain", "high", "medium", "low")


@pytest.mark.parametrize("name", [n for n, p in catalog().items() if p.kind == "adapter" or p.facts.get("recipe")])
def test_every_adapter_says_whose_recipe_it_has_and_how_sure_or_why_it_has_none(name: str) -> None:
    facts = catalog()[name].facts
    told = str(facts.get("recipe_from", ""))
    source, _, rest = told.partition("; ")
    assert len(source) > 8 and not told.endswith(".") and "\n" not in told
    sure = re.match(r"\w+", rest)
    if facts.get("recipe"):
        assert sure is not None and sure.group() in SURE, f"{name} does not say how sure its recipe is: {told!r}"
    else:
        assert sure is None or sure.group() not in SURE, f"{name} is sure of a recipe that it does not state"


def test_whose_recipe_it_is_names_no_run_and_makes_none_stale(tmp_path: Path) -> None:
    """As with the recipe itself: a sentence about it is no other method."""
    import methods.catalog as at

    plain = '''class A(Adapter):
    title = "a"
    search = {"lr": (1e-3, 1e-2, "log")}

    rank: int = 4
'''
    told = plain.replace('''"log")}
''', '''"log")}
    recipe = {"lr": 1e-3}
    recipe_from = ("somebody's code; "
                   "certain")
''')
    sources = []
    for i, text in enumerate((plain, told, plain.replace("= 4", "= 5"))):
        path = tmp_path / f"{i}.py"
        path.write_text(text)
        sources.append(at._behaviour(path, 0))
    assert sources[0] == sources[1] != sources[2]


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
    with pytest.raises(UsageError, match=r"no published recipe is stated for 'dora' \(published for language .* known "
                                         r"to us\); leave it out or use --recipe common"):
        make(_request(("dora", "lora"), recipe="paper"), tmp_path)
