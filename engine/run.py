"""The one runner: `flink run -pym engine.run … books option_greeks` submits each named job; books=<path> restores a savepoint.

A job is jobs/<name>.sql, with its ${…} filled in, and what it declares (jobs/__init__.py).

A job with a kernel needs only its declaration.  The runner registers the table `inputs` of all topics that it reads, and on it
the views `inbox` (_inbox.sql), `messages` and `batches` (_batches.sql).  `messages` says which shards get a record: a job may
define it itself; _broadcast.sql does if a table is broadcast.  The host (host.py) runs the kernel, its rows are the view
`records` (_records.sql), and each table that the job writes has an INSERT that takes its rows from there.

A job of SQL alone defines `inputs` itself, and reads the rows of each topic under the table's name.  It INSERTs into
`<table>_rows`.  If it tells time in a table, it defines `<table>_rows` as a view, and the runner writes these rows in order
with heartbeats (_heartbeats.sql).

A group, chains+option_greeks, is one Flink job, and a single job is a group of one.  The kernels of a group share one source,
of all topics that they read, and one host, in which each has its own shards.  Jobs of SQL alone keep their own sources.  The
views of each job are in a database with the job's name.
"""

import os
import sys
from collections.abc import Iterable
from functools import cache
from itertools import chain, count
from pathlib import Path

from pyflink.common import Types
from pyflink.datastream import KeyedStream, StreamExecutionEnvironment
from pyflink.java_gateway import get_gateway
from pyflink.table import DataTypes, Schema, StatementSet, StreamTableEnvironment

import jobs
import schemas
from engine.controls import LIVE, RECORDED, Source
from engine.host import BATCH_TYPE, OUTPUT_TYPE, Host, Member, heartbeat_keys
from jobs import Job
from schemas import security
from schemas.records import TABLES
from schemas.security import sql_options

DELAY_S = "0.1"
"""How long, in seconds, a job waits for records that are out of order in topics of feeds, if neither -D nor its job sets
'gammaflow.delay'."""
DRIFT_S = "10"
"""How far ahead of the slowest partition the others are read, in whole seconds of event time, without -D gammaflow.drift."""
PACE = ("execution.buffer-timeout.interval", "pipeline.auto-watermark-interval")
"""How often each task flushes its output, and each source advances its watermark."""
FOLDER = Path(__file__).parent
MAX_PARALLELISM = 128
"""The number of key groups: pipeline.max-parallelism."""


