"""Micro-batches as they cross from SQL into a kernel and back: JSON text, decoded in one call."""

import re
from base64 import b64encode
from collections.abc import Iterable

import orjson

from kernels import Message, Output
from schemas import TABLE_OF
from schemas.rows import instant_ms, key

_HEAD = re.compile(rb'(?:^|,\n)\["(' + "|".join(map(re.escape, sorted(TABLE_OF))).encode() + rb')",(\d+),(\d+),')


def decode(lines: bytes, event_ms: int) -> tuple[list[Message], list[Output]]:
    """The messages of a batch, and a dead letter for each value that is no JSON.

    `lines` is `["topic",partition,offset,value]` texts joined by a comma and a newline.
    """
    try:
        parsed = orjson.loads(b"[" + lines + b"]")
        # A value such as `1],["a"` is no JSON by itself, and yet some between its neighbours: then the lines do not count up.
        if len(parsed) == (lines.count(b"\n") + 1 if lines else 0):
            return [Message(TABLE_OF[topic], partition, offset, row) for topic, partition, offset, row in parsed], []
    except (ValueError, KeyError, TypeError):
        pass
    return _decode_singly(lines, event_ms)


def _decode_singly(lines: bytes, event_ms: int) -> tuple[list[Message], list[Output]]:
    heads = list(_HEAD.finditer(lines))
    ends = [head.start() for head in heads[1:]] + [len(lines)]
    messages: list[Message] = []
    letters: list[Output] = []
    for head, end in zip(heads, ends, strict=True):
        topic, partition, offset = head[1].decode(), int(head[2]), int(head[3])
        value = lines[head.end() : end - 1]
        try:
            messages.append(Message(TABLE_OF[topic], partition, offset, orjson.loads(value)))
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


def encode(outputs: Iterable[Output]) -> dict[str, str]:
    """For each table its rows as lines of key, record timestamp in ms and JSON, parted by tabs.

    The JSON is its bytes as ISO-8859-1 text, as values are written; the key is text.
    """
    lines: dict[str, list[str]] = {}
    for table, event_ms, row in outputs:
        text = f"{_escaped(key(table, row))}\t{event_ms}\t{orjson.dumps(row).decode('latin-1')}"
        lines.setdefault(table, []).append(text)
    return {table: "\n".join(texts) for table, texts in lines.items()}


def _escaped(key: str) -> str:
    """A key that parts neither lines nor fields: one with a tab or newline is written as JSON would write it."""
    return orjson.dumps(key)[1:-1].decode() if "\t" in key or "\n" in key else key
