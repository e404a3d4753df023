"""The topics: one .sql file each, read and registered by this module alone."""

import os
import re
from pathlib import Path

from schemas.records import TABLES

FOLDER = Path(__file__).parent
TABLE_OF = {table.topic: name for name, table in TABLES.items()}
"""The table of each topic."""


def names() -> list[str]:
    """Every table, in alphabetical order."""
    return sorted(path.stem for path in FOLDER.glob("*.sql") if not path.stem.startswith("_"))


def ddl(name: str) -> str:
    """The text of one schema file, its ${…} still open."""
    return (FOLDER / f"{name}.sql").read_text()


def substituted(text: str, **values: str) -> str:
    """`text` with every ${NAME} replaced from `values`, else from the environment as GAMMAFLOW_NAME.

    Raises `KeyError` naming the variable that has no value.
    """

    def value(match: re.Match[str]) -> str:
        name = match[1]
        if name in values:
            return values[name]
        return os.environ[f"GAMMAFLOW_{name}"]

    return re.sub(r"\$\{(\w+)\}", value, text)


def statements(text: str) -> list[str]:
    """The statements of an SQL text, split at each semicolon that ends a line."""
    return [part.strip() for part in re.split(r";[ \t]*(?:--[^\n]*)?(?:\n|$)", text) if part.strip()]


def columns(name: str) -> str:
    """A table's columns as a list for SQL."""
    return ", ".join(f"`{column}`" for column in TABLES[name].columns)


def without_comments(statement: str) -> str:
    """A statement without its comment lines."""
    return "\n".join(line for line in statement.splitlines() if not line.lstrip().startswith("--")).strip()
