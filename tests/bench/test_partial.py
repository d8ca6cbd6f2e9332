"""Real data that are not what their card promises: refused while planning, or run under a name that says so."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench import checkout, cli
from bench.planning.plan import make
from bench.planning.request import Request, UsageError
from bench.planning.resolve import Planned
from datasets import registry
from datasets.vtab import export


def write(root: Path, first: int = 0, quality: int = 95) -> None:
    """48 training and 40 test images in the place of SVHN's 1,000 and 26,032."""
    def pictures(start: int, count: int) -> list[tuple[bytes, int]]:
        found = []
        for i in range(count):
            noise, buffer = np.random.default_rng(start + i).integers(0, 255, (16, 16, 3)), io.BytesIO()
            Image.fromarray(noise.astype(np.uint8)).save(buffer, "JPEG", quality=quality)
            found.append((buffer.getvalue(), i % 10))
        return found

    export.write(root / "svhn", {"train": pictures(first, 38), "val": pictures(first + 100, 10),
                                 "test": pictures(first + 200, 40)})


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(checkout, "CACHE", tmp_path / "cache" / "images")
    write(tmp_path / "data")
    return tmp_path / "data"


def planned(data: Path, partial: bool) -> tuple[Planned, ...]:
    return make(Request(datasets=("svhn",), methods=("linear",), backbones=("regatta_vit_48",), seeds=(0,),
                        data=str(data), partial=partial), data / "runs").runs


def test_broken_data_are_refused_with_every_difference_in_one_sentence(data: Path) -> None:
    with pytest.raises(UsageError) as refused:
        planned(data, False)
    (said,) = refused.value.problems
    for words in ("svhn is not what its card promises", "train has 38 images; expected 800", "test has 40 images; "
                  "expected 26032", "--partial"):
        assert words in said


def test_partial_runs_have_ids_of_their_own_and_say_so(data: Path) -> None:
    (run,) = planned(data, True)
    assert run.spec.partial and not run.spec.standin and run.spec.data.startswith("partial:")


def test_whole_data_are_not_marked_by_the_word_alone(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = registry.get("svhn")
    monkeypatch.setitem(registry._cards, "svhn", type(card)(**vars(card) | {
        "splits": {"train": 38, "val": 10, "trainval": 48, "test": 40}}))
    (asked,), (plain,) = planned(data, True), planned(data, False)
    assert asked.spec == plain.spec and plain.spec.data.startswith("lists:") and not plain.spec.partial


def test_a_further_test_set_that_is_broken_marks_the_run(data: Path) -> None:
    from bench.planning.resolve import resolve

    found = resolve(Request(datasets=("svhn",), methods=("linear",), backbones=("regatta_vit_48",), data=str(data),
                             partial=True))
    found.suite = type(found.suite)(**vars(found.suite) | {"also_test": {"svhn": ("dtd",)}})
    found.data = {"svhn": "lists:ab", "dtd": "lists:cd"}
    assert found.data_of("svhn").startswith("lists:ab+")
    found.data["dtd"] = "partial:cd"
    assert found.data_of("svhn").startswith("partial:ab+")


def test_the_flag_is_known_to_the_command_line_and_to_config(data: Path, tmp_path: Path,
                                                            capsys: pytest.CaptureFixture[str]) -> None:
    words = ["plan", "--datasets", "svhn", "--methods", "linear", "--backbones", "regatta_vit_48", "--root", str(data)]
    assert cli.main(words) == 2 and "--partial" in capsys.readouterr().err
    assert cli.main([*words, "--partial"]) == 0
    (tmp_path / "c.yaml").write_text("partial: true\n")
    assert cli.main([*words, "--config", str(tmp_path / "c.yaml")]) == 0
