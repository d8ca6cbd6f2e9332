"""The frozen prefix computed once: the same numbers with == in float32, never stale, off where something moves."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from bench.engine import cache, checkpoint, phases, prefix, states
from bench.engine.loaders import Batches
from bench.engine.outcome import Trained
from bench.engine.prefix import seam_of, why_not
from bench.engine.session import Session
from bench.engine.states import StateCache
from datasets import registry
from methods import compose
from methods.base import Batch, Fit, Terms

from . import tiny

WITH_PREFIX = ("linear", "partial_k", "sherl", "sherl(n_late=2)", "sherl(squeeze='glu', tap_every=2)", "unipt",
               "unipt(form='cls')", "lst(fisher_images=8)", "lst(init='random', merge_last=True)", "partial_k+l2sp",
               "partial_k+sam", "lora_last", "lora_last(targets='all', dropout=0.1)+l2_sp")
Loss = Callable[[Fit, Batch], Terms]
WITHOUT = ("lora", "lora_last(k=2)", "full", "vpt", "bitfit", "partial_k(k=2)", "lp_ft")


@pytest.fixture(autouse=True)
def _tiny() -> Iterator[None]:
    tiny.use()
    yield
    tiny.forget()


class Spy:
    """Counts passes through the frozen part while filling, and batches that were taken from the store."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.filled = self.taken = 0
        self.opened: list[prefix.Prefix] = []
        fill, take, init = states.StateCache._fill, states.Shelf.take, prefix.Prefix.__post_init__

        def filling(*a: Any) -> bool:
            self.filled += 1
            return fill(*a)

        def taking(*a: Any) -> Any:
            self.taken += 1
            return take(*a)

        def opening(one: prefix.Prefix) -> None:
            self.opened.append(one)
            init(one)

        monkeypatch.setattr(states.StateCache, "_fill", filling)
        monkeypatch.setattr(states.Shelf, "take", taking)
        monkeypatch.setattr(prefix.Prefix, "__post_init__", opening)


@pytest.fixture
def spy(monkeypatch: pytest.MonkeyPatch) -> Spy:
    return Spy(monkeypatch)


def run(method: str, folder: Path, cached: bool = True, **changes: Any) -> Trained:
    """Two epochs of full batches of 24 and a short one of 16."""
    spec = tiny.spec(method, **{"epochs": 2, "drop_path": 0.0, "batch_size": 24} | changes)
    where = tiny.where(folder, checkpoints=None, cache_root=folder / "cache" if cached else None)
    return Session(spec, registry.get(spec.dataset), where).run()


def same(a: Trained, b: Trained) -> None:
    assert a.history == b.history
    assert a.metrics == b.metrics
    assert a.memory == b.memory
    assert a.diagnostics == b.diagnostics
    for name, p in a.model.named_parameters():
        assert torch.equal(p, dict(b.model.named_parameters())[name]), name
    for split, found in a.predictions.items():
        for column in ("pred", "margin", "confidence", "nll"):
            np.testing.assert_array_equal(getattr(found, column), getattr(b.predictions[split], column))


@pytest.mark.parametrize("method", WITH_PREFIX)
def test_losses_weights_and_predictions_are_equal_with_and_without_the_cache(method: str, tmp_path: Path,
                                                                             spy: Spy) -> None:
    with_cache = run(method, tmp_path)
    taken = spy.taken
    assert taken >= 6 and spy.opened[0].seen == {24: True, 16: True}  # two full batches and a short one, twice
    same(with_cache, run(method, tmp_path, cached=False))
    assert spy.taken == taken


@pytest.mark.parametrize(("method", "read"), [("linear", 2), ("partial_k", 2), ("partial_k+sam", 6), ("sherl", 2),
                                              ("partial_k+ugr", 6)])
