"""Submits the books job up to one of its stages, and drops the rows: `flink run -py bench/stage.py <stage> <copies>`.

    raw_read  the bytes, read                              (raw_read.sql)
    inbox     each record with its shard and its message   (engine/_inbox.sql)
    batches   the batches, as the kernel gets them         (engine/_batches.sql)

`copies` is how many times the topic is read at once: a single read is too short to be measured.  -pyfs has the suite's code.
"""

import sys
from pathlib import Path

from pyflink.datastream import StreamExecutionEnvironment
from pyflink.table import StreamTableEnvironment

import jobs
import schemas
from engine import run

COLUMNS = {
    "inbox": "shard INT, event_at TIMESTAMP_LTZ(3), is_late BOOLEAN, message STRING",
    "batches": "shard INT, until_ms BIGINT, is_late BOOLEAN, messages BYTES",
}


def main(name: str, copies: int) -> None:
    """Submit a stage, without waiting for it to end."""
    tables = StreamTableEnvironment.create(StreamExecutionEnvironment.get_execution_environment())
    tables.get_config().set("pipeline.name", name)
    # Otherwise the copies would share one source.
    for reuse in ("source", "sub-plan"):
        tables.get_config().set(f"table.optimizer.reuse-{reuse}-enabled", "false")
    if name == "raw_read":
        texts = schemas.ddl("_connectors") + "\n" + Path(__file__).with_name("raw_read.sql").read_text()
        reads = " UNION ALL ".join(["SELECT `value` FROM inputs"] * copies)
        texts = schemas.substituted(texts, GROUP=name, SECURITY="", FEED_TOPICS="''", DELAY="0", DRIFT="10", COPIES=reads)
        for statement in schemas.statements(texts):
            tables.execute_sql(statement)
        return
    run.register_members(tables, "books", [jobs.job("books")])
    tables.use_database("books")
    tables.execute_sql(f"CREATE TEMPORARY TABLE dropped ({COLUMNS[name]}) WITH ('connector' = 'blackhole')")
    view = "messages" if name == "inbox" else name
    columns = ", ".join(column.split()[0] for column in COLUMNS[name].split(", "))
    tables.execute_sql(f"INSERT INTO dropped {' UNION ALL '.join([f'SELECT {columns} FROM {view}'] * copies)}")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