def submit(name: str, savepoint: str) -> None:
    """Submit one job to the cluster that the environment names, without waiting for it to end.

    It restores the savepoint at the path `savepoint`, unless that is empty.
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
    """Everything that a job or a group does, ready to be executed."""
    _count_operators_anew(tables)
    inserts = tables.create_statement_set()
    job = jobs.job(name).reading(also_read(tables))
    members = job.members or (job,)
    keep_pace(tables, members)
    if hosted := [member for member in members if member.kernel is not None]:
        for insert in hosted_inserts(tables, name, hosted):
            inserts.add_insert_sql(insert)
    home = tables.get_current_database()
    for member in members:
        if member.kernel is None:
            if job.members:
                use_database(tables, member.name)
            for insert in sql_inserts(tables, name, member):
                inserts.add_insert_sql(insert)
    tables.use_database(home)
    return inserts


def also_read(tables: StreamTableEnvironment) -> list[str]:
    """The tables of 'gammaflow.also-read', which those jobs read that may."""
    named = [table.strip() for table in setting(tables, jobs.ALSO_READ, "").split(",") if table.strip()]
    allowed = sorted({table for name in jobs.FLOW for table in jobs.job(name).may_read})
    if unknown := sorted(set(named) - set(allowed)):
        raise SystemExit(f"{jobs.ALSO_READ}: expected some of {', '.join(allowed)}, got {', '.join(unknown)}")
    return named


def hosted_inserts(tables: StreamTableEnvironment, group: str, hosted: list[Job]) -> list[str]:
    """Register what the INSERTs of jobs with kernels need, and return these INSERTs.  `group` is the name of them all."""
    members = register_members(tables, group, hosted)
    host(tables, group, members, [f"{job.name}.batches" for job in hosted])
    heartbeats = {table: member.heartbeat for job, member in zip(hosted, members, strict=True) for table in job.tells_time}
    return [insert_of(table, heartbeats.get(table)) for table in _union(job.writes for job in hosted)]


def register_members(tables: StreamTableEnvironment, group: str, hosted: list[Job]) -> list[Member]:
    """Register one source for these jobs and, in a database of each, all its views from `inputs` to `batches`."""
    home = tables.get_current_database()
    statements = [job.statements(SHARDS=listed(shards(number))) for number, job in enumerate(hosted)]
    window = setting(tables, jobs.WINDOW, "")
    # Before the topics, which depend on settings.
    configure(tables, chain.from_iterable(statements))
    register_topics(tables, group, _union(job.writes for job in hosted), hosted)
    topics = _union(job.topics for job in hosted)
    tables.execute_sql(f"CREATE TEMPORARY TABLE inputs WITH ('topic' = '{';'.join(topics)}') LIKE kafka_records")
    members = []
    for number, (job, texts) in enumerate(zip(hosted, statements, strict=True)):
        use_database(tables, job.name)
        # Each job has a window of its own, unless -D sets one for all.
        tables.get_config().set(jobs.WINDOW, window or jobs.settings(job).get(jobs.WINDOW, jobs.WINDOW_S))
        condition = "" if job.topics == topics else f" WHERE topic IN ({quoted(job.topics)})"
        tables.execute_sql(f"CREATE TEMPORARY VIEW inputs AS SELECT * FROM {home}.inputs{condition}")
        # The source need not read the name of a topic that is the only one.
        register_shards(tables, job, "topic" if len(topics) > 1 else quoted(topics), shards(number))
        for statement in texts:
            if schemas.setting(statement) is None:
                tables.execute_sql(statement)
        if not job.has_own_messages:
            register_messages(tables, job, shards(number))
        register_batches(tables)
        members.append(member_of(tables, job, shards(number), group))
    tables.use_database(home)
    return members


def _union(lists: Iterable[list[str]]) -> list[str]:
    return list(dict.fromkeys(chain.from_iterable(lists)))


def use_database(tables: StreamTableEnvironment, name: str) -> None:
    """Create a database, in which everything is registered from now on."""
    tables.execute_sql(f"CREATE DATABASE `{name}`")
    tables.use_database(name)


def leave_pyflink(environment: StreamExecutionEnvironment) -> None:
    """Do not upload PyFlink's jar with the next job: it has 42 MB, and the cluster has it in its lib folder."""
    jvm = get_gateway().jvm
    config_of = jvm.org.apache.flink.python.util.PythonConfigUtil.getEnvironmentConfig
    settings = config_of(environment._j_stream_execution_environment)
    option = jvm.org.apache.flink.configuration.PipelineOptions.JARS
    needed = [jar for jar in settings.getOptional(option).orElse([]) if "/flink-python-" not in jar]
    settings.removeConfig(option)
    if needed:
        environment.add_jars(*needed)


def _count_operators_anew(tables: StreamTableEnvironment) -> None:
    """Number the operators of the next statements from 1, as in a client that has submitted nothing yet.

    These numbers are part of the uids, and the planner goes on counting while its process lives.  Without this, a job that is
    submitted after another one has other uids than alone, and does not find its state.
    """
    # The planner has a class loader of its own.
    loader = tables._j_tenv.getPlanner().getClass().getClassLoader()
    counter = loader.loadClass("org.apache.flink.table.planner.plan.nodes.exec.ExecNodeContext")
    gateway = get_gateway()
    no_types = gateway.new_array(gateway.jvm.java.lang.Class, 0)
    counter.getMethod("resetIdCounter", no_types).invoke(None, gateway.new_array(gateway.jvm.java.lang.Object, 0))


def sql_inserts(tables: StreamTableEnvironment, group: str, job: Job) -> list[str]:
    """Register what the INSERTs of a job of SQL alone need, and return these INSERTs.  `group` is the consumer group."""
    statements = job.statements()
    # Before the topics, which depend on settings.
    configure(tables, statements)
    register_topics(tables, group, job.writes or job.reads, [job])
    inserts: list[str] = []
    for statement in statements:
        body = schemas.without_comments(statement)
        if body.upper().startswith("INSERT"):
            inserts.append(statement)
        elif schemas.setting(statement) is None:
            tables.execute_sql(statement)
            if body.startswith("CREATE TEMPORARY TABLE inputs"):
                register_rows(tables, job)
    return [*inserts, *(in_order(tables, table) for table in job.tells_time)]


