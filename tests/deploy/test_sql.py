"""The script of a job of SQL alone: all statements of the runner, planned by Flink, in one text."""

import os
import subprocess
import sys

import pytest

import schemas
from deploy import cluster, sql


def test_it_says_all_that_the_runner_does_with_nothing_left_to_fill_in() -> None:
    env = {**os.environ, "GAMMAFLOW_KAFKA": "broker.example:9092", "GAMMAFLOW_PARTITIONS": "4"}
    command = [sys.executable, "-m", "deploy.java", "deploy.sql", "bars"]
    text = subprocess.run(command, env=env, cwd=cluster.ROOT, stdout=subprocess.PIPE, text=True, timeout=180, check=True).stdout
    before, _, inserts = text.partition("EXECUTE STATEMENT SET BEGIN\n")
    statements = [schemas.without_comments(statement) for statement in schemas.statements(before)]
    assert statements[0] == "SET 'pipeline.name' = 'bars'"
    assert all(statement.startswith(("SET ", "CREATE TEMPORARY ")) for statement in statements)
    made = [statement.split()[3] for statement in statements if statement.startswith("CREATE")]
    assert made.index("kafka") < made.index("bars") < made.index("trades") < made.index("intervals") < made.index("bars_rows")
    assert made.index("bars_rows") < made.index("heartbeats") < made.index("records")
    assert "'properties.bootstrap.servers' = 'broker.example:9092'" in before
    assert "${" not in text
    assert inserts.strip() == (
        "INSERT INTO bars_records (`key`, event_at, `value`)\nSELECT `key`, event_at, `value` FROM records;\nEND;"
    )


def test_a_job_with_a_kernel_has_none() -> None:
    with pytest.raises(
        ValueError, match=r"job books has a kernel.*of SQL alone are bars, book_metrics, oracle_faults, venue_clocks, archive"
    ):
        sql.script("books")
    with pytest.raises(KeyError, match=r"no job 'barz'"):
        sql.script("barz")
