"""The table of docs/architecture.md, held: which part may import which, and no file grows into two."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.serving import ROOT

PARTS = {"model", "index", "demo", "door"}
# What each part or door may import of ours. benchmarks and tests may import anything.
MAY = {
    "model": set(),
    "index": set(),
    "demo": set(),
    "settings": set(),
    "contract": {"model", "index"},
    "sources": {"model", "index"},
    "pipeline": {"model", "index", "sources"},
    "observing": set(),
    "supervising": set(),
    "embedding_cache": {"observing"},
    "answering": {"model", "index", "contract", "embedding_cache", "settings"},
    "embedding_client": {"contract", "observing"},
    "door": {"model", "index", "demo", "contract", "draining", "observing", "settings"},
    "forms": {"contract", "settings"},
    "openapi": {"contract", "forms", "settings"},
    "bodies": {"index", "contract", "forms", "settings"},
    "packing": {"index"},
    "progress": set(),
    "shell": {"model", "index", "settings", "sources"},
    "draining": set(),
    "extracting": {"model", "draining", "observing", "packing", "settings", "supervising"},
    "service": {
        "model",
        "index",
        "demo",
        "door",
        "answering",
        "bodies",
        "contract",
        "embedding_client",
        "extracting",
        "forms",
        "observing",
        "openapi",
        "settings",
        "supervising",
    },
    "cli": {
        "model",
        "index",
        "answering",
        "contract",
        "packing",
        "pipeline",
        "progress",
        "settings",
        "shell",
        "sources",
    },
}
HEAVY = {"torch", "timm", "nncf", "openvino", "gradio", "hnswlib", "numba", "llvmlite"}
MAY_IMPORT_HEAVY = {
    *("model/torch_engine.py", "model/weights.py", "model/export.py", "model/openvino_unreported.py", "demo/page.py"),
    *("index/kernel.py", "index/arithmetic.py", "index/compiled.py"),
}


def sources() -> list[Path]:
    top = list(ROOT.glob("*.py"))
    return top + [path for part in PARTS for path in (ROOT / part).glob("*.py")]


def name_of(path: Path) -> str:
    return path.parent.name if path.parent != ROOT else path.stem


def imports(path: Path, *, at_top: bool = False) -> set[str]:
    """The full names of the modules that a file imports; ``at_top``: only those it imports when it is imported."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = set()
    for node in tree.body if at_top else ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


@pytest.mark.parametrize("path", sources(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_each_part_imports_only_what_it_may(path: Path) -> None:
    part = name_of(path)
    assert part in MAY, f"{part} is a new part: put it into the table here and in docs/architecture.md"
    ours = {module for module in imports(path) if module.partition(".")[0] in MAY}
    outside = {module for module in ours if module.partition(".")[0] != part}
    assert {module.partition(".")[0] for module in outside} <= MAY[part]
    assert not [module for module in outside if "." in module], (
        "import a part's names from the part, not from its insides"
    )


@pytest.mark.parametrize("path", sources(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_what_is_slow_to_import_is_imported_only_where_it_is_used(path: Path) -> None:
    if path.relative_to(ROOT).as_posix() not in MAY_IMPORT_HEAVY:
        assert not {module.partition(".")[0] for module in imports(path, at_top=True)} & HEAVY


def test_files_stay_small() -> None:
    long = {
        path.relative_to(ROOT).as_posix(): count
        for path in [*sources(), *(ROOT / "benchmarks").glob("*.py"), *(ROOT / "tests").glob("*.py")]
        if (count := len(path.read_text(encoding="utf-8").splitlines())) > 300
    }
    assert not long, long


def test_the_architecture_page_names_every_part() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    for part in MAY:
        assert f"`{part}/`" in page or f"`{part}.py`" in page, part
