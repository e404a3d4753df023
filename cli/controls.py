"""`gammaflow halt`, `resume`, `kill`, `reduce-only` and `controls`: an operator's word, and what has been said.

They need the broker alone, no cluster and no job: a word is in the topic as soon as the command returns.
"""

import getpass
import re
import time
from datetime import UTC, datetime
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer, TopicPartition
from rich.console import Console
from rich.table import Table

from deploy import topics
from engine.controls import CONTROLS, Log, Word
from schemas.clients import Unreachable, reached, to_end
from schemas.controls import MODES, control_fault
from schemas.records import TABLES, TradingControlsRow
from schemas.rows import encoded, instant_ms
from schemas.security import OPERATOR

TOPIC = TABLES[CONTROLS].topic
WRITE_S = 10.0
READ_S = 10.0
OPTIONS = {"scope": "--scope", "why": "--why", "who": "--who", "ends_at": "--until"}
_SPAN = re.compile(r"(\d+)([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class ControlError(RuntimeError):
    """A word that was not written, or a topic that could not be read; the message says where, and why."""


def control(
    scope: str,
    mode: str,
    why: str,
    until: str | None = None,
    liquidations: bool = False,
    who: str | None = None,
    now_ms: int | None = None,
) -> TradingControlsRow:
    """A row of `trading_controls`.  Raises `ValueError` that names the option and what was expected."""
    said_ms = int(time.time() * 1000) if now_ms is None else now_ms
    row: TradingControlsRow = {
        "scope": scope,
        "mode": mode,
        "who": getpass.getuser() if who is None else who,
        "why": why,
        "event_at": instant_ms(said_ms),
        "ends_at": None if until is None else instant_ms(ends_ms(until, said_ms)),
        "liquidations": liquidations,
    }
    if (wrong := control_fault(row)) is not None:
        raise ValueError(f"{OPTIONS.get(wrong.field or '', wrong.field)}: expected {wrong.expected}, got {wrong.got}")
    return row


def ends_ms(until: str, now_ms: int) -> int:
    """The instant of an option --until: an instant, or how long from now on.  Raises `ValueError`."""
    if span := _SPAN.fullmatch(until):
        return now_ms + int(span[1]) * _SECONDS[span[2]] * 1000
    try:
        at = datetime.fromisoformat(until)
    except ValueError:
        expected = "an instant like 2026-03-02T12:30:00Z, or how long from now on: 90s, 15m, 2h, 1d"
        raise ValueError(f"--until: expected {expected}; got {until!r}") from None
    ms = int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)
    if ms <= now_ms:
        raise ValueError(f"--until: expected an instant later than now, {instant_ms(now_ms)}, got {until!r}")
    return ms


def say(servers: str, row: TradingControlsRow) -> tuple[int, int]:
    """Write a row; returns partition and offset once the broker has it.  Raises `ControlError`."""
    own = {"partitioner": "murmur2_random", "acks": "all", "linger.ms": 0, "message.timeout.ms": int(WRITE_S * 1000)}
    try:
        producer, known = reached(Producer, servers, OPERATOR, own, timeout_s=WRITE_S)
    except Unreachable as error:
        raise ControlError(f"not said: {error}") from None
    if TOPIC not in known:
        raise ControlError(f"not said: the broker at {servers} has no topic {TOPIC} that we may write; `gammaflow up` makes it")
    answers: list[tuple[KafkaError | None, Message]] = []
    producer.produce(TOPIC, encoded(row), row["scope"], on_delivery=lambda error, message: answers.append((error, message)))
    producer.flush(WRITE_S + 1)
    if not answers or answers[0][0] is not None:
        reason = f"no answer within {WRITE_S:g} s" if not answers or answers[0][0] is None else answers[0][0].str()
        raise ControlError(f"not said: {TOPIC} at {servers}: {reason}")
    partition, offset = answers[0][1].partition(), answers[0][1].offset()
    assert partition is not None
    assert offset is not None
    return partition, offset


def standing(servers: str) -> Log:
    """What stands in the topic, read to its end.  Raises `ControlError`, `TopicError`."""
    consumer, known = topics.consuming(servers, "gammaflow-controls", {"enable.partition.eof": True})
    log = Log()
    try:
        if TOPIC not in known:
            raise ControlError(f"the broker at {servers} has no topic {TOPIC} that we may see; `gammaflow up` makes it")
        for message in to_end(consumer, [TopicPartition(TOPIC, part, 0) for part in range(known[TOPIC])], READ_S):
            kind, said_ms = message.timestamp()
            log.take(message.partition(), message.offset(), message.key(), message.value(), said_ms if kind else 0)
    except KafkaException as error:
        raise ControlError(f"{TOPIC} at {servers} was not read to its end: {error.args[0].str()}") from error
    finally:
        consumer.close()
    return log


def show(console: Console, words: list[Word]) -> None:
    """Print the controls in force, the strictest first."""
    if not words:
        console.print("no control is on: everything runs")
        return
    table = Table(box=None, header_style="dim")
    for heading in ("scope", "mode", "who", "since", "until", "liquidations", "why"):
        table.add_column(heading, overflow="fold")
    for word in sorted(words, key=lambda word: (-MODES.index(word.row["mode"]), word.row["scope"])):
        row: dict[str, Any] = word.row
        named = "stop too" if row["liquidations"] and row["mode"] != "reduce-only" else "go on"
        cells = (row["scope"], row["mode"], row["who"], row["event_at"], row["ends_at"] or "taken back", named, row["why"])
        table.add_row(*cells)
    console.print(table, markup=False)


def in_force(log: Log, now_ms: int | None = None) -> list[Word]:
    """The controls in force now."""
    return list(log.in_force(int(time.time() * 1000) if now_ms is None else now_ms).values())


def confirmation(row: TradingControlsRow, partition: int, offset: int) -> str:
    """What has been written, and where, in a line."""
    until = "" if row["ends_at"] is None else f" until {row['ends_at']}"
    return f"said {row['mode']} of {row['scope']}{until}: {TOPIC}, partition {partition}, offset {offset}"


def in_a_line(servers: str) -> str:
    """The controls in force, for whoever looks at all the suite; also where they cannot be read.  Raises `TopicError`."""
    try:
        words = in_force(standing(servers))
    except ControlError as error:
        return str(error)
    return "; ".join(sorted(f"{word.row['mode']} of {word.row['scope']}: {word.row['why']}" for word in words)) or "none is on"
