"""The one runner: `flink run -pym engine.run … books option_greeks` submits each named job; books=<path> goes on from there.

A job is jobs/<name>.sql, its ${…} filled in; what it declares (jobs/__init__.py) is not repeated here.

One with a kernel needs no more than its declaration.  The runner registers the table `inputs` of all topics that it reads, the
view `inbox` of that (_inbox.sql), `messages` unless the job says itself which shard gets a record (_broadcast.sql where some go
to all), and `batches` (_batches.sql).  The host (host.py) runs the kernel, `records` (_records.sql) are its rows, and an INSERT
for each table that the job writes takes those of the table.

One of SQL alone defines `inputs` itself and finds the rows of each topic under its table's name.  It INSERTs into
`<table>_rows`; where it tells the time, that is a view of its own, which the runner writes in order with heartbeats
(_heartbeats.sql).

A group, chains+option_greeks, is one Flink job.  Its kernels share one source, of all topics that they read, and one host, in
which each has shards of its own; its jobs of SQL alone keep their sources.  A member's views are in its own database.
"""

import os
import sys
from collections.abc import Callable, Iterable
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

WINDOW_S = "0.02"
"""A kernel's window of event time in seconds, where neither -D nor its job sets 'gammaflow.window'."""
DELAY_S = "0.1"
"""How long, in seconds, a job waits for records that are out of order in topics that feeds write, where neither its SQL nor
-D gammaflow.delay says so."""
DRIFT_S = "10"
"""How far ahead of the slowest partition another is read, in whole seconds of event time, without -D gammaflow.drift."""
HEARTBEAT = "heartbeat"
"""The `table` of a heartbeat among a kernel's rows."""
FOLDER = Path(__file__).parent
MAX_PARALLELISM = 128
"""The number of key groups: pipeline.max-parallelism."""


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
    """All that a job or a group does, ready to be executed."""
    _count_operators_anew(tables)
    inserts = tables.create_statement_set()
    job = jobs.job(name)
    if job.members:
        add_group(tables, job, inserts)
        return inserts
    for insert in prepared(tables, name, host_kernel):
        inserts.add_insert_sql(insert)
    return inserts


def add_group(tables: StreamTableEnvironment, group: Job, inserts: StatementSet) -> None:
    """Add the INSERTs of a group's members."""
    own = tables.get_current_database()
    hosted = [member for member in group.members if member.kernel is not None]
    if hosted:
        for insert in hosted_inserts(tables, group, hosted):
            inserts.add_insert_sql(insert)
    for member in group.members:
        if member.kernel is None:
            use_database(tables, member.name)
            for insert in prepared(tables, member.name, host_kernel, group.name):
                inserts.add_insert_sql(insert)
    tables.use_database(own)


def hosted_inserts(tables: StreamTableEnvironment, group: Job, hosted: list[Job]) -> list[str]:
    """Register what the INSERTs of those members need that have a kernel, and return these."""
    own = tables.get_current_database()
    statements = [member.statements(SHARDS=listed(shards(number))) for number, member in enumerate(hosted)]
    window = setting(tables, jobs.WINDOW, "")
    configure(tables, chain.from_iterable(statements))
    register_topics(tables, group.name, list(dict.fromkeys(chain.from_iterable(member.writes for member in hosted))), hosted)
    topics = list(dict.fromkeys(chain.from_iterable(member.topics for member in hosted)))
    tables.execute_sql(f"CREATE TEMPORARY TABLE inputs WITH ('topic' = '{';'.join(topics)}') LIKE kafka_records")
    members = []
    for number, (member, texts) in enumerate(zip(hosted, statements, strict=True)):
        use_database(tables, member.name)
        # Each has windows of its own, unless -D says otherwise.
        tables.get_config().set(jobs.WINDOW, window or jobs.settings(member).get(jobs.WINDOW, WINDOW_S))
        tables.execute_sql(
            f"CREATE TEMPORARY VIEW inputs AS SELECT * FROM {own}.inputs WHERE topic IN ({quoted(member.topics)})"
        )
        register_shards(tables, "topic", shards(number))
        for statement in texts:
            if schemas.setting(statement) is None:
                tables.execute_sql(statement)
        if not member.has_own_messages:
            register_messages(tables, member, shards(number))
        register_batches(tables)
        members.append(member_of(tables, member, shards(number), f"{HEARTBEAT}/{member.name}", group.name))
    tables.use_database(own)
    host(tables, group.name, members, [f"{member.name}.batches" for member in hosted])
    heartbeats = {table: told.heartbeat for member, told in zip(hosted, members, strict=True) for table in member.tells_time}
    return [
        insert_of(table, heartbeats.get(table))
        for table in dict.fromkeys(chain.from_iterable(member.writes for member in hosted))
    ]


