"""The one runner: `flink run -pym jobs.run … books option_greeks` submits each named job; books=<path> goes on from there.

A job is `<name>.sql`, its ${…} filled in.  One with a kernel declares a table `inputs` and, from the view `inbox` of it, a view
`messages`; the kernel of the job's name turns those into the view `records`, which the INSERTs write.  What lies between stands
in _inbox.sql, _batches.sql and _records.sql, and in _account_messages.sql for a job that names it.  One of SQL alone finds the
rows of each topic that `inputs` reads under its table's name, and INSERTs into `<table>_rows`.  Where a job says ${TABLE}, it
is meant for every topic.
"""

import os
import re
import sys
from collections.abc import Callable
from functools import cache
from itertools import count

from pyflink.common import Types
from pyflink.datastream import KeyedStream, StreamExecutionEnvironment
from pyflink.java_gateway import get_gateway
from pyflink.table import DataTypes, Schema, StatementSet, StreamTableEnvironment

import jobs
import schemas
from jobs.host import BATCH_TYPE, OUTPUT_TYPE, Host
from schemas.records import TABLES
from schemas.security import sql_options

WINDOW_S = "0.05"
"""A kernel's window of event time in seconds, where neither its job nor -D sets 'gammaflow.window'."""
DELAY_S = "0.1"
"""How far its watermark is behind the newest record in seconds, where neither its job nor -D gammaflow.delay says so."""
DRIFT_S = "10"
"""How far ahead of the slowest partition another is read, in whole seconds of event time, without -D gammaflow.drift."""
MAX_PARALLELISM = 128
"""The number of key groups: pipeline.max-parallelism."""
SETTING = re.compile(r"SET\s+'([^']+)'\s*=\s*'([^']*)'", re.IGNORECASE)


def submit(name: str, savepoint: str) -> None:
    """Submit one job to the cluster that the environment names, without waiting for it to end.

    It goes on from `savepoint`, a path; from nothing where that is empty.
    """
    environment = StreamExecutionEnvironment.get_execution_environment()
    leave_pyflink(environment)
    tables = StreamTableEnvironment.create(environment)
    tables.get_config().set("pipeline.name", name)
    if savepoint:
        tables.get_config().set("execution.state-recovery.path", savepoint)
        if setting(tables, "state.changelog.enabled", "false") == "true":
            # Otherwise every checkpoint would fail: https://issues.apache.org/jira/browse/FLINK-38307
            tables.get_config().set("execution.state-recovery.claim-mode", "CLAIM")
    planned(tables, name).execute()


def planned(tables: StreamTableEnvironment, name: str) -> StatementSet:
    """All that a job does, ready to be executed."""
    _count_operators_anew(tables)
    inserts = tables.create_statement_set()
    for insert in prepared(tables, name, host_kernel):
        inserts.add_insert_sql(insert)
    return inserts


def leave_pyflink(environment: StreamExecutionEnvironment) -> None:
    """Let PyFlink's jar not travel with the next job: 42 MB each time, and the cluster has it in its lib folder."""
    jvm = get_gateway().jvm
    config_of = jvm.org.apache.flink.python.util.PythonConfigUtil.getEnvironmentConfig
    settings = config_of(environment._j_stream_execution_environment)
    option = jvm.org.apache.flink.configuration.PipelineOptions.JARS
    others = [jar for jar in settings.getOptional(option).orElse([]) if "/flink-python-" not in jar]
    settings.removeConfig(option)
    if others:
        environment.add_jars(*others)


def _count_operators_anew(tables: StreamTableEnvironment) -> None:
    """Let the operators of the next statements be numbered from 1, as in a client that has submitted nothing yet.

    Their uids bear these numbers, which the planner counts for as long as its process lives: without this a job has others when
    it is submitted alone than behind another one, and does not find its state.
    """
    # The planner has a class loader of its own.
    loader = tables._j_tenv.getPlanner().getClass().getClassLoader()
    counter = loader.loadClass("org.apache.flink.table.planner.plan.nodes.exec.ExecNodeContext")
    gateway = get_gateway()
    no_types = gateway.new_array(gateway.jvm.java.lang.Class, 0)
    counter.getMethod("resetIdCounter", no_types).invoke(None, gateway.new_array(gateway.jvm.java.lang.Object, 0))


