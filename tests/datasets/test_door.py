"""One door for every file of a data root: nothing outside, no pipe or device, a bounded size, and no other door."""

from __future__ import annotations

import ast
import gzip
import os
import shutil
import timeit
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

import datasets
from datasets import door, registry
from datasets.card import DataError
from datasets.check import check
from datasets.images import open_rgb
from datasets.lists import Tree, find_folder
from datasets.standins.raw import WRITERS
from datasets.vtab.raw import RAW

HERE = Path(str(datasets.__file__)).parent

OPENERS = {
    "open", "fdopen", "read_text", "read_bytes", "File", "ZipFile", "TarFile", "GzipFile", "BZ2File", "LZMAFile",
    "is_zipfile", "is_tarfile", "loadmat", "whosmat", "load", "fromfile", "genfromtxt", "loadtxt", "memmap", "mmap",
    "imread", "copyfile", "copy2", "copytree", "move", "input", "FileIO", "Popen", "run", "parse", "Unpickler",
}  # fmt: skip
EXCEPTIONS = {  # file, function: what it calls, and why no file of a data root is opened by it
    ("door.py", "opened", "os.open"): "the door",
    ("door.py", "opened", "FileIO"): "the door",
    ("door.py", "plain", "gzip.GzipFile"): "over the door's file",
    ("door.py", "ours", "(Path(__file__).parent / name).read_text"): "a text of the program itself",
    ("npz.py", "arrays", "zipfile.ZipFile"): "over the door's file",
    ("npz.py", "_array", "archive.open"): "a member of it",
    ("hdf5.py", "unpacked", "h5py.File"): "over the door's file or bytes",
    ("matlab.py", "load", "loadmat"): "over bytes that were looked through",
    ("images.py", "open_rgb", "pil.open"): "over the door's file",
    ("images.py", "open_rgb", "image.open"): "a Source, which goes through the door itself",
    ("images.py", "_decoded", "opened.load"): "decodes what is open",
    ("encoded.py", "H5Image.open", "Image.open"): "over bytes",
    ("vtab/tfrecord.py", "Part.open", "Image.open"): "over bytes",
    ("vtab/scenes.py", "Fundus.open", "Image.open"): "over bytes made here",
    ("vtab/arrays.py", "cifar100", "unpickle.load"): "our own reader, over bytes",
    ("vtab/arrays.py", "svhn", "matlab.load"): "ours, through the door",
    ("vtab/folders.py", "flowers", "matlab.load"): "ours, through the door",
    ("raw/fgvc.py", "dogs", "matlab.load"): "ours, through the door",
    ("raw/fgvc.py", "cars", "matlab.load"): "ours, through the door",
    ("imagenet.py", "flat_val", "matlab.load"): "ours, through the door",
    ("digits.py", "_load", "gzip.open"): "scikit-learn's own file, none of a data root",
    ("packages.py", "Held.open", "pil.open"): "over bytes",
    ("folder.py", "locked", "(target.parent / f'.{target.name}.lock').open"): "a lock that we write",
    ("folder.py", "link_or_copy", "target.open"): "writes",
    ("identity.py", "_read", "path.read_text"): "a note that we wrote, outside any data root",
    ("identity.py", "_write", "os.fdopen"): "writes it",
    ("registry.py", "_set_aside", "path.read_text"): "a module that cannot be imported, for the names in it; no data",
    ("outside.py", "source_hash", "file.read_bytes"): "a card's own source, to be hashed",
    ("fetch.py", "digest", "file.open"): "the archive that a user names, not a file found in a data root",
    ("fetch.py", "_tar", "tarfile.open"): "the archive that a user names",
    ("own/keep.py", "write_split", "file.open"): "writes",
    ("own/note.py", "Own.open", "pil.open"): "bytes that came through the door",
    ("fetch.py", "_zip", "zipfile.ZipFile"): "the archive that a user names",
    ("fetch.py", "_zip.opened", "found.open"): "a member of it",
    ("fetch.py", "unpack", "zipfile.is_zipfile"): "the archive that a user names",
    ("fetch.py", "unpack", "tarfile.is_tarfile"): "the archive that a user names",
    ("fetch.py", "_copy", "(folder / path).open"): "writes",
    ("vader.py", "_member", "tarfile.open"): "over bytes that came through the door",
    ("vader.py", "_table", "parse"): "our own reader of tables, over such bytes",
    ("vader.py", "_card", "File"): "a card's promise about a file",
    ("tsv.py", "_parsed", "parse"): "our own reader of tables, over bytes that came through the door",
    ("standins/archives.py", "_tar", "tarfile.open"): "writes a stand-in",
    ("standins/raw/vtab.py", "patch_camelyon", "h5py.File"): "writes a stand-in",
    ("standins/raw/vtab.py", "dsprites", "h5py.File"): "writes a stand-in",
    ("standins/raw/vtab.py", "retinopathy", "(base / file).open"): "writes a stand-in",
    ("standins/packaged.py", "tuxpaint", "shutil.copyfile"): "writes a stand-in",
    ("standins/writer.py", "_source", "(Path(__file__).parent / file).read_bytes"): "the program's own source",
}


