"""Which controls a kernel that emits orders gets, and when: the rules, without a broker.

A job may be seconds behind in event time, and a control must not wait that long.  So the topic of controls is not a source of
the job: a thread reads it (`engine/listening.py`).  Before each step of a shard the host compares the topic with what the
kernel obeys.  Each difference is a row of `controls_applied`.  The kernel gets the row as a message of this very batch, which
is journaled like any other, and the host writes the row to the topic.  So a kernel stays a function of its state and its
messages.  After a restore it obeys what the steps before had obeyed.  A run that must agree with an earlier one takes the rows
from the topic, and does not read the controls.

The scope `gate` says whether the topic of controls is known: `run` if everything has been read that was there a second ago,
else `halt`.  A shard gets it first, so it emits nothing before the topic has been read.

A record that is no control (`schemas.controls`) is a dead letter.  It also halts the scope that its key names, or all, because
it may have been meant to.  The next record of the same key ends that halt.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, Protocol

import orjson

from engine.contract import Message, Output
from schemas.controls import ALL, GATE, HALT, MODES, RUN, control_fault, scope_fault
from schemas.records import TABLES
from schemas.rows import Fault, instant_ms, shown, to_ms

Row = dict[str, Any]
InForce = Mapping[str, Mapping[str, Any]]
"""By scope, the rows of `controls_applied` that a kernel obeys."""
CONTROLS, APPLIED = "trading_controls", "controls_applied"
LIVE, RECORDED = "live", "recorded"
ENGINE = "the engine"
OBEYED = ("mode", "who", "why", "said_at", "ends_at", "liquidations")
"""A control has changed if one of these columns has."""


class Source(NamedTuple):
    """Where a job's controls come from, in texts: it travels with the job."""

    servers: str
    user: str  # who reads: the job, or its group (`schemas.security`)
    security: str  # the file that says how to connect; empty for plain text
    job: str  # whose rows of `controls_applied` they are
    mode: str  # LIVE, or RECORDED: the rows that are in `controls_applied` when the job begins


class Words(NamedTuple):
    """What has changed with one batch."""

    rows: list[Row]  # of `controls_applied`, as messages for the kernel
    outputs: list[Output]  # the same, and dead letters, for their topics


class Controls(Protocol):
    """What a host asks."""

    def words(self, shard: int, until_ms: int, in_force: InForce) -> Words:
        """What is new for the batch that ends here, given what the kernel obeys."""

    def close(self) -> None:
        """Listen no more."""


class Word(NamedTuple):
    """A record of the topic of controls, and where it is.  For a record that is no control, the halt that it counts as."""

    row: Row
    partition: int
    offset: int

    def control(self) -> Row:
        """Its part of a row of `controls_applied`."""
        own = {column: self.row.get(column) for column in ("mode", "who", "why", "ends_at", "liquidations")}
        return own | {"said_at": self.row["event_at"], "control_partition": self.partition, "control_offset": self.offset}


class Log:
    """The newest record of each key in the topic of controls.  Partitions may be read in any order."""

    def __init__(self) -> None:
        self.newest: dict[tuple[int, str], Word] = {}

    def take(
        self, partition: int, offset: int, key: bytes | None, value: bytes | None, said_ms: int = 0
    ) -> tuple[Message, Fault] | None:
        """Take the next record of a partition; returns it, with what is wrong, if it is no control.

        `said_ms` is its timestamp.
        """
        name = (key or b"").decode(errors="replace")
        if value is None:
            self.newest.pop((partition, name), None)
            return None
        row, wrong = _decoded(value, name)
        if wrong is None:
            self.newest[partition, name] = Word(row, partition, offset)
            return None
        at = f"{TABLES[CONTROLS].topic}, partition {partition}, offset {offset}"
        why = f"{at}, is no control: {wrong.field or 'the row'}: expected {wrong.expected}, got {wrong.got}"
        halt: Row = {"scope": ALL if scope_fault(name) else name, "mode": HALT, "who": ENGINE, "why": why}
        halt |= {"event_at": instant_ms(max(said_ms, 0)), "ends_at": None, "liquidations": False}
        self.newest[partition, name] = Word(halt, partition, offset)
        return Message(CONTROLS, partition, offset, row, value), wrong

    def in_force(self, now_ms: int) -> dict[str, Word]:
        """The control of each scope that is in force at an instant.

        If another writer hashes keys in another way, a scope may be in two partitions: then the stricter control counts.
        """
        chosen: dict[str, Word] = {}
        for word in self.newest.values():
            row = word.row
            if row["mode"] == RUN or (row.get("ends_at") is not None and to_ms(row["ends_at"]) <= now_ms):
                continue
            other = chosen.get(row["scope"])
            if other is None or _strength(word) > _strength(other):
                chosen[row["scope"]] = word
        return chosen

    def ended(self, scope: str, control: Mapping[str, Any]) -> Row:
        """Why a control is no longer in force, as a part of its row of `controls_applied`."""
        own = [word for word in self.newest.values() if word.row["scope"] == scope]
        if not own:
            return {**control, "mode": RUN, "why": "taken back"}
        word = max(own, key=lambda word: (word.row["event_at"], word.partition))
        if word.row["mode"] == RUN:
            return word.control()
        return word.control() | {"mode": RUN, "why": f"over since {word.row['ends_at']}"}


