"""The catalogue: what each job is, as its <name>.sql declares it by SET.

    gammaflow.reads        tables whose topics it reads, in one source; * is every topic but those for people
    gammaflow.may-read     tables that it reads as well where -D gammaflow.also-read names them
    gammaflow.writes       tables that it writes, in the order of their INSERTs, on which state depends: append new ones
    gammaflow.kernel       the kernel that answers; without one the job is SQL alone
    gammaflow.tells-time   of what it writes, the tables in whose topics it tells the time, for jobs that read them with others
    gammaflow.tells-ahead  of these, the tables in which it tells a time ahead of what it has read: by the latency of its kernel
    gammaflow.broadcast    of what it reads, the tables of which every shard gets every message
    gammaflow.keyed-by     table.column, …: of what it reads, tables whose messages go to the shard of the partition in a column

Everything that lists jobs derives from here: their order, the README's table and picture, compose, manifests, rights, drills.

Several jobs that run as one Flink job are a group.  Its name is theirs, joined by +: chains+option_greeks.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import schemas
from schemas.records import TABLES

FOLDER = Path(__file__).parent
DECLARED = ("reads", "may-read", "writes", "kernel", "tells-time", "tells-ahead", "broadcast", "keyed-by")
ALL = "*"
JOINT = "+"
WINDOW = "gammaflow.window"
WINDOW_S = "0.02"
"""A kernel's window of event time in seconds, if neither -D nor its job sets 'gammaflow.window'."""
ALSO_READ = "gammaflow.also-read"
APPLIED = "controls_applied"
"""Who writes it says from which batch on it obeyed which control."""
MESSAGES = "CREATE TEMPORARY VIEW messages"


@dataclass(frozen=True)
class Job:
    """What a job declares; of a group, what its members declare together."""

    name: str
    question: str
    reads: list[str]  # tables
    writes: list[str]  # tables
    kernel: str | None
    tells_time: list[str]  # tables
    broadcast: list[str]  # tables
    is_for_each_topic: bool
    has_own_messages: bool  # says itself which shard gets a record, by a view `messages`
    sql: str
    members: tuple["Job", ...] = ()  # of a group
    may_read: tuple[str, ...] = ()  # tables
    tells_ahead: tuple[str, ...] = ()  # tables
    keyed_by: tuple[tuple[str, str], ...] = ()  # tables, each with the column that has the number of a partition

    @property
    def kernels(self) -> list[str]:
        """The kernels that it runs."""
        return [job.kernel for job in self.members or (self,) if job.kernel is not None]

    @property
    def obeys(self) -> bool:
        """Whether it puts out orders, and so obeys `trading_controls` as they arrive, beside what it reads."""
        return APPLIED in self.writes

    def reading(self, also: Iterable[str]) -> "Job":
        """The same job, which reads those of these tables as well that it may read; of a group, each member."""
        chosen = set(also) & set(self.may_read)
        members = tuple(member.reading(also) for member in self.members)
        more = [table for table in self.may_read if table in chosen and table not in self.reads]
        return replace(self, reads=[*self.reads, *more], members=members)

    @property
    def topics(self) -> list[str]:
        """The topics that it reads."""
        return [TABLES[table].topic for table in self.reads]

    def statements(self, **values: str) -> list[str]:
        """Its statements without declarations, each ${…} from `values` or the environment; one that reads all topics has them
        once for each."""
        if not self.is_for_each_topic:
            text = schemas.substituted(self.sql, TOPICS=";".join(self.topics), **values)
            return [statement for statement in schemas.statements(text) if not _declaration(statement)]
        texts = [schemas.substituted(self.sql, TABLE=table, COLUMNS=schemas.columns(table)) for table in self.reads]
        whole = [statement for text in texts for statement in schemas.statements(text) if not _declaration(statement)]
        return list(dict.fromkeys(whole))


def job(name: str) -> Job:
    """What a job or a group declares; the name of a group is in the order of the flow.

    Raises `KeyError` with the known names for an unknown one, and `ValueError` for jobs that cannot be a group.
    """
    if JOINT in name:
        return _group(name)
    if name not in FLOW:
        raise KeyError(f"no job {name!r}; there are {', '.join(FLOW)}")
    return _declared(name)


