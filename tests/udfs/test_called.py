"""What is tested is what runs: nothing public in udfs/ is there for unit tests alone."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PRODUCT = ("bench", "cli", "deploy", "drills", "engine", "feeds", "jobs", "kernels", "page")
PUBLISHED = ("tests/truth",)
"""Published cases with known answers: a formula that answers them is offered to users, whether or not a job calls it."""


def modules() -> dict[str, ast.Module]:
    return {file.stem: ast.parse(file.read_text(encoding="utf-8")) for file in sorted((ROOT / "udfs").glob("*.py"))}


def definitions(tree: ast.Module) -> Iterator[tuple[str, ast.stmt]]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name, node
        elif isinstance(node, ast.Assign):
            yield from ((target.id, node) for target in node.targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id, node


def references(node: ast.AST, imported: dict[str, tuple[str, str]], own: str | None = None) -> set[tuple[str, str]]:
    """The (module, name) of udfs/ that code refers to, given what the names of its file stand for."""
    result = set()
    for part in ast.walk(node):
        if isinstance(part, ast.Attribute) and isinstance(part.value, ast.Name) and part.value.id in imported:
            result.add((imported[part.value.id][0] or imported[part.value.id][1], part.attr))
        elif isinstance(part, ast.Name):
            result.add(imported.get(part.id) or (own or "", part.id))
    return result


def imports(tree: ast.Module) -> dict[str, tuple[str, str]]:
    """For each imported name what it stands for: a module of udfs/ as ("", module), else (module, name)."""
    result: dict[str, tuple[str, str]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "udfs":
            result |= {alias.asname or alias.name: ("", alias.name) for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("udfs."):
            result |= {alias.asname or alias.name: (node.module[5:], alias.name) for alias in node.names}
    return result


def called() -> set[tuple[str, str]]:
    """All of udfs/ that the product reaches: what it refers to, what that refers to, and so on."""
    files = [
        file for folder in (*PRODUCT, *PUBLISHED) for file in (ROOT / folder).rglob("*.py") if "site-packages" not in file.parts
    ]
    trees = [ast.parse(file.read_text(encoding="utf-8")) for file in files]
    reached = set().union(*(references(tree, imports(tree)) for tree in trees))
    sql = "\n".join(file.read_text(encoding="utf-8") for folder in ("jobs", "engine") for file in (ROOT / folder).glob("*.sql"))
    uses: dict[tuple[str, str], set[tuple[str, str]]] = {}
    for module, tree in modules().items():
        known = imports(tree)
        for name, node in definitions(tree):
            uses[module, name] = uses.get((module, name), set()) | references(node, known, own=module)
            if f"'udfs.{module}.{name}'" in sql:
                reached.add((module, name))
    while new := set().union(*(uses.get(item, set()) for item in reached)) - reached:
        reached |= new
    return reached


def test_every_public_formula_is_called_by_the_product_or_answers_published_cases() -> None:
    public = {
        (module, name)
        for module, tree in modules().items()
        for name, node in definitions(tree)
        if isinstance(node, ast.FunctionDef) and not name.startswith("_")
    }
    assert len(public) > 40
    assert public - called() == set()
