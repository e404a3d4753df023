"""Which packages may import each other, and how long modules and functions may be."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy import cluster

MAY_IMPORT = {
    "schemas": set(),
    "udfs": {"schemas"},
    "jobs": {"schemas"},
    "engine": {"schemas", "udfs", "jobs"},
    "kernels": {"schemas", "udfs", "engine"},
}
"""The imports of the lower packages; feeds, deploy, cli, page, drills and bench are above them."""
MODULE_LINES, FUNCTION_LINES, COMPILED_LINES = 450, 80, 120
LONGER = {
    "kernels/books.py": "the rules of a book's sequence, of its channels and of its venue",
    "kernels/plain_updates.py": "one compiled loop over the bytes of a batch",
    "kernels/ladders.py": "arrays and their compiled search, which share every constant",
}
"""Modules that are longer, or have a longer function, with the reason."""
OWN = {*MAY_IMPORT, "feeds", "deploy", "cli", "drills", "bench", "page", "tests"}


def modules(package: str) -> Iterator[tuple[str, ast.Module]]:
    for path in sorted((cluster.ROOT / package).rglob("*.py")):
        yield path.relative_to(cluster.ROOT).as_posix(), ast.parse(path.read_text())


def imported(tree: ast.Module) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "no relative import"
            names.add(str(node.module))
    return {name.partition(".")[0] for name in names}


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_packages_import_in_one_direction(package: str) -> None:
    for path, tree in modules(package):
        assert imported(tree) & OWN <= MAY_IMPORT[package] | {package}, path


def test_there_are_no_circles_among_packages() -> None:
    left = dict(MAY_IMPORT)
    while left:
        free = [package for package, imports in left.items() if not imports & left.keys()]
        assert free, left
        for package in free:
            del left[package]


def too_long(path: str, tree: ast.Module) -> list[str]:
    lines = len((cluster.ROOT / path).read_text().splitlines())
    long = [f"{path} has {lines} lines"] if lines > MODULE_LINES else []
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            is_compiled = any("compiled" in ast.unparse(decorator) for decorator in node.decorator_list)
            own = (node.end_lineno or node.lineno) - node.lineno + 1
            if own > (COMPILED_LINES if is_compiled else FUNCTION_LINES):
                long.append(f"{path}: {node.name} has {own} lines")
    return long


def test_modules_and_functions_are_short_but_for_a_few_with_a_reason() -> None:
    long = {
        path: long
        for package in ("engine", "kernels", "udfs")
        for path, tree in modules(package)
        if (long := too_long(path, tree))
    }
    assert sorted(long) == sorted(LONGER), "what is too long, and what is listed"
    assert len(LONGER) <= 5


def test_every_kernel_of_a_job_is_declared() -> None:
    import jobs
    from engine.contract import kernel

    for name in jobs.FLOW:
        declared = jobs.job(name).kernel
        if declared is not None:
            assert kernel(declared).name == declared
            path = Path(cluster.ROOT / "kernels" / declared)
            assert path.is_dir() or path.with_suffix(".py").exists()