def configure(tables: StreamTableEnvironment, statements: Iterable[str]) -> None:
    """Apply a job's SET statements, except those of its pace.  For our own settings they are defaults: -D wins."""
    for key, value in filter(None, map(schemas.setting, statements)):
        if key not in PACE and (not key.startswith("gammaflow.") or not setting(tables, key, "")):
            tables.get_config().set(key, value)


def keep_pace(tables: StreamTableEnvironment, members: Iterable[Job]) -> None:
    """Apply what jobs SET of `PACE`, if all members of a group agree: no job waits longer because of another one."""
    settings = [jobs.settings(member) for member in members]
    for key in PACE:
        wanted = {own.get(key) for own in settings}
        if len(wanted) == 1 and (value := wanted.pop()) is not None:
            tables.get_config().set(key, value)


def in_order(tables: StreamTableEnvironment, table: str) -> str:
    """The INSERT of a table in which a job of SQL alone tells time: the rows of its view `<table>_rows`, and heartbeats."""
    key = " ".join(f"WHEN {partition} THEN '{key}'" for partition, key in enumerate(heartbeat_keys(len(shards()))))
    execute_file(tables, "_heartbeats", TABLE=table, VALUE=schemas.encoded(table), KEY=f"CASE `partition` {key} END")
    return f"INSERT INTO {table}_records (`key`, event_at, `value`)\nSELECT `key`, event_at, `value` FROM records"


def insert_of(table: str, heartbeat: str | None) -> str:
    """The INSERT of a table that a kernel writes: its rows and, if the job tells time there, heartbeats in order with them."""
    chosen = f"= '{table}'" if heartbeat is None else f"IN ('{table}', '{heartbeat}')"
    columns = "`key`, event_at, `value`"
    return f"INSERT INTO {table}_records ({columns})\nSELECT {columns} FROM records WHERE `table` {chosen}"


def register_topics(tables: StreamTableEnvironment, group: str, names: list[str], writers: list[Job]) -> None:
    """Register these tables, and for each that one of the `writers` writes the sinks `<table>_records` and `<table>_rows`.

    A row of `<table>_records` is undecoded, a row of `<table>_rows` has the table's columns.  `group` is the consumer group,
    and the user on a broker that needs one.
    """
    values = {
        "GROUP": group,
        "SECURITY": sql_options(group),
        "FEED_TOPICS": quoted(jobs.feed_topics()),
        "DELAY": setting(tables, "gammaflow.delay", DELAY_S),
        "DRIFT": setting(tables, "gammaflow.drift", DRIFT_S),
    }
    texts = [schemas.substituted(schemas.ddl("_connectors"), **values)]
    texts += [schemas.ddl(name) for name in names]
    for name in names:
        writer = next((job for job in writers if name in job.writes), None)
        if writer is None:
            continue
        delivery = "exactly-once" if TABLES[name].is_exactly_once else "at-least-once"
        # No two sinks may share a prefix: each aborts the open transactions with its own prefix.
        options = f"'sink.delivery-guarantee' = '{delivery}', 'sink.transactional-id-prefix' = '{writer.name}/{name}'"
        texts.append(
            f"CREATE TEMPORARY TABLE {name}_records WITH ('topic' = '{TABLES[name].topic}', {options}) LIKE kafka_records;"
        )
        if writer.kernel is None and name in writer.tells_time:
            continue
        # Beside the columns of the table, SQL writes the key and the timestamp of the record.
        texts.append(
            f"CREATE TEMPORARY TABLE {name}_rows (`key` STRING, recorded_at TIMESTAMP_LTZ(3) METADATA FROM 'timestamp') WITH "
            f"('key.format' = 'raw', 'key.fields' = 'key', 'value.fields-include' = 'EXCEPT_KEY', {options}) LIKE {name};"
        )
    for statement in schemas.statements("\n".join(texts)):
        tables.execute_sql(statement)


def register_shards(tables: StreamTableEnvironment, job: Job, topic: str, numbers: list[int]) -> None:
    """Register the view `inbox` of `inputs`.  `topic` is an SQL expression, `numbers` has the shard of each partition.

    A record of a table that is keyed by a column goes to the shard of the partition in this column.  A heartbeat, and a record
    without a valid one, stay where they are.
    """
    shard = _shard_of("`partition`", numbers)
    columns = [(TABLES[table].topic, _number_in(column)) for table, column in job.keyed_by if table in job.reads]
    keyed = " ".join(
        f"WHEN {topic} = '{name}' THEN COALESCE({_shard_of(number, numbers, is_text=True)}, {shard})"
        for name, number in columns
    )
    execute_file(tables, "_inbox", TOPIC=topic, SHARD=f"CASE {keyed} ELSE {shard} END" if keyed else shard)


