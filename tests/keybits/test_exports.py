"""What each module of keybits offers is listed, in order, and nobody reaches for anything else."""

from __future__ import annotations

import ast
import inspect
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from types import ModuleType
from typing import Any

import pytest

import keybits

pytestmark = pytest.mark.stack("embedded")  # neither database nor store

CHECKOUT = Path(__file__).resolve().parents[2]
SKIPPED = ("keybits.apps", "keybits.management", "keybits.migrations")
"""Django looks for what it needs in these."""
MODULES = sorted(
    found.name for found in walk_packages(keybits.__path__, "keybits.") if not found.name.startswith(SKIPPED)
)
each = pytest.mark.parametrize("name", MODULES)


def members(module: ModuleType) -> list[str]:
    return list(module.__all__)


def rank(name: str) -> tuple[int, str]:
    """Constants, then classes, then the rest, each by name: what ruff calls isort's order."""
    kind = 0 if name.isupper() else 1 if name[:1].isupper() else 2
    return kind, name


def is_its_own(module: ModuleType, found: Any) -> bool:
    return (inspect.isfunction(found) or inspect.isclass(found)) and found.__module__ == module.__name__


def reached_for(source: str) -> set[tuple[str, str]]:
    """Return (module, name) for every name that this source takes from a module of keybits."""
    tree = ast.parse(source)
    imported = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module]
    taken = {(str(node.module), alias.name) for node in imported for alias in node.names}
    modules = {
        alias.asname or alias.name: f"{node.module}.{alias.name}"
        for node in imported
        for alias in node.names
        if f"{node.module}.{alias.name}" in MODULES
    }
    used = {
        (modules[node.value.id], node.attr)
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules
    }
    dotted = {
        tuple(node.value.rsplit(".", 1))
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and node.value.startswith("keybits.")
    }
    return {(module, name) for module, name in (*taken, *used, *dotted) if module in MODULES}


@each
def test_all_is_sorted_and_lists_nothing_twice(name: str) -> None:
    listed = members(import_module(name))
    assert listed == sorted(set(listed), key=rank)


@each
def test_all_lists_what_is_there(name: str) -> None:
    module = import_module(name)
    assert [
        member for member in members(module) if not hasattr(module, member) or member.startswith("_")
    ] == []


@each
def test_every_function_and_class_is_listed_or_has_an_underscore(name: str) -> None:
    module = import_module(name)
    own = {member for member, found in vars(module).items() if is_its_own(module, found)}
    unlisted = own - set(members(module))
    assert sorted(member for member in unlisted if not member.startswith("_")) == []


@pytest.mark.parametrize("package", ["keybits", "catalog", "gallery_api"])
def test_nobody_reaches_for_what_is_not_listed(package: str) -> None:
    sources = [path.read_text("utf-8") for path in (CHECKOUT / package).rglob("*.py")]
    taken = {found for source in sources for found in reached_for(source)}
    assert sorted(f"{module}.{name}" for module, name in taken if not is_offered(module, name)) == []


def is_offered(module: str, name: str) -> bool:
    return f"{module}.{name}" in MODULES or name in members(import_module(module))
