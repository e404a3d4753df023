"""Rows of one instant in one record: a record costs a broker and its readers as much with one row as with many."""

from collections.abc import Callable, Mapping
from typing import Any

from schemas.partitions import partition_of

MAX_BYTES = 256 * 1024
"""Of a record, unless one row alone has more."""

Send = Callable[[int, str | None, bytes, int], None]
"""Takes a record: its partition, key and value, and its timestamp in ms."""


class Packs:
    """Gathers the rows of one topic, and sends those of one instant and one partition as one record.

    Of one instant are rows with the same ms of common time (`feeds.clocks`), of event time and of receipt: so the record's
    timestamp is that of each of its rows, and whether rows come in one record or in many makes no difference to who reads
    them.  A row alone is sent as it is, several as a JSON array, without a key unless all have the same.
    """

    def __init__(self, partitions: int, send: Send) -> None:
        """`partitions` are those of the topic; where there are none that we know, each row is sent alone, to partition -1."""
        self._partitions = partitions
        self._send = send
        self._instant: tuple[int, str, str] = (0, "", "")
        self._packs: dict[int, tuple[set[str], list[bytes]]] = {}  # keys and values by partition
        self._bytes = 0

    def add(self, row: Mapping[str, Any], row_key: str, value: bytes, common_ms: int) -> None:
        """Take a row; sends those before it where it is of another instant, or there is no more room."""
        if not self._partitions:
            self._send(-1, row_key, value, common_ms)
            return
        instant = common_ms, str(row.get("event_at")), str(row.get("received_at"))[:23]  # up to its milliseconds
        if instant != self._instant or self._bytes + len(value) > MAX_BYTES:
            self.ship()
            self._instant = instant
        keys, values = self._packs.setdefault(partition_of(row_key, self._partitions), (set(), []))
        keys.add(row_key)
        values.append(value)
        self._bytes += len(value)

    def ship(self) -> None:
        """Send what has been gathered."""
        packs, self._packs, self._bytes = self._packs, {}, 0
        for partition, (keys, values) in packs.items():
            value = values[0] if len(values) == 1 else b"[" + b",".join(values) + b"]"
            self._send(partition, keys.pop() if len(keys) == 1 else None, value, self._instant[0])


def packing(topic: str, partitions: int, produce: Callable[[str, bytes, str | None, int, int], None]) -> Packs:
    """Packs of a topic; `produce` takes topic, value, key, timestamp in ms and partition."""

    def send(partition: int, row_key: str | None, value: bytes, timestamp_ms: int) -> None:
        produce(topic, value, row_key, timestamp_ms, partition)

    return Packs(partitions, send)
