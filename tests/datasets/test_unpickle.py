"""CIFAR's pickles through a reader of its own: it reads what Python reads, and refuses whatever else lies there."""

from __future__ import annotations

import pickle
import pickletools
import random
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets.card import DataError
from datasets.vtab import arrays, unpickle

CIFAR = {
    "data": np.arange(2 * 3072, dtype=np.int64).astype(np.uint8).reshape(2, 3072),
    "fine_labels": [3, 99], "coarse_labels": [0, 19], "filenames": ["a.png", "b.png"], "batch_label": "training batch",
}  # fmt: skip


def python_2() -> bytes:
    """The file as it is distributed, byte by byte as Python 2 wrote such files: protocol 2, text as bytes."""

    def text(value: bytes, at: int) -> bytes:
        return b"U" + bytes([len(value)]) + value + b"q" + bytes([at])

    data = CIFAR["data"].tobytes()  # type: ignore[attr-defined]
    kind = b"cnumpy\ndtype\nq\x0aU\x02u1q\x0bK\x00K\x01\x87q\x0cRq\x0d"
    kind += b"(K\x03U\x01|q\x0eNNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    array = b"cnumpy.core.multiarray\n_reconstruct\nq\x04cnumpy\nndarray\nq\x05K\x00\x85U\x01b\x87Rq\x06"
    array += b"(K\x01K\x02M\x00\x0c\x86q\x07" + kind + b"\x89T" + struct.pack("<I", len(data)) + data + b"q\x0ftb"
    labels = b"]q\x10(K\x03Kce"
    return (b"\x80\x02}q\x01(" + text(b"data", 2) + array + text(b"fine_labels", 17) + labels
            + text(b"batch_label", 18) + text(b"training batch", 19) + b"u.")  # fmt: skip


def test_the_distributed_form_is_read() -> None:
    data = python_2()
    pickletools.dis(data, out=__import__("io").StringIO())  # it is a pickle
    ours = unpickle.load(data)
    assert (ours["data"] == CIFAR["data"]).all() and ours["data"].dtype == np.uint8
    assert ours["fine_labels"] == [3, 99] and ours["batch_label"] == "training batch"


@pytest.mark.parametrize("protocol", [2, 3, 4])
@pytest.mark.parametrize("order", ["C", "F"])
def test_what_is_saved_again_by_python_3_is_read(protocol: int, order: Any) -> None:
    ours = unpickle.load(pickle.dumps(CIFAR | {"data": np.asarray(CIFAR["data"], order=order)}, protocol=protocol))
    assert ours["data"].dtype == np.uint8 and (ours["data"] == CIFAR["data"]).all()
    assert {k: v for k, v in ours.items() if k != "data"} == {k: v for k, v in CIFAR.items() if k != "data"}


BYTES = st.binary(min_size=1, max_size=30)  # Python 3 writes an empty one as a call of its own
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**62), 2**62) | st.floats(allow_nan=False) | st.text() | BYTES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4)
    | st.tuples(inner, inner) | st.tuples(inner, inner, inner, inner),
    max_leaves=20,
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(held=st.dictionaries(st.text(max_size=9) | BYTES, PLAIN, max_size=5), protocol=st.integers(2, 4))
def test_plain_values_come_out_as_python_reads_them(held: dict[Any, Any], protocol: int) -> None:
    assert unpickle.load(pickle.dumps(held, protocol=protocol)) == held


class Runs:
    def __reduce__(self) -> tuple[Any, ...]:
        return __import__("os").system, ("touch /tmp/never",)


def test_a_pickle_that_would_run_code_or_build_what_is_no_byte_is_refused() -> None:
    objects = np.array([{}, []], dtype=object)
    others = (np.zeros(3), np.zeros(3, np.int8), np.zeros(2, "V8"), {1, 2}, bytearray(b"x"), 1 << 80)
    for value in (Runs(), objects, *others):
        with pytest.raises(ValueError, match=r"CIFAR|whole number"):
            unpickle.load(pickle.dumps({"data": value}, protocol=4))
    for protocol in (0, 1, 5):
        with pytest.raises(ValueError, match=r"protocol|instruction"):
            unpickle.load(pickle.dumps(CIFAR, protocol=protocol))


