"""The topics: one .sql file each, read and registered by this module alone."""

import os
import re
from pathlib import Path

from schemas.records import TABLES

FOLDER = Path(__file__).parent
RETIRED = {"index_prices.v1": "index_prices"}
"""Topics of earlier versions, into which no feed writes rows any more.  A job that restores an old savepoint still reads them,
so feeds write heartbeats into them as long as they exist."""
READ_AS = {
    "algorithm_requests": "order_requests",
    "fund_fills": "fills",
    "fund_transfers": "transfers",
    "hedge_requests": "order_requests",
    "venue_fills": "fills",
    "venue_order_books": "order_books",
    "venue_reports": "execution_reports",
    "venue_tickers": "tickers",
    "venue_trades": "trades",
}
"""Tables of jobs, each with the table of feeds that has its columns: kernels take its rows for rows of that table."""
TOLD_AHEAD = frozenset(READ_AS)
"""Tables in which jobs tell the time ahead; who tells the first time of all tells it in them, too."""
AHEAD_MS = 100
"""How far ahead at least: the latency of each such job is a multiple of it, and it is one of each window in their loop."""
FOR_PEOPLE = frozenset({"feed_status", "gateway_sessions"})
"""Tables that `gammaflow status` reads and no job: they have no heartbeats, and the archive leaves them out."""
TABLE_OF = {table.topic: name for name, table in TABLES.items()} | RETIRED
"""The table of each topic."""


def names() -> list[str]:
    """Every table, in alphabetical order."""
    return sorted(path.stem for path in FOLDER.glob("*.sql") if not path.stem.startswith("_"))


def kept() -> list[str]:
    """The tables that the archive keeps, in alphabetical order: all but those for people."""
    return [name for name in names() if name not in FOR_PEOPLE]


def ddl(name: str) -> str:
    """The text of one schema file, with its ${…}."""
    return (FOLDER / f"{name}.sql").read_text()


def substituted(text: str, **values: str) -> str:
    """`text` with every ${NAME} replaced from `values`, or else from the environment variable GAMMAFLOW_NAME.

    Raises `KeyError` with the variable that has no value.
    """

    def value(match: re.Match[str]) -> str:
        name = match[1]
        if name in values:
            return values[name]
        return os.environ[f"GAMMAFLOW_{name}"]

    return re.sub(r"\$\{(\w+)\}", value, text)


def statements(text: str) -> list[str]:
    """The statements of an SQL text, split at each semicolon that ends a line, except in comments."""
    whole: list[str] = []
    lines: list[str] = []
    for line in text.splitlines():
        code = re.sub(r";[ \t]*(?:--.*)?$", "", line)
        is_end = code != line and not line.lstrip().startswith("--")
        lines.append(code if is_end else line)
        if is_end:
            whole.append("\n".join(lines).strip())
            lines = []
    whole.append("\n".join(lines).strip())
    return [statement for statement in whole if statement]


def setting(statement: str) -> tuple[str, str] | None:
    """Key and value of a statement SET 'key' = 'value'; None for any other."""
    match = re.fullmatch(r"SET\s+'([^']+)'\s*=\s*'([^']*)'", without_comments(statement), re.IGNORECASE)
    return (match[1], match[2]) if match else None


def columns(name: str) -> str:
    """A table's columns as a list for SQL."""
    return ", ".join(f"`{column}`" for column in TABLES[name].columns)


def decoded(name: str) -> str:
    """A table's columns, from the JSON text `value`, as a list for SQL.

    Columns that `inputs` has itself are left out.  A value of another type becomes NULL; levels stay JSON text.
    """
    return ", ".join(
        f"{_decoded(column, spec.sql_type)} AS `{column}`"
        for column, spec in TABLES[name].columns.items()
        if column != "event_at"
    )


def encoded(name: str) -> str:
    """A table's columns as one JSON text, for SQL: what `decoded` reads, as the connector's JSON format writes it."""
    pairs = (f"KEY '{column}' VALUE {_encoded(column, spec.sql_type)}" for column, spec in TABLES[name].columns.items())
    return f"JSON_OBJECT({', '.join(pairs)})"


def _encoded(column: str, sql_type: str) -> str:
    if sql_type.startswith("ARRAY"):
        raise ValueError(f"{column}: no {sql_type} can be written by SQL")
    if not sql_type.startswith("TIMESTAMP_LTZ"):
        return f"`{column}`"
    # The JSON format writes an instant without trailing zeros.
    text = f"TRIM(TRAILING '.' FROM TRIM(TRAILING '0' FROM CAST(`{column}` AS STRING)))"
    return f"REPLACE({text}, ' ', 'T') || 'Z'"


def _decoded(column: str, sql_type: str) -> str:
    if sql_type.startswith("ARRAY"):
        return f"JSON_QUERY(`value`, '$.{column}')"
    text = f"JSON_VALUE(`value`, '$.{column}')"
    if sql_type.startswith("TIMESTAMP_LTZ"):
        text = f"REPLACE(REPLACE({text}, 'T', ' '), 'Z', '')"  # as CAST reads it
    return text if sql_type == "STRING" else f"TRY_CAST({text} AS {sql_type})"


def without_comments(statement: str) -> str:
    """A statement without its comment lines."""
    return "\n".join(line for line in statement.splitlines() if not line.lstrip().startswith("--")).strip()
