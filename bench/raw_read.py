"""Submits raw_read.sql: `flink run -py bench/raw_read.py`, with the suite's own code in -pyfs."""

from pathlib import Path

from pyflink.table import EnvironmentSettings, TableEnvironment

import schemas

NAME = "raw_read"


def main() -> None:
    """Submit the job, without waiting for it to end."""
    tables = TableEnvironment.create(EnvironmentSettings.in_streaming_mode())
    tables.get_config().set("pipeline.name", NAME)
    connectors = schemas.substituted(schemas.ddl("_connectors"), GROUP=NAME)
    for statement in schemas.statements(connectors + "\n" + Path(__file__).with_suffix(".sql").read_text()):
        tables.execute_sql(statement)


if __name__ == "__main__":
    main()