def prepared(tables: StreamTableEnvironment, name: str, take: Callable[[StreamTableEnvironment, str], None]) -> list[str]:
    """Register what a job's INSERTs need, and return these.  `take` is to make something of its view `messages`."""
    register_topics(tables, name)
    inserts: list[str] = []
    for statement in jobs.statements(name, SHARDS=listed(shards())):
        body = schemas.without_comments(statement)
        if body.upper().startswith("INSERT"):
            inserts.append(statement)
            continue
        execute(tables, statement)
        if body.startswith("CREATE TEMPORARY TABLE inputs"):
            register_inputs(tables, name)
        elif body.startswith("CREATE TEMPORARY VIEW messages"):
            take(tables, name)
    return inserts


def register_topics(tables: StreamTableEnvironment, job: str) -> None:
    """Register each topic that a job writes, undecoded and typed; for the archive, which writes none, those that it reads."""
    delay_s = setting(tables, "gammaflow.delay", DELAY_S)
    security = sql_options(job)
    drift_s = setting(tables, "gammaflow.drift", DRIFT_S)
    texts = [schemas.substituted(schemas.ddl("_connectors"), GROUP=job, SECURITY=security, DELAY=delay_s, DRIFT=drift_s)]
    for name in jobs.sinks(job) or jobs.sources(job):
        texts.append(schemas.ddl(name))
    for name in jobs.sinks(job):
        delivery = "exactly-once" if TABLES[name].is_exactly_once else "at-least-once"
        # No two sinks may share a prefix: each ends the transactions that it finds open under its own.
        options = f"'sink.delivery-guarantee' = '{delivery}', 'sink.transactional-id-prefix' = '{job}/{name}'"
        texts.append(
            f"CREATE TEMPORARY TABLE {name}_records WITH ('topic' = '{TABLES[name].topic}', {options}) LIKE kafka_records;"
        )
        # A typed row as SQL writes it: beside its columns the record's key and timestamp.
        texts.append(
            f"CREATE TEMPORARY TABLE {name}_rows (`key` STRING, recorded_at TIMESTAMP_LTZ(3) METADATA FROM 'timestamp') WITH "
            f"('key.format' = 'raw', 'key.fields' = 'key', 'value.fields-include' = 'EXCEPT_KEY', {options}) LIKE {name};"
        )
    for statement in schemas.statements("\n".join(texts)):
        tables.execute_sql(statement)


def register_inputs(tables: StreamTableEnvironment, job: str) -> None:
    """Register what a job has of its `inputs`: the view `inbox` for a kernel, else each topic's rows under its table's name.

    Those are decoded by SQL, not by the connector's JSON format: that one drops heartbeats, and they move the watermark.
    """
    if jobs.has_kernel(job):
        numbers = shards()
        shard = " ".join(f"WHEN {partition} THEN {number}" for partition, number in enumerate(numbers))
        execute_file(tables, "_inbox", TOPIC=topic_of(job), SHARD=f"CASE `partition` {shard} END")
        if "account_messages" in jobs.text(job):
            execute_file(tables, "_account_messages", SHARDS=listed(numbers), WINDOW=window_s(tables))
        return
    for name in jobs.sources(job):
        where = f"topic = '{TABLES[name].topic}' AND `value` IS NOT NULL"
        tables.execute_sql(
            f"CREATE TEMPORARY VIEW {name} AS SELECT {schemas.decoded(name)}, inputs.* FROM inputs WHERE {where}"
        )


def host_kernel(tables: StreamTableEnvironment, name: str) -> None:
    """Turn the view `messages` into the view `records` by `kernels.<name>`."""
    register_batches(tables, name)
    conflated = tuple(table for table in setting(tables, "gammaflow.conflate", "").split(",") if table)
    if unknown := set(conflated) - set(jobs.sinks(name)):
        raise SystemExit(f"gammaflow.conflate: {name} writes {', '.join(jobs.sinks(name))}, not {', '.join(sorted(unknown))}")
    outputs = (
        keyed_batches(tables)
        .process(Host(name, shards(), jobs.tells_time(name), tuple(jobs.sinks(name)), conflated), output_type=OUTPUT_TYPE)
        .uid(f"{name}/kernel")
        .name(f"kernels.{name}")
    )
    # As texts, from their bytes: a cast would decode each and encode it anew.
    text = DataTypes.STRING().bridged_to("[B")
    schema = Schema.new_builder().column("table", DataTypes.STRING()).column("heads", text).column("values", text).build()
    tables.create_temporary_view("outputs", tables.from_data_stream(outputs, schema))
    execute_file(tables, "_records")


