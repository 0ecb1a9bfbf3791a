"""The layout of docs/architecture.md, held: which package may import which, no circles, and no file grows into two."""

from __future__ import annotations

import ast
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from tests.serving import ROOT

PACKAGES = ("commands", "copies", "demo", "index", "ingest", "model", "search", "server")
ENTRIES = ("service", "cli", "settings")
# What each may import of ours; benchmarks and tests may import anything.
MAY_IMPORT = {
    "service": {"server", "copies", "search", "ingest", "index", "model", "demo", "settings"},
    "cli": {"commands"},
    "commands": {"server", "copies", "search", "ingest", "index", "model", "settings"},
    "server": {"copies", "search", "ingest", "index", "model", "demo", "settings"},
    "search": {"copies", "index", "model"},
    "ingest": {"copies", "index", "model"},
    "copies": {"index", "model"},
    "index": set(),
    "model": set(),
    "demo": set(),
    "settings": set(),
}
# Packages whose names are imported from the package; server's modules are imported by name, as server/api says why.
FACADES = {"commands", "copies", "demo", "index", "ingest", "model", "search"}
BY_NAME = {"commands.console"}  # which cli.py needs for its group
HEAVY = {"torch", "timm", "nncf", "openvino", "gradio", "hnswlib", "numba", "llvmlite"}
MAY_IMPORT_HEAVY = {
    *(
        "model/engines/torch.py",
        "model/weights.py",
        "model/export.py",
        "model/classifier.py",
        "model/conversion.py",
        "model/open_clip.py",
        "model/engines/openvino_import.py",
    ),
    *("demo/page.py", "demo/gradio_patches.py"),
    *(f"index/hnsw/kernel/{name}.py" for name in ("search", "primitives", "simd", "handles", "jit")),
}


def sources() -> list[Path]:
    top = [ROOT / f"{name}.py" for name in ENTRIES]
    return top + [path for part in PACKAGES for path in sorted((ROOT / part).rglob("*.py"))]


def others() -> list[Path]:
    return [path for part in ("benchmarks", "tests", "docs") for path in (ROOT / part).rglob("*.py")]


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@cache
def imports(path: Path, *, at_top: bool = False, names: bool = False) -> frozenset[str]:
    """The full names of the modules that a file imports, and with ``names`` of what it imports from them.

    ``at_top``: only those it imports when it is imported.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = set()
    for node in tree.body if at_top else ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names} if names else set()
    return frozenset(found)


KNOWN = {module_of(one) for one in sources()}


@pytest.mark.parametrize("path", sources(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_each_package_imports_only_what_it_may(path: Path) -> None:
    part = module_of(path).partition(".")[0]
    outside = {name for name in imports(path) & KNOWN if name.partition(".")[0] != part}
    assert {name.partition(".")[0] for name in outside} <= MAY_IMPORT[part]
    inner = {name for name in outside - BY_NAME if "." in name and name.partition(".")[0] in FACADES}
    assert not inner, "import a package's names from the package, not from its modules"


def test_the_root_holds_the_entries_and_nothing_else() -> None:
    assert {path.stem for path in ROOT.glob("*.py")} == set(ENTRIES)
    assert {path.parent.name for path in ROOT.glob("*/__init__.py")} == {*PACKAGES, "tests", "benchmarks"}


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = {}
    for path in sources():
        module = module_of(path)
        # A package's __init__ stands for its names: it imports its modules, and they do not import it.
        graph[module] = {
            name for name in imports(path, names=True) & KNOWN if name != module and not module.startswith(name + ".")
        }
    list(TopologicalSorter(graph).static_order())  # raises CycleError


@pytest.mark.parametrize("path", sources(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_what_is_slow_to_import_is_imported_only_where_it_is_used(path: Path) -> None:
    if path.relative_to(ROOT).as_posix() not in MAY_IMPORT_HEAVY:
        assert not {module.partition(".")[0] for module in imports(path, at_top=True)} & HEAVY


def test_tests_import_openvino_as_we_do_so_that_it_reports_nothing() -> None:
    for path in others():
        assert "openvino" not in {name.partition(".")[0] for name in imports(path, at_top=True)}, path


def test_files_stay_small() -> None:
    long = {
        path.relative_to(ROOT).as_posix(): count
        for path in [*sources(), *others()]
        if (count := len(path.read_text(encoding="utf-8").splitlines())) > 300
    }
    assert not long, long


def test_the_architecture_page_names_every_module() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    for path in sources():
        name = path.name if path.parent != ROOT else path.relative_to(ROOT).as_posix()
        if path.name != "__init__.py":
            assert f"`{name}`" in page, path
    for part in PACKAGES:
        assert f"`{part}/`" in page, part