def calls(tree: ast.AST, inside: str = "") -> Iterator[tuple[str, str]]:
    """(function, what it calls) of every call by a name that can open a file."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield from calls(node, f"{inside}.{node.name}".lstrip("."))
            continue
        if isinstance(node, ast.Call):
            last = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if last in OPENERS:
                yield inside, ast.unparse(node.func)
        yield from calls(node, inside)


def test_no_reader_has_another_door() -> None:
    found = {
        (file.relative_to(HERE).as_posix(), *call)
        for file in HERE.rglob("*.py")
        for call in calls(ast.parse(file.read_text(encoding="utf-8")))
    }
    assert found - EXCEPTIONS.keys() == set(), "these open files past the door"
    assert EXCEPTIONS.keys() - found == set(), "these exceptions are no longer needed"


def test_the_search_for_other_doors_finds_each_kind() -> None:
    text = "def f(p):\n  open(p); p.open(); p.read_text(); h5py.File(p); np.load(p); loadmat(p)\nx = Image.open(p)"
    assert [call for _, call in calls(ast.parse(text))] == [
        "open", "p.open", "p.read_text", "h5py.File", "np.load", "loadmat", "Image.open",
    ]  # fmt: skip


# what is refused


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A data set's folder under a data root, and secrets outside both."""
    root = tmp_path / "root"
    (root / "svhn" / "images").mkdir(parents=True)
    (root / "svhn" / "a.txt").write_text("inside\n")
    (tmp_path / "secret.txt").write_text("secret\n")
    Image.new("RGB", (4, 4)).save(tmp_path / "secret.png")
    return find_folder(root, ("svhn",), "a folder")


def test_a_file_that_lies_inside_is_read_through_a_link_that_stays_inside_too(base: Path) -> None:
    (base / "images" / "b.txt").symlink_to("../a.txt")
    assert door.text(base / "a.txt") == door.text(base / "images" / "b.txt") == "inside\n"


@pytest.mark.parametrize("target", ["../../secret.txt", "/proc/self/environ", "/dev/zero", "/etc"])
def test_a_link_that_leads_out_is_refused_whatever_it_leads_to(base: Path, target: str) -> None:
    (base / "b.txt").symlink_to(target)
    with pytest.raises(DataError, match=r"b\.txt is a link that leaves the folder of the data set"):
        door.read(base / "b.txt", "list")
    (base / "c").symlink_to(Path(target).parent)
    with pytest.raises(DataError, match="leaves the folder of the data set"):
        door.read(base / "c" / Path(target).name, "list")


def test_a_neighbour_whose_name_begins_alike_is_outside(base: Path) -> None:
    (base.parent / "svhn2").mkdir()
    (base.parent / "svhn2" / "x.txt").write_text("other")
    (base / "x.txt").symlink_to(base.parent / "svhn2" / "x.txt")
    with pytest.raises(DataError, match="leaves the folder"):
        door.text(base / "x.txt")