def register_batches(tables: StreamTableEnvironment, name: str) -> None:
    """Register the view `batches` of a job's view `messages`."""
    every_s = window_s(tables)
    execute_file(tables, "_batches", WINDOW=every_s, WINDOW_MS=str(round(float(every_s) * 1000)))


def window_s(tables: StreamTableEnvironment) -> str:
    """How much event time a batch spans, in seconds."""
    return setting(tables, "gammaflow.window", WINDOW_S)


def setting(tables: StreamTableEnvironment, key: str, default: str) -> str:
    """What a job has SET, else what it was submitted with by -D; the Python side of the tables knows the first alone."""
    option = get_gateway().jvm.org.apache.flink.configuration.ConfigOptions.key(key).stringType().defaultValue(default)
    return str(tables._j_tenv.getConfig().get(option))


def execute_file(tables: StreamTableEnvironment, name: str, **values: str) -> None:
    """Execute the statements of one of this folder's SQL files, with these ${NAME}s."""
    for statement in schemas.statements(schemas.substituted((jobs.FOLDER / f"{name}.sql").read_text(), **values)):
        execute(tables, statement)


def execute(tables: StreamTableEnvironment, statement: str) -> None:
    """Execute one statement; SET too, which PyFlink leaves to its callers."""
    if found := SETTING.match(schemas.without_comments(statement)):
        tables.get_config().set(found[1], found[2])
    else:
        tables.execute_sql(statement)


def topic_of(job: str) -> str:
    """The topic that a record came from, in SQL: a job that reads only one need not be told by each record."""
    topics = [TABLES[table].topic for table in jobs.sources(job)]
    return f"'{topics[0]}'" if len(topics) == 1 else "topic"


@cache
def shards() -> list[int]:
    """The number of the shard of each partition of our topics, of which GAMMAFLOW_PARTITIONS says how many there are.

    Numbers so chosen that the shards stand in even ranks over the key groups, both where SQL hashes them and where DataStream
    does: any parallelism that divides the number of partitions gives each task as many.  They are part of the state.
    """
    told = os.environ.get("GAMMAFLOW_PARTITIONS", "")
    if not told.isdecimal() or not int(told):
        raise SystemExit(f"GAMMAFLOW_PARTITIONS: expected how many partitions each topic has, got {told!r}")
    partitions = int(told)
    jvm = get_gateway().jvm
    assign = jvm.org.apache.flink.runtime.state.KeyGroupRangeAssignment.assignKeyToParallelOperator
    sql_row = jvm.org.apache.flink.table.data.binary.BinaryRowData(1)
    writer = jvm.org.apache.flink.table.data.writer.BinaryRowWriter(sql_row)
    row = jvm.org.apache.flink.types.Row(1)
    numbers: dict[int, int] = {}
    for number in count():
        if len(numbers) == partitions:
            return [numbers[place] for place in range(partitions)]
        writer.reset()
        writer.writeInt(0, number)
        writer.complete()
        row.setField(0, number)
        place = assign(row, MAX_PARALLELISM, partitions)
        if place not in numbers and assign(sql_row, MAX_PARALLELISM, partitions) == place:
            numbers[place] = number
    raise AssertionError("unreachable")


def listed(numbers: list[int]) -> str:
    """Numbers as SQL lists them."""
    return ", ".join(map(str, numbers))


def keyed_batches(tables: StreamTableEnvironment) -> KeyedStream:
    """The view `batches` keyed by shard.

    `DataStream.key_by` would send every batch through Python once more, only to take its first column; the Java selector that
    it ends in does that by itself, given rows of (key, value).
    """
    query = tables.sql_query("SELECT shard, ROW(shard, until_ms, is_late, messages) FROM batches")
    stream = tables.to_append_stream(query, Types.ROW([Types.INT(), BATCH_TYPE]))
    selector = get_gateway().jvm.org.apache.flink.streaming.api.functions.python.KeyByKeySelector()
    keyed = stream._j_data_stream.keyBy(selector, Types.ROW([Types.INT()]).get_java_type_info())
    return KeyedStream(keyed, BATCH_TYPE, stream)


if __name__ == "__main__":
    # Who only describes Python operators does without Beam, which PyFlink looks for and which takes seconds to import.
    sys.modules["apache_beam"] = None  # type: ignore[assignment]
    for argument in sys.argv[1:]:
        job, _, path = argument.partition("=")
        submit(job, path)