def test_pixels_are_made_only_where_something_reads_them(method: str, read: int, tmp_path: Path,
                                                         monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two epochs of two full batches and a short one: the first batch of each size is compared with the store."""
    made: list[int] = []
    images, score = Batches._images, phases.score

    def scoring(*a: Any) -> Any:
        made.append(0)
        return score(*a)

    def counting(one: Batches, rows: Tensor, epoch: int) -> Tensor:
        made.append(len(rows))
        return images(one, rows, epoch)

    monkeypatch.setattr(Batches, "_images", counting)
    monkeypatch.setattr("bench.engine.session.score", scoring)
    with_cache = run(method, tmp_path)
    assert made.index(0) == read and {24, 16} <= set(made[:read])
    made.clear()
    same(with_cache, run(method, tmp_path, cached=False))
    assert made.index(0) == 6


def test_a_batch_with_a_stand_in_still_shows_its_pixels_to_who_asks() -> None:
    made = []

    def pixels() -> Tensor:
        made.append(1)
        return torch.ones(2, 3, 4, 4)

    batch = Batch(pixels, torch.zeros(2, dtype=torch.int64), torch.arange(2))
    batch.stand_in = torch.full((), torch.nan).expand(2, 3, 4, 4)
    assert batch.means(batch.input) and not made and not batch.means(torch.ones(2, 3, 4, 4))
    x, y, index = batch
    assert x is batch.x and y is batch.y and index is batch.index and made == [1]
    assert batch.means(x) and batch.means(batch.input)
    assert batch.replace(y=y + 1).x is x and batch.replace(y=y + 1).input is x
    x.mul_(2)
    assert not batch.means(x) and not batch.means(batch.input), "no longer the images that were announced"


def test_a_second_run_computes_nothing_of_the_prefix_again(tmp_path: Path, spy: Spy) -> None:
    first = run("linear", tmp_path)
    run("linear", tmp_path, seed=1, lr=1e-4, weights="random")
    assert spy.filled == 2  # other random weights: another prefix
    same(first, run("linear", tmp_path))
    assert spy.filled == 2


@pytest.mark.parametrize("method", WITHOUT)
def test_a_method_without_a_frozen_prefix_stores_nothing(method: str, tmp_path: Path, spy: Spy) -> None:
    run(method, tmp_path, epochs=1)
    assert not spy.opened and not spy.filled


def test_stochastic_depth_inside_the_prefix_keeps_the_cache_off(tmp_path: Path, spy: Spy) -> None:
    # Of two blocks the first has rate 0, so the rate is put in by hand where timm would have put it.
    same(run("partial_k", tmp_path, drop_path=0.5), run("partial_k", tmp_path, cached=False, drop_path=0.5))
    adapter, model = _built("partial_k")
    seam = seam_of(adapter, model)
    assert seam is not None and not why_not(seam, model.train())
    model.blocks[0].drop_path1 = prefix.DropPath(0.1)
    assert "drops at random" in why_not(seam, model.train())
    assert not why_not(seam, model.eval())
    model.blocks[0].attn.proj_drop.p = 0.1
    assert "drops at random" in why_not(seam, model.train())


def test_a_trained_or_hooked_weight_in_front_keeps_the_cache_off() -> None:
    adapter, model = _built("partial_k")
    seam = seam_of(adapter, model)
    assert seam is not None
    for p in (model.pos_embed, model.cls_token, model.patch_embed.proj.weight, model.blocks[0].mlp.fc1.bias):
        p.requires_grad_(True)
        assert why_not(seam, model).endswith("trains")
        p.requires_grad_(False)
    assert not why_not(seam, model)
    hook = model.blocks[0].attn.register_forward_hook(lambda *_: None)
    assert why_not(seam, model).endswith("is hooked")
    hook.remove()


def _hooking(fit: Fit, batch: Batch, plain: Loss) -> Terms:
    hook = fit.model.blocks[0].register_forward_pre_hook(lambda module, given: (given[0] * 1.5,))
    try:
        return plain(fit, batch)
    finally:
        hook.remove()


def _swapping(fit: Fit, batch: Batch, plain: Loss) -> Terms:
    terms = plain(fit, batch)
    others = {n: p.detach() * 1.5 for n, p in fit.model.named_parameters() if n.startswith("blocks.0.mlp")}
    return terms | {"loss": terms["loss"] + (terms["logits"] - fit.forward(batch.x, others)).square().mean()}


def _moving(fit: Fit, batch: Batch, plain: Loss) -> Terms:
    if fit.step == 2:
        with torch.no_grad():
            fit.model.blocks[0].mlp.fc1.bias.add_(0.5)
    return plain(fit, batch)


def _dropping(fit: Fit, batch: Batch, plain: Loss) -> Terms:
    fit.model.blocks[0].attn.proj_drop.p = 0.3
    return plain(fit, batch)


@pytest.mark.parametrize("meddle", [_hooking, _swapping, _moving, _dropping])
def test_who_meddles_with_the_frozen_part_after_the_first_step_is_served_by_the_long_way(
        meddle: Callable[[Fit, Batch, Loss], Terms], tmp_path: Path, spy: Spy, monkeypatch: pytest.MonkeyPatch) -> None:
    untouched = run("partial_k", tmp_path, cached=False)
    plain = compose.task
    monkeypatch.setattr(compose, "task", lambda fit, batch: (meddle if fit.step else lambda f, b, p: p(f, b))(
        fit, batch, plain))
    with_cache = run("partial_k", tmp_path)
    assert spy.opened and with_cache.history != untouched.history
    same(with_cache, run("partial_k", tmp_path, cached=False))


def test_augmented_images_keep_the_cache_off(tmp_path: Path, spy: Spy) -> None:
    run("linear", tmp_path, augment="crop_flip", epochs=1)
    assert not spy.opened


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("method", ["linear", "partial_k", "sherl"])
def test_in_bf16_too_what_is_stored_is_what_the_block_returns(method: str, precision: str, tmp_path: Path) -> None:
    same(run(method, tmp_path, precision=precision), run(method, tmp_path, cached=False, precision=precision))


def test_states_that_were_damaged_on_disk_change_no_result(tmp_path: Path, spy: Spy) -> None:
    first = run("partial_k", tmp_path)
    for path in (tmp_path / "cache").rglob("prefix/*/1.npy"):
        array = np.load(path)
        array[-1] *= -3  # one image alone, which the comparison of the first batches may not meet
        np.save(path, array)
        damaged = path.read_bytes()
    spy.opened.clear()
    same(first, run("partial_k", tmp_path))
    assert spy.opened[0].seen == {24: True, 16: True} and path.read_bytes() != damaged, "computed and stored anew"
    path.write_bytes(b"")
    same(first, run("partial_k", tmp_path))
    facts = path.with_name("facts.json")
    for damage in ("{}", "[]", facts.read_text().replace("float32", "nn"), facts.read_text().replace("[", "[1, ")):
        facts.write_text(damage)
        same(first, run("partial_k", tmp_path))
        assert facts.read_text() != damage, "written anew"


def test_images_that_were_damaged_on_disk_change_no_result(tmp_path: Path) -> None:
    first = run("linear", tmp_path)
    for path in (tmp_path / "cache").glob("*.npy"):
        content = bytearray(path.read_bytes())
        content[200:900] = bytes(700)  # of the same size: neither header nor shape tells
        path.write_bytes(content)
    assert path.exists()
    same(first, run("linear", tmp_path))
    same(first, run("linear", tmp_path))


def test_the_key_changes_with_everything_that_the_stored_numbers_follow_from(tmp_path: Path,
                                                                             monkeypatch: pytest.MonkeyPatch) -> None:
    keys: list[str] = []
    shelf = StateCache.shelf

    def noting(one: StateCache, key: str, *rest: Any) -> Any:
        keys.append(key)
        return shelf(one, key, *rest)

    monkeypatch.setattr(StateCache, "shelf", noting)

    def key(method: str = "partial_k", **changes: Any) -> str:
        run(method, tmp_path, **{"epochs": 1} | changes)
        return keys.pop()

    base = key()
    assert key() == base == key(lr=1e-5, weight_decay=0.5, epochs=2) == key("partial_k+l2sp")
    others = [key(seed=1), key(normalise="peer"), key(precision="bf16"), key(attention="plain"), key(batch_size=16),
              key("linear"), key(phase="tune"), key("sherl"), key("unipt")]
    monkeypatch.setattr(tiny.Picture, "open", lambda one: tiny.Image.new("RGB", (tiny.SIZE,) * 2, (one.label,) * 3))
    cache._remove(next((tmp_path / "cache").glob("*.npy")))
    for path in (tmp_path / "cache").glob("*.npy"):
        path.unlink()  # the decoded images, so that the new pixels are read
    others.append(key())
    assert len({base, *others}) == len(others) + 1


def test_other_images_than_the_announced_batch_go_the_long_way(tmp_path: Path, spy: Spy) -> None:
    spec = tiny.spec("partial_k", epochs=2, drop_path=0.0)
    session = Session(spec, registry.get(spec.dataset), tiny.where(tmp_path, cache_root=tmp_path, checkpoints=None))
    session.run()
    one, fit, batches = spy.opened[0], session.built.fit, session.built.batches
    model, plain = fit.model, fit.model.forward_features
    batch, other = batches.batch(torch.arange(16), 0), batches.batch(torch.arange(16, 32), 0)
    one.__post_init__()  # at work again
    with torch.no_grad(), one.serving(batch):
        taken = spy.taken
        assert torch.equal(fit.forward(batch.x), fit.forward(batch.x.clone()))
        assert spy.taken == taken + 1
        assert torch.equal(model.forward_features(other.x), plain(other.x))
        assert batch.input.isnan().all() and torch.equal(fit.forward(batch.input), fit.forward(batch.x.clone()))
        assert spy.taken == taken + 2
        batch.x.add_(1)  # no longer what was announced
        assert torch.equal(model.forward_features(batch.x), plain(batch.x))
        assert torch.equal(fit.forward(batch.input), fit.forward(batch.x.clone()))
        assert spy.taken == taken + 2
    one.close()
    assert "forward_features" not in vars(model)


def test_what_is_computed_by_two_at_once_is_computed_once(tmp_path: Path) -> None:
    stored, passes = StateCache(tmp_path), []

    def batches() -> Iterator[tuple[Tensor, dict[int, Tensor]]]:
        passes.append(1)
        for start in range(0, 8, 4):
            yield torch.arange(start, start + 4), {3: torch.full((4, 5), float(start))}

    found: list[Any] = []
    threads = [threading.Thread(target=lambda: found.append(stored.shelf("k", 8, batches, torch.device("cpu"))))
               for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(passes) == 1 and len(found) == 4
    for one in found:
        assert torch.equal(one.take(torch.tensor([5, 0]), torch.device("cpu"))[3], torch.tensor([[4.] * 5, [0.] * 5]))


def test_the_longest_unused_goes_when_the_folder_is_full(tmp_path: Path) -> None:
    import os

    def batches() -> Iterator[tuple[Tensor, dict[int, Tensor]]]:
        yield torch.arange(4), {0: torch.zeros(4, 1000)}

    stored = StateCache(tmp_path, limit=40_000)  # two of 16 kB and their headers
    for age, key in enumerate(("a", "b")):
        assert stored.shelf(key, 4, batches, torch.device("cpu")) is not None
        os.utime(tmp_path / key, (1000 + age, 1000 + age))
    kept = stored.shelf("a", 4, batches, torch.device("cpu"))  # used: now b is the oldest
    stored.shelf("c", 4, batches, torch.device("cpu"))
    assert {p.name for p in tmp_path.iterdir() if p.is_dir()} == {"a", "c"}
    stored.shelf("d", 4, batches, torch.device("cpu"))
    assert kept is not None and kept.take(torch.tensor([1]), torch.device("cpu"))[0].sum() == 0  # open ones stay usable


def test_states_too_large_to_store_and_a_broken_disk_leave_the_run_as_it_is(tmp_path: Path, spy: Spy,
                                                                           monkeypatch: pytest.MonkeyPatch) -> None:
    plain = run("linear", tmp_path, cached=False)
    monkeypatch.setattr(states, "ENTRY_BYTES", 10)
    same(plain, run("linear", tmp_path))
    (tmp_path / "file").write_text("no folder")
    assert StateCache(tmp_path / "file").shelf("k", 1, lambda: iter(()), torch.device("cpu")) is None
    assert not spy.opened


def test_a_run_that_is_told_to_stop_while_it_fills_the_store_leaves_nothing_behind(tmp_path: Path) -> None:
    try:
        checkpoint.STOP.ask("preempted")
        with pytest.raises(checkpoint.Interrupted):
            run("linear", tmp_path)
    finally:
        checkpoint.STOP.wanted = None
    assert not [p for p in (tmp_path / "cache" / "prefix").iterdir() if not p.name.startswith(".lock")]
    assert run("linear", tmp_path).history


def test_images_are_decoded_once_by_many_at_once_and_the_folder_is_kept_small(tmp_path: Path,
                                                                             monkeypatch: pytest.MonkeyPatch) -> None:
    decoded, decode = [], cache._decode

    def counting(items: Any, size: int) -> Any:
        decoded.append(1)
        return decode(items, size)

    monkeypatch.setattr(cache, "_decode", counting)
    items = tiny.items(tmp_path, "train")
    threads = [threading.Thread(target=lambda: cache.ImageCache(tmp_path).pixels("x", items, 16)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(decoded) == 1
    monkeypatch.setattr(cache, "TOTAL_BYTES", 40_000)  # 48 images of 768 bytes
    for label in ("y", "z"):
        assert cache.ImageCache(tmp_path).pixels(label, items, 16) is not None
    assert len(list(tmp_path.glob("*.npy"))) == 1


def _built(method: str) -> tuple[Any, Any]:
    from methods import compose
    from methods.grammar import parse

    text = parse(method)
    adapter = compose.create(text).adapter
    return adapter, adapter.build(tiny._model(), 4)