def _shard_of(partition: str, numbers: list[int], is_text: bool = False) -> str:
    """The SQL of the shard of a partition, whose number is an SQL expression of an integer or, with `is_text`, of a text."""
    quote = "'" if is_text else ""
    return f"CASE {partition} {' '.join(f'WHEN {quote}{part}{quote} THEN {number}' for part, number in enumerate(numbers))} END"


def _number_in(column: str) -> str:
    """The SQL of a whole number in a column of an undecoded value, as text; NULL if there is none."""
    return f"REGEXP_EXTRACT(`value`, '\"{column}\":\\s*(\\d+)', 1)"


def register_messages(tables: StreamTableEnvironment, job: Job, numbers: list[int]) -> None:
    """Register the view `messages`: a record goes to the shard of its partition, or to all if its table is broadcast."""
    if not job.broadcast:
        tables.execute_sql("CREATE TEMPORARY VIEW messages AS SELECT shard, event_at, is_late, message FROM inbox")
        return
    broadcast = [TABLES[table].topic for table in job.broadcast if table in job.reads]
    single = [topic for topic in job.topics if topic not in broadcast]
    values = {"BROADCAST": quoted(broadcast), "SINGLE": quoted(single), "SHARDS": listed(numbers), "WINDOW": window_s(tables)}
    execute_file(tables, "_broadcast", **values)


def register_rows(tables: StreamTableEnvironment, job: Job) -> None:
    """Register the rows of each topic that a job of SQL alone reads, under the table's name.

    SQL decodes them from `inputs`.  The connector's JSON format would drop the heartbeats, which advance the watermark.
    """
    for name in job.reads:
        condition = f"topic = '{TABLES[name].topic}' AND `value` IS NOT NULL"
        tables.execute_sql(
            f"CREATE TEMPORARY VIEW {name} AS SELECT {schemas.decoded(name)}, inputs.* FROM inputs WHERE {condition}"
        )


def member_of(tables: StreamTableEnvironment, job: Job, numbers: list[int], user: str) -> Member:
    """A job as the host runs it, in the shards of these numbers; `user` is the name under which it is submitted."""
    assert job.kernel is not None
    heartbeat = f"heartbeat/{job.name}" if job.tells_time else ""
    conflated = tuple(table for table in setting(tables, "gammaflow.conflate", "").split(",") if table in job.writes)
    controls = tuple(controls_of(tables, job, user))
    is_in_loop = job.name in jobs.loop(also_read(tables))
    return Member(
        job.kernel, tuple(numbers), tuple(job.writes), tuple(job.broadcast), heartbeat, conflated, controls, is_in_loop
    )


def controls_of(tables: StreamTableEnvironment, job: Job, user: str) -> Source | tuple[()]:
    """From where a job that puts out orders hears what it must obey."""
    if not job.obeys:
        return ()
    mode = setting(tables, "gammaflow.controls", LIVE)
    if mode not in (LIVE, RECORDED):
        raise SystemExit(f"gammaflow.controls: expected {LIVE} or {RECORDED}, got {mode!r}")
    file = os.environ.get(security.VARIABLE, "")
    return Source(os.environ["GAMMAFLOW_KAFKA"], user, str(Path(file).absolute()) if file else "", job.name, mode)


def host(tables: StreamTableEnvironment, name: str, members: list[Member], batches: list[str]) -> None:
    """Turn the members' views of batches into the view `records`, by one operator whose uid has the job's name."""
    writes = {table for member in members for table in member.writes}
    if unknown := {table for table in setting(tables, "gammaflow.conflate", "").split(",") if table} - writes:
        raise SystemExit(f"gammaflow.conflate: {name} writes {', '.join(sorted(writes))}, not {', '.join(sorted(unknown))}")
    outputs = (
        keyed_batches(tables, batches)
        .process(Host(tuple(members)), output_type=OUTPUT_TYPE)
        .uid(f"{name}/kernel")
        .name(", ".join(f"kernels.{member.kernel}" for member in members))
    )
    # Bytes as text without a cast, which would decode and encode them.
    text = DataTypes.STRING().bridged_to("[B")
    schema = Schema.new_builder().column("table", DataTypes.STRING()).column("heads", text).column("values", text).build()
    tables.create_temporary_view("outputs", tables.from_data_stream(outputs, schema))
    execute_file(tables, "_records", HEARTBEATS=quoted([member.heartbeat for member in members]))