def use_database(tables: StreamTableEnvironment, name: str) -> None:
    """Let what is registered from now on be in a database of its own."""
    tables.execute_sql(f"CREATE DATABASE {name}")
    tables.use_database(name)


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


def prepared(
    tables: StreamTableEnvironment, name: str, run_kernel: Callable[[StreamTableEnvironment, Job], None], group: str = ""
) -> list[str]:
    """Register what a job's INSERTs need, and return these.  `run_kernel` turns the view `messages` into `records`.

    `group` is the consumer group where that is not the job's own name.
    """
    job = jobs.job(name)
    statements = job.statements(SHARDS=listed(shards()))
    # First of all: the topics depend on settings.
    configure(tables, statements)
    register_topics(tables, group or name, job.writes or job.reads, [job])
    if job.kernel is not None:
        register_inbox(tables, job)
    inserts: list[str] = []
    for statement in statements:
        body = schemas.without_comments(statement)
        if body.upper().startswith("INSERT"):
            inserts.append(statement)
        elif schemas.setting(statement) is None:
            tables.execute_sql(statement)
            if body.startswith("CREATE TEMPORARY TABLE inputs"):
                register_rows(tables, job)
    if job.kernel is None:
        return [*inserts, *(in_order(tables, table) for table in job.tells_time)]
    if not job.has_own_messages:
        register_messages(tables, job, shards())
    run_kernel(tables, job)
    return [*inserts, *(insert_of(table, HEARTBEAT if table in job.tells_time else None) for table in job.writes)]


def configure(tables: StreamTableEnvironment, statements: Iterable[str]) -> None:
    """Apply what a job SETs.  Of settings of ours that is the job's default: -D comes first."""
    for key, value in filter(None, map(schemas.setting, statements)):
        if not key.startswith("gammaflow.") or not setting(tables, key, ""):
            tables.get_config().set(key, value)


def in_order(tables: StreamTableEnvironment, table: str) -> str:
    """The INSERT of a table in which a job of SQL alone tells the time: the rows of its view `<table>_rows`, and heartbeats."""
    key = " ".join(f"WHEN {partition} THEN '{key}'" for partition, key in enumerate(heartbeat_keys(len(shards()))))
    execute_file(tables, "_heartbeats", TABLE=table, VALUE=schemas.encoded(table), KEY=f"CASE `partition` {key} END")
    return f"INSERT INTO {table}_records (`key`, event_at, `value`)\nSELECT `key`, event_at, `value` FROM records"


def insert_of(table: str, heartbeat: str | None) -> str:
    """The INSERT of a table that a kernel writes: its rows and, where it tells the time, in order with them the heartbeats."""
    chosen = f"= '{table}'" if heartbeat is None else f"IN ('{table}', '{heartbeat}')"
    columns = "`key`, event_at, `value`"
    return f"INSERT INTO {table}_records ({columns})\nSELECT {columns} FROM records WHERE `table` {chosen}"


