"""The jobs: one <name>.sql each.  This module is their catalogue; run.py submits them, host.py carries a kernel into Flink."""

import re
from pathlib import Path

import schemas

FOLDER = Path(__file__).parent
FLOW = [
    "books",
    "book_depth",
    "book_metrics",
    "bars",
    "venue_clocks",
    "option_greeks",
    "chains",
    "positions",
    "margin",
    "liquidations",
    "archive",
]
"""Every job, each after the jobs whose topics it reads."""
SHOWN = [name for name in FLOW if name not in ("book_depth", "book_metrics", "bars", "venue_clocks", "chains")]
"""What the demonstration plays: the way from books to liquidations.  All at once are too many for two cores in real time."""


def question(name: str) -> str:
    """What a job answers: the first line of its SQL."""
    return text(name).partition("\n")[0].removeprefix(f"-- {name}: ")


def text(name: str) -> str:
    """A job's SQL as it stands in its file.  Raises `KeyError` with the known names for an unknown one."""
    if name not in FLOW:
        raise KeyError(f"no job {name!r}; there are {', '.join(FLOW)}")
    return (FOLDER / f"{name}.sql").read_text()


def statements(name: str, **values: str) -> list[str]:
    """A job's statements, its ${…} from `values` or the environment, repeated for every topic where it says ${TABLE}."""
    sql = text(name)
    if "${TABLE}" not in sql:
        return schemas.statements(schemas.substituted(sql, **values))
    return [
        statement
        for table in schemas.names()
        for statement in schemas.statements(schemas.substituted(sql, TABLE=table, COLUMNS=schemas.columns(table)))
    ]


def sources(name: str) -> list[str]:
    """The tables whose topics a job reads."""
    sql = schemas.without_comments(text(name))
    if "${TABLE}" in sql:
        return schemas.names()
    topics = re.search(r"'topic' = '([^']+)'", sql)
    assert topics is not None, f"jobs/{name}.sql names no topic"
    return [schemas.TABLE_OF[topic] for topic in topics[1].split(";")]


def sinks(name: str) -> list[str]:
    """The tables whose topics a job writes."""
    return list(dict.fromkeys(re.findall(r"INSERT INTO (\w+)_(?:records|rows)\b", text(name))))


def has_kernel(name: str) -> bool:
    """Whether a job has a kernel; one of SQL alone has none."""
    return "VIEW messages" in text(name)


def tells_time(name: str) -> bool:
    """Whether a job writes heartbeats, for those who read its topics together with others."""
    return "'heartbeat')" in text(name)