def crash(kind: bytes, shape: bytes = b"K\x01", raw: bytes = b"\x41" * 8) -> bytes:
    """An array of another type over raw bytes, with the allowed names alone: numpy would follow them as addresses."""
    head = b"\x80\x02}q\x01U\x04datacnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    return head + b"(K\x01" + shape + b"\x85cnumpy\ndtype\n" + kind + b"\x89U" + bytes([len(raw)]) + raw + b"tbs."


def test_an_object_array_over_raw_bytes_does_not_reach_numpy() -> None:
    of_objects = b"U\x02O8K\x00K\x01\x87R"
    as_bytes = b"U\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK?tb"
    with pytest.raises(ValueError, match="dtype in a way"):
        unpickle.load(crash(of_objects))
    found = unpickle.load(crash(as_bytes, b"K\x08"))  # the type's state counts for nothing
    assert found["data"].tolist() == [0x41] * 8
    for shape in (b"K\x09", b"J\xff\xff\xff\xff", b"\x8a\x08" + struct.pack("<q", 1 << 60), b"N", b"\x88"):
        with pytest.raises(ValueError, match="as long as its sizes say"):
            unpickle.load(crash(as_bytes, shape))


def built(value: object, depth: int = 0) -> bool:
    """Whether a value is made of what may come out and nothing else."""
    if isinstance(value, np.ndarray):
        return value.dtype == np.uint8 and type(value) is np.ndarray
    if type(value) in (list, tuple):
        return depth > 20 or all(built(inner, depth + 1) for inner in value)  # type: ignore[attr-defined]
    if type(value) is dict:
        return depth > 20 or all(built(k) and built(v, depth + 1) for k, v in value.items())
    inert = (unpickle.Name, unpickle.Empty, unpickle.Byte)  # what stands for a name; made here, does nothing
    return value is None or type(value) in (bool, int, float, str, bytes, *inert)


@pytest.mark.parametrize("seed", range(3))
def test_any_altered_bytes_end_in_an_error_or_in_plain_values(seed: int) -> None:
    dice, refused = random.Random(seed), 0
    small = {"data": np.arange(12, dtype=np.uint8).reshape(3, 4), "fine_labels": [1, 2, 3], "x": ("y", b"z", 1.5, None)}
    goods = [pickle.dumps(small, protocol=protocol) for protocol in (2, 3, 4)]
    goods.append(crash(b"U\x02u1K\x00K\x01\x87R", b"K\x08"))
    codes = [*unpickle.RUN, ord("."), ord("i"), ord("o"), 0x81, 0x92, 0x82, 0x97, ord("P"), ord("Q"), 0xFF, 0]
    for i in range(4000):
        bad = bytearray(goods[i % len(goods)])
        for _ in range(dice.randint(1, 8)):
            at, new = dice.randrange(len(bad)), dice.choice((dice.choice(codes), dice.randrange(256)))
            if dice.random() < 0.5:
                bad[at] = new
            else:
                bad.insert(at, new)
        try:
            assert built(unpickle.load(bytes(bad)))
        except (ValueError, UnicodeError):
            refused += 1
    assert 2000 < refused < 4000


def test_a_pickle_that_is_damaged_or_mistaken_is_told_with_its_name(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    good = pickle.dumps(CIFAR, protocol=2)
    for data in (b"", b"\x80", good[:-9], b"no pickle", pickle.dumps([1], protocol=2),
                 pickle.dumps({"data": 1}, protocol=2), pickle.dumps(CIFAR | {"fine_labels": [1.5, 2]}, protocol=2),
                 pickle.dumps(CIFAR | {"fine_labels": [(1,), 2]}, protocol=2)):  # fmt: skip
        (folder / "train").write_bytes(data)
        with pytest.raises(DataError, match=r"cifar-100-python/train cannot be read"):
            arrays.cifar100(tmp_path)