def register_topics(tables: StreamTableEnvironment, group: str, names: list[str], writers: list[Job]) -> None:
    """Register topics undecoded and typed, by the tables' names: those that `writers` write, or that a job without any reads.

    `group` is the consumer group, and the user on a broker that asks for one.
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
        # No two sinks may share a prefix: each ends the transactions that it finds open under its own.
        options = f"'sink.delivery-guarantee' = '{delivery}', 'sink.transactional-id-prefix' = '{writer.name}/{name}'"
        texts.append(
            f"CREATE TEMPORARY TABLE {name}_records WITH ('topic' = '{TABLES[name].topic}', {options}) LIKE kafka_records;"
        )
        if writer.kernel is None and name in writer.tells_time:
            continue
        # A typed row as SQL writes it: beside its columns the record's key and timestamp.
        texts.append(
            f"CREATE TEMPORARY TABLE {name}_rows (`key` STRING, recorded_at TIMESTAMP_LTZ(3) METADATA FROM 'timestamp') WITH "
            f"('key.format' = 'raw', 'key.fields' = 'key', 'value.fields-include' = 'EXCEPT_KEY', {options}) LIKE {name};"
        )
    for statement in schemas.statements("\n".join(texts)):
        tables.execute_sql(statement)


def register_inbox(tables: StreamTableEnvironment, job: Job) -> None:
    """Register the view `inbox`: every record that a job with a kernel reads, undecoded."""
    tables.execute_sql(f"CREATE TEMPORARY TABLE inputs WITH ('topic' = '{';'.join(job.topics)}') LIKE kafka_records")
    # A job that reads one topic need not be told by each record which it is.
    register_shards(tables, quoted(job.topics) if len(job.topics) == 1 else "topic", shards())


def register_shards(tables: StreamTableEnvironment, topic: str, numbers: list[int]) -> None:
    """Register the view `inbox` of `inputs`, with the number of the shard of each partition; `topic` is its name in SQL."""
    shard = " ".join(f"WHEN {partition} THEN {number}" for partition, number in enumerate(numbers))
    execute_file(tables, "_inbox", TOPIC=topic, SHARD=f"CASE `partition` {shard} END")


def register_messages(tables: StreamTableEnvironment, job: Job, numbers: list[int]) -> None:
    """Register the view `messages`: each record goes to the shard of its partition, one of a broadcast table to all."""
    if not job.broadcast:
        tables.execute_sql("CREATE TEMPORARY VIEW messages AS SELECT shard, event_at, is_late, message FROM inbox")
        return
    gathered = [TABLES[table].topic for table in job.broadcast]
    own = [topic for topic in job.topics if topic not in gathered]
    values = {"GATHERED": quoted(gathered), "OWN": quoted(own), "SHARDS": listed(numbers), "WINDOW": window_s(tables)}
    execute_file(tables, "_broadcast", **values)


def register_rows(tables: StreamTableEnvironment, job: Job) -> None:
    """Register the rows of each topic that a job of SQL alone reads, from its `inputs`, under the table's name.

    They are decoded by SQL, not by the connector's JSON format: that one drops heartbeats, and they move the watermark.
    """
    for name in job.reads:
        where = f"topic = '{TABLES[name].topic}' AND `value` IS NOT NULL"
        tables.execute_sql(
            f"CREATE TEMPORARY VIEW {name} AS SELECT {schemas.decoded(name)}, inputs.* FROM inputs WHERE {where}"
        )


def host_kernel(tables: StreamTableEnvironment, job: Job) -> None:
    """Turn the view `messages` into the view `records` by the job's kernel."""
    register_batches(tables)
    host(tables, job.name, [member_of(tables, job, shards(), HEARTBEAT, job.name)], ["batches"])