def is_known(name: str) -> bool:
    """Whether there is a job, or a group, of this name."""
    try:
        return job(name).name == name
    except (KeyError, ValueError):
        return False


def position(name: str) -> int:
    """Where a job, or the last member of a group, is in the flow."""
    return max(map(FLOW.index, name.split(JOINT)))


def upstream(names: Iterable[str], also_read: Iterable[str] = ()) -> list[str]:
    """These jobs and all whose topics they need, directly or not, in the order of the flow.

    `also_read` has tables that those of them read as well that may.
    """
    needed: set[str] = set()
    chosen = tuple(also_read)
    ahead = list(names)
    while ahead:
        name = ahead.pop()
        if name not in needed:
            needed.add(name)
            reads = set(job(name).reading(chosen).reads)
            ahead += [other for other in FLOW if reads & set(_declared(other).writes)]
    return [name for name in FLOW if name in needed]


def loop(also_read: Iterable[str]) -> list[str]:
    """The jobs that are between a topic in which the time is told ahead and its own writer: they wait for each other.

    `also_read` has tables that those of them read as well that may.
    """
    chosen = tuple(also_read)
    reads = {name: set(_declared(name).reading(chosen).reads) for name in FLOW}

    def after(tables: set[str]) -> set[str]:
        reached: set[str] = set()
        while tables:
            readers = {name for name in FLOW if tables & reads[name]} - reached
            reached |= readers
            tables = {table for name in readers for table in _declared(name).writes} - {"dead_letters"}
        return reached

    members: set[str] = set()
    for writer in FLOW:
        behind = after(set(_declared(writer).tells_ahead))
        circle = {name for name in behind if writer in after(set(_declared(name).writes))}
        members |= circle | ({writer} if circle else set())
    return [name for name in FLOW if name in members]


def optional(names: Iterable[str] | None = None) -> list[str]:
    """The tables that jobs may read, of those that are written by one of these jobs; of all without names.

    Without the tables that close a loop, in which a run is no faster than the venue's answers: who wants these names them.
    """
    written = {table for name in (FLOW if names is None else names) for table in {*job(name).writes} - {*job(name).tells_ahead}}
    return sorted({table for name in FLOW for table in _declared(name).may_read} & written)


def told_ahead(names: Iterable[str]) -> list[str]:
    """The tables in which these jobs tell a time ahead of what they have read."""
    return sorted({table for name in names for table in job(name).tells_ahead})


def feed_topics() -> list[str]:
    """The topics that jobs read and no job writes: feeds and other producers do.  Their records may be out of order."""
    written = {table for name in FLOW for table in job(name).writes} | schemas.FOR_PEOPLE
    return sorted(topic for topic, table in schemas.TABLE_OF.items() if table not in written)


def settings(job: Job) -> dict[str, str]:
    """What a job SETs beside its declarations: Flink's options, and defaults of ours."""
    every = filter(None, map(schemas.setting, schemas.statements(job.sql)))
    return {key: value for key, value in every if key.removeprefix("gammaflow.") not in DECLARED}


def window_ms(job: Job) -> int:
    """The window of a job's kernel, without -D."""
    return round(1000 * float(settings(job).get(WINDOW, WINDOW_S)))


@cache
def _declared(name: str) -> Job:
    sql = (FOLDER / f"{name}.sql").read_text()
    settings = dict(filter(None, map(_declaration, schemas.statements(sql))))

    def tables(key: str) -> list[str]:
        return [table.strip() for table in settings.get(key, "").split(",") if table.strip()]

    is_for_each_topic = tables("reads") == [ALL]
    declared = Job(
        name,
        sql.partition("\n")[0].removeprefix(f"-- {name}: "),
        schemas.kept() if is_for_each_topic else tables("reads"),
        tables("writes"),
        settings.get("kernel"),
        tables("tells-time"),
        tables("broadcast"),
        is_for_each_topic,
        any(schemas.without_comments(statement).startswith(MESSAGES) for statement in schemas.statements(sql)),
        sql,
        may_read=tuple(tables("may-read")),
        tells_ahead=tuple(tables("tells-ahead")),
        keyed_by=tuple((table, column) for table, _, column in (text.partition(".") for text in tables("keyed-by"))),
    )
    _check(declared)
    return declared


