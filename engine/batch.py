"""Micro-batches on their way from SQL into a kernel and back: bytes, with separators that JSON cannot contain."""

from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from engine.contract import Kernel, Lines, Message, Output, State
from schemas import READ_AS, TABLE_OF
from schemas.records import TABLES
from schemas.rows import instant_ms, key, parted
from udfs.compiled import compiled

RECORD, FIELD = b"\x1e", b"\x1f"
"""The separators of records and of the fields of a record: control characters, which no JSON text contains."""
_TOPICS = {topic.encode(): topic for topic in TABLE_OF}


def records(data: bytes) -> Iterator[tuple[str, int, int, bytes]]:
    """Topic, partition, offset and value of each record of a batch.

    A value may be anything, also not JSON: a part that does not begin like a record belongs to the record before it.
    """
    record: tuple[str, int, int, bytes] | None = None
    for part in data.split(RECORD) if data else ():
        fields = part.split(FIELD, 3)
        if len(fields) == 4 and fields[1].isdigit() and fields[2].isdigit() and (topic := _TOPICS.get(fields[0])) is not None:
            if record:
                yield record
            record = topic, int(fields[1]), int(fields[2]), fields[3]
        elif record:
            record = *record[:3], record[3] + RECORD + part
    if record:
        yield record


def record(table: str, partition: int, offset: int, row: Mapping[str, Any]) -> bytes:
    """A row as a record of a batch."""
    return FIELD.join((TABLES[table].topic.encode(), b"%d" % partition, b"%d" % offset, orjson.dumps(row)))


def count(data: bytes) -> int:
    """About how many rows a batch has: too many if a text looks like the end of a row, too few if spaces stand between rows."""
    return _parts(np.frombuffer(data, np.uint8)) + 1 if data else 0


@compiled
def _parts(data: NDArray[np.uint8]) -> int:
    # `bytes.count` takes seven times as long, and holds the interpreter lock.
    parts = 0
    for at in range(len(data) - 2):
        parts += (data[at] == 0x1E) | ((data[at] == 125) & (data[at + 1] == 44) & (data[at + 2] == 123))
    return parts


def run(kernel: Kernel, state: State, data: bytes, until_ms: int | None, silent: frozenset[str] = frozenset()) -> list[Lines]:
    """Step a kernel through one batch.

    For the `silent` topics it returns no dead letters, and with them none of the rows that all shards emit alike: another shard
    emits these.
    """
    if until_ms is None or not data:
        return _stepped(kernel, state, data, until_ms, silent)
    lines: list[Lines] = []
    if kernel.take_plain is not None:
        lines, data = kernel.take_plain(state, data, until_ms)
    if data:
        lines += _stepped(kernel, state, data, until_ms, silent)
    return lines + end_window(kernel, state, until_ms)


def _stepped(kernel: Kernel, state: State, data: bytes, until_ms: int | None, silent: frozenset[str]) -> list[Lines]:
    messages, letters = decode(data, until_ms or 0)
    # A step without messages is a sweep.  A batch without a readable record is not one, but a window without messages.
    is_unreadable = bool(data) and not messages
    outputs = letters if is_unreadable else letters + kernel.step(state, messages, until_ms)
    if silent:
        outputs = [
            output
            for output in outputs
            if output.table not in kernel.common and (output.table != "dead_letters" or output.row["source"] not in silent)
        ]
    lines = encode(outputs)
    if is_unreadable and until_ms is not None and kernel.take_plain is not None:
        lines += kernel.take_plain(state, b"", until_ms)[0]
    return lines


def end_window(kernel: Kernel, state: State, until_ms: int) -> list[Lines]:
    """The rows that are due at the end of a window, if the kernel has any."""
    return kernel.end_window(state, until_ms) if kernel.end_window is not None else []


def decode(data: bytes, event_ms: int) -> tuple[list[Message], list[Output]]:
    """The messages of a batch, one for each row of a record, and a dead letter for each row that is not JSON."""
    messages: list[Message] = []
    letters: list[Output] = []
    for topic, partition, offset, record in records(data):
        table = READ_AS.get(TABLE_OF[topic], TABLE_OF[topic])
        read_in = "" if TABLES[table].topic == topic else topic
        for value in parted(record) if record[:1] == b"[" else (record,):
            try:
                messages.append(Message(table, partition, offset, orjson.loads(value), value, read_in))
            except orjson.JSONDecodeError as error:
                row = {
                    "source": topic,
                    "partition": partition,
                    "offset": offset,
                    "event_at": instant_ms(event_ms),
                    "field": None,
                    "expected": "a JSON value",
                    "got": str(error),
                    "original": b64encode(value).decode(),
                }
                letters.append(Output("dead_letters", event_ms, row))
    return messages, letters


def encode(outputs: Iterable[Output]) -> list[Lines]:
    """The rows of each table as lines."""
    parted: dict[str, tuple[list[bytes], list[bytes]]] = {}
    for table, event_ms, row in outputs:
        heads, values = parted.setdefault(table, ([], []))
        heads.append(_head(event_ms, key(table, row)))
        values.append(orjson.dumps(row))
    return [Lines(table, b"\n".join(heads), b"\n".join(values)) for table, (heads, values) in parted.items()]


def conflated(lines: list[Lines], tables: Iterable[str]) -> list[Lines]:
    """Lines with only the newest row of each key in these tables, by record timestamp; among equal timestamps, the last row."""
    for table in tables:
        of_table = [part for part in lines if part.table == table]
        rows = [row for part in of_table for row in zip(part.heads.split(b"\n"), part.values.split(b"\n"), strict=True)]
        last = {head[13:]: (head, value) for head, value in sorted(rows, key=lambda row: row[0][:13])}
        if len(last) < len(rows):
            heads, values = zip(*last.values(), strict=True)
            newest = Lines(table, b"\n".join(heads), b"\n".join(values))
            lines = [part for part in lines if part.table != table] + [newest]
    return lines


@lru_cache(maxsize=256)
def _head(event_ms: int, key: str) -> bytes:
    """The head of a line.  A key with a newline is escaped as in JSON, so that it does not split the line."""
    # Cached, because the rows that an event causes share time and key.
    return b"%013d%s" % (event_ms, orjson.dumps(key)[1:-1] if "\n" in key else key.encode())