def gate(is_open: bool, why: str, said_at: str) -> Row:
    """The part of a row of `controls_applied` that says whether the topic of controls is known."""
    mode = RUN if is_open else HALT
    return {"mode": mode, "who": ENGINE, "why": why, "said_at": said_at, "ends_at": None, "liquidations": True}


def changes(
    wanted: InForce,
    in_force: InForce,
    ended: Callable[[str, Mapping[str, Any]], Mapping[str, Any]],
    is_start: bool = False,
) -> list[tuple[str, Mapping[str, Any]]]:
    """The changes that a kernel must get, by scope, `gate` first: controls that differ from what it obeys, and that have ended.

    A shard that starts gets the gate in any case: this row says that it starts.
    """
    changed = [
        (scope, control)
        for scope, control in wanted.items()
        if (is_start and scope == GATE) or scope not in in_force or _differs(scope, control, in_force[scope])
    ]
    changed += [(scope, ended(scope, control)) for scope, control in in_force.items() if scope not in wanted]
    return sorted(changed, key=lambda change: (change[0] != GATE, change[0]))


def applied(job: str, shard: int, until_ms: int, change: tuple[str, Mapping[str, Any]], at: str, is_start: bool) -> Row:
    """A row of `controls_applied`: a change that holds from the batch that ends here; `at` is when it was applied."""
    scope, control = change
    row = {"job": job, "shard": shard, "event_at": instant_ms(until_ms - 1), "scope": scope}
    row |= {column: control.get(column) for column in (*OBEYED, "control_partition", "control_offset")}
    return row | {"applied_at": at, "is_start": is_start}


def recorded(job: str, rows: Iterable[Row]) -> dict[int, list[Row]]:
    """A job's rows of `controls_applied` that hold, by shard.  `rows` of one shard are in the order of the topic.

    When a shard has started anew, its earlier rows of the same batches and of later ones no longer hold.
    """
    kept: dict[int, list[Row]] = {}
    for row in rows:
        if row["job"] == job:
            own = kept.setdefault(row["shard"], [])
            if row["is_start"]:
                own[:] = [before for before in own if before["event_at"] < row["event_at"]]
            own.append(row)
    return kept


def decoded(value: bytes) -> tuple[Any, Fault | None]:
    """A record's value, and what is wrong with it if it is no JSON."""
    try:
        return orjson.loads(value), None
    except orjson.JSONDecodeError as error:
        return shown(value), Fault(None, "a JSON object", str(error))


def _decoded(value: bytes, key: str) -> tuple[Any, Fault | None]:
    row, wrong = decoded(value)
    return row, wrong or control_fault(row, key)


def _differs(scope: str, control: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    # The reason of the gate has the age of the topic: a new age alone is no change.
    columns = ("mode",) if scope == GATE else OBEYED
    return any(control.get(column) != other.get(column) for column in columns)


def _strength(word: Word) -> tuple[int, int, int]:
    return MODES.index(word.row["mode"]), word.offset, word.partition