def register_batches(tables: StreamTableEnvironment) -> None:
    """Register the view `batches` of a job's view `messages`."""
    every_s = window_s(tables)
    execute_file(tables, "_batches", WINDOW=every_s, WINDOW_MS=str(round(float(every_s) * 1000)))


def window_s(tables: StreamTableEnvironment) -> str:
    """The window of a batch in seconds of event time."""
    return setting(tables, jobs.WINDOW, jobs.WINDOW_S)


def setting(tables: StreamTableEnvironment, key: str, default: str) -> str:
    """A setting: from -D, or else from SET, or else `default`.  The Python side of the table environment does not know -D."""
    option = get_gateway().jvm.org.apache.flink.configuration.ConfigOptions.key(key).stringType().defaultValue(default)
    return str(tables._j_tenv.getConfig().get(option))


def execute_file(tables: StreamTableEnvironment, name: str, **values: str) -> None:
    """Execute the statements of an SQL file of this folder, with these values for its ${…}."""
    for statement in schemas.statements(schemas.substituted((FOLDER / f"{name}.sql").read_text(), **values)):
        if setting := schemas.setting(statement):
            tables.get_config().set(*setting)
        else:
            tables.execute_sql(statement)


def quoted(texts: list[str]) -> str:
    """Texts as a list in SQL."""
    return ", ".join(f"'{text}'" for text in texts)


@cache
def shards(member: int = 0) -> list[int]:
    """The numbers of a job's shards, one for each partition; GAMMAFLOW_PARTITIONS is the number of partitions of a topic.

    `member` counts the kernels of a group from 0; each has other numbers.  The numbers are part of the state.  They spread the
    shards evenly over the key groups, by the hash of SQL and by that of DataStream: a parallelism that divides the number of
    partitions gives each task equally many shards.
    """
    text = os.environ.get("GAMMAFLOW_PARTITIONS", "")
    if not text.isdecimal() or not int(text):
        raise SystemExit(f"GAMMAFLOW_PARTITIONS: expected the number of partitions of each topic, got {text!r}")
    partitions = int(text)
    jvm = get_gateway().jvm
    assign = jvm.org.apache.flink.runtime.state.KeyGroupRangeAssignment.assignKeyToParallelOperator
    sql_row = jvm.org.apache.flink.table.data.binary.BinaryRowData(1)
    writer = jvm.org.apache.flink.table.data.writer.BinaryRowWriter(sql_row)
    row = jvm.org.apache.flink.types.Row(1)
    numbers: list[list[int]] = [[] for _ in range(partitions)]
    for number in count():
        if all(len(chosen) > member for chosen in numbers):
            return [chosen[member] for chosen in numbers]
        writer.reset()
        writer.writeInt(0, number)
        writer.complete()
        row.setField(0, number)
        task = assign(row, MAX_PARALLELISM, partitions)
        if assign(sql_row, MAX_PARALLELISM, partitions) == task:
            numbers[task].append(number)
    raise AssertionError("unreachable")


def listed(numbers: list[int]) -> str:
    """Numbers as a list in SQL."""
    return ", ".join(map(str, numbers))


def keyed_batches(tables: StreamTableEnvironment, batches: list[str]) -> KeyedStream:
    """The union of views of batches, keyed by shard.

    `DataStream.key_by` would send every batch through Python once more, only to take its first column.  The Java selector that
    it uses takes the key by itself from rows of (key, value).
    """
    # In one query: with one query for each view, each would have its own source.
    query = tables.sql_query(
        "\nUNION ALL\n".join(f"SELECT shard, ROW(shard, until_ms, is_late, messages) FROM {view}" for view in batches)
    )
    stream = tables.to_append_stream(query, Types.ROW([Types.INT(), BATCH_TYPE]))
    selector = get_gateway().jvm.org.apache.flink.streaming.api.functions.python.KeyByKeySelector()
    keyed = stream._j_data_stream.keyBy(selector, Types.ROW([Types.INT()]).get_java_type_info())
    return KeyedStream(keyed, BATCH_TYPE, stream)


if __name__ == "__main__":
    # PyFlink imports Beam if it is there, which takes seconds; a client does not need it.
    sys.modules["apache_beam"] = None  # type: ignore[assignment]
    for argument in sys.argv[1:]:
        job, _, path = argument.partition("=")
        submit(job, path)