def test_dots_do_not_leave_either(base: Path) -> None:
    with pytest.raises(DataError, match="leaves the folder"):
        door.text(base / ".." / ".." / "secret.txt")


def test_the_users_own_link_to_a_data_sets_folder_is_followed_and_bounds_what_lies_in_it(tmp_path: Path) -> None:
    (tmp_path / "disk" / "dtd").mkdir(parents=True)
    (tmp_path / "disk" / "dtd" / "a.txt").write_text("far")
    (tmp_path / "disk" / "b.txt").write_text("too far")
    (tmp_path / "disk" / "dtd" / "b.txt").symlink_to("../b.txt")
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "dtd").symlink_to(tmp_path / "disk" / "dtd")
    base = find_folder(tmp_path / "root", ("dtd",), "")
    assert door.text(base / "a.txt") == "far"
    with pytest.raises(DataError, match="leaves the folder"):
        door.text(base / "b.txt")


def test_a_folder_deeper_down_that_is_a_link_out_is_no_tree(base: Path, tmp_path: Path) -> None:
    (base / "deep").symlink_to(tmp_path)
    with pytest.raises(DataError, match="leaves the folder"):
        Tree(base / "deep")


def test_pipes_devices_folders_and_sockets_are_refused_at_once(base: Path) -> None:
    os.mkfifo(base / "pipe.txt")
    for name, said in (("pipe.txt", "is a pipe"), ("images", "is a folder")):
        with pytest.raises(DataError, match=f"{name} {said}; expected a file"):
            door.text(base / name)
        with pytest.raises(DataError, match=f"{name} {said}"):
            open_rgb(base / name)
    door.admit(Path("/dev"))
    with pytest.raises(DataError, match="null is a device"):
        door.read(Path("/dev/null"), "list")


def test_a_file_beyond_the_bound_of_its_kind_is_not_read(base: Path) -> None:
    for kind, limit in door.LIMITS.items():
        with (base / "long").open("wb") as handle:
            handle.truncate(limit + 1 if limit < 1 << 40 else limit)  # a hole: takes no room
        if limit < 1 << 40:
            with pytest.raises(DataError, match=f"long has {limit + 1} bytes; more than {limit} are refused"):
                door.opened(base / "long", kind)


