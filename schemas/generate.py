"""Write `records.py` from the DDL, or with --check say whether it is stale.

Flink itself parses the DDL (DESCRIBE), so the columns are those that a job sees.  The topic, its key and whether it is
compacted are in the first line of each file; whether it is exactly-once is among the options.
"""

import re
import sys
from pathlib import Path

from pyflink.table import EnvironmentSettings, TableEnvironment

import schemas

TARGET = Path(__file__).with_name("records.py")
HEADER = re.compile(r"-- Topic (?P<topic>[\w.]+), keyed by (?P<key>[\w:]+)\.  (?P<cleanup>Compacted|Append-only)")
DELIVERY = "'sink.delivery-guarantee' = 'exactly-once'"
LEFT_OUT = {"block_height", "lot_size"}
"""Columns that a row may leave out: most venues have no value for them, and each field costs readers time."""
LEFT_OUT_OF = {
    "order_requests": {
        *("is_mmp", "after_s", "underlying", "window_s", "frozen_s", "max_fills", "max_quantity", "max_delta"),
    },
}
"""Likewise by table: what few requests have."""
PYTHON_TYPES = {
    "STRING": "str",
    "BYTES": "str",
    "BOOLEAN": "bool",
    "INT": "int",
    "BIGINT": "int",
    "DOUBLE": "float",
    "ARRAY<ARRAY<DOUBLE>>": "list[list[float]]",
}


def python_type(sql_type: str) -> str:
    """The type of a column's value in JSON: instants are ISO-8601 text in UTC, decimals text, bytes Base64."""
    if sql_type.startswith(("TIMESTAMP_LTZ", "DECIMAL")):
        return "str"
    return PYTHON_TYPES[sql_type]


def render() -> str:
    """The text of an up-to-date `records.py`."""
    tables = TableEnvironment.create(EnvironmentSettings.in_streaming_mode())
    values = {"KAFKA": "", "SECURITY": "", "GROUP": "", "FEED_TOPICS": "''", "DELAY": "0", "DRIFT": "0"}
    connectors = schemas.substituted(schemas.ddl("_connectors"), **values)
    for statement in schemas.statements(connectors):
        tables.execute_sql(statement)
    lines = [
        '"""The rows of every topic as they stand in JSON.  Made by `make records` from schemas/*.sql: do not edit."""',
        "",
        "from typing import NamedTuple, NotRequired, TypedDict",
        "",
        "",
        "class Column(NamedTuple):",
        "    sql_type: str",
        "    nullable: bool",
        "",
        "",
        "class Table(NamedTuple):",
        "    topic: str",
        "    key: tuple[str, ...]  # columns, joined by a colon",
        "    is_compacted: bool",
        "    is_exactly_once: bool  # no record of it shows twice to those who read what is committed",
        "    columns: dict[str, Column]",
    ]
    entries: list[str] = []
    for name in schemas.names():
        text = schemas.ddl(name)
        header = HEADER.match(text)
        if header is None or f"'topic' = '{header['topic']}'" not in text:
            raise SystemExit(f"schemas/{name}.sql: the first line must match {HEADER.pattern} and name the DDL's topic")
        for statement in schemas.statements(text):
            tables.execute_sql(statement)
        camel = "".join(part.title() for part in name.split("_"))
        lines += ["", "", f"class {camel}Row(TypedDict):"]
        columns: list[str] = []
        left_out = LEFT_OUT | LEFT_OUT_OF.get(name, set())
        for column, sql_type, nullable, *_ in tables.execute_sql(f"DESCRIBE {name}").collect():
            sql_type = re.sub(r" \*.*", "", sql_type)
            value_type = f"{python_type(sql_type)}{' | None' if nullable else ''}"
            lines.append(f"    {column}: {f'NotRequired[{value_type}]' if column in left_out else value_type}")
            columns.append(f'            "{column}": Column("{sql_type}", {bool(nullable)}),')
        key = tuple(header["key"].split(":"))
        entries += [
            f'    "{name}": Table(',
            f'        "{header["topic"]}",',
            f"        {key!r},".replace("'", '"'),
            f"        {header['cleanup'] == 'Compacted'},",
            f"        {DELIVERY in text},",
            "        {",
            *columns,
            "        },",
            "    ),",
        ]
    lines += ["", "", "TABLES: dict[str, Table] = {", *entries, "}"]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    text = render()
    if "--check" in sys.argv:
        if TARGET.read_text() != text:
            raise SystemExit("schemas/records.py is stale: run `make records`")
    else:
        TARGET.write_text(text)