@cache
def _group(name: str) -> Job:
    members = tuple(sorted(map(job, name.split(JOINT)), key=lambda member: FLOW.index(member.name)))
    names = [member.name for member in members]
    if len(set(names)) < len(names):
        raise ValueError(f"{name}: a job is in a group once")
    if whole := [member.name for member in members if member.is_for_each_topic]:
        raise ValueError(f"{name}: {whole[0]} reads every topic, also what the others write; it runs by itself")
    kernels = [member for member in members if member.kernel is not None]
    for writer in kernels:
        for reader in kernels:
            # They share one source, which would wait for the time that its own job is to tell.
            if own := sorted(set(writer.writes) & {*reader.reads, *reader.may_read}):
                raise ValueError(
                    f"{name}: {reader.name} reads {own[0]}, which {writer.name} writes; they cannot share a source"
                )
    for member in members:
        for other in members:
            ours, others = settings(member), settings(other)
            for key in sorted(ours.keys() & others.keys() - {WINDOW}):
                if ours[key] != others[key]:
                    raise ValueError(f"{name}: {member.name} and {other.name} SET '{key}' to different values")
    waits = {member.name: settings(member).get("gammaflow.delay") for member in kernels}
    if len(set(waits.values())) > 1:
        raise ValueError(f"{name}: kernels that share a source wait equally long; SET 'gammaflow.delay' differs: {waits}")

    def union(lists: Iterable[list[str]]) -> list[str]:
        return list(dict.fromkeys(table for tables in lists for table in tables))

    return Job(
        JOINT.join(names),
        "; ".join(member.question for member in members),
        union(member.reads for member in members),
        union(member.writes for member in members),
        None,
        union(member.tells_time for member in members),
        union(member.broadcast for member in members),
        False,
        False,
        "\n".join(member.sql for member in members),
        members,
        tuple(union(list(member.may_read) for member in members)),
        tuple(union(list(member.tells_ahead) for member in members)),
    )


def _declaration(statement: str) -> tuple[str, str] | None:
    name, value = schemas.setting(statement) or ("", "")
    key = name.removeprefix("gammaflow.")
    return (key, value) if key != name and key in DECLARED else None


def _check(job: Job) -> None:
    if not job.reads:
        raise ValueError(f"jobs/{job.name}.sql: expected SET 'gammaflow.reads' with the tables that it reads")
    if unknown := sorted({*job.reads, *job.may_read, *job.writes} - set(schemas.names())):
        raise ValueError(f"jobs/{job.name}.sql: no table {', '.join(unknown)}; there are {', '.join(schemas.names())}")
    for key, some, whole in (
        ("tells-time", job.tells_time, job.writes),
        ("tells-ahead", list(job.tells_ahead), job.tells_time),
        ("broadcast", job.broadcast, [*job.reads, *job.may_read]),
        ("keyed-by", [table for table, _ in job.keyed_by], {*job.reads, *job.may_read} - {*job.broadcast}),
    ):
        if beyond := sorted(set(some) - set(whole)):
            raise ValueError(f"jobs/{job.name}.sql: gammaflow.{key} names {', '.join(beyond)}, which it does not list itself")
    for table, column in job.keyed_by:
        if TABLES[table].columns.get(column) is None:
            raise ValueError(f"jobs/{job.name}.sql: gammaflow.keyed-by names {table}.{column}; {table} has no such column")


def _flow() -> list[str]:
    """Every job, each after the jobs whose topics it reads.

    Who reads a topic in which the time is told ahead need not come after its writer.  Raises `ValueError` for any other circle.
    """
    left = {path.stem: _declared(path.stem) for path in sorted(FOLDER.glob("*.sql"))}
    apart = {"dead_letters"} | {table for job in left.values() for table in job.tells_ahead}
    ordered: list[str] = []
    while left:
        unwritten = {table for job in left.values() for table in job.writes} - apart
        ready = [name for name, job in left.items() if not unwritten & ({*job.reads, *job.may_read} - set(job.writes))]
        if not ready:
            raise ValueError(f"jobs {', '.join(left)}: each waits for rows of another")
        # Kernels first: what they write is read by most.
        name = min(ready, key=lambda name: (left[name].is_for_each_topic, left[name].kernel is None, name))
        ordered.append(name)
        del left[name]
    return ordered


FLOW: list[str] = _flow()
"""Every job, each after the jobs whose topics it reads."""
