"""The four packages are ours, import one way only, and importing opens nothing and prints nothing."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("bench", "datasets", "methods", "results", "reports")
MAY_IMPORT = {"bench": {"bench", "datasets", "methods", "results"}, "reports": {"reports", "results"},
              "datasets": {"datasets"}, "methods": {"methods"}, "results": {"results"}}
MODULES = sorted(".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
                 for package in PACKAGES for p in (ROOT / package).rglob("*.py") if p.stem != "__main__")
TORCH_FREE = ("results", "reports", "datasets.registry", "methods.catalog", "methods.grammar", "bench.cli",
              "bench.suites", *(m for m in MODULES if m.startswith(("bench.planning.", "bench.verbs.", "bench.tuning."))
                                and m != "bench.planning.memory"))
# The rooms of bench/ and the stairs between them: a room imports itself and what stands behind it, never the other way.
STAIRS = {
    "bench.door": ("bench.cli",),
    "bench.cli": ("bench.verbs",),
    "bench.verbs": ("bench.tuning", "bench.dispatch", "bench.perf", "bench.export", "bench.battery"),
    "bench.tuning": ("bench.planning",),
    "bench.dispatch": ("bench.planning",),
    "bench.perf": ("bench.planning",),
    "bench.export": ("bench.planning",),
    "bench.planning": ("bench.suites", "bench.engine"),
    "bench.battery": ("bench.engine",),
    "bench.suites": ("bench.engine",),
    "bench.engine": ("bench.embedded",),
    "bench.embedded": (),
}
# Under every room, and importing none.
GROUND = {"bench", "bench.checkout", "bench.extra", "bench.progress", "bench.telling", "bench.units"}
# Inside planning: what was asked, what it means, what exists, what it costs, how it will stand; the plan is all of it.
PLANNING = (("request", "written", "config", "settings", "own"), ("held", "backing", "inputs", "resolve"),
            ("existing", "again", "examine"), ("profile", "memory", "price"), ("about",), ("standing", "tuned"),
            ("plan", "ladder"))


def _imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add((node.module or "").partition(".")[0])
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_go_one_way(package: str) -> None:
    for path in (ROOT / package).rglob("*.py"):
        wrong = (_imports(path) & set(PACKAGES)) - MAY_IMPORT[package]
        assert not wrong, f"{path.relative_to(ROOT)} imports {wrong}"


def _graph() -> dict[str, set[str]]:
    """Module -> the modules of ours that it imports, anywhere in it: at its head, in functions, for types alone."""
    files = {".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): p
             for package in PACKAGES for p in (ROOT / package).rglob("*.py")}
    graph: dict[str, set[str]] = {}
    for name, path in files.items():
        inside = name if path.stem == "__init__" else name.rpartition(".")[0]
        graph[name] = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                graph[name] |= {alias.name for alias in node.names} & files.keys()
            elif isinstance(node, ast.ImportFrom):
                above = inside.rsplit(".", node.level - 1)[0] if node.level else ""
                source = ".".join(filter(None, (above, node.module)))
                for alias in node.names:
                    module = f"{source}.{alias.name}"
                    graph[name] |= {module if module in files else source} & files.keys()
        graph[name].discard(name)
    return graph


GRAPH = _graph()


def test_no_import_runs_in_a_circle() -> None:
    left = {name: set(uses) for name, uses in GRAPH.items()}
    while ends := {name for name, uses in left.items() if not uses & left.keys()}:
        left = {name: uses for name, uses in left.items() if name not in ends}
    assert not left, f"these import each other in a circle, or lean on one: {sorted(left)}"


def _room(module: str) -> str:
    return module if module in GROUND or module in STAIRS else next(
        (room for room in STAIRS if module.startswith(room + ".")), module)


def _below(room: str) -> set[str]:
    return {room}.union(*(_below(further) for further in STAIRS[room]))


@pytest.mark.parametrize("module", [m for m in GRAPH if m.startswith("bench.") and m != "bench.__main__"])
def test_inside_bench_the_stairs_lead_one_way(module: str) -> None:
    room = _room(module)
    assert room in STAIRS or room in GROUND, f"{module} stands in no room of STAIRS"
    allowed = GROUND if room in GROUND else _below(room) | GROUND
    for other in GRAPH[module]:
        if other.startswith("bench"):
            assert _room(other) in allowed, f"{module} imports {other}, against the stairs"


def test_each_floor_of_planning_knows_only_those_before_it() -> None:
    floor = {f"bench.planning.{name}": i for i, names in enumerate(PLANNING) for name in names}
    found = {m for m in GRAPH if m.startswith("bench.planning.")}
    assert found == floor.keys(), "a file of planning/ that PLANNING does not name, or the other way round"
    for module in found:
        for other in GRAPH[module] & floor.keys():
            assert floor[other] <= floor[module], f"{module} imports {other}, which comes after it"


@pytest.mark.parametrize("package", ("datasets", "methods", "results", "reports"))
def test_packages_import_their_own_relatively(package: str) -> None:
    for path in (ROOT / package).rglob("*.py"):
        assert package not in _imports(path), f"{path.relative_to(ROOT)} spells its own package's name"


def test_the_packages_resolve_inside_the_checkout() -> None:
    for package in PACKAGES:
        module = __import__(package)
        assert Path(str(module.__file__)).is_relative_to(ROOT)


def _python(code: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, timeout=120)


def test_another_library_called_datasets_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets" / "__init__.py").write_text("")
    done = _python(f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(ROOT)!r}]; import bench")
    assert done.returncode == 1
    assert "run from the checkout's root" in done.stderr and "Traceback" not in done.stderr


def test_importing_any_module_opens_no_file_and_prints_nothing() -> None:
    code = f"""
import sys, os
root = {str(ROOT)!r}
names = {[m for m in MODULES if m != "bench.dispatch.warm"]!r}  # whose import is its work: a fork server's preload
import torch, torchvision, timm, timm.models, pandas, numpy, scipy.stats, scipy.optimize, safetensors.torch, tqdm, yaml
import matplotlib, PIL.Image, tabulate, torch.func
opened = []
def watch(event, args):
    if event == "open" and isinstance(args[0], (str, bytes)):
        path = os.path.abspath(os.fsdecode(args[0]))
        if path.startswith(root) and "/.venv/" not in path and not path.endswith((".py", ".pyc")) \\
                and "__pycache__" not in path:
            opened.append(path)
sys.addaudithook(watch)
import importlib
for name in names:
    importlib.import_module(name)
sys.exit(str(opened) if opened else 0)
"""
    done = _python(code)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout == ""


@pytest.mark.parametrize("module", TORCH_FREE)
def test_tables_lists_and_plans_need_no_torch(module: str) -> None:
    done = _python(f"import sys; sys.modules['torch'] = None; sys.modules['timm'] = None; import {module}")
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize("kind", ("methods", "datasets", "backbones", "suites"))
def test_lists_answer_with_torch_made_unimportable(kind: str) -> None:
    done = _python("import sys; sys.modules.update(dict.fromkeys(('torch', 'timm', 'numpy', 'optuna')))\n"
                   f"from bench.cli import main; sys.exit(main(['list', '{kind}']))")
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(done.stdout.splitlines()) >= 3