def test_what_unpacks_beyond_the_bound_is_refused(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(door.LIMITS, "arrays", 3 << 20)
    (base / "x.gz").write_bytes(gzip.compress(bytes(3 << 20)))
    assert len(door.plain(base / "x.gz")) == 3 << 20
    (base / "x.gz").write_bytes(gzip.compress(bytes((3 << 20) + 1)))
    with pytest.raises(DataError, match="unpacks to more than"):
        door.plain(base / "x.gz")


def test_what_was_looked_at_is_what_is_read_when_the_name_is_moved_meanwhile(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name is exchanged for a link to a secret between the look and the opening."""
    look = door._look

    def swapped(file: str, found: os.stat_result, real: str, limit: int) -> None:
        look(file, found, real, limit)
        (base / "a.txt").unlink()
        (base / "a.txt").symlink_to(tmp_path / "secret.txt")

    monkeypatch.setattr(door, "_look", swapped)
    assert door.text(base / "a.txt") == "inside\n"


def test_no_descriptor_is_left_open(base: Path) -> None:
    os.mkfifo(base / "pipe.txt")
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(50):
        door.text(base / "a.txt")
        with pytest.raises(DataError):
            door.text(base / "pipe.txt")
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.mark.parametrize(("mark", "name"), [(b"\xef\xbb\xbf", "UTF-8"), (b"\xff\xfe", "UTF-16")])
def test_a_byte_order_mark_is_named(mark: bytes, name: str, data_root: Path, tmp_path: Path) -> None:
    shutil.copytree(data_root / "svhn", tmp_path / "svhn")
    file = tmp_path / "svhn" / "train800.txt"
    file.write_bytes(mark + file.read_bytes())
    with pytest.raises(DataError, match=rf"train800\.txt begins with a byte-order mark \({name}\); save it as UTF-8"):
        registry.get("svhn").items(tmp_path, "train")
    assert any("byte-order mark" in problem.text for problem in check("svhn", tmp_path, images=False))


@pytest.mark.parametrize(
    ("name", "file", "split"),
    [("svhn", "svhn/train800.txt", "train"), ("cub", "CUB_200_2011/train.json", "train"),
     ("svhn", "svhn/images/train800/000000.jpg", "train"), ("imagenet1k", "imagenet/val", "test")],
)  # fmt: skip
def test_lists_and_class_folders_that_lie_elsewhere_are_refused(
    name: str, file: str, split: str, data_root: Path, tmp_path: Path
) -> None:
    folder, root = Path(file).parts[0], tmp_path / "root"
    shutil.copytree(data_root / folder, root / folder)
    registry.get(name).items(root, split)
    (root / file).rename(tmp_path / "elsewhere")
    (root / file).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="leaves the folder of the data set"):
        registry.get(name).items(root, split)
    (root / file).unlink()
    os.mkfifo(root / file)
    with pytest.raises(DataError, match=r"is a pipe|is not a file|is missing"):
        registry.get(name).items(root, split)


def test_what_a_foreign_folder_holds_is_not_told(tmp_path: Path) -> None:
    (tmp_path / "elsewhere" / "private").mkdir(parents=True)
    (tmp_path / "root" / "imagenet").mkdir(parents=True)
    (tmp_path / "root" / "imagenet" / "val").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError) as told:
        registry.get("imagenet1k").items(tmp_path / "root", "test")
    assert "private" not in str(told.value)


# every reader: its files one after the other made a link out, then a pipe


def _files(root: Path) -> list[Path]:
    """One file of each ending and place: a list or a table of each kind, and one image of each folder's depth."""
    kinds: dict[object, Path] = {}
    for file in sorted(root.rglob("*")):
        if file.is_file() and file.name[0] != ".":
            small = file.suffix.lower() in (".jpg", ".jpeg", ".png", ".gif", ".bmp")
            kinds.setdefault((file.suffix, len(file.parts)) if small else file.name, file)
    return list(kinds.values())


@pytest.mark.parametrize("name", [name for name in RAW if not name.endswith(("_dist", "_ori", "_ele"))])
def test_no_raw_reader_follows_a_file_out_of_its_root_or_waits_for_a_pipe(
    name: str, raw_root: Path, tmp_path: Path
) -> None:
    raw = tmp_path / "raw"
    shutil.copytree(raw_root / WRITERS[name][0], raw)

    def read() -> None:
        for records in RAW[name].read(raw).values():
            for record in records[:40]:
                if record.label < 2 or record is records[0]:
                    open_rgb(record.image)

    tables = [f for f in _files(raw) if f.suffix.lower() not in (".jpg", ".jpeg", ".png", ".gif", ".bmp")]
    refused = 0
    for file in tables:
        there = file.read_bytes()
        (tmp_path / "outside").write_bytes(there)
        file.unlink()
        file.symlink_to(tmp_path / "outside")
        try:
            read()
        except DataError as error:
            assert "leaves the folder of the data set" in str(error)
            refused += 1
        else:  # a file that the reader does not need
            file.unlink()
            read()
        file.unlink(missing_ok=True)
        os.mkfifo(file)
        try:
            read()
        except DataError as error:
            assert "is a pipe" in str(error) or "is not a file" in str(error)
        file.unlink()
        file.write_bytes(there)
    read()
    assert refused or not tables or name in ("eurosat", "resisc45", "caltech101")


def test_the_door_costs_an_image_little(base: Path) -> None:
    """Beside a decode of some 2 ms: 20 microseconds more than plain opening, with room for a busy machine."""
    file = base / "a.txt"

    def plain() -> None:
        with file.open("rb"):
            pass

    def through() -> None:
        with door.opened(file, "image"):
            pass

    best = [min(timeit.repeat(call, number=100, repeat=60)) / 100 * 1e6 for call in (plain, through)]
    print(f"opening takes {best[0]:.1f}, the door {best[1]:.1f} microseconds")
    assert best[1] - best[0] < 40
