"""Which table a run stands in: settings of the command line make one of their own; what has changed leaves no wreck."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench.dispatch.local import Job, run_all
from bench.dispatch.state import Claims
from bench.engine.cache import ImageCache
from bench.engine.record import classify
from bench.planning.plan import make
from bench.planning.request import Request, UsageError
from datasets.card import Card, Item
from datasets.encoded import H5Image
from datasets.identity import look
from methods.grammar import parse
from results import store
from results.suites import load_suite, save_suite

from . import tiny
from .killing import killed_at_once
from .test_recipes import _request


@pytest.fixture
def suites(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """results/suites of this test's own."""
    monkeypatch.setattr(store, "ROOT", tmp_path)
    return tmp_path / "suites"


def test_settings_that_were_typed_make_a_table_of_their_own(suites: Path, tmp_path: Path) -> None:
    common = make(Request(suite="demo", datasets=("svhn",), methods=("lora",)), tmp_path).view
    own = Request(suite="demo", datasets=("svhn",), methods=("lora",), epochs=1, sets=("lr=0.5",))
    typed = make(own, tmp_path).view
    assert common.name == "demo" and typed.name == "demo-lr0.5-epochs1" and typed.title.endswith("lr=0.5, epochs=1")
    assert len(typed.entries) == 1 and len(common.entries) > 100, "the suite itself keeps its own runs"
    assert typed.rows[0].budget == "none: settings of the command line"
    same = make(Request(suite="demo", datasets=("svhn",), methods=("lora",), epochs=5), tmp_path).view
    assert same.name == "demo", "what the suite says anyway is no setting of its own"


def test_a_method_beside_the_suites_own_was_not_tuned_with_them(suites: Path, tmp_path: Path) -> None:
    view = make(Request(suite="demo", datasets=("svhn",), methods=("dora", "lora")), tmp_path).view
    budgets = {r.method: r.budget for r in view.rows}
    assert budgets["dora"] == "none: the suite's common settings" and budgets["lora"].startswith("3 learning rates")


def test_an_entry_whose_text_or_data_set_is_gone_does_not_block_its_suite(suites: Path, tmp_path: Path) -> None:
    view = make(Request(suite="demo", datasets=("svhn",), methods=("lora",)), tmp_path).view
    mine = next(e for e in view.entries if (e.dataset, e.method) == ("svhn", "lora"))
    old = replace(mine, method="lora(rank=4)")  # the same run, under the name it had before a default changed
    gone = replace(mine, run_id="0" * 12, dataset="gone", method="lora(rank=4)")
    row = next(r for r in view.rows if r.method == "lora")
    kept = [e for e in view.entries if e is not mine]
    column = replace(view.columns[0], name="gone")
    save_suite(replace(view, columns=(*view.columns, column), rows=(*view.rows, replace(row, method="lora(rank=4)")),
                       entries=(*kept, old, gone)), suites)
    again = make(Request(suite="demo", datasets=("svhn",), methods=("lora",)), tmp_path).view
    save_suite(again, suites)
    ids = [e.run_id for e in load_suite(suites / "demo.json").entries]
    assert len(set(ids)) == len(ids) and "gone" not in {e.dataset for e in again.entries}


def test_images_inside_a_container_change_the_id_and_the_cache_with_it(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    from PIL import Image

    def write(level: int, quality: int) -> None:
        import io

        with h5py.File(tmp_path / "images.hdf5", "w") as handle:
            buffer = io.BytesIO()
            Image.fromarray(np.full((16, 16, 3), level, np.uint8)).save(buffer, "JPEG", quality=quality)
            handle["a"] = np.frombuffer(buffer.getvalue() + b"\0" * quality, np.uint8)

    items = [Item(H5Image(tmp_path / "images.hdf5", "a"), 0)]
    card = Card("packed", "Packed", "real", 1, {"test": 1}, "", "", "", "", "", lambda root, split: items)
    write(10, 50)
    cache = ImageCache(tmp_path / "cache")
    before, pixels = look(card, tmp_path).hash, cache.pixels("packed-test", items, 16)
    assert pixels is not None and int(pixels.max()) < 20
    write(200, 90)
    after = cache.pixels("packed-test", items, 16)
    assert look(card, tmp_path).hash != before and after is not None and int(after.min()) > 180


@pytest.mark.parametrize("text", ["lr=1e999", "epochs=1e999", "lr=-1e999"])
def test_an_infinite_setting_is_refused(text: str, tmp_path: Path) -> None:
    tiny.use()
    try:
        with pytest.raises(UsageError, match="must be a"):
            make(_request(("lora",), sets=(text,)), tmp_path)
    finally:
        tiny.forget()
    with pytest.raises(Exception, match="must be a number"):
        parse("lora(alpha=1e999)")


def test_a_cache_file_that_was_cut_short_is_written_anew(tmp_path: Path) -> None:
    items = [Item(tiny.Picture(i, i % 4), i % 4) for i in range(3)]
    cache = ImageCache(tmp_path)
    good = np.array(cache.pixels("x", items, 16))
    (file,) = tmp_path.glob("*.npy")
    for content in (b"", file.read_bytes()[:200]):
        file.write_bytes(content)
        assert (np.array(cache.pixels("x", items, 16)) == good).all()
        assert (np.array(cache.pixels("x", items, 16)) == good).all() and file.stat().st_size > 1000


def test_a_killed_repetition_leaves_the_former_result(tmp_path: Path) -> None:
    tiny.use()
    try:
        spec, where, root = tiny.spec("linear"), tiny.where(tmp_path, checkpoints=None), tmp_path / "runs"
        from bench.engine.record import execute

        first = execute(spec, {}, where, root)
        tally = run_all([Job(spec, {}, where, again=True)], root, Claims(tmp_path / "claims"), 1,
                        lambda done, label: None, killed_at_once)
        assert tally.done == {"failed": 1}
        kept = store.load(store.path_of(spec, root))
        assert kept.status == "ok" and kept.metrics == first.metrics
    finally:
        tiny.forget()


def test_a_full_disk_is_known_by_its_words_too() -> None:
    said = "Error while serializing: I/O error: No space left on device (os error 28)"
    status, failure = classify(RuntimeError(said), None)
    assert (status, failure.kind) == ("failed", "node")
