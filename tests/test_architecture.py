"""Imports point down only, and only mitm/ knows mitmproxy."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# From the top down. What stands in one row doesn't import each other; a row may import all rows below it.
ROWS: list[set[str]] = [
    {"__main__"},
    {"cli"},
    {"commands"},
    {"serve"},
    {"mitm"},
    {"control"},
    {"lane"},
    {"exchange"},
    {"store", "origin"},
    {"policy", "anonymize", "egress"},
    {"banner", "messages"},
    {"config"},
    {"fields", "values"},
    {"errors"},
]
LEVEL = {part: level for level, row in enumerate(ROWS) for part in row}


def imports(file: Path) -> Iterator[str]:
    """The full names that a file imports when it runs (those for type checkers only are not run)."""
    return _imports(ast.parse(file.read_text("utf-8")))


def _imports(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
        return
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    if isinstance(node, ast.ImportFrom):
        assert node.level == 0, f"line {node.lineno}: imports are absolute"
        yield from (f"{node.module}.{alias.name}" for alias in node.names)
    for child in ast.iter_child_nodes(node):
        yield from _imports(child)


def part_of(file: Path) -> str:
    return file.relative_to(ROOT / "fwdproxy").with_suffix("").parts[0]


FILES = sorted((ROOT / "fwdproxy").rglob("*.py"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_imports_point_down(file: Path) -> None:
    part = part_of(file)
    if part == "__init__":
        assert [name for name in imports(file) if name.startswith("fwdproxy")] == []
        return
    for name in imports(file):
        package, _, rest = name.partition(".")
        target = rest.partition(".")[0]
        if package != "fwdproxy" or target in {part, "__version__"}:
            continue
        assert LEVEL[part] < LEVEL[target], f"{part} must not import {name}"


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_only_mitm_imports_mitmproxy(file: Path) -> None:
    if part_of(file) != "mitm":
        assert [name for name in imports(file) if name.split(".")[0].startswith("mitmproxy")] == []


def test_scripts_for_mitmdump_import_only_fwdproxy() -> None:
    scripts = sorted((ROOT / "addons").glob("*.py"))
    assert scripts
    for script in scripts:
        assert {name.split(".")[0] for name in imports(script)} <= {"fwdproxy", "__future__"}, script.name


def test_policy_reads_no_clock_and_does_no_io() -> None:
    outside = {"time", "datetime", "os", "io", "socket", "asyncio", "random", "pathlib"}
    for file in FILES:
        if part_of(file) in {"policy", "anonymize"}:
            assert {name.split(".")[0] for name in imports(file)}.isdisjoint(outside), file.name


def test_this_test_sees_a_wrong_import(tmp_path: Path) -> None:
    file = tmp_path / "wrong.py"
    file.write_text("def f():\n    from fwdproxy.mitm import shell\nif TYPE_CHECKING:\n    import mitmproxy\n")
    assert list(imports(file)) == ["fwdproxy.mitm.shell"]
