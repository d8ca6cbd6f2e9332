"""One run of each method on images as it was before texts were read: names of all, numbers of some.

tests/data/image_cells.json: method -> (run id, training loss, test NLL, bytes kept), of one epoch on the digits with
seed 0. When it was written, all of them were equal bit for bit on one machine before and after texts came.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench import checkout
from bench.engine.record import execute
from bench.engine.where import Where
from bench.planning.request import Request
from bench.planning.resolve import Planned, resolve, specs_of
from methods.faults import lacking

CELLS: dict[str, tuple[str, float, float, int]] = json.loads(
    (Path(__file__).parents[1] / "data" / "image_cells.json").read_text())


def planned(*methods: str) -> list[Planned]:
    request = Request(datasets=("digits",), methods=methods, seeds=(0,), epochs=1)
    return specs_of(request, resolve(request))


def test_no_run_on_images_has_another_name() -> None:
    texts = [text for text in CELLS if text != "peft" or not lacking(("peft",))]
    assert {str(p.passed["method"]): p.spec.id for p in planned(*texts)} == {t: CELLS[t][0] for t in texts}


# Other processors of the same kind moved the losses of linear and LoRA by a millionth, and that of SHERL, whose first
# epoch is steep, by 5e-4 and by 6e-3 (its test NLL by 2e-2), all of them with equal code.
@pytest.mark.parametrize(("text", "near"), [("linear", 1e-4), ("lora", 1e-4), ("sherl", 0.03)])
def test_a_run_on_images_has_the_numbers_that_it_had(text: str, near: float, tmp_path: Path) -> None:
    (one,) = planned(text)
    found = execute(one.spec, {}, Where(checkout.STANDINS, None, one.weights), tmp_path)
    assert found.status == "ok" and found.memory is not None
    _, loss, nll, saved = CELLS[text]
    assert found.history[-1]["train.loss"] == pytest.approx(loss, rel=near)
    assert found.metrics["test.nll"] == pytest.approx(nll, rel=3 * near)
    assert found.memory.saved_bytes == saved