def member_of(tables: StreamTableEnvironment, job: Job, numbers: list[int], heartbeat: str, user: str) -> Member:
    """A job as the host runs it, in the shards of these numbers.

    `heartbeat` is the `table` of its heartbeats, `user` the name under which it is submitted: its own, or its group's.
    """
    assert job.kernel is not None
    conflated = tuple(table for table in setting(tables, "gammaflow.conflate", "").split(",") if table in job.writes)
    return Member(
        job.kernel,
        tuple(numbers),
        tuple(job.writes),
        tuple(job.broadcast),
        heartbeat if job.tells_time else "",
        conflated,
        tuple(controls_of(tables, job, user)),
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
    """Turn the members' views of batches into the view `records`, by one operator that bears the job's name."""
    writes = {table for member in members for table in member.writes}
    if unknown := {table for table in setting(tables, "gammaflow.conflate", "").split(",") if table} - writes:
        raise SystemExit(f"gammaflow.conflate: {name} writes {', '.join(sorted(writes))}, not {', '.join(sorted(unknown))}")
    outputs = (
        keyed_batches(tables, batches)
        .process(Host(tuple(members)), output_type=OUTPUT_TYPE)
        .uid(f"{name}/kernel")
        .name(", ".join(f"kernels.{member.kernel}" for member in members))
    )
    # As texts, from their bytes: a cast would decode each and encode it anew.
    text = DataTypes.STRING().bridged_to("[B")
    schema = Schema.new_builder().column("table", DataTypes.STRING()).column("heads", text).column("values", text).build()
    tables.create_temporary_view("outputs", tables.from_data_stream(outputs, schema))
    execute_file(tables, "_records", HEARTBEATS=quoted([member.heartbeat or HEARTBEAT for member in members]))


def register_batches(tables: StreamTableEnvironment) -> None:
    """Register the view `batches` of a job's view `messages`."""
    every_s = window_s(tables)
    execute_file(tables, "_batches", WINDOW=every_s, WINDOW_MS=str(round(float(every_s) * 1000)))


def window_s(tables: StreamTableEnvironment) -> str:
    """How much event time a batch spans, in seconds."""
    return setting(tables, jobs.WINDOW, WINDOW_S)


def setting(tables: StreamTableEnvironment, key: str, default: str) -> str:
    """What a job was submitted with by -D, else what it has SET, else `default`; Python's side of the tables knows no -D."""
    option = get_gateway().jvm.org.apache.flink.configuration.ConfigOptions.key(key).stringType().defaultValue(default)
    return str(tables._j_tenv.getConfig().get(option))


def execute_file(tables: StreamTableEnvironment, name: str, **values: str) -> None:
    """Execute the statements of one of this folder's SQL files, with these ${NAME}s."""
    for statement in schemas.statements(schemas.substituted((FOLDER / f"{name}.sql").read_text(), **values)):
        if setting := schemas.setting(statement):
            tables.get_config().set(*setting)
        else:
            tables.execute_sql(statement)


def quoted(texts: list[str]) -> str:
    """Texts as SQL lists them."""
    return ", ".join(f"'{text}'" for text in texts)


@cache
def shards(member: int = 0) -> list[int]:
    """The number of the shard of each partition of our topics, of which GAMMAFLOW_PARTITIONS says how many there are.

    Each member of a group has numbers of its own: `member` counts those of its kernels from 0.

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
    numbers: list[list[int]] = [[] for _ in range(partitions)]
    for number in count():
        if all(len(chosen) > member for chosen in numbers):
            return [chosen[member] for chosen in numbers]
        writer.reset()
        writer.writeInt(0, number)
        writer.complete()
        row.setField(0, number)
        place = assign(row, MAX_PARALLELISM, partitions)
        if assign(sql_row, MAX_PARALLELISM, partitions) == place:
            numbers[place].append(number)
    raise AssertionError("unreachable")


def listed(numbers: list[int]) -> str:
    """Numbers as SQL lists them."""
    return ", ".join(map(str, numbers))


def keyed_batches(tables: StreamTableEnvironment, batches: list[str]) -> KeyedStream:
    """Views of batches, together, keyed by shard.

    `DataStream.key_by` would send every batch through Python once more, only to take its first column; the Java selector that
    it ends in does that by itself, given rows of (key, value).
    """
    # One query: views that are planned apart would each have a source.
    query = tables.sql_query(
        "\nUNION ALL\n".join(f"SELECT shard, ROW(shard, until_ms, is_late, messages) FROM {view}" for view in batches)
    )
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
